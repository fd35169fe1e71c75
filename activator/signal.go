// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

// How long a process may take to be gone after a signal. Neutron itself gives
// one five seconds between TERM and KILL; a killed process that stays is in
// the kernel's hands.
const (
	termWait = 5 * time.Second
	killWait = 10 * time.Second
	// lateWait is how long after the answer the end of a process may come that
	// was told to end: for as long Neutron waits before it sends KILL, and for the
	// start of the kill script. One that goes on after that does not mean to end.
	lateWait = 10 * time.Second
	// signalTimeout bounds all of it: the process, its unit, and a start of the
	// same sidecar that is under way.
	signalTimeout = 100 * time.Second
)

// lastSignal is the largest number of a signal (signal(7): SIGRTMAX).
const lastSignal = 64

// holding are the signals that only hold a process up. Neutron sends none of them,
// and a helper that is held up serves nobody. Beside it there are the container
// tool's own processes in the control group of its unit, which may have locked what
// all containers of the host need.
var holding = []unix.Signal{unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU}

func (a *Activator) serveSignal(ctx context.Context, conn *net.UnixConn, parameters json.RawMessage) (any, error) {
	var request protocol.Signal
	if err := varlink.ReadParameters(parameters, &request); err != nil {
		return nil, err
	}
	if request.Signal < 0 || request.Signal > lastSignal {
		return nil, varlink.InvalidParameter("signal")
	}
	if request.PID <= 0 {
		return nil, varlink.InvalidParameter("pid")
	}
	peer, err := caller(conn)
	if err != nil {
		return nil, err
	}
	if signal := unix.Signal(request.Signal); slices.Contains(holding, signal) {
		err := failure(protocol.ErrorFailed, protocol.Failure{
			Message: fmt.Sprintf("process %d gets no %s, which would hold it up and not end it; to end it, send TERM or KILL",
				request.PID, unix.SignalName(signal)),
		})
		a.refused(a.requestLog(request.ID, ""), peer, reason(err), journal.Result, journal.Refused)
		return nil, err
	}
	signaled, err := a.signal(ctx, &request)
	if errorName(err) == protocol.ErrorNotASidecar {
		// No more than worth a line: a kill script asks all services of its
		// service_dir.
		who, cgroup := describe(peer)
		a.limited(a.requestLog(request.ID, ""), slog.LevelInfo, cgroup, "did nothing for "+who+": "+reason(err))
	}
	return signaled, err
}

func (a *Activator) signal(serving context.Context, request *protocol.Signal) (*protocol.Signaled, error) {
	// The descriptor holds on to this process: its pid may be recycled, but a
	// signal through it never reaches another.
	pidfd, err := unix.PidfdOpen(request.PID, 0)
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		// EINVAL and, in new kernels, ENOENT: the id of a thread, which no pid file names.
		return nil, noSuchProcess(request.PID)
	case err != nil:
		return nil, fmt.Errorf("opening process %d: %w", request.PID, err)
	}
	process := openProcess(pidfd)
	defer func() {
		if process != nil {
			_ = process.Close()
		}
	}()
	netns, ok, err := a.processes.Sidecar(request.PID)
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.ENOENT):
		return nil, noSuchProcess(request.PID)
	case err != nil:
		return nil, fmt.Errorf("looking whose process %d is: %w", request.PID, err)
	}
	if !ok {
		return nil, failure(protocol.ErrorNotASidecar, protocol.Failure{
			Message: fmt.Sprintf("process %d is not of a sidecar of %s", request.PID, a.service.Name),
			PID:     &request.PID,
		})
	}
	ctx, cancel := context.WithTimeout(serving, signalTimeout)
	defer cancel()
	unit := a.unit(netns)
	main, err := a.isMain(ctx, netns, request.PID)
	if err != nil {
		return nil, err
	}
	signal := unix.Signal(request.Signal)
	switch err := unix.PidfdSendSignal(pidfd, signal, nil, 0); {
	case errors.Is(err, unix.ESRCH):
		return nil, noSuchProcess(request.PID)
	case err != nil:
		return nil, fmt.Errorf("sending signal %d to process %d of %s: %w", request.Signal, request.PID, unit, err)
	}
	log := a.requestLog(request.ID, netns).With(journal.PID, request.PID)
	name := cmp.Or(unix.SignalName(signal), fmt.Sprintf("signal %d", request.Signal))
	if signal != 0 { // which only asks whether the process is there, and does nothing to it
		log.Info(fmt.Sprintf("sent %s to process %d", name, request.PID))
	}
	reply := &protocol.Signaled{Netns: netns, Unit: unit}

	switch signal {
	case unix.SIGKILL:
		if !awaitExit(ctx, process, killWait) {
			return nil, fmt.Errorf("process %[1]d of %[2]s is still there %[3]v after SIGKILL; "+
				"what it waits for in the kernel: cat /proc/%[1]d/stack", request.PID, unit, killWait)
		}
	case unix.SIGTERM:
		if !awaitExit(ctx, process, termWait) {
			if main != 0 && a.late.add(main, time.Now().Add(lateWait)) {
				late := process
				process = nil
				a.background(func() { a.stopLate(serving, late, netns, main, log) })
			}
			return reply, nil
		}
	default:
		return reply, nil
	}
	reply.Gone = true
	if main != 0 {
		if err := a.stopKilled(ctx, netns, main); err != nil {
			return nil, err
		}
		log.Info(fmt.Sprintf("stopped after %s", name))
	}
	return reply, nil
}

