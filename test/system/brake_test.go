// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// spools leaves a request in a service's spool, and waits until it is served.
func (s *service) spools() {
	s.t.Helper()
	s.spoolsAs("processes")
}

// spoolsAs does so with a spool of another name.
func (s *service) spoolsAs(name string) {
	s.t.Helper()
	n := s.netns()
	file := filepath.Join(s.dir, "spooled")
	content := n.name + " " + strings.Join(n.arguments(), " ") + "\n"
	if err := errors.Join(os.WriteFile(file, []byte(content), 0o600), os.Rename(file, s.state(name))); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, "what is spooled in "+name+" is served", func() bool { return !notThere(n.pidFile) })
}

// While a socket cannot be made, the spool is served. systemd makes no socket whose
// service is up, and yet it has to come back when what kept it is gone, by an
// operator's hand or without, and whatever is spooled meanwhile.
func TestSocketComesBack(t *testing.T) {
	s := define(t, "systemd", "idle_timeout = \"1h\"\n"+dnsmasq)
	wrapper := s.state("wrapper")
	broken := func() {
		t.Helper()
		if err := errors.Join(os.Remove(wrapper), os.Mkdir(wrapper, 0o755)); err != nil {
			t.Fatal(err)
		}
		if r := run(t, "systemctl", "restart", s.name+".socket"); r.status == 0 {
			t.Fatal("the socket is made all the same")
		}
		s.spools()
		if state := show(t, s.name+".service", "ActiveState"); state != "active" {
			t.Fatalf("the activator that served it is %s already, so nothing is tried", state)
		}
		if err := os.Remove(wrapper); err != nil {
			t.Fatal(err)
		}
	}
	broken()
	must(t, "systemctl", "restart", s.name+".socket")
	s.start(s.netns())

	broken()
	for began := time.Now(); show(t, s.name+".socket", "ActiveState") != "active"; time.Sleep(time.Second) {
		if time.Since(began) > waitTime {
			t.Fatal("the socket does not come back")
		}
		s.spools()
	}
	s.start(s.netns())
}

// An activator that cannot be started is not tried at full speed, even if it is its
// sandbox that cannot be made, in which no command of the unit runs.
func TestSandboxFails(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	dropInto(t, s.name+".service", "[Service]\nInaccessiblePaths=/no/such/file\n")
	began := time.Now()
	// It is the same call as the next: what it has left in the socket may be served first.
	r := run(t, append([]string{"timeout", "5", "ip", "netns", "exec", n.name, "env", "PROCESS_TAG=dnsmasq-" + n.name,
		s.state("wrapper")}, n.arguments()...)...)
	if r.status != 124 {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	run(t, "journalctl", "--sync")
	tried := strings.Count(must(t, "journalctl", "--no-pager", "--output=cat", "--unit="+s.name+".service"), "status=226/NAMESPACE")
	if most := int(time.Since(began) / (100 * time.Millisecond)); tried == 0 || tried > most {
		t.Errorf("it was tried %d times in %v, want 1 to %d", tried, time.Since(began), most)
	}
	if err := os.RemoveAll("/run/systemd/system/" + s.name + ".service.d"); err != nil {
		t.Fatal(err)
	}
	must(t, "systemctl", "daemon-reload")
	s.start(n)
}

// An agent's container may have a service_dir mounted that is not in its place any
// more.
func TestServiceDirAway(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	away := s.dir + ".away"
	if err := os.Rename(s.dir, away); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(away) })
	reply, name := tell(t, n.name, filepath.Join(away, s.name, "activator.sock"), "Start", `{"arguments":["--pid-file=`+n.pidFile+`"]}`)
	refuses(t, "StartFailed", reply, name)
	if err := os.Rename(away, s.dir); err != nil {
		t.Fatal(err)
	}
	s.start(n)
	must(t, "systemctl", "stop", s.name+".service") // it saw the directory as it was when it started
	s.spools()
}
