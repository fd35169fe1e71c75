// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

// What ends a connection is in the journal, and what broke the protocol is told
// from what had no room.
func TestConnectionLog(t *testing.T) {
	large := strings.Repeat("x", 12<<10) // more than is read at first
	for _, test := range []struct{ name, send, want string }{
		{"no call", "x\x00", " broke the protocol: message is not a Varlink call"},
		{"no room", large, " has to ask again: too many large messages at a time"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			service := &options.Service{Name: "test", AllowedUIDs: []uint32{uint32(os.Getuid())}}
			a := New(service, "1", slog.New(slog.NewTextHandler(&log, nil)), nil)
			a.room = varlink.NewRoom(0)
			name := filepath.Join(t.TempDir(), "socket")
			listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			accepted := make(chan struct{})
			go func() {
				a.accept(t.Context(), listener, make(chan struct{}, 1), nil)
				close(accepted)
			}()
			client, err := net.Dial("unix", name)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, err := io.WriteString(client, test.send); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, client) // until it is closed, with what was sent unread perhaps
			if err := listener.SetDeadline(time.Now()); err != nil {
				t.Fatal(err)
			}
			<-accepted
			a.work.Wait()
			if !strings.Contains(log.String(), test.want) {
				t.Errorf("%q is not in:\n%s", test.want, &log)
			}
		})
	}
}
