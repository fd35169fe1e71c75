// SPDX-License-Identifier: Apache-2.0

package generator

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// docs/distributions.md says of each setting in any unit whether an old systemd
// knows it, and of none that is in no unit.
func TestDistributions(t *testing.T) {
	page, err := os.ReadFile("../docs/distributions.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "## Settings that 239 does not know")
	newer, rest, _ := strings.Cut(rest, "Known to 239, but")
	_, rest, _ = strings.Cut(rest, "## Settings that 239 knows")
	older, _, _ := strings.Cut(rest, "## ")
	var listed []string
	for _, match := range regexp.MustCompile("(?m)^\\| `([A-Za-z]+)=` \\| 2[0-9]{2} \\| .{10}").FindAllStringSubmatch(newer, -1) {
		listed = append(listed, match[1])
	}
	for _, match := range regexp.MustCompile("`([A-Za-z]+)=`").FindAllStringSubmatch(older, -1) {
		listed = append(listed, match[1])
	}
	slices.Sort(listed)
	if diff := cmp.Diff(settings(t), listed); diff != "" {
		t.Errorf("docs/distributions.md and the units differ (-units +page):\n%s", diff)
	}
}

// settings returns the names of all settings in generated and installed units.
func settings(t *testing.T) []string {
	t.Helper()
	var names []string
	assignment := regexp.MustCompile(`(?m)^([A-Za-z]+)=`)
	for _, dir := range []string{"testdata", "../systemd"} {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() || dir == "testdata" && !strings.Contains(path, "/out/") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, match := range assignment.FindAllStringSubmatch(string(text), -1) {
				names = append(names, match[1])
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
