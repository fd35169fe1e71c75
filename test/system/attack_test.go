// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// securityFile is docs/security.md, which test/system/run puts here and, with
// -update, takes back.
const securityFile = "security.md"

// An attack is what an agent that means harm can do. It has root and all that a
// privileged container with service_dir, /run/netns and the host's processes and
// network has; where it goes without a container, it has more. What comes of it,
// as the test finds it, is a row of docs/security.md.
type attack struct {
	name   string
	result string
	try    func(t *testing.T)
}

var attacks = []attack{
	{"signal a sidecar of another service, by its pid",
		"refused, `NotASidecar`; the line in the journal names the caller's control group", attackOtherSidecar},
	{"signal a process of the host",
		"refused, `NotASidecar`", attackHostProcess},
	{"have a signal reach whoever got the pid of a sidecar that ended between check and signal",
		"`No such process`; the pidfd is that of the one that was checked", attackRecycledPID},
	{"ask at the socket for a sidecar in another network namespace than the caller's",
		"refused, `InvalidParameter`: a request has no place for it", attackNamedNamespace},
	{"ask from the host's network namespace, or from one without a name",
		"refused, `NotInNamespace`", attackNoName},
	{"name the host's network namespace by a symbolic link in `/run/netns`",
		"no name: refused at the socket, given up in the spool", attackNetnsLink},
	{"swap a name in `/run/netns` while systemd starts the sidecar, and back again",
		"the sidecar fails: it is not in the namespace that was asked from", attackNetnsSwap},
	{"swap a name in `/run/netns` while Podman starts the sidecar",
		"the sidecar is in the namespace that was asked from", attackNetnsSwapPodman},
	{"fill `/run/netns` with fifos, directories, files, other namespaces and odd names",
		"they name nothing; other requests are served", attackNetnsEntries},
	{"put links, hard links, a fifo, a directory, a socket or a file of a terabyte in the place of the spool",
		"put away as `processes.rejected-…`; what a link leads to is neither read nor changed", attackSpoolPlace},
	{"put links, hard links, fifos and directories in the place of the lock, the time stamp, `processes.failed` and of spools being served",
		"spooled requests wait until they are gone; nothing outside is touched, and the socket serves", attackStatePlaces},
	{"write the spool as a user who may not use the socket",
		"put away as `processes.rejected-…`", attackSpoolOwner},
	{"change the spool while it is read",
		"each line is served or given up; the activator goes on", attackSpoolChanges},
	{"a spool of a million lines",
		"100,000 are looked at, and few are in the journal; the socket serves meanwhile", attackMillionLines},
	{"a spool of 20,000 lines with names that no namespace can have",
		"20 lines in the journal, and how many more there were; all of them are in `processes.failed`", attackInvalidLines},
	{"name files outside by the namespace of a spooled request",
		"given up: no such name; nothing is written", attackSpoolNames},
	{"look at or change what the activator left for a sidecar (argument list, environment)",
		"not in the agent's container, and root's alone on the host", attackRuntimeDir},
	{"arguments that look like options of Podman or Docker",
		"behind the image; the container has no more than the definition says", attackEngineOptions},
	{"100,000 arguments, arguments of 2 MB, and more in the spool",
		"an error for the caller, or a sidecar; the activator goes on", attackHugeArguments},
	{"environment that `pass_environment` does not name, such as `LD_PRELOAD`",
		"not passed on", attackEnvironment},
	{"forge the activator's reply: escape sequences, wrong types, no end, odd exit statuses",
		"text without control characters, exit status 1 to 255, at most 1 MiB read", attackForgedReply},
	{"put links, hard links or fifos where another agent's wrapper spools",
		"an error; nothing outside is touched, and nobody waits", attackClientSpool},
	{"replace the wrapper, the client and the kill script, and wait for the host to run them",
		"the host never does; they are put right when the socket is made", attackPrograms},
	{"hold 1,000 connections open, idle, half a request each",
		"each is closed after 5 s; others are served meanwhile", attackConnections},
	{"hold 1,000 connections open with a request of 1 MiB each",
		"all but 16 MiB of it are closed; the activator stays below 256 MiB, others are served", attackMemory},
	{"make 5,000 calls that are refused",
		"20 lines in the journal per caller in 30 s, each with uid, pid and control group, and how many more there were", attackJournal},
}

