// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// configureDocker has the daemon started again with a configuration, and with
// the old one when the test is over.
func configureDocker(t *testing.T, file, content string) {
	t.Helper()
	before, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	restart := func(content []byte) {
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
		// These tests restart it more often than its unit allows.
		must(t, "systemctl", "reset-failed", "docker.service")
		must(t, "systemctl", "restart", "docker.service")
	}
	restart([]byte(content))
	t.Cleanup(func() { restart(before) })
}

// A container that is made is none that runs: until it is started, another program
// is in the place of its command.
func TestDockerStartsSlowly(t *testing.T) {
	const runtime = "/usr/local/bin/slow-runc"
	const script = "#!/bin/sh\ncase \" $* \" in *\" start \"*) sleep 2 ;; esac\nexec runc \"$@\"\n"
	if err := os.WriteFile(runtime, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	configureDocker(t, "/etc/docker/daemon.json",
		`{"iptables": false, "bridge": "none", "default-runtime": "slow", "runtimes": {"slow": {"path": "`+runtime+`"}}}`)
	s := define(t, "docker", `cmd = ["/bin/sh", "-c", "exit 7", "x"]`)
	if r := s.call(s.netns()); r.status != 7 {
		t.Errorf("exit status %d, want that of the command, 7\n%s", r.status, r.stderr)
	}
	s.write(`cmd = ["/bin/sh", "-c", "sleep 100", "x"]`)
	must(t, "systemctl", "daemon-reload")
	began := time.Now()
	if r := s.call(s.netns()); r.status != 0 {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	} else if took := time.Since(began); took < 2*time.Second {
		t.Errorf("it was ready after %v, before it was started", took)
	}
}

// With live-restore a sidecar lives on when the daemon is restarted, or dies.
func TestDockerLiveRestore(t *testing.T) {
	configureDocker(t, "/etc/docker/daemon.json", `{"iptables": false, "bridge": "none", "live-restore": true}`)
	s := define(t, "docker", dnsmasq)
	n := s.netns()
	pid := s.start(n)
	invocation := show(t, s.unit(n.name), "InvocationID")
	untouched := func(after string) {
		t.Helper()
		if now := s.start(n); now != pid {
			t.Errorf("%s: process %d in the place of %d", after, now, pid)
		}
		if now := show(t, s.unit(n.name), "InvocationID"); now != invocation {
			t.Errorf("%s: the unit was started again", after)
		}
	}
	must(t, "systemctl", "restart", "docker.service")
	untouched("restart")
	must(t, "systemctl", "kill", "--signal=KILL", "docker.service")
	eventually(t, "Docker is back", func() bool { return run(t, "docker", "version").status == 0 })
	untouched("crash")

	// docker attach is what takes the place of docker run.
	eventually(t, "the unit is attached again", func() bool {
		return strings.Contains(must(t, "systemctl", "status", "--no-pager", "--lines=0", s.unit(n.name)), "docker attach")
	})
	if r := s.kill("HUP", pid); r.status != 0 {
		t.Errorf("HUP: exit status %d\n%s", r.status, r.stderr)
	}
	if r := s.kill("9", pid); r.status != 0 {
		t.Errorf("9: exit status %d\n%s", r.status, r.stderr)
	}
	s.gone(n, pid)

	// Nor does one that is killed while the daemon is away stay behind.
	pid = s.start(n)
	must(t, "systemctl", "stop", "docker.service", "docker.socket")
	if !alive(pid) {
		t.Error("the sidecar ended with the daemon")
	}
	must(t, "kill", "-9", strconv.Itoa(pid))
	must(t, "systemctl", "start", "docker.service")
	again := s.start(n)
	if again == pid {
		t.Errorf("process %d is dead, and the call did nothing", pid)
	}

	// No sidecar has the daemon started that somebody has stopped.
	must(t, "systemctl", "stop", "docker.service")
	time.Sleep(3 * time.Second)
	if state := show(t, "docker.service", "ActiveState"); state != "inactive" {
		t.Errorf("Docker's daemon is %s", state)
	}

	// Nor does one whose unit is stopped then.
	must(t, "systemctl", "stop", "docker.service", "docker.socket")
	must(t, "systemctl", "stop", s.unit(n.name))
	if alive(again) {
		t.Error("the sidecar runs on, and its unit is stopped")
	}
	must(t, "systemctl", "start", "docker.service")
}

// When a definition gets another engine, the sidecars that run stay the service's
// until they are restarted: there are never two.
func TestChangeOfEngine(t *testing.T) {
	for _, change := range [][2]string{
		{"docker", "podman"}, {"podman", "docker"}, {"systemd", "image"},
	} {
		t.Run(change[0]+" to "+change[1], func(t *testing.T) {
			s := define(t, change[0], dnsmasq)
			signaled, replaced := s.netns(), s.netns()
			first, second := s.start(signaled), s.start(replaced)
			s.engine = change[1]
			s.write(dnsmasq)
			must(t, "tripleo-wrapperctl", "reload")
			if !alive(first) || !alive(second) {
				t.Fatal("the sidecars have ended")
			}
			if r := s.kill("HUP", first); r.status != 0 {
				t.Errorf("HUP: exit status %d\n%s", r.status, r.stderr)
			}
			if r := s.kill("9", first); r.status != 0 {
				t.Errorf("9: exit status %d\n%s", r.status, r.stderr)
			}
			s.gone(signaled, first)
			s.start(signaled)
			must(t, "tripleo-wrapperctl", "restart", s.name, "--outdated")
			if now := s.check(replaced); now == second || alive(second) {
				t.Error("the old sidecar runs on")
			}
		})
	}
}

// Without live-restore the daemon ends all containers when it is stopped, and
// the sidecar comes back with it.
func TestDockerRestart(t *testing.T) {
	s := define(t, "docker", dnsmasq)
	n := s.netns()
	pid := s.start(n)
	must(t, "systemctl", "reset-failed", "docker.service")
	must(t, "systemctl", "restart", "docker.service")
	eventually(t, "the sidecar is back", func() bool {
		content, err := os.ReadFile(n.pidFile)
		now, atoiErr := strconv.Atoi(strings.TrimSpace(string(content)))
		return err == nil && atoiErr == nil && now != pid && alive(now)
	})
	if now := s.check(n); s.start(n) != now {
		t.Error("a call replaced the sidecar that had come back")
	}
}

// A container that has the sidecar's name, in whatever state, does not keep it
// from being started.
func TestDockerLeftOver(t *testing.T) {
	s := define(t, "docker", dnsmasq)
	for state, command := range map[string][]string{
		"created": {"create"},
		"running": {"run", "--detach"},
	} {
		n := s.netns()
		left := append(append([]string{"docker"}, command...), "--name="+s.name+"-"+n.name, "--network=none", "localhost/agent", "sleep", "1000")
		id := must(t, left...)
		pid := s.start(n)
		if r := run(t, "docker", "inspect", id); r.status == 0 {
			t.Errorf("the container that was %s is still there", state)
		}
		if r := s.kill("9", pid); r.status != 0 {
			t.Errorf("exit status %d\n%s", r.status, r.stderr)
		}
		s.gone(n, pid)
	}
}

// The first of the additional sockets is the one that is used.
func TestDockerSocket(t *testing.T) {
	const socket = "/run/additional-docker.sock"
	configureDocker(t, "/etc/default/docker", fmt.Sprintf("DOCKER_OPTS=--host=unix://%s\n", socket))
	s := define(t, "docker", fmt.Sprintf("docker_additional_sockets = [%q, \"/run/other.sock\"]\n", socket)+dnsmasq)
	n := s.netns()
	pid := s.start(n)
	main, err := strconv.Atoi(show(t, s.unit(n.name), "MainPID"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "DOCKER_HOST=unix://" + socket; !contains(list(t, main, "environ"), want) {
		t.Errorf("%s is not in the environment of docker run", want)
	}
	if r := s.kill("9", pid); r.status != 0 {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	s.gone(n, pid)

	nowhere := define(t, "docker", "docker_additional_sockets = [\"/run/nobody-listens.sock\"]\n"+dnsmasq)
	n = nowhere.netns()
	r := nowhere.call(n, n.arguments()...)
	if r.status != 125 || !strings.Contains(r.stderr, "unix:///run/nobody-listens.sock") {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
}

// A pid file may name what it likes: only a process of the sidecar's own
// container makes it ready, and only such a one can be signaled.
func TestDockerForeignProcess(t *testing.T) {
	const liar = `
cmd = ["/bin/sh", "-c", "echo $0 > $1; exec sleep 1000"]
[ready]
pid_file = "@DIR@/{uuid}.pid"
timeout = "6s"
`
	s, other := define(t, "docker", liar), define(t, "docker", dnsmasq)
	n, m := s.netns(), other.netns()
	pid := other.start(m)
	r := s.call(n, strconv.Itoa(pid), s.dir+"/"+strings.TrimPrefix(n.name, "qdhcp-")+".pid")
	if r.status == 0 || !strings.Contains(r.stderr, "is not of "+s.unit(n.name)) {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	if r := s.kill("9", pid); r.status != 1 || !strings.Contains(r.stderr, "not of a sidecar") {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	if !alive(pid) {
		t.Error("a service's kill script killed another service's sidecar")
	}
}

// A sidecar that was started before its definition named another engine is
// signaled and, once it was told to end, stays down.
func TestDockerChanged(t *testing.T) {
	const text = `cmd = ["/bin/sh", "-c", "trap 'exit 1' TERM; trap : HUP; while :; do sleep 0.1; done", "x"]`
	for before, now := range map[string]string{"docker": "podman", "podman": "docker"} {
		t.Run(before, func(t *testing.T) {
			s := define(t, before, text)
			n := s.netns()
			t.Cleanup(func() { run(t, before, "rm", "--force", s.name+"-"+n.name) }) // the unit's way to do that is the other's
			if r := s.call(n); r.status != 0 {
				t.Fatalf("exit status %d\n%s", r.status, r.stderr)
			}
			pid := s.mainPID(n)
			s.engine = now
			s.write(text)
			control(t, 0, "reload")
			for _, signal := range []string{"HUP", "15"} {
				if r := s.kill(signal, pid); r.status != 0 {
					t.Errorf("%s: exit status %d\n%s", signal, r.status, r.stderr)
				}
			}
			eventually(t, "it has ended", func() bool { return !alive(pid) })
			time.Sleep(2500 * time.Millisecond) // RestartSec= is 1 s
			if state := show(t, s.unit(n.name), "ActiveState"); state != "inactive" {
				t.Errorf("%s is %s", s.unit(n.name), state)
			}
		})
	}
}
