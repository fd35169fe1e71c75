// SPDX-License-Identifier: Apache-2.0

// Package activator serves the requests for the sidecars of one service. It is
// started by the activation socket or the path unit, has systemd start and
// stop units, and leaves when there is nothing to do.
//
// A request ends in one of two ways: the sidecar runs and is ready, or the
// caller gets an error. What makes that hold:
//
//   - A request is answered over the connection that it came by. If the
//     activator dies, the connection breaks, the client connects again, and
//     systemd starts another activator. Start may be asked for any number of
//     times: the second time finds what the first one did.
//   - The arguments of a sidecar are written while its unit is down, and never
//     else. So the file says what the running sidecar was started with, at
//     whatever moment an activator died.
//   - A spooled request stays in a file until it has been served or given up.
//     The path unit starts the activator for as long as there is such a file.
package activator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/manager"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/netns"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/processes"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

const (
	// maxStarts is how many sidecars are started at a time. More would only
	// make all of them slow: a start of Podman takes a tenth of a second of
	// CPU time and some 50 MB of memory.
	maxStarts = 32
	// maxLooks is how many calls of List and Sync are served at a time, each of
	// which has systemd look through its units.
	maxLooks = 4
	// maxConnections is how many clients are listened to at a time; further
	// ones wait in the socket's backlog. It is more than a burst of a whole
	// host has, and few enough to have file descriptors for.
	maxConnections = 4096
	// maxHeld is how many bytes of large requests are held at a time, beside
	// some 4 KiB of each. In memory they take several times that, and the unit
	// has MemoryMax=512M for all.
	maxHeld = 16 << 20
	// spoolPoll is how often the spool is looked at while the activator runs:
	// the path unit does not fire then.
	spoolPoll = 200 * time.Millisecond
	// disconnectAfter is how long the connection to systemd is kept with nothing
	// to do. It gets a message for whatever happens to any unit of the host,
	// and costs systemd, and this process, more than a new one does.
	disconnectAfter = time.Second
	// leastIdle is how long an activator stays with nothing to do at least: the
	// path unit starts the next one at once for a spool that cannot be taken.
	leastIdle = time.Second
	// withoutSocket is how long an activator stays that was started for the spool,
	// while its socket could not be made. systemd makes no socket whose service is
	// up, and tries to when it starts the service.
	withoutSocket = 5 * time.Second
	// stopGrace is how long requests that are being served may take when the
	// activator ends. Clients of those that take longer ask again.
	stopGrace = 5 * time.Second
)

// An Activator serves one service.
type Activator struct {
	service *options.Service
	version string
	log     *slog.Logger
	notify  func(state string) // sd_notify(3)
	systemd *manager.Manager
	names   *netns.Names
	// processes says which process is of which sidecar.
	processes processes.Service

	locks  locks         // per network namespace
	starts chan struct{} // one entry for each start under way
	runs   chan struct{} // one entry for each control command under way
	looks  chan struct{} // one entry for each call of List and Sync under way
	room   *varlink.Room // for requests

	began  time.Time
	work   sync.WaitGroup // connections and spools being served
	busy   atomic.Int64   // how many those are
	quiet  atomic.Int64   // when busy became 0, as a time.Duration since began
	spools taken
	late   lateEnds // main processes that are waited for after the answer
	// orphans are network namespaces whose sidecars are about to be stopped, and
	// forgetting is held by what removes what was kept of such.
	orphans    sync.Map
	forgetting sync.Mutex
	// refusals are those that callers could fill the journal with.
	refusals refusals
}

// New returns an activator. It logs to log, and tells systemd of its state by
// notify.
func New(service *options.Service, version string, log *slog.Logger, notify func(state string)) *Activator {
	return &Activator{
		began:     time.Now(),
		service:   service,
		version:   version,
		log:       log.With(journal.Service, service.Name),
		notify:    notify,
		systemd:   &manager.Manager{},
		names:     netns.NewNames(layout.NetnsDir),
		processes: processes.Service{Name: service.Name, Container: service.Container},
		starts:    make(chan struct{}, maxStarts),
		runs:      make(chan struct{}, maxRuns),
		looks:     make(chan struct{}, maxLooks),
		room:      varlink.NewRoom(maxHeld),
		locks:     locks{file: layout.LockFile(service.Name)},
	}
}

