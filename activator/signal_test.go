// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
)

// A pid that was a helper's may be the id of a thread by now. Kernels differ in what
// they say of one to pidfd_open(2), and Neutron has to be told that there is no such
// process.
func TestSignalThread(t *testing.T) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	a := &Activator{service: &options.Service{Name: "test"}}
	tried := 0
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			t.Fatal(err)
		}
		if id == os.Getpid() {
			continue
		}
		tried++
		if _, err := a.signal(t.Context(), &protocol.Signal{PID: id}); errorName(err) != protocol.ErrorNoSuchProcess {
			t.Errorf("thread %d: %v", id, err)
		}
	}
	if tried == 0 {
		t.Error("this process has one thread only")
	}
}

// A process that is told to end once more is waited for from then on, by one.
func TestLateEnds(t *testing.T) {
	var l lateEnds
	now := time.Now()
	if !l.add(1, now.Add(time.Minute)) {
		t.Error("nobody waits for the first")
	}
	if l.add(1, now.Add(time.Hour)) {
		t.Error("two wait for the same")
	}
	if left := l.left(1); left < 30*time.Minute {
		t.Errorf("%v are left of an hour", left)
	}
	l.add(2, now)
	if left := l.left(2); left > 0 {
		t.Errorf("%v are left of nothing", left)
	}
	if !l.add(2, now) {
		t.Error("nobody waits for one that was given up")
	}
	l.remove(1)
	if !l.add(1, now) {
		t.Error("nobody waits for one that has ended")
	}
}

// Whoever waits for the end of a process does so until the last deadline.
func TestStopLate(t *testing.T) {
	a := &Activator{service: &options.Service{Name: "test"}}
	fd, err := unix.PidfdOpen(os.Getpid(), 0) // which does not end
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	last := began.Add(time.Second)
	a.late.add(1, began.Add(500*time.Millisecond))
	time.AfterFunc(100*time.Millisecond, func() { a.late.add(1, last) })
	a.stopLate(t.Context(), openProcess(fd), "n", 1, slog.New(slog.DiscardHandler))
	if early := time.Until(last); early > 0 {
		t.Errorf("it was not waited for any more %v before the last deadline", early)
	}

	fd, err = unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // as when the activator ends
	began = time.Now()
	a.late.add(1, began.Add(time.Minute))
	a.stopLate(ctx, openProcess(fd), "n", 1, slog.New(slog.DiscardHandler))
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it was waited for after the end of the activator, for %v", took)
	}
}

// connection returns one end of a connection that this process made.
func connection(t *testing.T) *net.UnixConn {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket")
		ends[i], err = net.FileConn(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ends[i].Close() })
	}
	return ends[0].(*net.UnixConn)
}

// No process is held up by a signal, whosever it is: it may have locked something.
func TestSignalsThatHoldUp(t *testing.T) {
	var logged bytes.Buffer
	a := &Activator{service: &options.Service{Name: "test"}, log: slog.New(slog.NewTextHandler(&logged, nil))}
	conn := connection(t)
	for signal, name := range map[unix.Signal]string{
		unix.SIGSTOP: "SIGSTOP", unix.SIGTSTP: "SIGTSTP", unix.SIGTTIN: "SIGTTIN", unix.SIGTTOU: "SIGTTOU",
	} {
		logged.Reset()
		_, err := a.serveSignal(t.Context(), conn, json.RawMessage(fmt.Sprintf(`{"pid":%d,"signal":%d}`, os.Getpid(), signal)))
		if errorName(err) != protocol.ErrorFailed || !strings.Contains(reason(err), "gets no "+name+",") {
			t.Errorf("%s: error %v", name, err)
		}
		if want := fmt.Sprintf("refused process %d of uid %d", os.Getpid(), os.Getuid()); !strings.Contains(logged.String(), want) {
			t.Errorf("%s: logged %q, want %q in it", name, &logged, want)
		}
	}
	for _, signal := range []unix.Signal{0, unix.SIGHUP, unix.SIGKILL, unix.SIGTERM, unix.SIGCONT} {
		_, err := a.serveSignal(t.Context(), conn, json.RawMessage(fmt.Sprintf(`{"pid":%d,"signal":%d}`, os.Getpid(), signal)))
		if errorName(err) != protocol.ErrorNotASidecar {
			t.Errorf("signal %d: error %v", signal, err)
		}
	}
}

// Whoever is waited for takes no thread, and its end is seen at once.
func TestAwaitExit(t *testing.T) {
	command := exec.Command("sleep", "1000")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Wait() }) // it is killed below
	process := func() *os.File {
		pidfd, err := unix.PidfdOpen(command.Process.Pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		file := openProcess(pidfd)
		t.Cleanup(func() { file.Close() })
		return file
	}
	one := process()
	if began := time.Now(); awaitExit(t.Context(), one, 20*time.Millisecond) || time.Since(began) < 20*time.Millisecond {
		t.Errorf("it has ended, after %v", time.Since(began))
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if began := time.Now(); awaitExit(ctx, one, time.Minute) || time.Since(began) > 10*time.Second {
		t.Errorf("the end of the context was not seen, but after %v", time.Since(began))
	}

	const many = 300
	var waiting sync.WaitGroup
	seen := make([]bool, many)
	for i := range seen {
		file := process()
		waiting.Go(func() { seen[i] = awaitExit(t.Context(), file, time.Minute) })
	}
	time.Sleep(200 * time.Millisecond) // until they wait
	if threads, err := os.ReadDir("/proc/self/task"); err != nil || len(threads) > many/4 {
		t.Errorf("%d threads wait for %d processes, error %v", len(threads), many, err)
	}
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	waiting.Wait()
	for i := range seen {
		if !seen[i] {
			t.Fatalf("the end of process %d of %d was not seen", i, many)
		}
	}
	if !awaitExit(t.Context(), one, time.Minute) { // that was waited for before
		t.Error("the end was not seen")
	}
}
