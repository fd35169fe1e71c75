// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A sidecar in the JSON form of `tripleo-wrapperctl list`.
type listed struct {
	Service  string `json:"service"`
	Netns    string `json:"netns"`
	State    string `json:"state"`
	Outdated bool   `json:"outdated"`
	Orphan   bool   `json:"orphan"`
	PID      int    `json:"pid"`
	Restarts int    `json:"restarts"`
}

// control calls tripleo-wrapperctl, which has to end with an exit status.
func control(t testing.TB, status int, args ...string) result {
	t.Helper()
	r := run(t, append([]string{"tripleo-wrapperctl"}, args...)...)
	if r.status != status {
		t.Fatalf("tripleo-wrapperctl %q: exit status %d, want %d\n%s%s", args, r.status, status, r.stdout, r.stderr)
	}
	return r
}

// list returns the sidecars of a service by their network namespaces.
func (s *service) list() map[string]listed {
	s.t.Helper()
	var all []listed
	if err := json.Unmarshal([]byte(control(s.t, 0, "list", "--json", s.name).stdout), &all); err != nil {
		s.t.Fatal(err)
	}
	sidecars := map[string]listed{}
	for _, sidecar := range all {
		sidecars[sidecar.Netns] = sidecar
	}
	return sidecars
}

// runAs runs a command as a user.
func runAs(t testing.TB, uid uint32, command ...string) result {
	t.Helper()
	return runWith(t, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}, command...)
}

func mention(t testing.TB, r result, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(r.stdout+r.stderr, word) {
			t.Errorf("%q is not in\n%s%s", word, r.stdout, r.stderr)
		}
	}
}

// Every state and every note that list has, one after the other.
func TestControlList(t *testing.T) {
	for engine := range engines {
		t.Run(engine, func(t *testing.T) {
			s := define(t, engine, dnsmasq)
			if got := s.list(); len(got) != 0 {
				t.Errorf("sidecars before the first request: %v", got)
			}
			mention(t, control(t, 0, "list", s.name), s.name+": ", "no sidecars")
			n := s.netns()
			pid := s.start(n)
			if got := s.list()[n.name]; got.State != "running" || got.PID != pid || got.Outdated || got.Orphan || got.Restarts != 0 {
				t.Errorf("running: %+v, want process %d", got, pid)
			}
			mention(t, control(t, 0, "list", s.name), n.name+"  running ", fmt.Sprint(pid))

			// An exit that nobody asked for.
			must(t, "kill", "-SEGV", fmt.Sprint(pid))
			eventually(t, "it is back", func() bool {
				got := s.list()[n.name]
				return got.State == "running" && got.PID != pid && got.Restarts == 1
			})

			s.write("log = \"file\"\n" + dnsmasq)
			if got := s.list()[n.name]; !got.Outdated {
				t.Errorf("after an edit: %+v", got)
			}
			s.write("idle_timeout = \"20s\"\n" + dnsmasq)
			if got := s.list()[n.name]; got.Outdated {
				t.Errorf("after an edit that makes no difference to it: %+v", got)
			}

			must(t, "systemctl", "stop", s.unit(n.name))
			if got := s.list()[n.name]; got.State != "stopped" || got.PID != 0 {
				t.Errorf("stopped: %+v", got)
			}
			if engine == "podman" {
				// Not by hand as an operator would, who has no such limits: see test/host.
				must(t, "podman", "create", "--privileged", "--name="+s.name+"-"+n.name, "localhost/agent", "dnsmasq")
				if got := s.list()[n.name]; got.State != "not ours" {
					t.Errorf("made by hand: %+v", got)
				}
				mention(t, control(t, 1, "status", s.name), "somebody made 1 container by hand")
				mention(t, control(t, 3, "status", s.name, n.name), "podman rm --force "+s.name+"-"+n.name)
			}
			s.start(n)
			if got := s.list()[n.name]; got.State != "running" {
				t.Errorf("started again: %+v", got)
			}

			other := s.netns() // now: an activator that is started stops orphans
			before := s.start(other)
			must(t, "ip", "netns", "del", n.name)
			if got := s.list()[n.name]; !got.Orphan {
				t.Errorf("its network namespace is gone: %+v", got)
			}
			// It keeps no other from being restarted.
			must(t, "systemctl", "daemon-reload") // the definition was changed
			r := control(t, 0, "restart", s.name, "--all")
			mention(t, r, n.name+": its network namespace is gone", "tripleo-wrapperctl stop "+s.name+" "+n.name, other.name+": restarted in ")
			if s.check(other) == before {
				t.Error("it was not restarted")
			}
			must(t, "ip", "netns", "add", n.name)
			if got := s.list()[n.name]; !got.Orphan {
				t.Errorf("its network namespace was made again: %+v", got)
			}
			before = s.check(other)
			mention(t, control(t, 0, "restart", s.name, "--all"), n.name+": its network namespace is gone, or has been made again")
			if s.check(other) == before {
				t.Error("it was not restarted")
			}
			mention(t, control(t, 1, "status", s.name, n.name), "tripleo-wrapperctl stop "+s.name+" "+n.name)
			mention(t, control(t, 0, "sync", s.name), s.name+": 0 spooled requests, 1 sidecar whose")
			eventually(t, "the orphan is stopped", func() bool { return s.list()[n.name].PID == 0 })
		})
	}
}

