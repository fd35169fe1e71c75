// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lockRetry is how often a lock that another process holds is asked for.
const lockRetry = 10 * time.Millisecond

// locks has what is done to the sidecar of a network namespace done one thing
// at a time: by the requests of this process, and by other processes, such as
// an operator's, that have the same lock file.
type locks struct {
	file string // that others lock, too

	mu   sync.Mutex
	held map[string]*heldLock // by network namespace
	f    *os.File
}

type heldLock struct {
	held  chan struct{}
	users int
}

// lock waits for the lock of a network namespace until ctx is done.
func (l *locks) lock(ctx context.Context, netns string) (unlock func(), err error) {
	release, err := l.lockHere(ctx, netns)
	if err != nil {
		return nil, fmt.Errorf("waiting for what is under way in network namespace %s: %w", netns, err)
	}
	f, err := l.open()
	if errors.Is(err, os.ErrNotExist) {
		return release, nil // no activator has run, so there is no other process
	}
	if err == nil {
		err = lockRange(ctx, f, place(netns))
	}
	if err != nil {
		release()
		return nil, fmt.Errorf("locking network namespace %s in %s: %w", netns, l.file, err)
	}
	return func() {
		unlockRange(f, place(netns))
		release()
	}, nil
}

// lockHere takes the lock among the requests of this process.
func (l *locks) lockHere(ctx context.Context, netns string) (unlock func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*heldLock{}
	}
	k := l.held[netns]
	if k == nil {
		k = &heldLock{held: make(chan struct{}, 1)}
		l.held[netns] = k
	}
	k.users++
	l.mu.Unlock()

	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.held, netns)
		}
	}
	select {
	case k.held <- struct{}{}:
		return func() { <-k.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

func (l *locks) open() (*os.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		f, err := os.OpenFile(l.file, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		l.f = f
	}
	return l.f, nil
}

func (l *locks) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		_ = l.f.Close() // nothing is written to it, and the locks are gone with it
		l.f = nil
	}
}

// place returns the byte of the lock file that stands for a network namespace,
// so that no file is left of one that is gone. Two have the same byte once in 2^62:
// then what one process does with the one waits for what another process does with
// the other.
func place(netns string) int64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(netns)) // never fails (hash.Hash)
	return int64(hash.Sum64() >> 2)
}

// lockRange takes a lock that is the open file's (fcntl(2), F_OFD_SETLK): it is
// gone with the process.
func lockRange(ctx context.Context, f *os.File, start int64) error {
	for {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: start, Len: 1})
		if err != unix.EAGAIN && err != unix.EACCES {
			return err
		}
		if !pause(ctx, lockRetry) {
			return ctx.Err()
		}
	}
}

func unlockRange(f *os.File, start int64) {
	// Cannot fail for a lock that is held.
	_ = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Start: start, Len: 1})
}
