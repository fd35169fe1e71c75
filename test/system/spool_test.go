// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// away stops the activation socket, and the target that would bring it back,
// until the test is over. The path unit stays.
func (s *service) away() {
	s.t.Helper()
	must(s.t, "systemctl", "stop", "tripleo-wrappers.target")
	s.t.Cleanup(func() { run(s.t, "systemctl", "start", "tripleo-wrappers.target") })
	must(s.t, "systemctl", "stop", s.name+".socket", s.name+".service")
	must(s.t, "systemctl", "start", s.name+".path")
}

// notThere says whether a file is not there.
func notThere(name string) bool {
	_, err := os.Lstat(name)
	return errors.Is(err, os.ErrNotExist)
}

// What an activator took and did not get to is served by the next one, which the path
// unit starts for it.
func TestSpoolLeft(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	s.away()
	for i := range 4 {
		must(t, "systemctl", "stop", s.name+".service")
		s.spoolsAs(fmt.Sprintf("processes.taken-%d", i))
	}
}

func TestSpool(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		s := define(t, engine, dnsmasq)
		n := s.netns()
		s.away()
		r := s.call(n, n.arguments("--txt-record=a b,\n'\"")...)
		if r.status != 0 {
			t.Fatalf("exit status %d\n%s", r.status, r.stderr)
		}
		if !strings.Contains(r.stderr, "spooled") {
			t.Errorf("the wrapper does not say that it spooled the request:\n%s", r.stderr)
		}
		s.check(n, "--txt-record=a b,\n'\"")
		eventually(t, "the spool is gone", func() bool { return notThere(s.state("processes")) })
	})
}

// Without the path unit there is nobody to serve the spool: the wrapper says
// so, and the request is served when the path unit is back.
func TestSpoolWaits(t *testing.T) {
	s := define(t, "systemd", strings.Replace(dnsmasq, `timeout = "20s"`, `timeout = "2s"`, 1))
	n := s.netns()
	s.away()
	must(t, "systemctl", "stop", s.name+".path")
	r := s.call(n, n.arguments()...)
	if r.status != 1 || !strings.Contains(r.stderr, "still spooled") {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	must(t, "systemctl", "start", s.name+".path")
	n.pid(t) // waits for it
	eventually(t, "the sidecar is up", func() bool { return s.running() == 1 })
	s.check(n)
}

// A kill script waits for a socket that is being restarted.
func TestKillWaits(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	pid := s.start(n)
	s.away()
	var kill sync.WaitGroup
	kill.Go(func() {
		if r := s.kill("9", pid); r.status != 0 {
			t.Errorf("exit status %d\n%s", r.status, r.stderr)
		}
	})
	time.Sleep(time.Second)
	must(t, "systemctl", "start", "tripleo-wrappers.target")
	kill.Wait()
	s.gone(n, pid)

	pid = s.start(n)
	s.away()
	if r := s.kill("9", pid); r.status != 1 || !strings.Contains(r.stderr, "connection refused") {
		t.Errorf("without a socket: exit status %d\n%s", r.status, r.stderr)
	}
	s.check(n)
}

// The lines of the role's shell wrapper, which knows no lock of ours.
func TestRoleSpool(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		s := define(t, engine, dnsmasq)
		var all []*netns
		for range 5 {
			n := s.netns()
			all = append(all, n)
			script := fmt.Sprintf("echo '%s %s' >> %s; date > %s", n.name, strings.Join(n.arguments(), " "),
				s.state("processes"), s.state("processes-timestamp"))
			must(t, "sh", "-c", script)
		}
		for _, n := range all {
			s.checkOwner(n, n.pid(t))
		}
		eventually(t, "all sidecars are up", func() bool { return s.running() == len(all) })
	})
}

// A shell that has the spool open when it is taken away appends to what was taken.
func TestLateWrite(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	// A shell writes a long line in pieces. The spool may be taken between them.
	for _, pieces := range []int{1, 2} {
		s.appendLate(t, pieces)
	}
}

