// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"context"
	"encoding/json"
	"fmt"
	"net"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/inventory"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

func (a *Activator) serveList(ctx context.Context, conn *net.UnixConn, parameters json.RawMessage) (any, error) {
	if err := varlink.ReadParameters(parameters, &struct{}{}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, orphanTimeout)
	defer cancel()
	leave, err := a.look(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	sidecars, err := inventory.Running(ctx, a.systemd, a.names, a.processes)
	if err != nil {
		return nil, err
	}
	return protocol.Listing{Sidecars: sidecars}, nil
}

// look waits until there are few enough other calls that have systemd look through
// its units, or until ctx is done.
func (a *Activator) look(ctx context.Context) (leave func(), err error) {
	select {
	case a.looks <- struct{}{}:
		return func() { <-a.looks }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for other calls of List and Sync: %w", ctx.Err())
	}
}