// TestAttacks tries all of them, and compares the table in docs/security.md with
// what they are.
func TestAttacks(t *testing.T) {
	for _, attack := range attacks {
		t.Run(strings.ReplaceAll(attack.name, " ", "-"), attack.try)
	}
	content, err := os.ReadFile(securityFile)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "| attack | result |\n| --- | --- |\n", "\n\n"
	before, rest, ok := strings.Cut(string(content), begin)
	_, after, okEnd := strings.Cut(rest, end)
	if !ok || !okEnd {
		t.Fatal("docs/security.md has no table of attacks")
	}
	var table strings.Builder
	for _, attack := range attacks {
		fmt.Fprintf(&table, "| %s | %s |\n", attack.name, attack.result)
	}
	want := before + begin + strings.TrimSuffix(table.String(), "\n") + end + after
	if *update && !t.Failed() {
		if err := os.WriteFile(securityFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(content) != want {
		t.Error("the table of attacks in docs/security.md is not this one's; if this one is right: test/system/run -test.run=TestAttacks -update")
	}
}

// tell makes a Varlink call from a network namespace, "" for the host's, and
// returns the reply and the name of the error that it is, if it is one.
func tell(t *testing.T, netns, socket, method, parameters string) (reply, name string) {
	t.Helper()
	conn := dialIn(t, netns, socket)
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * waitTime)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "{\"method\":%q,\"parameters\":%s}\x00", "org.openstack.tripleo.Wrapper."+method, parameters); err != nil {
		t.Fatal(err)
	}
	message, err := bufio.NewReader(conn).ReadString(0)
	if err != nil {
		t.Fatalf("waiting for the reply: %v", err)
	}
	var answer struct{ Error string }
	if err := json.Unmarshal([]byte(strings.TrimSuffix(message, "\x00")), &answer); err != nil {
		t.Fatal(err)
	}
	return message, answer.Error[strings.LastIndex(answer.Error, ".")+1:]
}

// dialIn connects from a network namespace, "" for the host's.
func dialIn(t *testing.T, netns, socket string) net.Conn {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if netns != "" {
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		defer own.Close()
		other, err := os.Open("/run/netns/" + netns)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
				t.Fatal(err)
			}
		}()
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func (s *service) socket() string { return s.state("activator.sock") }

// refuses fails unless an answer is that error.
func refuses(t *testing.T, want, reply, got string) {
	t.Helper()
	if got != want {
		t.Errorf("error %q, want %q: %s", got, want, reply)
	}
}

// sleeper starts a process that only a signal ends.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// activator returns the pid of a service's activator, which runs after it.
func (s *service) activator() int {
	s.t.Helper()
	ask(s.t.(*testing.T), s.socket(), "org.openstack.tripleo.Wrapper.Sync")
	pid, err := strconv.Atoi(show(s.t, s.name+".service", "MainPID"))
	if err != nil || pid == 0 {
		s.t.Fatalf("the activator has pid %d, error %v", pid, err)
	}
	return pid
}

