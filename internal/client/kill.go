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

// awayTime is how long the socket of the service that the process seems to be of
// may be away: longer than a restart takes. A request to signal is not spooled,
// since nobody knows whose pid it is by then.
const awayTime = 5 * time.Second

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
		complain(stderr, "kill: takes a signal and a pid, such as 9 1234, got %d arguments", flags.NArg())
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
// one says that the process is its.
func kill(serviceDir string, pid, signal int) error {
	if err := unix.Kill(pid, 0); errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("(%d) - No such process", pid)
	}
	sockets, err := filepath.Glob(path.Join(serviceDir, "*", layout.Socket))
	if err != nil {
		return err
	}
	if len(sockets) == 0 {
		return fmt.Errorf("no activation socket below %s, so no sidecar of its services can be signaled; on the host: %s status",
			serviceDir, layout.ControlProgram)
	}
	likely := likelySocket(serviceDir, pid)
	slices.SortStableFunc(sockets, func(a, b string) int {
		switch {
		case a == likely && b != likely:
			return -1
		case b == likely && a != likely:
			return 1
		}
		return 0
	})
	var refusals []string
	notASidecar := 0
	for _, socket := range sockets {
		service := path.Base(path.Dir(socket))
		wait := time.Duration(0)
		if socket == likely {
			wait = awayTime
		}
		err := signalBy(socket, pid, signal, wait)
		if err == nil {
			return nil
		}
		failure, name, ok := refusal(err)
		switch {
		case errors.Is(err, os.ErrPermission):
			refusals = append(refusals, denied(err, service))
		case !ok:
			refusals = append(refusals, fmt.Sprintf("%v; %s", err, lookOnHost(service)))
		case name == protocol.ErrorNotASidecar:
			notASidecar++
			refusals = append(refusals, failure.Message)
		case name == protocol.ErrorNotAllowed:
			refusals = append(refusals, failure.Message)
		default:
			return errors.New(failure.Message)
		}
	}
	if notASidecar == len(sockets) {
		refusals = append(refusals, "no wrapper started it, so it has to be signaled by whoever did; "+
			"a container of wrappers that were here before is taken over on the host by: "+layout.ControlProgram+" adopt")
	}
	return errors.New(strings.Join(refusals, "; "))
}

// likelySocket guesses whose sidecar a process is. The host does not guess.
func likelySocket(serviceDir string, pid int) string {
	unit, err := proc.Unit(pid)
	if err != nil {
		return ""
	}
	service, _, _ := strings.Cut(unit, "@")
	return path.Join(layout.StateDir(serviceDir, service), layout.Socket)
}

// signalBy asks one service, again if its activator is gone in the middle of
// the call. The signal may have been sent by then: HUP twice is harmless, and
// where there is no process any more that KILL or TERM was for, that is what the
// caller wanted. For a socket that is away it waits for some time.
func signalBy(socket string, pid, signal int, wait time.Duration) error {
	request := protocol.Signal{PID: pid, Signal: signal}
	began := time.Now()
	deadline := began.Add(killTimeout)
	again := false
	for {
		err := call(socket, protocol.MethodSignal, &request, nil, deadline)
		if away(err) && time.Since(began) < wait {
			time.Sleep(retry)
			continue
		}
		if err == nil || errors.Is(err, os.ErrPermission) || away(err) || !time.Now().Before(deadline) {
			return err
		}
		if _, name, ok := refusal(err); ok {
			ends := signal == int(unix.SIGKILL) || signal == int(unix.SIGTERM)
			if again && ends && name == protocol.ErrorNoSuchProcess {
				return nil
			}
			return err
		}
		again = true
		time.Sleep(retry)
	}
}
