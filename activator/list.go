package activator

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"strings"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/proc"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

func (a *Activator) serveList(ctx context.Context, conn *net.UnixConn, parameters json.RawMessage) (any, error) {
	if err := varlink.ReadParameters(parameters, &struct{}{}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, orphanTimeout)
	defer cancel()
	return a.list(ctx)
}

func (a *Activator) list(ctx context.Context) (*protocol.Listing, error) {
	states, err := a.systemd.List(ctx, a.unit("*"))
	if err != nil {
		return nil, err
	}
	listing := &protocol.Listing{Sidecars: []protocol.Sidecar{}}
	for _, state := range states {
		netns, ok := layout.SidecarNetns(a.service.Name, state.Unit)
		if !ok || state.Down() {
			continue
		}
		sidecar := protocol.Sidecar{
			Netns: netns, Unit: state.Unit,
			ActiveState: state.ActiveState, SubState: state.SubState,
			Orphan: a.orphan(netns),
		}
		if sidecar.PID, err = a.systemd.MainPID(ctx, state.Unit); err != nil {
			return nil, err
		}
		if a.service.Container {
			container := layout.Container(a.service.Name, netns)
			sidecar.Container = &container
			// The helper is the child of conmon, the main process of the unit.
			if children, err := proc.Children(sidecar.PID); err == nil && len(children) > 0 {
				sidecar.PID = children[0]
			}
		}
		if sidecar.Since, err = a.systemd.MainStarted(ctx, state.Unit); err != nil {
			return nil, err
		}
		if sidecar.Restarts, err = a.systemd.Restarts(ctx, state.Unit); err != nil {
			return nil, err
		}
		listing.Sidecars = append(listing.Sidecars, sidecar)
	}
	slices.SortFunc(listing.Sidecars, func(x, y protocol.Sidecar) int { return strings.Compare(x.Netns, y.Netns) })
	return listing, nil
}
