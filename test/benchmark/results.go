// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"time"
)

// A figure is a kind of measurement.
type figure string

const (
	cold      figure = "cold"      // wrapper call to ready, with no activator
	warm      figure = "warm"      // wrapper call to ready
	gone      figure = "gone"      // kill call to gone
	burst     figure = "burst"     // many at once, all up
	reload    figure = "reload"    // systemctl daemon-reload
	generated figure = "generator" // with so many definitions
	copied    figure = "copy"      // the same bytes, read and written
	startUp   figure = "start-up"  // of a program that does nothing
	again     figure = "again"     // wrapper call for what runs already
)

// Whose the last two are.
const (
	ourClient = "tripleo-wrapper"
	nothing   = "true"
)

// A measurement is one piece of work.
type measurement struct {
	round     int
	wall, cpu time.Duration
	up        int   // how many of a burst came up
	memory    int64 // of one sidecar, after a burst
	peak      int64 // of the activator, after a burst
}

// A key says what was measured: of whom, and with how many running, at once, or
// defined.
type key struct {
	figure    figure
	contender string
	n         int
}

// results are all measurements, in the order in which they were made.
type results map[key][]measurement

func (r results) add(k key, m measurement) { r[k] = append(r[k], m) }

func (r results) has(k key) bool { return len(r[k]) > 0 }

// median returns the median of one value of all measurements, 0 if there are
// none.
func median[T int | int64 | time.Duration](all []measurement, value func(measurement) T) T {
	return quantile(all, 0.5, value)
}

// quantile returns the value below which a share of all measurements is; between
// two of them, one in proportion.
func quantile[T int | int64 | time.Duration](all []measurement, share float64, value func(measurement) T) T {
	values := make([]T, 0, len(all))
	for _, m := range all {
		values = append(values, value(m))
	}
	return quantileOf(values, share)
}

func quantileOf[T int | int64 | time.Duration | float64](values []T, share float64) T {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	place := share * float64(len(values)-1)
	below := int(place)
	above := min(below+1, len(values)-1)
	return values[below] + T((place-float64(below))*float64(values[above]-values[below]))
}

func wallOf(m measurement) time.Duration { return m.wall }
func cpuOf(m measurement) time.Duration  { return m.cpu }
func upOf(m measurement) int             { return m.up }
func memoryOf(m measurement) int64       { return m.memory }
func peakOf(m measurement) int64         { return m.peak }

func (r results) wall(k key) time.Duration { return median(r[k], wallOf) }
func (r results) cpu(k key) time.Duration  { return median(r[k], cpuOf) }

// ratio compares two by the median of the ratios of each round in which both are
// there: they are of about the same time, and of the same machine.
func (r results) ratio(k, other key, value func(measurement) time.Duration) (float64, bool) {
	beside := map[int]time.Duration{}
	for _, m := range r[other] {
		beside[m.round] = value(m)
	}
	var ratios []float64
	for _, m := range r[k] {
		if of := beside[m.round]; of > 0 {
			ratios = append(ratios, float64(value(m))/float64(of))
		}
	}
	return quantileOf(ratios, 0.5), len(ratios) > 0
}
