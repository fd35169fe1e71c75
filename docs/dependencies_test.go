// SPDX-License-Identifier: Apache-2.0

// Package docs holds documentation; its tests hold it to what it is about.
package docs

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
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
	linked   int            // lines of the functions that are in the programs
}

// A position is a line of a file, as the debug information of a program names it:
// MODULE@VERSION/FILE.
type position struct {
	file string
	line int
}

// linked returns all lines that the programs have machine code of, those of
// functions inlined as well.
func linked(t *testing.T) map[position]bool {
	t.Helper()
	directory := t.TempDir()
	command := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", directory, "./cmd/...")
	command.Dir = ".."
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s\n%s", err, output)
	}
	programs, err := filepath.Glob(filepath.Join(directory, "*"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[position]bool{}
	for _, program := range programs {
		file, err := elf.Open(program)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		data, err := file.DWARF()
		if err != nil {
			t.Fatalf("%s: %s", program, err)
		}
		if err := addLines(found, data); err != nil {
			t.Fatalf("%s: %s", program, err)
		}
	}
	return found
}

// addLines adds to found the lines that a program has machine code of.
func addLines(found map[position]bool, data *dwarf.Data) error {
	units := data.Reader()
	for {
		unit, err := units.Next()
		if unit == nil || err != nil {
			return err
		}
		units.SkipChildren()
		lines, err := data.LineReader(unit)
		if err != nil {
			return err
		}
		if lines == nil {
			continue
		}
		var entry dwarf.LineEntry
		for {
			err := lines.Next(&entry)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if !entry.EndSequence {
				found[position{entry.File.Name, entry.Line}] = true
			}
		}
	}
}

// linkedLines returns how many lines the functions of a file have of which any is
// in the programs. name is the file's in their debug information.
func linkedLines(t *testing.T, file, name string, programs map[position]bool) int {
	t.Helper()
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, declared := range parsed.Decls {
		function, ok := declared.(*ast.FuncDecl)
		if !ok {
			continue
		}
		first, last := set.Position(function.Pos()).Line, set.Position(function.End()).Line
		for line := first; line <= last; line++ {
			if programs[position{name, line}] {
				lines += last - first + 1
				break
			}
		}
	}
	return lines
}

// listed asks go(1) for all packages that packages are made of. programs has the
// lines that are in the programs, if the packages are those of the programs.
func listed(t *testing.T, modules map[string]*used, programs map[position]bool, args ...string) {
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
				Path, Version string
				Main          bool
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
		module.programs = module.programs || programs != nil
		name, _, _ := strings.Cut(found.ImportPath, " ") // as compiled for a test
		lines := 0
		for _, file := range found.GoFiles {
			content, err := os.ReadFile(filepath.Join(found.Dir, file))
			if err != nil && !filepath.IsAbs(file) {
				t.Fatal(err)
			}
			lines += bytes.Count(content, []byte("\n"))
			if programs != nil {
				within := strings.TrimPrefix(found.ImportPath, found.Module.Path)
				module.linked += linkedLines(t, filepath.Join(found.Dir, file),
					found.Module.Path+"@"+found.Module.Version+within+"/"+file, programs)
			}
		}
		module.packages[name] = max(lines, module.packages[name])
	}
}

// The version of Go whose programs the figures are of.
var goVersion = regexp.MustCompile(`go1\.[0-9]+[.0-9a-z]*`)

// dependencies.md has a row for each module that is compiled for linux/amd64, and
// says how much of it that is. What a module is for is written by hand. What is in
// the programs is up to the compiler as well, so that it is compared for the
// version that is named there alone.
func TestDependencies(t *testing.T) {
	t.Setenv("GOOS", "linux")
	t.Setenv("GOARCH", "amd64")
	t.Setenv("CGO_ENABLED", "0")
	modules := map[string]*used{}
	listed(t, modules, linked(t), "./cmd/...")
	listed(t, modules, nil, "-test", "-tags=system", "./...")

	const file = "dependencies.md"
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before := string(content)
	if *update {
		before = goVersion.ReplaceAllString(before, runtime.Version())
	}
	sameGo := goVersion.FindString(before) == runtime.Version()
	var out strings.Builder
	var missing []string
	for line := range strings.Lines(before) {
		cells := strings.Split(strings.TrimSuffix(line, " |\n"), " | ")
		path := strings.Trim(strings.TrimPrefix(cells[0], "| "), "`")
		module := modules[path]
		switch {
		case len(cells) != 6 || !strings.HasPrefix(line, "| `"):
		case module == nil:
			t.Errorf("%s is in %s, and nothing is compiled of it", path, file)
		default:
			delete(modules, path)
			lines := 0
			for _, n := range module.packages {
				lines += n
			}
			cells[2] = "tests and documents"
			if module.programs {
				cells[2] = "programs"
			}
			cells[3], cells[4] = fmt.Sprint(len(module.packages)), fmt.Sprint(lines)
			if sameGo {
				cells[5] = fmt.Sprint(module.linked)
			}
			line = strings.Join(cells, " | ") + " |\n"
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
