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
	// A stand-in, of which only the command line counts. It waits for its input.
	standIn := func(program, pidFile string) int {
		t.Helper()
		command := exec.Command("sh")
		command.Args = []string{program, "-c", "read x", "name", "-p", pidFile, "-n", "name"}
		if _, err := command.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = command.Process.Kill()
			_ = command.Wait() // it was killed
		})
		// The kernel tells them a moment after execve(2) has closed the descriptor that
		// Start waits for.
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if args, err := proc.Arguments(command.Process.Pid); err != nil || slices.Contains(args, pidFile) {
				break
			}
		}
		return command.Process.Pid
	}

	s := Service{Name: "a", Container: options.Podman}
	main := standIn("/usr/bin/conmon", pidFile)
	if got := s.Command("n", main); got != main {
		t.Errorf("without the pid file: %d, want the main process, %d", got, main)
	}
	inside := standIn("helper", "")
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(inside)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s.Container = range []string{options.Docker, "", options.Podman} { // what the definition says by now
		if got := s.Command("n", main); got != inside || !s.IsCommand("n", main, inside) || s.IsCommand("n", main, main) {
			t.Errorf("%q: %d, want %d", s.Container, got, inside)
		}
	}
	// podman's own command line ends with what an agent has asked for.
	podman := standIn("podman", pidFile)
	for _, s.Container = range []string{"", options.Podman} {
		if got := s.Command("n", podman); got != podman {
			t.Errorf("%q: the arguments of another program are taken for conmon's", s.Container)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(pidFile, link); err != nil {
		t.Fatal(err)
	}
	if conmon := standIn("/usr/bin/conmon", link); s.Command("n", conmon) != conmon {
		t.Error("a pid file that is none is read")
	}
	if err := os.WriteFile(pidFile, []byte("4194305"), 0o600); err != nil { // more than a pid can be
		t.Fatal(err)
	}
	if got := s.Command("n", main); got != 0 {
		t.Errorf("of a process that is gone: %d", got)
	}
}
