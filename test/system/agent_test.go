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
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An agent is a container such as an agent has: root, all capabilities, the
// host's processes and network, service_dir and /run/netns.
type agent struct {
	t    *testing.T
	s    *service
	name string
}

// agents has the names of the tests that have one, so that an attack that says that
// it is made from one is.
var agents sync.Map

// agentProgram is this very program in an agent's container, where it does the
// parts of attacks that no tool does.
const agentProgram = "/agent"

// agent starts one for a service, which others may share with it.
func (s *service) agent(t *testing.T, shared ...*service) *agent {
	t.Helper()
	return s.agentWith(t, []string{"podman", "run", "--privileged"}, shared...)
}

// unprivilegedAgent starts one that is not privileged, with all that an agent needs
// then, and without the limits that a container has besides capabilities.
func (s *service) unprivilegedAgent(t *testing.T) *agent {
	t.Helper()
	container := ""
	// Now and then Podman leaves what runc has of a container that it removes.
	t.Cleanup(func() { must(t, "runc", "delete", "--force", container) })
	a := s.agentWith(t, []string{
		"env", "CONTAINERS_CONF=" + s.runcConfig(t), "podman", "run", "--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", "--cap-add=NET_RAW",
		"--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "--security-opt=label=disable",
	})
	container = a.container()
	return a
}

func (s *service) agentWith(t *testing.T, podmanRun []string, shared ...*service) *agent {
	t.Helper()
	agents.Store(t.Name(), true)
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.netns() // after the first of which /run/netns is there, and shared
	a := &agent{t, s, "agent-" + s.name}
	command := append(podmanRun, "--detach", "--name="+a.name, "--pid=host", "--network=host",
		"--volume=/run/netns:/run/netns:shared", "--volume="+own+":"+agentProgram+":ro",
		"--volume="+s.state("wrapper")+":/usr/local/bin/dnsmasq:ro")
	for _, service := range append(shared, s) {
		command = append(command, "--volume="+service.dir+":"+service.dir+":rslave")
	}
	must(t, append(command, "localhost/agent", "sleep", "1000")...)
	t.Cleanup(func() { run(t, "podman", "rm", "--force", "--time=0", a.name) })
	return a
}

// looksInto has the agent open a file of the host by the root directory of one of
// its processes.
func (a *agent) looksInto(pid int) result {
	a.t.Helper()
	return a.run("sh", "-c", fmt.Sprintf("exec </proc/%d/root/etc/machine-id", pid))
}

// container returns the container's id, which its control group is named after.
func (a *agent) container() string {
	a.t.Helper()
	return must(a.t, "podman", "inspect", "--format={{.Id}}", a.name)
}

// run runs a command in the container.
func (a *agent) run(command ...string) result {
	a.t.Helper()
	return run(a.t, append([]string{"podman", "exec", a.name}, command...)...)
}

// must runs a command there that has to succeed, and returns its output.
func (a *agent) must(command ...string) string {
	a.t.Helper()
	return must(a.t, append([]string{"podman", "exec", a.name}, command...)...)
}

// call calls the wrapper there, as Neutron does.
func (a *agent) call(n *netns, arguments ...string) result {
	a.t.Helper()
	return a.run(append([]string{"ip", "netns", "exec", n.name, "env", "PROCESS_TAG=dnsmasq-" + n.name, "dnsmasq"}, arguments...)...)
}

// do has a part done there, and returns what it prints.
func (a *agent) do(part string, arguments ...string) string {
	a.t.Helper()
	return a.must(append([]string{agentProgram, agentMark, part}, arguments...)...)
}

// tell makes a Varlink call from there, from a network namespace, "" for the
// host's.
func (a *agent) tell(netns, method, parameters string) (reply, name string) {
	a.t.Helper()
	reply = a.do("tell", netns, a.s.socket(), method, parameters)
	return reply, errorOf(a.t, reply)
}

