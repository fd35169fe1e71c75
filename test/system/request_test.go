// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// One file and one reload: the socket and the path unit are active, by no
// other command.
func TestReload(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		s := define(t, engine, dnsmasq)
		for _, unit := range []string{s.name + ".socket", s.name + ".path"} {
			if state := show(t, unit, "ActiveState"); state != "active" {
				t.Errorf("%s is %s after daemon-reload", unit, state)
			}
		}
		if state := show(t, s.name+".service", "ActiveState"); state != "inactive" {
			t.Errorf("the activator is %s with nothing to do", state)
		}
	})
}

func TestStart(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		s := define(t, engine, dnsmasq)
		n := s.netns()
		awkward := []string{"--dhcp-option=tag:subnet-1,option:domain-name,a b  c", `--txt-record=x,'quoted' $HOME %i \n ;`, ""}
		first := s.start(n, awkward...)

		if second := s.start(n, awkward...); second != first {
			t.Errorf("the same call again replaced process %d by %d", first, second)
		}
		third := s.start(n, "--domain=other")
		if third == first || alive(first) {
			t.Errorf("a call with other arguments did not replace process %d", first)
		}
		if running := s.running(); running != 1 {
			t.Errorf("%d sidecars, want 1", running)
		}
	})
}

func TestTwentyNamespaces(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		s := define(t, engine, dnsmasq)
		var all []*netns
		for range 20 {
			all = append(all, s.netns())
		}
		var calls sync.WaitGroup
		results := make([]result, len(all))
		for i, n := range all {
			calls.Go(func() { results[i] = s.call(n, n.arguments()...) })
		}
		calls.Wait()
		for i, n := range all {
			if results[i].status != 0 {
				t.Errorf("call in %s: exit status %d\n%s", n.name, results[i].status, results[i].stderr)
				continue
			}
			s.check(n)
		}
		if running := s.running(); running != len(all) {
			t.Errorf("%d sidecars, want %d", running, len(all))
		}
	})
}

func TestTwentyCallsOneNamespace(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		s := define(t, engine, dnsmasq)
		n := s.netns()
		var calls sync.WaitGroup
		for range 20 {
			calls.Go(func() {
				if r := s.call(n, n.arguments()...); r.status != 0 {
					t.Errorf("exit status %d\n%s", r.status, r.stderr)
				}
			})
		}
		calls.Wait()
		s.check(n)
		if running := s.running(); running != 1 {
			t.Errorf("%d sidecars, want 1", running)
		}
		must(t, "journalctl", "--sync")
		if starts := must(t, "journalctl", "--quiet", "--output=cat", "--unit="+s.unit(n.name), "--grep=started in"); strings.Count(starts, "started in") != 1 {
			t.Errorf("started more than once:\n%s", starts)
		}
	})
}

