// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/spool"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

// An answer is what a stand-in for the activator sends before it closes a
// connection: bytes, which may be half a message or none.
type answer string

func reply(parameters any) answer {
	return message(&varlink.Reply{Parameters: marshal(parameters)})
}

func refusal(name string, parameters any) answer {
	return message(&varlink.Reply{Error: name, Parameters: marshal(parameters)})
}

func message(r *varlink.Reply) answer {
	var b bytes.Buffer
	if err := varlink.WriteMessage(&b, r); err != nil {
		panic(err)
	}
	return answer(b.String())
}

func marshal(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// An activator stands in for the activator of a service. It gives its answers
// one after the other, the last one for ever.
type activator struct {
	mu    sync.Mutex
	calls []varlink.Call
}

// serviceDir returns a directory whose name is short enough for a socket's.
func serviceDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func stateDir(t *testing.T, dir, service string) string {
	t.Helper()
	state := layout.StateDir(dir, service)
	if err := os.MkdirAll(state, 0o755); err != nil {
		t.Fatal(err)
	}
	return state
}

func startActivator(t *testing.T, dir, service string, answers ...answer) *activator {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(stateDir(t, dir, service), layout.Socket))
	if err != nil {
		t.Fatal(err)
	}
	a := &activator{}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			var call varlink.Call
			text, err := varlink.ReadMessage(bufio.NewReader(conn))
			if err == nil {
				err = json.Unmarshal(text, &call)
			}
			if err != nil {
				t.Errorf("reading a call: %v", err)
			}
			a.mu.Lock()
			answer := answers[min(len(a.calls), len(answers)-1)]
			a.calls = append(a.calls, call)
			a.mu.Unlock()
			if _, err := conn.Write([]byte(answer)); err != nil {
				t.Errorf("answering: %v", err)
			}
			conn.Close()
		}
	})
	t.Cleanup(func() {
		listener.Close()
		serving.Wait()
	})
	return a
}

func (a *activator) called() []varlink.Call {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls
}

// runClient runs a role of the program to its end. A client that hangs fails.
func runClient(t *testing.T, prefix []string, args ...string) (status int, stderr string) {
	t.Helper()
	return runClientUntil(t, func(string) {}, prefix, args...)
}

// watched is a standard error that is looked at whenever it is written to.
type watched struct {
	text strings.Builder
	look func(soFar string)
}

func (w *watched) Write(p []byte) (int, error) {
	w.text.Write(p)
	w.look(w.text.String())
	return len(p), nil
}

// runClientUntil is runClient with something done when the client has written
// to standard error.
func runClientUntil(t *testing.T, look func(stderr string), prefix []string, args ...string) (status int, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	words := append(append(prefix[:len(prefix):len(prefix)], program), args...)
	command := exec.CommandContext(ctx, words[0], words[1:]...)
	command.Env = append(os.Environ(), "PROCESS_TAG=a-tag", "UNASKED=for")
	var out bytes.Buffer
	errors := watched{look: look}
	command.Stdout, command.Stderr = &out, &errors
	err := command.Run()
	if command.ProcessState == nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%q does not end; stderr:\n%s", words, errors.text.String())
	}
	if out.Len() > 0 {
		t.Errorf("standard output is the helper's, not ours: %q", out.String())
	}
	return command.ProcessState.ExitCode(), errors.text.String()
}

