// SPDX-License-Identifier: Apache-2.0

package varlink_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

// service has a method that gives back what it gets, and some that fail.
func service() *varlink.Service {
	return &varlink.Service{
		Vendor: "v", Product: "p", Version: "1", URL: "u",
		Interface: varlink.Interface{
			Name:        "org.example.test",
			Description: "interface org.example.test\n",
			Methods: map[string]varlink.Method{
				"Echo": func(_ context.Context, _ *net.UnixConn, parameters json.RawMessage) (any, error) {
					return parameters, nil
				},
				"Nothing": func(context.Context, *net.UnixConn, json.RawMessage) (any, error) { return nil, nil },
				"Named": func(context.Context, *net.UnixConn, json.RawMessage) (any, error) {
					return nil, &varlink.Error{Name: "org.example.test.Bad", Parameters: map[string]int{"how": 3}}
				},
				"Other": func(context.Context, *net.UnixConn, json.RawMessage) (any, error) {
					return nil, errors.New("disk on fire")
				},
			},
		},
		Internal: func(err error) *varlink.Error {
			return &varlink.Error{Name: "org.example.test.Failed", Parameters: map[string]string{"message": err.Error()}}
		},
	}
}

// serve serves one end of a socket pair and returns the other, and what
// ServeConn returns.
func serve(t *testing.T, ctx context.Context) (client *net.UnixConn, served <-chan error) {
	t.Helper()
	return serveBy(t, ctx, service())
}

func serveBy(t *testing.T, ctx context.Context, service *varlink.Service) (client *net.UnixConn, served <-chan error) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket")
		conn, err := net.FileConn(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = conn.(*net.UnixConn)
		t.Cleanup(func() { conn.Close() })
	}
	result := make(chan error, 1)
	go func() {
		err := service.ServeConn(ctx, ends[1])
		ends[1].Close()
		result <- err
	}()
	return ends[0], result
}