// A start that fails says why, within seconds, on the wrapper's stderr: that
// is where Neutron logs from.
func TestFailedStart(t *testing.T) {
	for _, test := range []struct {
		name, engine, text string
		arguments          []string
		stderr             string
		status             int
	}{
		{"bad option", "systemd", dnsmasq, []string{"--no-such-option"}, "bad command line options", 1},
		{"bad option", "podman", dnsmasq, []string{"--no-such-option"}, "bad command line options", 1},
		{"missing command", "systemd", strings.ReplaceAll(dnsmasq, "/usr/sbin/dnsmasq", "/usr/sbin/missing"), nil, "/usr/sbin/missing", 127},
		{"missing command", "podman", strings.ReplaceAll(dnsmasq, "/usr/sbin/dnsmasq", "/usr/sbin/missing"), nil, "/usr/sbin/missing", 127},
		{"missing image", "podman", "# missing image", nil, "localhost/missing", 125},
		{"dies without pid file", "systemd", "cmd = \"/bin/sh -c 'echo oh dear >&2; exit 7' x\"", nil, "oh dear", 7},
		{"dies without pid file", "podman", "cmd = \"/bin/sh -c 'echo oh dear >&2; exit 7' x\"", nil, "oh dear", 7},
		{"bad option", "image", dnsmasq, []string{"--no-such-option"}, "bad command line options", 1},
		{"missing command", "image", strings.ReplaceAll(dnsmasq, "/usr/sbin/dnsmasq", "/usr/sbin/missing"), nil, "/usr/sbin/missing", 127},
		{"missing image", "image", "# missing image", nil, "localhost/missing", 1},
		{"dies without pid file", "image", "cmd = \"/bin/sh -c 'echo oh dear >&2; exit 7' x\"", nil, "oh dear", 7},
		{"bad option", "docker", dnsmasq, []string{"--no-such-option"}, "bad command line options", 1},
		{"missing command", "docker", strings.ReplaceAll(dnsmasq, "/usr/sbin/dnsmasq", "/usr/sbin/missing"), nil, "/usr/sbin/missing", 1},
		{"dies without pid file", "docker", "cmd = \"/bin/sh -c 'echo oh dear >&2; exit 7' x\"", nil, "oh dear", 7},
	} {
		t.Run(test.name+"/"+test.engine, func(t *testing.T) {
			text := test.text
			if test.name == "missing image" {
				engines["missing"] = strings.ReplaceAll(engines[test.engine], "localhost/agent", "localhost/missing")
				defer delete(engines, "missing")
				test.engine, text = "missing", dnsmasq
			}
			s := define(t, test.engine, text)
			n := s.netns()
			r := s.call(n, n.arguments(test.arguments...)...)
			if r.status != test.status {
				t.Errorf("exit status %d, want %d", r.status, test.status)
			}
			if !strings.Contains(r.stderr, test.stderr) || !strings.Contains(r.stderr, s.unit(n.name)) {
				t.Errorf("stderr does not give the reason %q and the unit:\n%s", test.stderr, r.stderr)
			}
			limit := 10 * time.Second
			if test.name == "missing image" {
				limit = waitTime // Podman asks the registry again and again
			}
			if r.took > limit {
				t.Errorf("took %v", r.took)
			}
			if running := s.running(); running != 0 {
				t.Errorf("%d sidecars after a failed start", running)
			}
		})
	}
}

// With log = "file" a sidecar starts, in each way that it can be started, where
// the directory of its log is not there; and what keeps it from starting is told.
func TestLogFile(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		s := define(t, engine, "log = \"file\"\n"+dnsmasq)
		n := s.netns()
		file := "/var/log/containers/stdouts/" + s.name + "-" + n.name + ".log"
		forget := func() {
			t.Helper()
			if err := os.RemoveAll("/var/log/containers"); err != nil {
				t.Fatal(err)
			}
		}
		written := func(after string) {
			t.Helper()
			eventually(t, after+": the output is in "+file, func() bool {
				content, _ := os.ReadFile(file)
				return strings.Contains(string(content), "started, version")
			})
		}
		forget()
		if r := s.call(n, n.arguments("--log-facility=-")...); r.status != 0 {
			t.Fatalf("exit status %d\n%s", r.status, r.stderr)
		}
		written("asked for")
		forget()
		control(t, 0, "restart", s.name, n.name)
		written("started by an operator")
		forget()
		must(t, "systemctl", "restart", s.unit(n.name))
		written("started by systemctl")
		forget()
		pid := n.pid(t)
		must(t, "kill", "-SEGV", strconv.Itoa(pid))
		eventually(t, "it is back", func() bool { now := n.pid(t); return now != pid && alive(now) })
		written("brought back by systemd")

		failing := s.netns()
		if r := s.call(failing, failing.arguments("--no-such-option")...); r.status != 1 {
			t.Errorf("exit status %d\n%s", r.status, r.stderr)
		}
		if engine == "podman" {
			return
		}
		// Nothing that a program can append to.
		file = strings.Replace(file, n.name, failing.name, 1)
		must(t, "rm", file)
		must(t, "mkdir", file)
		if r := s.call(failing, failing.arguments()...); r.status != 209 || !strings.Contains(r.stderr, "is a directory; mend that") {
			t.Errorf("exit status %d\n%s", r.status, r.stderr)
		}
	})
}

