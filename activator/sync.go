// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/inventory"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/manager"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/spool"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

const (
	// takeTimeout bounds waiting for the spool's lock.
	takeTimeout = 5 * time.Second
	// orphanTimeout bounds asking systemd for the sidecars.
	orphanTimeout = time.Minute
	// maxSpooled is how many spooled requests are looked at at a time. How
	// many are started at a time is maxStarts.
	maxSpooled = 64
	// finishRetry is how long to wait before the next try to put away a spool
	// that has been served.
	finishRetry = 10 * time.Second
	// maxFailed is how large processes.failed may become, in bytes.
	maxFailed = 4 << 20
	// failedPart is how much is written to it at a time, and the request that goes
	// beyond, in bytes.
	failedPart = 1 << 20
	// lateWrite is how long after it was served a spool may still grow: a
	// shell that has opened a file to append to it writes at once, but for what
	// else there is to run on a busy host.
	lateWrite = 500 * time.Millisecond
)

// retries is how long to wait before each further try of a spooled request.
var retries = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}

func (a *Activator) serveSync(ctx context.Context, conn *net.UnixConn, parameters json.RawMessage) (any, error) {
	if err := varlink.ReadParameters(parameters, &struct{}{}); err != nil {
		return nil, err
	}
	leave, err := a.look(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return a.sync(ctx), nil
}

// sync serves the spool and stops orphans, in the background, and returns how
// many there are.
func (a *Activator) sync(ctx context.Context) protocol.Synced {
	return protocol.Synced{Spooled: a.takeSpool(ctx), Orphans: a.stopOrphans(ctx)}
}

// taken keeps the names of the spools that are being served, or that can
// neither be served nor put away, so that each is looked at once.
type taken struct {
	mu    sync.Mutex
	names map[string]bool
	// trouble is the error that was logged last, so that one that lasts is
	// logged once.
	trouble string

	keeping sync.Mutex // held by what writes to processes.failed
}

// complain logs what keeps spooled requests waiting, unless it did so last
// time. The lock is held.
func (a *Activator) complain(err error) {
	message := reason(err)
	if message != a.spools.trouble &&
		a.limited(a.log, slog.LevelError, "spool waits", "spooled requests have to wait until this is mended: "+message) {
		a.spools.trouble = message
	}
}

// takeSpool takes the spool, if there is one, and serves it in the background.
// It returns how many requests it found.
func (a *Activator) takeSpool(ctx context.Context) int {
	a.spools.mu.Lock()
	defer a.spools.mu.Unlock()
	dir, names, err := a.takeNames(ctx)
	if err != nil {
		a.complain(err)
		return 0
	}
	defer dir.Close()
	if a.spools.names == nil {
		a.spools.names = map[string]bool{}
	}
	found := 0
	for _, name := range names {
		if a.spools.names[name] {
			continue
		}
		part, err := a.readSpool(dir, name, 0, false)
		if errors.Is(err, beneath.ErrUnfit) {
			a.reject(dir, name, err)
			continue
		}
		if err != nil {
			a.complain(err)
			continue
		}
		found += len(part.batch)
		a.spools.names[name] = true
		a.background(func() { a.serveSpool(ctx, name, part) })
	}
	return found
}

func (a *Activator) takeNames(ctx context.Context) (*beneath.Dir, []string, error) {
	dir, err := a.stateDir()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, takeTimeout)
	defer cancel()
	names, err := spool.Take(ctx, dir, a.spools.names)
	if err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	return dir, names, nil
}

// stateDir opens the service's state directory, in which nothing is trusted.
func (a *Activator) stateDir() (*beneath.Dir, error) {
	service, err := beneath.Open(a.service.Dir)
	if err != nil {
		return nil, err
	}
	defer service.Close()
	return service.Sub(a.service.Name)
}

// reject puts away what stands in the place of a spool and is none: a link, a
// directory, a file of many megabytes. It must not stay, since the path unit
// would start the activator for it for ever.
func (a *Activator) reject(dir *beneath.Dir, name string, cause error) {
	rejected := fmt.Sprintf("%s%d", layout.SpoolRejected, time.Now().UnixNano())
	if err := dir.Rename(name, rejected); err != nil {
		a.spools.names[name] = true // nothing to be done about it
		a.limited(a.log, slog.LevelError, "spool stays", fmt.Sprintf("what is in the place of the spool is none: %v; remove it, since it cannot be put away: %v",
			cause, err))
		return
	}
	a.limited(a.log, slog.LevelError, "spool is none", fmt.Sprintf("what was in the place of the spool is none: %v; see who made it, and remove %s/%s",
		cause, dir.Path(), rejected))
}

