// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// randomWord makes an argument of what is awkward in shells, unit files, TOML
// and specifiers.
func randomWord(r *rand.Rand) string {
	pieces := []string{" ", "  ", "\"", "'", "$", "$$", "${HOME}", "$HOME", "%", "%i", "%%", "%n", "\\", "\\n", "\\x41",
		"\n", "\t", "\r", ";", "|", "&", "#", "*", "~", "é", "日本", "\u0085", "\u200b", "=", "-", "--", ":", ",", "{", "}", "a", "B", "0", "\x01", "\x7f"}
	var b strings.Builder
	for range r.IntN(8) { // 0: the empty argument
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return b.String()
}

func randomWords(r *rand.Rand) []string {
	words := []string{"", ";", "-", "--", "%", "$"}[:r.IntN(7)]
	words = append([]string(nil), words...)
	for range r.IntN(12) {
		words = append(words, randomWord(r))
	}
	return words
}

// Whatever words a definition's command and a call have, the sidecar has them:
// through TOML, the unit file, systemd, the wrapper script, the socket and the
// engine, to /proc/PID/cmdline.
func TestQuoting(t *testing.T) {
	rounds := map[string]int{"systemd": 15, "podman": 5, "docker": 3, "image": 4}
	forEngines(t, func(t *testing.T, engine string) {
		const seed = 20200511
		r := rand.New(rand.NewPCG(seed, 1))
		s := define(t, engine, `cmd = ["/bin/true"]`)
		n := s.netns()
		for round := range rounds[engine] {
			command := append([]string{"/bin/sh", "-c", "while :; do sleep 100; done", "x"}, randomWords(r)...)
			if round%3 == 0 {
				command[2] += " # " + strings.ReplaceAll(randomWord(r), "\n", "")
			}
			s.write("cmd = " + tomlList(t, command))
			must(t, "systemctl", "daemon-reload")
			for range 2 {
				arguments := randomWords(r)
				if round%2 == 0 && (engine == "systemd" || engine == "image") {
					arguments = append(arguments, "not UTF-8: \xff\xc3(")
				}
				if res := s.call(n, arguments...); res.status != 0 {
					t.Fatalf("%q: exit status %d\n%s", arguments, res.status, res.stderr)
				}
				want := append(append([]string(nil), command...), arguments...)
				if got := cmdline(t, s.mainPID(n)); !equal(got, want) {
					t.Errorf("round %d\n got %q\nwant %q", round, got, want)
				}
			}
		}
	})
}

// Podman keeps a command as JSON and would replace what is no text in it.
func TestNotText(t *testing.T) {
	s := define(t, "podman", `cmd = ["/bin/sleep", "1000"]`)
	if r := s.call(s.netns(), "\xff"); r.status != 1 || !strings.Contains(r.stderr, "not UTF-8") {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
}

// A cmd that is shell text has the arguments behind it, each one word.
func TestShellCommand(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		s := define(t, engine, `cmd = "/bin/sleep $(if [ -f /etc/passwd ]; then echo 1000; fi)"`)
		n := s.netns()
		if r := s.call(n, "2000"); r.status != 0 {
			t.Fatalf("exit status %d\n%s", r.status, r.stderr)
		}
		got := cmdline(t, s.mainPID(n))
		// busybox's sleep names itself as it was called, coreutils' too.
		if want := []string{"/bin/sleep", "1000", "2000"}; !equal(got, want) {
			t.Errorf("got %q, want %q; a shell between systemd and the sidecar would keep signals to itself", got, want)
		}
	})
}

// mainPID returns the process that a sidecar's command is.
func (s *service) mainPID(n *netns) int {
	s.t.Helper()
	pid := show(s.t, s.unit(n.name), "MainPID")
	if s.engine == "podman" || s.engine == "docker" {
		pid = must(s.t, s.engine, "inspect", "--format={{.State.Pid}}", s.name+"-"+n.name)
	}
	number, err := strconv.Atoi(pid)
	if err != nil {
		s.t.Fatal(err)
	}
	return number
}

// tomlList writes a list of strings as TOML, whose basic strings have the
// escapes of JSON's (but not U+007F as it is).
func tomlList(t *testing.T, words []string) string {
	t.Helper()
	text, err := json.Marshal(words)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\x7f", `\u007f`)
}

