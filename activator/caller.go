// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/netns"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

// failure makes an error of the interface, which fits into a reply whatever it
// quotes.
func failure(name string, parameters protocol.Failure) *varlink.Error {
	parameters.Message = journal.Cut(parameters.Message, longestMessage)
	for i, line := range parameters.Log {
		parameters.Log[i] = journal.Cut(line, longestReason)
	}
	return &varlink.Error{Name: name, Parameters: parameters}
}

// reason returns what an error says, as a line of the log: the message where it
// is an error of the interface. Where it is very long, the end is left out.
func reason(err error) string {
	message := err.Error()
	var answer *varlink.Error
	if errors.As(err, &answer) {
		if failure, ok := answer.Parameters.(protocol.Failure); ok {
			message = failure.Message
		}
	}
	return journal.OneLine(journal.Cut(message, longestReason))
}

// errorName returns which error of the interface an error is, "" for another
// one.
func errorName(err error) string {
	var answer *varlink.Error
	if errors.As(err, &answer) {
		return answer.Name
	}
	return ""
}

// caller returns who is at the other end, as the kernel recorded it when the
// connection was made.
func caller(conn *net.UnixConn) (*unix.Ucred, error) {
	var peer *unix.Ucred
	err := control(conn, func(fd int) (err error) {
		peer, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("asking who is calling: %w", err)
	}
	return peer, nil
}

// authorize refuses callers that are not among the allowed_uids.
func (a *Activator) authorize(conn *net.UnixConn) error {
	peer, err := caller(conn)
	if err != nil {
		return err
	}
	a.log.Debug(fmt.Sprintf("connection of process %d of uid %d", peer.Pid, peer.Uid))
	if slices.Contains(a.service.AllowedUIDs, peer.Uid) {
		return nil
	}
	message := fmt.Sprintf("uid %d may not ask for sidecars of %s; add it to allowed_uids of its definition if it should",
		peer.Uid, a.service.Name)
	a.refused(a.log, peer, message, journal.Result, journal.Refused)
	return failure(protocol.ErrorNotAllowed, protocol.Failure{Message: message, UID: &peer.Uid})
}

// locate returns the network namespace that a call comes from.
func (a *Activator) locate(conn *net.UnixConn) (name string, id netns.ID, err error) {
	err = control(conn, func(fd int) (err error) {
		id, err = netns.OfPeer(fd)
		return err
	})
	if err != nil {
		return "", id, err
	}
	name, err = a.names.Find(id)
	if err != nil && !errors.Is(err, netns.ErrNoName) {
		return "", id, fmt.Errorf("looking for the caller's network namespace: %w", err)
	}
	if err != nil {
		return "", id, failure(protocol.ErrorNotInNamespace, protocol.Failure{
			Message: fmt.Sprintf("the caller is in no network namespace that has a name in %s; "+
				"call the wrapper of %s with `ip netns exec NAMESPACE`, and mount %s into the caller's container with shared propagation",
				layout.NetnsDir, a.service.Name, layout.NetnsDir),
		})
	}
	if err := layout.CheckNetns(a.service.Name, name); err != nil {
		return "", id, failure(protocol.ErrorNotInNamespace, protocol.Failure{
			Message: fmt.Sprintf("the name of network namespace %q %v, so that no unit can have it; give it another name",
				name, err),
		})
	}
	return name, id, nil
}

func control(conn *net.UnixConn, f func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
