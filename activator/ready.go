// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/manager"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/proc"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/readiness"
)

// How often readiness is looked at: at once and then ever more rarely, so that
// a quick sidecar is not kept waiting, by more than a quarter of the time that it
// takes, and a slow one costs little.
const (
	firstLook = time.Millisecond
	lastLook  = 100 * time.Millisecond
)

// errEnded is why a sidecar is not ready that is not up any more. Whether its
// end is seen in the result of its start or after it is a matter of chance.
var errEnded = errors.New("it ended before it was ready")

// awaitReady waits until a sidecar that systemd has started is ready, and
// returns the main process of its unit. It fails as soon as the sidecar is not
// up any more, and where its pid files are not there at the deadline. One that is
// still at work then, as one that has been ready may well be, is ready; for that a
// deadline is given that has passed.
func (a *Activator) awaitReady(ctx context.Context, s *sidecar, state manager.State, deadline time.Time) (main int, err error) {
	if ended(state) {
		return 0, errEnded
	}
	main, err = a.systemd.MainPID(ctx, state.Unit)
	if err != nil {
		return 0, err
	}
	var settled time.Time // asked for where it matters
	var rest readiness.Rest
	said := ""
	for look := firstLook; ; look = min(look+look/4, lastLook) {
		alive := a.processAlive(s, main)
		if !alive {
			if len(s.pidFiles) == 0 {
				settled = time.Now().Add(readiness.SettleTime) // Docker takes its time to start it
			}
			// Only the unit's own word counts, and with it there is an exit
			// status to tell and last words in the journal.
			state, err := a.systemd.Current(ctx, state.Unit)
			if err != nil {
				return 0, err
			}
			if ended(state) {
				return 0, errEnded
			}
		}
		waitingFor, named, command := a.notReady(s, main)
		if waitingFor != said {
			s.log.Debug("not ready yet: " + reason(errors.New(waitingFor)))
			said = waitingFor
		}
		if waitingFor != "" {
			settled = time.Now().Add(readiness.SettleTime) // a command may end once it has written its pid file
			rest = readiness.Rest{}
		}
		if alive && waitingFor == "" {
			if !command && settled.IsZero() {
				since, err := a.systemd.ActiveSince(ctx, state.Unit)
				if err != nil {
					return 0, err
				}
				if since == 0 {
					// systemd has forgotten the unit since it was last asked, as
					// it does with one that has ended, and a unit loaded to be
					// asked about never was up.
					return 0, errEnded
				}
				// Not later than this, even where the clock was set back since.
				settled = time.UnixMicro(min(since, time.Now().UnixMicro())).Add(readiness.SettleTime)
			}
			switch {
			case command && (rest.Reached(named...) || time.Now().After(deadline) && rest.Watched() > readiness.SettleTime),
				!command && time.Now().After(settled):
				return main, nil
			case command:
				look = readiness.RestTime
			}
		} else if time.Now().After(deadline) {
			if !alive {
				return 0, errEnded
			}
			return 0, fmt.Errorf("it was not ready within %v, its ready.timeout: %s", a.service.ReadyTimeout, waitingFor)
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return 0, fmt.Errorf("it was not ready in time: %w", ctx.Err())
		}
	}
}

// ended says whether a unit is not up any more. One on its way down is not there
// yet: systemd logs how it ended at the end of that.
func ended(state manager.State) bool { return !state.Active() && state.ActiveState != "deactivating" }

// processAlive says whether the process of a sidecar is alive whose unit has
// that main process.
func (a *Activator) processAlive(s *sidecar, main int) bool {
	if a.service.Container == options.Docker && len(s.pidFiles) > 0 {
		// To look for it takes a look at all processes of the host; the pid
		// files name it as well.
		return proc.Alive(main)
	}
	return a.processes.Command(s.netns, main) != 0
}

// notReady says what a sidecar is still waited for; nothing when its pid files are
// there. It also returns the processes that they name, and whether the sidecar's
// command is among them. Where it is not, it may be about to end: one that leaves
// the foreground has another process behind it that the pid file names, and that
// dies with it.
func (a *Activator) notReady(s *sidecar, main int) (waitingFor string, named []int, command bool) {
	if len(s.pidFiles) == 0 {
		return "", nil, false
	}
	dir, err := beneath.Open(a.service.Dir)
	if err != nil {
		return err.Error(), nil, false
	}
	defer dir.Close()
	var missing []string
	for _, file := range s.pidFiles {
		pid, err := a.processNamedIn(s.netns, dir, file)
		if err != nil {
			missing = append(missing, err.Error())
			continue
		}
		named = append(named, pid)
		command = command || a.processes.IsCommand(s.netns, main, pid)
	}
	return strings.Join(missing, "; "), named, command
}

// processNamedIn returns the process that a pid file names, or what keeps that
// from being a live process of a sidecar. A pid file may be left over from an
// earlier process, whose pid may be another's by now.
func (a *Activator) processNamedIn(netns string, dir *beneath.Dir, file string) (int, error) {
	content, _, err := dir.ReadFile(file, readiness.MaxPIDFile)
	if err != nil {
		return 0, err
	}
	pid, err := readiness.ParsePID(content)
	if err != nil {
		return 0, fmt.Errorf("%s/%s: %w", dir.Path(), file, err)
	}
	owned, err := a.processes.Owns(netns, pid)
	if err != nil || !proc.Alive(pid) {
		return 0, fmt.Errorf("%s/%s names process %d, which is not alive", dir.Path(), file, pid)
	}
	if !owned {
		return 0, fmt.Errorf("%s/%s names process %d, which is not of %s", dir.Path(), file, pid, a.unit(netns))
	}
	// Neutron looks for the resource's UUID in the command line. While a process
	// becomes another program, as haproxy's master does once it has written its
	// pid file, there is none.
	if !proc.HasArguments(pid) {
		return 0, fmt.Errorf("%s/%s names process %d, which is becoming another program", dir.Path(), file, pid)
	}
	return pid, nil
}
