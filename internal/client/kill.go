// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/proc"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
)

// killTimeout bounds a call of the kill script: longer than a sidecar takes to
// stop and its container to be removed.
const killTimeout = 2 * time.Minute

// awayTime is how long a socket may be away: longer than a restart takes. A request
// to signal is not spooled, since nobody knows whose pid it is by then.
const awayTime = 5 * time.Second

// answerTime is how long one service may take to answer before the others have been
// asked: longer than a sidecar takes to stop that is well.
const answerTime = 20 * time.Second

func killFlags(serviceDir *string) *flag.FlagSet {
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(serviceDir, "service-dir", "", "")
	return flags
}

// Kill has the host signal a process of a sidecar, as Neutron calls a kill
// script: SIGNAL PID. It returns the exit status: 0 when it is done, else 1
// with the reason on stderr.
func Kill(args []string, stderr io.Writer) int {
	var serviceDir string
	flags := killFlags(&serviceDir)
	if err := flags.Parse(args); err != nil {
		complain(stderr, "kill: %v", err)
		return exitUsage
	}
	if serviceDir == "" {
		complain(stderr, "kill: --service-dir is missing")
		return exitUsage
	}
	if flags.NArg() != 2 {
		complain(stderr, "kill: takes two arguments, a signal and a pid, such as 9 1234; got %d", flags.NArg())
		return exitUsage
	}
	signal, err := parseSignal(flags.Arg(0))
	if err != nil {
		complain(stderr, "kill: %v", err)
		return exitUsage
	}
	pid, err := strconv.Atoi(flags.Arg(1))
	if err != nil || pid <= 0 {
		complain(stderr, "kill: %q is not a pid; it takes one that is more than 0", flags.Arg(1))
		return exitUsage
	}
	if err := kill(serviceDir, pid, signal); err != nil {
		complain(stderr, "kill: %v", err)
		return exitError
	}
	return exitOK
}

// parseSignal reads a signal as kill(1) does: 9, KILL, SIGKILL, each with or
// without a dash before it.
func parseSignal(text string) (int, error) {
	name := strings.TrimPrefix(text, "-")
	if number, err := strconv.ParseUint(name, 10, 7); err == nil && number <= 64 {
		return int(number), nil
	}
	if number := unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG")); number != 0 {
		return int(number), nil
	}
	return 0, fmt.Errorf("%q is not a signal; it takes a number up to 64, or a name such as KILL", text)
}

// kill asks the services of a service_dir, which may share a kill script, until
// one says that the process is its. Those that do not answer are asked again: for
// some time where the socket is away, and until the deadline where a connection
// broke in the middle of the call. One that takes the call and says nothing is left
// for the others.
func kill(serviceDir string, pid, signal int) error {
	if err := unix.Kill(pid, 0); errors.Is(err, unix.ESRCH) {
		return noSuchProcess(pid)
	}
	sockets, err := filepath.Glob(path.Join(serviceDir, "*", layout.Socket))
	if err != nil {
		return err
	}
	if len(sockets) == 0 {
		return fmt.Errorf("no activation socket below %s, so no sidecar of its services can be signaled; on the host: %s status",
			serviceDir, layout.ControlProgram)
	}
	likelyFirst(sockets, serviceDir, pid)
	request := &protocol.Signal{PID: pid, Signal: signal}
	began := time.Now()
	deadline := began.Add(killTimeout)
	var refusals []string
	notASidecar, maySent := 0, false
	for waiting := sockets; ; {
		var unanswered, reasons []string
		broken := false
		for _, socket := range waiting {
			limit := time.Until(deadline)
			if len(waiting) > 1 {
				limit = min(limit, answerTime)
			}
			// Sent twice, HUP is harmless; where there is no process any more that KILL
			// or TERM was for, that is what the caller wanted.
			got, err := askToSignal(socket, request, time.Now().Add(limit))
			switch {
			case got == done, got == noProcess && maySent && ends(signal):
				return nil
			case got == noProcess, got == failed:
				return err
			case got == isAway, got == brokeOff:
				unanswered, reasons = append(unanswered, socket), append(reasons, err.Error())
				if got == brokeOff {
					broken, maySent = true, true
				}
			default:
				refusals = append(refusals, err.Error())
				if got == notIts {
					notASidecar++
				}
			}
		}
		now := time.Now()
		if len(unanswered) == 0 || now.After(deadline) || !broken && now.After(began.Add(awayTime)) {
			refusals = append(refusals, reasons...)
			break
		}
		waiting = unanswered
		time.Sleep(retry)
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) { // meanwhile
			if maySent && ends(signal) {
				return nil
			}
			return noSuchProcess(pid)
		}
	}
	if notASidecar == len(sockets) {
		refusals = append(refusals, "no wrapper started it, so it has to be signaled by whoever did; "+
			"a container of wrappers that were here before is taken over on the host by: "+layout.ControlProgram+" adopt")
	}
	return errors.New(strings.Join(refusals, "; "))
}

// noSuchProcess is the error for a process that is gone, in the words of kill(1),
// for which Neutron looks.
func noSuchProcess(pid int) error { return fmt.Errorf("(%d) - No such process", pid) }

// ends says whether a signal is to end a process.
func ends(signal int) bool {
	return signal == int(unix.SIGKILL) || signal == int(unix.SIGTERM)
}

// What a service says that is asked to signal a process.
type answer int

const (
	done answer = iota
	failed
	noProcess // there is none of that pid
	notIts    // it is of no sidecar of the service
	refused   // the caller may not ask
	isAway    // nobody listens
	brokeOff  // in the middle of the call: the signal may have been sent
)

// askToSignal asks one service, once. But where it is done there is an error with
// the reason.
func askToSignal(socket string, request *protocol.Signal, deadline time.Time) (answer, error) {
	err := call(socket, protocol.MethodSignal, request, nil, deadline)
	if err == nil {
		return done, nil
	}
	service := path.Base(path.Dir(socket))
	if failure, name, ok := refusal(err); ok {
		err = errors.New(failure.Message)
		switch name {
		case protocol.ErrorNoSuchProcess:
			return noProcess, err
		case protocol.ErrorNotASidecar:
			return notIts, err
		case protocol.ErrorNotAllowed:
			return refused, err
		}
		return failed, err
	}
	if errors.Is(err, os.ErrPermission) {
		return refused, errors.New(denied(err, service))
	}
	got := brokeOff
	if away(err) {
		got = isAway
	}
	return got, fmt.Errorf("%w; %s", err, lookOnHost(service))
}

// likelyFirst puts the socket of the service first whose sidecar a process seems to
// be of. The host does not guess.
func likelyFirst(sockets []string, serviceDir string, pid int) {
	unit, err := proc.Unit(pid)
	if err != nil {
		return
	}
	service, _, _ := strings.Cut(unit, "@")
	likely := path.Join(layout.StateDir(serviceDir, service), layout.Socket)
	if i := slices.Index(sockets, likely); i > 0 {
		copy(sockets[1:i+1], sockets[:i])
		sockets[0] = likely
	}
}
