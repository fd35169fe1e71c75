// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// What is left behind has to be seen, also when something of the same name was
// there before, and what has gone must not make up for it.
func TestMore(t *testing.T) {
	before := &inventory{names: map[string][]string{"mounts": {"/gone", "/run", "/twice"}}}
	after := &inventory{names: map[string][]string{"mounts": {"/left", "/run", "/twice", "/twice"}}}
	if got, want := after.more(before, "mounts"), []string{"/left", "/twice"}; !slices.Equal(got, want) {
		t.Errorf("left behind are %q, want %q", got, want)
	}
	if got := after.more(after, "mounts"); len(got) != 0 {
		t.Errorf("nothing has changed, and left behind are %q", got)
	}
}

func TestWalk(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755); err != nil {
		t.Fatal(err)
	}
	all := func(fs.DirEntry) bool { return true }
	for depth, want := range [][]string{{"a", "a/b", "a/b/c"}, {"a"}, {"a", "a/b"}} {
		var got []string
		for _, name := range walk(dir, depth, all) {
			relative, err := filepath.Rel(dir, name)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, relative)
		}
		if !slices.Equal(got, want) {
			t.Errorf("depth %d: %q, want %q", depth, got, want)
		}
	}
}
