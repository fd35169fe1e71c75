// SPDX-License-Identifier: Apache-2.0

// Package manager talks to systemd's manager (org.freedesktop.systemd1(5)):
// it has units started and stopped and waits until that is done, across
// everything that may happen to the connection meanwhile.
//
// It uses systemd's private socket, which needs root but no dbus-daemon, and
// the system bus where that fails.
package manager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

const (
	// dialTimeout bounds making a connection; systemd answers nobody while it
	// reloads itself, which takes seconds on a host with thousands of units.
	dialTimeout = 30 * time.Second
	// callTimeout bounds one call, connecting as often as it takes included;
	// callers may have less time.
	callTimeout = 3 * time.Minute
	// dialRetry is how long to wait before the next try to connect.
	dialRetry = 100 * time.Millisecond
	// jobPoll is how often a job is looked at besides waiting for its signal,
	// which is lost when the connection is (systemctl daemon-reexec).
	jobPoll = time.Second
)

// ErrNoUnit is the error of a unit that systemd knows no file of.
var ErrNoUnit = errors.New("there is no such unit")

// A State is what systemd says of a unit.
type State struct {
	Unit        string
	LoadState   string // as in systemctl(1): loaded, not-found, masked …
	ActiveState string // active, activating, inactive, failed …
	SubState    string
	job         uint32
}

// Active says whether the unit is up.
func (s State) Active() bool { return s.ActiveState == "active" || s.ActiveState == "reloading" }

// Down says whether the unit is down and will stay so by itself.
func (s State) Down() bool {
	return s.job == 0 && (s.ActiveState == "inactive" || s.ActiveState == "failed")
}

// A Manager is a connection to systemd that is made when it is needed, and
// again when it is lost or was closed.
type Manager struct {
	// Patience is for how long making a connection is tried, in one call or in
	// several: once it has run out, each call makes one try, until one of them
	// succeeds. 0 is as long as a call may take.
	Patience time.Duration

	mu     sync.Mutex
	conn   *connection
	failed time.Time // since when no connection can be made
}

// A connection to systemd is one connection for calls and for signals. Over its
// private socket, systemd sends every signal to every connection, asked for or
// not: some sixty for each sidecar that is started. go-systemd by itself would
// make two connections.
type connection struct {
	*dbus.Conn
	bus *godbus.Conn
}

// jobEnds passes on the signal that tells how a job ended, which is the only one
// that anybody here waits for. Each is kept until go-systemd takes it, which it does
// not while it waits for systemd's answer to a call that makes a job: by then, a
// busy host has sent hundreds of others, for which the library's own handler would
// have a goroutine each.
type jobEnds struct {
	sequential
}

// sequential is what the library's handler of signals in order can do.
type sequential interface {
	godbus.SignalHandler
	godbus.SignalRegistrar
	godbus.Terminator
}

// DeliverSignal is called for each signal.
func (j jobEnds) DeliverSignal(iface, name string, signal *godbus.Signal) {
	if iface == managerName+".Manager" && name == "JobRemoved" {
		j.sequential.DeliverSignal(iface, name, signal)
	}
}

func onlyJobEnds() godbus.ConnOption {
	return godbus.WithSignalHandler(jobEnds{godbus.NewSequentialSignalHandler().(sequential)})
}

// Variables for tests.
var (
	// private is where systemd listens for root, without a dbus-daemon between.
	private = "unix:path=/run/systemd/private"
	// booted is there where systemd runs, as sd_booted(3) has it.
	booted = "/run/systemd/system"
)

const (
	managerName = "org.freedesktop.systemd1"
	managerPath = "/org/freedesktop/systemd1"
	noSuchUnit  = managerName + ".NoSuchUnit"
)

// Close closes the connection. Calls that are under way, and later ones, make
// another.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}

// State returns the state of a unit; that of one that is not loaded is
// "inactive".
func (m *Manager) State(ctx context.Context, unit string) (State, error) {
	states, err := m.list(ctx, func(ctx context.Context, conn *connection) ([]dbus.UnitStatus, error) {
		return conn.ListUnitsByNamesContext(ctx, []string{unit})
	})
	if err != nil {
		return State{}, fmt.Errorf("asking systemd for the state of %s: %w", unit, err)
	}
	if len(states) != 1 {
		return State{}, fmt.Errorf("asking systemd for the state of %s: %d answers", unit, len(states))
	}
	return states[0], nil
}