// appendLate appends a line to a spool that has been taken, or the second half of
// one whose first half was there.
func (s *service) appendLate(t *testing.T, pieces int) {
	line := func(n *netns) string { return n.name + " " + strings.Join(n.arguments(), " ") + "\n" }
	for try := 0; ; try++ {
		first, late := s.netns(), s.netns()
		half := len(line(late)) / 2 * (pieces - 1)
		spool, err := os.OpenFile(s.state("processes"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer spool.Close()
		if _, err := spool.WriteString(line(first) + line(late)[:half]); err != nil {
			t.Fatal(err)
		}
		var taken time.Time // or a moment before it
		for deadline := time.Now().Add(10 * time.Second); !notThere(s.state("processes")) && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			taken = time.Now()
		}
		first.pid(t)
		time.Sleep(200 * time.Millisecond)
		if _, err := spool.WriteString(line(late)[half:]); err != nil {
			t.Fatal(err)
		}
		if time.Since(taken) > 450*time.Millisecond && try < 5 {
			continue // it is this test that was held up
		}
		pid, want := late.pid(t), late.arguments()
		s.checkOwner(late, pid)
		if got := cmdline(t, pid); len(got) < len(want) || !equal(got[len(got)-len(want):], want) {
			t.Errorf("in %d pieces: %q, want %q at its end", pieces, got, want)
		}
		return
	}
}

// What cannot be served is kept with the reason, and what stands in the way of
// the spool is put away.
func TestBadSpool(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n, cut := s.netns(), s.netns()
	// A disk that was full has cut the last one short.
	spool := "{not json\n" + "../../etc --x\n" + "qdhcp-never-there --x\n" + n.name + " " + strings.Join(n.arguments(), " ") + "\n" + cut.name + " --dhcp-range=set"
	if err := os.WriteFile(s.state("processes"), []byte(spool), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the good line is served", func() bool { return s.running() == 1 })
	eventually(t, "the bad lines are kept", func() bool {
		failed, _ := os.ReadFile(s.state("processes.failed"))
		return strings.Contains(string(failed), "{not json\n") && strings.Contains(string(failed), `"netns":"../../etc"`) &&
			strings.Contains(string(failed), "it is cut short\n"+cut.name+" --dhcp-range=set\n")
	})
	must(t, "journalctl", "--sync")
	if gone := must(t, "journalctl", "--output=cat", "--quiet", "SERVICE="+s.name, "NETNS=qdhcp-never-there"); !strings.Contains(gone, "its network namespace is gone") {
		t.Errorf("no line about the request whose namespace is gone: %q", gone)
	}

	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(n.name+" --x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func() error{
		"link":      func() error { return os.Symlink(secret, s.state("processes")) },
		"directory": func() error { return os.Mkdir(s.state("processes"), 0o755) },
		"fifo":      func() error { return exec.Command("mkfifo", s.state("processes")).Run() },
	} {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" is put away", func() bool { return notThere(s.state("processes")) })
	}
	s.rejected(t, 3)
	if content, err := os.ReadFile(secret); err != nil || string(content) != n.name+" --x\n" {
		t.Errorf("what the link points at changed: %q, %v", content, err)
	}
	if running := s.running(); running != 1 {
		t.Errorf("%d sidecars, want 1", running)
	}
}

// Where a request that is given up cannot be kept, the spool waits, without a
// storm of tries and messages.
func TestFailedCannotBeKept(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	if err := os.Mkdir(s.state("processes.failed"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.state("processes"), []byte("{not json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	complaints := func() int {
		out := must(t, "journalctl", "--quiet", "--output=cat", "SERVICE="+s.name)
		return strings.Count(out, "spooled requests have to wait")
	}
	eventually(t, "the activator complains", func() bool { return complaints() > 0 })
	n := s.netns()
	s.start(n) // others are served
	time.Sleep(3 * time.Second)
	if n := complaints(); n != 1 {
		t.Errorf("%d complaints, want 1", n)
	}
	if err := os.Remove(s.state("processes.failed")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the request is kept", func() bool {
		failed, _ := os.ReadFile(s.state("processes.failed"))
		return strings.Contains(string(failed), "{not json")
	})
	eventually(t, "the spool is gone", func() bool { return notThere(s.state("processes.taken-0")) })
}

// A sidecar whose namespace is gone is stopped, and nothing is kept of it.
func TestOrphan(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		s := define(t, engine, "idle_timeout = \"1s\"\n"+dnsmasq)
		n, other := s.netns(), s.netns()
		pid := s.start(n)
		s.start(other)
		must(t, "ip", "netns", "del", n.name)
		eventually(t, "the activator has left", func() bool { return show(t, s.name+".service", "ActiveState") == "inactive" })
		s.start(other) // any call brings the activator back, and it looks around
		eventually(t, "the orphan is stopped", func() bool { return show(t, s.unit(n.name), "ActiveState") == "inactive" })
		s.gone(n, pid)
		s.check(other)
		eventually(t, "its arguments are forgotten", func() bool {
			kept, _ := filepath.Glob("/run/tripleo-wrappers/" + s.name + "/" + n.name + ".*")
			return len(kept) == 0
		})
		must(t, "ip", "netns", "add", n.name)
	})
}

