// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/arglist"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/scripttest"
)

const program = "tripleo-wrapper"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		program:             main,
		"print-arguments":   printArguments,
		"print-environment": printEnvironment,
	})
}

// printArguments prints each of its arguments on a line, in Go's quoting.
func printArguments() {
	for i, argument := range os.Args[1:] {
		fmt.Printf("%d: %q\n", i+1, argument)
	}
}

// printEnvironment prints all values that its environment has of variables.
func printEnvironment() {
	for _, name := range os.Args[1:] {
		values := []string{}
		for _, variable := range os.Environ() {
			if value, ok := strings.CutPrefix(variable, name+"="); ok {
				values = append(values, value)
			}
		}
		fmt.Printf("%s=%q\n", name, values)
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":  scripttest.Status,
			"list":    list,
			"deadpid": deadPID,
		},
	})
}

// list writes a list as the activator does, of entries in Go's quoting:
//
//	list FILE '"ENTRY"'...
func list(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: list FILE '\"ENTRY\"'...")
	}
	var entries []string
	for _, quoted := range args[1:] {
		entry, err := strconv.Unquote(quoted)
		ts.Check(err)
		entries = append(entries, entry)
	}
	content, err := arglist.Encode(entries)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), content, 0o600))
}

// deadPID sets a variable to the pid of a process that has ended:
//
//	deadpid NAME
func deadPID(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: deadpid NAME")
	}
	command := exec.Command("true")
	ts.Check(command.Run())
	ts.Setenv(args[0], strconv.Itoa(command.Process.Pid))
}
