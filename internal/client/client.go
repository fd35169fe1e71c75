// SPDX-License-Identifier: Apache-2.0

// Package client is the program that runs in an agent's container in the place
// of a helper, and the other small ones that share its binary: the kill script,
// the shim by which systemd starts a sidecar, and what stays with a container of
// Docker.
//
// Everything here stays small: the binary is copied into each service's state
// directory and is started for each call.
package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

// connectTimeout bounds connecting: the socket's backlog may be full.
const connectTimeout = 10 * time.Second

// dial connects to an activation socket. The connection takes deadlines.
//
// Package net would do the same in a binary that is half as large again.
func dial(socket string, limit time.Duration) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	timeout := unix.NsecToTimeval(max(min(limit, connectTimeout), time.Millisecond).Nanoseconds()) // 0 would be for ever
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout)
	if err == nil {
		err = connect(fd, &unix.SockaddrUnix{Name: socket})
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.Close(fd) // not in use yet
		return nil, fmt.Errorf("connecting to %s: %w", socket, err)
	}
	return os.NewFile(uintptr(fd), socket), nil
}

func connect(fd int, address unix.Sockaddr) error {
	for {
		if err := unix.Connect(fd, address); err != unix.EINTR {
			return err
		}
	}
}

// call makes one call on a connection of its own, and gives up at the deadline.
func call(socket, method string, parameters, result any, deadline time.Time) error {
	conn, err := dial(socket, time.Until(deadline))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	return varlink.DoCall(conn, method, parameters, result)
}

// away says whether an error means that nobody listens on a socket, now or for
// a while.
func away(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EAGAIN)
}

// unread says whether an error means that nobody has read what was asked for as
// a whole. The kernel reports a reset, rather than the end of the connection,
// only if there was something left to read when the other end was closed
// (unix(7)).
func unread(err error) bool {
	return away(err) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// refusal returns the parameters of an error reply.
func refusal(err error) (*protocol.Failure, string, bool) {
	var remote *varlink.RemoteError
	if !errors.As(err, &remote) {
		return nil, "", false
	}
	var failure protocol.Failure
	if json.Unmarshal(remote.Parameters, &failure) != nil || failure.Message == "" {
		failure.Message = fmt.Sprintf("the activator does not take such a request: %v; is the client of another version? "+
			"On the host: systemctl restart %s", remote, layout.Target)
	}
	return &failure, remote.Name, true
}

// denied says what to do where the kernel lets only others connect.
func denied(err error, service string) string {
	return fmt.Sprintf("%v; uid %d may not ask for sidecars of %s; add it to allowed_uids of its definition if it should",
		err, os.Getuid(), service)
}

// lookOnHost says where it is told what keeps a service from answering.
func lookOnHost(service string) string {
	return fmt.Sprintf("on the host: %s status %s", layout.ControlProgram, service)
}

// printable replaces what a terminal or a log would take for more than text:
// a reply may hold anything that a sidecar wrote.
func printable(text string) string {
	runes := []rune(text)
	for i, r := range runes {
		if unicode.IsControl(r) && r != '\t' {
			runes[i] = '?'
		}
	}
	return string(runes)
}

func complain(stderr io.Writer, format string, args ...any) {
	fmt.Fprintln(stderr, "tripleo-wrapper: "+printable(fmt.Sprintf(format, args...)))
}
