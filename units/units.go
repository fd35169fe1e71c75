// SPDX-License-Identifier: Apache-2.0

// Package units turns a definition into the text of systemd units, and does
// nothing else.
//
// A service S gets four units and a drop-in:
//
//	S.socket    the activation socket
//	S.path      watches the spool, which is used while the socket is away
//	S.service   the activator, started by either of them
//	S@.service  the sidecar, one instance to a network namespace
//	tripleo-wrappers.target.d/S.conf
//	            has the target hold the socket and the path unit up
//
// A definition that is broken gets an S.service that fails and says why.
package units

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/readiness"
)

// A File is a file below a directory of units: a text or a symbolic link.
type File struct {
	Name string // relative to the directory
	Text string
	Link string // what the link points at, instead of a text
}

const documentation = "man:tripleo-wrappers(7) file:///usr/share/doc/tripleo-wrappers/README.md"

// Render returns the units of a service.
func Render(s *conf.Service) []File {
	files := []File{
		{Name: layout.PathUnit(s.Name), Text: pathUnit(s)},
		{Name: layout.ServiceUnit(s.Name), Text: activatorUnit(s)},
		{Name: layout.SocketUnit(s.Name), Text: socketUnit(s)},
		{Name: layout.TemplateUnit(s.Name), Text: sidecarUnit(s)},
	}
	return append(files, held(s.Name, layout.SocketUnit(s.Name), layout.PathUnit(s.Name))...)
}

// Digest tells apart definitions by which sidecars run differently: it is the
// same for two that differ in nothing but how requests are taken.
func Digest(s *conf.Service) string {
	relevant := *s
	relevant.Source, relevant.DropIns, relevant.KillScript = "", nil, ""
	relevant.PassEnvironment, relevant.AllowedUIDs, relevant.IdleTimeout = nil, nil, 0
	relevant.Ready, relevant.Run = conf.Ready{}, nil
	if containerTool(s.Engine) != "" { // which is told them by name
		relevant.PassEnvironment = s.PassEnvironment
	} else {
		relevant.Debug = false
	}
	if s.Engine != conf.Docker {
		relevant.DockerSockets = nil
	}
	text, _ := json.Marshal(relevant) // does not fail for strings and numbers
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// held has the target hold units up: by Upholds= from systemd 249 on, which
// starts them at daemon-reload already, and by links for older ones, which do
// not know it and start them at boot.
func held(service string, units ...string) []File {
	files := []File{{
		Name: path.Join(layout.Target+".d", service+".conf"),
		Text: header + "[Unit]\n" + setting("Upholds", strings.Join(units, " ")),
	}}
	for _, unit := range units {
		files = append(files, File{Name: path.Join(layout.Target+".wants", unit), Link: "../" + unit})
	}
	return files
}

const header = "# Made by tripleo-wrappers-generator(8); changes are lost. Use systemctl edit.\n"

func setting(name, value string) string { return name + "=" + value + "\n" }

// unitSection is the beginning of a unit that stands for a definition. The
// description may hold specifiers.
func unitSection(source, description string) string {
	return header + "[Unit]\n" +
		setting("Description", description) +
		setting("Documentation", documentation) +
		setting("SourcePath", text(source))
}

// Options returns what the activator and the client are told of a definition.
func Options(s *conf.Service) *options.Service {
	o := &options.Service{
		Name:            s.Name,
		Dir:             s.Dir,
		KillScript:      s.KillScript,
		Container:       containerTool(s.Engine),
		AllowedUIDs:     s.AllowedUIDs,
		PassEnvironment: s.PassEnvironment,
		Ready:           readiness.Rule{PIDFileOptions: s.Ready.PIDFileOptions, PIDFile: s.Ready.PIDFile},
		ReadyTimeout:    s.Ready.Timeout,
		IdleTimeout:     s.IdleTimeout,
		Debug:           s.Debug,
		Join:            s.Join,
		Run:             s.Run,
	}
	if len(s.Run) > 0 {
		o.Command = commandArguments(s)
		o.NoDevices = noDevices(s)
	}
	return o
}

// noDevices says whether sidecars are in containers that have none of the host's
// devices, their own or those of the service that they join.
func noDevices(s *conf.Service) bool {
	engine, privileged := s.Engine, s.Privileged
	if s.Join != "" {
		engine, privileged = s.JoinEngine, s.JoinPrivileged
	}
	return containerTool(engine) != "" && !privileged
}

func containerTool(engine conf.Engine) string {
	switch engine {
	case conf.Podman:
		return options.Podman
	case conf.Docker:
		return options.Docker
	}
	return ""
}

func activatorCommand(s *conf.Service, role string) string {
	words := append([]string{layout.Activator(), role}, Options(s).Args()...)
	return strings.Join(quoteAll(words), " ")
}

func quoteAll(words []string) []string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = quote(word)
	}
	return quoted
}