// A definition that is broken says so where an operator looks, the others go
// on, and its sidecars do, too.
func TestBroken(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	other := define(t, "systemd", dnsmasq)
	n := s.netns()
	pid := s.start(n)

	s.write("imag_name = 3\n" + dnsmasq)
	must(t, "systemctl", "daemon-reload")
	eventually(t, s.name+".service has failed", func() bool { return show(t, s.name+".service", "ActiveState") == "failed" })
	where := s.file() + ":4:1: imag_name: "
	if failed := must(t, "systemctl", "--failed", "--full", "--no-pager", "--plain", "--no-legend"); !strings.Contains(failed, where) {
		t.Errorf("systemctl --failed does not show %q:\n%s", where, failed)
	}
	eventually(t, "systemctl status shows the reason", func() bool {
		r := run(t, "systemctl", "status", "--no-pager", "--full", s.name+".service")
		return strings.Count(r.stdout, where) >= 2 // as the description, and in the journal
	})
	if now := s.check(n); now != pid {
		t.Error("a broken definition replaced the sidecar")
	}
	m := other.netns()
	other.start(m)
	if r := run(t, "/usr/lib/systemd/system-generators/tripleo-wrappers-generator", "--dry-run"); r.status != 1 || !strings.Contains(r.stderr, where) {
		t.Errorf("generator: exit status %d\n%s", r.status, r.stderr)
	}

	s.write(dnsmasq)
	must(t, "systemctl", "daemon-reload")
	eventually(t, "the socket is back", func() bool { return show(t, s.name+".socket", "ActiveState") == "active" })
	if now := s.start(n); now != pid {
		t.Error("mending a broken definition replaced the sidecar")
	}
	s.start(n, "--domain=mended")
	if state := show(t, s.name+".service", "ActiveState"); state != "active" {
		t.Errorf("the activator is %s", state)
	}
}

// While a definition is broken, systemd goes on to look after its sidecars.
func TestBrokenLooksAfterSidecars(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		s := define(t, engine, dnsmasq)
		n := s.netns()
		pid := s.start(n)
		s.write("nonsense = 1\n" + dnsmasq)
		must(t, "systemctl", "daemon-reload")
		eventually(t, "the socket is stopped", func() bool { return show(t, s.name+".socket", "ActiveState") == "inactive" })
		s.crash(n, pid)
		pid = s.check(n)
		mention(t, control(t, 4, "restart", s.name, "--all"), "the definition of "+s.name+" is broken")
		mention(t, control(t, 0, "stop", s.name, "--all"), n.name+": stopped in ")
		s.gone(n, pid)
	})
}

// So it does where the text does not even tell the name, in a file that has that
// of a package's unit, which is left alone.
func TestBrokenTextOfOtherName(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	packaged := "packaged-" + s.name + ".service"
	file := "/usr/lib/systemd/system/" + packaged
	if err := os.WriteFile(file, []byte("[Service]\nExecStart=sleep infinity\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before the definition goes
		run(t, "systemctl", "stop", packaged)
		os.Remove(file)
	})
	if err := os.Remove(s.file()); err != nil {
		t.Fatal(err)
	}
	s.base = strings.TrimSuffix(packaged, ".service")
	s.write("service_name = \"" + s.name + "\"\n" + dnsmasq)
	must(t, "systemctl", "daemon-reload")
	must(t, "systemctl", "stop", s.name+".service") // the next one knows the file
	must(t, "systemctl", "start", packaged)
	n := s.netns()
	pid := s.start(n)

	s.write("cmd = [")
	must(t, "systemctl", "daemon-reload")
	eventually(t, "the socket is stopped", func() bool { return show(t, s.name+".socket", "ActiveState") == "inactive" })
	eventually(t, s.name+".service has failed", func() bool { return show(t, s.name+".service", "ActiveState") == "failed" })
	s.crash(n, pid)
	pid = s.check(n)
	must(t, "systemctl", "stop", s.unit(n.name))
	s.gone(n, pid)

	// As after a reboot: nothing tells the name.
	if err := os.RemoveAll(filepath.Join("/run/tripleo-wrappers", s.name)); err != nil {
		t.Fatal(err)
	}
	must(t, "systemctl", "daemon-reload")
	broken := s.base + "-broken.service"
	eventually(t, broken+" has failed", func() bool { return show(t, broken, "ActiveState") == "failed" })
	// Which to systemd may be in /lib.
	if from, state := show(t, packaged, "FragmentPath"), show(t, packaged, "ActiveState"); !strings.HasSuffix(file, from) || state != "active" {
		t.Errorf("%s is from %q, and %s", packaged, from, state)
	}

	// A definition that is right is none, either, by that name.
	s.write(dnsmasq)
	must(t, "systemctl", "daemon-reload")
	r := run(t, "tripleo-wrapperctl", "check", s.file())
	if want := "a unit of \"" + s.base + "\" would take the place of " + file; r.status != 1 || !strings.Contains(r.stderr, want) {
		t.Errorf("check: exit status %d\n%s", r.status, r.stderr)
	}
	if from := show(t, packaged, "FragmentPath"); !strings.HasSuffix(file, from) {
		t.Errorf("%s is from %q", packaged, from)
	}
	must(t, "systemctl", "stop", strings.TrimSuffix(broken, "service")+"timer")
	run(t, "systemctl", "reset-failed", broken)
}