// Current returns the state of a unit as State does. One that is not loaded is
// not loaded for it, which is most of the work of a start: it is inactive, and
// its LoadState is empty.
func (m *Manager) Current(ctx context.Context, unit string) (State, error) {
	err := m.do(ctx, func(ctx context.Context, conn *connection) error {
		return conn.bus.Object(managerName, managerPath).CallWithContext(ctx, managerName+".Manager.GetUnit", 0, unit).Err
	})
	var refused godbus.Error
	if errors.As(err, &refused) && refused.Name == noSuchUnit {
		return State{Unit: unit, ActiveState: "inactive", SubState: "dead"}, nil
	}
	return m.State(ctx, unit)
}

// List returns the loaded units whose name matches a pattern as in glob(7).
func (m *Manager) List(ctx context.Context, pattern string) ([]State, error) {
	states, err := m.list(ctx, func(ctx context.Context, conn *connection) ([]dbus.UnitStatus, error) {
		return conn.ListUnitsByPatternsContext(ctx, nil, []string{pattern})
	})
	if err != nil {
		return nil, fmt.Errorf("asking systemd for units like %s: %w", pattern, err)
	}
	return states, nil
}

func (m *Manager) list(ctx context.Context, ask func(context.Context, *connection) ([]dbus.UnitStatus, error)) ([]State, error) {
	var states []State
	err := m.do(ctx, func(ctx context.Context, conn *connection) error {
		units, err := ask(ctx, conn)
		states = nil
		for _, unit := range units {
			states = append(states, State{unit.Name, unit.LoadState, unit.ActiveState, unit.SubState, unit.JobId})
		}
		return err
	})
	return states, err
}

// MainPID returns the main process of a service, 0 if it has none.
func (m *Manager) MainPID(ctx context.Context, unit string) (int, error) {
	pid, err := property[uint32](ctx, m, ofService, unit, "MainPID")
	return int(pid), err
}

// Restarts returns how often a service has been brought back by Restart=.
func (m *Manager) Restarts(ctx context.Context, unit string) (int, error) {
	n, err := property[uint32](ctx, m, ofService, unit, "NRestarts")
	return int(n), err
}

// MainStarted returns when the main process of a service was started, in
// microseconds since 1970 (UTC); 0 if it has none.
func (m *Manager) MainStarted(ctx context.Context, unit string) (int64, error) {
	usec, err := property[uint64](ctx, m, ofService, unit, "ExecMainStartTimestamp")
	return int64(usec), err // #nosec G115 -- overflows in 292,000 years
}

// ActiveSince returns when a unit came up last, in microseconds since 1970
// (UTC); 0 if it never did.
func (m *Manager) ActiveSince(ctx context.Context, unit string) (int64, error) {
	usec, err := property[uint64](ctx, m, ofUnit, unit, "ActiveEnterTimestamp")
	return int64(usec), err // #nosec G115 -- overflows in 292,000 years
}

// Changed returns when a unit's state changed last, in microseconds since 1970
// (UTC); 0 if it never did.
func (m *Manager) Changed(ctx context.Context, unit string) (int64, error) {
	usec, err := property[uint64](ctx, m, ofUnit, unit, "StateChangeTimestamp")
	return int64(usec), err // #nosec G115 -- overflows in 292,000 years
}

// The interfaces that properties are of.
var (
	ofUnit    = (*dbus.Conn).GetUnitPropertyContext
	ofService = (*dbus.Conn).GetServicePropertyContext
)

// NeedsReload says whether the file that a unit was made from has changed since
// systemd read its units (NeedDaemonReload in org.freedesktop.systemd1(5)).
func (m *Manager) NeedsReload(ctx context.Context, unit string) (bool, error) {
	return property[bool](ctx, m, ofUnit, unit, "NeedDaemonReload")
}

// Reload has systemd run its generators and read its units again, as
// `systemctl daemon-reload` does, and waits until that is done.
func (m *Manager) Reload(ctx context.Context) error {
	if err := m.do(ctx, func(ctx context.Context, conn *connection) error { return conn.ReloadContext(ctx) }); err != nil {
		return fmt.Errorf("having systemd read its units again: %w", err)
	}
	return nil
}

