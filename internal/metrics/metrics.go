// SPDX-License-Identifier: Apache-2.0

// Package metrics counts requests, from what the activators leave in the
// journal, and writes the counts in the text format of Prometheus
// (https://prometheus.io/docs/instrumenting/exposition_formats/), which is what
// node_exporter reads from files.
//
// Nothing is counted while requests are served. Counters live in a file, with
// the place in the journal up to which they count, so that they go on where
// they were when they are next written.
package metrics

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/inventory"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
)

// buckets are the upper bounds of the histogram of times to ready, in seconds:
// systemd takes some 50 ms, Podman some 200, ready.timeout is 60 s.
var buckets = []float64{0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60}

// results are counted from 0, so that a first failure is an increase.
var results = []string{journal.Started, journal.Running, journal.Ran, journal.Failed, journal.Refused, journal.Dropped, journal.GaveUp}

// Counters is what was counted up to a place in the journal.
type Counters struct {
	Cursor   string              `json:"cursor"`
	Services map[string]*Service `json:"services"`
}

// A Service is what was counted of one service.
type Service struct {
	Requests map[string]uint64 `json:"requests"` // by result
	Ready    Histogram         `json:"ready"`
}

// A Histogram is how many starts took how long until the sidecar was ready.
type Histogram struct {
	Counts  []uint64 `json:"counts"` // one for each bucket and one for all above
	Seconds float64  `json:"seconds"`
}

// Count counts an entry of the journal.
func (c *Counters) Count(entry *journal.Entry) {
	c.Cursor = entry.Cursor
	if entry.Result == "" || entry.Service == "" || !slices.Contains(results, entry.Result) {
		return
	}
	if c.Services == nil {
		c.Services = map[string]*Service{}
	}
	service := c.Services[entry.Service]
	if service == nil {
		service = &Service{Requests: map[string]uint64{}}
		c.Services[entry.Service] = service
	}
	service.Requests[entry.Result]++
	if usec, err := strconv.ParseUint(entry.ReadyUsec, 10, 64); err == nil {
		service.Ready.observe(float64(usec) / 1e6)
	}
}

func (h *Histogram) observe(seconds float64) {
	if len(h.Counts) != len(buckets)+1 {
		h.Counts, h.Seconds = make([]uint64, len(buckets)+1), 0
	}
	i, _ := slices.BinarySearch(buckets, seconds)
	h.Counts[i]++
	h.Seconds += seconds
}

// Load reads counters that were kept. Without a file they are all 0.
func Load(name string) (*Counters, error) {
	if err := replaceable(name); err != nil {
		return nil, err
	}
	content, err := os.ReadFile(name) // #nosec G304 -- an option of the caller's
	if errors.Is(err, os.ErrNotExist) {
		return &Counters{}, nil
	}
	if err != nil {
		return nil, err
	}
	c := &Counters{}
	if err := json.Unmarshal(content, c); err != nil {
		return nil, fmt.Errorf("reading %s: %w; remove it to count anew", name, err)
	}
	for name, service := range c.Services {
		if service == nil || service.Requests == nil {
			delete(c.Services, name)
		}
	}
	return c, nil
}

// Save keeps counters, all or nothing.
func (c *Counters) Save(name string) error {
	content, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return WriteFile(name, append(content, '\n'))
}

// replaceable returns an error for what is no file that another one may take the
// place of. A link is none: node_exporter's user, who can make one in its
// directory, must not say where root writes.
func replaceable(name string) error {
	if info, err := os.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file and was left as it is; name another", name)
	}
	return nil
}

// WriteFile replaces a file at once, so that nobody reads half of it. What is no
// regular file, such as /dev/null or a link, is left as it is, and an error.
func WriteFile(name string, content []byte) error {
	if err := replaceable(name); err != nil {
		return err
	}
	dir, err := beneath.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.WriteFile(filepath.Base(name), content, 0o644)
}

