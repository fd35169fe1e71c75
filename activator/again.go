// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/arglist"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// What an operator does to one sidecar, by the same steps that a request takes,
// in a process of the operator's: nothing of this can be asked for through the
// activation socket. A request for the same sidecar waits meanwhile.

// Close ends the connection to systemd, and gives back all locks.
func (a *Activator) Close() {
	a.systemd.Close()
	a.locks.close()
}

// StartAgain starts the sidecar of a network namespace that is down, with the
// arguments that it had last, and waits until it is ready. One that is up is
// left alone.
func (a *Activator) StartAgain(ctx context.Context, netns string) error {
	return a.again(ctx, netns, false, false)
}

// Restart stops the sidecar of a network namespace, if it is up, starts it with
// the arguments that it had last, and waits until it is ready. One that fails is
// stopped.
func (a *Activator) Restart(ctx context.Context, netns string) error {
	return a.again(ctx, netns, true, false)
}

// RestartIfUp does so with one of many, which somebody may have stopped since they
// were looked for: ErrDown. One of no use any more is left as it is: ErrOrphan.
func (a *Activator) RestartIfUp(ctx context.Context, netns string) error {
	return a.again(ctx, netns, true, true)
}

// Why RestartIfUp leaves a sidecar as it is.
var (
	ErrDown   = errors.New("it is down by now")
	ErrOrphan = errors.New("its network namespace is gone, or has been made again, so it cannot be restarted")
)

// ErrUnknown is in the error of a sidecar that nobody has asked for since boot.
var ErrUnknown = errors.New("no sidecar")

// StopSidecar stops the sidecar of a network namespace. One that is down is left
// as it is.
func (a *Activator) StopSidecar(ctx context.Context, netns string) error {
	unlock, err := a.locks.lock(ctx, netns)
	if err != nil {
		return err
	}
	defer unlock()
	state, err := a.systemd.Current(ctx, a.unit(netns))
	if err != nil {
		return err
	}
	if state.Down() {
		if _, err := os.Lstat(layout.ArgsFile(a.service.Name, netns)); errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w of %s was started in network namespace %s since boot, so there is none to stop", ErrUnknown, a.service.Name, netns)
		}
		return nil
	}
	if err := a.stop(ctx, a.unit(netns)); err != nil {
		return err
	}
	a.requestLog("", netns).Info("stopped by an operator")
	return nil
}

// Reason returns what an error of these says, on one line.
func Reason(err error) string { return reason(err) }

func (a *Activator) again(operator context.Context, netns string, restart, ifUp bool) error {
	unlock, err := a.locks.lock(operator, netns)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(operator, 2*a.service.ReadyTimeout+2*stopTimeout)
	defer cancel()
	state, err := a.systemd.Current(ctx, a.unit(netns))
	switch {
	case err != nil:
		return err
	case ifUp && state.Down():
		return ErrDown
	case ifUp && a.orphan(netns):
		return ErrOrphan
	}
	s, err := a.lastTime(netns)
	if err != nil || !restart && state.Active() {
		return err
	}
	if err := a.checkJoined(ctx, netns); err != nil {
		return err
	}
	began := time.Now()
	done, job := "started", a.startUnit
	if restart {
		done, job = "restarted", a.restartUnit
	}
	state, err = job(ctx, a.unit(netns))
	since := a.startedSince(netns, began) // before systemd starts it again
	if err == nil {
		// The job may have taken its time to stop the one that ran. To stop and to
		// start it by two jobs would leave those down that join it.
		_, err = a.awaitReady(ctx, s, state, time.Now().Add(a.service.ReadyTimeout))
	}
	if operator.Err() != nil {
		// Whatever systemd was told to do goes on.
		return fmt.Errorf("not waited for any longer: %w", operator.Err())
	}
	if err != nil {
		err = a.failed(ctx, s, since, err)
		s.log.Error(reason(err), journal.Result, journal.Failed)
		return err
	}
	a.recordReady(s)
	s.log.Info(fmt.Sprintf("%s by an operator in %.3f s", done, time.Since(began).Seconds()))
	return nil
}

// startedSince returns when the sidecar of a network namespace was started that a
// job since then has started, or a moment before: the end of the one that it
// stopped is not why this one failed. Where the client did not get as far as to
// write down the definition, that is not known, and it is when the job began.
func (a *Activator) startedSince(netns string, began time.Time) time.Time {
	info, err := os.Stat(layout.DefinitionFile(a.service.Name, netns))
	if err != nil || info.ModTime().Before(began) {
		return began
	}
	return info.ModTime()
}

// lastTime returns what was asked for when the sidecar of a network namespace
// was started last.
func (a *Activator) lastTime(netns string) (*sidecar, error) {
	content, err := os.ReadFile(layout.ArgsFile(a.service.Name, netns))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w of %s was started in network namespace %s since boot, so its arguments are not known; "+
			"the agent has to call the wrapper", ErrUnknown, a.service.Name, netns)
	}
	if err != nil {
		return nil, err
	}
	arguments, err := arglist.Decode(content)
	if err != nil {
		return nil, fmt.Errorf("reading the arguments of %s: %w; the agent has to call the wrapper", a.unit(netns), err)
	}
	id, err := a.names.Lookup(netns)
	if err != nil {
		return nil, fmt.Errorf("looking for network namespace %s: %w; the agent has to make it, and to ask for %s in it",
			netns, err, a.service.Name)
	}
	s := &sidecar{netns: netns, namespace: id, arguments: arguments, log: a.requestLog("", netns)}
	if s.pidFiles, err = a.pidFiles(arguments, netns); err != nil {
		return nil, err
	}
	return s, nil
}
