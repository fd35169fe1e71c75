// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// Adopted is in the place of a version of the definition for a sidecar that was
// taken over: nobody knows by which it was started, so it is outdated.
const Adopted = "adopted"

// ErrHasSidecar is the error for a network namespace that has a sidecar.
var ErrHasSidecar = errors.New("the network namespace has a sidecar already")

// TakeOver makes a container that runs already, and was started at some time
// with these arguments, the sidecar of a network namespace. That the sidecar's
// unit takes the container over, rather than starting one, is prepared.
//
// A request for the same sidecar waits meanwhile, and so does one that was
// spooled before: to it, the container is what was asked for when it was started.
func (a *Activator) TakeOver(operator context.Context, netns string, arguments []string, started time.Time) error {
	if err := os.MkdirAll(layout.ServiceRuntimeDir(a.service.Name), 0o700); err != nil {
		return err
	}
	unlock, err := a.locks.lock(operator, netns)
	if err != nil {
		return err
	}
	defer unlock()
	// What systemd is told to do it does, so that it is waited for, whatever the
	// operator says meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(operator), a.service.ReadyTimeout+stopTimeout)
	defer cancel()
	unit := a.unit(netns)
	state, err := a.systemd.State(ctx, unit)
	if err != nil {
		return err
	}
	if !state.Down() {
		return ErrHasSidecar
	}
	id, err := a.names.Lookup(netns)
	if err != nil {
		return err
	}
	s := &sidecar{netns: netns, namespace: id, arguments: arguments, asked: started.Truncate(time.Microsecond), log: a.requestLog("", netns)}
	// What names no pid file that can be looked at counts as ready.
	s.pidFiles, _ = a.pidFiles(arguments, netns)
	if err := a.record(s); err != nil {
		return err
	}
	if err := os.WriteFile(layout.DefinitionFile(a.service.Name, netns), []byte(Adopted), 0o600); err != nil {
		return err
	}
	began := time.Now()
	state, err = a.systemd.Start(ctx, unit)
	if err == nil && !state.Active() {
		err = fmt.Errorf("it did not become %s; see: journalctl -u %s", unit, unit)
	}
	if err != nil {
		// Nobody asked for a sidecar that is not there.
		for _, file := range layout.Records(a.service.Name, netns) {
			_ = os.Remove(file)
		}
		return err
	}
	s.log.Info(fmt.Sprintf("taken over in %.3f s", time.Since(began).Seconds()))
	main, err := a.systemd.MainPID(ctx, unit)
	if err != nil {
		return err
	}
	// One whose pid file is not there runs all the same. The agent, which does
	// not see it either, asks for it again, and then it is replaced.
	if waitingFor, _, _ := a.notReady(s, main); waitingFor != "" {
		s.log.Warn("taken over, and not ready: " + reason(errors.New(waitingFor)))
		return nil
	}
	a.recordReady(s)
	return nil
}
