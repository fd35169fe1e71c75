// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Two of the same file exclude each other, as two processes do, network
// namespace by network namespace.
func TestLocks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	ours, others := &locks{file: file}, &locks{file: file}
	defer ours.close()
	defer others.close()
	soon := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	unlock, err := ours.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*locks{ours, others} {
		if _, err := l.lock(soon(), "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("locked twice: %v", err)
		}
		free, err := l.lock(soon(), "b")
		if err != nil {
			t.Fatalf("another network namespace: %v", err)
		}
		free()
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		free, err := others.lock(t.Context(), "a")
		if err != nil {
			t.Error(err)
			return
		}
		free()
	})
	time.Sleep(20 * time.Millisecond)
	unlock()
	waiting.Wait()
	if len(ours.held)+len(others.held) != 0 {
		t.Errorf("locks are left: %v, %v", ours.held, others.held)
	}

	// The end of a process is the end of its locks.
	if _, err := ours.lock(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	ours.close()
	if _, err := others.lock(soon(), "a"); err != nil {
		t.Errorf("the lock outlived its process: %v", err)
	}
}

func TestLocksWithoutDirectory(t *testing.T) {
	l := &locks{file: filepath.Join(t.TempDir(), "missing", "lock")}
	unlock, err := l.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
