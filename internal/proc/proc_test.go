// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	const rest = " 1 42 42 0 -1 4194560 100 0 0 0\n"
	tests := []struct {
		name, stat string
		state      byte
		flags      uint64
		ok         bool
	}{
		{"a process", "42 (dnsmasq) S" + rest, 'S', 4194560, true},
		{"a zombie", "42 (dnsmasq) Z" + rest, 'Z', 4194560, true},
		{"blanks in the command", "42 (a b c) R" + rest, 'R', 4194560, true},
		{"a command that looks like the end of one", "42 (a) Z 1 2) S" + rest, 'S', 4194560, true},
		{"nothing but parentheses", "42 ()))((() S" + rest, 'S', 4194560, true},
		{"a newline in the command", "42 (a\n) S) T" + rest, 'T', 4194560, true},
		{"empty", "", 0, 0, false},
		{"no command", "42 S" + rest, 0, 0, false},
		{"cut short", "42 (a) S 1 2 3", 0, 0, false},
		{"a state of two letters", "42 (a) SS" + rest, 0, 0, false},
		{"flags that are none", "42 (a) S 1 42 42 0 -1 x", 'S', 0, false},
	}
	for _, test := range tests {
		state, flags, err := parseStat([]byte(test.stat))
		if state != test.state || flags != test.flags || (err == nil) != test.ok {
			t.Errorf("%s: state %q, flags %d, error %v; want %q, %d", test.name, state, flags, err, test.state, test.flags)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("dnsmasq", "S", uint32(4))
	f.Add(") Z (", "R", uint32(0))
	f.Add("\n", "", uint32(1))
	f.Fuzz(func(t *testing.T, comm, state string, flags uint32) {
		gotState, gotFlags, err := parseStat(fmt.Appendf(nil, "1 (%s) %s 1 1 1 0 -1 %d 0\n", comm, state, flags))
		if len(state) != 1 || state == ")" || strings.TrimSpace(state) == "" {
			return // no state
		}
		if err != nil || gotState != state[0] || gotFlags != uint64(flags) {
			t.Errorf("state %q, flags %d, error %v; want %q, %d", gotState, gotFlags, err, state, flags)
		}
	})
}

func FuzzParseStatBytes(f *testing.F) {
	f.Add([]byte("42 (a) S 1 2 3 4 5 6"))
	f.Add([]byte(")"))
	f.Fuzz(func(_ *testing.T, stat []byte) {
		// Must not panic, whatever comes.
		_, _, _ = parseStat(stat)
		killPending(stat)
	})
}

func TestKillPending(t *testing.T) {
	tests := []struct {
		name, status string
		want         bool
	}{
		{"none", "Name:\ta\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n", false},
		{"KILL to the thread", "SigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n", true},
		{"KILL to the process", "SigPnd:\t0000000000000000\nShdPnd:\t0000000000004100\n", true},
		{"TERM alone", "SigPnd:\t0000000000000000\nShdPnd:\t0000000000004000\n", false},
		{"KILL is only blocked or ignored", "SigBlk:\t0000000000000100\nSigIgn:\t0000000000000100\n", false},
		{"a name like it", "Name:\tShdPnd: 100\n", false},
		{"empty", "", false},
		{"no number", "SigPnd:\tx\n", false},
	}
	for _, test := range tests {
		if got := killPending([]byte(test.status)); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestAsleep(t *testing.T) {
	sleeper := child(t, "sleep", "1000")
	busy := child(t, "sh", "-c", "while :; do :; done")
	deadline := time.Now().Add(10 * time.Second)
	slept, before := Asleep(sleeper.Process.Pid), uint64(0)
	for slept == 0 || slept != before {
		if time.Now().After(deadline) {
			t.Fatal("a process that sleeps is never asleep")
		}
		time.Sleep(20 * time.Millisecond)
		slept, before = Asleep(sleeper.Process.Pid), slept
	}
	for range 20 { // by now it is in its loop
		if got := Asleep(busy.Process.Pid); got != 0 {
			t.Errorf("one that runs is asleep: %d", got)
		}
	}
	if err := sleeper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = sleeper.Wait() // that it was killed is no news
	if got := Asleep(sleeper.Process.Pid); got != 0 {
		t.Errorf("one that is gone is asleep: %d", got)
	}
}

func TestAsleepOfStatus(t *testing.T) {
	tests := []struct {
		name, status string
		want         uint64
	}{
		{"asleep", "Name:\ta\nState:\tS (sleeping)\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n", 15},
		{"runs", "State:\tR (running)\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n", 0},
		{"waits for a disk", "State:\tD (disk sleep)\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n", 0},
		{"stopped", "State:\tT (stopped)\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n", 0},
		{"a name like it", "Name:\tState: S\nState:\tR (running)\nvoluntary_ctxt_switches:\t12\n", 0},
		{"empty", "", 0},
		{"no number", "State:\tS (sleeping)\nvoluntary_ctxt_switches:\tx\n", 0},
	}
	for _, test := range tests {
		if got := asleep([]byte(test.status)); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

func TestUnitOfCgroup(t *testing.T) {
	tests := []struct{ name, cgroups, want string }{
		{"version 2", "0::/system.slice/dnsmasq.service\n", "dnsmasq.service"},
		{"an instance, in its own slice", "0::/system.slice/system-d.slice/d@qdhcp-1.service\n", "d@qdhcp-1.service"},
		{"a name that is a file's of the kernel, which systemd escapes", "0::/system.slice/system-io.dns.slice/_io.dns@n.service/x\n", "io.dns@n.service"},
		{"a name like an escaped one", "0::/system.slice/__x.service\n", "_x.service"},
		{"a container below the unit", "0::/system.slice/d@n.service/libpod-payload-0123/x.scope\n", "d@n.service"},
		{"a scope", "0::/machine.slice/libpod-0123.scope/container\n", "libpod-0123.scope"},
		{"a user's service is in the user's manager", "0::/user.slice/user-0.slice/user@0.service/app.slice/x.service\n", "user@0.service"},
		{"no unit", "0::/init.scope.d/x\n", ""},
		{"the root", "0::/\n", ""},
		{"a slice alone", "0::/system.slice\n", ""},
		{"made by hand", "0::/mine/x.service\n", ""},
		{"seen from another cgroup namespace", "0::/../../system.slice/x.service\n", ""},
		{
			"version 1",
			"12:pids:/system.slice/x.service\n2:cpu,cpuacct:/\n1:name=systemd:/system.slice/d@n.service\n",
			"d@n.service",
		},
		{
			"both, the hierarchy of version 2 used",
			"1:name=systemd:/system.slice/old.service\n0::/system.slice/new.service\n",
			"new.service",
		},
		{
			"both, that of version 2 not used",
			"4:memory:/system.slice/x.service\n1:name=systemd:/system.slice/d@n.service\n0::/\n",
			"d@n.service",
		},
		{"version 1 without systemd's", "12:pids:/system.slice/x.service\n", ""},
		{"a colon in the path", "0::/system.slice/a:b.service\n", "a:b.service"},
		{"empty", "", ""},
		{"something else", "hello\n0:\n::\n", ""},
	}
	for _, test := range tests {
		if got := ofCgroup([]byte(test.cgroups), outermostUnit); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestContainerOfCgroup(t *testing.T) {
	var (
		id    = strings.Repeat("0123456789abcdef", 4)
		other = strings.Repeat("f", 64)
	)
	tests := []struct{ name, cgroups, want string }{
		{"Docker with systemd's help", "0::/system.slice/docker-" + id + ".scope\n", id},
		{"Docker without", "0::/docker/" + id + "\n", id},
		{"below a parent of its own", "0::/network/agents/" + id + "\n", id},
		{"Podman", "0::/machine.slice/libpod-" + id + ".scope/container\n", id},
		{"what a container made is its own", "0::/machine.slice/libpod-" + id + ".scope/docker-" + other + ".scope\n", id},
		{"the same without systemd", "0::/docker/" + id + "/" + other + "\n", id},
		{"version 1", "12:pids:/docker/" + other + "\n1:name=systemd:/docker/" + id + "\n0::/\n", id},
		{"a unit", "0::/system.slice/dnsmasq.service\n", ""},
		{"too short", "0::/docker/" + id[1:] + "\n", ""},
		{"too long", "0::/docker/0" + id + "\n", ""},
		{"no number", "0::/docker/" + strings.ToUpper(id) + "\n", ""},
		{"another suffix", "0::/docker/" + id + ".service\n", ""},
		{"empty", "", ""},
	}
	for _, test := range tests {
		if got := ofCgroup([]byte(test.cgroups), outermostContainer); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestOfContainer(t *testing.T) {
	own, err := Container(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// Where this runs in no container, that is not one that all processes
	// without are of.
	pids, err := OfContainer(own)
	if err != nil || slices.Contains(pids, os.Getpid()) != (own != "") {
		t.Errorf("of container %q: %v, error %v", own, pids, err)
	}
	if pids, err := OfContainer(strings.Repeat("0", 64)); err != nil || len(pids) > 0 {
		t.Errorf("of no container: %v, error %v", pids, err)
	}
}

func FuzzUnitOfCgroup(f *testing.F) {
	f.Add([]byte("0::/system.slice/dnsmasq.service\n"))
	f.Add([]byte("1:name=systemd:/system.slice/d@n.service/x\n0::/\n"))
	f.Add([]byte("0::/.service\n"))
	f.Add([]byte("0::/_io.x.service\n"))
	f.Fuzz(func(t *testing.T, cgroups []byte) {
		unit := ofCgroup(cgroups, outermostUnit)
		parts := strings.FieldsFunc(string(cgroups), func(r rune) bool { return r == '/' || r == '\n' || r == ':' })
		if strings.Contains(unit, "/") || unit != "" && !slices.Contains(parts, unit) && !slices.Contains(parts, "_"+unit) && !strings.Contains(unit, ":") {
			t.Errorf("unit %q of %q", unit, cgroups)
		}
	})
}

// child starts a program that runs until its end is asked for.
func child(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.Command(program, args...)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// It may have ended, and that it was killed is no news.
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	return command
}

// await waits for a change of a child's, and leaves it to be waited for again.
func await(t *testing.T, pid, change int) {
	t.Helper()
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, change|unix.WNOWAIT, nil)
		if err == nil {
			return
		}
		if err != unix.EINTR {
			t.Fatal(err)
		}
	}
}

func TestAlive(t *testing.T) {
	check := func(what string, pid int, want bool) {
		t.Helper()
		if got := Alive(pid); got != want {
			t.Errorf("Alive of %s is %v, want %v", what, got, want)
		}
	}
	check("this process", os.Getpid(), true)
	check("process 1", 1, true)
	check("pid 0", 0, false)
	check("a process group", -os.Getpid(), false)
	check("a pid that is too large", 1<<30, false)

	sleeping := child(t, "sleep", "1000")
	check("a child", sleeping.Process.Pid, true)
	if err := sleeping.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await(t, sleeping.Process.Pid, unix.WSTOPPED)
	check("a stopped child", sleeping.Process.Pid, true)

	zombie := child(t, "true")
	await(t, zombie.Process.Pid, unix.WEXITED)
	check("a zombie", zombie.Process.Pid, false)
	if err := zombie.Wait(); err != nil {
		t.Fatal(err)
	}
	check("one that is gone", zombie.Process.Pid, false)
}

// Neutron starts a helper right after it has killed it. No moment may pass in
// which the dying one counts.
func TestAliveRightAfterKill(t *testing.T) {
	for range 50 {
		command := child(t, "sleep", "1000")
		if err := command.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if Alive(command.Process.Pid) {
			t.Fatal("alive right after SIGKILL")
		}
		_ = command.Wait() // that it was killed is no news
		if Alive(command.Process.Pid) {
			t.Fatal("alive after its end")
		}
	}
}

// A process may call itself what it likes.
func TestAliveOfAnOddName(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(t.TempDir(), ") Z 1 (")
	if err := os.WriteFile(odd, content, 0o755); err != nil {
		t.Fatal(err)
	}
	command := child(t, odd, "1000")
	if !Alive(command.Process.Pid) {
		t.Error("not alive")
	}
	if parent, err := Parent(command.Process.Pid); err != nil || parent != os.Getpid() {
		t.Errorf("parent %d, want %d, error %v", parent, os.Getpid(), err)
	}
}

func TestRan(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1 (a) R 0 1 1 0 -1 4194560 9 9 9 9 12 3 7 7 20 0 1 0 2": 150 * time.Millisecond,
		"1 (a) b) 5) S 0 1 1 0 -1 0 0 0 0 0 0 1 0 0":             10 * time.Millisecond,
		"1 (a) R 0 1 1 0 -1 4194560 9 9 9 9 x 3":                 0,
		"1 (a) R 0 1":                                            0,
		"":                                                       0,
	} {
		if got := ran([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	busy := child(t, "sh", "-c", "while :; do :; done")
	for deadline := time.Now().Add(20 * time.Second); Ran(busy.Process.Pid) < 50*time.Millisecond; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not seem to run")
		}
	}
	if got := Ran(1 << 30); got != 0 {
		t.Errorf("one that is not there has run for %v", got)
	}
}

func TestParent(t *testing.T) {
	if parent, err := Parent(os.Getpid()); err != nil || parent != os.Getppid() {
		t.Errorf("parent %d, want %d, error %v", parent, os.Getppid(), err)
	}
}

// A process can have its command line seem to be as large as its memory.
func TestRead(t *testing.T) {
	whole, err := Read(os.Getpid(), "cmdline", maxArguments)
	if err != nil || len(whole) < 10 {
		t.Fatalf("%q, error %v", whole, err)
	}
	if part, err := Read(os.Getpid(), "cmdline", 3); err != nil || string(part) != string(whole[:3]) {
		t.Errorf("%q, want the first 3 bytes of %q, error %v", part, whole, err)
	}
	if !HasArguments(os.Getpid()) {
		t.Error("this process has no command line")
	}
	if kthreadd := 2; HasArguments(kthreadd) || HasArguments(1<<30) {
		t.Error("a thread of the kernel, or no process, has one")
	}
}

func TestArguments(t *testing.T) {
	sleep := exec.Command("sleep", "1000", "0s")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleep.Wait()
	defer sleep.Process.Kill()
	// The kernel tells them a moment after execve(2) has closed the descriptor
	// that Start waits for.
	var got []string
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if got, err = Arguments(sleep.Process.Pid); err != nil || slices.Equal(got, sleep.Args) {
			break
		}
	}
	if err != nil || !slices.Equal(got, sleep.Args) {
		t.Errorf("%q, want %q, error %v", got, sleep.Args, err)
	}
}

func TestProcessesThatAreGone(t *testing.T) {
	command := exec.Command("true")
	if err := command.Run(); err != nil {
		t.Fatal(err)
	}
	pid := command.Process.Pid
	_, parentErr := Parent(pid)
	_, argumentsErr := Arguments(pid)
	_, unitErr := Unit(pid)
	_, containerErr := Container(pid)
	for what, err := range map[string]error{"Parent": parentErr, "Arguments": argumentsErr, "Unit": unitErr, "Container": containerErr} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error %v, want %v", what, err, fs.ErrNotExist)
		}
	}
}

func TestUnit(t *testing.T) {
	cgroups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if unit, err := Unit(os.Getpid()); err != nil || unit != ofCgroup(cgroups, outermostUnit) {
		t.Errorf("unit %q, error %v", unit, err)
	}
}