// A package that comes later with a unit of the service's name has that unit. The
// sidecars are still looked after, and reload leaves what is the package's alone.
func TestPackageTakesName(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	pid := s.start(n)
	must(t, "systemctl", "stop", s.name+".service")
	file := "/usr/lib/systemd/system/" + s.name + ".service"
	if err := os.WriteFile(file, []byte("[Service]\nExecStart=sleep infinity\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	broken := s.name + "-broken.service"
	t.Cleanup(func() {
		os.Remove(file)
		run(t, "systemctl", "stop", s.name+"-broken.timer")
		run(t, "systemctl", "reset-failed", broken)
	})
	must(t, "systemctl", "daemon-reload")
	must(t, "systemctl", "start", s.name+".service")
	eventually(t, "the socket is stopped", func() bool { return show(t, s.name+".socket", "ActiveState") == "inactive" })
	eventually(t, broken+" has failed", func() bool { return show(t, broken, "ActiveState") == "failed" })
	mention(t, control(t, 1, "reload"), "would take the place of "+file)
	if state := show(t, s.name+".service", "ActiveState"); state != "active" {
		t.Errorf("the package's service is %s", state)
	}
	s.crash(n, pid)
	pid = s.check(n)
	if r := control(t, 0, "list"); !strings.Contains(r.stdout, n.name) {
		t.Errorf("list does not have the sidecar:\n%s", r.stdout)
	}
	must(t, "systemctl", "stop", s.unit(n.name))
	s.gone(n, pid)
}

// So it does where the definition is gone as well, and reload stops what it left.
func TestPackageTakesNameOfOneGone(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	must(t, "systemctl", "stop", s.name+".service")
	file := "/usr/lib/systemd/system/" + s.name + ".service"
	if err := errors.Join(os.Remove(s.file()), os.WriteFile(file, []byte("[Service]\nExecStart=sleep infinity\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(file) })
	must(t, "systemctl", "daemon-reload")
	must(t, "systemctl", "start", s.name+".service")
	mention(t, control(t, 0, "reload"), s.name+": its definition is gone")
	for unit, want := range map[string]string{".service": "active", ".socket": "inactive", ".path": "inactive"} {
		if state := show(t, s.name+unit, "ActiveState"); state != want {
			t.Errorf("%s%s is %s, want %s", s.name, unit, state, want)
		}
	}
}

// What is asked for while the definition is broken is served when it is mended.
func TestBrokenThenMended(t *testing.T) {
	text := strings.Replace(dnsmasq, `timeout = "20s"`, `timeout = "2s"`, 1)
	s := define(t, "systemd", text)
	n := s.netns()
	s.write("nonsense = 1\n" + text)
	must(t, "systemctl", "daemon-reload")
	eventually(t, "the socket is stopped", func() bool { return show(t, s.name+".socket", "ActiveState") == "inactive" })
	r := s.call(n, n.arguments()...)
	if r.status != 1 || !strings.Contains(r.stderr, "still spooled") {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	s.write(text)
	must(t, "systemctl", "daemon-reload")
	n.pid(t) // waits for it
	eventually(t, "the sidecar is up", func() bool { return s.running() == 1 })
	s.check(n)
}

// systemctl edit works on a sidecar's template as on any unit.
func TestEdit(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	dropIns := "/etc/systemd/system/" + s.name + "@.service.d"
	if err := os.MkdirAll(dropIns, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dropIns) })
	if err := os.WriteFile(dropIns+"/override.conf", []byte("[Service]\nLimitNOFILE=4321\nEnvironment=EDITED=yes\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, "systemctl", "daemon-reload")
	pid := s.start(n)
	if !contains(list(t, pid, "environ"), "EDITED=yes") {
		t.Error("the drop-in's environment is not the sidecar's")
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil || !strings.Contains(string(limits), "4321") {
		t.Errorf("the drop-in's limit is not the sidecar's: %v\n%s", err, limits)
	}
}

// A reboot brings the socket and the path unit by itself; test/system/run
// reboots the host between the two halves.
func TestReboot(t *testing.T) {
	const name = "reboot"
	switch os.Getenv("TEST_REBOOT") {
	case "before":
		definition := "service_dir = \"/var/lib/reboot\"\n" + engines["systemd"] + dnsmasq
		if err := os.WriteFile("/etc/tripleo-wrappers/"+name+".toml", []byte(definition), 0o644); err != nil {
			t.Fatal(err)
		}
		must(t, "systemctl", "daemon-reload")
	case "after":
		s := &service{t: t, name: name, dir: "/var/lib/reboot", engine: "systemd"}
		t.Cleanup(s.remove)
		for _, unit := range []string{name + ".socket", name + ".path"} {
			eventually(t, unit+" is active", func() bool { return show(t, unit, "ActiveState") == "active" })
		}
		s.start(s.netns())
	default:
		t.Skip("needs a reboot: test/system/run")
	}
}

// debug = true tells each step; without it, only what matters is told.
func TestDebug(t *testing.T) {
	for _, debug := range []bool{false, true} {
		s := define(t, "systemd", fmt.Sprintf("debug = %v\n", debug)+dnsmasq)
		s.start(s.netns())
		must(t, "journalctl", "--sync")
		log := must(t, "journalctl", "--quiet", "--output=cat", "SERVICE="+s.name)
		for _, text := range []string{"connection of process"} {
			if strings.Contains(log, text) != debug {
				t.Errorf("debug = %v: %q in the journal:\n%s", debug, text, log)
			}
		}
	}
}
