// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// A record is what has been measured so far. A long run can be broken off, and
// goes on from its record in another sitting. It does not matter which one that
// is: figures are compared with others of the same rounds. Only those that tell
// how a contender grows are compared with its own of other rounds.
type record struct {
	Of       string         // machine and programs; figures of others are not for this record
	Sittings []sitting      // in order
	Rounds   map[string]int // how many of each kind are done
	Lost     int
	Problems []string
	Results  []row
}

// A sitting is a time without a break.
type sitting struct {
	Began time.Time
	Took  time.Duration
	Load  string // when it began
}

// A row is a measurement and what it is of.
type row struct {
	Figure    figure
	Contender string
	N         int
	Wall, CPU time.Duration
	Up        int   `json:",omitempty"`
	Memory    int64 `json:",omitempty"`
	Peak      int64 `json:",omitempty"`
}

// errTimeUp says that a sitting has ended before all is measured.
var errTimeUp = errors.New("the time is up")

// programs returns a digest of the programs that are measured, and of this one.
func programs() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, name := range []string{self, generator, layout.Activator(), layout.ClientBinary()} {
		content, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		sum.Write(content)
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}

// resume begins a sitting, of programs with that digest: it takes up what is in a
// file of that name, and has each round kept there. Where there is none, all
// begins.
func (b *bench) resume(name string, m machine, digest string) error {
	b.record = record{Of: m.String() + "\n" + digest, Rounds: map[string]int{}}
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
	b.record.Sittings = append(b.record.Sittings, sitting{Began: m.began, Load: m.load})
	return nil
}

func (b *bench) takeUp(content []byte) error {
	var old record
	if err := json.Unmarshal(content, &old); err != nil {
		return err
	}
	if old.Of != b.record.Of || old.Rounds == nil {
		return errors.New("it is of another machine or of other programs; take it away to begin anew")
	}
	for _, r := range old.Results {
		b.results.add(key{r.Figure, r.Contender, r.N}, measurement{wall: r.Wall, cpu: r.CPU, up: r.Up, memory: r.Memory, peak: r.Peak})
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
	now := &b.record.Sittings[len(b.record.Sittings)-1]
	now.Took = time.Since(now.Began)
	if b.recordFile == "" {
		return nil
	}
	b.record.Lost, b.record.Problems, b.record.Results = b.facts.lost, nil, nil
	for _, problem := range b.problems {
		b.record.Problems = append(b.record.Problems, problem.Error())
	}
	for k, all := range b.results {
		for _, m := range all {
			b.record.Results = append(b.record.Results,
				row{k.figure, k.contender, k.n, m.wall, m.cpu, m.up, m.memory, m.peak})
		}
	}
	slices.SortStableFunc(b.record.Results, func(x, y row) int {
		return cmp.Or(cmp.Compare(x.Figure, y.Figure), cmp.Compare(x.N, y.N), cmp.Compare(x.Contender, y.Contender))
	})
	text, err := json.Marshal(b.record)
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.recordFile+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(b.recordFile+".new", b.recordFile)
}

// sat returns the days of all sittings, how long they took together, and the
// loads that they began with.
func (r *record) sat() (days string, took time.Duration, loads string) {
	var dates, all []string
	for _, s := range r.Sittings {
		if date := s.Began.UTC().Format(time.DateOnly); !slices.Contains(dates, date) {
			dates = append(dates, date)
		}
		took += s.Took
		all = append(all, s.Load)
	}
	return strings.Join(dates, " and "), took, strings.Join(all, " and ")
}
