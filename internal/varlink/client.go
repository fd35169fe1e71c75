// SPDX-License-Identifier: Apache-2.0

package varlink

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// A RemoteError is an error reply as the client got it.
type RemoteError struct {
	Name       string
	Parameters json.RawMessage
}

func (e *RemoteError) Error() string { return e.Name + " " + string(e.Parameters) }

// DoCall makes one call over a connection that has no other call under way and
// reads its reply's parameters into the value that result points at, unless
// result is nil. An error reply gives a *RemoteError; anything else that goes
// wrong is the connection's or the server's fault, and the connection is of no
// further use. Deadlines are the connection's.
func DoCall(conn io.ReadWriter, method string, parameters, result any) error {
	text, err := json.Marshal(parameters)
	if err != nil {
		return err
	}
	if err := WriteMessage(conn, &Call{Method: method, Parameters: text}); err != nil {
		return fmt.Errorf("sending the call: %w", err)
	}
	message, err := ReadMessage(bufio.NewReader(conn))
	if err != nil {
		return fmt.Errorf("waiting for the reply: %w", err)
	}
	var reply Reply
	if err := json.Unmarshal(message, &reply); err != nil {
		return fmt.Errorf("reading the reply: %w", err)
	}
	if reply.Error != "" {
		return &RemoteError{reply.Error, reply.Parameters}
	}
	if result == nil || len(reply.Parameters) == 0 {
		return nil
	}
	if err := json.Unmarshal(reply.Parameters, result); err != nil {
		return fmt.Errorf("reading the reply: %w", err)
	}
	return nil
}
