// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// joining defines a service whose sidecars join those of another one.
func joining(t testing.TB, other *service, text string) *service {
	t.Helper()
	const engine = "join"
	engines[engine] = fmt.Sprintf("join = %q", other.name)
	defer delete(engines, engine)
	return define(t, engine, text)
}

// obey is the rest of a definition of a sidecar that does what it is told to.
const obey = `cmd = ["/bin/sh", "-c", "eval \"$1\"; exec sleep 1000", "x"]`

// active says whether the sidecar in a network namespace is up.
func (s *service) active(n *netns) bool {
	s.t.Helper()
	return show(s.t, s.unit(n.name), "ActiveState") == "active"
}

// pid returns the process that a pid file names.
func pid(t testing.TB, file string) int {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// status returns a line of /proc/PID/status.
func status(t testing.TB, pid int, name string) string {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(string(content), "\n"+name+":")
	value, _, _ = strings.Cut(value, "\n")
	return strings.TrimSpace(value)
}

// A sidecar that joins another one has what that one has, and is a unit of its
// own nevertheless.
func TestJoin(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		other := define(t, engine, dnsmasq)
		s := joining(t, other, obey)
		n := other.netns()
		host := other.start(n)

		// Both see the same directory, whatever else the other one sees.
		shared := filepath.Join(other.dir, "told")
		script := fmt.Sprintf("cat /proc/$$/environ | tr '\\0' '\\n' >%[1]s.env; ls / >%[1]s.ls; echo in the journal >&2", shared)
		r := s.call(n, script)
		if r.status != 0 || r.stderr != "" {
			t.Fatalf("exit status %d\n%s", r.status, r.stderr)
		}
		main := s.mainPID(n)
		for _, namespace := range []string{"mnt", "ipc", "uts", "net", "pid"} {
			got, want := fmt.Sprintf("/proc/%d/ns/%s", main, namespace), fmt.Sprintf("/proc/%d/ns/%s", host, namespace)
			if inode(t, got) != inode(t, want) {
				t.Errorf("its %s namespace is another", namespace)
			}
		}
		if got, want := must(t, "cat", shared+".ls"), must(t, "ls", fmt.Sprintf("/proc/%d/root/", host)); got != want {
			t.Errorf("it sees another root directory:\n%s\nwant\n%s", got, want)
		}
		if got, want := status(t, main, "CapBnd"), status(t, host, "CapBnd"); got != want {
			t.Errorf("its capabilities are %s, want %s", got, want)
		}
		if got, want := status(t, main, "NoNewPrivs"), status(t, host, "NoNewPrivs"); got != want {
			t.Errorf("NoNewPrivs is %s, want %s", got, want)
		}
		environ := strings.Split(must(t, "cat", shared+".env"), "\n")
		for _, variable := range list(t, host, "environ") {
			if strings.HasPrefix(variable, "PATH=") && !contains(environ, variable) {
				t.Errorf("its %s is not in %q", variable, environ)
			}
		}
		if !contains(environ, "PROCESS_TAG=dnsmasq-"+n.name) || strings.Contains(strings.Join(environ, "\n"), "NOTIFY_SOCKET") {
			t.Errorf("environment %q", environ)
		}
		if unit := unitOf(t, main); unit != s.unit(n.name) {
			t.Errorf("process %d is of unit %q", main, unit)
		}
		eventually(t, "its journal has what it wrote", func() bool {
			return strings.Contains(must(t, "journalctl", "--output=cat", "--unit="+s.unit(n.name)), "in the journal")
		})
		if r := s.call(n, script); r.status != 0 || s.mainPID(n) != main {
			t.Errorf("the same call again: exit status %d, process %d, want %d\n%s", r.status, s.mainPID(n), main, r.stderr)
		}

		if out := must(t, "tripleo-wrapperctl", "list", s.name); !strings.Contains(out, "in the sidecars of "+other.name) || !strings.Contains(out, "running") {
			t.Errorf("list does not show it:\n%s", out)
		}

		// The one that joins ends, and the other does not.
		if r := s.kill("9", main); r.status != 0 {
			t.Fatalf("kill script: exit status %d\n%s", r.status, r.stderr)
		}
		s.gone(n, main)
		if !alive(host) || !other.active(n) {
			t.Fatal("the other sidecar has ended with it")
		}
		if r := s.call(n, script); r.status != 0 {
			t.Fatalf("exit status %d\n%s", r.status, r.stderr)
		}
		main = s.mainPID(n)
		// It is brought back by itself if it fails, without the other.
		must(t, "kill", "-SEGV", fmt.Sprint(main))
		eventually(t, "it is back", func() bool { return s.active(n) && s.mainPID(n) != main })

		// The other ends, and so does the one that joins.
		main = s.mainPID(n)
		must(t, "kill", "-9", fmt.Sprint(host))
		eventually(t, "both have ended", func() bool {
			return show(t, other.unit(n.name), "ActiveState") == "inactive" && show(t, s.unit(n.name), "ActiveState") == "inactive"
		})
		s.gone(n, main)

		// It is asked for too early.
		r = s.call(n, script)
		if r.status != 0 || !strings.Contains(r.stderr, "joins the sidecar of "+other.name) || !strings.Contains(r.stderr, "is spooled") {
			t.Errorf("exit status %d\n%s", r.status, r.stderr)
		}
		if r := run(t, "tripleo-wrapperctl", "start", s.name, n.name); r.status == 0 || !strings.Contains(r.stderr, "joins the sidecar of "+other.name) {
			t.Errorf("an operator's start: exit status %d\n%s%s", r.status, r.stdout, r.stderr)
		}
		if show(t, other.unit(n.name), "ActiveState") != "inactive" {
			t.Error("the other one was started for it")
		}
		other.start(n)
		eventually(t, "it has been started from the spool", func() bool { return s.active(n) })

		// The other one is replaced.
		main = s.mainPID(n)
		other.start(n, "--domain=other")
		if alive(main) || s.active(n) {
			t.Error("it has outlived the one that it joined")
		}
		if r := s.call(n, script); r.status != 0 || r.stderr != "" {
			t.Fatalf("exit status %d\n%s", r.status, r.stderr)
		}
		// The other one fails, and is brought back by systemd.
		main = s.mainPID(n)
		must(t, "kill", "-SEGV", fmt.Sprint(other.mainPID(n)))
		eventually(t, "the other one is back", func() bool { return show(t, other.unit(n.name), "NRestarts") == "1" && other.active(n) })
		s.gone(n, main)

		// The other one is in a namespace that is gone: it does not run here.
		must(t, "ip", "netns", "del", n.name)
		must(t, "ip", "netns", "add", n.name)
		r = s.call(n, script)
		if r.status != 0 || !strings.Contains(r.stderr, "joins the sidecar of "+other.name) || !strings.Contains(r.stderr, "is spooled") {
			t.Errorf("beside an orphan: exit status %d\n%s", r.status, r.stderr)
		}
		other.start(n)
		eventually(t, "it has been started from the spool", func() bool { return s.active(n) })
	})
}
