// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import (
	"os"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// Parts of definitions of neutron-dnsmasq.
const (
	onHost   = "container_cli = \"systemd\"\n"
	inPodman = "container_cli = \"podman\"\nimage_name = \"localhost/agent\"\n"
	runs     = "cmd = \"/usr/sbin/dnsmasq -k\"\n"
	ready    = "[ready]\npid_file_option = [\"--pid-file\"]\ntimeout = \"10s\"\n"
	soon     = "[ready]\npid_file_option = [\"--pid-file\"]\ntimeout = \"2s\"\n"
	usually  = onHost + runs + ready
)

// never is of a sidecar that does not become ready.
const never = onHost + `cmd = ["/bin/sh", "-c", "exec sleep 1000", "sh"]
[ready]
pid_file = "/var/lib/neutron/{netns}.pid"
timeout = "2s"
`

// controlled is of a sidecar whose control commands do what they are told to.
const controlled = onHost + `cmd = ["/bin/sh", "-c", "if [ \"$1\" = --do ]; then eval \"$2\"; exit; fi; exec sleep 1000", "sh"]
run = [["--do"]]
[ready]
timeout = "2s"
`

// convertible is a file of Ansible's that sets what the role needs.
const convertible = `tripleo_systemd_wrapper_service_name: neutron-radvd
tripleo_systemd_wrapper_service_dir: /var/lib/neutron
tripleo_systemd_wrapper_cmd: radvd -n
tripleo_systemd_wrapper_container_cli: podman
tripleo_systemd_wrapper_image_name: quay.io/example/neutron-l3-agent
tripleo_systemd_wrapper_config_bind_mount: /etc/neutron:/etc/neutron:ro
`

