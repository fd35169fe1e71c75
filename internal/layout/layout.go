// SPDX-License-Identifier: Apache-2.0

// Package layout names everything that has a name on a host: the files of a
// service's state directory, the runtime files, the systemd units and the
// containers. Each name is decided here and nowhere else; the definitions,
// the generator, the activator and the client all ask this package.
//
// The names below service_dir, the unit names and the container names are
// those of the Ansible role tripleo-systemd-wrapper, so that a host that used
// the role moves over without a change to its agents.
package layout

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Where the programs and the target are installed. Variables rather than
// constants because the build sets them (meson's --prefix, --libexecdir) with
// the linker's -X flag.
var (
	// LibexecDir holds the activator and the client.
	LibexecDir = "/usr/libexec/tripleo-wrappers"
	// BinDir holds tripleo-wrapperctl.
	BinDir = "/usr/bin"
)

// Target is the unit that holds all activation sockets and path units up.
const Target = "tripleo-wrappers.target"

// Directories that are the same on every host.
const (
	// RuntimeDir holds one directory per service, for root alone.
	RuntimeDir = "/run/tripleo-wrappers"
	// GeneratedDir is where systemd has generators put their units
	// (systemd.generator(7), normal-dir).
	GeneratedDir = "/run/systemd/generator"
	// NetnsDir is where ip-netns(8) keeps named network namespaces.
	NetnsDir = "/run/netns"
	// LogSocket is where helpers log to, syslog(3).
	LogSocket = "/dev/log"
	// LogDir is where log = "file" writes, as the role did.
	LogDir = "/var/log/containers/stdouts"
)

// Names of the programs.
const (
	ActivatorProgram = "tripleo-wrappers-activator"
	ClientProgram    = "tripleo-wrapper"
	ControlProgram   = "tripleo-wrapperctl"
)

// Files in <service_dir>/<service>.
const (
	Wrapper        = "wrapper"              // the script that is mounted over the helper's binary
	Client         = ClientProgram          // a copy of the static client
	Socket         = "activator.sock"       // the activation socket
	Spool          = "processes"            // requests made while the socket was away
	SpoolTimestamp = "processes-timestamp"  // touched after each append to the spool
	SpoolLock      = "processes.lock"       // flock(2) of whoever changes the spool
	SpoolTaken     = "processes.taken-"     // prefix: a spool whose requests are being served, see SpoolsTaken
	SpoolFailed    = "processes.failed"     // spooled requests that were given up
	SpoolFailedOld = "processes.failed.old" // the one before, which had become large
	SpoolRejected  = "processes.rejected-"  // prefix: what stood in the spool's place and is no spool
)

// SpoolsTaken returns the names that a spool can have while its requests are
// being served. They are few and fixed: systemd looks for each of them, and
// nobody has to list a directory that an agent can fill.
func SpoolsTaken() []string {
	names := make([]string, 4)
	for i := range names {
		names[i] = fmt.Sprintf("%s%d", SpoolTaken, i)
	}
	return names
}

// RequestVariable is the environment variable that tells the shim, which is the
// first process of a sidecar, which request it is started for.
const RequestVariable = "TRIPLEO_WRAPPERS_REQUEST"

// RootDirectory stands before the path of a root file system in image_name.
const RootDirectory = "dir:"

// PodmanNetwork is podman run's option for a network namespace, up to its path.
const PodmanNetwork = "--network=ns:"

// KillScripts is the directory below service_dir that is mounted where Neutron's
// kill_scripts_path points at. It is shared by all services of a service_dir.
const KillScripts = "kill_scripts"

// StateDir returns <service_dir>/<service>.
func StateDir(serviceDir, service string) string { return path.Join(serviceDir, service) }

// KillScript returns the path of the kill script of that name.
func KillScript(serviceDir, name string) string { return path.Join(serviceDir, KillScripts, name) }

// ServiceRuntimeDir returns the directory of a service's runtime files.
func ServiceRuntimeDir(service string) string { return path.Join(RuntimeDir, service) }