// Restart stops and starts a unit, waits for the job to end and returns the
// unit's state then, which says whether it worked.
func (m *Manager) Restart(ctx context.Context, unit string) (State, error) {
	return m.restart(ctx, unit, whole)
}

// RestartAlone does so without starting what the unit requires.
func (m *Manager) RestartAlone(ctx context.Context, unit string) (State, error) {
	return m.restart(ctx, unit, alone)
}

func (m *Manager) restart(ctx context.Context, unit, mode string) (State, error) {
	state, err := m.job(ctx, unit, mode, true, (*dbus.Conn).RestartUnitContext)
	if err != nil {
		return state, fmt.Errorf("restarting %s: %w", unit, err)
	}
	return state, nil
}

// Attach moves processes into the control group of a service that is up or being
// started. systemd knows how from version 238 on.
func (m *Manager) Attach(ctx context.Context, unit string, pids []int) error {
	numbers := make([]uint32, len(pids))
	for i, pid := range pids {
		numbers[i] = uint32(pid) // #nosec G115 -- a pid is positive
	}
	err := m.do(ctx, func(ctx context.Context, conn *connection) error {
		return conn.AttachProcessesToUnit(ctx, unit, "", numbers)
	})
	if err != nil {
		return fmt.Errorf("moving processes %v into %s: %w", pids, unit, err)
	}
	return nil
}

func property[T any](ctx context.Context, m *Manager,
	get func(*dbus.Conn, context.Context, string, string) (*dbus.Property, error), unit, name string,
) (T, error) {
	var value T
	var answer *dbus.Property
	err := m.do(ctx, func(ctx context.Context, conn *connection) (err error) {
		answer, err = get(conn.Conn, ctx, unit, name)
		return err
	})
	if err == nil {
		err = answer.Value.Store(&value)
	}
	if err != nil {
		return value, fmt.Errorf("asking systemd for %s of %s: %w", name, unit, err)
	}
	return value, nil
}

// Start starts a unit, waits for the job to end and returns the unit's state
// then, which says whether it worked.
func (m *Manager) Start(ctx context.Context, unit string) (State, error) {
	return m.start(ctx, unit, whole)
}

// StartAlone does so without starting what the unit requires.
func (m *Manager) StartAlone(ctx context.Context, unit string) (State, error) {
	return m.start(ctx, unit, alone)
}

func (m *Manager) start(ctx context.Context, unit, mode string) (State, error) {
	state, err := m.job(ctx, unit, mode, true, (*dbus.Conn).StartUnitContext)
	if err != nil {
		return state, fmt.Errorf("starting %s: %w", unit, err)
	}
	return state, nil
}

// Stop stops a unit, and a restart that systemd has in mind for it, and waits
// until it is down.
func (m *Manager) Stop(ctx context.Context, unit string) error {
	for {
		state, err := m.job(ctx, unit, whole, false, (*dbus.Conn).StopUnitContext)
		if errors.Is(err, ErrNoUnit) {
			return nil // not even loaded, so not up
		}
		if err != nil {
			return fmt.Errorf("stopping %s: %w", unit, err)
		}
		if state.Down() {
			return nil
		}
		// Somebody else's job took the place of ours.
		select {
		case <-time.After(dialRetry):
		case <-ctx.Done():
			return fmt.Errorf("stopping %s, which is %s: %w", unit, state.ActiveState, ctx.Err())
		}
	}
}

// What becomes of other units when one is started (systemctl(1), --job-mode=).
const (
	whole = "replace"             // what it requires is started with it
	alone = "ignore-requirements" // only the order of starting is kept
)

