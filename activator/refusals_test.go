// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/spool"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

func TestRefusals(t *testing.T) {
	var r refusals
	now := time.Now()
	count := func(caller string, n int) (logged, told int) {
		for range n {
			ok, leftOut := r.next(caller, now)
			if ok {
				logged++
			}
			told += leftOut
		}
		return logged, told
	}
	if logged, told := count("0 /one", 100000); logged != refusalLines || told != 0 {
		t.Errorf("of 100,000 refusals %d are logged, and %d told of", logged, told)
	}
	// One caller does not take another's.
	if logged, _ := count("0 /other", 1); logged != 1 {
		t.Error("the refusal of another caller is not logged")
	}
	now = now.Add(refusalPeriod)
	if logged, told := count("0 /one", 1); logged != 1 || told != 100000-refusalLines {
		t.Errorf("in the next period, %d are logged, and %d of the one before told of", logged, told)
	}
	// Whoever can have many names is not told apart for ever.
	total := 0
	for i := range 10000 {
		logged, _ := count(fmt.Sprint(i), 1)
		total += logged
	}
	if limit := refusedCallers + refusalLines; total > limit {
		t.Errorf("of 10,000 callers, %d are logged, more than %d", total, limit)
	}
	if rest := r.rest(); rest != 10000-total || r.rest() != 0 {
		t.Errorf("%d are left to tell of, want %d", rest, 10000-total)
	}
}

// However many lines of a spool are given up, few are in the journal. All of them
// are kept.
func TestGivenUpLines(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "test"), 0o755); err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	a := &Activator{service: &options.Service{Name: "test", Dir: dir}, log: slog.New(slog.NewTextHandler(&logged, nil))}
	var failed []*spooled
	add := func(netns, cause string) {
		failed = append(failed, &spooled{Request: spool.Request{Netns: netns}, err: errors.New(cause)})
	}
	const lines = 20000
	for range lines {
		add("a/b", "no name")
	}
	add("qdhcp-1", "no room")
	add("c/d", strings.Repeat("x", 1<<20))
	if err := a.keepFailed(failed); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(dir, "test", layout.SpoolFailed))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(kept), "\"netns\":"); got != lines+2 {
		t.Errorf("%d lines are kept, want %d", got, lines+2)
	}
	if line := len("x") << 20; len(kept) > lines*200+line/2 {
		t.Errorf("what is kept of the reasons is long: %d bytes", len(kept))
	}
	if got := strings.Count(logged.String(), "level=ERROR"); got != refusalLines+1 {
		t.Errorf("%d lines are logged, want %d", got, refusalLines+1)
	}
	if want := fmt.Sprintf("no room; it is kept in %s/test/%s", dir, layout.SpoolFailed); !strings.Contains(logged.String(), want) ||
		!strings.Contains(logged.String(), journal.Netns+"=qdhcp-1") {
		t.Errorf("the request among them is not logged:\n%s", &logged)
	}
	if rest := a.refusals.rest(); rest != lines+1-refusalLines {
		t.Errorf("%d more are told of, want %d", rest, lines+1-refusalLines)
	}
}

// What a caller is told fits into one message, whatever it is about.
func TestLongMessage(t *testing.T) {
	lines := slices.Repeat([]string{strings.Repeat("<", 1<<20)}, 10) // as many as journal.Why returns
	err := failure(protocol.ErrorFailed, protocol.Failure{Message: strings.Repeat("\x01", 1<<20), Log: lines})
	text, jsonErr := json.Marshal(err)
	if jsonErr != nil || len(text) > varlink.MaxMessage {
		t.Errorf("%d bytes, error %v; want at most %d", len(text), jsonErr, varlink.MaxMessage)
	}
}

func TestLongReason(t *testing.T) {
	for _, test := range []struct{ message, want string }{
		{"two\nlines", "two lines"},
		{strings.Repeat("x", longestReason), strings.Repeat("x", longestReason)},
		{strings.Repeat("x", longestReason-1) + "é", strings.Repeat("x", longestReason-1) + "…"},
	} {
		if got := reason(errors.New(test.message)); got != test.want {
			t.Errorf("%d bytes: %d bytes, ending with %q", len(test.message), len(got), got[len(got)-10:])
		}
	}
}