// One of many that an agent stops before its turn stays down.
func TestControlRestartStopped(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	s.dropIn(t, "[Service]\nExecStartPre=/bin/sleep 1\n")
	var all []*netns
	pids := map[*netns]int{}
	for range 4 {
		n := s.netns()
		all = append(all, n)
		pids[n] = s.start(n)
	}
	last := all[len(all)-1] // they are restarted in the order of their names
	var r result
	var restart sync.WaitGroup
	restart.Go(func() { r = run(t, "tripleo-wrapperctl", "restart", s.name, "--all") })
	eventually(t, "the first one is restarted", func() bool { return !alive(pids[all[0]]) })
	if killed := s.kill("9", pids[last]); killed.status != 0 {
		t.Errorf("exit status %d\n%s", killed.status, killed.stderr)
	}
	restart.Wait()
	if r.status != 0 || !strings.Contains(r.stdout+r.stderr, last.name+": it is down by now") {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	if s.active(last) {
		t.Error("it is up again")
	}
	for _, n := range all[:len(all)-1] {
		if s.check(n) == pids[n] {
			t.Errorf("%s was not restarted", n.name)
		}
	}
}

// An image that was made anew makes the sidecars of the old one outdated.
func TestControlOutdatedImage(t *testing.T) {
	for _, engine := range []string{"podman", "image", "docker"} {
		t.Run(engine, func(t *testing.T) {
			s := define(t, engine, dnsmasq)
			n := s.netns()
			s.start(n)
			tool := "podman"
			if engine == "docker" {
				tool = "docker"
			}
			old := must(t, tool, "image", "inspect", "--format={{.Id}}", "localhost/agent")
			defer run(t, tool, "tag", old, "localhost/agent")
			must(t, "sh", "-c", fmt.Sprintf("%[1]s rm --force anew >/dev/null 2>&1; %[1]s create --name=anew localhost/agent true >/dev/null"+
				" && %[1]s export anew | %[1]s import - localhost/agent && %[1]s rm anew", tool))
			if got := s.list()[n.name]; !got.Outdated {
				t.Errorf("after a new image: %+v", got)
			}
			mention(t, control(t, 0, "restart", s.name, "--outdated"), n.name+": restarted in ")
			if got := s.list()[n.name]; got.Outdated || got.State != "running" {
				t.Errorf("after a restart: %+v", got)
			}
		})
	}
}

// From "a sidecar does not start" to the reason with one command.
func TestControlStatus(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	mention(t, control(t, 3, "status", s.name, n.name), "State: stopped", "no wrapper call for it", s.state("wrapper"))

	if r := s.call(n, "--no-such-option"); r.status == 0 {
		t.Fatal("a bad option did no harm")
	}
	r := control(t, 3, "status", s.name, n.name)
	mention(t, r, "State: failed", "asked for by process", "bad command line options", "Main process exited",
		"→ the last request ended with: "+s.name+" did not start", "tripleo-wrapperctl start "+s.name+" "+n.name)
	mention(t, control(t, 1, "status", s.name), "Sidecars: 1 failed", "bad command line options", "1 sidecar did not start")
	if r := control(t, 1, "status", "--lines=0", s.name); strings.Contains(r.stdout, "Last warnings") {
		t.Errorf("lines of the journal where none were asked for:\n%s", r.stdout)
	}
	control(t, 1, "start", s.name, n.name)

	pid := s.start(n)
	r = control(t, 0, "status", s.name, n.name)
	mention(t, r, "State: running since", fmt.Sprintf("Process: %d, brought back 0 times", pid), "started in ")
	if strings.Contains(r.stdout, "→") {
		t.Errorf("advice for a sidecar that is well:\n%s", r.stdout)
	}
	var details struct {
		State, Result, Reason string
		Requests              []struct{ Request, Message string }
		Advice                []string
	}
	if err := json.Unmarshal([]byte(control(t, 0, "status", "--json", s.name, n.name).stdout), &details); err != nil {
		t.Fatal(err)
	}
	if details.State != "running" || details.Result != "started" || details.Reason != "" || len(details.Requests) != 2 ||
		len(details.Requests[0].Request) != 32 || len(details.Advice) != 0 {
		t.Errorf("as JSON: %+v", details)
	}

	// An environment that asks for colours everywhere does not get in the way.
	r = runWith(t, func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), "SYSTEMD_COLORS=1") }, "tripleo-wrapperctl", "status", s.name, n.name)
	mention(t, r, "asked for by process", "started in ")

	// What was killed on purpose was so by a request with a life of its own.
	if r := s.kill("9", pid); r.status != 0 {
		t.Fatal(r.stderr)
	}
	mention(t, control(t, 3, "status", s.name, n.name), "sent SIGKILL to process", "it was stopped, as the lines above say")

	control(t, 4, "status", s.name, "qdhcp-never")
	control(t, 4, "status", "no-such-service")
	mention(t, control(t, 4, "status", "no-such-service", n.name), "there is no service no-such-service; there are: ")
	control(t, 4, "logs", "no-such-service")

	// By the name of its unit.
	mention(t, control(t, 3, "status", s.unit(n.name)), s.name+" in "+n.name)
	mention(t, control(t, 0, "logs", s.unit(n.name)), "asked for by process")
	mention(t, control(t, 0, "logs", s.name+".service"), "asked for by process")
	control(t, 0, "stop", s.unit(n.name))
	mention(t, control(t, 4, "restart", s.unit(n.name), "--all"), "a sidecar is named by service and network namespace: "+s.name+" "+n.name)

	// A socket that is away, for which nobody has to wait.
	must(t, "systemctl", "stop", "tripleo-wrappers.target", s.name+".socket")
	defer must(t, "systemctl", "start", "tripleo-wrappers.target")
	if state := show(t, s.name+".socket", "ActiveState"); state != "inactive" {
		t.Errorf("after systemctl stop of the target and the socket, it is %s", state)
	}
	mention(t, control(t, 1, "status", s.name), "Socket: inactive", "systemctl enable --now tripleo-wrappers.target")
	mention(t, control(t, 3, "status", s.name, n.name), "systemctl enable --now tripleo-wrappers.target")
}

