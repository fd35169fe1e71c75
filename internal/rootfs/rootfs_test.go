// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDescribe(t *testing.T) {
	tests := []struct {
		name, description string
		want              Image
		err               string
	}{
		{
			"all there is",
			`[{"Id":"12","Config":{"Env":["PATH=/bin","A=b c"],"WorkingDir":"/srv"},
			   "GraphDriver":{"Name":"overlay","Data":{"UpperDir":"/o/3/diff","LowerDir":"/o/2/diff:/o/1/diff","WorkDir":"/w"}}}]`,
			Image{ID: "12", Env: []string{"PATH=/bin", "A=b c"}, WorkingDir: "/srv", Layers: []string{"/o/3/diff", "/o/2/diff", "/o/1/diff"}},
			"",
		},
		{
			"one layer, no configuration",
			`[{"Id":"12","Config":null,"GraphDriver":{"Name":"overlay","Data":{"UpperDir":"/o/1/diff"}}}]`,
			Image{ID: "12", WorkingDir: "/", Layers: []string{"/o/1/diff"}},
			"",
		},
		{"another driver", `[{"Id":"12","GraphDriver":{"Name":"vfs","Data":{"dir":"/v"}}}]`, Image{}, `storage driver "vfs"`},
		{"no image", `[]`, Image{}, "says nothing of it"},
		{"no id", `[{}]`, Image{}, "says nothing of it"},
		{"no JSON", `Error: x`, Image{}, "invalid character"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got Image
			err := got.describe(test.description)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Podman writes a new file and renames it, within the same second perhaps and
// of the same size.
func TestStamp(t *testing.T) {
	file := filepath.Join(t.TempDir(), "images.json")
	if got := stamp(file); got != "" {
		t.Errorf("stamp of no file is %q", got)
	}
	then := time.Unix(1700000000, 0)
	seen := map[string]bool{}
	for _, content := range []string{"one", "two"} {
		if err := os.WriteFile(file+".new", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file+".new", then, then); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
		if seen[stamp(file)] {
			t.Errorf("%q is not seen to be new", content)
		}
		seen[stamp(file)] = true
	}
}

func TestReadAndWrite(t *testing.T) {
	want := &Image{Name: "localhost/x", ID: "12", Layers: []string{"/a", "/b"}, WorkingDir: "/", Env: []string{"A=b"}, Index: "/i", Stamp: "1:2", PID: 3}
	file := filepath.Join(t.TempDir(), "n.image")
	if err := want.write(file); err != nil {
		t.Fatal(err)
	}
	got, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v", err)
	}
}
