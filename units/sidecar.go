// SPDX-License-Identifier: Apache-2.0

package units

import (
	"slices"
	"strings"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/netns"
)

// instance is the specifier of an instance's name, here that of a network
// namespace (systemd.unit(5)).
const instance = "%i"

// sidecarUnit renders the template unit of a service's sidecars.
func sidecarUnit(s *conf.Service) string {
	var engine string
	switch s.Engine {
	case conf.Podman:
		engine = podman(s)
	case conf.Docker:
		engine = docker(s)
	case conf.Systemd:
		engine = host(s)
	}
	return sidecarSection(s) + "\n[Service]\n" + engine + supervision(s)
}

func sidecarSection(s *conf.Service) string {
	section := unitSection(s.Source, s.Name+" sidecar in network namespace "+instance) +
		setting("RequiresMountsFor", quoteSetting(s.Dir)) +
		// Network namespaces come and go; none leaves a unit behind.
		setting("CollectMode", "inactive-or-failed") +
		// Nobody wants it but who asked for it. systemctl isolate, as by systemctl
		// default, is no reason to end it, nor does it end a container of Podman's.
		setting("IgnoreOnIsolate", "yes") +
		// An agent may stop and start a sidecar as often as it likes.
		setting("StartLimitIntervalSec", "0")
	if s.Join != "" {
		// It lives in the other's sidecar, and ends with it.
		joined := layout.SidecarUnit(s.Join, instance)
		section += setting("BindsTo", joined) + setting("After", joined)
	}
	if s.Engine == conf.Docker {
		// Where Docker is on its way up, a sidecar waits for it; when the host
		// goes down, Docker waits for the sidecars.
		section += setting("After", "docker.service")
	}
	return section
}

// supervision is what the sidecars of all engines have in common.
func supervision(s *conf.Service) string {
	return setting("Restart", s.Restart) +
		setting("RestartSec", "1s") +
		// Killed means stopped, by Neutron or by an operator; conmon and shells
		// report a killed process as 128 and the signal's number. A sidecar
		// whose network namespace is gone (EXIT_NETWORK, a name that systemd before
		// 243 does not know here) has nowhere to come back to.
		setting("RestartPreventExitStatus", "SIGKILL SIGTERM 137 143 225") +
		setting("SuccessExitStatus", "SIGKILL SIGTERM 137 143") +
		// The main process tells what it runs to end: conmon, or the client that
		// follows a container of Docker.
		setting("KillMode", "mixed") +
		setting("TimeoutStartSec", span(s.Ready.Timeout)) +
		setting("TimeoutStopSec", "10s") +
		setting("SyslogIdentifier", s.Name) +
		setting("LogExtraFields", "SERVICE="+s.Name) +
		setting("LogExtraFields", "NETNS="+instance)
}

// execStart has the client read the arguments of the sidecar and become the
// command: arguments never pass through a unit file, and land behind all that
// the definition says.
func execStart(s *conf.Service, command []string) string {
	namespace := netnsPath
	if s.Engine == conf.Systemd {
		// systemd looked the name up and entered what it found.
		namespace = netns.Own
	}
	words := []string{
		quote(layout.ClientBinary()), "exec",
		"--args=" + layout.ArgsFile(s.Name, instance),
		"--env=" + layout.EnvFile(s.Name, instance),
		"--netns=" + namespace,
		"--netns-record=" + layout.NetnsFile(s.Name, instance),
		"--definition=" + Digest(s),
		"--definition-record=" + layout.DefinitionFile(s.Name, instance),
	}
	if s.Engine == conf.Systemd {
		words = append(words, "--notify")
	}
	if s.Log == conf.LogFile && s.Engine != conf.Podman { // which has the container's output elsewhere
		words = append(words, "--log="+layout.LogFile(s.Name, instance))
	}
	switch {
	case inImage(s):
		words = append(words, imageOptions(s)...)
	case s.Join != "":
		words = append(words, joinOptions(s)...)
	}
	words = append(words, "--")
	return setting("ExecStart", strings.Join(append(words, command...), " "))
}