// Write writes the counters and how the services do.
func (c *Counters) Write(w io.Writer, services []inventory.Service) error {
	var b strings.Builder
	names := slices.Collect(maps.Keys(c.Services))
	for _, service := range services {
		names = append(names, service.Service)
	}
	slices.Sort(names)
	names = slices.Compact(names)

	family(&b, "requests_total", "counter", "Requests for sidecars by how they ended; each try of a spooled request counts.")
	for _, name := range names {
		for _, result := range results {
			var n uint64
			if service := c.Services[name]; service != nil {
				n = service.Requests[result]
			}
			fmt.Fprintf(&b, "%srequests_total{service=%s,result=%s} %d\n", prefix, label(name), label(result), n)
		}
	}
	family(&b, "ready_seconds", "histogram", "How long sidecars took to become ready after systemd was asked to start them.")
	for _, name := range names {
		var histogram Histogram
		if service := c.Services[name]; service != nil {
			histogram = service.Ready
		}
		histogram.write(&b, name)
	}
	family(&b, "sidecars", "gauge", "Sidecars by state.")
	states := []inventory.State{inventory.Up, inventory.Starting, inventory.Restarting, inventory.Stopping, inventory.Stopped, inventory.Failed, inventory.NotOurs}
	for _, service := range services {
		for _, state := range states {
			// A 0 in the place of what nobody knows would look as if all was well.
			if n := service.InState(state); n != inventory.Unknown {
				fmt.Fprintf(&b, "%ssidecars{service=%s,state=%s} %d\n", prefix, label(service.Service), label(string(state)), n)
			}
		}
	}
	gauges := []struct {
		name, help string
		value      func(*inventory.Service) inventory.Count
	}{
		{"sidecars_outdated", "Sidecars whose definition or image has changed since they were started.", func(s *inventory.Service) inventory.Count { return s.Outdated }},
		{"sidecars_orphaned", "Sidecars whose network namespace is gone.", func(s *inventory.Service) inventory.Count { return s.Orphans }},
		{"spooled_requests", "Requests that wait in the spool.", func(s *inventory.Service) inventory.Count { return s.Spooled }},
		{"given_up_requests", "Spooled requests that were given up, in processes.failed.", func(s *inventory.Service) inventory.Count { return s.GivenUp }},
		{"definition_broken", "Whether the definition is broken.", func(s *inventory.Service) inventory.Count { return inventory.Count(min(len(s.Problems), 1)) }},
		{"socket_active", "Whether the activation socket is active.", func(s *inventory.Service) inventory.Count {
			switch s.Socket {
			case "":
				return inventory.Unknown
			case "active":
				return 1
			}
			return 0
		}},
	}
	for _, gauge := range gauges {
		family(&b, gauge.name, "gauge", gauge.help)
		for _, service := range services {
			if value := gauge.value(&service); value != inventory.Unknown {
				fmt.Fprintf(&b, "%s%s{service=%s} %d\n", prefix, gauge.name, label(service.Service), value)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

const prefix = "tripleo_wrappers_"

func family(b *strings.Builder, name, kind, help string) {
	fmt.Fprintf(b, "# HELP %s%s %s\n# TYPE %s%s %s\n", prefix, name, help, prefix, name, kind)
}

func (h *Histogram) write(b *strings.Builder, service string) {
	var sum uint64
	for i := range len(buckets) + 1 {
		bound := "+Inf"
		if i < len(buckets) {
			bound = strconv.FormatFloat(buckets[i], 'f', -1, 64)
			if !strings.Contains(bound, ".") {
				bound += ".0" // as client libraries write it
			}
		}
		if i < len(h.Counts) {
			sum += h.Counts[i]
		}
		fmt.Fprintf(b, "%sready_seconds_bucket{service=%s,le=%q} %d\n", prefix, label(service), bound, sum)
	}
	fmt.Fprintf(b, "%sready_seconds_sum{service=%s} %s\n", prefix, label(service), strconv.FormatFloat(h.Seconds, 'f', -1, 64))
	fmt.Fprintf(b, "%sready_seconds_count{service=%s} %d\n", prefix, label(service), sum)
}

func label(value string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(value) + `"`
}