// A sidecar that never writes its pid file is stopped when its time is up.
func TestNotReady(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		t.Parallel() // it waits most of the time
		s := define(t, engine, `
cmd = ["/bin/sh", "-c", "sleep 1000", "x"]
[ready]
pid_file = "@DIR@/{uuid}.pid"
timeout = "6s"
`)
		n := s.netns()
		r := s.call(n)
		if r.status == 0 || !strings.Contains(r.stderr, "not ready within 6s") {
			t.Errorf("exit status %d\n%s", r.status, r.stderr)
		}
		if running := s.running(); running != 0 {
			t.Errorf("%d sidecars after a failed start", running)
		}
	})
}

func TestNoPIDFile(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		s := define(t, engine, `cmd = ["/bin/sh", "-c", "sleep 1000", "x"]`)
		n := s.netns()
		if r := s.call(n, "a", "b"); r.status != 0 {
			t.Fatalf("exit status %d\n%s", r.status, r.stderr)
		}
		if running := s.running(); running != 1 {
			t.Errorf("%d sidecars, want 1", running)
		}
		main := show(t, s.unit(n.name), "InvocationID")
		if r := s.call(n, "a", "b"); r.status != 0 {
			t.Fatalf("exit status %d\n%s", r.status, r.stderr)
		}
		if again := show(t, s.unit(n.name), "InvocationID"); again != main {
			t.Error("the same call again replaced the sidecar")
		}
	})
}

// A call that comes while the sidecar's unit is on its way down has it started once.
func TestCallWhileEnding(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	s.dropIn(t, "[Service]\nExecStopPost=/bin/sleep 1\n")
	n := s.netns()
	must(t, "kill", "-9", strconv.Itoa(s.start(n)))
	eventually(t, "the unit is on its way down", func() bool { return show(t, s.unit(n.name), "ActiveState") == "deactivating" })
	s.start(n)
	if log := s.logged(); strings.Contains(log, "is replaced") {
		t.Errorf("it was started twice:\n%s", log)
	}
}