func TestWrapper(t *testing.T) {
	started := reply(protocol.Started{Netns: "qdhcp-1", Unit: "s@qdhcp-1.service", Started: true})
	failed := func(status int, log ...string) answer {
		return refusal(protocol.ErrorStartFailed, protocol.Failure{
			Message: "dnsmasq did not start", Netns: "qdhcp-1", Unit: "s@qdhcp-1.service", Result: "exit-code", ExitStatus: &status, Log: log,
		})
	}
	tests := []struct {
		name    string
		answers []answer
		status  int
		stderr  string
		calls   int
	}{
		{
			name:    "the sidecar is ready",
			answers: []answer{started},
			calls:   1,
		},
		{
			name:    "the sidecar did not start",
			answers: []answer{failed(3, "dnsmasq: bad option", "  dnsmasq: and more")},
			status:  3,
			stderr: `tripleo-wrapper: dnsmasq did not start
  dnsmasq: bad option
    dnsmasq: and more
  on the host: journalctl -u s@qdhcp-1.service; journalctl REQUEST_ID=ID
`,
			calls: 1,
		},
		{
			// A shell would take either for success.
			name:    "an exit status that is none",
			answers: []answer{failed(256)},
			status:  1,
			stderr:  "tripleo-wrapper: dnsmasq did not start\n  on the host: journalctl -u s@qdhcp-1.service; journalctl REQUEST_ID=ID\n",
			calls:   1,
		},
		{
			name:    "exit status 0 of a sidecar that is not up",
			answers: []answer{failed(0)},
			status:  1,
			stderr:  "tripleo-wrapper: dnsmasq did not start\n  on the host: journalctl -u s@qdhcp-1.service; journalctl REQUEST_ID=ID\n",
			calls:   1,
		},
		{
			name:    "refused",
			answers: []answer{refusal(protocol.ErrorNotAllowed, protocol.Failure{Message: "uid 7 is not one of allowed_uids"})},
			status:  1,
			stderr:  "tripleo-wrapper: uid 7 is not one of allowed_uids\n",
			calls:   1,
		},
		{
			name:    "an error without a message",
			answers: []answer{refusal("org.varlink.service.MethodNotFound", map[string]string{"method": "x"})},
			status:  1,
			stderr: "tripleo-wrapper: the activator does not take such a request: org.varlink.service.MethodNotFound {\"method\":\"x\"}; " +
				"is the client of another version? On the host: systemctl restart tripleo-wrappers.target\n",
			calls: 1,
		},
		{
			name:    "activators that are gone in the middle of the call",
			answers: []answer{"", "", started},
			calls:   3,
		},
		{
			name:    "one that is gone in the middle of its answer",
			answers: []answer{started[:len(started)/2], started},
			calls:   2,
		},
		{
			// A log may hold anything that a sidecar wrote; the agent's log or a
			// terminal must not take it for more than text.
			name: "control characters",
			answers: []answer{refusal(protocol.ErrorStartFailed, protocol.Failure{
				Message: "a\x1b[31mb\nc\u009bd\x7f", Unit: "u\r", Log: []string{"tab\tstays", "bell\a", "Grüße"},
			})},
			status: 1,
			stderr: "tripleo-wrapper: a?[31mb?c?d?\n  tab\tstays\n  bell?\n  Grüße\n  on the host: journalctl -u u?; journalctl REQUEST_ID=ID\n",
			calls:  1,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := serviceDir(t)
			activator := startActivator(t, dir, "s", test.answers...)
			status, stderr := runClient(t, nil, "wrapper", "--service=s", "--service-dir="+dir, "--", "--pid-file=/x")
			if status != test.status {
				t.Errorf("exit status %d, want %d", status, test.status)
			}
			calls := activator.called()
			if len(calls) != test.calls {
				t.Fatalf("%d calls, want %d", len(calls), test.calls)
			}
			// The request is followed by an id that is another each time.
			var start protocol.Start
			if err := varlink.ReadParameters(calls[0].Parameters, &start); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.stderr, strings.ReplaceAll(stderr, start.ID, "ID")); diff != "" {
				t.Errorf("stderr (-want +got):\n%s", diff)
			}
		})
	}
}

// A sidecar that is to join another one which does not run yet: the agent must
// not wait, so the request is left for the host.
func TestWrapperDefers(t *testing.T) {
	t.Parallel()
	early := refusal(protocol.ErrorJoinedNotRunning, protocol.Failure{Message: "s joins k, which does not run", Unit: "k@n.service"})
	name, prefix := inNetns(t)
	dir := serviceDir(t)
	activator := startActivator(t, dir, "s", early)
	status, stderr := runClient(t, prefix, "wrapper", "--service=s", "--service-dir="+dir, "--", "-x")
	if status != 0 || !strings.Contains(stderr, "s joins k, which does not run; the request is spooled in "+layout.StateDir(dir, "s")) {
		t.Errorf("exit status %d, stderr %q", status, stderr)
	}
	if calls := activator.called(); len(calls) != 1 {
		t.Errorf("%d calls, want 1", len(calls))
	}
	content, err := os.ReadFile(filepath.Join(layout.StateDir(dir, "s"), layout.Spool))
	requests, bad := spool.Parse(content, 0)
	if err != nil || len(requests) != 1 || len(bad) != 0 || requests[0].Netns != name {
		t.Errorf("spooled: %s, error %v", content, err)
	}
	// Where it cannot be left, the call fails.
	dir = serviceDir(t)
	startActivator(t, dir, "s", early)
	if err := os.MkdirAll(filepath.Join(layout.StateDir(dir, "s"), layout.SpoolLock), 0o755); err != nil {
		t.Fatal(err)
	}
	status, stderr = runClient(t, prefix, "wrapper", "--service=s", "--service-dir="+dir, "--", "-x")
	if status != 1 || !strings.Contains(stderr, "the request cannot be spooled") {
		t.Errorf("exit status %d, stderr %q", status, stderr)
	}
}

