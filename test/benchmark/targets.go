// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"
)

// A limit is a figure and what it is to be at most.
type limit struct {
	figure        string
	target, value string
	measured, met bool
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
	ratio := func(figure string, most float64, k, other key) limit {
		value, ok := r.ratio(k, other, wallOf)
		return limit{figure, fmt.Sprintf("%.2f ×", most), fmt.Sprintf("%.2f ×", value), ok, value <= most}
	}
	wall := func(figure string, most time.Duration, k key) limit {
		value := r.wall(k)
		return limit{figure, duration(most), duration(value), r.has(k), value <= most}
	}
	bytes := func(figure string, most, value int64, measured bool) limit {
		return limit{figure, megabytes(most), megabytes(value), measured, value <= most}
	}

	call := func(name string, n int) key { return key{warm, name, n} }
	many := func(name string) key { return key{burst, name, 1000} }
	defined := func(f figure, n int) key { return key{f, "", n} }

	limits := []limit{
		ratio("podman, call to ready, of bare podman run", 1.10, call(podman, 0), call(barePodman, 0)),
		ratio("podman, call to ready, of the shell wrapper, 100 running", 0.60, call(podman, 100), call(shellCalls, 100)),
		ratio("systemd with an image, call to ready, of the shell wrapper", 0.15, call(withImage, 0), call(shellCalls, 0)),
		ratio("the same, 100 running", 0.15, call(withImage, 100), call(shellCalls, 100)),
	}
	for _, name := range []string{podman, systemd, withImage} {
		limits = append(limits, ratio(name+", call to ready with 1,000 running, of with 10", 1.15, call(name, 1000), call(name, 10)))
	}
	thousand := r[many(systemd)]
	up := quantile(thousand, 0, upOf) // in the worst round
	const most = 2 * time.Millisecond
	cpu := r.cpu(key{again, ourClient, 0}) - r.cpu(key{again, nothing, 0})
	return append(limits,
		limit{"systemd, burst of 1,000, how many are up", "1000", fmt.Sprint(up), len(thousand) > 0, up == 1000},
		ratio("systemd, burst of 1,000, of the same units in one transaction", 1.5, many(systemd), many(bareSystemd)),
		wall("generator, 6 definitions", 8*time.Millisecond, defined(generated, 6)),
		wall("generator, 1,000 definitions", 200*time.Millisecond, defined(generated, 1000)),
		ratio("generator, 6 definitions, of the same bytes", 2, defined(generated, 6), defined(copied, 6)),
		ratio("generator, 1,000 definitions, of the same bytes", 2, defined(generated, 1000), defined(copied, 1000)),
		bytes("activator, resident with 1,000 in flight", 25<<20, median(thousand, peakOf), len(thousand) > 0),
		bytes("activators, resident when idle", 0, b.facts.idle, true),
		bytes("client, size", 3<<20, b.facts.clientSize, true),
		limit{"client, CPU time of its own in a call", duration(most), duration(cpu), cpu > 0, cpu <= most},
	)
}
