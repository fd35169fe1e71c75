// SPDX-License-Identifier: Apache-2.0

// Package varlink speaks Varlink (https://varlink.org): JSON messages that end
// in a NUL byte, over a stream socket. It holds what both ends share and the
// server's side of a connection; it knows nothing of what is called.
//
// Only what the activation socket needs is here: calls and replies, one reply
// per call, errors with parameters, and org.varlink.service, so that
// varlinkctl(1) can introspect the socket. "more" and "upgrade" calls are not.
package varlink

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxMessage is the size of the largest message, in bytes without its final
// NUL. The kernel bounds an argument list to about 2 MiB (execve(2)); Neutron's
// longest, of a dnsmasq with very many subnets, stay below 100 KiB.
const MaxMessage = 1 << 20

// ErrTooLarge is returned for a message of more than MaxMessage bytes.
var ErrTooLarge = fmt.Errorf("message is larger than %d bytes", MaxMessage)

// ErrBusy is returned for a message that there is no room for at the moment.
var ErrBusy = errors.New("too many large messages at a time")

// A Call is a message from client to server.
type Call struct {
	Method     string          `json:"method"`
	Parameters json.RawMessage `json:"parameters,omitempty"`
	Oneway     bool            `json:"oneway,omitempty"`
}

// A Reply is a message from server to client: parameters, those of the error
// if Error names one.
type Reply struct {
	Error      string          `json:"error,omitempty"`
	Parameters json.RawMessage `json:"parameters,omitempty"`
}

// An Error is an error reply: a name that is an interface's and a type's
// ("org.varlink.service.MethodNotFound"), with parameters that marshal to a
// JSON object.
type Error struct {
	Name       string
	Parameters any
}

func (e *Error) Error() string {
	if text, err := json.Marshal(e.Parameters); err == nil && e.Parameters != nil {
		return e.Name + " " + string(text)
	}
	return e.Name
}

// ReadMessage reads one message, without its final NUL. A stream that ends
// between messages gives io.EOF, one that ends within a message
// io.ErrUnexpectedEOF, a message over MaxMessage bytes ErrTooLarge.
func ReadMessage(r *bufio.Reader) ([]byte, error) {
	return readMessage(r, func(int) bool { return true })
}

// readMessage asks for each part of a message but the first, by its size in
// bytes, whether there is room for it. Where there is none, the error is ErrBusy.
func readMessage(r *bufio.Reader, room func(n int) bool) ([]byte, error) {
	var message []byte
	for {
		part, err := r.ReadSlice(0)
		if len(message)+len(part) > MaxMessage+1 {
			return nil, ErrTooLarge
		}
		if len(message) > 0 && !room(len(part)) {
			return nil, ErrBusy
		}
		message = append(message, part...)
		switch {
		case err == nil:
			return message[:len(message)-1], nil
		case errors.Is(err, io.EOF) && len(message) > 0:
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// WriteMessage writes a Call or a Reply and its final NUL in one write. A
// message over MaxMessage bytes gives ErrTooLarge, and nothing is written.
func WriteMessage(w io.Writer, message any) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(text) > MaxMessage {
		return ErrTooLarge
	}
	_, err = w.Write(append(text, 0))
	return err
}
