// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"60s":             time.Minute,
		"2min":            2 * time.Minute,
		"1h 30min":        90 * time.Minute,
		"1h30min":         90 * time.Minute,
		"1h\t30 min":      90 * time.Minute,
		"500ms":           500 * time.Millisecond,
		"90":              90 * time.Second,
		" 90 ":            90 * time.Second,
		"1 1":             2 * time.Second,
		"1.5s":            1500 * time.Millisecond,
		".5":              500 * time.Millisecond,
		"0.1s":            100 * time.Millisecond,
		"1us":             time.Microsecond,
		"1µs":             time.Microsecond,
		"1 sec":           time.Second,
		"1second":         time.Second,
		"2 seconds":       2 * time.Second,
		"1m":              time.Minute,
		"1 minute":        time.Minute,
		"2 minutes":       2 * time.Minute,
		"1hr":             time.Hour,
		"1hour":           time.Hour,
		"2hours":          2 * time.Hour,
		"1d":              24 * time.Hour,
		"1day":            24 * time.Hour,
		"1 days":          24 * time.Hour,
		"23h 59min 60s":   24 * time.Hour,
		"86400":           24 * time.Hour,
		"0min 5s":         5 * time.Second,
		"00000000005s":    5 * time.Second,
		"1d 0.0000001us":  24 * time.Hour,
		"1s 2ms 3us 4min": 4*time.Minute + time.Second + 2*time.Millisecond + 3*time.Microsecond,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":          "is empty",
		" \t":       "is empty",
		"infinity":  "every wait has a deadline",
		"0":         "more than 0",
		"0s":        "more than 0",
		"0.1us":     "more than 0",
		"-5s":       "more than 0",
		"+5s":       "not a duration",
		"s":         "not a duration",
		"5s min":    "not a duration",
		"1.2.3s":    "not a duration",
		".":         "not a duration",
		"5 parsecs": `unknown unit "parsecs"`,
		"5M":        `unknown unit "M"`,
		"1e5":       `unknown unit "e"`,
		"1_000":     `unknown unit "_"`,
		"5s,":       `unknown unit "s,"`,
		"24h 1us":   "at most one day",
		"2d":        "at most one day",
		"1w":        "unknown unit",
		"99999999999999999999999999999999999999999999": "at most one day",
		strings.Repeat("9", 400):                       "at most one day",
	} {
		if got, err := ParseDuration(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want an error with %q", text, got, err, want)
		}
	}
}

// A number without quotes is seconds as well.
func TestDurationNumbers(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"90":                  90 * time.Second,
		"0.5":                 500 * time.Millisecond,
		"0":                   0,
		"-1":                  0,
		"nan":                 0,
		"inf":                 0,
		"-inf":                0,
		"86401":               0,
		"9223372036854775807": 0,
	} {
		root := tree(t, map[string]string{AdminDir + "/a.toml": good + "idle_timeout = " + value})
		set := Load(root)
		switch {
		case want == 0 && len(set.Broken) != 1:
			t.Errorf("%s: accepted", value)
		case want != 0 && (len(set.Services) != 1 || set.Services[0].IdleTimeout != want):
			t.Errorf("%s: %+v", value, set)
		}
	}
}
