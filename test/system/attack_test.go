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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// securityFile is docs/security.md, which test/system/run puts here and, with
// -update, takes back.
const securityFile = "security.md"

// An attack is what an agent that means harm can do. It is made from a container
// such as an agent has, with root and all that a privileged container with
// service_dir, /run/netns and the host's processes and network has. What comes of
// it, as the test finds it, is a row of docs/security.md.
type attack struct {
	name   string
	result string
	try    func(t *testing.T)
	// host says why it is made from the host, where it is; there, it can do more.
	host string
}

const (
	byStrace = "the host's strace holds up the activator"
	byUnit   = "a unit of the host hits the moment"
)

var attacks = []attack{
	{"signal a sidecar of another service, by its pid",
		"refused, `NotASidecar`; the line in the journal names the caller's control group", attackOtherSidecar, ""},
	{"signal a process of the host",
		"refused, `NotASidecar`", attackHostProcess, ""},
	{"hold up a process of a sidecar, or conmon, by STOP, TSTP, TTIN or TTOU",
		"refused, `Failed`", attackHolding, ""},
	{"have a signal reach whoever got the pid of a sidecar that ended between check and signal",
		"`No such process`; the pidfd is that of the one that was checked", attackRecycledPID, byStrace},
	{"ask at the socket for a sidecar in another network namespace than the caller's",
		"refused, `InvalidParameter`: a request has no place for it", attackNamedNamespace, ""},
	{"ask in the spool for a sidecar in another network namespace than the writer's",
		"accepted: it is started, see [The line](#the-line)", attackOtherNamespaceSpooled, ""},
	{"list, signal or command the sidecar of another network namespace than the caller's",
		"accepted, if it is of the same service: Neutron does so, see [The line](#the-line)", attackOtherNamespace, ""},
	{"ask from the host's network namespace, or from one without a name",
		"refused, `NotInNamespace`", attackNoName, ""},
	{"name the host's network namespace by a symbolic link in `/run/netns`",
		"no name: refused at the socket, given up in the spool", attackNetnsLink, ""},
	{"give a name in `/run/netns` to the host's network namespace, and ask from it",
		"accepted: the sidecar is in that one, see [The line](#the-line)", attackHostNamed, ""},
	{"swap a name in `/run/netns` while systemd starts the sidecar, and back again",
		"the sidecar fails: it is not in the namespace that was asked from", attackNetnsSwap, byUnit},
	{"swap a name in `/run/netns` while Podman starts the sidecar",
		"the sidecar is in the namespace that was asked from", attackNetnsSwapPodman, byUnit},
	{"swap a name in `/run/netns` while Docker starts the sidecar",
		"accepted: the sidecar is in the other namespace, see [The line](#the-line)", attackNetnsSwapDocker, byUnit},
	{"fill `/run/netns` with fifos, directories, files, other namespaces and odd names",
		"they name nothing; a network namespace of an odd name gets no sidecar; other requests are served", attackNetnsEntries, ""},
	{"put links, hard links, a fifo, a directory, a socket or a file of a terabyte in the place of the spool",
		"put away as `processes.rejected-…`; what a link leads to is neither read nor changed", attackSpoolPlace, ""},
	{"put the same in the place of `processes.failed` and of the time stamp",
		"what was given up waits until it is gone, all else is served; a large file is put away", attackFailedPlace, ""},
	{"put the same in the place of the lock",
		"spooled requests wait until it is gone, the socket serves; a fifo, a file or a hard link is as good a lock as any", attackLockPlace, ""},
	{"put the same in the place of spools being served",
		"put away as `processes.rejected-…`; spooled requests are served", attackTakenPlace, ""},
	{"put the same in the place of a sidecar's pid file",
		"counts as missing: the sidecar is started again, or cannot be, for which the caller gets an error; " +
			"what a link leads to is neither read nor changed", attackPIDFilePlace, ""},
	{"put a link to a directory of the host in the place of `SERVICE_DIR/SERVICE`",
		"spooled requests wait, and the socket does not start, until it is gone; nothing in that directory is read or changed", attackStateLink, ""},
	{"put it there while systemd starts the socket",
		"accepted: the socket is made in that directory, in the place of `activator.sock`, see [The activator's sandbox](#the-activators-sandbox)",
		attackStateSwap, byUnit},
	{"write the spool as a user who may not use the socket",
		"put away as `processes.rejected-…`", attackSpoolOwner, ""},
	{"change the spool while it is read, and swap it for links",
		"each request is served or given up; what a link leads to is neither read nor changed", attackSpoolChanges, ""},
	{"a spool of a million lines, with names that are gone or that no namespace can have",
		"100,000 are looked at; 20 lines in the journal in 30 s, and how many more there were; the socket serves meanwhile; " +
			"what is given up is in `processes.failed`", attackMillionLines, ""},
	{"name files outside by the namespace of a spooled request",
		"given up: no such name; nothing is written", attackSpoolNames, ""},
	{"look into the activator's files by `/proc`, as root with `CAP_SYS_ADMIN`, `CAP_NET_ADMIN` and the host's processes",
		"`Permission denied`: the activator has a capability that such a container has not", attackProc, ""},
	{"look at or change what the activator left for a sidecar (argument list, environment)",
		"not in the agent's container, and root's alone on the host", attackRuntimeDir, ""},
	{"arguments that look like options of Podman or Docker",
		"behind the image; the container has no more than the definition says", attackEngineOptions, ""},
	{"100,000 arguments, arguments of 1 MiB and of 2 MB, and more in the spool",
		"a sidecar with all of them, up to 1 MiB in all; else an error for the caller; the activator goes on", attackHugeArguments, ""},
	{"make a node of the host's device in a container of Docker that is not privileged, and have a control command, or a " +
		"service that joins it, open that",
		"`Operation not permitted`, as in the container", attackDevices, ""},
	{"put a link to the host, by `/proc/1/root`, in the place of a command in a container that is not privileged, and have a control " +
		"command run it",
		"`permission denied`: it is looked for with the container's capabilities", attackCommandLink, ""},
	{"put a script that `/proc/self/exe` runs in the place of that command",
		"what can be had is a sealed copy of the client in memory, not the host's file", attackCommandScript, ""},
	{"45,000 pid files among the arguments, at the socket and in the spool",
		"an error for the caller, given up in the spool: 16 are looked at; the activator goes on", attackPIDFiles, ""},
	{"environment that `pass_environment` does not name, such as `LD_PRELOAD`",
		"not passed on", attackEnvironment, ""},
	{"forge the activator's reply: escape sequences, wrong types, no end, odd exit statuses",
		"text without control characters, exit status 1 to 255, at most 1 MiB read", attackForgedReply, ""},
	{"put links, hard links or fifos where another agent's wrapper spools",
		"an error, or spooled all the same; nothing outside is touched, and nobody waits", attackClientSpool, ""},
	{"replace the wrapper, the client and the kill script, and wait for the host to run them",
		"the host never does; they are put right when the socket is made", attackPrograms, ""},
	{"hold leases on a pid file, the spool, what was given up, the wrapper, the client and the kill script",
		"nobody waits: the spool does, the rest counts as not there; calls, `status` and `metrics` are answered, and the socket " +
			"is made again, meanwhile", attackLeases, ""},
	{"hold 1,000 connections open, idle, half a request each",
		"each is closed after 5 s, with 20 lines in the journal and how many more there were; others are served meanwhile", attackConnections, ""},
	{"hold 1,000 connections open with a request of 1 MiB each",
		"all but 16 MiB of it are closed; the activator stays below 256 MiB, others are served", attackMemory, ""},
	{"make 5,000 calls that are refused, of methods that there are not, with wrong parameters, or as a user who may not",
		"20 lines in the journal per caller in 30 s, each with uid, pid and control group, and how many more there were", attackJournal, ""},
}

