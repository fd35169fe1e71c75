// Package inventory says which sidecars there are on a host, what state they
// are in and whether they are what their definition says. It asks systemd and
// the container engines rather than the activators, so it tells the truth
// where a socket does not work, and starts nothing.
package inventory

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/manager"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/netns"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/proc"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
)

// atATime is how many units systemd is asked about at a time: enough to keep
// it from waiting for us.
const atATime = 8

// Running returns the sidecars of a service whose units are not down, sorted by
// network namespace. Container says that they run in containers, so that the
// process of interest is the child of the unit's main process.
func Running(ctx context.Context, systemd *manager.Manager, names *netns.Names, service string, container bool) ([]protocol.Sidecar, error) {
	states, err := systemd.List(ctx, layout.SidecarUnit(service, "*"))
	if err != nil {
		return nil, err
	}
	sidecars := []protocol.Sidecar{}
	for _, state := range states {
		namespace, ok := layout.SidecarNetns(service, state.Unit)
		if !ok || state.Down() {
			continue
		}
		_, err := names.Lookup(namespace)
		sidecars = append(sidecars, protocol.Sidecar{
			Netns: namespace, Unit: state.Unit, ActiveState: state.ActiveState, SubState: state.SubState,
			Orphan: errors.Is(err, os.ErrNotExist),
		})
		if container {
			name := layout.Container(service, namespace)
			sidecars[len(sidecars)-1].Container = &name
		}
	}
	if err := describe(ctx, systemd, sidecars); err != nil {
		return nil, err
	}
	slices.SortFunc(sidecars, func(x, y protocol.Sidecar) int { return strings.Compare(x.Netns, y.Netns) })
	return sidecars, nil
}

// describe fills in what systemd tells of one unit at a time.
func describe(ctx context.Context, systemd *manager.Manager, sidecars []protocol.Sidecar) error {
	var asking sync.WaitGroup
	places := make(chan struct{}, atATime)
	errs := make([]error, len(sidecars))
	for i := range sidecars {
		places <- struct{}{}
		asking.Go(func() {
			errs[i] = describeOne(ctx, systemd, &sidecars[i])
			<-places
		})
	}
	asking.Wait()
	return errors.Join(errs...)
}

func describeOne(ctx context.Context, systemd *manager.Manager, sidecar *protocol.Sidecar) (err error) {
	if sidecar.PID, err = systemd.MainPID(ctx, sidecar.Unit); err != nil {
		return err
	}
	if sidecar.Container != nil {
		// The helper is the child of conmon, the main process of the unit.
		if children, err := proc.Children(sidecar.PID); err == nil && len(children) > 0 {
			sidecar.PID = children[0]
		}
	}
	if sidecar.Since, err = systemd.MainStarted(ctx, sidecar.Unit); err != nil {
		return err
	}
	sidecar.Restarts, err = systemd.Restarts(ctx, sidecar.Unit)
	return err
}
