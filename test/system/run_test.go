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
)

// commanded is the rest of a definition of a sidecar that lives until it is
// killed, and whose control commands do what they are told to.
const commanded = `
cmd = ["/bin/sh", "-c", "if [ \"$1\" = --do ]; then shift; eval \"$1\"; exit; fi; case \"$*\" in *a\\ b*) echo \"$*\"; exit;; esac; exec sleep 1000", "100%i $HOME"]
run = [["--do"], ["a", "b"]]
`

// leftOvers returns the units and files of control commands.
func (s *service) leftOvers() string {
	s.t.Helper()
	files, err := filepath.Glob("/run/tripleo-wrappers/" + s.name + "/*.run-*")
	if err != nil {
		s.t.Fatal(err)
	}
	return must(s.t, "systemctl", "list-units", "--all", "--plain", "--no-legend", s.name+"-run-*") + strings.Join(files, " ")
}

func TestRun(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		s := define(t, engine, commanded)
		n := s.netns()
		if r := s.call(n, "--do", "echo hello"); r.status != 1 || !strings.Contains(r.stderr, "no sidecar of "+s.name+" runs in network namespace "+n.name) {
			t.Errorf("without a sidecar: exit status %d\n%s%s", r.status, r.stdout, r.stderr)
		}
		if r := s.call(n); r.status != 0 {
			t.Fatalf("exit status %d\n%s", r.status, r.stderr)
		}
		main := s.mainPID(n)

		r := s.call(n, "--do", `printf 'out\0\377\n\n'; printf 'err\033[0m' >&2; exit 37`)
		if r.status != 37 || r.stdout != "out\x00\xff\n\n" || r.stderr != "err\x1b[0m" {
			t.Errorf("exit status %d, stdout %q, stderr %q", r.status, r.stdout, r.stderr)
		}
		if r := s.call(n, "--do", "kill -9 $$"); r.status != 137 || r.stdout+r.stderr != "" {
			t.Errorf("killed: exit status %d\n%s%s", r.status, r.stdout, r.stderr)
		}
		if r := s.call(n, "--do", "true"); r.status != 0 || r.stdout+r.stderr != "" {
			t.Errorf("nothing written: exit status %d\n%s%s", r.status, r.stdout, r.stderr)
		}
		// Where it is.
		r = s.call(n, "--do", `readlink /proc/self/ns/mnt; readlink /proc/self/ns/net; echo "$0"; echo "$PROCESS_TAG"; grep ^0:: /proc/self/cgroup; echo $#`)
		lines := strings.Split(r.stdout, "\n")
		link := func(namespace string) string {
			return must(t, "readlink", fmt.Sprintf("/proc/%d/ns/%s", main, namespace))
		}
		if r.status != 0 || len(lines) != 7 || lines[0] != link("mnt") || lines[1] != link("net") || lines[2] != "100%i $HOME" ||
			lines[3] != "dnsmasq-"+n.name ||
			!strings.Contains(lines[4], "/"+s.name+"-run-"+n.name+"-") || lines[5] != "1" {
			t.Errorf("exit status %d, %q\n%s", r.status, lines, r.stderr)
		}
		// The other list, in the middle, and what looks like options.
		if r := s.call(n, "--", "--help", "a", "b", "-x"); r.status != 0 || r.stdout != "-- --help a b -x\n" {
			t.Errorf("exit status %d, %q\n%s", r.status, r.stdout, r.stderr)
		}
		if got := s.mainPID(n); got != main {
			t.Errorf("the sidecar was replaced: process %d, was %d", got, main)
		}
		if left := s.leftOvers(); left != "" {
			t.Errorf("left over: %s", left)
		}
	})
}

