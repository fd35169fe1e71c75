// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/manager"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/netns"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
)

// An orphan that something else is done to is waited for once, however often Sync
// is called meanwhile. What is no orphan is let be.
func TestOrphansAreWaitedForOnce(t *testing.T) {
	a := &Activator{
		service: &options.Service{Name: "test-orphans"}, log: slog.New(slog.DiscardHandler), systemd: &manager.Manager{},
		names: netns.NewNames(t.TempDir()), locks: locks{file: filepath.Join(t.TempDir(), "lock")},
	}
	var unlocks []func()
	states := []manager.State{{Unit: a.unit("down"), ActiveState: "inactive"}, {Unit: "other@q.service", ActiveState: "active"}}
	for _, name := range []string{"one", "two"} {
		states = append(states, manager.State{Unit: a.unit(name), ActiveState: "active"})
		unlock, err := a.locks.lock(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		unlocks = append(unlocks, unlock)
	}
	ctx, cancel := context.WithCancel(t.Context())
	for range 100 {
		if found := a.stopOrphansAmong(ctx, states); found != 2 {
			t.Fatalf("%d orphans, want 2", found)
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for a.busy.Load() > 1 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if waiting := a.busy.Load(); waiting != 1 {
		t.Errorf("%d wait for two orphans, want 1", waiting)
	}
	// Where what was kept of others is being removed, that is not waited for.
	a.forgetting.Lock()
	for range 100 {
		a.stopOrphansAmong(ctx, nil)
	}
	for a.busy.Load() > 1 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if waiting := a.busy.Load(); waiting != 1 {
		t.Errorf("%d wait, want 1", waiting)
	}
	a.forgetting.Unlock()
	cancel() // nothing is stopped
	for _, unlock := range unlocks {
		unlock()
	}
	a.work.Wait()
	if len(a.orphans.all) != 0 {
		t.Errorf("%v are not looked at again", a.orphans.all)
	}
}

// However many calls have systemd look through its units, few do so at a time.
func TestFewLookAtATime(t *testing.T) {
	a := &Activator{
		service: &options.Service{Name: "test", Dir: t.TempDir()}, log: slog.New(slog.DiscardHandler), systemd: &manager.Manager{},
		looks: make(chan struct{}, 1),
	}
	leave, err := a.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.serveList(ctx, nil, json.RawMessage("{}")); !errors.Is(err, context.DeadlineExceeded) || len(a.looks) != 1 {
		t.Errorf("List: error %v", err)
	}
	if _, err := a.serveSync(ctx, nil, json.RawMessage("{}")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Sync: error %v", err)
	}
	leave()
	if leave, err = a.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	leave()
}