// rejectTaken does so with a spool that has become none while it was served.
func (a *Activator) rejectTaken(name string, cause error) {
	dir, err := a.stateDir()
	if err != nil {
		a.limited(a.log, slog.LevelError, "spool stays", "cannot put away what is no spool: "+err.Error())
		return
	}
	defer dir.Close()
	a.spools.mu.Lock()
	defer a.spools.mu.Unlock()
	a.reject(dir, name, cause)
}

// A spooled request, and why it has not been served yet.
type spooled struct {
	spool.Request
	text string // the line, for processes.failed
	err  error
}

// A spoolPart is what has been read of a spool that has been taken.
type spoolPart struct {
	batch []*spooled
	end   int // where it ends: behind a newline, or where the spool ends
	size  int // of the spool
}

// readSpool reads a spool that has been taken from an offset on, up to the last
// newline or, with all, to the end: a shell writes a long line in pieces. Of several
// requests for one network namespace the last one counts.
func (a *Activator) readSpool(dir *beneath.Dir, name string, offset int, all bool) (*spoolPart, error) {
	content, info, err := dir.ReadFile(name, spool.MaxSize)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(a.service.AllowedUIDs, info.Owner) {
		// Whoever can write to the directory could go round the socket.
		return nil, fmt.Errorf("%w: it is of uid %d, who may not ask for sidecars of %s; add it to allowed_uids of its definition if it should",
			beneath.ErrUnfit, info.Owner, a.service.Name)
	}
	part := &spoolPart{size: len(content)}
	if !all {
		content = content[:bytes.LastIndexByte(content, '\n')+1]
	}
	requests, bad := spool.Parse(content[min(offset, len(content)):], info.Changed.UnixMicro())
	at := map[string]int{}
	for _, request := range requests {
		entry := &spooled{Request: request}
		if i, ok := at[request.Netns]; ok {
			part.batch[i] = entry
			continue
		}
		at[request.Netns] = len(part.batch)
		part.batch = append(part.batch, entry)
	}
	for _, line := range bad {
		part.batch = append(part.batch, &spooled{text: line.Text, err: fmt.Errorf("a line of the spool is no request: %w", line.Err)})
	}
	part.end = max(offset, len(content))
	return part, nil
}

// serveSpool serves what has been read of a spool, and what comes to it meanwhile,
// and then removes it.
func (a *Activator) serveSpool(ctx context.Context, name string, part *spoolPart) {
	defer func() {
		a.spools.mu.Lock()
		defer a.spools.mu.Unlock()
		delete(a.spools.names, name)
		a.spools.trouble = ""
	}()
	for more := true; more; {
		if !a.serveAndKeep(ctx, part.batch) {
			return // the spool stays, the next activator serves it
		}
		part.batch = nil
		// The role's wrapper, which has another lock, may have had the file
		// open when it was taken.
		if !pause(ctx, lateWrite) {
			return
		}
		late, err := a.readTaken(name, part.end, false)
		if err == nil && late.end == part.end && late.size == part.size {
			late, err = a.readTaken(name, part.end, true) // what has had no end for that long gets none
		}
		switch {
		case errors.Is(err, os.ErrNotExist):
			return
		case errors.Is(err, beneath.ErrUnfit):
			a.rejectTaken(name, err)
			return
		case err != nil:
			if !a.await(ctx, err) {
				return
			}
		default:
			more = late.end > part.end || late.size != part.size
			part = late
		}
	}
	for err := a.removeTaken(name); err != nil; err = a.removeTaken(name) {
		if !a.await(ctx, err) {
			return
		}
	}
}

// serveAndKeep serves requests and keeps those that are given up. It says
// whether that was done before ctx was.
func (a *Activator) serveAndKeep(ctx context.Context, batch []*spooled) bool {
	if len(batch) == 0 {
		return true
	}
	a.limited(a.log, slog.LevelInfo, "spool served", fmt.Sprintf("serving %d spooled requests", len(batch)))
	failed := a.serveRequests(ctx, batch)
	if ctx.Err() != nil {
		return false
	}
	for {
		var err error
		if failed, err = a.keepFailed(failed); err == nil {
			return true
		}
		if !a.await(ctx, err) {
			return false
		}
	}
}

// await waits before the next try to put away what has been served. It says
// whether there may be one.
func (a *Activator) await(ctx context.Context, err error) bool {
	a.spools.mu.Lock()
	a.complain(fmt.Errorf("putting away what has been served: %w", err))
	a.spools.mu.Unlock()
	return pause(ctx, finishRetry)
}

// pause waits for a time. It says false when ctx is done before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func (a *Activator) readTaken(name string, offset int, all bool) (*spoolPart, error) {
	dir, err := a.stateDir()
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return a.readSpool(dir, name, offset, all)
}