// write puts a file in its place there.
func (a *agent) write(name, content string) {
	a.t.Helper()
	r := runWith(a.t, func(cmd *exec.Cmd) { cmd.Stdin = strings.NewReader(content) },
		"podman", "exec", "--interactive", a.name, "sh", "-c", `cat >"$1.new" && mv "$1.new" "$1"`, "sh", name)
	if r.status != 0 {
		a.t.Fatalf("writing %s: %s", name, r.stderr)
	}
}

const agentMark = "in-the-agents-container"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == agentMark {
		if err := agentParts[os.Args[2]](os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// agentParts are what is done in an agent's container by this program.
var agentParts = map[string]func(arguments []string) error{
	"tell":        partTell,
	"put":         partPut,
	"lines":       partLines,
	"change":      partChange,
	"call-huge":   partCallHuge,
	"hold":        partHold,
	"lease":       partLease,
	"hold-large":  partHoldLarge,
	"ask-in-vain": partAskInVain,
}

// tell NETNS SOCKET METHOD PARAMETERS makes a call and prints the reply.
func partTell(arguments []string) error {
	conn, err := dialFrom(arguments[0], arguments[1])
	if err != nil {
		return err
	}
	defer conn.Close()
	reply, err := roundTrip(conn, bufio.NewReader(conn), arguments[2], arguments[3])
	fmt.Print(reply)
	return err
}

// roundTrip makes a call over a connection and returns the reply, without its
// final NUL.
func roundTrip(conn net.Conn, reader *bufio.Reader, method, parameters string) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(2 * waitTime)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "{\"method\":%q,\"parameters\":%s}\x00", "org.openstack.tripleo.Wrapper."+method, parameters); err != nil {
		return "", err
	}
	message, err := reader.ReadString(0)
	return strings.TrimSuffix(message, "\x00"), err
}

// errorOf returns the name of the error that a reply is, "" if it is none.
func errorOf(t *testing.T, reply string) string {
	t.Helper()
	var answer struct{ Error string }
	if err := json.Unmarshal([]byte(reply), &answer); err != nil {
		t.Fatalf("%q: %v", reply, err)
	}
	return answer.Error[strings.LastIndex(answer.Error, ".")+1:]
}

// dialFrom connects from a network namespace, "" for the one that this is in.
func dialFrom(netns, socket string) (net.Conn, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if netns != "" {
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return nil, err
		}
		defer own.Close()
		other, err := os.Open("/run/netns/" + netns)
		if err != nil {
			return nil, err
		}
		defer other.Close()
		if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
			return nil, err
		}
		defer func() {
			if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
				panic(err) // this thread would be in another namespace for good
			}
		}()
	}
	return net.Dial("unix", socket)
}

// places are what may stand where a file is expected, each with what makes it. A
// hard link has to be made where both names are in one mount: an agent reaches
// the host's by way of a process of the host.
var places = map[string]func(name, victim string) error{
	"a link": func(name, victim string) error { return os.Symlink(victim, name) },
	"a hard link": func(name, victim string) error {
		return os.Link("/proc/1/root"+victim, "/proc/1/root"+name)
	},
	"a dangling link": func(name, victim string) error { return os.Symlink(victim+"-not-there", name) },
	"a link to itself": func(name, _ string) error {
		return os.Symlink(filepath.Base(name), name)
	},
	"a fifo":      func(name, _ string) error { return unix.Mkfifo(name, 0o600) },
	"a directory": func(name, _ string) error { return os.MkdirAll(filepath.Join(name, "in", "it"), 0o755) },
	"a file too large": func(name, _ string) error {
		return errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, 1<<40))
	},
	"a socket": func(name, _ string) error {
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		if err != nil {
			return err
		}
		listener.SetUnlinkOnClose(false)
		return listener.Close()
	},
	"a link to a device": func(name, _ string) error { return os.Symlink("/dev/zero", name) },
}

// put WHAT VICTIM NAME… puts one of places there, in the place of what there is.
func partPut(arguments []string) error {
	for _, name := range arguments[2:] {
		if err := os.RemoveAll(name); err != nil {
			return err
		}
		if err := places[arguments[0]](name, arguments[1]); err != nil {
			return fmt.Errorf("%s in the place of %s: %w", arguments[0], name, err)
		}
	}
	return nil
}