// What is missing or changed of what agents need is told, and the advice mends
// it.
func TestControlStatusFaults(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	control(t, 0, "status", s.name)
	reload := func() {
		t.Helper()
		mention(t, control(t, 0, "reload"), s.name+": restarted its socket")
		control(t, 0, "status", s.name)
	}
	for command, want := range map[string]string{
		"rm " + s.state("wrapper"):                         s.state("wrapper") + " is missing; to have it made anew: tripleo-wrapperctl reload",
		"echo >>" + s.state("tripleo-wrapper"):             s.state("tripleo-wrapper") + " is not the one that this version makes of the definition",
		"chmod a-x " + s.dir + "/kill_scripts/test-kill":   s.dir + "/kill_scripts/test-kill has mode 0644, which has to be 0755",
		"rm " + s.state("activator.sock"):                  s.state("activator.sock") + " is missing",
		"rm -r " + s.dir + "/" + s.name:                    s.dir + "/" + s.name + " is missing",
		"ln -sf /etc/passwd " + s.state("wrapper"):         s.state("wrapper"),
		"rm -r " + s.dir + " && ln -s /var/lib/x " + s.dir: s.dir,
	} {
		must(t, "sh", "-c", command)
		r := control(t, 1, "status", s.name)
		mention(t, r, "→ "+want)
		if info, err := os.Lstat(s.dir); err == nil && info.Mode().Type() == os.ModeSymlink {
			os.Remove(s.dir)
		}
		reload()
	}
	n := s.netns()
	s.start(n)

	// The socket is not even there.
	must(t, "systemctl", "stop", s.name+".service")
	must(t, "sh", "-c", fmt.Sprintf("rm %[1]s && mkdir %[1]s", s.state("wrapper")))
	run(t, "systemctl", "restart", s.name+".socket")
	start := "systemctl restart " + s.name + ".socket"
	for _, args := range [][]string{{"status"}, {"status", s.name}} {
		mention(t, control(t, 1, args...), "its socket is ", "requests are only spooled: laying out ", "is a directory", "mended: "+start)
	}
	must(t, "rmdir", s.state("wrapper"))
	must(t, "sh", "-c", start)
	control(t, 0, "status", s.name)

	// The path unit is not there.
	for _, unmask := range []string{"systemctl unmask ", "systemctl unmask --runtime "} {
		unmask += s.name + ".path"
		must(t, "sh", "-c", strings.Replace(unmask, "unmask", "mask", 1))
		must(t, "systemctl", "stop", s.name+".path")
		mention(t, control(t, 1, "status", s.name), "masked, so that it never runs: "+s.name+".path", "tripleo-wrapperctl check "+s.file())
		mention(t, control(t, 1, "check", s.file()), "to undo that: "+unmask+"; then: tripleo-wrapperctl reload")
		must(t, "sh", "-c", unmask)
		control(t, 0, "reload")
		eventually(t, "the path unit is back", func() bool { return show(t, s.name+".path", "ActiveState") == "active" })
		control(t, 0, "status", s.name)
	}

	// An adoption was killed, which had masked it.
	mask := filepath.Join("/run/systemd/system.control", s.name+".path")
	if err := errors.Join(os.MkdirAll(filepath.Dir(mask), 0o755), os.Symlink(os.DevNull, mask)); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(mask)
	must(t, "systemctl", "daemon-reload")
	must(t, "systemctl", "stop", s.name+".path")
	mention(t, control(t, 1, "status", s.name), "masked, so that it never runs: "+s.name+".path", "tripleo-wrapperctl check "+s.file())
	adopt := "tripleo-wrapperctl adopt " + s.name
	mention(t, control(t, 1, "check", s.file()), s.name+".path is masked by an adoption", "to have it done: "+adopt)
	must(t, "sh", "-c", adopt)
	control(t, 0, "check", s.file())
	control(t, 0, "status", s.name)
}

// What cannot be found out is said, and is no mistake of the caller's.
func TestControlStatusDoubts(t *testing.T) {
	s := define(t, "docker", dnsmasq)
	n := s.netns()
	s.start(n)
	for _, args := range [][]string{{"status"}, {"status", s.name}, {"status", s.name, n.name}} {
		r := runAs(t, 1000, append([]string{"tripleo-wrapperctl"}, args...)...)
		if r.status != 1 || strings.Contains(r.stderr, "--help") {
			t.Errorf("%q: exit status %d\n%s", args, r.status, r.stderr)
		}
		mention(t, r, "running", "without root's rights")
	}
	control(t, 0, "stop", s.name, n.name)
	must(t, "systemctl", "stop", "docker.socket", "docker.service")
	defer must(t, "systemctl", "start", "docker.service")
	for _, args := range [][]string{{"status"}, {"status", s.name}} {
		r := control(t, 1, args...)
		mention(t, r, "looking for containers: docker ps: ")
		if strings.Contains(r.stderr, "--help") || strings.Count(r.stderr, "docker ps") != 1 {
			t.Errorf("%q: %s", args, r.stderr)
		}
	}
}