// inState returns the path of a file in the service's state directory, for a
// setting that takes one path. Definitions allow no characters in it that
// would need quoting.
func inState(s *conf.Service, name string) string {
	return text(path.Join(layout.StateDir(s.Dir, s.Name), name))
}

// targetDependencies has a unit stop when the target is stopped, and the timer
// of an earlier, broken definition stop when this one is back.
//
// Restarting either in a hurry is no fault: by default, five starts in ten
// seconds put a unit out of service.
//
// By default they would be started before basic.target, which comes before the
// network: with a service_dir that comes after that, as on NFS, systemd would have
// to leave out one or the other at boot. Without that default, the target does not
// come after what it wants by itself (systemd.target(5)).
func targetDependencies(s *conf.Service) string {
	return setting("DefaultDependencies", "no") +
		setting("Requires", "sysinit.target") +
		setting("After", "sysinit.target") +
		setting("Conflicts", "shutdown.target") +
		setting("Before", "shutdown.target "+layout.Target) +
		setting("PartOf", layout.Target) +
		setting("Conflicts", layout.TimerUnit(s.Name)) +
		setting("StartLimitIntervalSec", "0")
}

func socketUnit(s *conf.Service) string {
	// Every caller that is let in is asked for its uid (allowed_uids); where
	// only root may call, nobody else gets as far as that.
	mode := "0666"
	if slices.Equal(s.AllowedUIDs, []uint32{0}) {
		mode = "0600"
	}
	return unitSection(s.Source, s.Name+" activation socket") +
		targetDependencies(s) +
		setting("RequiresMountsFor", quoteSetting(s.Dir)) +
		"\n[Socket]\n" +
		setting("ExecStartPre", activatorCommand(s, "prepare")) +
		setting("ListenStream", inState(s, layout.Socket)) +
		setting("ExecStartPost", activatorCommand(s, "label")) +
		setting("SocketMode", mode) +
		setting("Backlog", "4096") +
		// A burst of requests is no fault: by default, 20 activations in 2 s
		// put a socket out of service.
		setting("TriggerLimitIntervalSec", "0") +
		// To give files of another user a mode or a label takes CAP_FOWNER.
		// service_dir may be anywhere and may have to be made, so no file
		// system is hidden. Without NoNewPrivileges=, an SELinux policy need not
		// allow it for systemd to change to the domain that labels files.
		setting("CapabilityBoundingSet", "CAP_DAC_OVERRIDE CAP_FOWNER "+unlikeContainers) +
		confinement
}

func pathUnit(s *conf.Service) string {
	return unitSection(s.Source, s.Name+" spool watch") +
		setting("After", layout.SocketUnit(s.Name)) +
		targetDependencies(s) +
		setting("RequiresMountsFor", quoteSetting(s.Dir)) +
		"\n[Path]\n" +
		// Changes while the activator runs, or is about to end, are not seen.
		// That a spool is there is looked at again whenever it has ended.
		setting("PathExists", inState(s, layout.Spool)) +
		// And for spools that an earlier one left. Each line is an inotify
		// instance, of which root's processes have 128 by default. With braces
		// alone, systemd looks for each name, and lists no directory.
		setting("PathExistsGlob", inState(s, layout.SpoolTaken+takenEndings())) +
		setting("TriggerLimitIntervalSec", "0")
}

// takenEndings is a pattern of what names of spools that have been taken end in.
func takenEndings() string {
	var endings []string
	for _, name := range layout.SpoolsTaken() {
		endings = append(endings, strings.TrimPrefix(name, layout.SpoolTaken))
	}
	return "{" + strings.Join(endings, ",") + "}"
}