// A control command may be what starts the activator, which clears up behind one
// before it that died.
func TestRunOfColdActivator(t *testing.T) {
	s := define(t, "systemd", commanded)
	n := s.netns()
	if r := s.call(n); r.status != 0 {
		t.Fatalf("exit status %d\n%s", r.status, r.stderr)
	}
	dir := "/run/tripleo-wrappers/" + s.name
	for i := range 30000 { // more than there will be, so that it takes its time on any machine
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("qrouter-%d.record", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		must(t, "systemctl", "stop", s.name+".service")
		if err := os.WriteFile(filepath.Join(dir, "of-old.run-args"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if r := s.call(n, "--do", "echo hello"); r.status != 0 || r.stdout != "hello\n" {
			t.Errorf("exit status %d, %q\n%s", r.status, r.stdout, r.stderr)
		}
		if left := s.leftOvers(); left != "" {
			t.Errorf("left over: %s", left)
		}
	}
}

// Neutron calls some control commands outside of the router's network namespace.
func TestRunFromOutside(t *testing.T) {
	s := define(t, "systemd", commanded)
	a, b := s.netns(), s.netns()
	for i, n := range []*netns{a, b} {
		if r := s.call(n, "-d", "-C", fmt.Sprintf("/conf%d", i), "-x"); r.status != 0 {
			t.Fatalf("exit status %d\n%s", r.status, r.stderr)
		}
	}
	if r := run(t, s.state("wrapper"), "-C", "/conf1", "a", "b"); r.status != 0 || r.stdout != "-C /conf1 a b\n" {
		t.Errorf("exit status %d, %q\n%s", r.status, r.stdout, r.stderr)
	}
	must(t, "journalctl", "--sync")
	journal := must(t, "journalctl", "--output=cat", "SERVICE="+s.name, "RESULT=ran")
	if !strings.Contains(journal, b.name) || strings.Contains(journal, a.name) {
		t.Errorf("it was run in another sidecar:\n%s", journal)
	}
	for _, test := range []struct {
		arguments []string
		found     int
	}{{[]string{"-C", "/conf2"}, 0}, {[]string{"-C"}, 2}} {
		r := run(t, append([]string{s.state("wrapper"), "a", "b"}, test.arguments...)...)
		if want := fmt.Sprintf("%d running sidecars", test.found); r.status != 1 || !strings.Contains(r.stderr, want) {
			t.Errorf("%q: exit status %d, want %q\n%s", test.arguments, r.status, want, r.stderr)
		}
	}
}

// What a control command may cost is bounded, and another one has nothing to do
// with it.
func TestRunHostile(t *testing.T) {
	s := define(t, "systemd", commanded+"[ready]\ntimeout = \"10s\"\n")
	n := s.netns()
	if r := s.call(n); r.status != 0 {
		t.Fatalf("exit status %d\n%s", r.status, r.stderr)
	}
	main := s.mainPID(n)
	many := make([]string, 100000)
	for i := range many {
		many[i] = strconv.Itoa(i % 10)
	}
	tests := []struct {
		name      string
		arguments []string
		status    int
		stderr    string
		stdout    int
	}{
		{"10 MB", []string{"--do", "head -c 10000000 /dev/zero"}, 1, "wrote too much: more than 256 KiB to its standard output", 0},
		{"10 MB of errors", []string{"--do", "head -c 10000000 /dev/zero >&2"}, 1, "wrote too much: more than 256 KiB to its standard error", 0},
		{"as much as it may write", []string{"--do", "head -c 262144 /dev/zero"}, 0, "", 262144},
		{"never ends", []string{"--do", "sleep 1000"}, 1, "it had not ended after 10s, ready.timeout", 0},
		{"leaves something behind", []string{"--do", "sleep 1000 & echo done"}, 0, "", 5},
		{"100,000 arguments", append([]string{"--do", "echo $#"}, many...), 0, "", 7},
		{"options", []string{"--do", "echo", "--args=/etc/shadow", "--", "--join=x", "-"}, 0, "", 1},
	}
	var calls sync.WaitGroup
	for _, test := range tests {
		calls.Go(func() {
			r := s.call(n, test.arguments...)
			if r.status != test.status || len(r.stdout) != test.stdout || !strings.Contains(r.stderr, test.stderr) || test.stderr == "" && r.stderr != "" {
				t.Errorf("%s: exit status %d, %d bytes of stdout\n%s", test.name, r.status, len(r.stdout), r.stderr)
			}
		})
	}
	for i := range 40 {
		calls.Go(func() {
			text := fmt.Sprint("to be told apart ", i)
			if r := s.call(n, "--do", "echo "+text); r.status != 0 || r.stdout != text+"\n" {
				t.Errorf("exit status %d, %q\n%s", r.status, r.stdout, r.stderr)
			}
		})
	}
	// A start of another sidecar meanwhile.
	other := s.netns()
	if r := s.call(other); r.status != 0 {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	calls.Wait()
	if got := s.mainPID(n); got != main {
		t.Errorf("the sidecar was replaced: process %d, was %d", got, main)
	}
	if left := s.leftOvers(); left != "" {
		t.Errorf("left over: %s", left)
	}
}

// A control command is never spooled, and never starts a sidecar.
func TestRunIsNoStart(t *testing.T) {
	s := define(t, "systemd", commanded+"[ready]\ntimeout = \"2s\"\n")
	n := s.netns()
	// A wrapper that is older than the definition.
	script, err := os.ReadFile(s.state("wrapper"))
	if err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(s.dir, "old")
	var words []string
	for _, word := range strings.Fields(string(script)) {
		if !strings.Contains(word, "--run=") && !strings.HasPrefix(word, `"b"`) {
			words = append(words, word)
		}
	}
	text := strings.Replace(strings.Join(words, " "), "#!/bin/sh ", "#!/bin/sh\n", 1)
	if err := os.WriteFile(old, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if r := s.callFile(n, old, "--do", "true"); r.status != 1 || !strings.Contains(r.stderr, "restart the agent's container") {
		t.Errorf("an old wrapper: exit status %d\n%s%s", r.status, text, r.stderr)
	}
	// And one that is newer.
	newer := filepath.Join(s.dir, "newer")
	if err := os.WriteFile(newer, []byte(strings.Replace(string(script), " -- ", ` --run='["-z"]' -- `, 1)), 0o755); err != nil {
		t.Fatal(err)
	}
	if r := s.callFile(n, newer, "-z"); r.status != 1 || !strings.Contains(r.stderr, "not those of a control command") {
		t.Errorf("a newer wrapper: exit status %d\n%s", r.status, r.stderr)
	}

	must(t, "systemctl", "stop", "tripleo-wrappers.target")
	t.Cleanup(func() { must(t, "systemctl", "start", "tripleo-wrappers.target") })
	eventually(t, "the socket is away", func() bool { return show(t, s.name+".socket", "ActiveState") == "inactive" })
	r := s.call(n, "--do", "true")
	if r.status != 1 || !strings.Contains(r.stderr, "a control command is not spooled") {
		t.Errorf("without a socket: exit status %d\n%s", r.status, r.stderr)
	}
	if _, err := os.Stat(s.state("processes")); err == nil {
		t.Error("it was spooled")
	}
	if s.running() != 0 {
		t.Error("a sidecar was started")
	}
}
