// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
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
	a.orphans.Range(func(netns, _ any) bool {
		t.Errorf("%v is not looked at again", netns)
		return true
	})
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

// What keeps the activator from clearing up is in the journal a few times, however
// often that is tried.
func TestClearingUpInVain(t *testing.T) {
	dir := t.TempDir()
	var logged bytes.Buffer
	a := &Activator{
		service: &options.Service{Name: "test-in-vain", Dir: filepath.Join(dir, "gone")}, log: slog.New(slog.NewTextHandler(&logged, nil)),
		systemd: &manager.Manager{}, names: netns.NewNames(dir), spools: taken{names: map[string]bool{}},
	}
	ending, cancel := context.WithCancel(t.Context())
	cancel()
	state, err := beneath.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	for what, try := range map[string]func(){
		"cannot look for sidecars":         func() { a.stopOrphans(ending) },
		"cannot forget sidecars":           func() { a.stopOrphansAmong(t.Context(), nil); a.work.Wait() },
		"since it cannot be put away":      func() { a.reject(state, "not-there", beneath.ErrUnfit) },
		"cannot put away what is no spool": func() { a.rejectTaken("not-there", beneath.ErrUnfit) },
	} {
		a.refusals = refusals{}
		logged.Reset()
		for range 100 {
			try()
		}
		if got := strings.Count(logged.String(), what); got != refusalLines {
			t.Errorf("%q is logged %d times, want %d:\n%.2000s", what, got, refusalLines, &logged)
		}
	}
}
