// SPDX-License-Identifier: Apache-2.0

package readiness

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/proc"
)

// running starts a shell command that the test ends.
func running(t *testing.T, command string) int {
	t.Helper()
	shell := exec.Command("sh", "-c", command)
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = shell.Process.Kill()
		_ = shell.Wait() // that it was killed is no news
	})
	return shell.Process.Pid
}

// reached asks until a process has come to rest, and returns how long that took.
func reached(t *testing.T, pids ...int) time.Duration {
	t.Helper()
	began := time.Now()
	for rest := (Rest{}); !rest.Reached(pids...); time.Sleep(RestTime) {
		if time.Since(began) > 60*SettleTime {
			t.Fatal("it never rests")
		}
	}
	return time.Since(began)
}

func TestRest(t *testing.T) {
	quiet, busy := running(t, "exec sleep 1000"), running(t, "while :; do :; done")
	reached(t, quiet)
	for _, pids := range [][]int{{busy}, {quiet, busy}, {busy, quiet}} {
		began := proc.Ran(busy)
		reached(t, pids...)
		// The last look is a moment earlier than this one, by a hundredth of a second.
		if ran := proc.Ran(busy) - began; ran < SettleTime {
			t.Errorf("%v came to rest after it had run for %v, want not before %v", pids, ran, SettleTime)
		}
	}
	var rest Rest
	if rest.Watched() != 0 || rest.Reached(quiet) {
		t.Error("at rest at the first look")
	}
	if rest.Reached(quiet, busy) {
		t.Error("at rest with one that runs")
	}
	if rest.Reached(quiet) {
		t.Error("at rest at the first look after others were looked at")
	}
	if rest.Watched() <= 0 {
		t.Errorf("watched for %v", rest.Watched())
	}
}

// One that neither runs nor sleeps has something left to do: a stopped one stands in
// for one that waits for a disk or for a processor.
func TestRestOfOneThatWaits(t *testing.T) {
	pid := running(t, "while :; do :; done")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for rest := (Rest{}); rest.Watched() < 3*SettleTime; time.Sleep(RestTime) {
		if rest.Reached(pid) {
			t.Fatal("at rest")
		}
	}
}

// One that sleeps at each look, and has run in between, is not at rest.
func TestRestOfOneThatRuns(t *testing.T) {
	cat := exec.Command("cat")
	in, err := cat.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cat.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		_ = cat.Wait() // it has ended with its input
	}()
	reached(t, cat.Process.Pid)
	for range 20 {
		var rest Rest
		rest.Reached(cat.Process.Pid)
		if _, err := in.Write([]byte("a")); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if rest.Reached(cat.Process.Pid) {
			t.Error("at rest, though it has run since")
		}
	}
}
