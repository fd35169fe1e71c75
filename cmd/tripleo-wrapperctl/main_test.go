package main

import (
	"bufio"
	"encoding/json"
	"net"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/scripttest"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tripleo-wrapperctl": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": scripttest.Status,
			"serve":  serve,
			"expand": expand,
		},
	})
}

// serve stands in for an activator: it answers List on a socket with what is
// in a file.
//
//	serve SOCKET FILE
func serve(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: serve SOCKET FILE")
	}
	answer := ts.ReadFile(args[1])
	listener, err := net.Listen("unix", ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			var call varlink.Call
			message, err := varlink.ReadMessage(bufio.NewReader(conn))
			if err == nil && json.Unmarshal(message, &call) == nil && call.Method == protocol.MethodList {
				// A client that is gone is the script's to notice.
				_ = varlink.WriteMessage(conn, json.RawMessage(answer))
			}
			conn.Close()
		}
	}()
}

// expand copies a file with the script's variables filled in.
//
//	expand FROM TO
func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: expand FROM TO")
	}
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o644))
}
