// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// A record is what has been measured so far. A long run can be broken off, and
// goes on from its record in another sitting. It does not matter which one that
// is: figures are compared with others of the same rounds. Its file is a stream of
// JSON: the record, then a row for each measurement.
type record struct {
	Of       string         // see fingerprint; figures of other programs are not for this record
	Sittings []sitting      // in order
	Rounds   map[string]int // how many of each kind are done
	Lost     int
	Problems []string

	next *sitting // this one, until it has a round to do
}

// A sitting is a time without a break.
type sitting struct {
	Began   time.Time
	Took    time.Duration
	Load    string // when it began
	Machine string
}

// A row is a measurement and what it is of.
type row struct {
	Figure    figure
	Contender string
	N         int
	Round     int
	Wall, CPU time.Duration
	Up        int   `json:",omitempty"`
	Memory    int64 `json:",omitempty"`
	Peak      int64 `json:",omitempty"`
}

// errTimeUp says that a sitting has ended before all is measured.
var errTimeUp = errors.New("the time is up")

// method is how all is measured.
//
//go:embed contenders.go host.go measure.go today
var method embed.FS

// fingerprint returns a digest of the programs that are measured and of how they are:
// what comes after, such as the page, may change.
func fingerprint() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(method, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := method.ReadFile(name)
		sum.Write(content)
		return err
	})
	for _, name := range []string{generator, layout.Activator(), layout.ClientBinary()} {
		content, readErr := os.ReadFile(name)
		sum.Write(content)
		err = errors.Join(err, readErr)
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), err
}

// resume begins a sitting on a machine, of what has that digest: it takes up what is
// in a file of that name, and has each round kept there. Where there is none, all
// begins. Where all is done, there is no sitting, and a page made once more says what
// it did.
func (b *bench) resume(name string, m machine, digest string) error {
	b.record = record{Of: digest, Rounds: map[string]int{}}
	b.recordFile = name
	if name != "" {
		content, err := os.ReadFile(name)
		if err == nil {
			err = b.takeUp(content)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("going on from %s: %w", name, err)
		}
	}
	b.record.next = &sitting{Began: m.began, Load: m.load, Machine: m.String()}
	return nil
}

func (b *bench) takeUp(content []byte) error {
	var old record
	stream := json.NewDecoder(bytes.NewReader(content))
	if err := stream.Decode(&old); err != nil {
		return err
	}
	if old.Of != b.record.Of || old.Rounds == nil {
		return errors.New("it is of other programs, or they were measured in another way; take it away to begin anew")
	}
	for {
		var r row
		err := stream.Decode(&r)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		b.results.add(key{r.Figure, r.Contender, r.N}, measurement{r.Round, r.Wall, r.CPU, r.Up, r.Memory, r.Peak})
	}
	for _, problem := range old.Problems {
		b.problems = append(b.problems, errors.New(problem))
	}
	b.facts.lost = old.Lost
	b.record = old
	return nil
}

// rounds has rounds of a kind done until there are as many as planned, with
// those of earlier sittings, and keeps each.
func (b *bench) rounds(kind string, round func() error) error {
	for b.record.Rounds[kind] < b.plan.Rounds {
		if !b.until.IsZero() && time.Now().After(b.until) {
			return errTimeUp
		}
		if b.record.next != nil {
			b.record.Sittings = append(b.record.Sittings, *b.record.next)
			b.record.next = nil
		}
		b.round = b.record.Rounds[kind]
		if err := round(); err != nil {
			return err
		}
		b.record.Rounds[kind]++
		if err := b.keep(); err != nil {
			return fmt.Errorf("keeping what is measured: %w", err)
		}
	}
	return nil
}

// done says whether all rounds of a kind are.
func (b *bench) done(kind string) bool { return b.record.Rounds[kind] >= b.plan.Rounds }

// keep writes the record, at once or not at all.
func (b *bench) keep() error {
	if b.record.next == nil { // this sitting is the last one
		now := &b.record.Sittings[len(b.record.Sittings)-1]
		now.Took = time.Since(now.Began)
	}
	if b.recordFile == "" {
		return nil
	}
	b.record.Lost, b.record.Problems = b.facts.lost, nil
	for _, problem := range b.problems {
		b.record.Problems = append(b.record.Problems, problem.Error())
	}
	var rows []row
	for k, all := range b.results {
		for _, m := range all {
			rows = append(rows, row{k.figure, k.contender, k.n, m.round, m.wall, m.cpu, m.up, m.memory, m.peak})
		}
	}
	slices.SortStableFunc(rows, func(x, y row) int {
		return cmp.Or(cmp.Compare(x.Figure, y.Figure), cmp.Compare(x.N, y.N),
			cmp.Compare(x.Contender, y.Contender), cmp.Compare(x.Round, y.Round))
	})
	var text bytes.Buffer
	stream := json.NewEncoder(&text) // a line each
	err := stream.Encode(b.record)
	for _, r := range rows {
		err = errors.Join(err, stream.Encode(r))
	}
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.recordFile+".new", text.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(b.recordFile+".new", b.recordFile)
}

// sat returns the days of all sittings, how long they took together, the loads that
// they began with, and the machines.
func (r *record) sat() (days string, took time.Duration, loads string, machines []string) {
	var dates, all []string
	for _, s := range r.Sittings {
		if date := s.Began.UTC().Format(time.DateOnly); !slices.Contains(dates, date) {
			dates = append(dates, date)
		}
		took += s.Took
		all = append(all, s.Load)
		if !slices.Contains(machines, s.Machine) {
			machines = append(machines, s.Machine)
		}
	}
	return strings.Join(dates, " and "), took, strings.Join(all, ", "), machines
}
