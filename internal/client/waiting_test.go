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
		service: &options.Service{Ready: readiness.Rule{PIDFile: dir + "/{netns}.pid"}},
		netns:   "qdhcp-1",
	}
	sleeper := exec.Command("sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait() // that it was killed is no news
	}()
	var rest readiness.Rest
	then := time.Now()
	if w.readySince(then, &rest) {
		t.Error("ready without a pid file")
	}
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(sleeper.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	if w.readySince(then, &rest) {
		t.Error("ready with a pid file that is new, at the first look")
	}
	for deadline := time.Now().Add(10 * time.Second); !w.readySince(then, &rest); time.Sleep(retry) {
		if time.Now().After(deadline) {
			t.Fatal("not ready with a pid file that is new and names a process")
		}
	}
	if w.readySince(time.Now().Add(time.Minute), &rest) {
		t.Error("ready with a pid file that was there before")
	}
	if rest != (readiness.Rest{}) {
		t.Error("a process that is not looked at rests")
	}
}

func TestPause(t *testing.T) {
	for waited, want := range map[time.Duration]time.Duration{0: retry, 2 * time.Second: 200 * time.Millisecond, time.Hour: maxRetry} {
		if got := pause(time.Now().Add(-waited)); got < want || got > want+10*time.Millisecond {
			t.Errorf("after %v: %v, want %v", waited, got, want)
		}
	}
	if got := pause(time.Time{}); got != retry {
		t.Errorf("before anything is spooled: %v, want %v", got, retry)
	}
}