// A spooled request that fails is tried again, also by the next activator, and
// is put away with the reason when it fails to the last.
func TestSpoolRetries(t *testing.T) {
	s := define(t, "systemd", `
cmd = '''for a; do case $a in --pid-file=*) d=${a#*=} ;; esac; done; [ -e "${d%/*}/ok" ] || exit 3; exec /usr/sbin/dnsmasq -k'''
[ready]
pid_file_option = ["--pid-file"]
timeout = "1s"
`)
	must(t, "systemctl", "stop", "tripleo-wrappers.target")
	eventually(t, "the socket is away", func() bool { return show(t, s.name+".socket", "ActiveState") == "inactive" })
	ours, role, never := s.netns(), s.netns(), s.netns()
	var calls sync.WaitGroup
	for _, n := range []*netns{ours, never} {
		calls.Go(func() {
			if r := s.call(n, n.arguments()...); r.status == 0 {
				t.Errorf("%s: exit status 0 without a pid file", n.name)
			}
		})
	}
	calls.Wait()
	spool, err := os.OpenFile(s.state("processes"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(spool, role.name, strings.Join(role.arguments(), " "))
	if err := spool.Close(); err != nil {
		t.Fatal(err)
	}
	must(t, "systemctl", "start", "tripleo-wrappers.target")
	tries := func(n *netns) int {
		log := must(t, "journalctl", "--quiet", "--output=cat", "SERVICE="+s.name, "NETNS="+n.name)
		return strings.Count(log, "did not start in network namespace")
	}
	eventually(t, "each was tried once", func() bool { return tries(ours) > 0 && tries(role) > 0 && tries(never) > 0 })
	must(t, "systemctl", "kill", "--signal=KILL", s.name+".service")
	for _, n := range []*netns{ours, role} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(n.pidFile), "ok"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []*netns{ours, role} {
		eventually(t, n.name+" runs", func() bool { return show(t, s.unit(n.name), "ActiveState") == "active" && !notThere(n.pidFile) })
	}
	var failed string
	for deadline := time.Now().Add(90 * time.Second); failed == "" && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		content, _ := os.ReadFile(s.state("processes.failed"))
		failed = string(content)
	}
	if strings.Count(failed, "\n") != 2 || !strings.Contains(failed, "did not start") || !strings.Contains(failed, `"netns":"`+never.name+`"`) {
		t.Errorf("processes.failed: %q", failed)
	}
	if n := tries(never); n < 6 {
		t.Errorf("%d tries, want 6 at least", n)
	}
	mention(t, control(t, 3, "status", s.name, never.name), "gave up a spooled request", s.state("processes.failed"))
	eventually(t, "the spool is put away", func() bool { return notThere(s.state("processes.taken-0")) })

	// One that was served and whose sidecar was then killed on purpose stays
	// dead, though an activator finds the spool again.
	content, err := os.ReadFile(ours.pidFile)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	fmt.Sscan(string(content), &pid)
	id := requestID(t, s, ours)
	if r := s.kill("9", pid); r.status != 0 {
		t.Fatal(r.stderr)
	}
	line, err := json.Marshal(map[string]any{"time": 1, "netns": ours.name, "id": id, "arguments": ours.arguments()})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.state("processes"), append(line, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the request is dropped", func() bool {
		return strings.Contains(must(t, "journalctl", "--quiet", "--output=cat", "REQUEST_ID="+id), "it has been served already")
	})
	if log := must(t, "journalctl", "--quiet", "--output=cat", "REQUEST_ID="+id, "RESULT=failed"); strings.Contains(log, "served already") {
		t.Errorf("that it was served passes for a failure: %s", log)
	}
	s.gone(ours, pid)
}

// A request that found its sidecar running counts as well as one that started it:
// what was spooled before it does not replace the sidecar any more.
func TestSpoolBehindRunning(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	s.start(n)
	spooled := time.Now().UnixMicro()
	pid := s.start(n) // runs already
	const id = "0123456789abcdef0123456789abcdef"
	line, err := json.Marshal(map[string]any{"time": spooled, "netns": n.name, "id": id, "arguments": n.arguments("--txt-record=late")})
	if err != nil {
		t.Fatal(err)
	}
	spoolFor(t, s, string(line)+"\n")
	eventually(t, "the request is dropped", func() bool {
		return strings.Contains(must(t, "journalctl", "--quiet", "--output=cat", "REQUEST_ID="+id), "a later request has been served already")
	})
	if now := s.check(n); now != pid {
		t.Errorf("the sidecar was process %d, and is %d", pid, now)
	}
}

// requestID returns the id of the request that a sidecar was started for.
func requestID(t testing.TB, s *service, n *netns) string {
	t.Helper()
	for _, variable := range strings.Split(must(t, "cat", "/run/tripleo-wrappers/"+s.name+"/"+n.name+".env"), "\x00") {
		if id, ok := strings.CutPrefix(variable, "TRIPLEO_WRAPPERS_REQUEST="); ok {
			return id
		}
	}
	t.Fatalf("no request is on record for %s", n.name)
	return ""
}