// How long a sidecar without a pid file has lived counts from when its program
// runs. The shim before it is held up for longer than that takes, by what it
// keeps its definition in.
func TestNoPIDFileSlowShim(t *testing.T) {
	for _, engine := range []string{"systemd", "image"} {
		t.Run(engine, func(t *testing.T) {
			s := define(t, engine, `cmd = ["/bin/sh", "-c", "exit 7", "x"]`)
			n := s.netns()
			if r := s.call(n); r.status != 7 { // and has a runtime directory
				t.Fatalf("exit status %d\n%s", r.status, r.stderr)
			}
			fifo := "/run/tripleo-wrappers/" + s.name + "/" + n.name + ".definition"
			if err := os.Remove(fifo); err != nil {
				t.Fatal(err)
			}
			must(t, "mkfifo", fifo)
			read := make(chan error, 1)
			go func() {
				time.Sleep(2 * time.Second) // the shim waits for a reader; settling takes 0.5 s
				_, err := os.ReadFile(fifo)
				read <- err
			}()
			if r := s.call(n); r.status != 7 {
				t.Errorf("exit status %d after %v\n%s", r.status, r.took, r.stderr)
			}
			if err := <-read; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestKillScript(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		s := define(t, engine, dnsmasq)
		n := s.netns()

		pid := s.start(n)
		// dnsmasq says this when it starts and when it is told to reload.
		cleared := func() int {
			of := "--unit=" + s.unit(n.name)
			if engine == "docker" { // /dev/log knows no more than the process
				of = fmt.Sprintf("_PID=%d", pid)
			}
			r := run(t, "journalctl", "--quiet", "--output=cat", of, "--grep=cleared cache")
			return strings.Count(r.stdout, "cleared cache")
		}
		eventually(t, "dnsmasq says that it started", func() bool { return cleared() == 1 })
		if r := s.kill("HUP", pid); r.status != 0 {
			t.Errorf("HUP: exit status %d\n%s", r.status, r.stderr)
		}
		eventually(t, "dnsmasq says that it reloaded", func() bool { return cleared() == 2 })
		if now := s.check(n); now != pid {
			t.Errorf("HUP replaced process %d by %d", pid, now)
		}

		for _, signal := range []string{"15", "9", "KILL", "TERM"} {
			if r := s.kill(signal, pid); r.status != 0 {
				t.Errorf("%s: exit status %d\n%s", signal, r.status, r.stderr)
			}
			s.gone(n, pid)
			pid = s.start(n)
		}

		must(t, "kill", "-9", strconv.Itoa(pid))
		old := pid
		if pid = s.start(n); pid == old {
			t.Error("a start right after a plain kill -9 did nothing")
		}
		must(t, "kill", "-9", strconv.Itoa(pid))
		eventually(t, "the sidecar is gone after a plain kill -9", func() bool {
			return !alive(pid) && show(t, s.unit(n.name), "ActiveState") == "inactive"
		})
		time.Sleep(2 * time.Second) // RestartSec= is 1 s
		s.gone(n, pid)

		for _, signal := range []string{"HUP", "9"} {
			if r := s.kill(signal, pid); r.status != 1 || !strings.Contains(r.stderr, "No such process") {
				t.Errorf("%s to a dead pid: exit status %d\n%s", signal, r.status, r.stderr)
			}
		}
		if r := s.kill("9", os.Getpid()); r.status != 1 || !strings.Contains(r.stderr, "not of a sidecar") {
			t.Errorf("9 to a foreign pid: exit status %d\n%s", r.status, r.stderr)
		}

		pid = s.start(n)
		must(t, "ip", "netns", "del", n.name)
		if r := s.kill("9", pid); r.status != 0 {
			t.Errorf("9 without the namespace: exit status %d\n%s", r.status, r.stderr)
		}
		s.gone(n, pid)
		must(t, "ip", "netns", "add", n.name)
		s.start(n)
	})
}

// A sidecar that takes longer to end than the kill script waits, and then fails,
// was told to end all the same: Neutron finds it gone and sends no other signal.
func TestKillLate(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		t.Parallel() // it waits most of the time
		s := define(t, engine, `cmd = ["/bin/sh", "-c", "trap 'sleep 6; exit 1' TERM; while :; do sleep 0.1; done", "x"]`)
		n := s.netns()
		if r := s.call(n); r.status != 0 {
			t.Fatalf("exit status %d\n%s", r.status, r.stderr)
		}
		pid := s.mainPID(n)
		if r := s.kill("15", pid); r.status != 0 || r.took < 5*time.Second {
			t.Errorf("exit status %d after %v\n%s", r.status, r.took, r.stderr)
		}
		eventually(t, "it has ended", func() bool { return !alive(pid) })
		time.Sleep(2500 * time.Millisecond) // RestartSec= is 1 s
		eventually(t, "it is down", func() bool { return show(t, s.unit(n.name), "ActiveState") == "inactive" })
		s.gone(n, pid)
	})
}

// One that is told to end again has ten seconds more from then on.
func TestKillLateAgain(t *testing.T) {
	s := define(t, "systemd", `cmd = ["/bin/sh", "-c", "trap 'trap : TERM; sleep 18; exit 1' TERM; while :; do sleep 0.1; done", "x"]`)
	n := s.netns()
	if r := s.call(n); r.status != 0 {
		t.Fatalf("exit status %d\n%s", r.status, r.stderr)
	}
	pid := s.mainPID(n)
	for range 2 { // until 5 s, and from 9 s to 14 s
		if r := s.kill("15", pid); r.status != 0 || r.took < 5*time.Second {
			t.Errorf("exit status %d after %v\n%s", r.status, r.took, r.stderr)
		}
		time.Sleep(4 * time.Second)
	}
	eventually(t, "it has ended", func() bool { return !alive(pid) })
	time.Sleep(2500 * time.Millisecond) // RestartSec= is 1 s
	s.gone(n, pid)
}

// A sidecar that dies by itself is brought back.
func TestRestart(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		s := define(t, engine, dnsmasq)
		n := s.netns()
		pid := s.start(n)
		s.crash(n, pid)
		s.check(n)
	})
}

// The activator leaves when it is idle, and the next call brings it back.
func TestIdle(t *testing.T) {
	s := define(t, "systemd", "idle_timeout = \"1s\"\n"+dnsmasq)
	n := s.netns()
	for round := range 3 {
		s.start(n, fmt.Sprintf("--domain=round%d", round))
		eventually(t, "the activator has left", func() bool { return show(t, s.name+".service", "ActiveState") == "inactive" })
		if result := show(t, s.name+".service", "Result"); result != "success" {
			t.Errorf("the activator ended with result %s", result)
		}
	}
}

