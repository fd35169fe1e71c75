// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func walls(values ...time.Duration) []measurement {
	var all []measurement
	for _, value := range values {
		all = append(all, measurement{wall: value})
	}
	return all
}

func TestQuantile(t *testing.T) {
	for _, test := range []struct {
		all   []measurement
		share float64
		want  time.Duration
	}{
		{nil, 0.5, 0},
		{walls(7), 0.5, 7},
		{walls(30, 10, 20), 0.5, 20},
		{walls(40, 10, 30, 20), 0.5, 25},
		{walls(40, 10, 30, 20, 50), 0.25, 20},
		{walls(40, 10, 30, 20, 50), 1, 50},
	} {
		if got := quantile(test.all, test.share, wallOf); got != test.want {
			t.Errorf("%v of %v: got %v, want %v", test.share, test.all, got, test.want)
		}
	}
}

// What is compared was measured in the same round, on a machine that was as fast.
func TestRatio(t *testing.T) {
	k, other, missing := key{warm, podman, 0}, key{warm, barePodman, 0}, key{warm, docker, 0}
	r := results{
		k:     {{round: 0, wall: 11}, {round: 1, wall: 48}, {round: 2, wall: 13}},
		other: {{round: 0, wall: 10}, {round: 1, wall: 40}, {round: 3, wall: 99}},
	}
	if ratio, ok := r.ratio(k, other, wallOf); !ok || ratio < 1.149 || ratio > 1.151 {
		t.Errorf("got %v, %v, want that between 1.1 and 1.2", ratio, ok)
	}
	if _, ok := r.ratio(k, missing, wallOf); ok {
		t.Error("it is compared with what is not there")
	}
}

// measured is a run in which Podman met its target with nothing running, and
// missed the one with 100; systemd grew too much, and the limit did as well; of a
// burst, not all came up.
func measured() *bench {
	b := &bench{plan: full, contenders: contenders(), results: results{}}
	b.results[key{warm, podman, 0}] = walls(105 * time.Millisecond)
	b.results[key{warm, barePodman, 0}] = walls(100 * time.Millisecond)
	b.results[key{warm, podman, 100}] = walls(90 * time.Millisecond)
	b.results[key{warm, shellCalls, 100}] = walls(100 * time.Millisecond)
	b.results[key{warm, systemd, 10}] = walls(20 * time.Millisecond)
	b.results[key{warm, systemd, 1000}] = walls(40 * time.Millisecond)
	b.results[key{warm, bareSystemd, 10}] = walls(10 * time.Millisecond)
	b.results[key{warm, bareSystemd, 1000}] = walls(15 * time.Millisecond)
	b.results[key{burst, pathUnit, 20}] = []measurement{{wall: 5 * time.Second, up: 5}}
	return b
}

func TestTargets(t *testing.T) {
	table := measured().targets()
	for _, line := range []string{
		"| podman, call to ready, of bare podman run | 1.10 × | 1.05 × | yes |",
		"| podman, call to ready, of the shell wrapper, 100 running | 0.60 × | 0.90 × | **no** |",
		"| podman, call to ready with 1,000 running, of with 10 | 1.15 × |  | not in this run |",
	} {
		if !strings.Contains(table, line+"\n") {
			t.Errorf("there is no line %q in\n%s", line, table)
		}
	}
}

// Each target that is missed has its reason, once, and no other has.
func TestReasons(t *testing.T) {
	b := measured()
	reasons := b.reasons()
	for _, part := range []string{
		"- **podman, call to ready, of the shell wrapper, 100 running.** The reason is not known.\n",
		"- **with 1,000 running, of with 10.** Each",
		"the bare systemctl takes 1.50 times as long",
		"the bare `podman run` ? times",
	} {
		if strings.Count(reasons, part) != 1 {
			t.Errorf("%q is not there once in\n%s", part, reasons)
		}
	}
	if strings.Count(reasons, "- **") != 2 {
		t.Errorf("there are others:\n%s", reasons)
	}
	for _, l := range b.limits() {
		if l.why == "" {
			continue
		}
		var text strings.Builder
		if err := page.ExecuteTemplate(&text, l.why, reasonFigures{b.results}); err != nil || !strings.HasPrefix(text.String(), "- **") {
			t.Errorf("%s: %v\n%s", l.figure, err, text.String())
		}
	}
}

func TestReport(t *testing.T) {
	b := measured()
	b.problems = []error{errors.New("docker: away")}
	b.record.Sittings = []sitting{{Machine: "Some Processor"}}
	text := report(b, "test/bench")
	for _, part := range []string{
		"| podman | 105 ms (1.05 ×), 0.0 ms CPU, of 1 |",
		"| path unit | 5.00 s, 0.0 ms CPU, **5 up**, of 1 |",
		"of\nthis machine, with a load of  when it began:\n\n    Some Processor\n\n![Chart",
		"**Failed**: docker: away",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in\n%s", part, text)
		}
	}
}