// job enqueues a job, waits for its end and returns the unit's state then. Up
// says whether the unit is to be up.
func (m *Manager) job(ctx context.Context, unit, mode string, up bool,
	enqueue func(*dbus.Conn, context.Context, string, string, chan<- string) (int, error),
) (State, error) {
	var done chan string
	err := m.do(ctx, func(ctx context.Context, conn *connection) error {
		// Buffered: the connection must not wait for us.
		done = make(chan string, 1)
		_, err := enqueue(conn.Conn, ctx, unit, mode, done)
		return err
	})
	var refused godbus.Error
	switch {
	case !errors.As(err, &refused):
	case refused.Name == noSuchUnit:
		err = ErrNoUnit
	default: // it is masked, or has a setting that makes no sense
		err = fmt.Errorf("%s; see: systemctl status %s", strings.TrimSuffix(refused.Error(), "."), unit)
	}
	if err != nil {
		return State{}, err
	}
	poll := time.NewTicker(jobPoll)
	defer poll.Stop()
	for {
		select {
		case result := <-done:
			if result == "done" && up {
				return m.State(ctx, unit)
			}
			// systemd may have forgotten the unit by now.
			return m.Current(ctx, unit)
		case <-poll.C:
			if state, err := m.Current(ctx, unit); err != nil || state.job == 0 {
				return state, err
			}
		case <-ctx.Done():
			return State{}, ctx.Err()
		}
	}
}

// do runs a call, again on a new connection if the old one turns out to be
// dead, until ctx is done. All calls made here may be made twice.
func (m *Manager) do(ctx context.Context, call func(context.Context, *connection) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for try := 0; ; try++ {
		conn, err := m.connection(ctx)
		if err != nil {
			if _, lookErr := os.Lstat(booted); errors.Is(lookErr, os.ErrNotExist) {
				return fmt.Errorf("systemd does not run here: there is no %s", booted)
			}
			if m.impatient() {
				return err
			}
		}
		if err == nil {
			err = call(ctx, conn)
			if err == nil || ctx.Err() != nil || !connectionLost(err) {
				return err
			}
			m.drop(conn)
			if try == 0 {
				continue // it was an old one
			}
		}
		select {
		case <-time.After(dialRetry):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// connectionLost says whether an error is the connection's rather than an
// answer of systemd.
func connectionLost(err error) bool {
	var answer godbus.Error
	if !errors.As(err, &answer) {
		return true
	}
	// These come from a dbus-daemon, or from the library in its place.
	switch strings.TrimPrefix(answer.Name, "org.freedesktop.DBus.Error.") {
	case "NoReply", "Disconnected", "ServiceUnknown", "NameHasNoOwner", "TimedOut", "Timeout":
		return true
	}
	return false
}

func (m *Manager) connection(ctx context.Context) (*connection, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil && m.conn.Connected() {
		return m.conn, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	conn, err := dial(func(ctx context.Context) (*godbus.Conn, error) {
		bus, err := godbus.Dial(private, godbus.WithContext(ctx), onlyJobEnds())
		if err != nil {
			return nil, err
		}
		// By number: a name would have to be looked up. There is no Hello, which
		// is a dbus-daemon's.
		if err := bus.Auth([]godbus.Auth{godbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
			return nil, errors.Join(err, bus.Close())
		}
		return bus, nil
	})
	if err != nil {
		var busErr error
		conn, busErr = dial(func(ctx context.Context) (*godbus.Conn, error) {
			return godbus.ConnectSystemBus(godbus.WithContext(ctx), onlyJobEnds())
		})
		if busErr != nil {
			if m.failed.IsZero() {
				m.failed = time.Now()
			}
			return nil, errors.Join(
				fmt.Errorf("connecting to systemd's private socket: %w", err),
				fmt.Errorf("connecting to the system bus: %w", busErr))
		}
	}
	m.conn, m.failed = conn, time.Time{}
	return conn, nil
}

// impatient says whether patience has run out.
func (m *Manager) impatient() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Patience > 0 && !m.failed.IsZero() && time.Since(m.failed) > m.Patience
}

// dial makes a connection that lives on after the time limit of making it.
func dial(connect func(context.Context) (*godbus.Conn, error)) (*connection, error) {
	ctx, cancel := context.WithCancel(context.Background())
	limit := time.AfterFunc(dialTimeout, cancel)
	bus, err := connect(ctx)
	var conn *dbus.Conn
	if err == nil {
		conn, err = dbus.NewConnection(func() (*godbus.Conn, error) { return bus, nil })
	}
	if !limit.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return &connection{conn, bus}, nil
}

func (m *Manager) drop(conn *connection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn == conn {
		m.conn.Close()
		m.conn = nil
	}
}