const netnsPath = layout.NetnsDir + "/" + instance

// commandWords returns the definition's command, behind which the arguments
// are put.
func commandWords(s *conf.Service) []string { return quoteAll(commandArguments(s)) }

// commandArguments returns the same, as they are.
func commandArguments(s *conf.Service) []string {
	if s.Command.Shell == "" {
		return s.Command.Argv
	}
	// The word behind the text is $0, in messages of the shell.
	return []string{"/bin/sh", "-c", s.Command.Shell + ` "$@"`, s.Name}
}

// podman runs a sidecar in a container whose processes are in the unit's own
// control group and whose output is in the unit's journal. The unit is up when
// conmon says that the container runs, and down when the container's process
// has ended.
func podman(s *conf.Service) string {
	name := layout.Container(s.Name, instance)
	command := []string{"podman"}
	if s.Debug {
		command = append(command, "--log-level=debug")
	}
	command = append(command, "run", "--name="+name,
		// A container left over, in whatever state, does not block its name.
		"--replace", "--rm", "--detach",
		"--cgroups=split", "--sdnotify=conmon")
	if s.Log == conf.LogFile {
		command = append(command, "--log-driver=k8s-file", "--log-opt=path="+layout.LogFile(s.Name, instance))
	} else {
		command = append(command, "--log-driver=passthrough")
	}
	command = append(command, layout.PodmanNetwork+netnsPath)
	command = append(command, containerWords(s)...)
	command = append(command, commandWords(s)...)

	return setting("Type", "notify") +
		setting("NotifyAccess", "all") +
		setting("Delegate", "yes") +
		execStart(s, command) +
		// Podman clears up after a container that ended by itself, unless it is
		// interrupted. Whatever happened, no container is left when the unit is
		// down.
		setting("ExecStopPost", "-podman rm --force --ignore --volumes --time=0 "+name) +
		logDir(s)
}

// containerWords returns what podman run and docker run are told alike, up to
// the image.
func containerWords(s *conf.Service) []string {
	words := []string{"--pid=host", "--user=root"}
	if s.Privileged {
		words = append(words, "--privileged")
	}
	for _, name := range s.PassEnvironment {
		// Without a value, that of the tool's own environment is used, and
		// nothing where it has none.
		words = append(words, "--env="+name)
	}
	words = append(words,
		// A sidecar sees new network namespaces and makes none. With "shared", each
		// name would be mounted in each container as one of a group of peers, over
		// which the kernel goes for each line of a mountinfo that anybody reads.
		"--volume="+layout.NetnsDir+":"+layout.NetnsDir+":rslave",
		quote("--volume="+s.Dir+":"+s.Dir+":shared"),
		"--volume="+layout.LogSocket+":"+layout.LogSocket)
	for _, mount := range mounts(s) {
		volume := "--volume=" + mount.Source + ":" + mount.Destination
		if mount.Options != "" {
			volume += ":" + mount.Options
		}
		words = append(words, quote(volume))
	}
	words = append(words, quoteAll(s.ContainerOptions)...)
	return append(words, quote(s.Image))
}

// docker runs a sidecar in a container that is a child of Docker's daemon.
// Docker cannot have it join a named network namespace, so ip-netns(8) of the
// image does.
//
// There is no --rm: a daemon that is started again takes away a container that
// has it, live-restore or not (https://github.com/moby/moby/issues/46308).
func docker(s *conf.Service) string {
	name, cidFile := layout.Container(s.Name, instance), layout.CIDFile(s.Name, instance)
	command := []string{quote(layout.ClientBinary()), "follow", "--name=" + name, "--cidfile=" + cidFile, "--", "docker"}
	if s.Debug {
		command = append(command, "--log-level=debug")
	}
	// What the container writes comes out of docker run, and need not be kept
	// by the daemon as well.
	command = append(command, "run", "--name="+name, "--cidfile="+cidFile, "--log-driver=none", "--network=host")
	command = append(command, containerWords(s)...)
	command = append(command, "ip", "netns", "exec", instance)
	command = append(command, commandWords(s)...)

	lines := setting("Type", "exec")
	if len(s.DockerSockets) > 0 {
		lines += setting("Environment", quoteSetting("DOCKER_HOST=unix://"+s.DockerSockets[0]))
	}
	return lines + execStart(s, command) +
		// Whatever happened, no container is left when the unit is down.
		setting("ExecStopPost", `-/bin/sh -c 'exec docker rm --force --volumes "$$0" >/dev/null 2>&1' `+name) +
		logDir(s)
}

