// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxDuration is the longest a definition may ask anybody to wait.
const maxDuration = 24 * time.Hour

// The units of systemd.time(7) that are not longer than maxDuration.
var durationUnits = map[string]time.Duration{
	"us": time.Microsecond, "usec": time.Microsecond, "µs": time.Microsecond, "μs": time.Microsecond,
	"ms": time.Millisecond, "msec": time.Millisecond,
	"": time.Second, "s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour,
}

// ParseDuration reads a time span as systemd.time(7) writes it, "1h 30min" for
// example. A number without a unit is seconds.
func ParseDuration(text string) (time.Duration, error) {
	rest := strings.TrimSpace(text)
	switch {
	case rest == "":
		return 0, errors.New(`is empty; write for example "60s" or "2min"`)
	case rest == "infinity":
		return 0, errors.New(`is "infinity", but every wait has a deadline; write for example "60s" or "2min"`)
	case strings.HasPrefix(rest, "-"):
		return 0, fmt.Errorf("has to be more than 0, is %s", quote(text))
	}
	var seconds float64
	for rest != "" {
		number := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789."))]
		rest = strings.TrimLeft(rest[len(number):], " \t")
		// Neither a digit nor a blank ends a unit by itself: "1h30min".
		end := strings.IndexAny(rest, "0123456789. \t")
		if end < 0 {
			end = len(rest)
		}
		unit := rest[:end]
		rest = strings.TrimLeft(rest[end:], " \t")

		n, err := strconv.ParseFloat(number, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return 0, fmt.Errorf(`is not a duration: %s; write for example "60s", "2min" or "1h 30min"`, quote(text))
		}
		size, ok := durationUnits[unit]
		if !ok {
			return 0, fmt.Errorf("has the unknown unit %s in %s; the units are us, ms, s, min, h and d", quote(unit), quote(text))
		}
		seconds += n * size.Seconds()
	}
	return secondsDuration(seconds, quote(text))
}

// secondsDuration returns a number of seconds as a duration that a definition
// may have; text is how it was written, for the message.
func secondsDuration(seconds float64, text string) (time.Duration, error) {
	switch {
	case math.IsNaN(seconds):
		return 0, fmt.Errorf("is not a duration: %s", text)
	case seconds > maxDuration.Seconds():
		return 0, fmt.Errorf("has to be at most one day, is %s", text)
	}
	// As in systemd the smallest step is a microsecond.
	us := math.Round(seconds * 1e6)
	if us < 1 {
		return 0, fmt.Errorf("has to be more than 0, is %s", text)
	}
	return time.Duration(us) * time.Microsecond, nil
}
