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
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
	if _, err := a.keepFailed(failed); err != nil {
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

// What is kept of lines is about as long as they are, and is not in memory all at
// once: what a spool may hold is too much for that, several times over.
func TestGivenUpLongLines(t *testing.T) {
	const lines, long = 8, 1 << 20
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "test"), 0o755); err != nil {
		t.Fatal(err)
	}
	a := &Activator{service: &options.Service{Name: "test", Dir: dir}, log: slog.New(slog.DiscardHandler)}
	argument := strings.Repeat("<&>", long/3)
	var failed []*spooled
	for i := range lines {
		failed = append(failed, &spooled{
			Request: spool.Request{Netns: fmt.Sprint("q", i), Start: protocol.NewStart("", []string{argument}, nil)}, err: errors.New("no room"),
		})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := a.keepFailed(failed); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := (after.Sys - before.Sys) >> 20; got > 3*lines {
		t.Errorf("it took %d MiB", got)
	}
	kept, err := os.ReadFile(filepath.Join(dir, "test", layout.SpoolFailed))
	if err != nil {
		t.Fatal(err)
	}
	if len(kept) > (lines+1)*long {
		t.Errorf("%d bytes are kept of %d", len(kept), lines*long)
	}
	for i := range lines {
		if want := fmt.Sprintf(`"netns":"q%d","arguments":["<&>`, i); !strings.Contains(string(kept), want) {
			t.Errorf("request %d is not among them", i)
		}
	}
}

// Where some of them cannot be kept, these are tried again, and no others.
func TestGivenUpInParts(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "test"), 0o755); err != nil {
		t.Fatal(err)
	}
	a := &Activator{service: &options.Service{Name: "test", Dir: dir}, log: slog.New(slog.DiscardHandler)}
	var failed []*spooled
	for i := range 4 {
		failed = append(failed, &spooled{
			Request: spool.Request{Netns: fmt.Sprint("q", i), Start: protocol.NewStart("", []string{strings.Repeat("x", failedPart-1000)}, nil)},
			err:     errors.New("no room"),
		})
	}
	// The file system is full.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	full := limit
	full.Cur = 2 * failedPart
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &full); err != nil {
		t.Fatal(err)
	}
	rest, err := a.keepFailed(failed)
	if limitErr := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); limitErr != nil {
		t.Fatal(limitErr)
	}
	if !errors.Is(err, unix.EFBIG) || len(rest) != 2 || rest[0].Netns != "q2" {
		t.Fatalf("%d of 4 are left, error %v", len(rest), err)
	}
	if rest, err = a.keepFailed(rest); err != nil || len(rest) != 0 {
		t.Fatalf("%d are left, error %v", len(rest), err)
	}
	kept, err := os.ReadFile(filepath.Join(dir, "test", layout.SpoolFailed))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(kept), "x\"]}\n"); got != len(failed) {
		t.Errorf("%d are kept, want %d", got, len(failed))
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