// One with nothing to do stays for a second, however soon it is to leave: the path
// unit may start the next one at once.
func TestIdleAtOnce(t *testing.T) {
	s := define(t, "systemd", "idle_timeout = \"1ms\"\n"+dnsmasq)
	ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
	unit := s.name + ".service"
	eventually(t, "the activator has left", func() bool { return show(t, unit, "ActiveState") == "inactive" })
	var usec [2]int
	for i, property := range []string{"ActiveEnterTimestampMonotonic", "ActiveExitTimestampMonotonic"} {
		var err error
		if usec[i], err = strconv.Atoi(show(t, unit, property)); err != nil {
			t.Fatal(err)
		}
	}
	if stayed := time.Duration(usec[1]-usec[0]) * time.Microsecond; stayed < time.Second {
		t.Errorf("it has left after %v", stayed)
	}
}

// Nothing wants a sidecar, and yet it goes on when a target is isolated. The target
// wants all that runs besides, which other tests need.
func TestIsolate(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	pid := s.start(n)
	var wanted []string
	for line := range strings.Lines(must(t, "systemctl", "list-units", "--plain", "--no-legend", "--state=active")) {
		if unit := strings.Fields(line)[0]; !strings.HasPrefix(unit, s.name+"@") {
			wanted = append(wanted, unit)
		}
	}
	const target = "isolated.target"
	file := "/run/systemd/system/" + target
	put(t, file, "[Unit]\nAllowIsolate=yes\nWants="+strings.ReplaceAll(strings.Join(wanted, " "), "\\", "\\\\")+"\n")
	t.Cleanup(func() { run(t, "systemctl", "stop", target); os.Remove(file); run(t, "systemctl", "daemon-reload") })
	must(t, "systemctl", "daemon-reload")
	must(t, "systemctl", "isolate", target)
	if now := s.check(n); now != pid {
		t.Errorf("process %d is now %d", pid, now)
	}
}