// ArgsFile returns the file that holds the NUL-separated argument list of the
// sidecar in a network namespace.
func ArgsFile(service, netns string) string {
	return path.Join(ServiceRuntimeDir(service), netns+".args")
}

// EnvFile returns the file that holds the NUL-separated NAME=VALUE list of
// what the caller passed on to the sidecar in a network namespace.
func EnvFile(service, netns string) string {
	return path.Join(ServiceRuntimeDir(service), netns+".env")
}

// NetnsFile returns the file that says which namespace, by its inode, the
// sidecar of a network namespace was started in: a namespace may be deleted
// and made again under the same name while a sidecar still holds the old one.
func NetnsFile(service, netns string) string {
	return path.Join(ServiceRuntimeDir(service), netns+".netns")
}

// ReadyFile returns the file that says that the sidecar of a network namespace
// has been ready since it was started. One that is not ready any more has lost
// its pid file; one that never was may still be getting there.
func ReadyFile(service, netns string) string {
	return path.Join(ServiceRuntimeDir(service), netns+".ready")
}

// AskedFile returns the file that says which request the sidecar of a network
// namespace was started for last, and when that request was made.
func AskedFile(service, netns string) string {
	return path.Join(ServiceRuntimeDir(service), netns+".asked")
}

// RunUnit returns the unit of a control command in the sidecar of a network
// namespace.
func RunUnit(service, netns, id string) string {
	return service + "-run-" + netns + "-" + id + ".service"
}

// What the names of files end in that hold the arguments and the environment of
// a control command; no other runtime file's name does.
const (
	RunArgs = ".run-args"
	RunEnv  = ".run-env"
)

// RunFile returns the file of a control command whose name ends like that.
func RunFile(service, id, suffix string) string {
	return path.Join(ServiceRuntimeDir(service), id+suffix)
}

// PreparedFile returns the file that says with which options, NUL-separated, a
// service's state directory was laid out when its socket was made.
func PreparedFile(service string) string { return path.Join(ServiceRuntimeDir(service), "prepared") }

// KeptTemplate returns the copy of a service's template unit that the generator
// puts in place while the definition is broken.
func KeptTemplate(service string) string {
	return path.Join(ServiceRuntimeDir(service), "sidecar.service")
}

// LockFile returns the file whose bytes are the locks of the network namespaces
// of a service.
func LockFile(service string) string { return path.Join(ServiceRuntimeDir(service), "lock") }

// DefinitionFile returns the file that says by which version of the definition
// (units.Digest) the sidecar of a network namespace was started last.
func DefinitionFile(service, netns string) string {
	return path.Join(ServiceRuntimeDir(service), netns+".definition")
}

// CIDFile returns the file that says which container of Docker, by its id, the
// sidecar of a network namespace is.
func CIDFile(service, netns string) string {
	return path.Join(ServiceRuntimeDir(service), netns+".cid")
}

// ImageFile returns the file that says which image the sidecar of a network
// namespace runs in that systemd itself runs.
func ImageFile(service, netns string) string {
	return path.Join(ServiceRuntimeDir(service), netns+".image")
}

// KnownImage returns the file that says what the image of a service was last.
func KnownImage(service string) string { return path.Join(ServiceRuntimeDir(service), "image.json") }

// ImageLock returns the lock of the service's image: that of whoever looks for
// it, or makes use of it.
func ImageLock(service string) string { return path.Join(ServiceRuntimeDir(service), "image.lock") }

// ImageVolume returns the name of the volume that holds an image of a service.
func ImageVolume(service, id string) string { return service + "-" + id }

// Records returns the files that are kept of the sidecar in a network
// namespace.
func Records(service, netns string) []string {
	return []string{
		ReadyFile(service, netns), AskedFile(service, netns), DefinitionFile(service, netns), NetnsFile(service, netns), EnvFile(service, netns),
		CIDFile(service, netns), ImageFile(service, netns), ArgsFile(service, netns),
	}
}

// AdoptedDir holds copies of what the Ansible role left on this host and is
// replaced, each under its own path.
const AdoptedDir = "/var/lib/tripleo-wrappers/adopted"

