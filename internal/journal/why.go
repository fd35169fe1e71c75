// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Failure is why a unit failed, as its journal tells it.
type Failure struct {
	// Result is the unit's, such as "exit-code", "timeout" or "oom-kill"
	// (systemd.exec(5), $SERVICE_RESULT); "" if it is not known. It is Success
	// for a unit that ended all the same: that is no failure to systemd.
	Result string
	// ExitStatus is that of the unit's process: an exit status, or 128 and the
	// number of the signal that killed it; 0 if it is not known.
	ExitStatus int
	// Lines is what the unit's processes wrote last, or why systemd could not
	// start them, oldest first.
	Lines []string
}

// Success is the result of a unit whose process ended with exit status 0, or in
// another way that its SuccessExitStatus= takes for that.
const Success = "success"

const (
	// maxLines is how many of a unit's last lines a failure has: enough for a
	// message with its context, few enough for an agent's log.
	maxLines = 10
	// maxEntries bounds how much of the journal is read.
	maxEntries = 200
)

// Message ids of systemd's own entries (systemd/sd-messages.h).
const (
	messageProcessExit = "98e322203f7a4ed290d09fe03c09fe15" // SD_MESSAGE_UNIT_PROCESS_EXIT
	messageSuccess     = "7ad2d189f7e94e70a38c781354912448" // SD_MESSAGE_UNIT_SUCCESS
	messageFailure     = "d9b373ed55a64feb8242e02dbe79a49c" // SD_MESSAGE_UNIT_FAILURE_RESULT
	messageSpawnFailed = "641257651c1b4ec9a8624d7a40a9e1e7" // SD_MESSAGE_SPAWN_FAILED
)

// Why returns why a unit failed that was started at that time or later. It
// asks the journal rather than the manager: the unit of a failed sidecar is
// gone as soon as it has failed (CollectMode=inactive-or-failed).
func Why(ctx context.Context, unit string, since time.Time) (Failure, error) {
	Sync(ctx) // what was written before the failure

	entries, err := OfUnit(ctx, Query{Since: since, Lines: maxEntries, Matches: []string{"--unit=" + unit}})
	if err != nil {
		return Failure{}, fmt.Errorf("looking for why %s failed: %w", unit, err)
	}
	// What keeps systemd from running a program is said by a process that is
	// not systemd's first and has ended by the time that its line arrives.
	spawn, err := Read(ctx, Query{Since: since, Lines: maxEntries, Matches: []string{"UNIT=" + unit, "MESSAGE_ID=" + messageSpawnFailed}})
	if err != nil {
		return Failure{}, fmt.Errorf("looking for why %s failed: %w", unit, err)
	}
	return why(unit, merge(entries, spawn)), nil
}

// Sync waits until what has been written is in the journal. Where that does not
// work, as without root's rights, some of it may be missed.
func Sync(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	_ = exec.CommandContext(ctx, "journalctl", "--sync").Run()
}

// syncTimeout is longer than journald takes that is not stuck.
const syncTimeout = 5 * time.Second

// OfUnit reads the entries of a unit that a query selects, and those of the
// unit's processes that it misses. journald looks up a process's unit when a
// line of it arrives, and finds none if the process has ended by then. The line
// is still of the unit's standard output, whose stream has a name.
func OfUnit(ctx context.Context, query Query) ([]Entry, error) {
	entries, err := Read(ctx, query)
	if err != nil {
		return nil, err
	}
	matches := streams(entries)
	if len(matches) == 0 {
		return entries, nil
	}
	query.Matches = matches
	more, err := Read(ctx, query)
	if err != nil {
		return nil, err
	}
	return merge(entries, more), nil
}

// merge joins two lists of entries in the order of time, without doubles.
func merge(entries, more []Entry) []Entry {
	known := map[string]bool{}
	for _, entry := range entries {
		known[entry.Cursor] = true
	}
	for _, entry := range more {
		if !known[entry.Cursor] {
			entries = append(entries, entry)
		}
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	return entries
}

// streams returns matches, any of which may hold, for the streams that are
// named in entries.
func streams(entries []Entry) []string {
	var matches []string
	for _, entry := range entries {
		// Several values of one field match any of them.
		if match := "_STREAM_ID=" + entry.Stream; entry.Stream != "" && !slices.Contains(matches, match) {
			matches = append(matches, match)
		}
	}
	return matches
}

func why(unit string, entries []Entry) Failure {
	var failure Failure
	say := func(text string) {
		if text != "" && !said(failure.Lines, text) {
			failure.Lines = append(failure.Lines, text)
		}
	}
	for _, entry := range entries {
		switch {
		case entry.MessageID == messageProcessExit:
			// The first that fails is the cause, later ones are clearing up.
			if status, err := strconv.Atoi(entry.ExitStatus); err == nil && status != 0 && failure.ExitStatus == 0 {
				if entry.ExitCode != "exited" {
					status += 128
				}
				failure.ExitStatus = status
			}
		case entry.MessageID == messageFailure:
			failure.Result = entry.UnitResult
		case entry.MessageID == messageSuccess:
			failure.Result = Success
		case entry.MessageID == messageSpawnFailed && entry.Warning():
			say(strings.TrimPrefix(OneLine(entry.Message), unit+": "))
		case entry.Transport == "stdout" || entry.Transport == "syslog":
			say(OneLine(entry.Message))
		}
	}
	if extra := len(failure.Lines) - maxLines; extra > 0 {
		failure.Lines = failure.Lines[extra:]
	}
	return failure
}

// said says whether a line is there already. Programs like to write a message
// to the system log and, behind their name, to standard error.
func said(lines []string, line string) bool {
	return slices.ContainsFunc(lines, func(other string) bool {
		return other == line || strings.HasSuffix(other, ": "+line) || strings.HasSuffix(line, ": "+other)
	})
}