// An activator that ends while a call waits for a sidecar that another one has
// started leaves both to the next, and does not say that it replaces anything.
func TestEndWhileWaiting(t *testing.T) {
	s := define(t, "systemd", strings.NewReplacer(`"/usr`, `"sleep 20; exec /usr`, "20s", "60s").Replace(dnsmasq))
	n := s.netns()
	done := make(chan result)
	go func() { done <- s.call(n, n.arguments()...) }()
	for round := range 2 {
		eventually(t, "the call waits", func() bool { return strings.Count(s.logged(), "asked for by process") == round+1 })
		must(t, "systemctl", "stop", s.name+".service")
	}
	if r := <-done; r.status != 0 {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	s.check(n)
	if restarts := strings.Count(s.logged(), "is replaced"); restarts > 0 {
		t.Errorf("%d times a sidecar is said to be replaced:\n%s", restarts, s.logged())
	}
}

// A container whose process has ended is no sidecar that runs, however long it
// takes to clear up behind it.
func TestSlowCleanup(t *testing.T) {
	hooks := t.TempDir()
	hook := `{"version": "1.0.0", "hook": {"path": "/bin/sleep", "args": ["sleep", "3"]}, "when": {"always": true}, "stages": ["poststop"]}`
	if err := os.WriteFile(filepath.Join(hooks, "slow.json"), []byte(hook), 0o644); err != nil {
		t.Fatal(err)
	}
	s := define(t, "podman", "cmd = [\"dnsmasq\", \"-k\", \"--no-such-option\"]\ncontainer_options = [\"--hooks-dir="+hooks+"\"]\n")
	n := s.netns()
	r := s.call(n)
	if r.status != 1 {
		t.Errorf("exit status %d, want that of dnsmasq\n%s", r.status, r.stderr)
	}
	mention(t, r, "bad command line options")
	if r.took < 3*time.Second {
		t.Errorf("there was no hook: it took %v", r.took)
	}
}

// A helper writes its pid file before it has done all that can fail: dnsmasq opens
// its log after it. One that ends then was never ready, however long it takes.
func TestEndsAfterPIDFile(t *testing.T) {
	slow := strings.Replace(dnsmasq, `"/usr/sbin/dnsmasq -k"`, `["/bin/sh", "-c", """
for argument; do
    case $argument in --pid-file=*) echo $$ > "${argument#*=}" ;; esac
done
now() { read -r now _ < /proc/uptime; now=${now%.*}${now#*.}; }
now
end=$((now + 25)) # in hundredths of a second; half a second of work would be enough to be ready
while [ $now -lt $end ]; do now; done
exit 3""", "sh"]`, 1)
	for _, engine := range []string{"podman", "systemd", "image", "docker"} {
		t.Run(engine, func(t *testing.T) {
			for text, want := range map[string]string{dnsmasq: "cannot open log", slow: "exit status 3"} {
				s := define(t, engine, text)
				for range 5 {
					n := s.netns()
					r := s.call(n, n.arguments("--log-facility=/not/there")...)
					if r.status != 3 || !strings.Contains(r.stderr, want) {
						t.Errorf("%s\nexit status %d\n%s", text, r.status, r.stderr)
					}
				}
			}
		})
	}
}

// A helper that leaves the foreground takes its container with it, which the
// caller is told, also where that takes a while and a pid file names a process
// that is there.
// keepalived has two pid files, and it is the second one's process that fails.
func TestEndsAfterSecondPIDFile(t *testing.T) {
	for _, engine := range []string{"systemd", "podman"} {
		t.Run(engine, func(t *testing.T) {
			s := define(t, engine, `
cmd = ["/usr/sbin/keepalived", "-n", "-l", "-D"]
[ready]
pid_file_option = ["-p", "-r"]
timeout = "20s"
`)
			file := filepath.Join(s.dir, "keepalived.conf")
			var addresses strings.Builder // many take it some time to read
			for i := range 5000 {
				fmt.Fprintf(&addresses, "10.%d.%d.1/24 dev lo\n", i/250, i%250) // one that is there: nothing is logged of them
			}
			put(t, file, strings.NewReplacer("@VIPS@", addresses.String(), "interface tap", "interface away").Replace(keepalivedRouter))
			for range 10 {
				n := s.netns()
				r := s.call(n, "-P", "-f", file, "-p", n.pidFile, "-r", n.pidFile+"-vrrp")
				if r.status == 0 || !strings.Contains(r.stderr, "away") {
					t.Errorf("exit status %d\n%s", r.status, r.stderr)
				}
			}
		})
	}
}

// Why a sidecar ended is known once its unit is down, which may take a while.
func TestEndsSlowly(t *testing.T) {
	for _, engine := range []string{"podman", "systemd", "image", "docker"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			s := define(t, engine, `cmd = ["/bin/sh", "-c", "exit 0", "x"]`)
			s.dropIn(t, "[Service]\nExecStopPost=/bin/sleep 1\n")
			for range 5 {
				if r := s.call(s.netns()); r.status != 1 || !strings.Contains(r.stderr, "with exit status 0 unless") {
					t.Errorf("exit status %d\n%s", r.status, r.stderr)
				}
			}
		})
	}
}

func TestLeavesForeground(t *testing.T) {
	background := strings.Replace(dnsmasq, "dnsmasq -k", "dnsmasq", 1)
	late := strings.Replace(dnsmasq, `"/usr/sbin/dnsmasq -k"`, `["/bin/sh", "-c", "sleep 1; dnsmasq \"$@\"; sleep 0.1", "sh"]`, 1)
	for _, engine := range []string{"podman", "systemd", "image"} {
		t.Run(engine, func(t *testing.T) {
			for text, calls := range map[string]int{background: 5, late: 1} {
				s := define(t, engine, text)
				for range calls {
					n := s.netns()
					r := s.call(n, n.arguments()...)
					if r.status != 1 || !strings.Contains(r.stderr, "with exit status 0 unless") ||
						!strings.Contains(r.stderr, "cmd has to keep it in the foreground") {
						t.Errorf("%s\nexit status %d\n%s", text, r.status, r.stderr)
					}
				}
			}
		})
	}
}