// logged returns what a service's activator logged.
func (s *service) logged() string {
	s.t.Helper()
	run(s.t, "journalctl", "--sync")
	return must(s.t, "journalctl", "--no-pager", "--output=cat", fmt.Sprintf("--since=@%d", s.since.Unix()), "SERVICE="+s.name)
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// agent starts a container such as an agent has, and returns a function that
// runs commands in it.
func (s *service) agent(t *testing.T) func(command ...string) result {
	t.Helper()
	name := "agent-" + s.name
	must(t, "podman", "run", "--detach", "--name="+name, "--privileged", "--pid=host", "--network=host",
		"--volume=/run/netns:/run/netns:shared", "--volume="+s.dir+":"+s.dir+":shared",
		"--volume="+s.state("wrapper")+":/usr/local/bin/dnsmasq:ro", "localhost/agent", "sleep", "1000")
	t.Cleanup(func() { run(t, "podman", "rm", "--force", "--time=0", name) })
	return func(command ...string) result {
		t.Helper()
		return run(t, append([]string{"podman", "exec", name}, command...)...)
	}
}

func attackOtherSidecar(t *testing.T) {
	victim := define(t, "systemd", dnsmasq)
	n := victim.netns()
	pid := victim.start(n)
	own := define(t, "systemd", dnsmasq)
	inAgent := own.agent(t)
	r := inAgent(own.dir+"/kill_scripts/test-kill", "9", strconv.Itoa(pid))
	if r.status != 1 || !strings.Contains(r.stderr, "is not of a sidecar of") {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	if victim.check(n) != pid {
		t.Error("the sidecar of the other service has changed")
	}
	container := must(t, "podman", "inspect", "--format={{.Id}}", "agent-"+own.name)
	if log := own.logged(); !strings.Contains(log, "in control group ") || !strings.Contains(log, container) {
		t.Errorf("the journal does not say which container it was, %s:\n%s", container, log)
	}
}

func attackHostProcess(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	sleep := sleeper(t)
	for _, pid := range []int{sleep.Process.Pid, s.activator(), os.Getpid()} {
		reply, name := tell(t, "", s.socket(), "Signal", fmt.Sprintf(`{"pid":%d,"signal":9}`, pid))
		refuses(t, "NotASidecar", reply, name)
	}
	// Process 1 may be of no unit at all, and a thread is no process.
	reply, name := tell(t, "", s.socket(), "Signal", `{"pid":1,"signal":9}`)
	refuses(t, "NotASidecar", reply, name)
	for _, pid := range []string{"0", "-1", "-" + strconv.Itoa(sleep.Process.Pid)} {
		reply, name := tell(t, "", s.socket(), "Signal", `{"pid":`+pid+`,"signal":9}`)
		refuses(t, "InvalidParameter", reply, name)
	}
	if !alive(sleep.Process.Pid) {
		t.Error("the process is gone")
	}
}

// The signal is held up in the activator, by strace, until the process has ended
// and another one has its pid.
func attackRecycledPID(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	for range 3 {
		if recycle(t, s, n) {
			return
		}
	}
	t.Error("no signal came too late, so nothing was tried")
}

// recycle says whether a signal was sent after the process had ended.
func recycle(t *testing.T, s *service, n *netns) bool {
	pid, server := s.start(n), s.activator()
	trace := filepath.Join(t.TempDir(), "trace")
	strace := exec.Command("strace", "-f", "-qq", "-o", trace, "-p", strconv.Itoa(server),
		"-e", "trace=pidfd_send_signal", "-e", "inject=pidfd_send_signal:delay_enter=2000000")
	if err := strace.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = strace.Process.Signal(os.Interrupt); _ = strace.Wait() }()
	traced := func() bool {
		statuses, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", server))
		for _, status := range statuses {
			if content, err := os.ReadFile(status); err == nil && strings.Contains(string(content), "TracerPid:\t0\n") {
				return false
			}
		}
		return true
	}
	eventually(t, "strace follows the activator", traced)

	answer := make(chan [2]string, 1)
	go func() {
		reply, name := tell(t, "", s.socket(), "Signal", fmt.Sprintf(`{"pid":%d,"signal":9}`, pid))
		answer <- [2]string{reply, name}
	}()
	time.Sleep(time.Second) // for the activator to check; whether it has is seen below
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the sidecar is gone", func() bool { return !alive(pid) })
	var heir *exec.Cmd
	for range 1000 {
		write(t, "/proc/sys/kernel/ns_last_pid", strconv.Itoa(pid-1))
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if cmd.Process.Pid == pid {
			heir = cmd
			break
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if heir == nil {
		t.Fatalf("no other process got pid %d", pid)
	}
	defer func() { _ = heir.Process.Kill(); _ = heir.Wait() }()
	got := <-answer
	refuses(t, "NoSuchProcess", got[0], got[1])
	if err := heir.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the process that has the pid now: %v", err)
	}
	if content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || strings.Contains(string(content), ") Z ") {
		t.Errorf("the process that has the pid now has ended: %s %v", content, err)
	}
	_ = strace.Process.Signal(os.Interrupt)
	_ = strace.Wait()
	content, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(content), "ESRCH")
}

func attackNamedNamespace(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	own, other := s.netns(), s.netns()
	for _, parameter := range []string{"netns", "namespace", "unit", "container", "uid"} {
		reply, name := tell(t, own.name, s.socket(), "Start", fmt.Sprintf(`{"arguments":[],%q:%q}`, parameter, other.name))
		refuses(t, "InvalidParameter", reply, name)
	}
	if n := s.running(); n != 0 {
		t.Errorf("%d sidecars run", n)
	}
}

func attackNoName(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	inAgent := s.agent(t)
	for _, command := range [][]string{{"dnsmasq"}, {"unshare", "--net", "dnsmasq"}} {
		if command[0] == "unshare" {
			r := run(t, "unshare", "--net", s.state("wrapper"))
			if r.status != 1 || !strings.Contains(r.stderr, "no network namespace that has a name") {
				t.Errorf("exit status %d\n%s", r.status, r.stderr)
			}
			continue
		}
		if r := inAgent(command...); r.status != 1 || !strings.Contains(r.stderr, "no network namespace that has a name") {
			t.Errorf("%v: exit status %d\n%s", command, r.status, r.stderr)
		}
	}
	if n := s.running(); n != 0 {
		t.Errorf("%d sidecars run", n)
	}
}

// One link leads to the host's namespace, the other to one that a name outside of
// /run/netns holds, as those of Docker's containers are.
func attackNetnsLink(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	kept, _, _ := swap(t, n)
	name := "/run/netns/" + n.name
	must(t, "umount", "--lazy", name)
	for _, target := range []string{"/proc/1/ns/net", kept} {
		os.Remove(name)
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
		enter := kept
		if target != kept {
			enter = target
		}
		r := run(t, append([]string{"nsenter", "--net=" + enter, s.state("wrapper")}, n.arguments()...)...)
		if r.status != 1 || !strings.Contains(r.stderr, "no network namespace that has a name") {
			t.Errorf("%s: exit status %d\n%s", target, r.status, r.stderr)
		}
		os.Remove(s.state("processes.failed"))
		write(t, s.state("processes"), n.name+" "+strings.Join(n.arguments(), " ")+"\n")
		ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
		eventually(t, "the spool is taken", func() bool { return notThere(s.state("processes")) })
		for range 20 {
			if n := s.running(); n != 0 {
				t.Fatalf("%s: %d sidecars run", target, n)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// swap gives a network namespace a second place, so that it lives on without its
// name, and returns shell commands that take the name for the host's own
// namespace, and that give it back.
func swap(t *testing.T, n *netns) (kept, there, back string) {
	t.Helper()
	kept = filepath.Join("/run", "kept-"+n.name)
	write(t, kept, "")
	must(t, "mount", "--bind", "/run/netns/"+n.name, kept)
	t.Cleanup(func() { run(t, "umount", kept); os.Remove(kept) })
	name := "/run/netns/" + n.name
	return kept, fmt.Sprintf("umount --lazy %[1]s; rm -f %[1]s; ln -s /proc/1/ns/net %[1]s", name),
		// One on top of the other would be mounted on kept, too.
		fmt.Sprintf("umount --quiet --lazy %[1]s; rm -f %[1]s; touch %[1]s; mount --bind %[2]s %[1]s", name, kept)
}

func script(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(name) })
}

// dropIn adds to the unit of a service's sidecars.
func (s *service) dropIn(t *testing.T, text string) {
	t.Helper()
	dir := "/run/systemd/system/" + s.name + "@.service.d"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/test.conf", text)
	t.Cleanup(func() { os.RemoveAll(dir); run(t, "systemctl", "daemon-reload") })
	must(t, "systemctl", "daemon-reload")
}

func attackNetnsSwap(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	_, there, back := swap(t, n)
	script(t, "/run/there-"+s.name, there)
	script(t, "/run/back-"+s.name, back)
	unit := "/run/systemd/system/" + s.name + "-swap.service"
	write(t, unit, "[Service]\nType=oneshot\nExecStart=/run/there-"+s.name+"\n")
	t.Cleanup(func() { os.Remove(unit) })
	// By the time of ExecStartPre=, systemd has looked the name up.
	s.dropIn(t, fmt.Sprintf("[Unit]\nRequires=%[1]s-swap.service\nAfter=%[1]s-swap.service\n[Service]\nExecStartPre=/run/back-%[1]s\n", s.name))
	r := s.call(n, n.arguments()...)
	if r.status == 0 || !strings.Contains(r.stderr, "network namespace is gone") {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	if n := s.running(); n != 0 {
		t.Errorf("%d sidecars run", n)
	}
	must(t, "sh", "-c", back+"; true")
}

func attackNetnsSwapPodman(t *testing.T) {
	s := define(t, "podman", dnsmasq)
	n := s.netns()
	kept, there, back := swap(t, n)
	dir := "/run/bin-" + s.name
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	script(t, dir+"/podman", `case $1 in run) `+there+`;; esac
exec /usr/bin/podman "$@"`)
	s.dropIn(t, "[Service]\nEnvironment=PATH="+dir+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n")
	r := s.call(n, n.arguments()...)
	if r.status != 0 {
		t.Fatalf("exit status %d\n%s", r.status, r.stderr)
	}
	content, err := os.ReadFile(n.pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink("/run/netns/" + n.name); err != nil || target != "/proc/1/ns/net" {
		t.Fatalf("the name was not taken, so nothing was tried: %q %v", target, err)
	}
	if got, want := inode(t, "/proc/"+strings.TrimSpace(string(content))+"/ns/net"), inode(t, kept); got != want {
		t.Error("the sidecar is in another network namespace")
	}
	must(t, "sh", "-c", back)
}

func attackNetnsEntries(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	made := func(name string, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { run(t, "umount", "--quiet", name); os.RemoveAll(name) })
		return filepath.Base(name)
	}
	in := func(name string) string { return filepath.Join("/run/netns", name) }
	names := []string{
		made(in("a-fifo"), unix.Mkfifo(in("a-fifo"), 0o600)),
		made(in("a-directory"), os.MkdirAll(in("a-directory"), 0o755)),
		made(in("a-file"), os.WriteFile(in("a-file"), []byte("x"), 0o644)),
		made(in("a-mount-namespace"), os.WriteFile(in("a-mount-namespace"), nil, 0o644)),
		made(in("dangling"), os.Symlink("/no/such/file", in("dangling"))),
		made(in("new\nline"), os.WriteFile(in("new\nline"), nil, 0o644)),
		made(in("--privileged"), os.WriteFile(in("--privileged"), nil, 0o644)),
		made(in(strings.Repeat("x", 255)), os.WriteFile(in(strings.Repeat("x", 255)), nil, 0o644)),
	}
	must(t, "mount", "--bind", "/proc/1/ns/uts", in("a-mount-namespace"))
	var lines strings.Builder
	for _, name := range names {
		line, err := json.Marshal(map[string]any{"netns": name, "arguments": []string{"--port=0"}})
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	write(t, s.state("processes"), lines.String())
	s.start(n)
	eventually(t, "the requests are looked at", func() bool { return notThere(s.state("processes")) })
	if got := s.running(); got != 1 {
		t.Errorf("%d sidecars run, want 1", got)
	}
}

// places are what may stand where a file is expected, each with what makes it.
func places(t *testing.T, victim string) map[string]func(name string) error {
	return map[string]func(name string) error{
		"a link":             func(name string) error { return os.Symlink(victim, name) },
		"a hard link":        func(name string) error { return os.Link(victim, name) },
		"a dangling link":    func(name string) error { return os.Symlink(victim+"-not-there", name) },
		"a link to itself":   func(name string) error { return os.Symlink(filepath.Base(name), name) },
		"a fifo":             func(name string) error { return unix.Mkfifo(name, 0o600) },
		"a directory":        func(name string) error { return os.MkdirAll(filepath.Join(name, "in", "it"), 0o755) },
		"a file too large":   func(name string) error { write(t, name, ""); return os.Truncate(name, 1<<40) },
		"a socket":           func(name string) error { _, err := net.Listen("unix", name); return err },
		"a link to a device": func(name string) error { return os.Symlink("/dev/zero", name) },
	}
}

// A file of the host that no attack may change. It is in the file system of
// service_dir, where it can have a hard link.
func victimFile(t *testing.T, content string) (name string, check func()) {
	t.Helper()
	name = filepath.Join("/var/lib", fmt.Sprintf("victim-%d", time.Now().UnixNano()))
	write(t, name, content)
	t.Cleanup(func() { os.Remove(name) })
	return name, func() {
		t.Helper()
		if now, err := os.ReadFile(name); err != nil || string(now) != content {
			t.Errorf("the host's file has changed: %q, %v", now, err)
		}
		if !notThere(name + "-not-there") {
			t.Error("a file of the host was made")
		}
	}
}

func attackSpoolPlace(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	victim, unchanged := victimFile(t, n.name+" --port=0 --pid-file="+n.pidFile+"\n")
	for what, put := range places(t, victim) {
		if err := put(s.state("processes")); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
		eventually(t, what+" is put away", func() bool { return notThere(s.state("processes")) })
		if n := s.running(); n != 0 {
			t.Errorf("%s: %d sidecars run", what, n)
		}
		unchanged()
	}
	eventually(t, "all are kept aside", func() bool {
		aside, err := filepath.Glob(s.state("processes.rejected-*"))
		return err == nil && len(aside) == len(places(t, victim))
	})
	s.start(n)
}

func attackStatePlaces(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	victim, unchanged := victimFile(t, "untouched\n")
	for what, put := range places(t, victim) {
		if what == "a file too large" {
			continue // is a lock as good as any
		}
		n := s.netns()
		files := []string{"processes.lock", "processes-timestamp", "processes.failed", "processes.failed.old",
			"processes.taken-0", "processes.taken-1", "processes.taken-2", "processes.taken-3"}
		for _, file := range files {
			os.RemoveAll(s.state(file))
			if err := put(s.state(file)); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		write(t, s.state("processes"), "not-there --port=0\n{bad\n")
		ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
		s.start(n)
		unchanged()
		for _, file := range append(files, "processes") {
			if err := os.RemoveAll(s.state(file)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Mended, it goes on.
	must(t, "systemctl", "stop", s.name+".service")
	n := s.netns()
	write(t, s.state("processes"), n.name+" "+strings.Join(n.arguments(), " ")+"\n")
	eventually(t, "a spooled request is served again", func() bool { return !notThere(n.pidFile) })
}

func attackSpoolOwner(t *testing.T) {
	s := define(t, "systemd", "allowed_uids = [0, 42435]\n"+dnsmasq)
	n := s.netns()
	line := n.name + " " + strings.Join(n.arguments(), " ") + "\n"
	spoolAs := func(uid int) {
		write(t, s.state("new"), line)
		if err := os.Chown(s.state("new"), uid, uid); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(s.state("new"), s.state("processes")); err != nil {
			t.Fatal(err)
		}
		ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
		eventually(t, "the spool is taken", func() bool { return notThere(s.state("processes")) })
	}
	spoolAs(1234)
	eventually(t, "it is put away", func() bool {
		aside, err := filepath.Glob(s.state("processes.rejected-*"))
		return err == nil && len(aside) == 1
	})
	if n := s.running(); n != 0 {
		t.Errorf("%d sidecars run", n)
	}
	if log := s.logged(); !strings.Contains(log, "it is of uid 1234, who may not ask") {
		t.Errorf("the journal does not say why:\n%s", log)
	}
	spoolAs(42435)
	eventually(t, "the sidecar of a user who may is there", func() bool { return s.running() == 1 })
}

func attackSpoolChanges(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	server := s.activator()
	done := make(chan struct{})
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			f, err := os.OpenFile(s.state("processes"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
			if err != nil {
				continue
			}
			for j := range 200 {
				fmt.Fprintf(f, "gone-%d --port=0 %s\n", i, strings.Repeat("x", j*10))
				_ = f.Truncate(int64(j * 7))
				_, _ = f.WriteString("{\"netns\":\"x\x00")
			}
			f.Close()
		}
	}()
	n := s.netns()
	for i := range 5 {
		s.start(n, fmt.Sprintf("--txt-record=a,%d", i))
	}
	close(done)
	<-written
	if now := s.activator(); now != server {
		t.Errorf("the activator was process %d and is %d", server, now)
	}
}

func attackMillionLines(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	server := s.activator()
	var lines bytes.Buffer
	for i := range 1000000 {
		fmt.Fprintf(&lines, "q%d -k\n", i)
	}
	write(t, s.state("processes"), lines.String())
	s.start(n)
	eventually(t, "the spool is taken", func() bool { return notThere(s.state("processes")) })
	eventually(t, "the spool is served", func() bool { return notThere(s.state("processes.taken-0")) })
	if now := s.activator(); now != server {
		t.Errorf("the activator was process %d and is %d", server, now)
	}
	if dropped := strings.Count(s.logged(), "dropped a spooled request"); dropped == 0 || dropped > 100 {
		t.Errorf("%d lines of the journal are of the spool", dropped)
	}
	atMost(t, server, 256)
}

func attackInvalidLines(t *testing.T) {
	s := define(t, "systemd", "idle_timeout = \"1s\"\n"+dnsmasq)
	const lines = 20000
	var spooled strings.Builder
	for i := range lines {
		fmt.Fprintf(&spooled, "a/%d -k\n", i)
	}
	write(t, s.state("processes"), spooled.String())
	ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
	var failed []byte
	eventually(t, "they are given up", func() bool {
		failed, _ = os.ReadFile(s.state("processes.failed"))
		return len(failed) > 0 && notThere(s.state("processes.taken-0"))
	})
	if kept := bytes.Count(failed, []byte(`"netns":"a/`)); kept != lines {
		t.Errorf("%d lines are kept, want %d", kept, lines)
	}
	// It tells of them when it leaves, if not before.
	rest := fmt.Sprintf("%d more lines like those above are not in the journal", lines-20)
	eventually(t, "it is told how many there were", func() bool { return strings.Contains(s.logged(), rest) })
	if given := strings.Count(s.logged(), "gave up a spooled request"); given != 20 {
		t.Errorf("%d lines of the journal are of the spool, want 20", given)
	}
	if errors := must(t, "journalctl", "--no-pager", "--output=cat", "--priority=err", fmt.Sprintf("--since=@%d", s.since.Unix()),
		"SERVICE="+s.name, "RESULT=gave-up"); strings.Count(errors, "\n") != 19 {
		t.Errorf("those are not errors:\n%s", errors)
	}
}

// atMost fails if a process has ever used more than so many MiB.
func atMost(t *testing.T, pid, limit int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the activator used up to %d MiB", kib/1024)
	if kib > limit*1024 {
		t.Errorf("the activator used up to %d MiB, more than %d", kib/1024, limit)
	}
}

func attackSpoolNames(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	var lines strings.Builder
	for _, name := range []string{"../../etc/victim", "/etc/victim", "..", ".", "", "a/b", "a b", "x\ny", "x;y", "$(x)", "%i", "-k", "é", "\x1b[31m"} {
		line, err := json.Marshal(map[string]any{"netns": name, "arguments": []string{"x"}})
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	write(t, s.state("processes"), lines.String())
	ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
	eventually(t, "they are given up", func() bool { return !notThere(s.state("processes.failed")) })
	if n := s.running(); n != 0 {
		t.Errorf("%d sidecars run", n)
	}
	if found := must(t, "find", "/run/tripleo-wrappers", "/etc", "-name", "*victim*"); found != "" {
		t.Errorf("files were made: %s", found)
	}
	if log := s.logged(); strings.Contains(log, "\x1b") {
		t.Errorf("the journal has control characters: %q", log)
	}
}

func attackRuntimeDir(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	s.start(n)
	if r := s.agent(t)("ls", "/run/tripleo-wrappers"); r.status == 0 {
		t.Errorf("the agent's container has it: %s", r.stdout)
	}
	for _, name := range []string{"", n.name + ".args", n.name + ".env", "lock"} {
		info, err := os.Stat(filepath.Join("/run/tripleo-wrappers", s.name, name))
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; info.Mode().Perm()&0o077 != 0 || owner != 0 {
			t.Errorf("%q has mode %v and owner %d", name, info.Mode(), owner)
		}
	}
}

func attackEngineOptions(t *testing.T) {
	for _, engine := range []string{"podman", "docker"} {
		s := define(t, engine, dnsmasq)
		n := s.netns()
		pidFile := "--pid-file=" + n.pidFile
		for _, arguments := range [][]string{
			{"--privileged", "--volume=/:/host", pidFile},
			{"--", "--privileged", pidFile},
			{pidFile, "--replace", "--name=other", "localhost/agent", "sh", "-c", "sleep 1000"},
		} {
			if r := s.call(n, arguments...); r.status == 0 {
				t.Errorf("%q: dnsmasq takes it", arguments)
			}
		}
		// This is an option of all three.
		s.start(n, "--user=root")
		name := s.name + "-" + n.name
		if got := must(t, engine, "inspect", "--format={{range .Mounts}}{{.Destination}} {{end}}", name); strings.Contains(got, "/host ") {
			t.Errorf("the container has %s", got)
		}
		if engine == "docker" && must(t, engine, "inspect", "--format={{.HostConfig.Privileged}}", name) != "false" {
			t.Error("the container is privileged")
		}
	}
}

func attackHugeArguments(t *testing.T) {
	s := define(t, "systemd", strings.Replace(dnsmasq, `timeout = "20s"`, `timeout = "3s"`, 1))
	n := s.netns()
	server := s.activator()
	many := make([]string, 100000)
	for i := range many {
		many[i] = "x"
	}
	long := strings.Repeat("x", 100000)
	longer := append([]string{}, make([]string, 20)...)
	for i := range longer {
		longer[i] = long
	}
	for what, arguments := range map[string][]string{"100,000 arguments": many, "arguments of 2 MB": longer} {
		r := run(t, append([]string{"ip", "netns", "exec", n.name, s.state("wrapper")}, arguments...)...)
		if r.status == 0 || r.stderr == "" {
			t.Errorf("%s: exit status %d, %q", what, r.status, r.stderr)
		}
	}
	// By the spool more can be asked for than the kernel takes.
	line, err := json.Marshal(map[string]any{"netns": n.name, "arguments": []string{strings.Repeat("x", 3<<20)}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.state("processes"), string(line)+"\n")
	ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
	eventually(t, "it is given up", func() bool { return !notThere(s.state("processes.failed")) })
	s.start(n)
	if now := s.activator(); now != server {
		t.Errorf("the activator was process %d and is %d", server, now)
	}
}

func attackEnvironment(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	arguments, err := json.Marshal(n.arguments())
	if err != nil {
		t.Fatal(err)
	}
	reply, name := tell(t, n.name, s.socket(), "Start", fmt.Sprintf(`{"arguments":%s,"environment":{
		"PROCESS_TAG":"dnsmasq-%s","LD_PRELOAD":"/var/lib/x.so","PATH":"/var/lib","PROCESS_TAG=x":"y","LANG":"C\u0000LD_PRELOAD=x","":"x"}}`, arguments, n.name))
	refuses(t, "", reply, name)
	pid := s.check(n)
	for _, variable := range list(t, pid, "environ") {
		name, value, _ := strings.Cut(variable, "=")
		if name == "LD_PRELOAD" || name == "" || name == "LANG" && value == "C" || strings.Contains(value, "/var/lib") || variable == "PROCESS_TAG=x=y" {
			t.Errorf("the sidecar has %s", variable)
		}
	}
}

// forged answers each connection on a socket with that, and returns a directory
// that is a service_dir to the client.
func forged(t *testing.T, answer func(conn net.Conn)) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "fake"), 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, "fake", "activator.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = bufio.NewReader(conn).ReadBytes(0)
				answer(conn)
			}()
		}
	}()
	return dir
}

const hostsClient = "/usr/libexec/tripleo-wrappers/tripleo-wrapper"

func attackForgedReply(t *testing.T) {
	n := define(t, "systemd", dnsmasq).netns()
	says := func(text string) func(net.Conn) {
		return func(conn net.Conn) { _, _ = io.WriteString(conn, text+"\x00") }
	}
	const failed = `{"error":"org.openstack.tripleo.Wrapper.StartFailed","parameters":`
	for _, test := range []struct {
		name   string
		answer func(net.Conn)
		status int // 0 for any but 0
	}{
		{"escape sequences", says(failed + `{"message":"\u001b]0;x\u0007\u009b31m\r\nroot:","unit":"\u001b[2J","log":["\u001bc"]}}`), 1},
		{"bytes that are not UTF-8", says(failed + "{\"message\":\"\x9b\xff\x1b\"}}"), 0},
		{"status 300", says(failed + `{"message":"x","exit_status":300}}`), 1},
		{"status -1", says(failed + `{"message":"x","exit_status":-1}}`), 1},
		{"status 0", says(failed + `{"message":"x","exit_status":0}}`), 1},
		{"status 7", says(failed + `{"message":"x","exit_status":7}}`), 7},
		{"a number for the message", says(failed + `{"message":7,"log":"x"}}`), 1},
		{"a list for the parameters", says(failed + `[]}`), 1},
		{"deep", says(failed + strings.Repeat("[", 100000) + "}"), 0},
		{"no end", func(conn net.Conn) {
			for {
				if _, err := io.WriteString(conn, strings.Repeat("x", 1<<16)); err != nil {
					return
				}
			}
		}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := forged(t, test.answer)
			r := run(t, "ip", "netns", "exec", n.name, hostsClient, "wrapper", "--service=fake", "--service-dir="+dir,
				"--ready-timeout=1s", "--")
			if r.status == 0 || test.status != 0 && r.status != test.status {
				t.Errorf("exit status %d, want %d", r.status, test.status)
			}
			if strings.ContainsAny(r.stderr, "\x1b\x07\r\u009b") || len(r.stderr) > 1<<16 {
				t.Errorf("the caller sees %.1000q", r.stderr)
			}
		})
	}
}

func attackClientSpool(t *testing.T) {
	n := define(t, "systemd", dnsmasq).netns()
	victim, unchanged := victimFile(t, "untouched\n")
	for _, file := range []string{"processes", "processes-timestamp", "processes.lock"} {
		for what, put := range places(t, victim) {
			t.Run(file+" "+what, func(t *testing.T) {
				t.Parallel()
				dir, err := os.MkdirTemp("/var/lib", "agent-") // where the victim is
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { os.RemoveAll(dir) })
				if err := os.Mkdir(filepath.Join(dir, "fake"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := put(filepath.Join(dir, "fake", file)); err != nil {
					t.Fatal(err)
				}
				r := run(t, "ip", "netns", "exec", n.name, hostsClient, "wrapper", "--service=fake", "--service-dir="+dir,
					"--ready-timeout=1s", "--")
				if r.status != 1 || r.took > waitTime {
					t.Errorf("exit status %d after %v\n%s", r.status, r.took, r.stderr)
				}
			})
		}
	}
	t.Cleanup(unchanged)
}

func attackPrograms(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	pid := s.start(n)
	mark := filepath.Join(t.TempDir(), "mark")
	programs := []string{s.state("wrapper"), s.state("tripleo-wrapper"), s.dir + "/kill_scripts/test-kill"}
	poison := func() {
		for _, program := range programs {
			if err := os.Remove(program); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(program, []byte("#!/bin/sh\necho $0 >>"+mark+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	poison()
	// All that the host does by itself, on request, and for an operator.
	arguments, err := json.Marshal(n.arguments("--txt-record=a,b"))
	if err != nil {
		t.Fatal(err)
	}
	if reply, name := tell(t, n.name, s.socket(), "Start", fmt.Sprintf(`{"arguments":%s}`, arguments)); name != "" {
		t.Fatal(reply)
	}
	write(t, s.state("processes"), n.name+" "+strings.Join(n.arguments(), " ")+"\n")
	ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
	eventually(t, "the spool is served", func() bool { return notThere(s.state("processes.taken-0")) && notThere(s.state("processes")) })
	for _, command := range []string{"list", "status " + s.name, "status " + s.name + " " + n.name, "check", "restart " + s.name + " " + n.name,
		"run-command " + s.name, "sync " + s.name, "stop " + s.name + " --all", "start " + s.name + " " + n.name, "reload"} {
		run(t, append([]string{"tripleo-wrapperctl"}, strings.Fields(command)...)...)
	}
	content, err := os.ReadFile(n.pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if now := strings.TrimSpace(string(content)); now == strconv.Itoa(pid) {
		t.Error("the sidecar was not started again")
	} else if reply, name := tell(t, "", s.socket(), "Signal", `{"pid":`+now+`,"signal":9}`); name != "" {
		t.Error(reply)
	}
	poison()
	must(t, "systemctl", "daemon-reload")
	must(t, "systemctl", "restart", s.name+".socket")
	if content, err := os.ReadFile(mark); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the host has run %s %v", content, err)
	}
	for _, program := range programs {
		if content, err := os.ReadFile(program); err != nil || bytes.Contains(content, []byte(mark)) {
			t.Errorf("%s was not put right: %v", program, err)
		}
	}
	s.start(n)
}

func attackConnections(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	var held []net.Conn
	for i := range 1000 {
		conn, err := net.Dial("unix", s.socket())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%2 == 0 {
			fmt.Fprint(conn, `{"method":`)
		}
		held = append(held, conn)
	}
	s.start(n)
	for _, conn := range held {
		if err := conn.SetReadDeadline(time.Now().Add(waitTime)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("a connection is still open: %v", err)
		}
	}
}

func attackMemory(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	server := s.activator()
	half := []byte(`{"method":"org.openstack.tripleo.Wrapper.Start","parameters":{"arguments":[` + strings.Repeat(`"",`, (1<<20)/3-100))
	for range 1000 {
		conn, err := net.Dial("unix", s.socket())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() { _, _ = conn.Write(half) }()
	}
	s.start(n)
	s.start(n, "--txt-record=a,b")
	if now := s.activator(); now != server {
		t.Errorf("the activator was process %d and is %d", server, now)
	}
	atMost(t, server, 256)
}

func attackJournal(t *testing.T) {
	s := define(t, "systemd", "idle_timeout = \"1s\"\n"+dnsmasq)
	n := s.netns()
	for range 5000 {
		reply, name := tell(t, "", s.socket(), "Start", `{"arguments":[]}`)
		refuses(t, "NotInNamespace", reply, name)
		if t.Failed() {
			return
		}
	}
	s.start(n) // and is seen
	eventually(t, "it is told how many there were", func() bool {
		return strings.Contains(s.logged(), "more lines like those above")
	})
	log := s.logged()
	refused := strings.Count(log, "refused process "+strconv.Itoa(os.Getpid())+" of uid 0 in control group /")
	if refused == 0 || refused > 100 {
		t.Errorf("%d lines of the journal are of refusals", refused)
	}
	if !strings.Contains(log, "started in") {
		t.Error("what another call did is not in the journal")
	}
}
