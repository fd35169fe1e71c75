// SPDX-License-Identifier: Apache-2.0

// Package journal writes to the journal with the fields that requests are
// followed by, and reads from it why a unit failed.
package journal

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/coreos/go-systemd/v22/journal"
)

// Fields of what the activator logs, as journalctl(1) takes them:
// `journalctl SERVICE=neutron-dnsmasq NETNS=qdhcp-…`.
const (
	Service = "SERVICE"    // service_name of the definition
	Netns   = "NETNS"      // network namespace
	Request = "REQUEST_ID" // follows one request from the wrapper to the sidecar
	Unit    = "UNIT"       // unit of the sidecar
	PID     = "SIDECAR_PID"
	// Result is how a request ended, one of the results below, and ReadyUsec
	// how long a sidecar took to become ready, in microseconds.
	Result    = "RESULT"
	ReadyUsec = "READY_USEC"
	// ObjectUnit makes `journalctl -u UNIT` show a line of the activator among
	// those of the sidecar (systemd.journal-fields(7)).
	ObjectUnit = "OBJECT_SYSTEMD_UNIT"
)

// Results of requests. Each try of a spooled request has its own, and a spooled
// request that is not tried again has another.
const (
	Started = "started"
	Running = "running" // with the same arguments, so nothing was done
	Ran     = "ran"     // a control command, whatever its exit status
	Failed  = "failed"
	Refused = "refused"
	Dropped = "dropped" // spooled, and its network namespace is gone or a later request was served
	GaveUp  = "gave-up" // spooled, and failed in every try
)

// NewLogger returns a logger whose attributes become fields of the journal.
// Where standard error is not connected to the journal, it writes lines of text
// there instead. Attributes' keys are names of fields. In the journal, a message
// with the field Unit begins with that unit, as systemd's own do.
func NewLogger(stderr io.Writer, debug bool) *slog.Logger {
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	if connected, err := journal.StderrIsJournalStream(); err == nil && connected {
		return slog.New(&handler{level: level, identifier: "tripleo-wrappers-activator"})
	}
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
}

// NewJournal returns a logger that writes to the journal wherever standard error
// is: that of a command whose terminal is for its answer. Its identifier stands
// before each line in journalctl's output.
func NewJournal(identifier string) *slog.Logger {
	return slog.New(&handler{level: slog.LevelInfo, identifier: identifier})
}

type handler struct {
	level      slog.Level
	identifier string
	attrs      []slog.Attr
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

func (h *handler) Handle(_ context.Context, record slog.Record) error {
	fields := map[string]string{"SYSLOG_IDENTIFIER": h.identifier}
	add := func(attr slog.Attr) bool {
		if value := attr.Value.Resolve().String(); value != "" {
			fields[attr.Key] = value
			if attr.Key == Unit {
				fields[ObjectUnit] = value
			}
		}
		return true
	}
	for _, attr := range h.attrs {
		add(attr)
	}
	record.Attrs(add)
	message := record.Message
	if unit := fields[Unit]; unit != "" {
		message = unit + ": " + message
	}
	if err := journal.Send(message, priority(record.Level), fields); err != nil {
		return fmt.Errorf("writing to the journal: %w", err)
	}
	return nil
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.level, h.identifier, append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

// WithGroup is without effect: the journal's fields have no groups.
func (h *handler) WithGroup(string) slog.Handler { return h }

func priority(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	case level >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