// A control command is asked for once, and its output and exit status passed on.
func TestWrapperControl(t *testing.T) {
	ran := reply(protocol.Ran{ExitStatus: 7, Stderr: []byte("err\x1b[0m\n\xff")})
	tests := []struct {
		name    string
		answers []answer // none where nobody listens
		status  int
		stderr  string
		calls   int
	}{
		{"ran", []answer{ran}, 7, "err\x1b[0m\n\xff", 1},
		{"no sidecar", []answer{refusal(protocol.ErrorNotRunning, protocol.Failure{Message: "no sidecar"})}, 1, "tripleo-wrapper: no sidecar\n", 1},
		{"the activator is gone in the middle", []answer{"", ran}, 1,
			"tripleo-wrapper: waiting for the reply: EOF; it is not known whether the control command of s was run; on the host: tripleo-wrapperctl status s\n", 1},
		{"half an answer", []answer{"{"}, 1,
			"tripleo-wrapper: waiting for the reply: unexpected EOF; it is not known whether the control command of s was run; on the host: tripleo-wrapperctl status s\n", 1},
		{"an exit status that there is not, of which the kernel would keep 0", []answer{reply(protocol.Ran{ExitStatus: 256})}, 1,
			"says that the control command had exit status 256, which there is not; on the host: tripleo-wrapperctl status s\n", 1},
		{"nobody listens", nil, 1, "connecting to DIR/s/activator.sock: no such file or directory, for 200ms; a control command is not spooled; on the host: tripleo-wrapperctl status s\n", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := serviceDir(t)
			var activator *activator
			if len(test.answers) > 0 {
				activator = startActivator(t, dir, "s", test.answers...)
			} else {
				stateDir(t, dir, "s")
			}
			status, stderr := runClient(t, nil, "wrapper", "--service=s", "--service-dir="+dir, "--ready-timeout=200ms", `--run=["-k"]`, "--", "-C", "-k")
			if stderr = strings.ReplaceAll(stderr, dir, "DIR"); status != test.status || !strings.HasSuffix(stderr, test.stderr) {
				t.Errorf("exit status %d, stderr %q, want %q", status, stderr, test.stderr)
			}
			if activator == nil {
				checkFiles(t, layout.StateDir(dir, "s"))
				return
			}
			if calls := activator.called(); len(calls) != test.calls || calls[0].Method != protocol.MethodRun {
				t.Errorf("calls %v, want %d", calls, test.calls)
			}
		})
	}
}