// TestAttacks tries all of them, and compares the table in docs/security.md with
// what they are.
func TestAttacks(t *testing.T) {
	t.Cleanup(func() { compareAttacks(t) }) // when those that run side by side are over, too
	for _, attack := range attacks {
		t.Run(strings.ReplaceAll(attack.name, " ", "-"), func(t *testing.T) {
			attack.try(t)
			made := false
			agents.Range(func(name, _ any) bool {
				made = made || strings.HasPrefix(name.(string)+"/", t.Name()+"/")
				return true
			})
			if made != (attack.host == "") && !t.Failed() {
				t.Errorf("made from a container of an agent: %v, want %v", made, !made)
			}
		})
	}
}

// compareAttacks compares the table of attacks with the one in docs/security.md.
func compareAttacks(t *testing.T) {
	content, err := os.ReadFile(securityFile)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "| attack | from | result |\n| --- | --- | --- |\n", "\n\n"
	before, rest, ok := strings.Cut(string(content), begin)
	_, after, okEnd := strings.Cut(rest, end)
	if !ok || !okEnd {
		t.Fatal("docs/security.md has no table of attacks")
	}
	var table strings.Builder
	for _, attack := range attacks {
		from := "agent"
		if attack.host != "" {
			from = "host: " + attack.host
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", attack.name, from, attack.result)
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
	conn, err := dialFrom(netns, socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reply, err = roundTrip(conn, bufio.NewReader(conn), method, parameters)
	if err != nil {
		t.Fatalf("waiting for the reply: %v", err)
	}
	return reply, errorOf(t, reply)
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

func attackOtherSidecar(t *testing.T) {
	victim := define(t, "systemd", dnsmasq)
	n := victim.netns()
	pid := victim.start(n)
	own := define(t, "systemd", dnsmasq)
	agent := own.agent(t)
	r := agent.run(own.dir+"/kill_scripts/test-kill", "9", strconv.Itoa(pid))
	if r.status != 1 || !strings.Contains(r.stderr, "is not of a sidecar of") {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	if victim.check(n) != pid {
		t.Error("the sidecar of the other service has changed")
	}
	if log := own.logged(); !strings.Contains(log, "in control group ") || !strings.Contains(log, agent.container()) {
		t.Errorf("the journal does not say which container it was, %s:\n%s", agent.container(), log)
	}
}

func attackHostProcess(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	agent := s.agent(t)
	sleep := sleeper(t)
	// Process 1 may be of no unit at all.
	for _, pid := range []int{sleep.Process.Pid, s.activator(), os.Getpid(), 1} {
		reply, name := agent.tell("", "Signal", fmt.Sprintf(`{"pid":%d,"signal":9}`, pid))
		refuses(t, "NotASidecar", reply, name)
	}
	for _, pid := range []string{"0", "-1", "-" + strconv.Itoa(sleep.Process.Pid)} {
		reply, name := agent.tell("", "Signal", `{"pid":`+pid+`,"signal":9}`)
		refuses(t, "InvalidParameter", reply, name)
	}
	if !alive(sleep.Process.Pid) {
		t.Error("the process is gone")
	}
}

func attackHolding(t *testing.T) {
	s := define(t, "podman", dnsmasq)
	agent := s.agent(t)
	n := s.netns()
	pid := s.start(n)
	conmon, err := strconv.Atoi(show(t, s.unit(n.name), "MainPID"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{pid, conmon} {
		for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU} {
			reply, name := agent.tell("", "Signal", fmt.Sprintf(`{"pid":%d,"signal":%d}`, pid, signal))
			refuses(t, "Failed", reply, name)
		}
		if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err != nil || strings.Contains(string(status), "\nState:\tT") {
			t.Errorf("process %d: error %v\n%s", pid, err, status)
		}
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

// recycle says whether a signal was sent after the process had ended and another one
// had its pid.
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
	eventually(t, "the signal is held up", func() bool {
		calls, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", server))
		return slices.ContainsFunc(calls, func(call string) bool {
			content, err := os.ReadFile(call)
			return err == nil && strings.HasPrefix(string(content), fmt.Sprintf("%d ", unix.SYS_PIDFD_SEND_SIGNAL))
		})
	})
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// Its pid is free when systemd has taken note of its end.
	eventually(t, "the sidecar is gone", func() bool { return notThere(fmt.Sprintf("/proc/%d", pid)) })
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
	got := <-answer
	if heir == nil {
		t.Logf("no other process got pid %d", pid)
		return false
	}
	defer func() { _ = heir.Process.Kill(); _ = heir.Wait() }()
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
	agent := s.agent(t)
	own, other := s.netns(), s.netns()
	for _, parameter := range []string{"netns", "namespace", "unit", "container", "uid"} {
		reply, name := agent.tell(own.name, "Start", fmt.Sprintf(`{"arguments":[],%q:%q}`, parameter, other.name))
		refuses(t, "InvalidParameter", reply, name)
	}
	if n := s.running(); n != 0 {
		t.Errorf("%d sidecars run", n)
	}
}

// The spool tells the activator the namespace, and the writer, here in the host's,
// need not be in it.
func attackOtherNamespaceSpooled(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	agent := s.agent(t)
	n := s.netns()
	agent.write(s.state("processes"), "PROCESS_TAG=x "+n.name+"\n"+n.name+" "+strings.Join(n.arguments(), " ")+"\n")
	eventually(t, "the sidecar runs", func() bool { return s.running() == 1 && !notThere(n.pidFile) })
	if got, want := inode(t, fmt.Sprintf("/proc/%d/ns/net", s.mainPID(n))), inode(t, "/run/netns/"+n.name); got != want {
		t.Error("the sidecar is in another network namespace")
	}
}

// A sidecar of another service than the caller's is another matter.
func attackOtherNamespace(t *testing.T) {
	s := define(t, "systemd", commanded)
	agent := s.agent(t)
	own, n := s.netns(), s.netns()
	if r := s.call(n, "in-"+n.name); r.status != 0 {
		t.Fatalf("exit status %d\n%s", r.status, r.stderr)
	}
	pid := s.mainPID(n)
	for _, from := range []string{own.name, ""} {
		if reply, name := agent.tell(from, "List", "{}"); name != "" || !strings.Contains(reply, n.name) {
			t.Errorf("List from %q: %s", from, reply)
		}
		if reply, name := agent.tell(from, "Signal", fmt.Sprintf(`{"pid":%d,"signal":0}`, pid)); name != "" {
			t.Errorf("Signal from %q: %s", from, reply)
		}
	}
	// As the L3 agent commands conntrackd, from no namespace of a router; from one,
	// that one's sidecar is meant, and there is none.
	if reply, name := agent.tell("", "Run", fmt.Sprintf(`{"arguments":["--do",%q]}`, "in-"+n.name)); name != "" || !strings.Contains(reply, n.name) {
		t.Errorf("Run from the host's: %s", reply)
	}
	reply, name := agent.tell(own.name, "Run", fmt.Sprintf(`{"arguments":["--do",%q]}`, "in-"+n.name))
	refuses(t, "NotRunning", reply, name)
	if !alive(pid) {
		t.Error("the sidecar is gone")
	}
	if log := s.logged(); strings.Contains(log, "sent signal 0") {
		t.Errorf("a signal that does nothing is in the journal:\n%s", log)
	}
}

func attackNoName(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	agent := s.agent(t)
	for _, command := range [][]string{{"dnsmasq"}, {"unshare", "-n", "dnsmasq"}} {
		if r := agent.run(command...); r.status != 1 || !strings.Contains(r.stderr, "no network namespace that has a name") {
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
	t.Parallel() // it waits for half a minute
	s := define(t, "systemd", dnsmasq)
	agent := s.agent(t)
	var lines strings.Builder
	var links []*netns
	for _, target := range []string{"/proc/1/ns/net", "/tmp/"} {
		n := s.netns()
		links = append(links, n)
		if target == "/tmp/" {
			target += n.name
		}
		name := "/run/netns/" + n.name
		agent.must("sh", "-c", `touch "$3" && mount -o bind "$1" "$3" && umount -l "$1" && rm -f "$1" && ln -s "$2" "$1"`, "sh", name, target, "/tmp/"+n.name)
		if got, err := os.Readlink(name); err != nil || got != target {
			t.Fatalf("the agent's link is not the host's: %q %v", got, err)
		}
		r := agent.run(append([]string{"nsenter", "--net=" + target, "dnsmasq"}, n.arguments()...)...)
		if r.status != 1 || !strings.Contains(r.stderr, "no network namespace that has a name") {
			t.Errorf("%s: exit status %d\n%s", target, r.status, r.stderr)
		}
		fmt.Fprintf(&lines, "%s %s\n", n.name, strings.Join(n.arguments(), " "))
	}
	agent.write(s.state("processes"), lines.String())
	// They are tried for half a minute.
	for began := time.Now(); notThere(s.state("processes.failed")); time.Sleep(50 * time.Millisecond) {
		if n := s.running(); n != 0 {
			t.Fatalf("%d sidecars run", n)
		}
		if time.Since(began) > 2*waitTime {
			t.Fatal("they are not given up")
		}
	}
	eventually(t, "the spool is served", func() bool { return notThere(s.state("processes.taken-0")) })
	failed, err := os.ReadFile(s.state("processes.failed"))
	if err != nil {
		t.Fatal(err)
	}
	log := s.logged()
	for _, n := range links {
		if !strings.Contains(string(failed), `"netns":"`+n.name+`"`) {
			t.Errorf("%s is not in processes.failed:\n%s", n.name, failed)
		}
		if !strings.Contains(log, s.unit(n.name)+": gave up a spooled request") {
			t.Errorf("the journal does not say that %s was given up:\n%s", n.name, log)
		}
	}
	if n := s.running(); n != 0 {
		t.Errorf("%d sidecars run", n)
	}
}

func attackHostNamed(t *testing.T) {
	s := define(t, "systemd", "cmd = \"/bin/sleep\"\n")
	agent := s.agent(t)
	n := s.netns()
	agent.must("sh", "-c", `umount -l "$1" && mount -o bind /proc/self/ns/net "$1"`, "sh", "/run/netns/"+n.name)
	if r := agent.run("dnsmasq", "1000"); r.status != 0 {
		t.Fatalf("exit status %d\n%s", r.status, r.stderr)
	}
	if got, want := inode(t, fmt.Sprintf("/proc/%d/ns/net", s.mainPID(n))), inode(t, "/proc/1/ns/net"); got != want {
		t.Error("the sidecar is in another network namespace: there is nothing left to accept")
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
	dropInto(t, s.name+"@.service", text)
}

// dropInto adds to a unit.
func dropInto(t *testing.T, unit, text string) {
	t.Helper()
	dir := "/run/systemd/system/" + unit + ".d"
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

// beforeRun has the sidecars' units run shell commands right before their engine
// is told to run a container.
func (s *service) beforeRun(t *testing.T, commands string) {
	t.Helper()
	dir := "/run/bin-" + s.name
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	script(t, filepath.Join(dir, s.engine), fmt.Sprintf("case $1 in run) %s;; esac\nexec /usr/bin/%s \"$@\"", commands, s.engine))
	s.dropIn(t, "[Service]\nEnvironment=PATH="+dir+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n")
}

func attackNetnsSwapPodman(t *testing.T) {
	s := define(t, "podman", dnsmasq)
	n := s.netns()
	kept, there, back := swap(t, n)
	s.beforeRun(t, there)
	r := s.call(n, n.arguments()...)
	if r.status != 0 {
		t.Fatalf("exit status %d\n%s", r.status, r.stderr)
	}
	if target, err := os.Readlink("/run/netns/" + n.name); err != nil || target != "/proc/1/ns/net" {
		t.Fatalf("the name was not taken, so nothing was tried: %q %v", target, err)
	}
	if got, want := inode(t, fmt.Sprintf("/proc/%d/ns/net", s.mainPID(n))), inode(t, kept); got != want {
		t.Error("the sidecar is in another network namespace")
	}
	must(t, "sh", "-c", back)
}

// Docker's container looks the name up by itself, when the client has looked.
func attackNetnsSwapDocker(t *testing.T) {
	s := define(t, "docker", dnsmasq)
	n, other := s.netns(), s.netns()
	kept, _, back := swap(t, n)
	s.beforeRun(t, fmt.Sprintf("umount --lazy %[1]s; mount --bind %[2]s %[1]s", "/run/netns/"+n.name, "/run/netns/"+other.name))
	r := s.call(n, n.arguments()...)
	if r.status != 0 {
		t.Fatalf("exit status %d\n%s", r.status, r.stderr)
	}
	is := inode(t, fmt.Sprintf("/proc/%d/ns/net", s.mainPID(n)))
	if is == inode(t, kept) {
		t.Error("the sidecar is in the namespace that was asked from: there is nothing left to accept")
	} else if is != inode(t, "/run/netns/"+other.name) {
		t.Error("the sidecar is in a third namespace")
	}
	must(t, "sh", "-c", back)
}

func attackNetnsEntries(t *testing.T) {
	t.Parallel() // it waits for half a minute
	s := define(t, "systemd", dnsmasq)
	agent := s.agent(t)
	n := s.netns()
	in := func(name string) string { return filepath.Join("/run/netns", name) }
	made := func(name, command string) string {
		t.Helper()
		t.Cleanup(func() { run(t, "umount", "--quiet", in(name)); os.RemoveAll(in(name)) })
		agent.must("sh", "-c", command, "sh", in(name))
		if notThere(in(name)) {
			t.Fatalf("the host does not see %q", name)
		}
		return name
	}
	names := []string{
		made("a-fifo", `mkfifo "$1"`),
		made("a-directory", `mkdir "$1"`),
		made("a-file", `echo x >"$1"`),
		made("dangling", `ln -s /no/such/file "$1"`),
		made("a-uts-namespace", `touch "$1" && mount -o bind /proc/1/ns/uts "$1"`),
	}
	// These are network namespaces, which are only called what no unit can be.
	odd := []string{"new\nline", "--privileged", "-all", "a b", "a@b", "%i", "$(x)", "x;y", "é", ".hidden", "\x1b[31m", strings.Repeat("x", 255)}
	for _, name := range odd {
		made(name, `touch "$1" && unshare -n sh -c 'mount -o bind /proc/self/ns/net "$1"' sh "$1"`)
		if r := run(t, "stat", "--file-system", "--format=%T", in(name)); strings.TrimSpace(r.stdout) != "nsfs" {
			t.Fatalf("%q is no namespace: %s%s", name, r.stdout, r.stderr)
		}
		r := agent.run(append([]string{"nsenter", "--net=" + in(name), "dnsmasq"}, n.arguments()...)...)
		if r.status != 1 || !strings.Contains(r.stderr, "so that no unit can have it") || strings.Contains(r.stderr, "\x1b") {
			t.Errorf("from %q: exit status %d\n%s", name, r.status, r.stderr)
		}
	}
	names = append(names, odd...)
	var lines strings.Builder
	for _, name := range names {
		line, err := json.Marshal(map[string]any{"netns": name, "arguments": []string{"--port=0"}})
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	agent.write(s.state("processes"), lines.String())
	s.start(n)
	eventually(t, "the requests are looked at", func() bool { return notThere(s.state("processes")) })
	// What is no namespace is tried for half a minute, in which it might become one.
	for began := time.Now(); notThere(s.state("processes.failed")); time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > 2*waitTime {
			t.Fatal("they are not given up")
		}
	}
	failed, err := os.ReadFile(s.state("processes.failed"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		quoted, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		if name != "dangling" && !bytes.Contains(failed, append([]byte(`"netns":`), quoted...)) {
			t.Errorf("%q is not in processes.failed", name)
		}
	}
	if got := s.running(); got != 1 {
		t.Errorf("%d sidecars run, want 1", got)
	}
	if log := s.logged(); strings.Contains(log, "\x1b") {
		t.Errorf("the journal has control characters: %q", log)
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
	agent := s.agent(t)
	n := s.netns()
	victim, unchanged := victimFile(t, n.name+" --port=0 --pid-file="+n.pidFile+"\n")
	for what := range places {
		agent.do("put", what, victim, s.state("processes"))
		ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
		eventually(t, what+" is put away", func() bool { return notThere(s.state("processes")) })
		unchanged()
	}
	s.rejected(t, len(places))
	if n := s.running(); n != 0 {
		t.Errorf("%d sidecars run", n)
	}
	s.start(n)
}

// rejected waits until so many spools have been put away.
func (s *service) rejected(t *testing.T, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d spools are put away", want), func() bool {
		aside, err := filepath.Glob(s.state("processes.rejected-*"))
		return err == nil && len(aside) == want
	})
}

// A besieged service has one of places in the way of each of its files.
type besieged struct {
	*service
	what      string
	unchanged func() // checks the file that the place leads to, if it does
	spooled   *netns // where a sidecar is asked for, beside a line that is no request
}

// besiege puts each of places in the place of files, in a service of its own, and
// spools for each.
func besiege(t *testing.T, files ...string) []besieged {
	t.Helper()
	var all []besieged
	var services []*service
	for what := range places {
		services = append(services, define(t, "systemd", dnsmasq))
		all = append(all, besieged{service: services[len(services)-1], what: what})
	}
	agent := services[0].agent(t, services[1:]...)
	for i, s := range all {
		victim, unchanged := victimFile(t, "untouched\n")
		all[i].unchanged = unchanged
		put := []string{"put", s.what, victim}
		for _, file := range files {
			put = append(put, s.state(file))
		}
		agent.do(put[0], put[1:]...)
		all[i].spooled = s.netns()
		agent.write(s.state("processes"), all[i].spooled.name+" "+strings.Join(all[i].spooled.arguments(), " ")+"\n{bad\n")
	}
	return all
}

const waits = "spooled requests have to wait until this is mended: "

func attackFailedPlace(t *testing.T) {
	all := besiege(t, "processes.failed", "processes-timestamp")
	for _, s := range all {
		eventually(t, s.what+": the request beside it is served", func() bool { return !notThere(s.spooled.pidFile) })
		if s.what == "a file too large" {
			continue
		}
		eventually(t, s.what+": it is said what waits", func() bool {
			return strings.Contains(s.logged(), waits+"putting away what has been served: ")
		})
		if notThere(s.state("processes.taken-0")) {
			t.Errorf("%s: the spool does not wait", s.what)
		}
		ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
		s.service.start(s.netns())
		s.unchanged()
		if err := os.RemoveAll(s.state("processes.failed")); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range all {
		eventually(t, s.what+": it is put away", func() bool {
			failed, err := os.ReadFile(s.state("processes.failed"))
			return err == nil && strings.Contains(string(failed), "\n{bad\n") && notThere(s.state("processes.taken-0"))
		})
		s.unchanged()
	}
}

func attackLockPlace(t *testing.T) {
	all := besiege(t, "processes.lock")
	for _, s := range all {
		switch s.what {
		case "a fifo", "a hard link", "a file too large":
			eventually(t, s.what+": the request is served", func() bool { return !notThere(s.spooled.pidFile) })
			s.unchanged()
			continue
		}
		eventually(t, s.what+": it is said what waits", func() bool {
			return strings.Contains(s.logged(), waits+"taking the spool of ")
		})
		// It is answered, so that nothing is waited for.
		ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
		s.service.start(s.netns())
		if notThere(s.state("processes")) || !notThere(s.spooled.pidFile) {
			t.Errorf("%s: the spool does not wait", s.what)
		}
		s.unchanged()
		if err := os.RemoveAll(s.state("processes.lock")); err != nil {
			t.Fatal(err)
		}
		eventually(t, s.what+": the request is served when it is gone", func() bool { return !notThere(s.spooled.pidFile) })
	}
}

func attackTakenPlace(t *testing.T) {
	files := []string{"processes.taken-0", "processes.taken-1", "processes.taken-2", "processes.taken-3"}
	all := besiege(t, files...)
	for _, s := range all {
		s.rejected(t, len(files))
		eventually(t, s.what+": the request is served", func() bool { return !notThere(s.spooled.pidFile) })
		s.unchanged()
	}
}

// A link that were followed would lead to the pid of the sidecar.
func attackPIDFilePlace(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	agent := s.agent(t)
	for what := range places {
		n := s.netns()
		pid := s.start(n)
		victim, unchanged := victimFile(t, strconv.Itoa(pid)+"\n")
		agent.do("put", what, victim, n.pidFile)
		r := agent.call(n, n.arguments()...)
		switch what {
		case "a directory": // dnsmasq cannot take it away
			if r.status == 0 || !strings.Contains(r.stderr, n.pidFile) {
				t.Errorf("%s: exit status %d\n%s", what, r.status, r.stderr)
			}
		default:
			if r.status != 0 {
				t.Errorf("%s: exit status %d\n%s", what, r.status, r.stderr)
			} else if s.check(n) == pid {
				t.Errorf("%s: the sidecar is still process %d", what, pid)
			}
		}
		unchanged()
	}
}

// A besiegedDir is a directory of the host with what would do harm if it were
// taken for the one of a service.
type besiegedDir struct {
	name string
	// link and unlink are shell commands that put a link to it in the place of the
	// service's, and that give that one back.
	link, unlink string
}

var besiegedFiles = []string{"activator.sock", "processes", "processes-timestamp", "tripleo-wrapper", "wrapper"}

// besiegeDir makes one, for a service that has a sidecar asked for there.
func (s *service) besiegeDir(t *testing.T, n *netns) besiegedDir {
	t.Helper()
	name := s.dir + "-of-the-host"
	if err := os.Mkdir(name, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(name) })
	for _, file := range besiegedFiles {
		write(t, filepath.Join(name, file), n.name+" "+strings.Join(n.arguments(), " ")+"\n")
	}
	own := filepath.Join(s.dir, s.name)
	return besiegedDir{
		name,
		fmt.Sprintf("mv %[1]s %[1]s.old && ln -s %[2]s %[1]s", own, name),
		fmt.Sprintf("rm %[1]s && mv %[1]s.old %[1]s", own),
	}
}

// unchanged checks that it is as it was, but for one file.
func (d besiegedDir) unchanged(t *testing.T, but string) {
	t.Helper()
	entries, err := os.ReadDir(d.name)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
		if entry.Name() == but {
			continue
		}
		content, err := os.ReadFile(filepath.Join(d.name, entry.Name()))
		if err != nil || !strings.HasPrefix(string(content), "qdhcp-") {
			t.Errorf("the host's %s/%s has changed: %q, %v", d.name, entry.Name(), content, err)
		}
	}
	if !equal(names, besiegedFiles) {
		t.Errorf("the host's %s has %q", d.name, names)
	}
}

func attackStateLink(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	agent := s.agent(t)
	n := s.netns()
	host := s.besiegeDir(t, n)
	agent.must("sh", "-c", host.link)
	// The standing socket is still there, and the path unit sees the spool.
	socket := filepath.Join(s.dir, s.name+".old", "activator.sock")
	tell(t, "", socket, "Sync", "{}")
	eventually(t, "it is said what waits", func() bool { return strings.Contains(s.logged(), waits) })
	if r := run(t, "systemctl", "restart", s.name+".socket"); r.status == 0 {
		t.Error("the socket was started")
	}
	log := must(t, "journalctl", "--no-pager", "--output=cat", fmt.Sprintf("--since=@%d", s.since.Unix()), "--identifier=tripleo-wrappers-activator")
	if !strings.Contains(log, "laying out "+filepath.Join(s.dir, s.name)+": ") {
		t.Errorf("the journal does not say why the socket does not start:\n%s", log)
	}
	if got := s.running(); got != 0 {
		t.Errorf("%d sidecars run", got)
	}
	host.unchanged(t, "")
	agent.must("sh", "-c", host.unlink)
	must(t, "systemctl", "restart", s.name+".socket")
	s.start(n)
	host.unchanged(t, "")
}

func attackStateSwap(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	host := s.besiegeDir(t, n)
	script(t, "/run/link-"+s.name, host.link)
	must(t, "systemctl", "stop", s.name+".path") // which sees the spool there, and would have the activator look at it
	dropInto(t, s.name+".socket", "[Socket]\nExecStartPre=/run/link-"+s.name+"\n")
	must(t, "systemctl", "restart", s.name+".socket")
	info, err := os.Lstat(filepath.Join(host.name, "activator.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Type() != os.ModeSocket {
		t.Errorf("what the host has there is %v: there is nothing left to accept", info.Mode())
	}
	host.unchanged(t, "activator.sock")
	if err := os.WriteFile("/run/link-"+s.name, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "sh", "-c", host.unlink)
	must(t, "systemctl", "restart", s.name+".socket")
	s.start(n)
	host.unchanged(t, "activator.sock")
}

func attackSpoolOwner(t *testing.T) {
	s := define(t, "systemd", "allowed_uids = [0, 42435]\n"+dnsmasq)
	agent := s.agent(t)
	n := s.netns()
	spoolAs := func(uid string) {
		agent.write(s.state("new"), n.name+" "+strings.Join(n.arguments(), " ")+"\n")
		agent.must("chown", uid, s.state("new"))
		agent.must("mv", s.state("new"), s.state("processes"))
		ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
		eventually(t, "the spool is taken", func() bool { return notThere(s.state("processes")) })
	}
	spoolAs("1234")
	s.rejected(t, 1)
	if n := s.running(); n != 0 {
		t.Errorf("%d sidecars run", n)
	}
	if log := s.logged(); !strings.Contains(log, "it is of uid 1234, who may not ask") {
		t.Errorf("the journal does not say why:\n%s", log)
	}
	spoolAs("42435")
	eventually(t, "the sidecar of a user who may is there", func() bool { return s.running() == 1 })
}

// Each spool has a line of its own, which names no namespace, so that it is seen
// in processes.failed, and a request that can be served.
func attackSpoolChanges(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	agent := s.agent(t)
	server := s.activator()
	victim, unchanged := victimFile(t, "d/0 untouched\n")
	n, spooled := s.netns(), s.netns()
	done := make(chan struct{})
	go func() {
		defer close(done)
		agent.do("change", s.state("processes"), victim, spooled.name+" "+strings.Join(spooled.arguments(), " "))
	}()
	for i := 0; i < 5; i++ {
		s.start(n, fmt.Sprintf("--txt-record=a,%d", i))
	}
	<-done
	eventually(t, "all spools are served", func() bool {
		left, err := filepath.Glob(s.state("processes.taken-*"))
		return err == nil && len(left) == 0 && notThere(s.state("processes"))
	})
	failed, err := os.ReadFile(s.state("processes.failed"))
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	for i := range changedSpools {
		if i%everyNth == 0 {
			links++
			continue
		}
		a, b := fmt.Sprintf(`"netns":"a/%04d"`, i), fmt.Sprintf(`"netns":"b/%04d"`, i)
		if got := strings.Count(string(failed), a) + strings.Count(string(failed), b); got != 1 {
			t.Errorf("line %d was given up %d times", i, got)
		}
	}
	s.rejected(t, links)
	if strings.Contains(string(failed), "d/0") {
		t.Error("the host's file was read")
	}
	unchanged()
	content, err := os.ReadFile(spooled.pidFile)
	if err != nil {
		t.Fatalf("the sidecar that was spooled: %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		t.Fatal(err)
	}
	if arguments := cmdline(t, pid); !strings.HasPrefix(arguments[len(arguments)-1], "--txt-record=spooled,") {
		t.Errorf("the sidecar that was spooled has arguments %q", arguments)
	}
	s.checkOwner(spooled, pid)
	if now := s.activator(); now != server {
		t.Errorf("the activator was process %d and is %d", server, now)
	}
}

func attackMillionLines(t *testing.T) {
	// Of these so many are looked at, and of one more it is told that there are.
	const looked = 100000
	for _, test := range []struct{ what, line, logged string }{
		{"gone", "q%d -k", "dropped a spooled request"},
		{"no name", "a/%d -k", "gave up a spooled request"},
	} {
		s := define(t, "systemd", dnsmasq)
		agent := s.agent(t)
		n := s.netns()
		server := s.activator()
		began := time.Now()
		agent.do("lines", s.state("processes"), "1000000", test.line)
		s.start(n)
		eventually(t, "the spool is taken", func() bool { return notThere(s.state("processes")) })
		eventually(t, "the spool is served", func() bool { return notThere(s.state("processes.taken-0")) })
		if now := s.activator(); now != server {
			t.Errorf("%s: the activator was process %d and is %d", test.what, server, now)
		}
		atMost(t, server, 256)
		must(t, "systemctl", "stop", s.name+".service") // it tells of the rest
		log := s.limited(t, began, test.logged)
		if test.logged == "gave up a spooled request" {
			failed, err := os.ReadFile(s.state("processes.failed"))
			if err != nil {
				t.Fatal(err)
			}
			if kept := bytes.Count(failed, []byte(`"netns":"a/`)); kept != looked {
				t.Errorf("%d lines are kept, want %d", kept, looked)
			}
			errors := must(t, "journalctl", "--no-pager", "--output=cat", "--priority=err", fmt.Sprintf("--since=@%d", s.since.Unix()),
				"SERVICE="+s.name, "RESULT=gave-up")
			if got := len(strings.Split(errors, "\n")); got != log.lines {
				t.Errorf("%d lines are errors, want %d", got, log.lines)
			}
		} else if !strings.Contains(s.logged(), "more than 100000 lines") {
			t.Error("the journal does not say that there are more lines")
		} else {
			log.told++ // which is that line, that is given up
		}
		if got := log.lines + log.told; got != looked+1 {
			t.Errorf("%s: %d lines are logged and told of, want %d", test.what, got, looked+1)
		}
	}
}

// A limitedLog is what the journal has of what is limited there.
type limitedLog struct {
	lines int // those themselves
	told  int // how many more there were, as it says
}

// limited counts the lines with a text in a service's journal, which began at
// some time and is complete, and checks that they are as few as they are to be.
func (s *service) limited(t *testing.T, began time.Time, text string) limitedLog {
	t.Helper()
	log := s.logged()
	result := limitedLog{lines: strings.Count(log, text)}
	if limit := 20 * (1 + int(time.Since(began)/(30*time.Second))); result.lines == 0 || result.lines > limit {
		t.Errorf("%d lines of the journal say %q, want 1 to %d", result.lines, text, limit)
	}
	for _, more := range regexp.MustCompile(`(?m)^(\d+) more lines like those above`).FindAllStringSubmatch(log, -1) {
		n, err := strconv.Atoi(more[1])
		if err != nil {
			t.Fatal(err)
		}
		result.told += n
	}
	return result
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
	agent := s.agent(t)
	var lines strings.Builder
	for _, name := range []string{"../../etc/victim", "/etc/victim", "..", ".", "", "a/b", "a b", "x\ny", "x;y", "$(x)", "%i", "-k", "é", "\x1b[31m"} {
		line, err := json.Marshal(map[string]any{"netns": name, "arguments": []string{"x"}})
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	agent.write(s.state("processes"), lines.String())
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

// The kernel lets a process look at one of the same user that may do no more than
// itself, which such a process of the host shows.
func attackProc(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	agent := s.unprivilegedAgent(t)
	weak := s.name + "-weak.service"
	must(t, "systemd-run", "--quiet", "--unit="+weak, "--property=CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_KILL CAP_NET_ADMIN", "sleep", "1000")
	t.Cleanup(func() { must(t, "systemctl", "stop", weak) })
	pid, err := strconv.Atoi(show(t, weak, "MainPID"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agent sees the files of a process with no more capabilities than its own", func() bool {
		return agent.looksInto(pid).status == 0
	})
	sleeping := define(t, "systemd", "cmd = [\"sleep\", \"1000\"]\nprivileged = false\n")
	n := sleeping.netns()
	if r := sleeping.call(n); r.status != 0 {
		t.Fatalf("exit status %d\n%s", r.status, r.stderr)
	}
	for of, pid := range map[string]int{"the activator": s.activator(), "a sidecar": sleeping.mainPID(n)} {
		if r := agent.looksInto(pid); r.status == 0 || !strings.Contains(r.stderr, "ermission denied") {
			t.Errorf("of %s: exit status %d, %s", of, r.status, r.stderr)
		}
	}
}

func attackRuntimeDir(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	s.start(n)
	if r := s.agent(t).run("ls", "/run/tripleo-wrappers"); r.status == 0 {
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

// The helper takes whatever arguments there are, so that they are seen where they
// arrive. The container is compared with one that was started without any.
func attackEngineOptions(t *testing.T) {
	const helper = `
privileged = false
cmd = ["/bin/sh", "-c", "while :; do sleep 1; done", "helper"]
`
	for _, engine := range []string{"podman", "docker"} {
		text := helper
		if engine == "docker" {
			text = strings.Replace(helper, "privileged = false\n", "", 1) // is in engines
		}
		s := define(t, engine, text)
		if engine == "podman" {
			s.useRunc(t)
		}
		agent := s.agent(t)
		// What the engine made, less what is the namespace's.
		made := func(n *netns) string {
			inspected := must(t, engine, "inspect", "--format=[{{json .HostConfig}},{{json .Mounts}},{{json .Config.Image}},"+
				"{{json .Config.User}},{{json .Config.Env}},{{json .Config.Labels}}]", s.name+"-"+n.name)
			inspected = strings.ReplaceAll(inspected, n.name, "NETNS")
			return sorted(t, regexp.MustCompile(`\b[0-9a-f]{12,64}\b|/proc/\d+/fd/\d+`).ReplaceAllString(inspected, "X"))
		}
		plain := s.netns()
		if r := agent.call(plain); r.status != 0 {
			t.Fatalf("exit status %d\n%s", r.status, r.stderr)
		}
		want := made(plain)
		for _, arguments := range [][]string{
			{"--privileged", "--volume=/:/host", "-v", "/:/host", "--pid=host", "--cap-add=ALL", "--network=host", "--rm"},
			{"--", "--privileged", "--env=LD_PRELOAD=x", "--security-opt=label=disable"},
			{"--replace", "--name=other", "localhost/agent", "sh", "-c", "sleep 1000"},
			{"--user=nobody", "--entrypoint=/bin/true", "%i", "$HOME", "${HOME}", "$(id)", "", ";", "\\n"},
		} {
			n := s.netns()
			if r := agent.call(n, arguments...); r.status != 0 {
				t.Errorf("%q: exit status %d\n%s", arguments, r.status, r.stderr)
				continue
			}
			words := append([]string{"/bin/sh", "-c", "while :; do sleep 1; done", "helper"}, arguments...)
			var got []string
			eventually(t, "the container's process has become the helper", func() bool {
				got = cmdline(t, s.mainPID(n))
				return len(got) > 0 && got[0] == words[0]
			})
			if !equal(got, words) {
				t.Errorf("%s: the helper has\n     %q\nwant %q", engine, got, words)
			}
			if got := made(n); got != want {
				t.Errorf("%s: with %q the container is another:\n     %s\nwant %s", engine, arguments, got, want)
			}
		}
		if !notThere("/host") || run(t, engine, "inspect", "other").status == 0 {
			t.Error("an option was taken for one")
		}
	}
}

// sorted returns JSON with what is in a list in order: engines have mounts and
// variables in one or another.
func sorted(t *testing.T, text string) string {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	encoded := func(value any) string {
		content, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	var sort func(value any)
	sort = func(value any) {
		switch value := value.(type) {
		case map[string]any:
			for _, member := range value {
				sort(member)
			}
		case []any:
			for _, item := range value {
				sort(item)
			}
			slices.SortFunc(value, func(a, b any) int { return strings.Compare(encoded(a), encoded(b)) })
		}
	}
	sort(value)
	return encoded(value)
}

func attackHugeArguments(t *testing.T) {
	const helper = `cmd = ["/bin/sh", "-c", "while :; do sleep 1; done", "helper"]`
	s := define(t, "systemd", helper)
	agent := s.agent(t)
	server := s.activator()
	for what, served := range map[string]bool{
		"100,000 arguments":            true,
		"arguments of just 1 MiB":      true,
		"arguments of more than 1 MiB": false,
		"arguments of 2 MB":            false,
	} {
		n := s.netns()
		r := agent.run(agentProgram, agentMark, "call-huge", n.name, what)
		if (r.status == 0) != served || !served && r.stderr == "" {
			t.Errorf("%s: exit status %d, %q", what, r.status, r.stderr)
			continue
		}
		if !served {
			continue
		}
		words := append([]string{"/bin/sh", "-c", "while :; do sleep 1; done", "helper"}, huge[what]()...)
		if got := cmdline(t, s.mainPID(n)); !equal(got, words) {
			t.Errorf("%s: the sidecar has %d, want %d", what, len(got), len(words))
		}
	}
	// By the spool more can be asked for than the kernel takes.
	n := s.netns()
	line, err := json.Marshal(map[string]any{"netns": n.name, "arguments": []string{strings.Repeat("x", 3<<20)}})
	if err != nil {
		t.Fatal(err)
	}
	agent.write(s.state("processes"), string(line)+"\n")
	ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
	eventually(t, "it is given up", func() bool { return !notThere(s.state("processes.failed")) })
	if r := s.call(n); r.status != 0 {
		t.Errorf("the next call: exit status %d\n%s", r.status, r.stderr)
	}
	if now := s.activator(); now != server {
		t.Errorf("the activator was process %d and is %d", server, now)
	}
}

func attackDevices(t *testing.T) {
	s := define(t, "docker", commanded)
	joins := joining(t, s, obey)
	agent := s.agent(t, joins)
	n := s.netns()
	if r := s.call(n); r.status != 0 {
		t.Fatalf("exit status %d\n%s", r.status, r.stderr)
	}
	inside := func(command ...string) result {
		return run(t, append([]string{"docker", "exec", s.name + "-" + n.name}, command...)...)
	}
	mknod := []string{"mknod", "/loop-control", "c", "10", "237"}
	if r := inside(mknod...); r.status != 0 {
		t.Fatalf("no node is made: %s", r.stderr)
	}
	const open = "exec 3<>/loop-control"
	must(t, mknod...)
	t.Cleanup(func() { os.Remove("/loop-control") })
	must(t, "sh", "-c", open) // the host can
	const refused = "Operation not permitted"
	if r := inside("sh", "-c", open); r.status == 0 || !strings.Contains(r.stderr, refused) {
		t.Errorf("the container itself can open it: exit status %d, %s", r.status, r.stderr)
	}
	if r := agent.call(n, "--do", open); r.status == 0 || !strings.Contains(r.stderr, refused) {
		t.Errorf("a control command: exit status %d, %s", r.status, r.stderr)
	}
	if r := agent.call(n, "--do", "exec 3<>/dev/null && echo opened"); r.status != 0 || r.stdout != "opened\n" {
		t.Errorf("/dev/null: exit status %d, %s%s", r.status, r.stdout, r.stderr)
	}
	said := filepath.Join(s.dir, "said")
	if r := joins.call(n, "("+open+") 2>"+said+"; echo $? >>"+said); r.status != 0 {
		t.Fatalf("joining: exit status %d\n%s", r.status, r.stderr)
	}
	eventually(t, "what joins has tried", func() bool {
		content, err := os.ReadFile(said)
		return err == nil && strings.HasSuffix(string(content), "\n") && strings.Contains(string(content), refused)
	})
}

// replacedCommand puts a link in the place of the command of a sidecar, in its
// container, which is not privileged. Which engine made that does not matter to
// what joins it.
func replacedCommand(t *testing.T, link func(*service) string) (*service, *agent, *netns) {
	t.Helper()
	s := define(t, "docker", commanded)
	agent := s.agent(t)
	n := s.netns()
	if r := s.call(n); r.status != 0 {
		t.Fatalf("exit status %d\n%s", r.status, r.stderr)
	}
	if r := agent.call(n, "--do", "echo done"); r.status != 0 || r.stdout != "done\n" {
		t.Fatalf("exit status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	must(t, "docker", "exec", s.name+"-"+n.name, "ln", "-sf", link(s), "/bin/sh")
	return s, agent, n
}

func attackCommandLink(t *testing.T) {
	_, agent, n := replacedCommand(t, func(*service) string {
		return "/proc/1/root/usr/libexec/tripleo-wrappers/tripleo-wrapper"
	})
	if r := agent.call(n, "--do", "true"); r.status != 126 || !strings.Contains(r.stderr, "permission denied") {
		t.Errorf("exit status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

func attackCommandScript(t *testing.T) {
	s, agent, n := replacedCommand(t, func(s *service) string {
		name := filepath.Join(s.dir, "script")
		// The client becomes the script again and again.
		if err := os.WriteFile(name, []byte("#!/proc/self/exe exec\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return name
	})
	answered := make(chan result, 1)
	go func() { answered <- agent.call(n, "--do", "true") }()
	host, main := must(t, "readlink", "/proc/1/ns/mnt"), 0
	eventually(t, "it is in the container", func() bool {
		unit, _, found := strings.Cut(run(t, "systemctl", "list-units", "--plain", "--no-legend", s.name+"-run-*").stdout, " ")
		if !found {
			return false
		}
		main, _ = strconv.Atoi(show(t, unit, "MainPID"))
		its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", main))
		return err == nil && its != host
	})
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", main))
	if err != nil || !strings.HasPrefix(name, "/memfd:tripleo-wrapper") {
		t.Errorf("what runs there is %q, error %v", name, err)
	}
	must(t, "kill", "-9", strconv.Itoa(main))
	if r := <-answered; r.status != 137 {
		t.Errorf("exit status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

func attackPIDFiles(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	agent := s.agent(t)
	server := s.activator()
	n := s.netns()
	const many = "45,000 pid files"
	r := agent.run(agentProgram, agentMark, "call-huge", n.name, many)
	if r.status == 0 || !strings.Contains(r.stderr, "the arguments name 45000 pid files, of which at most 16 ") {
		t.Errorf("exit status %d, %q", r.status, r.stderr)
	}
	line, err := json.Marshal(map[string]any{"netns": n.name, "arguments": huge[many]()})
	if err != nil {
		t.Fatal(err)
	}
	agent.write(s.state("processes"), string(line)+"\n")
	ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
	eventually(t, "it is given up", func() bool { return !notThere(s.state("processes.failed")) })
	s.start(n)
	if now := s.activator(); now != server {
		t.Errorf("the activator was process %d and is %d", server, now)
	}
}

// attackLeases has everybody who opens a file wait for the time that the kernel gives
// the holder of a lease, 45 s, unless he asks not to wait.
func attackLeases(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	agent := s.agent(t)
	n, other, spooled := s.netns(), s.netns(), s.netns()
	s.start(n)
	s.away()
	must(t, "systemctl", "stop", s.name+".path", s.name+".service") // so that the spool stays
	line := spooled.name + " " + strings.Join(spooled.arguments(), " ") + "\n"
	agent.write(s.state("processes"), line)
	agent.write(s.state("processes.failed"), "# of before\n"+line)
	mark := filepath.Join(s.dir, "leased")
	programs := []string{s.state("wrapper"), s.state("tripleo-wrapper"), s.dir + "/kill_scripts/test-kill"}
	var before []string
	for _, program := range programs {
		agent.write(program, "another") // the one before is mounted, and a lease is for what nobody else has
		before = append(before, must(t, "stat", "--format=%i", program))
	}
	var holder sync.WaitGroup
	holder.Go(func() {
		r := agent.run(append([]string{agentProgram, agentMark, "lease", mark, n.pidFile, s.state("processes"), s.state("processes.failed")}, programs...)...)
		if notThere(mark) {
			t.Errorf("no leases: %s", r.stderr)
		}
	})
	defer holder.Wait()
	release := func() { must(t, "pkill", "--full", agentMark+" lease "+mark) }
	defer func() { run(t, "pkill", "--full", agentMark+" lease "+mark) }()
	eventually(t, "the leases are held", func() bool { return !notThere(mark) })

	began := time.Now()
	soon := func(what string) {
		t.Helper()
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%s is done after %v", what, took)
		}
	}
	must(t, "systemctl", "start", "tripleo-wrappers.target")
	soon("the socket")
	for i, program := range programs {
		if now := must(t, "stat", "--format=%i", program); now == before[i] {
			t.Errorf("%s is not a new file", program)
		}
	}
	s.start(other)
	soon("a call")
	if r := run(t, "tripleo-wrapperctl", "status", s.name); !strings.Contains(r.stdout+r.stderr, "lease") {
		t.Errorf("status says nothing of it:\n%s%s", r.stdout, r.stderr)
	}
	must(t, "tripleo-wrapperctl", "metrics")
	soon("what an operator looks at")
	ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
	soon("a sync")
	eventually(t, "it is said what waits", func() bool { return strings.Contains(s.logged(), "lease") })
	if !notThere(spooled.pidFile) {
		t.Error("the spool does not wait")
	}
	soon("all of it")
	release()
	ask(t, s.socket(), "org.openstack.tripleo.Wrapper.Sync")
	eventually(t, "the spool is served when they are gone", func() bool { return !notThere(spooled.pidFile) })
}

func attackEnvironment(t *testing.T) {
	const forged = `"LD_PRELOAD":"/var/lib/x.so","PATH":"/var/lib","PROCESS_TAG=x":"y","LANG":"C\u0000LD_PRELOAD=x","":"x"`
	passed := func(what string, environ []string) {
		t.Helper()
		for _, variable := range environ {
			name, value, _ := strings.Cut(variable, "=")
			if name == "LD_PRELOAD" || name == "" || name == "LANG" && value == "C" || strings.Contains(value, "/var/lib") || variable == "PROCESS_TAG=x=y" {
				t.Errorf("%s: it has %s", what, variable)
			}
		}
	}
	forEngines(t, func(t *testing.T, engine string) {
		s, control := define(t, engine, dnsmasq), define(t, engine, commanded)
		agent := s.agent(t, control)
		n := s.netns()
		arguments, err := json.Marshal(n.arguments())
		if err != nil {
			t.Fatal(err)
		}
		reply, name := agent.tell(n.name, "Start", fmt.Sprintf(`{"arguments":%s,"environment":{"PROCESS_TAG":"dnsmasq-%s",%s}}`, arguments, n.name, forged))
		refuses(t, "", reply, name)
		passed("sidecar", list(t, s.check(n), "environ"))

		n = control.netns()
		agent.s = control
		reply, name = agent.tell(n.name, "Start", `{"arguments":[],"environment":{`+forged+`}}`)
		refuses(t, "", reply, name)
		reply, name = agent.tell(n.name, "Run", `{"arguments":["--do","cat /proc/self/environ"],"environment":{"PROCESS_TAG":"seen",`+forged+`}}`)
		refuses(t, "", reply, name)
		var ran struct{ Parameters struct{ Stdout []byte } }
		if err := json.Unmarshal([]byte(reply), &ran); err != nil {
			t.Fatal(err)
		}
		environ := strings.Split(strings.TrimSuffix(string(ran.Parameters.Stdout), "\x00"), "\x00")
		if !contains(environ, "PROCESS_TAG=seen") {
			t.Errorf("the control command has not what it is to have: %q", environ)
		}
		passed("control command", environ)
	})
}

// forged answers each connection on a socket with that, and returns a directory
// in the agent's that is a service_dir to the client.
func (a *agent) forged(t *testing.T, answer func(conn net.Conn)) string {
	t.Helper()
	dir, err := os.MkdirTemp(a.s.dir, "forged-")
	if err != nil {
		t.Fatal(err)
	}
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

// client runs the client in an agent's container as a wrapper of a service fake.
func (a *agent) client(t *testing.T, n *netns, serviceDir string) result {
	t.Helper()
	return run(t, "podman", "exec", a.name, "ip", "netns", "exec", n.name, a.s.state("tripleo-wrapper"),
		"wrapper", "--service=fake", "--service-dir="+serviceDir, "--ready-timeout=1s", "--")
}

func attackForgedReply(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	agent := s.agent(t)
	n := s.netns()
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
			r := agent.client(t, n, agent.forged(t, test.answer))
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
	s := define(t, "systemd", dnsmasq)
	agent := s.agent(t)
	n := s.netns()
	victim, unchanged := victimFile(t, "untouched\n")
	for _, file := range []string{"processes", "processes-timestamp", "processes.lock"} {
		for what := range places {
			t.Run(file+" "+what, func(t *testing.T) {
				t.Parallel()
				dir, err := os.MkdirTemp(s.dir, "other-")
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Mkdir(filepath.Join(dir, "fake"), 0o755); err != nil {
					t.Fatal(err)
				}
				agent.do("put", what, victim, filepath.Join(dir, "fake", file))
				r := agent.client(t, n, dir)
				// Nobody serves it, so that it fails after ready.timeout at the latest.
				if r.status != 1 || r.took > waitTime {
					t.Errorf("exit status %d after %v\n%s", r.status, r.took, r.stderr)
				}
				want := file == "processes-timestamp" || file == "processes.lock" && (what == "a fifo" || what == "a hard link" || what == "a file too large")
				if spooled := strings.Contains(r.stderr, "the request is spooled"); spooled != want {
					t.Errorf("it says that the request is spooled: %v, want %v\n%s", spooled, want, r.stderr)
				}
			})
		}
	}
	t.Cleanup(unchanged)
}

func attackPrograms(t *testing.T) {
	for _, engine := range []string{"systemd", "podman"} {
		s := define(t, engine, dnsmasq)
		agent := s.agent(t)
		n := s.netns()
		pid := s.start(n)
		programs := []string{s.state("wrapper"), s.state("tripleo-wrapper"), s.dir + "/kill_scripts/test-kill"}
		// Whoever runs one, in whatever container, leaves a mark.
		mark := filepath.Join(s.dir, "mark")
		poison := func() {
			for _, program := range programs {
				agent.write(program, "#!/bin/sh\necho $0 >>"+mark+"\n")
				agent.must("chmod", "755", program)
			}
		}
		poison()
		// All that the host does by itself, on request, and for an operator.
		arguments, err := json.Marshal(n.arguments("--txt-record=a,b"))
		if err != nil {
			t.Fatal(err)
		}
		if reply, name := agent.tell(n.name, "Start", fmt.Sprintf(`{"arguments":%s}`, arguments)); name != "" {
			t.Fatal(reply)
		}
		agent.write(s.state("processes"), n.name+" "+strings.Join(n.arguments(), " ")+"\n")
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
		} else if reply, name := agent.tell("", "Signal", `{"pid":`+now+`,"signal":9}`); name != "" {
			t.Error(reply)
		}
		poison()
		must(t, "systemctl", "daemon-reload")
		must(t, "systemctl", "restart", s.name+".socket")
		if content, err := os.ReadFile(mark); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the host has run %s %v", engine, content, err)
		}
		for _, program := range programs {
			if content, err := os.ReadFile(program); err != nil || bytes.Contains(content, []byte(mark)) {
				t.Errorf("%s was not put right: %v", program, err)
			}
		}
		s.start(n)
	}
}

// heldOpen has an agent hold connections open in some way, and does something
// meanwhile.
func heldOpen(t *testing.T, part string, s *service, agent *agent, meanwhile func()) held {
	t.Helper()
	mark := filepath.Join(s.dir, "held")
	printed := make(chan string, 1)
	go func() { printed <- agent.run(agentProgram, agentMark, part, s.socket(), mark).stdout }()
	eventually(t, "they are open", func() bool { return !notThere(mark) })
	meanwhile()
	var result held
	if out := <-printed; json.Unmarshal([]byte(out), &result) != nil {
		t.Fatalf("it printed %q", out)
	}
	t.Logf("%s: %+v", part, result)
	return result
}

func attackConnections(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	agent := s.agent(t)
	n := s.netns()
	began := time.Now()
	held := heldOpen(t, "hold", s, agent, func() { s.start(n) })
	// The time is counted from when the activator has accepted it.
	if held.First < 5*time.Second || held.Last > 15*time.Second {
		t.Errorf("they were closed after %v to %v, want 5 s", held.First, held.Last)
	}
	must(t, "systemctl", "stop", s.name+".service") // it tells of the rest
	log := s.limited(t, began, agent.container())
	// Those that are logged when the process has ended have no control group.
	if got := strings.Count(s.logged(), " broke the protocol: ") + log.told; got != holders {
		t.Errorf("%d are logged and told of, want %d", got, holders)
	}
}

func attackMemory(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	agent := s.agent(t)
	n := s.netns()
	server := s.activator()
	held := heldOpen(t, "hold-large", s, agent, func() {
		s.start(n)
		s.start(n, "--txt-record=a,b")
	})
	// One that is answered was held for 5 s, all of it but its beginning and what
	// was still in the socket. There is room for these at a time:
	const inSocket, beginning = 256 << 10, 4 << 10
	atATime := (16 << 20) / (len(largeHalf) - inSocket - beginning)
	if limit := atATime * (1 + int(held.Took/(5*time.Second))); held.Answered == 0 || held.Answered > limit {
		t.Errorf("%d of %d were held in %v, want 1 to %d", held.Answered, holders, held.Took, limit)
	}
	if now := s.activator(); now != server {
		t.Errorf("the activator was process %d and is %d", server, now)
	}
	atMost(t, server, 256)
}

func attackJournal(t *testing.T) {
	rootOnly := define(t, "systemd", dnsmasq)
	others := define(t, "systemd", "allowed_uids = [0, 42435]\n"+dnsmasq)
	agent := rootOnly.agent(t, others)
	for _, test := range []struct {
		*service
		uid, calls int
		errors     []string // that the journal names
	}{
		{rootOnly, 0, 5000, []string{"InvalidParameter", "MethodNotFound"}},
		{others, 1234, 500, nil},
	} {
		n := test.netns()
		began := time.Now()
		agent.do("ask-in-vain", test.socket(), strconv.Itoa(test.calls), strconv.Itoa(test.uid))
		test.start(n)                                      // and is seen
		must(t, "systemctl", "stop", test.name+".service") // it tells of the rest
		log := test.limited(t, began, "refused process ")
		if got := log.lines + log.told; got != test.calls {
			t.Errorf("%d are logged and told of, want %d", got, test.calls)
		}
		text := test.logged()
		named := regexp.MustCompile(fmt.Sprintf(`refused process \d+ of uid %d in control group /.*%s`, test.uid, agent.container()))
		if named := named.FindAllString(text, -1); len(named) != log.lines {
			t.Errorf("%d of %d lines name the caller:\n%s", len(named), log.lines, text)
		}
		for _, name := range test.errors {
			if !strings.Contains(text, "."+name+" ") {
				t.Errorf("none of them is of %s:\n%s", name, text)
			}
		}
		if !strings.Contains(text, "started in") {
			t.Error("what another call did is not in the journal")
		}
	}
}