func TestServeConn(t *testing.T) {
	tests := []struct {
		name, send string // NUL is written as |
		want       string // so are these
		err        string // of the server
	}{
		{
			name: "nothing",
		},
		{
			name: "a call",
			send: `{"method":"org.example.test.Echo","parameters":{"a":[1,"b"]}}|`,
			want: `{"parameters":{"a":[1,"b"]}}|`,
		},
		{
			name: "a call with neither parameters nor result",
			send: `{"method":"org.example.test.Nothing"}|`,
			want: `{"parameters":{}}|`,
		},
		{
			name: "two calls at once",
			send: `{"method":"org.example.test.Echo","parameters":{"n":1}}|{"method":"org.example.test.Echo","parameters":{"n":2}}|`,
			want: `{"parameters":{"n":1}}|{"parameters":{"n":2}}|`,
		},
		{
			name: "an error of the interface",
			send: `{"method":"org.example.test.Named"}|`,
			want: `{"error":"org.example.test.Bad","parameters":{"how":3}}|`,
		},
		{
			name: "another error",
			send: `{"method":"org.example.test.Other"}|`,
			want: `{"error":"org.example.test.Failed","parameters":{"message":"disk on fire"}}|`,
		},
		{
			name: "a call that wants no answer",
			send: `{"method":"org.example.test.Named","oneway":true}|{"method":"org.example.test.Echo","parameters":{"n":2}}|`,
			want: `{"parameters":{"n":2}}|`,
		},
		{
			name: "unknown interface",
			send: `{"method":"org.example.other.Echo"}|`,
			want: `{"error":"org.varlink.service.InterfaceNotFound","parameters":{"interface":"org.example.other"}}|`,
		},
		{
			name: "unknown method",
			send: `{"method":"org.example.test.Shout"}|`,
			want: `{"error":"org.varlink.service.MethodNotFound","parameters":{"method":"org.example.test.Shout"}}|`,
		},
		{
			name: "unknown method of every service",
			send: `{"method":"org.varlink.service.Shout"}|`,
			want: `{"error":"org.varlink.service.MethodNotFound","parameters":{"method":"org.varlink.service.Shout"}}|`,
		},
		{
			name: "a method without an interface",
			send: `{"method":"Echo"}|{}|null|`,
			want: strings.Repeat(`{"error":"org.varlink.service.InvalidParameter","parameters":{"parameter":"method"}}|`, 3),
		},
		{
			name: "GetInfo",
			send: `{"method":"org.varlink.service.GetInfo","parameters":{}}|`,
			want: `{"parameters":{"interfaces":["org.example.test","org.varlink.service"],"product":"p","url":"u","vendor":"v","version":"1"}}|`,
		},
		{
			name: "GetInterfaceDescription",
			send: `{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"org.example.test"}}|`,
			want: `{"parameters":{"description":"interface org.example.test\n"}}|`,
		},
		{
			name: "GetInterfaceDescription of another",
			send: `{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"org.example.other"}}|`,
			want: `{"error":"org.varlink.service.InterfaceNotFound","parameters":{"interface":"org.example.other"}}|`,
		},
		{
			name: "GetInterfaceDescription of a number",
			send: `{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":1}}|`,
			want: `{"error":"org.varlink.service.InvalidParameter","parameters":{"parameter":"interface"}}|`,
		},
		{
			name: "no JSON",
			send: `GET / HTTP/1.1|{"method":"org.example.test.Nothing"}|`,
			want: `{"error":"org.example.test.Failed","parameters":{"message":"message is not a Varlink call: invalid character 'G' looking for beginning of value"}}|`,
			err:  "message is not a Varlink call: invalid character 'G' looking for beginning of value",
		},
		{
			name: "half a message",
			send: `{"method":"org.example.test.Nothing"}|{"method"`,
			want: `{"parameters":{}}|{"error":"org.example.test.Failed","parameters":{"message":"unexpected EOF"}}|`,
			err:  "unexpected EOF",
		},
		{
			name: "a message too large",
			send: strings.Repeat("m", varlink.MaxMessage+2) + "|",
			want: `{"error":"org.example.test.Failed","parameters":{"message":"message is larger than 1048576 bytes"}}|`,
			err:  "message is larger than 1048576 bytes",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client, served := serve(t, t.Context())
			// The server may answer before it has read all.
			written := make(chan error, 1)
			go func() {
				_, err := client.Write([]byte(strings.ReplaceAll(test.send, "|", "\x00")))
				written <- errors.Join(err, client.CloseWrite())
			}()
			got, err := io.ReadAll(client)
			if err != nil {
				t.Errorf("reading the replies: %v", err)
			}
			if err := <-written; err != nil {
				t.Errorf("writing the calls: %v", err)
			}
			if diff := cmp.Diff(test.want, strings.ReplaceAll(string(got), "\x00", "|")); diff != "" {
				t.Errorf("replies (-want +got):\n%s", diff)
			}
			want := test.err
			if want == "" {
				want = "<nil>"
			}
			if got := errorText(<-served); got != want {
				t.Errorf("the server returns %s, want %s", got, want)
			}
		})
	}
}