// What the activator is asked, and that it is asked the same again when the
// connection breaks.
func TestWrapperRequest(t *testing.T) {
	tests := map[string][]string{
		"none":  {},
		"plain": {"-k", "--pid-file=/x"},
		"odd":   {"", "two words", "two\nlines", `"quoted" \`, "--", "é"},
		"bytes": {"\xff\xfe", "é", ""},
	}
	for name, arguments := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := serviceDir(t)
			activator := startActivator(t, dir, "s", "", reply(protocol.Started{}))
			status, stderr := runClient(t, nil, append([]string{"wrapper", "--service=s", "--service-dir=" + dir,
				"--pass-environment=PROCESS_TAG", "--pass-environment=NOT_THERE", "--"}, arguments...)...)
			if status != 0 || stderr != "" {
				t.Fatalf("exit status %d, stderr %q", status, stderr)
			}
			calls := activator.called()
			if len(calls) != 2 {
				t.Fatalf("%d calls, want 2", len(calls))
			}
			if diff := cmp.Diff(calls[0], calls[1]); diff != "" {
				t.Errorf("the second call differs (-first +second):\n%s", diff)
			}
			var start protocol.Start
			if err := varlink.ReadParameters(calls[0].Parameters, &start); err != nil || calls[0].Method != protocol.MethodStart {
				t.Fatalf("call of %s: %v", calls[0].Method, err)
			}
			if got, err := start.ArgumentList(); err != nil || !cmp.Equal(append([]string{}, got...), arguments) {
				t.Errorf("arguments %q, want %q, error %v", got, arguments, err)
			}
			if want := map[string]string{"PROCESS_TAG": "a-tag"}; !cmp.Equal(start.Environment, want) {
				t.Errorf("environment %v, want %v", start.Environment, want)
			}
			if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(start.ID) {
				t.Errorf("id %q is not 32 hexadecimal digits", start.ID)
			}
		})
	}
}

// Root, too, has no capability as a client but to use files of other users, and
// no way to more.
func TestDropsPrivileges(t *testing.T) {
	own := capabilities(t, os.Getpid())["CapPrm"]
	want := map[string]uint64{"CapInh": 0, "CapPrm": own & (1 << unix.CAP_DAC_OVERRIDE), "CapAmb": 0, "NoNewPrivs": 1}
	want["CapEff"] = want["CapPrm"]
	dir := serviceDir(t)
	for _, args := range [][]string{
		{"wrapper", "--service=s", "--service-dir=" + dir},
		{"kill", "--service-dir=" + dir, "--", "HUP", fmt.Sprint(os.Getpid())},
	} {
		t.Run(args[0], func(t *testing.T) {
			listener, err := net.Listen("unix", filepath.Join(stateDir(t, dir, "s"), layout.Socket))
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			context.AfterFunc(ctx, func() { listener.Close() })
			command := exec.CommandContext(ctx, program, args...)
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			conn, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			got := capabilities(t, command.Process.Pid)
			delete(got, "CapBnd")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("privileges (-want +got):\n%s", diff)
			}
			if _, err := varlink.ReadMessage(bufio.NewReader(conn)); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte(reply(protocol.Started{}))); err != nil {
				t.Fatal(err)
			}
			if err := command.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// capabilities returns the sets of capabilities of a process, and whether it can
// have more by starting a program, as /proc/PID/status has them.
func capabilities(t *testing.T, pid int) map[string]uint64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	sets := map[string]uint64{}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		if !strings.HasPrefix(name, "Cap") && name != "NoNewPrivs" {
			continue
		}
		if sets[name], err = strconv.ParseUint(strings.TrimSpace(value), 16, 64); err != nil {
			t.Fatal(err)
		}
	}
	return sets
}

// A call from a namespace that has no name cannot be spooled: nobody would
// know where to start the sidecar.
func TestWrapperOutsideOfANamedNamespace(t *testing.T) {
	dir := serviceDir(t)
	stateDir(t, dir, "s")
	status, stderr := runClient(t, nil, "wrapper", "--service=s", "--service-dir="+dir)
	if status != 1 || !strings.Contains(stderr, "network namespace has no name in /run/netns") {
		t.Errorf("exit status %d, stderr %q", status, stderr)
	}
	checkFiles(t, layout.StateDir(dir, "s"))
}

func checkFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files in %s (-want +got):\n%s", dir, diff)
	}
}

// inNetns makes a network namespace and returns its name, and what to put
// before a command to run it there.
func inNetns(t *testing.T) (name string, prefix []string) {
	t.Helper()
	requireRoot(t)
	name = fmt.Sprintf("tw-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	if output, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("ip netns add: %v: %s", err, output)
	}
	t.Cleanup(func() {
		if output, err := exec.Command("ip", "netns", "delete", name).CombinedOutput(); err != nil {
			t.Errorf("ip netns delete: %v: %s", err, output)
		}
	})
	return name, []string{"ip", "netns", "exec", name}
}

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("network namespaces are made by root only")
	}
	t.Skip("network namespaces are made by root only")
}

// Whose process it is, the client often cannot tell: Docker's processes are of no unit
// of ours, and a container may have a control group namespace of its own.
func TestKillWaitsForEachSocket(t *testing.T) {
	t.Parallel()
	dir := serviceDir(t)
	other := startActivator(t, dir, "a", refusal(protocol.ErrorNotASidecar, protocol.Failure{Message: "not a sidecar of a"}))
	socket := filepath.Join(stateDir(t, dir, "b"), layout.Socket)
	nobodyListens(t, socket)
	status, stderr := runClient(t, nil, "kill", "--service-dir="+dir, "--", "9", fmt.Sprint(os.Getpid()))
	if status != 1 || !strings.Contains(stderr, "not a sidecar of a; connecting to "+socket+": connection refused") {
		t.Errorf("exit status %d, stderr %q, want 1 and both reasons", status, stderr)
	}
	if calls := len(other.called()); calls != 1 {
		t.Errorf("the one that has answered is asked %d times", calls)
	}

	var kill sync.WaitGroup
	kill.Go(func() {
		if status, stderr := runClient(t, nil, "kill", "--service-dir="+dir, "--", "9", fmt.Sprint(os.Getpid())); status != 0 {
			t.Errorf("exit status %d, stderr %q, want 0 once there is an activator", status, stderr)
		}
	})
	time.Sleep(500 * time.Millisecond)
	if err := os.Remove(socket); err != nil {
		t.Error(err)
	}
	startActivator(t, dir, "b", reply(protocol.Signaled{Netns: "qdhcp-1", Unit: "b@qdhcp-1.service", Gone: true}))
	kill.Wait()
}

// A process that ends while nobody listens is gone, which Neutron understands.
func TestKillOfProcessThatEnds(t *testing.T) {
	t.Parallel()
	dir := serviceDir(t)
	nobodyListens(t, filepath.Join(stateDir(t, dir, "a"), layout.Socket))
	process := exec.Command("sleep", "1")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() { _ = process.Wait() }) // else it would still be there
	defer waiting.Wait()
	status, stderr := runClient(t, nil, "kill", "--service-dir="+dir, "--", "9", fmt.Sprint(process.Process.Pid))
	if want := fmt.Sprintf("tripleo-wrapper: kill: (%d) - No such process\n", process.Process.Pid); status != 1 || stderr != want {
		t.Errorf("exit status %d, stderr %q, want 1 and %q", status, stderr, want)
	}
}

// nobodyListens makes a socket that nobody listens on.
func nobodyListens(t *testing.T, socket string) {
	t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
}

// One that takes the call and says nothing does not keep the others from being asked.
func TestKillAsksOthers(t *testing.T) {
	t.Parallel()
	dir := serviceDir(t)
	silent, err := net.Listen("unix", filepath.Join(stateDir(t, dir, "a"), layout.Socket))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	startActivator(t, dir, "b", reply(protocol.Signaled{Netns: "qdhcp-1", Unit: "b@qdhcp-1.service", Gone: true}))
	if status, stderr := runClient(t, nil, "kill", "--service-dir="+dir, "--", "9", fmt.Sprint(os.Getpid())); status != 0 {
		t.Errorf("exit status %d, stderr %q", status, stderr)
	}
}

// The host is away: the request is left for it. Once the sidecar's pid file is
// there, the call is a success.
func TestWrapperSpools(t *testing.T) {
	t.Parallel()
	name, prefix := inNetns(t)
	tests := []struct {
		name  string
		setUp func(t *testing.T, dir string)
		files []string
	}{
		{
			name:  "no socket",
			setUp: func(*testing.T, string) {},
			files: []string{layout.Spool, layout.SpoolTimestamp, layout.SpoolLock},
		},
		{
			name: "a socket that nobody listens on",
			setUp: func(t *testing.T, dir string) {
				nobodyListens(t, filepath.Join(layout.StateDir(dir, "s"), layout.Socket))
			},
			files: []string{layout.Socket, layout.Spool, layout.SpoolTimestamp, layout.SpoolLock},
		},
		{
			name: "activators that break again and again",
			setUp: func(t *testing.T, dir string) {
				startActivator(t, dir, "s", "")
			},
			files: []string{layout.Socket, layout.Spool, layout.SpoolTimestamp, layout.SpoolLock},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := serviceDir(t)
			state := stateDir(t, dir, "s")
			test.setUp(t, dir)
			pidFile := filepath.Join(dir, "pid")
			arguments := []string{"-k", "two\nlines", "--pid-file=" + pidFile}
			sidecar := exec.Command("sh", append([]string{"-c", "read -r line", "dnsmasq"}, arguments...)...)
			input, err := sidecar.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := sidecar.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				input.Close()
				_ = sidecar.Wait() // it has ended with its input
			}()
			started := false
			start := func(stderr string) {
				if started || !strings.Contains(stderr, "is spooled in") {
					return
				}
				started = true
				if err := os.WriteFile(pidFile, fmt.Appendf(nil, "%d\n", sidecar.Process.Pid), 0o644); err != nil {
					t.Error(err)
				}
			}
			before := time.Now()
			status, stderr := runClientUntil(t, start, prefix, append([]string{"wrapper", "--service=s", "--service-dir=" + dir,
				"--pid-file-option=--pid-file", "--pass-environment=PROCESS_TAG", "--ready-timeout=20s", "--"}, arguments...)...)
			if want := "the request is spooled in " + state; status != 0 || strings.Count(stderr, want) != 1 {
				t.Errorf("exit status %d, want 0; stderr %q, want %q once", status, stderr, want)
			}
			checkFiles(t, state, test.files...)
			content, err := os.ReadFile(filepath.Join(state, layout.Spool))
			if err != nil {
				t.Fatal(err)
			}
			requests, bad := spool.Parse(content, 0)
			if len(requests) != 1 || len(bad) != 0 {
				t.Fatalf("the spool has %d requests and %d bad lines:\n%s", len(requests), len(bad), content)
			}
			request := requests[0]
			got, err := request.ArgumentList()
			if err != nil || !cmp.Equal(got, arguments) || request.Netns != name {
				t.Errorf("spooled: %q in %s, want %q in %s, error %v", got, request.Netns, arguments, name, err)
			}
			if want := map[string]string{"PROCESS_TAG": "a-tag"}; !cmp.Equal(request.Environment, want) {
				t.Errorf("environment %v, want %v", request.Environment, want)
			}
			if at := time.UnixMicro(request.Time); at.Before(before.Truncate(time.Microsecond)) || at.After(time.Now()) {
				t.Errorf("time of the request is %v", at)
			}
		})
	}
}

func TestWrapperGivesUp(t *testing.T) {
	t.Parallel()
	_, prefix := inNetns(t)
	t.Run("spooled, and not up in time", func(t *testing.T) {
		t.Parallel()
		dir := serviceDir(t)
		state := stateDir(t, dir, "s")
		status, stderr := runClient(t, prefix, "wrapper", "--service=s", "--service-dir="+dir,
			"--pid-file-option=-p", "--ready-timeout=120ms", "--", "-p", filepath.Join(dir, "pid"))
		if want := "s is not up after 120ms; it is still spooled"; status != 1 || !strings.Contains(stderr, want) {
			t.Errorf("exit status %d, want 1; stderr %q, want %q", status, stderr, want)
		}
		checkFiles(t, state, layout.Spool, layout.SpoolTimestamp, layout.SpoolLock)
	})
	t.Run("the pid file is an earlier sidecar's", func(t *testing.T) {
		t.Parallel()
		dir := serviceDir(t)
		stateDir(t, dir, "s")
		pidFile := filepath.Join(dir, "pid")
		earlier := time.Now().Add(-time.Minute)
		err := errors.Join(os.WriteFile(pidFile, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o644), os.Chtimes(pidFile, earlier, earlier))
		if err != nil {
			t.Fatal(err)
		}
		status, stderr := runClient(t, prefix, "wrapper", "--service=s", "--service-dir="+dir,
			"--pid-file-option=-p", "--ready-timeout=120ms", "--", "-p", pidFile)
		if want := "s is not up after 120ms"; status != 1 || !strings.Contains(stderr, want) {
			t.Errorf("exit status %d, want 1; stderr %q, want %q", status, stderr, want)
		}
	})
	t.Run("spooled, and then refused", func(t *testing.T) {
		t.Parallel()
		dir := serviceDir(t)
		answers := append(slices.Repeat([]answer{""}, 20), refusal(protocol.ErrorStartFailed, protocol.Failure{Message: "no such image"}))
		startActivator(t, dir, "s", answers...)
		status, stderr := runClient(t, prefix, "wrapper", "--service=s", "--service-dir="+dir)
		for _, want := range []string{"the request is spooled in ", "still spooled, and may be served later", "no such image"} {
			if status != 1 || !strings.Contains(stderr, want) {
				t.Errorf("exit status %d, want 1; stderr %q, want %q", status, stderr, want)
			}
		}
	})
	t.Run("refused at once", func(t *testing.T) {
		t.Parallel()
		dir := serviceDir(t)
		startActivator(t, dir, "s", refusal(protocol.ErrorStartFailed, protocol.Failure{Message: "no such image"}))
		status, stderr := runClient(t, prefix, "wrapper", "--service=s", "--service-dir="+dir)
		if status != 1 || strings.Contains(stderr, "spooled") {
			t.Errorf("exit status %d, want 1; stderr %q", status, stderr)
		}
	})
	t.Run("nowhere to spool", func(t *testing.T) {
		t.Parallel()
		dir := serviceDir(t)
		status, stderr := runClient(t, prefix, "wrapper", "--service=s", "--service-dir="+dir)
		if status != 1 || !strings.Contains(stderr, "the request cannot be spooled: ") || !strings.Contains(stderr, "no such file or directory") {
			t.Errorf("exit status %d, want 1; stderr %q", status, stderr)
		}
	})
	t.Run("spool that cannot be written", func(t *testing.T) {
		t.Parallel()
		dir := serviceDir(t)
		// Root may write to a directory whatever its mode is, but not to this.
		if err := os.MkdirAll(filepath.Join(stateDir(t, dir, "s"), layout.SpoolLock), 0o755); err != nil {
			t.Fatal(err)
		}
		status, stderr := runClient(t, prefix, "wrapper", "--service=s", "--service-dir="+dir)
		if status != 1 || !strings.Contains(stderr, "the request cannot be spooled: locking ") || !strings.Contains(stderr, "is a directory") {
			t.Errorf("exit status %d, want 1; stderr %q", status, stderr)
		}
	})
}

// A user that the definition does not allow does not get as far as asking. It
// is told what to look at, at once.
func TestAnotherUser(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	const nobody = 65534
	dir := serviceDir(t)
	startActivator(t, dir, "s", reply(protocol.Started{}))
	copied := filepath.Join(dir, program) // where the other user can run it
	err := errors.Join(
		// By another process: a program cannot be run while one that another
		// test starts at this moment has inherited it open for writing.
		exec.Command("cp", mustLookPath(t, program), copied).Run(),
		os.Chmod(copied, 0o755),
		os.Chmod(dir, 0o755),
		os.Chmod(filepath.Join(layout.StateDir(dir, "s"), layout.Socket), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		args []string
		want string
	}{
		"wrapper": {[]string{"wrapper", "--service=s", "--service-dir=" + dir}, "permission denied; uid 65534 may not ask for sidecars of s; add it to allowed_uids"},
		"kill":    {[]string{"kill", "--service-dir=" + dir, "--", "9", fmt.Sprint(os.Getpid())}, "permission denied"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			command := exec.CommandContext(ctx, copied, test.args...)
			command.Dir = dir
			command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			output, err := command.CombinedOutput()
			if command.ProcessState.ExitCode() != 1 || !strings.Contains(string(output), test.want) {
				t.Errorf("%v, want exit status 1; stderr %q, want %q", err, output, test.want)
			}
		})
	}
}

func mustLookPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKill(t *testing.T) {
	signaled := reply(protocol.Signaled{Netns: "qdhcp-1", Unit: "s@qdhcp-1.service", Gone: true})
	dead := refusal(protocol.ErrorNoSuchProcess, protocol.Failure{Message: "(42) - No such process"})
	notOurs := func(service string) answer {
		return refusal(protocol.ErrorNotASidecar, protocol.Failure{Message: "not a sidecar of " + service})
	}
	tests := []struct {
		name     string
		services map[string][]answer
		signal   string
		want     protocol.Signal // what is asked
		status   int
		stderr   string
		calls    map[string]int
	}{
		{
			name:     "by number",
			services: map[string][]answer{"a": {signaled}},
			signal:   "9",
			want:     protocol.Signal{Signal: 9},
			calls:    map[string]int{"a": 1},
		},
		{
			name:     "by name, as kill(1) has it",
			services: map[string][]answer{"a": {signaled}},
			signal:   "-HUP",
			want:     protocol.Signal{Signal: 1},
			calls:    map[string]int{"a": 1},
		},
		{
			name:     "by its whole name",
			services: map[string][]answer{"a": {signaled}},
			signal:   "SIGTERM",
			want:     protocol.Signal{Signal: 15},
			calls:    map[string]int{"a": 1},
		},
		{
			// Three services of upstream share one script.
			name:     "the process is that of the last service asked",
			services: map[string][]answer{"a": {notOurs("a")}, "b": {notOurs("b")}, "c": {signaled}},
			signal:   "15",
			want:     protocol.Signal{Signal: 15},
			calls:    map[string]int{"a": 1, "b": 1, "c": 1},
		},
		{
			name:     "a service that does not let the caller in is not the last one asked",
			services: map[string][]answer{"a": {refusal(protocol.ErrorNotAllowed, protocol.Failure{Message: "no"})}, "b": {signaled}},
			signal:   "15",
			want:     protocol.Signal{Signal: 15},
			calls:    map[string]int{"a": 1, "b": 1},
		},
		{
			name:     "whose process it is needs no further asking",
			services: map[string][]answer{"a": {signaled}, "b": {signaled}},
			signal:   "15",
			want:     protocol.Signal{Signal: 15},
			calls:    map[string]int{"a": 1, "b": 0},
		},
		{
			name:     "no service's process",
			services: map[string][]answer{"a": {notOurs("a")}, "b": {notOurs("b")}},
			signal:   "9",
			want:     protocol.Signal{Signal: 9},
			status:   1,
			stderr:   "tripleo-wrapper: kill: not a sidecar of a; not a sidecar of b; no wrapper started it, so it has to be signaled by whoever did; a container of wrappers that were here before is taken over on the host by: tripleo-wrapperctl adopt\n",
			calls:    map[string]int{"a": 1, "b": 1},
		},
		{
			name:     "dead by the time that it is asked",
			services: map[string][]answer{"a": {dead}, "b": {signaled}},
			signal:   "9",
			want:     protocol.Signal{Signal: 9},
			status:   1,
			stderr:   "tripleo-wrapper: kill: (42) - No such process\n",
			calls:    map[string]int{"a": 1, "b": 0},
		},
		{
			name:     "activators that are gone in the middle of the call",
			services: map[string][]answer{"a": {"", "", signaled}},
			signal:   "HUP",
			want:     protocol.Signal{Signal: 1},
			calls:    map[string]int{"a": 3},
		},
		{
			name:     "killed by an activator that did not live to say so",
			services: map[string][]answer{"a": {"", dead}},
			signal:   "15",
			want:     protocol.Signal{Signal: 15},
			calls:    map[string]int{"a": 2},
		},
		{
			name:     "the same, and another service is asked next",
			services: map[string][]answer{"a": {""}, "b": {dead}},
			signal:   "9",
			want:     protocol.Signal{Signal: 9},
			calls:    map[string]int{"a": 1, "b": 1},
		},
		{
			name:     "others are asked while one's activators are gone again and again",
			services: map[string][]answer{"a": {""}, "b": {notOurs("b")}, "c": {signaled}},
			signal:   "HUP",
			want:     protocol.Signal{Signal: 1},
			calls:    map[string]int{"a": 1, "b": 1, "c": 1},
		},
		{
			name:     "dead before it could be reloaded",
			services: map[string][]answer{"a": {"", dead}},
			signal:   "HUP",
			want:     protocol.Signal{Signal: 1},
			status:   1,
			stderr:   "tripleo-wrapper: kill: (42) - No such process\n",
			calls:    map[string]int{"a": 2},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := serviceDir(t)
			activators := map[string]*activator{}
			for service, answers := range test.services {
				activators[service] = startActivator(t, dir, service, answers...)
			}
			// A process that is alive. The stand-ins leave it so.
			pid := os.Getpid()
			status, stderr := runClient(t, nil, "kill", "--service-dir="+dir, "--", test.signal, fmt.Sprint(pid))
			if status != test.status {
				t.Errorf("exit status %d, want %d", status, test.status)
			}
			if diff := cmp.Diff(test.stderr, stderr); diff != "" {
				t.Errorf("stderr (-want +got):\n%s", diff)
			}
			test.want.PID = pid
			for service, activator := range activators {
				calls := activator.called()
				if len(calls) != test.calls[service] {
					t.Errorf("%d calls of %s, want %d", len(calls), service, test.calls[service])
				}
				for _, call := range calls {
					var got protocol.Signal
					if err := varlink.ReadParameters(call.Parameters, &got); err != nil || call.Method != protocol.MethodSignal || got != test.want {
						t.Errorf("call of %s with %+v, want %+v, error %v", call.Method, got, test.want, err)
					}
				}
			}
		})
	}
}
