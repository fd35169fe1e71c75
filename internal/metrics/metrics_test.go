// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/inventory"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
)

func counted(t *testing.T) *Counters {
	t.Helper()
	c := &Counters{}
	for _, entry := range []journal.Entry{
		{Cursor: "1", Service: "a", Result: journal.Started, ReadyUsec: "150000"},
		{Cursor: "2", Service: "a", Result: journal.Started, ReadyUsec: "100000"},
		{Cursor: "3", Service: "a", Result: journal.Started, ReadyUsec: "61000000"},
		{Cursor: "4", Service: "a", Result: journal.Failed},
		{Cursor: "5", Service: "a"},
		{Cursor: "6", Service: "a", Result: "of another version"},
		{Cursor: "7", Service: `b"\`, Result: journal.Refused, ReadyUsec: "soon"},
		{Cursor: "8", Result: journal.Started},
	} {
		c.Count(&entry)
	}
	return c
}

func TestCount(t *testing.T) {
	want := &Counters{Cursor: "8", Services: map[string]*Service{
		"a": {
			Requests: map[string]uint64{journal.Started: 3, journal.Failed: 1},
			Ready:    Histogram{Counts: []uint64{0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1}, Seconds: 61.25},
		},
		`b"\`: {Requests: map[string]uint64{journal.Refused: 1}},
	}}
	if diff := cmp.Diff(want, counted(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What is written is what node_exporter's own parser reads.
func TestWrite(t *testing.T) {
	services := []inventory.Service{
		{Service: "a", Socket: "active", Spooled: 2, GivenUp: 3, Outdated: 4, Orphans: 5, Sidecars: map[inventory.State]int{inventory.Up: 6}},
		{Service: "idle", Problems: []string{"broken", "in two places"}, Socket: "not-found", Spooled: inventory.Unknown, Outdated: inventory.Unknown,
			Sidecars: map[inventory.State]int{}},
		{Service: "unknown", Spooled: 7, Outdated: inventory.Unknown, Orphans: inventory.Unknown}, // systemd did not say
	}
	var text strings.Builder
	if err := counted(t).Write(&text, services); err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text.String()))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text.String())
	}
	got := map[string]float64{}
	for name, family := range families {
		for _, metric := range family.Metric {
			key := name
			for _, label := range metric.Label {
				key += " " + label.GetValue()
			}
			switch {
			case metric.Gauge != nil:
				got[key] = metric.Gauge.GetValue()
			case metric.Counter != nil:
				got[key] = metric.Counter.GetValue()
			case metric.Histogram != nil:
				got[key+" count"] = float64(metric.Histogram.GetSampleCount())
				got[key+" sum"] = metric.Histogram.GetSampleSum()
				got[key+" 0.1"] = float64(metric.Histogram.Bucket[1].GetCumulativeCount())
				got[key+" 60"] = float64(metric.Histogram.Bucket[9].GetCumulativeCount())
			}
		}
	}
	want := map[string]float64{
		"requests_total a started": 3, "requests_total a failed": 1, "requests_total a gave-up": 0,
		`requests_total b"\ refused`: 1, "requests_total idle started": 0,
		"ready_seconds a count": 3, "ready_seconds a sum": 61.25, "ready_seconds a 0.1": 1, "ready_seconds a 60": 2,
		"ready_seconds idle count": 0, "sidecars a running": 6, "sidecars a not ours": 0, "sidecars idle running": 0, "spooled_requests unknown": 7,
		"sidecars_outdated a": 4, "sidecars_orphaned a": 5, "spooled_requests a": 2, "given_up_requests a": 3,
		"definition_broken a": 0, "definition_broken idle": 1, "socket_active a": 1, "socket_active idle": 0,
	}
	for key, value := range want {
		if n, ok := got[prefix+key]; !ok || n != value {
			t.Errorf("%s is %v, there: %v, want %v", key, n, ok, value)
		}
	}
	for _, unknown := range []string{
		"sidecars_outdated idle", "spooled_requests idle", "sidecars idle failed", "sidecars idle not ours",
		"socket_active unknown", "sidecars unknown running", "sidecars_outdated unknown", "sidecars_orphaned unknown",
	} {
		if n, ok := got[prefix+unknown]; ok {
			t.Errorf("%s is %v, though nobody knows", unknown, n)
		}
	}
}

func TestSave(t *testing.T) {
	name := filepath.Join(t.TempDir(), "counts")
	c, err := Load(name)
	if err != nil || c.Cursor != "" {
		t.Fatalf("without a file: %+v, error %v", c, err)
	}
	want := counted(t)
	if err := want.Save(name); err != nil {
		t.Fatal(err)
	}
	got, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if entries, err := os.ReadDir(filepath.Dir(name)); err != nil || len(entries) != 1 {
		t.Errorf("files beside it: %v, error %v", entries, err)
	}
	for _, content := range []string{"", "{", `{"services":{"a":5}}`} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(name); err == nil || !strings.Contains(err.Error(), "remove it to count anew") {
			t.Errorf("%q: error %v", content, err)
		}
	}
	// What is no service, and counts of another version's buckets.
	content := `{"services":{"a":null,"b":{},"c":{"requests":{"started":1},"ready":{"counts":[1],"seconds":1}}}}`
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err = Load(name)
	if err != nil || len(got.Services) != 1 {
		t.Fatalf("%+v, error %v", got, err)
	}
	got.Count(&journal.Entry{Service: "c", Result: journal.Started, ReadyUsec: "1"})
	if ready := got.Services["c"].Ready; len(ready.Counts) != len(buckets)+1 || ready.Counts[0] != 1 {
		t.Errorf("%+v", ready)
	}
}

// What is no file stays what it is.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	name, link := filepath.Join(dir, "out"), filepath.Join(dir, "link")
	for _, content := range []string{"one", "two"} {
		if err := WriteFile(name, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != content {
			t.Errorf("%q, error %v, want %q", got, err, content)
		}
	}
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	full := device(t)
	refused := func(name string, err error) {
		t.Helper()
		if err == nil || err.Error() != name+" is no regular file and was left as it is; name another" {
			t.Errorf("%s: error %v", name, err)
		}
	}
	refused(link, WriteFile(link, []byte("three")))
	refused(dir, WriteFile(dir, []byte("three")))
	refused(full, (&Counters{}).Save(full))
	_, err := Load(full)
	refused(full, err)
	refused(full, WriteFile(full, []byte("three")))
	if info, err := os.Lstat(full); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("%s is no device any more, error %v", full, err)
	}
}

// device returns a device such as /dev/full: for root, who could replace that, one
// that is of no use to others.
func device(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		return "/dev/full"
	}
	name := filepath.Join(t.TempDir(), "full")
	if err := unix.Mknod(name, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 7))); err != nil {
		t.Skip(err)
	}
	return name
}