// lines FILE NUMBER FORMAT puts a file there of so many lines.
func partLines(arguments []string) error {
	number, err := strconv.Atoi(arguments[1])
	if err != nil {
		return err
	}
	var lines bytes.Buffer
	for i := range number {
		fmt.Fprintf(&lines, arguments[2]+"\n", i)
	}
	if err := os.WriteFile(arguments[0]+".new", lines.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Rename(arguments[0]+".new", arguments[0])
}

// How a spool is changed while it is read.
const (
	changedSpools = 40
	changedFor    = 150 * time.Millisecond
	everyNth      = 5 // is a link or a directory
)

// change SPOOL VICTIM REQUEST spools again and again, each time a line with a
// number of its own and a request, and goes on writing to the file when it has
// been taken: other bytes in the first line, and more and less behind it.
func partChange(arguments []string) error {
	spool, victim := arguments[0], arguments[1]
	var changes sync.WaitGroup
	defer changes.Wait()
	for i := range changedSpools {
		prepared := fmt.Sprintf("%s.new-%d", spool, i)
		var f *os.File
		if i%everyNth == 0 {
			what := []string{"a link", "a hard link", "a directory", "a fifo"}[i/everyNth%4]
			if err := places[what](prepared, victim); err != nil {
				return err
			}
		} else {
			var err error
			if f, err = os.OpenFile(prepared, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
				return err
			}
			fmt.Fprintf(f, "a/%04d -k\n%s --txt-record=spooled,%04d\n", i, arguments[2], i)
		}
		deadline := time.Now().Add(waitTime)
		for {
			err := unix.Renameat2(unix.AT_FDCWD, prepared, unix.AT_FDCWD, spool, unix.RENAME_NOREPLACE)
			if err == nil {
				break
			}
			if err != unix.EEXIST || time.Now().After(deadline) {
				return fmt.Errorf("spooling for the %d. time: %w", i, err)
			}
			time.Sleep(time.Millisecond)
		}
		if f != nil {
			changes.Go(func() { change(f) })
		}
	}
	return nil
}

func change(f *os.File) {
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return
	}
	size := info.Size()
	for until := time.Now().Add(changedFor); time.Now().Before(until); {
		for j := range 50 {
			_, _ = f.WriteAt([]byte{"ab"[j%2]}, 0)
			_, _ = f.WriteAt([]byte("c/0 --port=0 "+strings.Repeat("x", j*100)+"\n{\"netns\":\"x\x00"), size)
			_ = f.Chmod(os.FileMode(j%2) * 0o600)
			_ = f.Truncate(size + int64(j*7%60))
		}
		_ = f.Truncate(size)
	}
}

// huge are argument lists. The kernel takes no more than 2 MiB, with 8 bytes for
// each argument, nor one of more than 128 KiB, and the activator a message of 1 MiB.
var huge = map[string]func() []string{
	"100,000 arguments": func() []string { return repeated("x", 100000) },
	"45,000 pid files":  func() []string { return repeated("-x/var/lib/a/pid", 45000) },
	"arguments of 2 MB": func() []string { return repeated(strings.Repeat("x", 100000), 20) },
	// `{"method":…,"parameters":{…}}` is less than 1,000 bytes more.
	"arguments of just 1 MiB":      func() []string { return repeated(strings.Repeat("x", 100), (1<<20-1000)/103) },
	"arguments of more than 1 MiB": func() []string { return repeated(strings.Repeat("x", 100), 1<<20/103+1) },
}

func repeated(argument string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = argument
	}
	return all
}

// call-huge NETNS WHAT calls the wrapper with one of huge.
func partCallHuge(arguments []string) error {
	cmd := exec.Command("ip", append([]string{"netns", "exec", arguments[0], "dnsmasq"}, huge[arguments[1]]()...)...)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// lease MARK FILE... takes leases on files, and says so by making another one. It
// keeps them for as long as the kernel lets it.
func partLease(arguments []string) error {
	signal.Ignore(unix.SIGIO) // by which it is told that somebody waits
	for _, name := range arguments[1:] {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
			return fmt.Errorf("a lease on %s: %w", name, err)
		}
	}
	if err := os.WriteFile(arguments[0], nil, 0o600); err != nil {
		return err
	}
	time.Sleep(2 * time.Minute)
	return nil
}

