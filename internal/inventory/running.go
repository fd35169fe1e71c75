// SPDX-License-Identifier: Apache-2.0

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
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/processes"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
)

// atATime is how many units systemd is asked about at a time: enough to keep
// it from waiting for us.
const atATime = 8

// Running returns the sidecars of a service whose units are not down, sorted by
// network namespace.
func Running(ctx context.Context, systemd *manager.Manager, names *netns.Names, service processes.Service) ([]protocol.Sidecar, error) {
	states, err := systemd.List(ctx, layout.SidecarUnit(service.Name, "*"))
	if err != nil {
		return nil, err
	}
	sidecars := []protocol.Sidecar{}
	for _, state := range states {
		namespace, ok := layout.SidecarNetns(service.Name, state.Unit)
		if !ok || state.Down() {
			continue
		}
		sidecars = append(sidecars, protocol.Sidecar{
			Netns: namespace, Unit: state.Unit, ActiveState: state.ActiveState, SubState: state.SubState,
			Orphan: Orphan(names, service.Name, namespace),
		})
		if service.Container != "" {
			name := layout.Container(service.Name, namespace)
			sidecars[len(sidecars)-1].Container = &name
		}
	}
	if err := describe(ctx, systemd, service, sidecars); err != nil {
		return nil, err
	}
	slices.SortFunc(sidecars, func(x, y protocol.Sidecar) int { return strings.Compare(x.Netns, y.Netns) })
	return sidecars, nil
}

// Orphan says whether the network namespace of a sidecar is gone, or has been
// made again since under the same name.
func Orphan(names *netns.Names, service, namespace string) bool {
	id, err := names.Lookup(namespace)
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	recorded, err := os.ReadFile(layout.NetnsFile(service, namespace))
	return err == nil && string(recorded) != id.String()
}

// describe fills in what systemd tells of one unit at a time.
func describe(ctx context.Context, systemd *manager.Manager, service processes.Service, sidecars []protocol.Sidecar) error {
	var asking sync.WaitGroup
	places := make(chan struct{}, atATime)
	errs := make([]error, len(sidecars))
	for i := range sidecars {
		places <- struct{}{}
		asking.Go(func() {
			errs[i] = describeOne(ctx, systemd, service, &sidecars[i])
			<-places
		})
	}
	asking.Wait()
	return errors.Join(errs...)
}

func describeOne(ctx context.Context, systemd *manager.Manager, service processes.Service, sidecar *protocol.Sidecar) (err error) {
	if sidecar.PID, err = systemd.MainPID(ctx, sidecar.Unit); err != nil {
		return err
	}
	// That of a container is not the main process of its unit.
	sidecar.PID = service.Command(sidecar.Netns, sidecar.PID)
	if sidecar.Since, err = systemd.MainStarted(ctx, sidecar.Unit); err != nil {
		return err
	}
	sidecar.Restarts, err = systemd.Restarts(ctx, sidecar.Unit)
	return err
}