// Serve serves the listeners, which are systemd's and stay open, and the spool,
// until there has been nothing to do for the service's idle timeout or ctx is
// done. When it returns, all it has begun has ended.
func (a *Activator) Serve(ctx context.Context, listeners []*net.UnixListener) error {
	defer a.Close()
	// Requests outlive ctx by stopGrace.
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	a.forgetRuns() // before there can be one of ours
	var accepting sync.WaitGroup
	ending := make(chan struct{})
	connections := make(chan struct{}, maxConnections)
	for _, listener := range listeners {
		accepting.Go(func() { a.accept(requests, listener, connections, ending) })
	}
	a.keepTemplate()
	a.notify("READY=1")
	a.background(func() { a.sync(requests) })

	poll := time.NewTicker(spoolPoll)
	defer poll.Stop()
	idle, least := max(a.service.IdleTimeout, leastIdle), time.Duration(0)
	if len(listeners) == 0 {
		idle, least = 0, withoutSocket
	}
	for (time.Since(a.began) < least || !a.quietFor(idle)) && ctx.Err() == nil {
		select {
		case <-poll.C:
			a.takeSpool(requests)
			if a.quietFor(disconnectAfter) {
				a.systemd.Close()
			}
		case <-ctx.Done():
		}
	}

	// From here on systemd queues a start behind our end: what comes to the
	// socket now is served by the next activator.
	a.notify("STOPPING=1")
	defer time.AfterFunc(stopGrace, cancel).Stop()
	close(ending)
	for _, listener := range listeners {
		if err := listener.SetDeadline(time.Now()); err != nil {
			return fmt.Errorf("ceasing to accept connections: %w", err)
		}
	}
	accepting.Wait()
	// A spool that comes after this look is seen by the path unit, which looks
	// whether the file exists when this service ends.
	a.takeSpool(requests)
	a.work.Wait()
	a.tellLeftOut(a.refusals.rest())
	return nil
}

// quietFor says whether there has been nothing to do for that long.
func (a *Activator) quietFor(limit time.Duration) bool {
	// Whatever the clock is set to meanwhile.
	return a.busy.Load() == 0 && time.Since(a.began)-time.Duration(a.quiet.Load()) >= limit
}

// background runs f as work that keeps the activator from being idle.
func (a *Activator) background(f func()) {
	a.busy.Add(1)
	a.work.Go(func() {
		defer func() {
			a.quiet.Store(int64(time.Since(a.began)))
			a.busy.Add(-1)
		}()
		f()
	})
}

// accept serves connections until ending is closed and the listener's deadline
// has passed.
func (a *Activator) accept(ctx context.Context, listener *net.UnixListener, connections, ending chan struct{}) {
	for {
		select {
		case connections <- struct{}{}:
		case <-ending:
			return
		}
		conn, err := listener.AcceptUnix()
		if err != nil {
			<-connections
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return
			}
			// The client was gone again, or there is no file descriptor left.
			a.limited(a.log, slog.LevelWarn, "accept", fmt.Sprintf("accepting a connection failed: %v; it is tried again", err))
			time.Sleep(10 * time.Millisecond)
			continue
		}
		a.background(func() {
			defer func() { <-connections }()
			defer conn.Close()
			service := a.varlink()
			if err := a.authorize(conn); err != nil {
				service.Refuse(conn, err)
				return
			}
			if err := service.ServeConn(ctx, conn); err != nil {
				if peer, peerErr := caller(conn); peerErr == nil {
					did := " broke the protocol: "
					if errors.Is(err, varlink.ErrBusy) {
						did = " has to ask again: "
					}
					who, cgroup := describe(peer)
					a.limited(a.log, slog.LevelInfo, cgroup, who+did+reason(err))
				}
			}
		})
	}
}

// varlink returns the service on the activation socket.
func (a *Activator) varlink() *varlink.Service {
	return &varlink.Service{
		Vendor:  "tripleo-wrappers",
		Product: layout.ActivatorProgram,
		Version: a.version,
		URL:     "https://github.com/tripleo-wrappers/tripleo-wrappers",
		Room:    a.room,
		Interface: varlink.Interface{
			Name:        protocol.Interface,
			Description: protocol.Description,
			Methods: map[string]varlink.Method{
				"Start":  a.serveStart,
				"Run":    a.serveRun,
				"Signal": a.serveSignal,
				"Sync":   a.serveSync,
				"List":   a.serveList,
			},
		},
		Refused: func(conn *net.UnixConn, err error) {
			if peer, peerErr := caller(conn); peerErr == nil {
				a.refused(a.log, peer, reason(err), journal.Result, journal.Refused)
			}
		},
		Internal: func(err error) *varlink.Error {
			return failure(protocol.ErrorFailed, protocol.Failure{Message: err.Error()})
		},
	}
}