// held is what became of connections that were held open.
type held struct {
	// First and Last are how long it took from when a connection was made until it
	// was closed, at least and at most, and Took how long all of it took.
	First, Last, Took time.Duration
	// Answered are those whose request was read, and that were told that it took
	// too long.
	Answered int
}

const holders = 1000

// hold SOCKET MARK opens connections, says so by making a file, and waits until
// they are closed. One sends nothing, one half a request.
func partHold(arguments []string) error {
	return holdOpen(arguments[0], arguments[1], func(i int, conn net.Conn) bool {
		if i%2 == 0 {
			fmt.Fprint(conn, `{"method":`)
		}
		return true
	})
}

// largeHalf is most of a request of 1 MiB.
var largeHalf = []byte(`{"method":"org.openstack.tripleo.Wrapper.Start","parameters":{"arguments":[` + strings.Repeat(`"",`, (1<<20)/3-100))

// hold-large SOCKET MARK does so with connections that send most of a large
// request each.
func partHoldLarge(arguments []string) error {
	return holdOpen(arguments[0], arguments[1], func(_ int, conn net.Conn) bool {
		n, _ := conn.Write(largeHalf)
		return n == len(largeHalf)
	})
}

// holdOpen makes connections, has each send something, says by making a file that
// all are made, and waits until they are closed. What is sent may be more than is
// read, and whether it was all taken decides whether an answer counts.
func holdOpen(socket, mark string, send func(i int, conn net.Conn) (taken bool)) error {
	began := time.Now()
	var closed sync.WaitGroup
	var mu sync.Mutex
	var failed error
	result := held{First: time.Hour}
	for i := range holders {
		dialed := time.Now() // it may be accepted before Dial is back
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return err
		}
		closed.Go(func() {
			defer conn.Close()
			_ = conn.SetDeadline(dialed.Add(2 * waitTime))
			taken := send(i, conn)
			reply, err := io.ReadAll(conn)
			took := time.Since(dialed)
			mu.Lock()
			defer mu.Unlock()
			if err != nil && !errors.Is(err, syscall.ECONNRESET) {
				failed = err
			}
			result.First, result.Last = min(result.First, took), max(result.Last, took)
			if taken && bytes.Contains(reply, []byte("timeout")) {
				result.Answered++
			}
		})
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return err
	}
	closed.Wait()
	result.Took = time.Since(began)
	return errors.Join(failed, json.NewEncoder(os.Stdout).Encode(result))
}

// vain are calls that are refused, and the errors that they get.
var vain = []struct{ method, parameters, error string }{
	{"Start", `{"arguments":[]}`, "NotInNamespace"},
	{"Start", `{"arguments":[],"netns":"x"}`, "InvalidParameter"},
	{"Start", `{"arguments":["a\u0000b"]}`, "NotInNamespace"},
	{"Signal", `{"pid":-1,"signal":9}`, "InvalidParameter"},
	{"Remove", `{}`, "MethodNotFound"},
}

// ask-in-vain SOCKET NUMBER UID makes so many calls that are refused; whatever a
// user who is not root calls, he may not.
func partAskInVain(arguments []string) error {
	number, err := strconv.Atoi(arguments[1])
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(arguments[2])
	if err != nil {
		return err
	}
	if err := syscall.Setuid(uid); err != nil {
		return err
	}
	for i := range number {
		conn, err := net.Dial("unix", arguments[0])
		if err != nil {
			return err
		}
		call := vain[i%len(vain)]
		if uid != 0 {
			call.error = "NotAllowed"
		}
		reply, err := roundTrip(conn, bufio.NewReader(conn), call.method, call.parameters)
		conn.Close()
		if err != nil || !strings.Contains(reply, call.error) {
			return fmt.Errorf("%s %s: %s %v", call.method, call.parameters, reply, err)
		}
	}
	return nil
}