// KeptFile returns where the copy of a file is that was replaced.
func KeptFile(file string) string { return path.Join(AdoptedDir, file) }

// MaskFile returns the link that keeps a unit from being started for a while. It
// comes before units in /etc/systemd/system, and is gone after a reboot.
func MaskFile(unit string) string { return path.Join("/run/systemd/system.control", unit) }

// TakeOverFile returns the drop-in by which a sidecar's unit, when it is started
// the next time, takes over a container that runs already.
func TakeOverFile(unit string) string {
	return path.Join("/run/systemd/system", unit+".d", "50-tripleo-wrappers-take-over.conf")
}

// LogFile returns the file that a sidecar with log = "file" writes to.
func LogFile(service, netns string) string {
	return path.Join(LogDir, Container(service, netns)+".log")
}

// Activator returns the path of the activator.
func Activator() string { return path.Join(LibexecDir, ActivatorProgram) }

// ClientBinary returns the path of the client that the host itself runs. The
// host never runs the copy in service_dir, which an agent can write.
func ClientBinary() string { return path.Join(LibexecDir, ClientProgram) }

// Control returns the path of the operator's command.
func Control() string { return path.Join(BinDir, ControlProgram) }

// Names of a service's units.
func SocketUnit(service string) string   { return service + ".socket" }
func PathUnit(service string) string     { return service + ".path" }
func ServiceUnit(service string) string  { return service + ".service" }
func TimerUnit(service string) string    { return service + ".timer" } // of a broken definition
func TemplateUnit(service string) string { return service + "@.service" }

// Units returns all names that a service's generated units can have.
func Units(service string) []string {
	return []string{SocketUnit(service), PathUnit(service), ServiceUnit(service), TimerUnit(service), TemplateUnit(service)}
}

// SidecarUnit returns the unit of the sidecar in a network namespace.
func SidecarUnit(service, netns string) string { return service + "@" + netns + ".service" }

// SidecarNetns returns the network namespace of a sidecar's unit, and whether
// unit is a sidecar of the service at all.
func SidecarNetns(service, unit string) (netns string, ok bool) {
	rest, ok := strings.CutPrefix(unit, service+"@")
	if !ok {
		return "", false
	}
	netns, ok = strings.CutSuffix(rest, ".service")
	return netns, ok && netns != ""
}

// Container returns the name of the container of a sidecar.
func Container(service, netns string) string { return service + "-" + netns }

// Longest names, in bytes. A unit's name has at most 255 bytes
// (UNIT_NAME_MAX in systemd); the service's part is kept short enough that
// every network namespace of Neutron fits beside it.
const (
	MaxService = 100
	maxUnit    = 255
)

// CheckService says what is wrong with a service's name, which becomes the
// prefix of unit names (systemd.unit(5)) and of container names (Podman and
// Docker: [a-zA-Z0-9][a-zA-Z0-9_.-]*).
func CheckService(service string) error {
	if err := checkName(service); err != nil {
		return err
	}
	if len(service) > MaxService {
		return fmt.Errorf("is longer than %d bytes", MaxService)
	}
	if service == KillScripts {
		return errors.New("is the name of the directory of the kill scripts")
	}
	return nil
}

// CheckNetns says what is wrong with a network namespace's name for a sidecar
// of the service: it becomes the instance of a unit, without escaping, and a
// part of a container's name.
func CheckNetns(service, netns string) error {
	if err := checkName(netns); err != nil {
		return err
	}
	if len(SidecarUnit(service, netns)) > maxUnit {
		return fmt.Errorf("makes a unit name longer than %d bytes", maxUnit)
	}
	return nil
}

func checkName(name string) error {
	if name == "" {
		return errors.New("is empty")
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '_' || c == '.' || c == '-'):
		case i == 0:
			return errors.New("has to begin with a letter or a digit")
		default:
			return fmt.Errorf("holds %q; only letters, digits, '_', '.' and '-' are allowed", c)
		}
	}
	return nil
}