// mishaps are all errors, in the order of docs/errors.md but for one.
var mishaps = []mishap{
	// A sidecar does not start.
	{"The helper does not know an option", func(w *witness) {
		w.define(usually)
		w.call(append(usual, "--no-such-option")...)
		w.activatorSays()
		w.sees("tripleo-wrapperctl", "status", "--lines=0", "neutron-dnsmasq", netnsName)
	}},
	{"The helper is not there", func(w *witness) {
		w.define(onHost + "cmd = \"/usr/sbin/dnsmask -k\"\n" + ready)
		w.call(usual...)
		w.activatorSays()
		w.check()
	}},
	{"The helper cannot be run", func(w *witness) {
		w.define(onHost + "cmd = \"/etc/hostname -k\"\n" + ready)
		w.call(usual...)
		w.activatorSays()
	}},
	{"The helper is not ready in time", func(w *witness) {
		w.define(never)
		w.call()
		w.activatorSays()
	}},
	{"The helper goes into the background", func(w *witness) {
		w.define(onHost + "cmd = [\"/bin/sh\", \"-c\", \"sleep 1000 & exit 0\", \"sh\"]\n" + ready)
		w.call(usual...)
		w.activatorSays()
	}},
	{"The pid file names another process", func(w *witness) {
		w.define(strings.Replace(never, "exec", "echo 1 > /var/lib/neutron/qdhcp-1.pid; exec", 1))
		w.call()
		w.activatorSays()
	}},
	{"A bind mount has no source", func(w *witness) {
		w.define(onHost + "bind_mounts = [\"/no/such/source:/mnt\"]\n" + runs + ready)
		w.call(usual...)
		w.activatorSays()
		w.check()
	}},
	{"The output cannot go to its file", func(w *witness) {
		w.define(onHost + "log = \"file\"\n" + runs + ready)
		file := "/var/log/containers/stdouts/neutron-dnsmasq-qdhcp-1.log"
		must(w.t, "mkdir", "-p", file)
		defer must(w.t, "rmdir", file)
		w.call(usual...)
		w.activatorSays()
	}},
	{"A program of tripleo-wrappers is not there", func(w *witness) {
		w.define(usually)
		w.hides("/usr/libexec/tripleo-wrappers/tripleo-wrapper")
		w.call(usual...)
		w.activatorSays()
	}},
	{"There is no room in /run", func(w *witness) {
		w.anew(usually)
		// /run itself is systemd's, which would have trouble of its own.
		mount(w.t, "/run/tripleo-wrappers/neutron-dnsmasq", "size=4k,mode=0700")
		w.call(usual...)
		w.activatorSays()
	}},
	{"The network namespace goes while a call waits", func(w *witness) {
		w.define(strings.Replace(never, "2s", "10s", 1))
		asked := func() int {
			must(w.t, "journalctl", "--sync")
			log := run(w.t, "journalctl", "--quiet", "--output=cat", w.sinceFlag(), "SERVICE=neutron-dnsmasq").stdout
			return strings.Count(log, "asked for by process")
		}
		first := w.inBackground(w.callCommand("--first")...)
		eventually(w.t, "the first is starting", func() bool { return w.s.running() == 1 })
		second := w.inBackground(w.callCommand("--second")...)
		eventually(w.t, "the second waits", func() bool { return asked() == 2 })
		must(w.t, "ip", "netns", "del", netnsName)
		first()
		w.keep("ip netns exec qdhcp-1 dnsmasq --second", second())
		w.journalWith("made again", "-p", "err", "SERVICE=neutron-dnsmasq", "-g", "is gone")
	}},
	{"The definition was removed, the agent was not", func(w *witness) {
		w.define(usually)
		w.start()
		must(w.t, "rm", w.s.file())
		must(w.t, "systemctl", "daemon-reload")
		w.call(append(usual, "--domain=other")...)
		w.activatorSays()
		w.undefine()
	}},
	{"The sidecars' unit is masked", func(w *witness) {
		w.define(usually)
		must(w.t, "systemctl", "mask", "--quiet", "--runtime", "neutron-dnsmasq@.service")
		defer must(w.t, "systemctl", "unmask", "--quiet", "--runtime", "neutron-dnsmasq@.service")
		w.call(usual...)
		w.activatorSays()
		w.check()
	}},

	// Podman.
	{"Podman cannot get the image", func(w *witness) {
		w.define("container_cli = \"podman\"\nimage_name = \"quay.io/example/neutron-dhcp-agent\"\n" + runs + ready)
		w.call(usual...)
		w.activatorSays()
		w.check()
	}},
	{"Podman does not take an option", func(w *witness) {
		w.define(inPodman + "container_options = [\"--memory=lots\"]\n" + runs + ready)
		w.call(usual...)
		w.activatorSays()
	}},
	{"Podman finds no source of a bind mount", func(w *witness) {
		w.define(inPodman + "bind_mounts = [\"/no/such/source:/mnt\"]\n" + runs + ready)
		w.call(usual...)
		w.activatorSays()
	}},
	{"The helper is not in the image", func(w *witness) {
		w.define(inPodman + "cmd = \"/usr/sbin/dnsmask -k\"\n" + ready)
		w.call(usual...)
		w.activatorSays()
	}},
	{"Podman hangs", func(w *witness) {
		w.define(inPodman + runs + soon)
		w.puts("/usr/local/bin/podman", "#!/bin/sh\n[ \"$1\" = run ] && sleep 1000\nexec /usr/bin/podman \"$@\"\n", 0o755)
		w.call(usual...)
		w.activatorSays()
	}},
	{"Podman is not there", func(w *witness) {
		w.define(inPodman + runs + soon)
		w.hides("/usr/bin/podman")
		w.call(usual...)
		w.activatorSays()
		w.check()
		w.sees("tripleo-wrapperctl", "list", "neutron-dnsmasq")
	}},

	// Docker.
	{"Docker cannot get the image", func(w *witness) {
		w.define("container_cli = \"docker\"\nimage_name = \"quay.io/example/neutron-dhcp-agent\"\n" + runs + ready)
		w.call(usual...)
		w.activatorSays()
		w.check()
	}},
	{"The image for Docker has no ip", func(w *witness) {
		must(w.t, "sh", "-c", "tar --create --directory=/ etc/passwd | docker import --change='CMD true' - localhost/empty")
		w.define("container_cli = \"docker\"\nimage_name = \"localhost/empty\"\nprivileged = false\n" + runs + ready)
		w.call(usual...)
		w.activatorSays()
	}},
	{"Docker does not run", func(w *witness) {
		w.define(engines["docker"] + runs + ready)
		stopDocker(w.t)
		w.call(usual...)
		w.activatorSays()
		w.check()
		w.sees("tripleo-wrapperctl", "list", "neutron-dnsmasq")
	}},

	// A call is refused.
	{"The caller is not root", func(w *witness) {
		w.define(usually)
		w.callCommand()
		w.sees(as(42435, "dnsmasq", "--port=0")...)
	}},
	{"The caller is not one of allowed_uids", func(w *witness) {
		w.define(onHost + "allowed_uids = [0, 42436]\n" + runs + ready)
		w.callCommand()
		w.sees(as(42435, "dnsmasq", "--port=0")...)
		w.activatorSays()
	}},
	{"The caller is in no network namespace", func(w *witness) {
		w.define(usually)
		w.callCommand()
		w.sees("dnsmasq", "--port=0")
		w.activatorSays()
	}},
	{"The network namespace has a name that no unit can have", func(w *witness) {
		w.define(usually)
		w.callCommand()
		must(w.t, "ip", "netns", "add", "qdhcp@1")
		// Not when the test ends: it may have to look twice.
		defer must(w.t, "ip", "netns", "del", "qdhcp@1")
		w.sees("ip", "netns", "exec", "qdhcp@1", "dnsmasq", "--port=0")
		w.activatorSays()
	}},
	{"The request is too large", func(w *witness) {
		w.define(usually)
		command := w.callCommand()
		for range 10 {
			command = append(command, "--address="+strings.Repeat("x", 120_000))
		}
		w.seesAs("ip netns exec qdhcp-1 dnsmasq --address=… --address=… …", command...)
	}},
	{"An argument is not UTF-8", func(w *witness) {
		w.define(inPodman + runs + ready)
		w.seesAs(`ip netns exec qdhcp-1 dnsmasq --domain=$'\xff'`, w.callCommand("--domain=\xff")...)
		w.activatorSays()
	}},
	{"The pid file is outside of service_dir", func(w *witness) {
		w.define(usually)
		w.call("--port=0", "--pid-file=/run/dnsmasq.pid")
		w.activatorSays()
	}},
	{"The pid file has a relative path", func(w *witness) {
		w.define(usually)
		w.call("--port=0", "--pid-file=dnsmasq.pid")
		w.activatorSays()
	}},
	{"There is no UUID for the pid file", func(w *witness) {
		w.define(onHost + runs + "[ready]\npid_file = \"/var/lib/neutron/{uuid}.pid\"\n")
		w.call("--port=0")
		w.activatorSays()
	}},

	// A helper that belongs to another.
	{"The sidecar that is joined does not run", func(w *witness) {
		other := "service_dir = \"/var/lib/neutron\"\ncontainer_cli = \"systemd\"\ncmd = \"keepalived -n\"\n"
		if err := os.WriteFile("/etc/tripleo-wrappers/neutron-keepalived.toml", []byte(other), 0o644); err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() {
			w.undefine()
			os.Remove("/etc/tripleo-wrappers/neutron-keepalived.toml")
			run(w.t, "systemctl", "daemon-reload")
			run(w.t, "systemctl", "stop", "neutron-keepalived.socket", "neutron-keepalived.path")
			os.RemoveAll("/var/lib/neutron/neutron-keepalived")
		})
		w.define("join = \"neutron-keepalived\"\n" + runs)
		w.call("--port=0")
		w.journalWith("refused", "-g", "refused process", "SERVICE=neutron-dnsmasq")
	}},

	// Control commands.
	{"No sidecar runs for a control command", func(w *witness) {
		w.define(controlled)
		w.call("--do", "true")
		w.activatorSays()
	}},
	{"A control command does not end", func(w *witness) {
		w.define(controlled)
		w.call()
		w.call("--do", "sleep 1000")
		w.activatorSays()
	}},
	{"A control command writes too much", func(w *witness) {
		w.define(controlled)
		w.call()
		w.call("--do", "head -c 1000000 /dev/zero")
		w.activatorSays()
	}},
	{"Nobody can tell which sidecar a control command is for", func(w *witness) {
		w.define(controlled)
		w.call()
		w.sees("dnsmasq", "-C", "/etc/missing.conf", "--do", "true")
		w.activatorSays()
	}},
	{"The wrapper is older than the control commands", func(w *witness) {
		w.define(controlled)
		script, err := os.ReadFile(w.s.state("wrapper"))
		if err != nil {
			w.t.Fatal(err)
		}
		old := strings.NewReplacer(`'--run=["--do"]'`, "").Replace(string(script))
		if err := os.WriteFile("/var/lib/neutron/old", []byte(old), 0o755); err != nil {
			w.t.Fatal(err)
		}
		w.sees("ip", "netns", "exec", netnsName, "/var/lib/neutron/old", "--do", "true")
		w.activatorSays()
	}},

	// Of the spool, but before the target is stopped for others.
	{"A spooled request fails again and again", func(w *witness) { w.givenUp() }},

	// Nobody answers.
	{"The socket is away", func(w *witness) {
		w.anew(usually)
		w.away(false)
		w.call(usual...)
	}},
	{"The socket and the path unit are away", func(w *witness) {
		w.anew(onHost + runs + soon)
		w.away(true)
		w.call(usual...)
		w.serviceAdvice()
	}},
	{"The file system of service_dir is full", func(w *witness) {
		w.onSmallDisk(usually)
		run(w.t, "dd", "if=/dev/zero", "of=/var/lib/neutron/filler", "bs=4k")
		w.call(usual...)
		w.away(true)
		w.call(usual...)
		w.undefine()
	}},
	{"The file system of service_dir is read-only", func(w *witness) {
		w.onSmallDisk(usually)
		w.away(true)
		must(w.t, "mount", "-o", "remount,ro", "/var/lib/neutron")
		w.call(usual...)
		must(w.t, "mount", "-o", "remount,rw", "/var/lib/neutron")
		w.undefine()
	}},
	{"The spool is full", func(w *witness) {
		w.anew(usually)
		w.away(true)
		if err := os.WriteFile(w.s.state("processes"), make([]byte, 16<<20), 0o600); err != nil {
			w.t.Fatal(err)
		}
		w.call(usual...)
		w.undefine()
	}},
	{"The socket is away, and the caller is in no network namespace", func(w *witness) {
		w.define(usually)
		w.callCommand()
		w.away(true)
		w.sees("dnsmasq", "--port=0")
	}},
	{"The activator cannot be run", func(w *witness) {
		w.anew(usually)
		w.hides("/usr/libexec/tripleo-wrappers/tripleo-wrappers-activator")
		w.sees(append([]string{"timeout", "3"}, w.callCommand(usual...)...)...)
		w.journal("-u", "neutron-dnsmasq.service", "-g", "Main process exited", "-n", "1")
		w.undefine()
	}},
	{"The activator is killed during a call", func(w *witness) {
		w.define(onHost + `cmd = ["/bin/sh", "-c", "sleep 1; echo $$ > /var/lib/neutron/qdhcp-1.pid; exec sleep 1000"]
[ready]
pid_file = "/var/lib/neutron/{netns}.pid"
`)
		wait := w.inBackground(w.callCommand()...)
		eventually(w.t, "it is starting", func() bool { return w.s.running() == 1 })
		must(w.t, "systemctl", "kill", "--signal=KILL", "neutron-dnsmasq.service")
		w.keep("ip netns exec qdhcp-1 dnsmasq", wait())
		w.journal("-u", "neutron-dnsmasq.service", "-p", "notice", "-g", "exited|result")
	}},

	// The spool.
	{"A spooled line is no request", func(w *witness) {
		w.anew(usually)
		w.spool("{not json\n")
		w.journalWith("gave up", "-p", "err", "SERVICE=neutron-dnsmasq")
		w.sees("cat", w.s.state("processes.failed"))
	}},
	{"The network namespace of a spooled request is gone", func(w *witness) {
		w.define(usually)
		w.spool("qdhcp-gone --port=0\n")
		w.journalWith("dropped", "SERVICE=neutron-dnsmasq", "NETNS=qdhcp-gone")
	}},
	{"A spooled request is older than what runs", func(w *witness) {
		w.define(usually)
		w.start()
		w.spool(netnsName + " --port=0\n")
		w.journalWith("dropped", "-p", "warning", "-t", "tripleo-wrappers-activator", "SERVICE=neutron-dnsmasq")
	}},
	{"The spool is no file", func(w *witness) {
		w.anew(usually)
		must(w.t, "ln", "-s", "/etc/hostname", w.s.state("processes"))
		w.journalWith("remove", "-p", "err", "SERVICE=neutron-dnsmasq")
	}},
	{"What has been served cannot be put away", func(w *witness) {
		w.anew(usually)
		must(w.t, "mkdir", w.s.state("processes.failed"))
		w.spool("{not json\n")
		w.journalWith("mended", "-p", "err", "SERVICE=neutron-dnsmasq")
		w.undefine()
	}},
	{"Somebody keeps the lock of the spool", func(w *witness) {
		w.anew(usually)
		lock := flock.New(w.s.state("processes.lock"))
		if err := lock.Lock(); err != nil {
			w.t.Fatal(err)
		}
		defer lock.Unlock()
		w.spool(netnsName + " --port=0\n")
		w.journalWith("mended", "-p", "err", "SERVICE=neutron-dnsmasq")
		w.undefine()
	}},

	// The kill script.
	{"The process is gone", func(w *witness) {
		w.define(usually)
		w.kill("9", 4194304) // more than any pid
		w.stands("PID", "4194304")
	}},
	{"The process is not a sidecar's", func(w *witness) {
		w.define(usually)
		w.kill("9", os.Getpid())
		w.stands("PID", strconv.Itoa(os.Getpid()))
	}},
	{"The signal or the pid is none", func(w *witness) {
		w.define(usually)
		w.sees("/var/lib/neutron/kill_scripts/dnsmasq-kill", "NOSUCH", "1")
		w.sees("/var/lib/neutron/kill_scripts/dnsmasq-kill", "9", "0")
		w.sees("/var/lib/neutron/kill_scripts/dnsmasq-kill", "9")
	}},
	{"The socket is away, and a sidecar is to be stopped", func(w *witness) {
		w.anew(usually)
		w.start()
		w.away(true)
		w.stands("PID", strconv.Itoa(w.pid))
		w.kill("9", w.pid)
	}},
	{"The caller may not stop a sidecar", func(w *witness) {
		for _, allowed := range []string{"[0]", "[0, 42436]"} {
			w.define(onHost + "allowed_uids = " + allowed + "\n" + runs + ready)
			w.start()
			w.stands("PID", strconv.Itoa(w.pid))
			w.sees(as(42435, "/var/lib/neutron/kill_scripts/dnsmasq-kill", "9", strconv.Itoa(w.pid))...)
		}
		w.activatorSays()
	}},
	{"The kill script finds nothing of tripleo-wrappers", func(w *witness) {
		w.anew(usually)
		w.away(true)
		must(w.t, "rm", w.s.state("activator.sock"))
		w.kill("9", os.Getpid())
		must(w.t, "rm", w.s.state("tripleo-wrapper"))
		w.kill("9", os.Getpid())
	}},

	// A sidecar ends.
	{"A sidecar crashes", func(w *witness) {
		w.define(usually)
		w.start()
		must(w.t, "kill", "-SEGV", strconv.Itoa(w.pid))
		eventually(w.t, "it is back", func() bool {
			status := run(w.t, "tripleo-wrapperctl", "status", "neutron-dnsmasq", netnsName).stdout
			return strings.Contains(status, "brought back 1 time")
		})
		w.journalWith("restart counter", "-t", "systemd", "-u", "neutron-dnsmasq@qdhcp-1", "-g", "exited|result|restart")
	}},
	{"A sidecar keeps ending", func(w *witness) {
		w.define(onHost + `cmd = ["/bin/sh", "-c", "echo $$ > /var/lib/neutron/qdhcp-1.pid; sleep 2; echo oh dear; exit 7"]
[ready]
pid_file = "/var/lib/neutron/{netns}.pid"
`)
		w.s.dropIn(w.t, "[Service]\nRestartSec=1min\n") // for who looks at it
		must(w.t, w.callCommand()...)
		eventually(w.t, "it waits to be brought back", func() bool {
			return show(w.t, w.s.unit(netnsName), "SubState") == "auto-restart"
		})
		w.advice()
		w.serviceAdvice()
	}},
	{"A sidecar is stopped", func(w *witness) {
		w.define(usually)
		w.start()
		must(w.t, "/var/lib/neutron/kill_scripts/dnsmasq-kill", "9", strconv.Itoa(w.pid))
		w.journal("-t", "tripleo-wrappers-activator", "NETNS=qdhcp-1", "-g", "SIGKILL")
		w.advice()
	}},
	{"The network namespace of a sidecar is gone", func(w *witness) {
		w.define(usually)
		w.start()
		must(w.t, "ip", "netns", "del", netnsName)
		w.advice()
		w.sees("tripleo-wrapperctl", "restart", "neutron-dnsmasq", "--all")
		w.sees("tripleo-wrapperctl", "sync", "neutron-dnsmasq")
		w.journalWith("stopped", "-t", "tripleo-wrappers-activator", "NETNS=qdhcp-1", "-g", "stopped")
	}},
	{"A sidecar crashes, and its network namespace is another", func(w *witness) {
		w.define(usually)
		w.start()
		must(w.t, "ip", "netns", "del", netnsName)
		must(w.t, "ip", "netns", "add", netnsName)
		must(w.t, "kill", "-SEGV", strconv.Itoa(w.pid))
		w.journalWith("gone", "-t", "neutron-dnsmasq", "-u", "neutron-dnsmasq@qdhcp-1", "-g", "namespace is gone")
		w.journalWith("225", "-t", "systemd", "-u", "neutron-dnsmasq@qdhcp-1", "-g", "status=225")
	}},
	{"A unit is started by hand for which nobody asked", func(w *witness) {
		w.anew(usually)
		run(w.t, "systemctl", "start", "neutron-dnsmasq@qdhcp-1") // which may be too quick to see it fail
		w.journalWith("activator left", "-u", "neutron-dnsmasq@qdhcp-1", "-t", "neutron-dnsmasq")
	}},
	{"Docker's daemon is restarted", func(w *witness) {
		w.define(engines["docker"] + runs + ready)
		w.start()
		run(w.t, "systemctl", "reset-failed", "docker.service")
		must(w.t, "systemctl", "restart", "docker.service")
		w.journalWith("daemon", "-u", "neutron-dnsmasq@qdhcp-1", "-t", "neutron-dnsmasq", "-g", "daemon")
		eventually(w.t, "it is back", func() bool {
			return strings.Contains(run(w.t, "tripleo-wrapperctl", "list", "neutron-dnsmasq").stdout, "running")
		})
	}},
	{"A container has a sidecar's name", func(w *witness) {
		w.define(inPodman + runs + ready)
		must(w.t, "podman", "create", "--name=neutron-dnsmasq-qdhcp-1", "localhost/agent", "dnsmasq")
		defer must(w.t, "podman", "rm", "neutron-dnsmasq-qdhcp-1")
		w.sees("tripleo-wrapperctl", "list", "neutron-dnsmasq")
		w.advice()
	}},

	// Definitions.
	{"A definition is broken", func(w *witness) {
		w.anew(onHost + runs + soon)
		w.write(onHost + "debug = \"yes\"\nidle_time = \"5min\"\n" + runs + soon)
		w.sees("tripleo-wrapperctl", "reload")
		eventually(w.t, "the unit has failed", func() bool {
			return show(w.t, "neutron-dnsmasq.service", "ActiveState") == "failed"
		})
		w.shell("systemctl --failed --full --plain --no-legend")
		w.journalWith("idle_time", "-u", "neutron-dnsmasq.service", "-t", "neutron-dnsmasq")
		w.check()
		w.sees("tripleo-wrapperctl", "status", "neutron-dnsmasq", netnsName)
		w.call(usual...)
		w.undefine()
	}},
	{"A definition has changed and is not in use yet", func(w *witness) {
		w.anew(usually)
		w.write("debug = true\n" + usually)
		w.serviceAdvice()
		w.undefine()
	}},
	{"The target is not started", func(w *witness) {
		w.define(usually)
		w.away(true)
		w.sees("tripleo-wrapperctl", "reload")
		w.serviceAdvice()
	}},
	{"Other units are in the place of the generated ones", func(w *witness) {
		w.define(usually)
		w.puts("/etc/systemd/system/neutron-dnsmasq.path", "[Path]\nPathModified="+w.s.state("processes-timestamp")+"\n", 0o644)
		if err := os.Symlink("/dev/null", "/etc/systemd/system/neutron-dnsmasq.socket"); err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { os.Remove("/etc/systemd/system/neutron-dnsmasq.socket") })
		w.check()
	}},
	{"Adopting is refused", func(w *witness) {
		w.define(usually)
		w.sees("tripleo-wrapperctl", "adopt", "--undo", "neutron-dnsmasq")
		w.puts("/etc/systemd/system/neutron-dnsmasq.path", "[Path]\nPathExists=/etc/mine\n", 0o644)
		w.sees("tripleo-wrapperctl", "adopt", "neutron-dnsmasq")
	}},
	{"The agent does not find the kill scripts", func(w *witness) {
		w.define(onHost + "config_bind_mount = \"/var/lib/config-data/neutron:/etc/neutron:ro\"\n" + runs + ready)
		const config = "/var/lib/config-data/neutron/"
		w.puts(config+"rootwrap.conf", "[DEFAULT]\nexec_dirs=/sbin,/usr/sbin,/bin,/usr/bin,/etc/neutron/kill_scripts,/opt/kill\n", 0o644)
		w.puts(config+"dhcp_agent.ini", "[AGENT]\nkill_scripts_path = /var/lib/neutron/kill_scripts\n", 0o644)
		w.check()
		w.puts(config+"dhcp_agent.ini", "[AGENT]\nkill_scripts_path = /opt/kill\n", 0o644)
		w.check()
	}},
	{"The state directory cannot be laid out", func(w *witness) {
		w.anew(usually)
		must(w.t, "systemctl", "stop", "neutron-dnsmasq.service")
		must(w.t, "rm", w.s.state("wrapper"))
		w.serviceAdvice()
		must(w.t, "mkdir", w.s.state("wrapper"))
		// Changed, so that the socket is made anew.
		w.write("allowed_uids = [0, 42436]\n" + usually)
		w.sees("tripleo-wrapperctl", "reload")
		w.journalWith("laying out", "-u", "neutron-dnsmasq.socket", "-t", "tripleo-wrappers-activator", "-n", "1")
		w.vary = append(w.vary, vary(`socket is (activating|failed)`, "socket is failed")) // the target has it tried again
		w.serviceAdvice()
		w.undefine()
	}},
	{"service_dir is no directory", func(w *witness) {
		w.anew(usually)
		w.away(true)
		must(w.t, "rm", "-r", "/var/lib/neutron")
		w.puts("/var/lib/neutron", "", 0o644)
		run(w.t, "systemctl", "start", "neutron-dnsmasq.socket")
		w.journalWith("not a directory", "-u", "neutron-dnsmasq.socket", "-t", "tripleo-wrappers-activator", "-n", "1")
		w.undefine()
	}},

	// What check says.
	{"Text that is no definition", func(w *witness) { w.problems(notDefinitions) }},
	{"Files that cannot be read", func(w *witness) {
		must(w.t, "mkdir", "-p", "/etc/tripleo-wrappers/directory.toml")
		must(w.t, "mkfifo", "/etc/tripleo-wrappers/fifo.toml")
		must(w.t, "ln", "-s", "nowhere.toml", "/etc/tripleo-wrappers/dangling.toml")
		must(w.t, "ln", "-s", "loop.toml", "/etc/tripleo-wrappers/loop.toml")
		must(w.t, "truncate", "--size=2M", "/etc/tripleo-wrappers/large.toml")
		w.undefine()
		w.check()
		must(w.t, "sh", "-c", "rm -r /etc/tripleo-wrappers/*.toml")
	}},
	{"Keys", func(w *witness) { w.problems(keys) }},
	{"Types", func(w *witness) { w.problems(types) }},
	{"Names and paths", func(w *witness) { w.problems(namesAndPaths) }},
	{"Commands", func(w *witness) { w.problems(commands) }},
	{"Containers", func(w *witness) { w.problems(containers) }},
	{"Variables and users", func(w *witness) { w.problems(variablesAndUsers) }},
	{"Readiness and durations", func(w *witness) { w.problems(readiness) }},
	{"Joins and control commands", func(w *witness) { w.problems(joinAndRun) }},
	{"Definitions beside each other", func(w *witness) { w.problems(besideEachOther) }},

	// The operator's command.
	{"There is no such service", func(w *witness) {
		w.define(usually)
		w.sees("tripleo-wrapperctl", "status", "neutron-haproxy")
		w.sees("tripleo-wrapperctl", "logs", "neutron-haproxi")
		w.sees("tripleo-wrapperctl", "stop", "neutron-dnsmasq@qdhcp-1.service", "--all")
		w.undefine()
		w.sees("tripleo-wrapperctl", "list", "neutron-haproxy")
		w.sees("tripleo-wrapperctl", "monitor")
	}},
	{"There is no such network namespace", func(w *witness) {
		w.define(usually)
		w.sees("tripleo-wrapperctl", "status", "neutron-dnsmasq", "qdhcp-2")
		w.sees("tripleo-wrapperctl", "status", "neutron-dnsmasq", "../qdhcp-2")
	}},
	{"A sidecar was never asked for", func(w *witness) {
		w.anew(usually)
		must(w.t, "ip", "netns", "add", "qdhcp-2")
		w.t.Cleanup(func() { run(w.t, "ip", "netns", "del", "qdhcp-2") })
		w.sees("tripleo-wrapperctl", "start", "neutron-dnsmasq", "qdhcp-2")
		w.sees("tripleo-wrapperctl", "stop", "neutron-dnsmasq", "qdhcp-2")
		w.shell("tripleo-wrapperctl status neutron-dnsmasq qdhcp-2 | grep →")
	}},
	{"A sidecar cannot be started again", func(w *witness) {
		w.define(usually)
		w.start()
		w.write(strings.Replace(usually, "-k", "-k --no-such-option", 1))
		w.sees("tripleo-wrapperctl", "reload")
		w.sees("tripleo-wrapperctl", "restart", "neutron-dnsmasq", "--all")
		w.undefine()
	}},
	{"The network namespace of what is started again is gone", func(w *witness) {
		w.define(usually)
		w.start()
		must(w.t, "systemctl", "stop", w.s.unit(netnsName))
		must(w.t, "ip", "netns", "del", netnsName)
		w.sees("tripleo-wrapperctl", "start", "neutron-dnsmasq", netnsName)
	}},
	{"The socket is away, and its activator is asked", func(w *witness) {
		w.define(usually)
		w.away(true)
		w.sees("tripleo-wrapperctl", "sync", "neutron-dnsmasq")
	}},
	{"Who asks is not root", func(w *witness) {
		w.define(onHost + "allowed_uids = [0, 42436]\n" + runs + ready)
		w.start()
		for _, command := range [][]string{
			{"list", "neutron-dnsmasq"}, {"status", "neutron-dnsmasq"}, {"reload"}, {"stop", "neutron-dnsmasq", netnsName}, {"sync", "neutron-dnsmasq"},
		} {
			command = append([]string{"tripleo-wrapperctl"}, command...)
			w.stands("PID", strconv.Itoa(w.pid))
			w.keep(strings.Join(command, " "), runAs(w.t, 1000, command...))
		}
	}},
	{"There is no directory for the metrics", func(w *witness) {
		must(w.t, "rm", "-rf", "/var/lib/prometheus/node-exporter") // which another test may have made
		run(w.t, "systemctl", "start", "tripleo-wrappers-metrics.service")
		w.journalWith("writing the metrics", "-u", "tripleo-wrappers-metrics.service", "-t", "tripleo-wrapperctl")
		w.puts("/tmp/metrics.json", "{", 0o600)
		w.sees("tripleo-wrapperctl", "metrics", "--state=/tmp/metrics.json")
	}},
	{"A call makes no sense", func(w *witness) {
		w.define(usually)
		w.sees("tripleo-wrapperctl", "strat")
		w.sees("tripleo-wrapperctl", "restart", "neutron-dnsmasq")
		w.sees("tripleo-wrapperctl", "restart", "--all", "--parallel=0", "neutron-dnsmasq")
		w.sees("tripleo-wrapperctl", "monitor", "--interval=1ms")
		w.sees("tripleo-wrapperctl", "logs", "--lines=-1", "neutron-dnsmasq")
		w.sees("tripleo-wrapperctl", "--root=/mnt", "stop", "neutron-dnsmasq", "--all")
		w.sees("tripleo-wrapperctl", "check", "neutron-dnsmasq")
		w.sees("tripleo-wrapperctl", "check", "/etc/tripleo-wrappers/neutron-dnsmasq.toml.d/10-debug.toml")
		w.sees("/usr/lib/systemd/system-generators/tripleo-wrappers-generator", "/tmp")
	}},
	{"An Ansible file cannot be converted", func(w *witness) {
		w.puts("/tmp/other.yml", "- hosts: all\n", 0o644)
		w.puts("/tmp/broken.yml", "a: [\n", 0o644)
		w.puts("/tmp/vars.yml", convertible, 0o644)
		w.puts("/tmp/neutron-radvd.toml", "", 0o644)
		w.sees("tripleo-wrapperctl", "convert", "/tmp/gone.yml", "/tmp/other.yml", "/tmp/broken.yml")
		w.sees("tripleo-wrapperctl", "convert", "--output=/tmp", "/tmp/vars.yml")
	}},
}
