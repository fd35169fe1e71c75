package units

import (
	"fmt"
	"strings"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// instance is the specifier of an instance's name, here that of a network
// namespace (systemd.unit(5)).
const instance = "%i"

// sidecarUnit renders the template unit of a service's sidecars.
func sidecarUnit(s *conf.Service) (string, error) {
	var engine string
	switch s.Engine {
	case conf.Podman:
		engine = podman(s)
	case conf.Systemd:
		if s.Image != "" {
			return "", fmt.Errorf("image_name together with container_cli = %q is not supported yet; leave it out to run the host's own programs", s.Engine)
		}
		engine = host(s)
	default:
		return "", fmt.Errorf("container_cli = %q is not supported yet; use %q or %q", s.Engine, conf.Podman, conf.Systemd)
	}
	return sidecarSection(s) + "\n[Service]\n" + engine + supervision(s), nil
}

func sidecarSection(s *conf.Service) string {
	return unitSection(s.Source, s.Name+" sidecar in network namespace "+instance) +
		setting("RequiresMountsFor", quoteSetting(s.Dir)) +
		// Network namespaces come and go; none leaves a unit behind.
		setting("CollectMode", "inactive-or-failed") +
		// An agent may stop and start a sidecar as often as it likes.
		setting("StartLimitIntervalSec", "0")
}

// supervision is what the sidecars of all engines have in common.
func supervision(s *conf.Service) string {
	return setting("Restart", s.Restart) +
		setting("RestartSec", "1s") +
		// Killed means stopped, by Neutron or by an operator; conmon and shells
		// report a killed process as 128 and the signal's number. A sidecar
		// whose network namespace is gone has nowhere to come back to.
		setting("RestartPreventExitStatus", "SIGKILL SIGTERM 137 143 NETWORK") +
		setting("SuccessExitStatus", "SIGKILL SIGTERM 137 143") +
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
	words := []string{
		quote(layout.ClientBinary()), "exec",
		"--args=" + layout.ArgsFile(s.Name, instance),
		"--env=" + layout.EnvFile(s.Name, instance),
		"--netns=" + netnsPath,
		"--netns-record=" + layout.NetnsFile(s.Name, instance),
		"--definition=" + Digest(s),
		"--definition-record=" + layout.DefinitionFile(s.Name, instance),
		"--",
	}
	return setting("ExecStart", strings.Join(append(words, command...), " "))
}

const netnsPath = layout.NetnsDir + "/" + instance

// commandWords returns the definition's command, behind which the arguments
// are put.
func commandWords(s *conf.Service) []string {
	if s.Command.Shell == "" {
		return quoteAll(s.Command.Argv)
	}
	// The word behind the text is $0, in messages of the shell.
	return quoteAll([]string{"/bin/sh", "-c", s.Command.Shell + ` "$@"`, s.Name})
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
	command = append(command, "--network=ns:"+netnsPath, "--pid=host", "--user=root")
	if s.Privileged {
		command = append(command, "--privileged")
	}
	for _, name := range s.PassEnvironment {
		// Without a value, that of Podman's own environment is used, and
		// nothing where it has none.
		command = append(command, "--env="+name)
	}
	command = append(command,
		"--volume="+layout.NetnsDir+":"+layout.NetnsDir+":shared",
		quote("--volume="+s.Dir+":"+s.Dir+":shared"),
		"--volume=/dev/log:/dev/log")
	for _, mount := range mounts(s) {
		volume := "--volume=" + mount.Source + ":" + mount.Destination
		if mount.Options != "" {
			volume += ":" + mount.Options
		}
		command = append(command, quote(volume))
	}
	command = append(command, quoteAll(s.ContainerOptions)...)
	command = append(command, quote(s.Image))
	command = append(command, commandWords(s)...)

	lines := setting("Type", "notify") +
		setting("NotifyAccess", "all") +
		setting("Delegate", "yes") +
		execStart(s, command) +
		// Podman clears up after a container that ended by itself, unless it is
		// interrupted. Whatever happened, no container is left when the unit is
		// down.
		setting("ExecStopPost", "-podman rm --force --ignore --time=0 "+name)
	if s.Log == conf.LogFile {
		lines += setting("LogsDirectory", strings.TrimPrefix(layout.LogDir, "/var/log/"))
	}
	return lines
}

// host runs a sidecar as a process of the host itself, in the network
// namespace.
func host(s *conf.Service) string {
	lines := setting("Type", "exec") +
		setting("NetworkNamespacePath", netnsPath) +
		execStart(s, commandWords(s))
	for _, mount := range mounts(s) {
		name := "BindPaths"
		for option := range strings.SplitSeq(mount.Options, ",") {
			if option == "ro" {
				name = "BindReadOnlyPaths"
			}
		}
		lines += setting(name, quoteSetting(mount.Source)+":"+quoteSetting(mount.Destination))
	}
	if !s.Privileged {
		lines += setting("CapabilityBoundingSet", unprivileged)
	}
	if s.Log == conf.LogFile {
		file := "append:" + layout.LogFile(s.Name, instance)
		lines += setting("LogsDirectory", strings.TrimPrefix(layout.LogDir, "/var/log/")) +
			setting("StandardOutput", file) +
			setting("StandardError", file)
	}
	return lines
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
