// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/spool"
)

// A spool that is as large as is read takes no more: what it holds would be
// put away with the rest.
func TestAppendToAFullSpool(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, layout.Spool)
	full := strings.Repeat("qdhcp-1 -k\n", spool.MaxSize/len("qdhcp-1 -k\n"))
	if err := os.WriteFile(file, []byte(full), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := spool.Append(t.Context(), dir, request("1")); !errors.Is(err, spool.ErrFull) {
		t.Errorf("Append: %v, want %v", err, spool.ErrFull)
	}
	if info, err := os.Stat(file); err != nil || info.Size() != int64(len(full)) {
		t.Errorf("the spool has changed: %v, %v", info, err)
	}
}

// Lines cost more memory than bytes do; there is an end to them, and to those
// that are no requests.
func TestParseBounds(t *testing.T) {
	requests, bad := spool.Parse([]byte(strings.Repeat("q -k\n", 200_000)), 0)
	if len(requests) != 100_000 || len(bad) != 1 {
		t.Errorf("%d requests and %d bad lines of 200000, want 100000 and 1", len(requests), len(bad))
	}
	// 500,000 empty arguments are 1.5 MB here, and 8 MB in memory.
	line := `{"netns":"q","arguments":[` + strings.Repeat(`"",`, 499_999) + `""]}` + "\n"
	if requests, bad := spool.Parse([]byte(strings.Repeat(line, 5)), 0); len(requests) != 2 || len(bad) != 1 {
		t.Errorf("%d requests and %d bad lines, want 2 and 1", len(requests), len(bad))
	}
	// So do variables.
	var variables strings.Builder
	for i := range 150_000 {
		fmt.Fprintf(&variables, `"%x":"",`, i)
	}
	line = `{"netns":"q","arguments":[],"environment":{` + strings.TrimSuffix(variables.String(), ",") + "}}\n"
	if requests, bad := spool.Parse([]byte(strings.Repeat(line, 3)), 0); len(requests) != 1 || len(bad) != 1 {
		t.Errorf("%d requests and %d bad lines, want 1 and 1", len(requests), len(bad))
	}
	if requests, bad := spool.Parse([]byte(`{"netns":"q","arguments":["`+strings.Repeat("x", 4<<20)+`"]}`), 0); len(requests) != 0 || len(bad) != 1 {
		t.Errorf("%d requests and %d bad lines, want 0 and 1", len(requests), len(bad))
	}
	if requests, bad := spool.Parse([]byte(strings.Repeat("{bad\n", 10_000)), 0); len(requests) != 0 || len(bad) != 100 {
		t.Errorf("%d requests and %d bad lines, want 0 and 100", len(requests), len(bad))
	}
}
