// SPDX-License-Identifier: Apache-2.0

package client

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/readiness"
)

// Who waits for a spooled request goes by the name that it was spooled with: to look
// for it again, among all others, at each try would take the time of the host. This
// process is in a network namespace without a name.
func TestReadySinceSpooled(t *testing.T) {
	dir := t.TempDir()
	pidFile := filepath.Join(dir, "qdhcp-1.pid")
	w := &wrapper{
		service:   &options.Service{Ready: readiness.Rule{PIDFile: dir + "/{netns}.pid"}},
		netns:     "qdhcp-1",
		arguments: []string{"1000"},
	}
	sleep := func() int {
		t.Helper()
		sleeper := exec.Command("sleep", "1000")
		if err := sleeper.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = sleeper.Process.Kill()
			_ = sleeper.Wait() // that it was killed is no news
		})
		return sleeper.Process.Pid
	}
	put := func(pid int) {
		t.Helper()
		if err := os.WriteFile(pidFile, []byte(strconv.Itoa(pid)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// readyAfter returns how long it takes to be ready, 0 if it is not within a time.
	const never, ever = 2 * readiness.SettleTime, 30 * time.Second
	readyAfter := func(then time.Time, within time.Duration) time.Duration {
		t.Helper()
		for began := time.Now(); time.Since(began) < within; time.Sleep(retry) {
			if w.readySince(then) {
				return time.Since(began)
			}
		}
		return 0
	}
	then := time.Now()
	if readyAfter(then, never) != 0 {
		t.Error("ready without a pid file")
	}
	pid := sleep()
	put(pid)
	if took := readyAfter(then, ever); took < readiness.SettleTime {
		t.Errorf("ready %v after its pid file was there, want a little more than %v", took, readiness.SettleTime)
	}
	if !w.readySince(then) {
		t.Error("not ready any more")
	}
	if readyAfter(time.Now().Add(time.Minute), never) != 0 {
		t.Error("ready with a pid file that was there before")
	}
	readyAfter(then, ever)
	put(sleep())
	if w.readySince(then) {
		t.Error("ready at once by another process than before")
	}
	w.arguments = []string{"1001"}
	if readyAfter(then, never) != 0 {
		t.Error("ready by a process with other arguments")
	}
	w.arguments = []string{"sleep", "1000"}
	if readyAfter(then, never) != 0 {
		t.Error("ready by a process whose name is among the arguments")
	}
}

func TestPause(t *testing.T) {
	for waited, want := range map[time.Duration]time.Duration{0: retry, 2 * time.Second: 200 * time.Millisecond, time.Hour: maxRetry} {
		now := time.Now()
		got := pause(now.Add(-waited))
		if most := want + time.Since(now); got < want || got > most {
			t.Errorf("after %v: %v, want %v to %v", waited, got, want, most)
		}
	}
	if got := pause(time.Time{}); got != retry {
		t.Errorf("before anything is spooled: %v, want %v", got, retry)
	}
}
