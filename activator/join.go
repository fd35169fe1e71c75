// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"context"
	"fmt"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/inventory"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/manager"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
)

// checkJoined refuses a sidecar that is to join another one which does not run.
// systemd would start that one for it, with the arguments that it had last, and
// nobody asked for that.
func (a *Activator) checkJoined(ctx context.Context, netns string) error {
	if a.service.Join == "" {
		return nil
	}
	joined := layout.SidecarUnit(a.service.Join, netns)
	state, err := a.systemd.Current(ctx, joined)
	if err != nil || state.Active() && !inventory.Orphan(a.names, a.service.Join, netns) {
		return err
	}
	what := "does not run in network namespace " + netns
	if state.Active() {
		what = "runs in a network namespace that is gone, which was " + netns
	}
	return failure(protocol.ErrorJoinedNotRunning, protocol.Failure{
		Message: fmt.Sprintf("%s joins the sidecar of %s, which %s", a.service.Name, a.service.Join, what),
		Netns:   netns, Unit: joined,
	})
}

// startUnit starts the unit of a sidecar: one that joins another, without that
// one, which may have ended since it was looked at.
func (a *Activator) startUnit(ctx context.Context, unit string) (manager.State, error) {
	if a.service.Join != "" {
		return a.systemd.StartAlone(ctx, unit)
	}
	return a.systemd.Start(ctx, unit)
}

// restartUnit restarts it in the same way.
func (a *Activator) restartUnit(ctx context.Context, unit string) (manager.State, error) {
	if a.service.Join != "" {
		return a.systemd.RestartAlone(ctx, unit)
	}
	return a.systemd.Restart(ctx, unit)
}
