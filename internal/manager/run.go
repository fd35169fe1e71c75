// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// stopRun bounds stopping a command that is not waited for any longer.
const stopRun = 20 * time.Second

// A Run is a command that is run once, by systemd.
type Run struct {
	Unit        string // its name
	Description string
	Words       []string // the command, whose first word is a path; no "$" in it
	Netns       string   // path of the network namespace
	Timeout     time.Duration
	LogFields   []string // NAME=VALUE, of its lines in the journal
	NoDevices   bool     // no devices but the standard ones, such as /dev/null (DevicePolicy=closed)
	// Descriptors that are its standard output and standard error.
	Stdout, Stderr int
}

// An Outcome is how a command ended.
type Outcome struct {
	// Result is as in systemd.exec(5), $SERVICE_RESULT: "success", "exit-code",
	// "signal", "timeout" …
	Result string
	// ExitStatus is as a shell has it: 128 and the number of the signal for a
	// command that was killed.
	ExitStatus int
}

// Run runs a command as a transient unit, and returns how it ended. When ctx is
// done, the command is stopped.
//
// A unit that fails is kept until that has been asked for here, and then cleared
// away: systemd tells how a unit ended for as long as it knows it
// (CollectMode=inactive).
func (m *Manager) Run(ctx context.Context, run *Run) (Outcome, error) {
	outcome, err := m.run(ctx, run)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopRun)
		defer cancel()
		err = errors.Join(fmt.Errorf("running %s: %w", run.Unit, err), m.Stop(ctx, run.Unit))
		_ = m.resetFailed(ctx, run.Unit) // there may be nothing to reset
	}
	return outcome, err
}

func (m *Manager) run(ctx context.Context, run *Run) (Outcome, error) {
	fields := make([][]byte, len(run.LogFields))
	for i, field := range run.LogFields {
		fields[i] = []byte(field)
	}
	property := func(name string, value any) dbus.Property {
		return dbus.Property{Name: name, Value: godbus.MakeVariant(value)}
	}
	properties := []dbus.Property{
		dbus.PropDescription(run.Description),
		// Its start is done when the command has ended.
		dbus.PropType("oneshot"),
		dbus.PropExecStart(run.Words, false),
		property("TimeoutStartUSec", uint64(run.Timeout.Microseconds())), // #nosec G115 -- of a definition, more than 0
		property("TimeoutStopUSec", uint64(2*time.Second/time.Microsecond)),
		property("NetworkNamespacePath", run.Netns),
		property("LogExtraFields", fields),
		property("StandardOutputFileDescriptor", godbus.UnixFD(run.Stdout)), // #nosec G115 -- a descriptor is a C int
		property("StandardErrorFileDescriptor", godbus.UnixFD(run.Stderr)),  // #nosec G115 -- a descriptor is a C int
	}
	if run.NoDevices {
		properties = append(properties, property("DevicePolicy", "closed"))
	}
	var done chan string
	tries := 0
	err := m.do(ctx, func(ctx context.Context, conn *connection) error {
		tries++
		done = make(chan string, 1)
		_, err := conn.StartTransientUnitContext(ctx, run.Unit, "fail", properties, done)
		var refused godbus.Error
		if tries > 1 && errors.As(err, &refused) && refused.Name == "org.freedesktop.systemd1.UnitExists" {
			return nil // the try before, whose answer was lost
		}
		return err
	})
	if err != nil {
		return Outcome{}, err
	}
	result, err := m.awaitRun(ctx, run.Unit, done)
	if err != nil {
		return Outcome{}, err
	}
	if result == "done" {
		return Outcome{Result: "success"}, nil
	}
	state, err := m.Current(ctx, run.Unit)
	if err != nil {
		return Outcome{}, err
	}
	if state.ActiveState != "failed" {
		return Outcome{}, fmt.Errorf("somebody stopped it, or systemd did not say how it ended (%s)", result)
	}
	outcome, err := m.outcome(ctx, run.Unit)
	if err != nil {
		return Outcome{}, err
	}
	return outcome, m.resetFailed(ctx, run.Unit)
}

// awaitRun waits for the end of the job that runs a command, and returns its
// result (org.freedesktop.systemd1(5), JobRemoved); "" if the signal that tells
// it was lost with a connection.
func (m *Manager) awaitRun(ctx context.Context, unit string, done <-chan string) (string, error) {
	poll := time.NewTicker(jobPoll)
	defer poll.Stop()
	over := false
	for {
		select {
		case result := <-done:
			return result, nil
		case <-poll.C:
			if over {
				return "", nil // the signal would be here by now
			}
			state, err := m.Current(ctx, unit)
			if err != nil {
				return "", err
			}
			over = state.job == 0
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

func (m *Manager) outcome(ctx context.Context, unit string) (Outcome, error) {
	result, err := property[string](ctx, m, ofService, unit, "Result")
	if err != nil {
		return Outcome{}, err
	}
	code, err := property[int32](ctx, m, ofService, unit, "ExecMainCode")
	if err != nil {
		return Outcome{}, err
	}
	status, err := property[int32](ctx, m, ofService, unit, "ExecMainStatus")
	if err != nil {
		return Outcome{}, err
	}
	const exited = 1 // CLD_EXITED in sigaction(2)
	if code != exited {
		status += 128
	}
	return Outcome{result, int(status)}, nil
}

// ResetFailed has systemd forget that a unit failed, and one without a file
// altogether.
func (m *Manager) ResetFailed(ctx context.Context, unit string) error {
	state, err := m.Current(ctx, unit)
	if err == nil && state.ActiveState == "failed" {
		err = m.resetFailed(ctx, unit)
	}
	if err != nil {
		return fmt.Errorf("having systemd forget that %s failed: %w", unit, err)
	}
	return nil
}

func (m *Manager) resetFailed(ctx context.Context, unit string) error {
	return m.do(ctx, func(ctx context.Context, conn *connection) error { return conn.ResetFailedUnitContext(ctx, unit) })
}