func (a *Activator) removeTaken(name string) error {
	dir, err := a.stateDir()
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Remove(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// serveRequests serves requests, those that fail again and again, and returns
// those that are given up.
func (a *Activator) serveRequests(ctx context.Context, batch []*spooled) []*spooled {
	waiting, failed := split(batch)
	for try := 0; len(waiting) > 0; try++ {
		var gaveUp []*spooled
		waiting, gaveUp = a.serveBatch(ctx, waiting)
		failed = append(failed, gaveUp...)
		if try == len(retries) {
			return append(failed, waiting...)
		}
		if len(waiting) > 0 && !pause(ctx, retries[try]) {
			return nil
		}
	}
	return failed
}

func split(batch []*spooled) (requests, failed []*spooled) {
	for _, entry := range batch {
		if entry.err != nil {
			failed = append(failed, entry)
		} else {
			requests = append(requests, entry)
		}
	}
	return requests, failed
}

// serveBatch tries each request once, many at the same time, and returns those
// to be tried again and those that no other try would help.
func (a *Activator) serveBatch(ctx context.Context, batch []*spooled) (again, gaveUp []*spooled) {
	var tries sync.WaitGroup
	final := make([]bool, len(batch))
	places := make(chan struct{}, maxSpooled)
	for i, entry := range batch {
		places <- struct{}{}
		tries.Go(func() {
			final[i], entry.err = a.serveSpooled(ctx, entry)
			<-places
		})
	}
	tries.Wait()
	for i, entry := range batch {
		switch {
		case entry.err == nil:
		case final[i]:
			gaveUp = append(gaveUp, entry)
		default:
			again = append(again, entry)
		}
	}
	return again, gaveUp
}

// serveSpooled serves one request. It says whether an error is final.
func (a *Activator) serveSpooled(ctx context.Context, entry *spooled) (final bool, err error) {
	if err := layout.CheckNetns(a.service.Name, entry.Netns); err != nil {
		return true, fmt.Errorf("network namespace %q %w", journal.Cut(entry.Netns, longestReason), err) // it may have megabytes
	}
	log := a.requestLog(entry.ID, entry.Netns)
	id, err := a.names.Lookup(entry.Netns)
	if errors.Is(err, os.ErrNotExist) {
		a.limited(log, slog.LevelInfo, "spool", "dropped a spooled request: its network namespace is gone", journal.Result, journal.Dropped)
		return true, nil
	}
	if err != nil {
		return false, err
	}
	s, err := a.sidecar(entry.Netns, id, &entry.Start)
	if err != nil {
		return true, err
	}
	s.spooled, s.asked = true, time.UnixMicro(entry.Time)
	_, err = a.start(ctx, s)
	if overtaken(err) {
		a.limited(log, slog.LevelWarn, "spool", "dropped a spooled request: "+err.Error(), journal.Result, journal.Dropped)
		return true, nil
	}
	return false, err
}

// keepFailed keeps requests that were given up in processes.failed, and returns
// those that it could not keep. In JSON they may take several times what they take
// in the spool, so that they are written in parts, and those of one spool at a time.
func (a *Activator) keepFailed(failed []*spooled) ([]*spooled, error) {
	if len(failed) == 0 {
		return nil, nil
	}
	a.spools.keeping.Lock()
	defer a.spools.keeping.Unlock()
	dir, err := a.stateDir()
	if err != nil {
		return failed, err
	}
	defer dir.Close()
	if err := a.rotateFailed(dir); err != nil {
		return failed, err
	}
	for len(failed) > 0 {
		n, err := keepSome(dir, failed)
		if err != nil {
			return failed, err
		}
		for _, entry := range failed[:n] {
			message := fmt.Sprintf("gave up a spooled request: %s; it is kept in %s/%s, and the agent has to ask again",
				reason(entry.err), dir.Path(), layout.SpoolFailed)
			// Lines that nobody can have meant do not use up those of requests.
			writer := "spool given up"
			if layout.CheckNetns(a.service.Name, entry.Netns) != nil {
				writer = "spool is no request"
			}
			a.limited(a.requestLog(entry.ID, entry.Netns), slog.LevelError, writer, message, journal.Result, journal.GaveUp)
		}
		failed = failed[n:]
	}
	return nil, nil
}

// keepSome keeps the first of these, at least one, and returns how many.
func keepSome(dir *beneath.Dir, failed []*spooled) (n int, err error) {
	var lines bytes.Buffer
	for n < len(failed) && lines.Len() < failedPart {
		entry := failed[n]
		line := []byte(entry.text + "\n")
		if entry.Netns != "" {
			if line, err = entry.Line(); err != nil {
				return 0, err
			}
		}
		fmt.Fprintf(&lines, "# %s %s\n%s", time.Now().UTC().Format(time.RFC3339), reason(entry.err), line)
		n++
	}
	return n, dir.Append(layout.SpoolFailed, lines.Bytes(), 0o600)
}

// rotateFailed puts processes.failed away when it has become large, in the place
// of an older one: it is for people to read.
func (a *Activator) rotateFailed(dir *beneath.Dir) error {
	size, err := dir.Size(layout.SpoolFailed)
	if errors.Is(err, os.ErrNotExist) || err == nil && size < maxFailed {
		return nil
	}
	if err != nil {
		return err
	}
	return dir.Rename(layout.SpoolFailed, layout.SpoolFailedOld)
}

// stopOrphans stops, in the background, the sidecars whose network namespace
// is gone, forgets what was kept of them, and returns how many there are.
func (a *Activator) stopOrphans(ctx context.Context) int {
	listing, cancel := context.WithTimeout(ctx, orphanTimeout)
	defer cancel()
	states, err := a.systemd.List(listing, a.unit("*"))
	if err != nil {
		a.limited(a.log, slog.LevelError, "orphans", fmt.Sprintf("cannot look for sidecars whose network namespace is gone: %v; to look again: %s sync %s",
			err, layout.ControlProgram, a.service.Name))
		return 0
	}
	return a.stopOrphansAmong(ctx, states)
}

// stopOrphansAmong does so with those among units. One that waits for what is under
// way in its network namespace is not waited for twice.
func (a *Activator) stopOrphansAmong(ctx context.Context, states []manager.State) int {
	found := 0
	var orphans []string
	for _, state := range states {
		netns, ok := layout.SidecarNetns(a.service.Name, state.Unit)
		if !ok || state.Down() || !a.orphan(netns) {
			continue
		}
		found++
		if _, known := a.orphans.LoadOrStore(netns, nil); !known {
			orphans = append(orphans, netns)
		}
	}
	a.background(func() {
		for _, netns := range orphans {
			if err := a.stopOrphan(ctx, netns); err != nil && ctx.Err() == nil {
				a.limited(a.requestLog("", netns), slog.LevelError, "orphans", fmt.Sprintf("cannot stop a sidecar whose network namespace is gone: %v; "+
					"to stop it by hand: systemctl stop %s", err, a.unit(netns)))
			}
			a.orphans.Delete(netns)
		}
		if len(orphans) > 0 {
			a.forgetting.Lock() // what is under way may have passed over these
		} else if !a.forgetting.TryLock() {
			return
		}
		defer a.forgetting.Unlock()
		if err := a.forgetGone(ctx); err != nil && ctx.Err() == nil {
			a.limited(a.log, slog.LevelError, "orphans", fmt.Sprintf("cannot forget sidecars whose network namespace is gone: %v; to try again: %s sync %s",
				err, layout.ControlProgram, a.service.Name))
		}
	})
	return found
}

func (a *Activator) orphan(netns string) bool {
	return inventory.Orphan(a.names, a.service.Name, netns)
}

func (a *Activator) stopOrphan(ctx context.Context, netns string) error {
	unlock, err := a.locks.lock(ctx, netns)
	if err != nil {
		return err
	}
	defer unlock()
	if !a.orphan(netns) {
		return nil
	}
	if err := a.stop(ctx, a.unit(netns)); err != nil {
		return err
	}
	a.requestLog("", netns).Info("stopped: its network namespace is gone")
	return nil
}

// forgetGone removes the records of sidecars whose network namespace is gone
// and whose unit is down: networks come and go for as long as a host is up.
func (a *Activator) forgetGone(ctx context.Context) error {
	dir, err := beneath.Open(layout.ServiceRuntimeDir(a.service.Name))
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Names(0)
	if err != nil {
		return err
	}
	for _, name := range names {
		netns, ok := strings.CutSuffix(name, path.Ext(layout.ArgsFile(a.service.Name, "")))
		if ok && a.orphan(netns) {
			if err := a.forget(ctx, dir, netns); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Activator) forget(ctx context.Context, dir *beneath.Dir, netns string) error {
	ctx, cancel := context.WithTimeout(ctx, orphanTimeout)
	defer cancel()
	unlock, err := a.locks.lock(ctx, netns)
	if err != nil {
		return err
	}
	defer unlock()
	state, err := a.systemd.Current(ctx, a.unit(netns))
	if err != nil || !state.Down() || !a.orphan(netns) {
		return err
	}
	for _, name := range layout.Records(a.service.Name, netns) {
		if err := dir.Remove(path.Base(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