// Large messages have to share some room until they are answered; small ones
// need none.
func TestServeConnRoom(t *testing.T) {
	s := service()
	s.Room = varlink.NewRoom(10_000)
	entered, answer := make(chan struct{}), make(chan struct{})
	s.Interface.Methods["Wait"] = func(context.Context, *net.UnixConn, json.RawMessage) (any, error) {
		close(entered)
		<-answer
		return nil, nil
	}
	call := func(method string, size int) string {
		return `{"method":"org.example.test.` + method + `","parameters":{"x":"` + strings.Repeat("x", size) + `"}}` + "\x00"
	}
	first, _ := serveBy(t, t.Context(), s)
	if _, err := io.WriteString(first, call("Wait", 12_000)); err != nil {
		t.Fatal(err)
	}
	<-entered

	second, served := serveBy(t, t.Context(), s)
	if _, err := io.WriteString(second, call("Nothing", 12_000)); err != nil {
		t.Fatal(err)
	}
	if err := <-served; !errors.Is(err, varlink.ErrBusy) {
		t.Errorf("there is room for two: %v", err)
	}
	if reply, _ := io.ReadAll(second); len(reply) > 0 {
		t.Errorf("a client without room is answered: %q", reply)
	}

	const nothing = `{"parameters":{}}` + "\x00"
	small, _ := serveBy(t, t.Context(), s)
	if _, err := io.WriteString(small, call("Nothing", 1_000)); err != nil {
		t.Fatal(err)
	}
	if reply, err := bufio.NewReader(small).ReadString(0); err != nil || reply != nothing {
		t.Errorf("%q, %v", reply, err)
	}

	close(answer)
	reader := bufio.NewReader(first)
	for i := range 3 { // what was taken has been given back
		if reply, err := reader.ReadString(0); err != nil || reply != nothing {
			t.Fatalf("reply %d: %q, %v", i, reply, err)
		}
		if _, err := io.WriteString(first, call("Nothing", 12_000)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServiceDescription(t *testing.T) {
	client, _ := serve(t, t.Context())
	var reply struct{ Description string }
	err := varlink.DoCall(client, "org.varlink.service.GetInterfaceDescription", map[string]string{"interface": "org.varlink.service"}, &reply)
	if err != nil || !strings.Contains(reply.Description, "\ninterface org.varlink.service\n") {
		t.Errorf("description %q, error %v", reply.Description, err)
	}
}

// A connection with nothing under way does not hold up an activator that wants
// to leave.
func TestServeConnCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client, served := serve(t, ctx)
	// The server is there and waits for the next call.
	if err := varlink.DoCall(client, "org.example.test.Nothing", struct{}{}, nil); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	cancel()
	if err := <-served; err != nil {
		t.Errorf("the server returns %v", err)
	}
	// Less than the time that it gives a client for a message.
	if waited := time.Since(start); waited > 3*time.Second {
		t.Errorf("it took %v", waited)
	}
	if rest, err := io.ReadAll(client); err != nil || len(rest) > 0 {
		t.Errorf("the client gets %q, error %v", rest, err)
	}
}

// A client that is killed while it waits, or before it has read its reply, breaks
// nothing.
func TestServeConnGone(t *testing.T) {
	s := service()
	entered, answer := make(chan struct{}), make(chan struct{})
	s.Interface.Methods["Wait"] = func(context.Context, *net.UnixConn, json.RawMessage) (any, error) {
		close(entered)
		<-answer
		return nil, nil
	}
	call := func(method string) (client *net.UnixConn, served <-chan error) {
		client, served = serveBy(t, t.Context(), s)
		if err := varlink.WriteMessage(client, &varlink.Call{Method: "org.example.test." + method}); err != nil {
			t.Fatal(err)
		}
		return client, served
	}
	client, waited := call("Wait")
	<-entered
	client.Close()
	close(answer)

	client, answered := call("Nothing")
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil { // of some
		t.Fatal(err)
	}
	client.Close()
	for _, served := range []<-chan error{waited, answered} {
		if err := <-served; err != nil {
			t.Errorf("the server returns %v", err)
		}
	}
}

// Who stops in the middle of a message is not waited for without end, or a few
// of them could occupy an activator. This takes as long as the server waits.
func TestServeConnSilence(t *testing.T) {
	if testing.Short() {
		t.Skip("takes five seconds")
	}
	t.Parallel()
	client, served := serve(t, t.Context())
	if _, err := client.Write([]byte(`{"method":`)); err != nil {
		t.Fatal(err)
	}
	if err := client.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	message, err := varlink.ReadMessage(bufio.NewReader(client))
	if err != nil || !bytes.Contains(message, []byte("i/o timeout")) {
		t.Errorf("reply %s, error %v", message, err)
	}
	if err := <-served; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the server returns %v", err)
	}
}

// A client that does not read its reply is not waited for without end either.
func TestServeConnDeaf(t *testing.T) {
	if testing.Short() {
		t.Skip("takes five seconds")
	}
	t.Parallel()
	client, served := serve(t, t.Context())
	call := `{"method":"org.example.test.Echo","parameters":"` + strings.Repeat("m", 900<<10) + `"}` + "\x00"
	if _, err := client.Write([]byte(call)); err != nil {
		t.Fatal(err)
	}
	if err := <-served; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the server returns %v", err)
	}
}