func TestChart(t *testing.T) {
	picture := chart(measured())
	decoder := xml.NewDecoder(strings.NewReader(string(picture)))
	for {
		if _, err := decoder.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, picture)
		}
	}
	for _, part := range []string{">105 ms<", ">1.00 s, 5 of 20 up<"} {
		if !strings.Contains(string(picture), part) {
			t.Errorf("%q is not in\n%s", part, picture)
		}
	}
}

// A burst that takes long is one of some rounds, the same ones for all.
func TestRareBursts(t *testing.T) {
	c := contender{maxBurst: 20, rareBurst: 100}
	for _, test := range []struct {
		n, round int
		want     bool
	}{{20, 0, true}, {20, 1, true}, {100, 0, true}, {100, 1, false}, {100, rareRound, true}, {300, 0, false}} {
		if got := c.bursts(test.n, test.round); got != test.want {
			t.Errorf("%d at once in round %d: %v", test.n, test.round, got)
		}
	}
}

func TestBareUnit(t *testing.T) {
	got := bareUnit("[Service]\nExecStart=wrapper -- dnsmasq -k\nRestart=no\n")
	if !strings.HasPrefix(got, "[Service]\nExecStart=/usr/sbin/dnsmasq -k --no-hosts ") ||
		!strings.HasSuffix(got, "\nKillSignal=SIGKILL\nRestart=no\n") {
		t.Errorf("got\n%s", got)
	}
}

// The limit of the generator writes what the generator did.
func TestCopyUnits(t *testing.T) {
	definitions, units, to := t.TempDir(), t.TempDir(), t.TempDir()
	if err := writeDefinitions(definitions, 2); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(units, "a.service"), []byte("text"), 0o644),
		os.Symlink("a.service", filepath.Join(units, "link"))); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "units.tar")
	if err := shell("tar --create --file=%s --directory=%s .", archive, units); err != nil {
		t.Fatal(err)
	}
	if err := copyUnits(definitions, archive, to); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(filepath.Join(to, "a.service")); err != nil || string(content) != "text" {
		t.Errorf("got %q, %v", content, err)
	}
	if link, err := os.Readlink(filepath.Join(to, "link")); err != nil || link != "a.service" {
		t.Errorf("got a link to %q, %v", link, err)
	}
}

// What is measured in one sitting is there in the next, which does the rounds
// that are left; that of other programs is left alone.
func TestResume(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record")
	k := key{burst, systemd, 20}
	sit := func(rounds int) *bench {
		t.Helper()
		b := &bench{plan: plan{Rounds: rounds}, results: results{}}
		if err := b.resume(file, machine{began: time.Unix(0, 0), load: "0.10", processor: "Some Processor"}, "programs"); err != nil {
			t.Fatal(err)
		}
		err := b.rounds("20 at once", func() error {
			b.add(k, measurement{wall: time.Duration(len(b.results[k]) + 1), up: 20, memory: 3})
			b.facts.lost++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sit(2)
	b := sit(5)
	want := walls(1, 2, 3, 4, 5)
	for i := range want {
		want[i].round, want[i].up, want[i].memory = i, 20, 3
	}
	if !slices.Equal(b.results[k], want) || b.facts.lost != 5 {
		t.Errorf("got %v and %d lost", b.results[k], b.facts.lost)
	}
	days, _, loads, machines := b.record.sat()
	if days != "1970-01-01" || loads != "0.10, 0.10" || len(machines) != 1 || !strings.Contains(machines[0], "Some Processor") {
		t.Errorf("days %q, loads %q, machines %q", days, loads, machines)
	}
	// There is nothing left to do, so none sits.
	b = sit(5)
	sittings := slices.Clone(b.record.Sittings)
	if err := b.keep(); err != nil || len(sittings) != 2 || !slices.Equal(b.record.Sittings, sittings) {
		t.Errorf("%v: sittings are %v, were %v", err, b.record.Sittings, sittings)
	}

	b.until = time.Unix(1, 0)
	if err := b.rounds("another", func() error { return nil }); !errors.Is(err, errTimeUp) {
		t.Errorf("a round begins when the time is up: %v", err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.resume(file, machine{processor: "Some Processor"}, "other programs"); err == nil {
		t.Error("what was measured of other programs is gone on from")
	}
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, content) {
		t.Errorf("it is not left alone: %v", err)
	}
}