// inImage says whether systemd itself runs a sidecar in an image.
func inImage(s *conf.Service) bool { return s.Engine == conf.Systemd && s.Image != "" }

// host runs a sidecar as a process of the host itself, in the network
// namespace, and in an image or in another service's sidecar if there is one.
func host(s *conf.Service) string {
	// The client says when it becomes the command, be it in an image, in another
	// sidecar or where it is: how long a sidecar has lived counts from then.
	lines := setting("Type", "notify") +
		setting("NetworkNamespacePath", netnsPath)
	if inImage(s) {
		return lines +
			setting("Environment", "HOME=/root") +
			execStart(s, commandWords(s)) +
			logDir(s)
	}
	lines += execStart(s, commandWords(s))
	if s.Join != "" {
		if noDevices(s) {
			// What is in the container may have made some, and is run here by root.
			lines += setting("DevicePolicy", "closed")
		}
		return lines + logDir(s)
	}
	for _, mount := range mounts(s) {
		name := "BindPaths"
		if readOnly(mount) {
			name = "BindReadOnlyPaths"
		}
		lines += setting(name, quoteSetting(mount.Source)+":"+quoteSetting(mount.Destination))
	}
	if !s.Privileged {
		lines += setting("CapabilityBoundingSet", unprivileged+" "+unlikeContainers)
	}
	return lines + logDir(s)
}

// imageOptions tell the client of the image whose root file system it is to
// enter, with what in it. It does so in the unit's mount namespace, so that
// systemd's own settings (RootDirectory=, BindPaths=) are of no use here: what
// they name has to be there before the unit has a namespace.
func imageOptions(s *conf.Service) []string {
	words := []string{"--image=" + s.Image, "--service=" + s.Name, "--bind=" + s.Dir + ":" + s.Dir}
	for _, mount := range mounts(s) {
		bind := "--bind=" + mount.Source + ":" + mount.Destination
		if readOnly(mount) {
			bind += ":ro"
		}
		words = append(words, bind)
	}
	if !s.Privileged {
		words = append(words, "--unprivileged")
	}
	return append(quoteAll(words), "--instance="+instance)
}

// joinOptions tell the client of the sidecar that it is to join, and what that
// one is a container of.
func joinOptions(s *conf.Service) []string {
	words := []string{"--join=" + s.Join}
	if tool := containerTool(s.JoinEngine); tool != "" {
		words = append(words, "--container="+tool)
	}
	return append(words, "--instance="+instance)
}

func readOnly(mount conf.BindMount) bool {
	return slices.Contains(strings.Split(mount.Options, ","), "ro")
}

// logDir has systemd make the directory of the files that sidecars' output goes
// to, if that is asked for.
func logDir(s *conf.Service) string {
	if s.Log != conf.LogFile {
		return ""
	}
	return setting("LogsDirectory", strings.TrimPrefix(layout.LogDir, "/var/log/"))
}

// unprivileged is what a container has that is not privileged: Podman's
// default capabilities (containers.conf(5)).
const unprivileged = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_NET_BIND_SERVICE " +
	"CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_CHROOT"

func mounts(s *conf.Service) []conf.BindMount {
	var all []conf.BindMount
	if s.ConfigBindMount != nil {
		all = append(all, *s.ConfigBindMount)
	}
	return append(all, s.BindMounts...)
}