// lateEnds are the main processes that are waited for after the answer, and until
// when, each once: whoever is told to end may be told so as often as somebody likes.
type lateEnds struct {
	mu    sync.Mutex
	until map[int]time.Time
}

// add has a process waited for until then. It says whether it was not before.
func (l *lateEnds) add(pid int, until time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.until == nil {
		l.until = map[int]time.Time{}
	}
	_, known := l.until[pid]
	l.until[pid] = until
	return !known
}

// left returns for how long a process is still waited for. One that is not any
// more is forgotten.
func (l *lateEnds) left(pid int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := time.Until(l.until[pid])
	if left <= 0 {
		delete(l.until, pid)
	}
	return left
}

func (l *lateEnds) remove(pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.until, pid)
}

// stopLate stops a sidecar whose main process ends a while after it was told to,
// with whatever status: systemd would bring it back, and whoever sent the signal
// finds it gone and sends no other. It closes the process.
func (a *Activator) stopLate(ctx context.Context, process *os.File, netns string, main int, log *slog.Logger) {
	defer process.Close()
	for left := a.late.left(main); !awaitExit(ctx, process, left); {
		if left = a.late.left(main); left <= 0 || ctx.Err() != nil {
			return
		}
	}
	defer a.late.remove(main)
	ctx, cancel := context.WithTimeout(ctx, signalTimeout)
	defer cancel()
	if state, err := a.systemd.Current(ctx, a.unit(netns)); err == nil && state.Down() {
		return // by somebody who sent KILL
	}
	if err := a.stopKilled(ctx, netns, main); err != nil {
		log.Error(fmt.Sprintf("cannot stop a sidecar that ended after SIGTERM: %v; to stop it by hand: systemctl stop %s", err, a.unit(netns)))
		return
	}
	log.Info("stopped after SIGTERM")
}

// isMain returns the main process of a sidecar's unit if the end of a process
// is the end of the sidecar: it is the main process, or the container's. Else it
// returns 0.
func (a *Activator) isMain(ctx context.Context, netns string, pid int) (int, error) {
	main, err := a.systemd.MainPID(ctx, a.unit(netns))
	if err != nil || main == pid || a.processes.IsCommand(netns, main, pid) {
		return main, err
	}
	return 0, nil
}

// stopKilled waits until a sidecar is gone whose main process was killed on
// purpose, container and all, and sees to it that it is not brought back. A
// sidecar that was started meanwhile has another main process and is let be.
func (a *Activator) stopKilled(ctx context.Context, netns string, main int) error {
	unlock, err := a.locks.lock(ctx, netns)
	if err != nil {
		return err
	}
	defer unlock()
	unit := a.unit(netns)
	now, err := a.systemd.MainPID(ctx, unit)
	if err != nil {
		return err
	}
	if now != main && now != 0 {
		return nil
	}
	return a.stop(ctx, unit)
}

// openProcess makes a file of a pidfd. One that does not block is waited for without
// a thread.
func openProcess(pidfd int) *os.File {
	_ = unix.SetNonblock(pidfd, true) // never fails for a descriptor that is open
	return os.NewFile(uintptr(pidfd), "pidfd")
}

// awaitExit waits for the end of a process; it says whether it came. Thousands
// may be waited for at a time.
func awaitExit(ctx context.Context, process *os.File, limit time.Duration) bool {
	raw, err := process.SyscallConn()
	if err == nil {
		err = process.SetReadDeadline(time.Now().Add(limit))
	}
	if err != nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() { _ = process.SetReadDeadline(time.Now()) }) // fails if closed
	defer stop()
	ended := false
	// Its error is that of the deadline.
	_ = raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0) // #nosec G115 -- a descriptor is a C int
		ended = err == nil && n > 0
		return ended
	})
	return ended
}

// noSuchProcess is the error for a process that is gone. Neutron looks for
// these words, which are kill(1)'s: to it, the process is then stopped.
func noSuchProcess(pid int) error {
	return failure(protocol.ErrorNoSuchProcess, protocol.Failure{
		Message: fmt.Sprintf("(%d) - No such process", pid),
		PID:     &pid,
	})
}
