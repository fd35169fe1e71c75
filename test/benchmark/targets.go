// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"
)

// A limit is a figure and what it is to be at most.
type limit struct {
	figure        string
	target, value string
	measured, met bool
	// why is the name of the template that says why it is missed; "" where nobody
	// has looked yet.
	why string
}

func (l limit) missed() bool { return l.measured && !l.met }

// reasons says of each target that is missed why it is, with figures of this run.
func (b *bench) reasons() string {
	var text strings.Builder
	said := map[string]bool{}
	for _, l := range b.limits() {
		switch {
		case !l.missed() || said[l.why] && l.why != "":
		case l.why == "":
			fmt.Fprintf(&text, "- **%s.** The reason is not known.\n", l.figure)
		default:
			said[l.why] = true
			if err := page.ExecuteTemplate(&text, l.why, reasonFigures{b.results}); err != nil {
				panic(err) // the template is part of this program
			}
		}
	}
	if text.Len() == 0 {
		return "None is.\n"
	}
	return text.String()
}

// reasonFigures are what reasons quote, as text; "?" for what is not of this run.
type reasonFigures struct{ r results }

// CPUEach is the CPU time of a burst for each of it.
func (q reasonFigures) CPUEach(contender string, n int) string {
	return q.of(key{burst, contender, n}, q.r.cpu(key{burst, contender, n})/time.Duration(n))
}

// Wall is the time of something.
func (q reasonFigures) Wall(f figure, contender string, n int) string {
	k := key{f, contender, n}
	return q.of(k, q.r.wall(k))
}

// CPUBeyond is by how much the CPU time of something of our client's is beyond that of
// nothing.
func (q reasonFigures) CPUBeyond(f figure) string {
	ours := key{f, ourClient, 0}
	return q.of(ours, q.r.cpu(ours)-q.r.cpu(key{f, nothing, 0}))
}

// Grows is how many times as long a call takes with 1,000 running as with 10.
func (q reasonFigures) Grows(contender string) string {
	ratio, ok := q.r.ratio(key{warm, contender, 1000}, key{warm, contender, 10}, wallOf)
	if !ok {
		return "?"
	}
	return fmt.Sprintf("%.2f", ratio)
}

func (q reasonFigures) of(k key, value time.Duration) string {
	if !q.r.has(k) {
		return "?"
	}
	return duration(value)
}

// targets are what is to be reached. What was missed stays in the table, with
// its figure.
func (b *bench) targets() string {
	rows := [][]string{{"figure", "target", "measured", "met"}}
	for _, l := range b.limits() {
		value, met := l.value, "**no**"
		switch {
		case !l.measured:
			value, met = "", "not in this run"
		case l.met:
			met = "yes"
		}
		rows = append(rows, []string{l.figure, l.target, value, met})
	}
	return table(rows)
}

func (b *bench) limits() []limit {
	r := b.results
	ratio := func(why, figure string, most float64, k, other key) limit {
		value, ok := r.ratio(k, other, wallOf)
		return limit{figure, fmt.Sprintf("%.2f ×", most), fmt.Sprintf("%.2f ×", value), ok, value <= most, why}
	}
	wall := func(why, figure string, most time.Duration, k key) limit {
		value := r.wall(k)
		return limit{figure, duration(most), duration(value), r.has(k), value <= most, why}
	}
	bytes := func(figure string, most, value int64, measured bool) limit {
		return limit{figure, megabytes(most), megabytes(value), measured, value <= most, ""}
	}

	call := func(name string, n int) key { return key{warm, name, n} }
	many := func(name string) key { return key{burst, name, 1000} }
	defined := func(f figure, n int) key { return key{f, "", n} }

	limits := []limit{
		ratio("podman", "podman, call to ready, of bare podman run", 1.10, call(podman, 0), call(barePodman, 0)),
		ratio("", "podman, call to ready, of the shell wrapper, 100 running", 0.60, call(podman, 100), call(shellCalls, 100)),
		ratio("image", "systemd with an image, call to ready, of the shell wrapper", 0.15, call(withImage, 0), call(shellCalls, 0)),
		ratio("image", "the same, 100 running", 0.15, call(withImage, 100), call(shellCalls, 100)),
	}
	for _, name := range []string{podman, systemd, withImage} {
		limits = append(limits,
			ratio("growth", name+", call to ready with 1,000 running, of with 10", 1.15, call(name, 1000), call(name, 10)))
	}
	thousand := r[many(systemd)]
	up := quantile(thousand, 0, upOf) // in the worst round
	const most = 2 * time.Millisecond
	cpu := r.cpu(key{again, ourClient, 0}) - r.cpu(key{again, nothing, 0})
	cpuMeasured := r.has(key{again, ourClient, 0}) && r.has(key{again, nothing, 0})
	return append(limits,
		limit{"systemd, burst of 1,000, how many are up", "1000", fmt.Sprint(up), len(thousand) > 0, up == 1000, ""},
		ratio("burst", "systemd, burst of 1,000, of the same units in one transaction", 1.5, many(systemd), many(bareSystemd)),
		wall("generator", "generator, 6 definitions", 8*time.Millisecond, defined(generated, 6)),
		wall("generator", "generator, 1,000 definitions", 200*time.Millisecond, defined(generated, 1000)),
		ratio("generator", "generator, 6 definitions, of the same bytes", 2, defined(generated, 6), defined(copied, 6)),
		ratio("generator", "generator, 1,000 definitions, of the same bytes", 2, defined(generated, 1000), defined(copied, 1000)),
		bytes("activator, resident with 1,000 in flight, at most", 25<<20, quantile(thousand, 1, peakOf), len(thousand) > 0),
		bytes("activators, resident when idle", 0, b.facts.idle, true),
		bytes("client, size", 3<<20, b.facts.clientSize, true),
		limit{"client, CPU time of its own in a call", duration(most), duration(cpu), cpuMeasured, cpu <= most, "client"},
	)
}
