// SPDX-License-Identifier: Apache-2.0

package processes

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/proc"
)

// The process of a container of Podman is the one that conmon's pid file names,
// whatever else conmon has for children.
func TestCommandOfConmon(t *testing.T) {
	dir := t.TempDir()
	pidFile := filepath.Join(dir, "pidfile")
	start := func(args ...string) int {
		t.Helper()
		command := exec.Command("sleep", "1000")
		command.Args = args
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = command.Process.Kill()
			_ = command.Wait() // it was killed
		})
		return command.Process.Pid
	}
	// A stand-in, of which only the command line counts: sleep(1) adds up what
	// it is told and would refuse the options.
	script := filepath.Join(dir, "conmon")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexec 3<>"+filepath.Join(dir, "fifo")+"; read x <&3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("mkfifo", filepath.Join(dir, "fifo")).Run(); err != nil {
		t.Fatal(err)
	}
	conmon := exec.Command(script, "-c", "id", "-p", pidFile, "-n", "name")
	if err := conmon.Start(); err != nil {
		t.Fatal(err)
	}
	defer conmon.Wait()
	defer conmon.Process.Kill()

	s := Service{Name: "a", Container: options.Podman}
	main := conmon.Process.Pid
	// The kernel tells them a moment after execve(2) has closed the descriptor that
	// Start waits for.
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if args, err := proc.Arguments(main); err != nil || slices.Contains(args, pidFile) {
			break
		}
	}
	if got := s.Command("n", main); got != main {
		t.Errorf("without the pid file: %d, want the main process, %d", got, main)
	}
	inside := start("sleep", "1000")
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(inside)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.Command("n", main); got != inside {
		t.Errorf("%d, want %d", got, inside)
	}
	if err := os.WriteFile(pidFile, []byte("4194305"), 0o600); err != nil { // more than a pid can be
		t.Fatal(err)
	}
	if got := s.Command("n", main); got != 0 {
		t.Errorf("of a process that is gone: %d", got)
	}
	s.Container = ""
	if got := s.Command("n", main); got != main {
		t.Errorf("of no container: %d, want %d", got, main)
	}
}
