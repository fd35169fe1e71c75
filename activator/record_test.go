// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"testing"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/arglist"
)

func TestAsked(t *testing.T) {
	asked := time.UnixMicro(1700000000123456)
	for _, id := range []string{"", "0123456789abcdef0123456789abcdef"} {
		if gotTime, gotID := parseAsked(formatAsked(asked, id)); !gotTime.Equal(asked) || gotID != id {
			t.Errorf("%v and %q are read back as %v and %q", asked, id, gotTime, gotID)
		}
	}
	for _, line := range []string{"", "\n", "soon id\n"} {
		if asked, id := parseAsked(line); !asked.IsZero() || id != "" {
			t.Errorf("%q is read as %v and %q", line, asked, id)
		}
	}
}

// A spooled request is dropped when a later one, or it itself, was served, and
// only then.
func TestOvertakes(t *testing.T) {
	now := time.Now().Truncate(time.Microsecond)
	before, after := now.Add(-time.Minute), now.Add(-time.Second)
	arguments := func(words ...string) []byte {
		list, err := arglist.Encode(words)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	a := sidecar{arguments: []string{"a"}, request: "1", asked: before, spooled: true}
	role := sidecar{arguments: []string{"a"}, asked: before, spooled: true}
	namespace := []byte(a.namespace.String())
	tests := []struct {
		name   string
		s      sidecar
		record record
		want   error
	}{
		{"nothing on record", a, record{}, nil},
		{"an earlier one, tried later", a, record{request: "0", asked: before.Add(-time.Hour), when: now}, nil},
		{"a later one", a, record{request: "2", asked: after}, errSuperseded},
		{"a later one, by a clock that was set back since", a, record{request: "2", asked: now.Add(time.Hour)}, nil},
		{"tried before", a, record{request: "1", asked: before}, nil},
		{"served before", a, record{request: "1", asked: before, ready: true}, errServed},
		{"of the role, tried before", role, record{asked: before, arguments: arguments("a"), namespace: namespace}, nil},
		{"of the role, served before", role, record{asked: before, arguments: arguments("a"), namespace: namespace, ready: true}, errServed},
		{"of the role, another one at that time", role, record{asked: before, arguments: arguments("b"), namespace: namespace, ready: true}, nil},
		{"asked for now", sidecar{request: "1", asked: before}, record{request: "2", asked: after, ready: true}, nil},
	}
	for _, test := range tests {
		if got := test.record.overtakes(&test.s); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// A sidecar gets ready.timeout from its start on, and no more than that because the
// clock was set back.
func TestDeadline(t *testing.T) {
	const limit = time.Minute
	now := time.Now()
	for _, test := range []struct {
		name   string
		record record
		left   time.Duration
	}{
		{"just started", record{when: now}, limit},
		{"started a while ago", record{when: now.Add(-10 * time.Second)}, limit - 10*time.Second},
		{"started long ago", record{when: now.Add(-time.Hour)}, limit - time.Hour},
		{"started when the clock was ahead", record{when: now.Add(time.Hour)}, limit},
		{"has been ready", record{when: now, ready: true}, 0},
	} {
		if left := test.record.deadline(limit).Sub(now); left < test.left || left > test.left+10*time.Second {
			t.Errorf("%s: %v left, want %v", test.name, left, test.left)
		}
	}
}