func FuzzServeConn(f *testing.F) {
	for _, seed := range []string{
		"", "{}\x00", "null\x00[]\x00", `{"method":"org.example.test.Echo","parameters":{"a":1}}` + "\x00",
		`{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"x"}}` + "\x00",
		`{"method":"org.varlink.service.GetInfo","oneway":true}` + "\x00", `{"method":"."}` + "\x00{",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		if len(stream) > 64<<10 {
			return // more than the socket takes without a reader
		}
		client, served := serve(t, t.Context())
		if _, err := client.Write(stream); err != nil {
			t.Fatal(err)
		}
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		replies, err := readAll(client)
		if err != io.EOF {
			t.Errorf("the replies end with %v", err)
		}
		for _, reply := range replies {
			var r varlink.Reply
			if err := json.Unmarshal([]byte(reply), &r); err != nil {
				t.Errorf("reply %q: %v", reply, err)
			}
		}
		if calls := bytes.Count(stream, []byte{0}); len(replies) > calls+1 {
			t.Errorf("%d replies to %d calls", len(replies), calls)
		}
		<-served
	})
}

// While a call waits to be answered, the connection holds neither the text of
// the call nor the buffer that it was read into (4 KiB, bufio's default).
func TestWaitingCallHoldsLittle(t *testing.T) {
	const calls = 200
	inMethod, answer := make(chan struct{}), make(chan struct{})
	s := service()
	s.Interface.Methods["Wait"] = func(context.Context, *net.UnixConn, json.RawMessage) (any, error) {
		inMethod <- struct{}{}
		<-answer
		return nil, nil
	}
	heap := func() int64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	before := heap()
	var clients []*net.UnixConn
	var served []<-chan error
	for range calls {
		client, err := serveBy(t, t.Context(), s)
		clients, served = append(clients, client), append(served, err)
	}
	text := []byte(`{"method":"org.example.test.Wait","parameters":{"a":"` + strings.Repeat("x", 1<<10) + "\"}}\x00")
	for _, client := range clients {
		if _, err := client.Write(text); err != nil {
			t.Fatal(err)
		}
		<-inMethod
	}
	each := (heap() - before) / calls
	close(answer)
	for i, client := range clients {
		if reply, err := bufio.NewReader(client).ReadString(0); err != nil || !strings.HasPrefix(reply, `{"parameters":{}`) {
			t.Errorf("reply %q, error %v", reply, err)
		}
		client.Close()
		if err := <-served[i]; err != nil {
			t.Error(err)
		}
	}
	if each > 4<<10 {
		t.Errorf("both ends of a connection with a call of %d bytes hold %d bytes", len(text), each)
	}
}

// What is asked for in vain is told of, once, and nothing else is.
func TestRefused(t *testing.T) {
	service := service()
	var told []string
	service.Refused = func(_ *net.UnixConn, err error) { told = append(told, err.Error()) }
	service.Interface.Methods["Picky"] = func(_ context.Context, _ *net.UnixConn, parameters json.RawMessage) (any, error) {
		return nil, varlink.ReadParameters(parameters, &struct{}{})
	}
	client, served := serveBy(t, t.Context(), service)
	for _, method := range []string{
		"org.example.test.Picky", "org.example.test.Named", "org.example.test.Other", "org.varlink.service.GetInfo",
		"org.example.test.Rm", "org.example.other.Rm", "nothing",
	} {
		if err := varlink.WriteMessage(client, &varlink.Call{Method: method, Parameters: json.RawMessage(`{"x":1}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, client); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	want := []string{
		`org.varlink.service.InvalidParameter {"parameter":"x"}`,
		`org.varlink.service.MethodNotFound {"method":"org.example.test.Rm"}`,
		`org.varlink.service.InterfaceNotFound {"interface":"org.example.other"}`,
		`org.varlink.service.InvalidParameter {"parameter":"method"}`,
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
