// SPDX-License-Identifier: Apache-2.0

// Package docs holds documentation; its tests hold it to what it is about.
package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the figures in dependencies.md anew")

// A used is what of a module is compiled: into the programs, or for tests, manual
// pages and the like.
type used struct {
	programs bool
	packages map[string]int // lines, by import path
}

// listed asks go(1) for all packages that packages are made of.
func listed(t *testing.T, modules map[string]*used, programs bool, args ...string) {
	t.Helper()
	command := exec.Command("go", append([]string{"list", "-deps", "-json=ImportPath,Dir,GoFiles,Module"}, args...)...)
	command.Dir, command.Stderr = "..", os.Stderr
	output, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var found struct {
			ImportPath, Dir string
			GoFiles         []string
			Module          *struct {
				Path string
				Main bool
			}
		}
		err := decoder.Decode(&found)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if found.Module == nil || found.Module.Main {
			continue
		}
		module := modules[found.Module.Path]
		if module == nil {
			module = &used{packages: map[string]int{}}
			modules[found.Module.Path] = module
		}
		module.programs = module.programs || programs
		name, _, _ := strings.Cut(found.ImportPath, " ") // as compiled for a test
		lines := 0
		for _, file := range found.GoFiles {
			content, err := os.ReadFile(filepath.Join(found.Dir, file))
			if err != nil && !filepath.IsAbs(file) {
				t.Fatal(err)
			}
			lines += bytes.Count(content, []byte("\n"))
		}
		module.packages[name] = max(lines, module.packages[name])
	}
}

// dependencies.md has a row for each module that is compiled for linux/amd64, and
// says how much of it that is. What a module is for is written by hand.
func TestDependencies(t *testing.T) {
	t.Setenv("GOOS", "linux")
	t.Setenv("GOARCH", "amd64")
	t.Setenv("CGO_ENABLED", "0")
	modules := map[string]*used{}
	listed(t, modules, true, "./cmd/...")
	listed(t, modules, false, "-test", "-tags=system", "./...")

	const file = "dependencies.md"
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	var missing []string
	for line := range strings.Lines(string(content)) {
		cells := strings.Split(line, " | ")
		path := strings.Trim(strings.TrimPrefix(cells[0], "| "), "`")
		module := modules[path]
		switch {
		case len(cells) != 5 || !strings.HasPrefix(line, "| `"):
		case module == nil:
			t.Errorf("%s is in %s, and nothing is compiled of it", path, file)
		default:
			delete(modules, path)
			lines := 0
			for _, n := range module.packages {
				lines += n
			}
			where := "tests and documents"
			if module.programs {
				where = "programs"
			}
			line = strings.Join([]string{cells[0], cells[1], where, fmt.Sprint(len(module.packages)), fmt.Sprint(lines)}, " | ") + " |\n"
		}
		out.WriteString(line)
	}
	for path := range modules {
		missing = append(missing, path)
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		t.Errorf("not in %s, with what they are for: %s", file, strings.Join(missing, ", "))
	}
	if out.String() == string(content) {
		return
	}
	if !*update {
		t.Errorf("the figures in %s are not those of go.mod; if these are right: go test ./docs -update", file)
	} else if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
