// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"context"
	"encoding/json"
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
	sidecars, err := inventory.Running(ctx, a.systemd, a.names, a.processes)
	if err != nil {
		return nil, err
	}
	return protocol.Listing{Sidecars: sidecars}, nil
}