func TestControlStartStopRestart(t *testing.T) {
	for engine := range engines {
		t.Run(engine, func(t *testing.T) {
			s := define(t, engine, dnsmasq)
			var all []*netns
			pids := map[string]int{}
			for range 3 {
				n := s.netns()
				all = append(all, n)
				pids[n.name] = s.start(n)
			}
			mention(t, control(t, 0, "restart", s.name, "--outdated"))
			if pid := s.check(all[0]); pid != pids[all[0].name] {
				t.Error("restarted though it is not outdated")
			}

			// With the definition as it is now, one after the other.
			s.write(strings.Replace(dnsmasq, "-k", "-k --quiet-dhcp", 1))
			mention(t, control(t, 1, "restart", s.name, "--outdated"), "has changed since systemd read it", "first: tripleo-wrapperctl reload")
			if pid := s.check(all[0]); pid != pids[all[0].name] {
				t.Error("restarted by the definition of before")
			}
			mention(t, control(t, 0, "reload"), s.name+": 3 sidecars outdated")
			r := control(t, 0, "restart", s.name, "--outdated", "--parallel=2")
			for _, n := range all {
				mention(t, r, n.name+": restarted in ")
				content, err := os.ReadFile(n.pidFile)
				if err != nil {
					t.Fatal(err)
				}
				var pid int
				fmt.Sscan(string(content), &pid)
				if got := cmdline(t, pid); pid == pids[n.name] || len(got) < 3 || got[2] != "--quiet-dhcp" {
					t.Errorf("%s: process %d, before %d: %q", n.name, pid, pids[n.name], got)
				}
			}
			if got := s.list(); got[all[0].name].Outdated || got[all[2].name].Outdated {
				t.Errorf("still outdated: %v", got)
			}

			// No other is begun after the first that fails.
			s.write(strings.Replace(dnsmasq, "-k", "-k --no-such-option", 1))
			control(t, 0, "reload")
			r = control(t, 1, "restart", s.name, "--all")
			mention(t, r, "0 of 3 sidecars restarted, 1 failed, and 2 were left as they were", "did not start")
			if got := s.list(); got[all[1].name].State != "running" || got[all[2].name].State != "running" {
				t.Errorf("after a failure: %v", got)
			}
			s.write(dnsmasq)
			control(t, 0, "reload")

			control(t, 0, "start", s.name, "--all")
			s.check(all[0])
			control(t, 0, "stop", s.name, all[0].name, all[1].name)
			if s.running() != 1 {
				t.Errorf("%d sidecars run, want 1", s.running())
			}
			mention(t, control(t, 3, "status", s.name, all[0].name), "stopped by an operator")
			var deeds []struct{ Netns, Done, Error string }
			if err := json.Unmarshal([]byte(control(t, 4, "start", "--json", s.name, all[0].name, "qdhcp-never", all[1].name).stdout), &deeds); err != nil {
				t.Fatal(err)
			}
			if len(deeds) != 3 || deeds[0].Done != "started" || deeds[1].Done != "failed" || deeds[2].Done != "left out" ||
				!strings.Contains(deeds[1].Error, "the agent has to call the wrapper") {
				t.Errorf("%+v", deeds)
			}
			s.check(all[0])
			mention(t, control(t, 4, "stop", s.name, "qdhcp-never"), "qdhcp-never: no sidecar of "+s.name+" was started", "tripleo-wrapperctl list "+s.name)
			mention(t, control(t, 4, "restart", s.name, "qdhcp-never"), "qdhcp-never: no sidecar of "+s.name+" was started")
			if r := run(t, "journalctl", "--quiet", "SERVICE="+s.name, "NETNS=qdhcp-never"); r.stdout != "" {
				t.Errorf("of a sidecar that never was: %s", r.stdout)
			}
			// Where the engine does not answer, too.
			broken := t.TempDir()
			for _, name := range []string{"podman", "docker"} {
				if err := os.WriteFile(filepath.Join(broken, name), []byte("#!/bin/sh\nexit 125\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			must(t, "env", "PATH="+broken+":"+os.Getenv("PATH"), "tripleo-wrapperctl", "stop", s.name, "--all")
			if s.running() != 0 {
				t.Errorf("%d sidecars run", s.running())
			}
		})
	}
}

// A drop-in beside the definition is a part of it.
func TestControlDropIn(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	s.start(n)
	dir := s.file() + ".d"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	control(t, 0, "status", s.name)
	if err := os.WriteFile(filepath.Join(dir, "restart.toml"), []byte(`restart = "no"`), 0o644); err != nil {
		t.Fatal(err)
	}
	mention(t, control(t, 1, "status", s.name), s.file()+" has changed since systemd read it, or a drop-in has; to take it into use: tripleo-wrapperctl reload")
	mention(t, control(t, 0, "reload"), s.name+": 1 sidecar outdated")
	control(t, 0, "restart", s.name, "--outdated")
	control(t, 0, "status", s.name)
	if restart := show(t, s.unit(n.name), "Restart"); restart != "no" {
		t.Errorf("Restart=%s", restart)
	}
}

// reload does what a daemon-reload leaves undone.
func TestControlReload(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	pid := s.start(n)
	if r := control(t, 0, "reload"); r.stdout != "" {
		t.Errorf("nothing has changed: %q", r.stdout)
	}

	// Another address: the old one is closed, and the new one is there.
	old := s.dir
	s.dir += "-moved"
	t.Cleanup(func() { os.RemoveAll(old) })
	s.write(dnsmasq)
	mention(t, control(t, 0, "reload"), s.name+": restarted its socket", s.name+": 1 sidecar outdated")
	if info, err := os.Stat(s.state("activator.sock")); err != nil || info.Mode().Type() != os.ModeSocket {
		t.Errorf("the new socket: %v, error %v", info, err)
	}
	moved := s.netns()
	s.start(moved)
	if !alive(pid) {
		t.Error("a sidecar that ran is gone")
	}

	// The same by a plain daemon-reload, after which nobody listens.
	s.dir += "-again"
	s.write(dnsmasq)
	must(t, "systemctl", "daemon-reload")
	mention(t, control(t, 0, "reload"), s.name+": restarted its socket")
	moved = s.netns()
	s.start(moved)

	// What the wrapper is told, after a plain daemon-reload.
	s.write("idle_timeout = \"2s\"\n" + strings.Replace(dnsmasq, "20s", "25s", 1))
	must(t, "systemctl", "daemon-reload")
	mention(t, control(t, 0, "reload"), s.name+": restarted its socket")
	if content, err := os.ReadFile(s.state("wrapper")); err != nil || !strings.Contains(string(content), "--ready-timeout=25s") {
		t.Errorf("wrapper: %s, error %v", content, err)
	}

	// While the activator is about to end.
	if err := os.MkdirAll("/run/systemd/system/"+s.name+".service.d", 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll("/run/systemd/system/" + s.name + ".service.d")
	if err := os.WriteFile("/run/systemd/system/"+s.name+".service.d/slow.conf", []byte("[Service]\nExecStopPost=/bin/sleep 3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, "systemctl", "daemon-reload")
	s.start(moved)
	eventually(t, "the activator is about to end", func() bool { return show(t, s.name+".service", "ActiveState") == "deactivating" })
	s.write(dnsmasq)
	mention(t, control(t, 0, "reload"), s.name+": restarted its socket")
	s.start(moved)

	// The wrapper knows which variables to pass.
	s.write("pass_environment = [\"LANG\"]\n" + dnsmasq)
	mention(t, control(t, 0, "reload"), s.name+": restarted its socket")
	if content, err := os.ReadFile(s.state("wrapper")); err != nil || !strings.Contains(string(content), "--pass-environment=LANG") {
		t.Errorf("wrapper: %s, error %v", content, err)
	}

	// Broken, and back.
	s.write("container_clo = 5\n" + dnsmasq)
	mention(t, control(t, 0, "metrics"), fmt.Sprintf(`tripleo_wrappers_socket_active{service="%s"} 1`, s.name)) // nobody has told systemd
	r := control(t, 1, "reload")
	mention(t, r, s.name+": its definition is broken: "+s.file(), "tripleo-wrapperctl check "+s.file())
	running := s.running()
	mention(t, control(t, 1, "status"), s.name, fmt.Sprintf("broken definition, %d running", running))
	mention(t, control(t, 1, "status", s.name), "Problem:", fmt.Sprintf("Sidecars: %d running", running))
	mention(t, control(t, 0, "list"), s.name+": its definition is broken", moved.name+"  running")
	spoolFor(t, s, moved.name+" --port=0\n")
	r = control(t, 0, "metrics")
	mention(t, r, fmt.Sprintf(`tripleo_wrappers_sidecars{service="%s",state="running"} %d`, s.name, running),
		fmt.Sprintf(`tripleo_wrappers_spooled_requests{service="%s"} 1`, s.name), fmt.Sprintf(`socket_active{service="%s"} 0`, s.name))
	if strings.Contains(r.stdout, fmt.Sprintf(`sidecars_outdated{service="%s"}`, s.name)) {
		t.Errorf("sidecars that are outdated by a broken definition:\n%s", r.stdout)
	}
	mention(t, control(t, 1, "status", s.name), "Spool: 1 waiting, 0 given up")
	mention(t, control(t, 1, "status", "--json", s.name), `"outdated": null`, `"spooled": 1`)
	if err := os.Remove(s.state("processes")); err != nil {
		t.Fatal(err)
	}
	s.write(dnsmasq)
	mention(t, control(t, 0, "reload"), s.name+": started its socket")
	s.start(moved)

	// Gone while it is broken: nothing of it is left, but its sidecars.
	for _, plain := range []bool{false, true} {
		s.write("container_clo = 5\n" + dnsmasq)
		control(t, 1, "reload")
		eventually(t, "the unit has failed", func() bool { return show(t, s.name+".service", "ActiveState") == "failed" })
		if err := os.Remove(s.file()); err != nil {
			t.Fatal(err)
		}
		if plain {
			must(t, "systemctl", "daemon-reload")
		}
		mention(t, control(t, 0, "reload"), s.name+": its definition is gone", "left running; to stop: systemctl stop '"+s.name+"@*.service'")
		if left := must(t, "systemctl", "list-units", "--all", "--plain", "--no-legend", s.name+".*"); left != "" {
			t.Errorf("left of a broken definition that is gone:\n%s", left)
		}
		mention(t, control(t, 4, "status", s.name), "there is no service "+s.name, "systemctl stop '"+s.name+"@*.service'")
		if r := control(t, 0, "reload"); r.stdout != "" {
			t.Errorf("nothing has changed: %q", r.stdout)
		}
		s.write(dnsmasq)
		mention(t, control(t, 0, "reload"), s.name+": started its socket")
	}

	// Gone, by this reload and by an earlier one; sidecars stay.
	for _, plain := range []bool{false, true} {
		if err := os.Remove(s.file()); err != nil {
			t.Fatal(err)
		}
		if plain {
			must(t, "systemctl", "daemon-reload")
		}
		mention(t, control(t, 0, "reload"), s.name+": its definition is gone", "left running; to stop: systemctl stop '"+s.name+"@*.service'")
		for _, unit := range []string{".socket", ".path", ".service"} {
			if state := show(t, s.name+unit, "ActiveState"); state != "inactive" {
				t.Errorf("%s%s is %s", s.name, unit, state)
			}
		}
		s.check(moved)
		s.write(dnsmasq)
		mention(t, control(t, 1, "start", s.name, "--all"), "the definition of "+s.name+" is not in use yet", "first: tripleo-wrapperctl reload")
		mention(t, control(t, 0, "reload"), s.name+": started its socket")
	}
	s.start(moved)
	var reloaded struct {
		Restarted []string
		Outdated  map[string][]string
	}
	s.write("idle_timeout = \"20s\"\nlog = \"file\"\n" + dnsmasq)
	if err := json.Unmarshal([]byte(control(t, 0, "reload", "--json").stdout), &reloaded); err != nil {
		t.Fatal(err)
	}
	if len(reloaded.Outdated[s.name]) == 0 {
		t.Errorf("as JSON: %+v", reloaded)
	}
}

func TestControlLogsAndMonitor(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	since := time.Now()
	var watched result
	done := make(chan struct{})
	go func() {
		defer close(done)
		watched = run(t, "timeout", "--signal=INT", "--preserve-status", "6", "tripleo-wrapperctl", "monitor", "--interval=200ms", s.name)
	}()
	// On a terminal, which script(1) makes.
	screen := make(chan result)
	go func() {
		screen <- run(t, "timeout", "--signal=INT", "7", "script", "--quiet", "--return", "--command",
			"stty cols 80 rows 24; timeout --signal=INT --preserve-status 5 tripleo-wrapperctl monitor --interval=200ms "+s.name, "/dev/null")
	}()
	time.Sleep(time.Second)
	s.start(n)
	<-done
	if watched.status != 0 || time.Since(since) > 15*time.Second {
		t.Errorf("monitor: exit status %d after %v\n%s", watched.status, watched.took, watched.stderr)
	}
	mention(t, watched, s.unit(n.name)+": asked for by process", s.unit(n.name)+": started in ")
	if strings.Contains(watched.stdout, "\x1b") {
		t.Errorf("escape sequences where there is no terminal: %q", watched.stdout)
	}
	drawn := <-screen
	mention(t, drawn, "\x1b[?1049h", "\x1b[?1049l", "1 running", "started in ")

	mention(t, control(t, 0, "logs", s.name, n.name), "asked for by process", "starting for request", "started, version")
	if r := control(t, 0, "logs", "--lines=1", s.name); strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("one line: %q", r.stdout)
	}
	if r := control(t, 0, "logs", "--lines=0", s.name); r.stdout != "-- No entries --\n" {
		t.Errorf("no line: %q", r.stdout)
	}
	follow := run(t, "timeout", "--signal=INT", "--preserve-status", "2", "tripleo-wrapperctl", "logs", "--follow", s.name)
	if follow.status != 0 {
		t.Errorf("logs --follow: exit status %d\n%s", follow.status, follow.stderr)
	}
	mention(t, follow, "started, version")

	// Ctrl-C may end journalctl before the one who called it knows of it.
	followed := make(chan result)
	go func() { followed <- run(t, "timeout", "10", "tripleo-wrapperctl", "logs", "--follow", s.name) }()
	eventually(t, "journalctl is interrupted", func() bool {
		return run(t, "pkill", "--signal=INT", "--full", "^journalctl --follow SERVICE="+s.name).status == 0
	})
	if follow = <-followed; follow.status != 0 {
		t.Errorf("logs --follow, whose journalctl is interrupted: exit status %d\n%s", follow.status, follow.stderr)
	}
	monitored := make(chan result)
	go func() {
		monitored <- run(t, "timeout", "20", "tripleo-wrapperctl", "monitor", "--interval=100ms", s.name)
	}()
	var monitor result
	eventually(t, "a journalctl of monitor is interrupted", func() bool {
		select {
		case monitor = <-monitored:
			return true
		default:
			run(t, "pkill", "--signal=INT", "--full", "^journalctl .*SERVICE="+s.name)
			return false
		}
	})
	if monitor.status != 0 {
		t.Errorf("monitor, whose journalctl is interrupted: exit status %d\n%s", monitor.status, monitor.stderr)
	}
}

// Counters go on where they were, and the file is what node_exporter finds.
func TestControlMetrics(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	directory := t.TempDir()
	state, output := filepath.Join(directory, "state"), filepath.Join(directory, "out.prom")
	measure := func() string {
		t.Helper()
		must(t, "journalctl", "--sync")
		control(t, 0, "metrics", "--state="+state, "--output="+output)
		content, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	expect := func(text string, samples ...string) {
		t.Helper()
		for _, sample := range samples {
			if line := "tripleo_wrappers_" + strings.ReplaceAll(sample, "S", `service="`+s.name+`"`) + "\n"; !strings.Contains(text, line) {
				t.Errorf("%q is not in\n%s", line, text)
			}
		}
	}
	expect(measure(), `requests_total{S,result="started"} 0`, `sidecars{S,state="running"} 0`, `socket_active{S} 1`)
	s.start(n)
	s.start(n)
	s.call(n, "--no-such-option")
	expect(measure(), `requests_total{S,result="started"} 1`, `requests_total{S,result="running"} 1`,
		`requests_total{S,result="failed"} 1`, `ready_seconds_count{S} 1`, `sidecars{S,state="failed"} 1`)
	// The place in the journal is kept: nothing is counted twice.
	s.start(n)
	expect(measure(), `requests_total{S,result="started"} 2`, `requests_total{S,result="failed"} 1`, `sidecars{S,state="running"} 1`)
	expect(control(t, 0, "metrics").stdout, `requests_total{S,result="started"} 2`)

	// The timer's service, with node_exporter's directory.
	t.Cleanup(func() { os.RemoveAll("/var/lib/prometheus") })
	if err := os.MkdirAll("/var/lib/prometheus/node-exporter", 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "systemctl", "start", "tripleo-wrappers-metrics.timer")
	defer run(t, "systemctl", "stop", "tripleo-wrappers-metrics.timer")
	eventually(t, "the timer has metrics written", func() bool {
		_, err := os.Stat("/var/lib/prometheus/node-exporter/tripleo-wrappers.prom")
		return err == nil
	})
	if r := run(t, "systemctl", "is-enabled", "tripleo-wrappers-metrics.timer"); strings.TrimSpace(r.stdout) != "disabled" {
		t.Errorf("the timer is %s", r.stdout)
	}
}

// What only the host knows.
func TestControlCheck(t *testing.T) {
	s := define(t, "podman", dnsmasq)
	mention(t, control(t, 0, "check", s.file()), "No problems.")
	shadow := "/etc/systemd/system/" + s.name + ".path"
	if err := os.WriteFile(shadow, []byte("[Path]\nPathModified=/x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(shadow)
	config := t.TempDir()
	if err := os.WriteFile(filepath.Join(config, "dhcp_agent.ini"), []byte("[AGENT]\nkill_scripts_path = /elsewhere/\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.write("bind_mounts = [\"/no/such/source:/x\"]\nconfig_bind_mount = \"" + config + ":/etc/neutron:ro\"\n" + dnsmasq)
	definition, err := os.ReadFile(s.file())
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(definition), "localhost/agent", "localhost/no-such-image", 1)
	if err := os.WriteFile(s.file(), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	r := control(t, 1, "check")
	mention(t, r, "image_name: ", "warning: ", "podman pull localhost/no-such-image", "bind_mounts: /no/such/source: no such file",
		shadow+" takes the place", "has kill_scripts_path = /elsewhere; the agent's container has to have "+s.dir+"/kill_scripts mounted there")

	// By somebody who may only read files, and one that is not in its place.
	loose := filepath.Join(os.TempDir(), "loose.toml")
	if err := os.WriteFile(loose, []byte("service_dir = \"/var/lib/x\"\ncmd = \"x\"\nimage_nam = \"y\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(loose)
	r = runAs(t, 65534, "tripleo-wrapperctl", "check", loose)
	if r.status != 1 {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	mention(t, r, loose+`:3:1: image_nam: unknown key; did you mean "image_name"?`, `    3 | image_nam = "y"`, "      | ^~~~~~~~~")
}

// Others than root may look, and are told what they cannot do.
func TestControlWithoutRoot(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	s.start(n)
	r := runAs(t, 65534, "tripleo-wrapperctl", "list", s.name)
	if r.status != 0 {
		t.Errorf("list: exit status %d", r.status)
	}
	mention(t, r, n.name+"  running", "without root's rights")
	for _, command := range [][]string{{"reload"}, {"restart", s.name, "--all"}, {"stop", s.name, n.name}} {
		r := runAs(t, 65534, append([]string{"tripleo-wrapperctl"}, command...)...)
		if r.status != 1 {
			t.Errorf("%q: exit status %d", command, r.status)
		}
		mention(t, r, "only root can do that")
	}
	s.check(n)
}

// A shell is told the services and their network namespaces.
func TestControlCompletion(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	s.start(n)
	mention(t, control(t, 0, "__complete", "status", ""), s.name+"\n")
	mention(t, control(t, 0, "__complete", "status", s.name, ""), n.name+"\n")
	if r := control(t, 0, "__complete", "restart", s.name, n.name, ""); strings.Contains(r.stdout, n.name) {
		t.Errorf("named twice: %s", r.stdout)
	}
	// bash itself, with the script that was installed.
	script := fmt.Sprintf(`source /usr/share/bash-completion/completions/tripleo-wrapperctl
		_init_completion() { words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${words[cword]} prev=${words[cword-1]}; }
		__ltrim_colon_completions() { :; }
		COMP_WORDS=(tripleo-wrapperctl status %s '') COMP_CWORD=3 COMP_LINE='tripleo-wrapperctl status %[1]s ' COMP_POINT=99 COMP_TYPE=9
		__start_tripleo-wrapperctl; printf '%%s\n' "${COMPREPLY[@]}"`, s.name)
	if got := must(t, "bash", "-c", script); strings.TrimSpace(got) != n.name {
		t.Errorf("bash completes %q, want %q", got, n.name)
	}
}

// run-command prints what the sidecar was started with.
func TestControlRunCommand(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	pid := s.start(n, "--domain=two words", "--txt-record=$HOME,%i")
	for _, name := range []string{s.name, s.name + ".service"} {
		words := must(t, "sh", "-c", "eval printf '%s\\\\n' \"$(tripleo-wrapperctl run-command "+name+" "+n.name+")\"")
		if got, want := words, strings.Join(cmdline(t, pid), "\n"); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
	mention(t, control(t, 0, "cat", s.name), "# "+s.name+"@.service", "ExecStart=")
}

// slowDnsmasq is ready after two seconds.
const slowDnsmasq = `
cmd = "sleep 2; exec /usr/sbin/dnsmasq -k"
[ready]
pid_file_option = ["--pid-file", "-x"]
timeout = "10s"
`

// An operator who has seen enough leaves the sidecar to systemd.
func TestControlInterrupted(t *testing.T) {
	s := define(t, "systemd", slowDnsmasq)
	n := s.netns()
	pid := s.start(n)
	r := run(t, "timeout", "--signal=INT", "--preserve-status", "1", "tripleo-wrapperctl", "restart", s.name, n.name)
	if r.status != 1 || r.took > 5*time.Second {
		t.Errorf("exit status %d after %v", r.status, r.took)
	}
	mention(t, r, "not waited for any longer")
	eventually(t, "it is back", func() bool { got := s.list()[n.name]; return got.State == "running" && got.PID != pid })
}

// The end of the process that is restarted does not count for the new one: not how
// long it takes, nor how it comes.
func TestControlRestartStop(t *testing.T) {
	const ready = "\n[ready]\npid_file_option = [\"--pid-file\"]\ntimeout = \"5s\"\n"
	s := define(t, "systemd", `cmd = ["/bin/sh", "-c", "trap '' TERM; echo $$ >\"${1#--pid-file=}\"; exec sleep 1000", "x"]`+ready)
	n := s.netns()
	call := func() {
		t.Helper()
		if r := s.call(n, "--pid-file="+n.pidFile); r.status != 0 {
			t.Fatalf("exit status %d\n%s", r.status, r.stderr)
		}
	}
	call()
	before := s.mainPID(n)
	if r := control(t, 0, "restart", s.name, n.name); r.took < 10*time.Second { // TimeoutStopSec=
		t.Errorf("it was stopped within %v", r.took)
	}
	if got := s.list()[n.name]; got.State != "running" || got.PID == before {
		t.Errorf("%+v, before process %d", got, before)
	}
	control(t, 0, "stop", s.name, n.name)

	s.write(`cmd = ["/bin/sh", "-c", "trap 'echo old; exit 7' TERM; while :; do sleep 0.1; done", "x"]`)
	control(t, 0, "reload")
	call()
	s.write(`cmd = ["/bin/sh", "-c", "echo new; exit 3", "x"]`)
	control(t, 0, "reload")
	mention(t, control(t, 1, "restart", s.name, n.name), "exit status 3")
}

// An operator and an agent who want something of the same sidecar at the same
// time: both are served, and what the agent was told holds.
func TestControlBesideAgent(t *testing.T) {
	s := define(t, "systemd", slowDnsmasq)
	for _, more := range [][]string{nil, {"--quiet-dhcp"}} {
		n := s.netns()
		before := s.start(n)
		done := make(chan result)
		go func() { done <- run(t, "tripleo-wrapperctl", "restart", s.name, n.name) }()
		eventually(t, "it is being restarted", func() bool { return s.mainPID(n) != before })
		pid := s.start(n, more...)
		if r := <-done; r.status != 0 {
			t.Errorf("restart: exit status %d\n%s", r.status, r.stderr)
		}
		if got := s.list()[n.name]; got.State != "running" || got.PID != pid {
			t.Errorf("with %q: %+v, want process %d", more, got, pid)
		}
	}

	// start leaves alone what is up, ready or not.
	n := s.netns()
	pid := s.start(n)
	if err := os.Remove(n.pidFile); err != nil {
		t.Fatal(err)
	}
	control(t, 0, "start", s.name, n.name)
	if got := s.list()[n.name]; got.State != "running" || got.PID != pid {
		t.Errorf("after start: %+v, want process %d", got, pid)
	}
}

// What an agent puts into its directory, or answers in the activator's place,
// does nothing to an operator's terminal or to the metrics of others.
func TestControlHostileDirectory(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	if err := os.Symlink("/etc/passwd", s.state("processes.failed")); err != nil {
		t.Fatal(err)
	}
	r := control(t, 0, "metrics")
	mention(t, r, `socket_active{service="`+s.name+`"} 1`, "processes.failed")

	must(t, "systemctl", "stop", "tripleo-wrappers.target")
	defer must(t, "systemctl", "start", "tripleo-wrappers.target")
	os.Remove(s.state("activator.sock"))
	listener, err := net.Listen("unix", s.state("activator.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, `{"error":"\u001b]0;owned\u0007\u001b[2J"}`+"\x00")
	}()
	if r := control(t, 1, "sync", s.name); strings.ContainsAny(r.stderr+r.stdout, "\x1b\x07") {
		t.Errorf("escape sequences arrive: %q", r.stderr)
	}
}