func activatorUnit(s *conf.Service) string {
	return unitSection(s.Source, s.Name+" activator") +
		setting("RequiresMountsFor", quoteSetting(s.Dir)) +
		// systemd refuses to start a socket whose service is up, so the two go
		// down and come up together.
		setting("PartOf", layout.SocketUnit(s.Name)) +
		// Started as often as it is asked for; what fails is slowed down below.
		setting("StartLimitIntervalSec", "0") +
		"\n[Service]\n" +
		setting("Type", "notify") +
		setting("ExecStart", activatorCommand(s, "serve")) +
		// A request that makes the activator fail at once is still in the
		// socket and would have it started again, without end and at full speed.
		// It may be the sandbox that fails, so this one is not in it.
		setting("ExecStopPost", `-+/bin/sh -c '[ "$$SERVICE_RESULT" = success ] || sleep 0.1'`) +
		setting("Sockets", layout.SocketUnit(s.Name)) +
		setting("TimeoutStopSec", "15s") +
		setting("LimitNOFILE", "16384") +
		// A thousand requests at a time take some 25 MB. What takes more than
		// this comes from an agent that means harm.
		setting("MemoryMax", "512M") +
		setting("RuntimeDirectory", strings.TrimPrefix(layout.ServiceRuntimeDir(s.Name), "/run/")) +
		setting("RuntimeDirectoryMode", "0700") +
		setting("RuntimeDirectoryPreserve", "yes") +
		setting("UMask", "0077") +
		sandbox(s)
}

// unlikeContainers is a capability that a process of the host gets for the sake of
// having it, since no container has it that is not privileged, and it is good for
// nothing but to keep a machine from sleeping. The kernel lets a process into another
// one's memory and files (/proc/PID/root) that is of the same user and may do no
// more than itself (cap_ptrace_access_check in security/commoncap.c). Root in a
// container with the host's processes would be such a one to the activator.
const unlikeContainers = "CAP_BLOCK_SUSPEND"

// sandbox leaves the activator what it needs: systemd's private socket (uid 0),
// service_dir and its runtime directory, the processes of the host, and three
// capabilities: to ask for a caller's network namespace (CAP_NET_ADMIN), to
// signal a sidecar (CAP_KILL), and to use a service_dir that is another user's
// (CAP_DAC_OVERRIDE).
//
// RestrictSUIDSGID= is not here: systemd carries it out by making openat2(2)
// fail, the one call by which files in an agent's directory are opened safely.
func sandbox(s *conf.Service) string {
	return setting("CapabilityBoundingSet", "CAP_DAC_OVERRIDE CAP_KILL CAP_NET_ADMIN "+unlikeContainers) +
		setting("NoNewPrivileges", "yes") +
		setting("ProtectSystem", "strict") +
		// Where it is away, the activator says so to whoever asks.
		setting("ReadWritePaths", quoteSetting("-"+s.Dir)) +
		setting("ProtectHome", "yes") +
		setting("PrivateTmp", "yes") +
		setting("PrivateDevices", "yes") +
		setting("PrivateMounts", "yes") +
		setting("PrivateNetwork", "yes") +
		setting("IPAddressDeny", "any") +
		setting("ProcSubset", "pid") +
		setting("ProtectClock", "yes") +
		setting("ProtectControlGroups", "yes") +
		setting("ProtectHostname", "yes") +
		setting("ProtectKernelLogs", "yes") +
		setting("ProtectKernelModules", "yes") +
		setting("ProtectKernelTunables", "yes") +
		confinement
}

// confinement is what no command of the activator needs, and costs it no mount
// namespace: what it may call of the kernel.
var confinement = setting("RestrictAddressFamilies", "AF_UNIX") +
	setting("RestrictNamespaces", "yes") +
	setting("RestrictRealtime", "yes") +
	setting("LockPersonality", "yes") +
	setting("MemoryDenyWriteExecute", "yes") +
	setting("SystemCallArchitectures", "native") +
	setting("SystemCallFilter", "@system-service") +
	setting("SystemCallFilter", "~@privileged @resources") +
	setting("SystemCallErrorNumber", "EPERM")

// span returns a time span as systemd.time(7) has it.
func span(d time.Duration) string {
	switch {
	case d%time.Second == 0:
		return fmt.Sprintf("%ds", d/time.Second)
	case d%time.Millisecond == 0:
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	return fmt.Sprintf("%dus", d.Microseconds()) // 0 would be none
}
