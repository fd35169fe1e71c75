// SPDX-License-Identifier: Apache-2.0

package generator_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/generator"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/units"
)

var update = flag.Bool("update", false, "write what comes out to testdata/*/out and testdata/*/problems.txt")

// cases returns the directories of testdata. Each is a case:
//
//	in/           the host: etc/tripleo-wrappers and usr/lib/tripleo-wrappers
//	out/          the units that must come out; left out for none
//	problems.txt  what must be complained of; left out for nothing
func cases(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("testdata/*/in")
	if err != nil || len(names) == 0 {
		t.Fatalf("no cases in testdata: %v", err)
	}
	for i := range names {
		names[i] = filepath.Base(filepath.Dir(names[i]))
	}
	return names
}

func TestGolden(t *testing.T) {
	for _, name := range cases(t) {
		t.Run(name, func(t *testing.T) {
			// Messages have the root in them: "in" for all.
			t.Chdir(filepath.Join("testdata", name))
			files, set := generator.Render("in")
			var problems strings.Builder
			for _, problem := range set.Problems() {
				fmt.Fprintln(&problems, problem)
			}
			dir := filepath.Join(t.TempDir(), "normal")
			if errs := generator.Write(dir, files); errs != nil {
				t.Fatal(errs)
			}
			if *update {
				writeGolden(t, dir, problems.String())
			}
			if diff := cmp.Diff(tree(t, "out"), tree(t, dir)); diff != "" {
				t.Errorf("units differ from testdata/%s/out (-want +got); if they are right, run go test -update:\n%s", name, diff)
			}
			want, err := os.ReadFile("problems.txt")
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), problems.String()); diff != "" {
				t.Errorf("problems differ from testdata/%s/problems.txt (-want +got):\n%s", name, diff)
			}
		})
	}
}

func writeGolden(t *testing.T, dir, problems string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll("out"), os.RemoveAll("problems.txt")); err != nil {
		t.Fatal(err)
	}
	if problems != "" {
		if err := os.WriteFile("problems.txt", []byte(problems), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if len(tree(t, dir)) > 0 {
		if err := os.CopyFS("out", os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
}

// tree returns all files below a directory: their content, or "-> target" for
// a symbolic link. A directory that does not exist has none.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && name == dir:
			return nil
		case err != nil || entry.IsDir():
			return err
		}
		key, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if entry.Type() == fs.ModeSymlink {
			target, err := os.Readlink(name)
			files[key] = "-> " + target
			return err
		}
		content, err := os.ReadFile(name)
		files[key] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// What systemd says of the units that must come out: no setting that it does
// not know, no value that it cannot read, no program that is not there.
func TestVerify(t *testing.T) {
	requireAnalyze(t)
	for _, name := range cases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := unitDir(t, filepath.Join("testdata", name, "out"))
			for _, unit := range unitNames(t, dir) {
				if output, err := verify(dir, unit); err != nil {
					t.Errorf("systemd-analyze verify %s: %v\n%s", unit, err, output)
				}
			}
		})
	}
}

// TestVerify is worth nothing where systemd lets everything pass.
func TestVerifyFindsFaults(t *testing.T) {
	requireAnalyze(t)
	const from = "testdata/systemd-dnsmasq/out"
	tests := map[string]struct{ file, unit, old, new string }{
		"unknown setting in the template":  {"neutron-dnsmasq@.service", "neutron-dnsmasq@x.service", "KillMode=", "KillMood="},
		"unknown setting in the activator": {"neutron-dnsmasq.service", "neutron-dnsmasq.service", "ProtectClock=", "ProtectClick="},
		"bad value in the path unit":       {"neutron-dnsmasq.path", "neutron-dnsmasq.path", "PathExists=/", "PathExists="},
		"missing program in the socket":    {"neutron-dnsmasq.socket", "neutron-dnsmasq.socket", layout.ActivatorProgram, "no-such-program"},
		"unknown setting in the drop-in":   {"tripleo-wrappers.target.d/neutron-dnsmasq.conf", layout.Target, "Upholds=", "Upheld="},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := unitDir(t, from)
			file := filepath.Join(dir, test.file)
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			worse := strings.Replace(string(content), test.old, test.new, 1)
			if worse == string(content) {
				t.Fatalf("there is no %q in %s", test.old, test.file)
			}
			if err := os.WriteFile(file, []byte(worse), 0o644); err != nil {
				t.Fatal(err)
			}
			if output, err := verify(dir, test.unit); err == nil {
				t.Errorf("systemd-analyze verify has nothing to say of %s with %q\n%s", test.unit, test.new, output)
			}
		})
	}
}

func requireAnalyze(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("systemd-analyze is not here to verify units with")
	}
}

// unitDir copies units to a directory of their own, with the target beside
// them, and has them call programs that exist.
func unitDir(t *testing.T, from string) string {
	t.Helper()
	dir := t.TempDir()
	programs := filepath.Join(dir, "programs")
	replacer := strings.NewReplacer(layout.LibexecDir, programs, layout.Control(), filepath.Join(programs, layout.ControlProgram))
	write := func(name, content string, mode os.FileMode) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{layout.ActivatorProgram, layout.ClientProgram, layout.ControlProgram} {
		write(filepath.Join("programs", program), "#!/bin/sh\n", 0o755)
	}
	target, err := os.ReadFile(filepath.Join("..", "systemd", layout.Target))
	if err != nil {
		t.Fatal(err)
	}
	write(layout.Target, string(target), 0o644)
	for name, content := range tree(t, from) {
		if !strings.HasPrefix(content, "-> ") {
			write(name, replacer.Replace(content), 0o644)
		}
	}
	return dir
}

// unitNames returns the units in a directory, templates as an instance.
func unitNames(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	for name := range tree(t, dir) {
		if filepath.Dir(name) == "." {
			names = append(names, strings.Replace(name, "@.", "@qdhcp-5f1a0c4e-0000-4000-8000-000000000001.", 1))
		}
	}
	slices.Sort(names)
	return names
}

// verify has systemd check one unit. It needs no systemd that runs.
func verify(dir, unit string) (string, error) {
	command := exec.Command("systemd-analyze", "verify", "--recursive-errors=no", "--man=no", filepath.Join(dir, unit))
	// The colon at the end appends the usual directories.
	command.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":", "SYSTEMD_LOG_LEVEL=warning")
	output, err := command.CombinedOutput()
	if err == nil && bytes.Contains(output, []byte(dir)) {
		// Some faults are only warned of, with the file's name.
		err = errors.New("it warns")
	}
	return string(output), err
}

func TestWriteModes(t *testing.T) {
	dir := t.TempDir()
	if errs := generator.Write(dir, []units.File{{Name: "a.target.d/b.conf", Text: "x"}}); errs != nil {
		t.Fatal(errs)
	}
	for name, want := range map[string]fs.FileMode{"a.target.d": 0o755 | fs.ModeDir, "a.target.d/b.conf": 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("mode of %s is %v, want %v", name, info.Mode(), want)
		}
	}
}

// systemd may reload while it reloads: two generators write the same units,
// and a third party reads them.
func TestWriteIsAtomic(t *testing.T) {
	const name, link, rounds = "a.service", "a.target.wants/a.service", 100
	// Large enough that writing takes more than one glance of the reader.
	versions := []string{strings.Repeat("a", 1<<20), strings.Repeat("b", 1<<19)}
	dir := t.TempDir()
	write := func(version string) error {
		return errors.Join(generator.Write(dir, []units.File{{Name: name, Text: version}, {Name: link, Link: "../" + name}})...)
	}
	if err := write(versions[0]); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for _, version := range versions {
		writers.Go(func() {
			for range rounds {
				if err := write(version); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		// By the link: it must be there at all times, too.
		content, err := os.ReadFile(filepath.Join(dir, link))
		if err != nil {
			t.Error(err)
			break
		}
		if !slices.Contains(versions, string(content)) {
			t.Errorf("a reader got %d bytes that nobody wrote", len(content))
			break
		}
	}
	writers.Wait()
	want := []string{link, name}
	var got []string
	for name := range tree(t, dir) {
		got = append(got, name)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files left behind (-want +got):\n%s", diff)
	}
}

func TestWriteGoesOnAfterAnError(t *testing.T) {
	dir := t.TempDir()
	files := []units.File{
		{Name: "a.service", Text: "a"},
		{Name: "in-the-way.service", Text: "b"},
		{Name: "link-in-the-way.service", Link: "a.service"},
		{Name: "file.target.d/c.conf", Text: "c"},
		{Name: "z.service", Text: "z"},
	}
	before := map[string]string{
		"in-the-way.service/file":      "a directory stands in the way",
		"link-in-the-way.service/file": "of a link as well",
		"file.target.d":                "and a file in that of a directory",
	}
	for name, content := range before {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	errs := generator.Write(dir, files)
	for _, name := range []string{"in-the-way.service", "link-in-the-way.service", "file.target.d"} {
		if len(errs) != 3 || !slices.ContainsFunc(errs, func(err error) bool { return strings.Contains(err.Error(), name) }) {
			t.Errorf("no error of its own names %s: %v", name, errs)
		}
	}
	want := map[string]string{"a.service": "a", "z.service": "z"}
	for name, content := range before {
		want[name] = content
	}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// All that the generator leaves behind is below the directory it was given.
func TestNothingOutsideTheDirectory(t *testing.T) {
	for _, name := range cases(t) {
		t.Run(name, func(t *testing.T) {
			host := t.TempDir()
			if err := os.CopyFS(host, os.DirFS(filepath.Join("testdata", name, "in"))); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(host, "run/systemd/generator")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			t.Chdir(host)
			before := stamps(t, host, dir)
			files, _ := generator.Render(host)
			if errs := generator.Write(dir, files); errs != nil {
				t.Fatal(errs)
			}
			if diff := cmp.Diff(before, stamps(t, host, dir)); diff != "" {
				t.Errorf("the host has changed (-before +after):\n%s", diff)
			}
		})
	}
}

// stamps returns what would change if a file or directory were written,
// leaving out what is below one of them.
func stamps(t *testing.T, root, except string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == except {
			return fs.SkipDir
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		all[name] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime().UnixNano())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPrint(t *testing.T) {
	var out strings.Builder
	err := generator.Print(&out, []units.File{
		{Name: "a.service", Text: "[Unit]\nDescription=a\n"},
		{Name: "b.wants/a.service", Link: "../a.service"},
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `# a.service
[Unit]
Description=a

# b.wants/a.service -> ../a.service
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// maxExposure is ten times what systemd-analyze security may say of an activator.
// What is left, and why: docs/security.md.
const maxExposure = "15"

// The activator is as locked down as docs/security.md says.
func TestExposure(t *testing.T) {
	requireAnalyze(t)
	unit := filepath.Join("testdata", "systemd-dnsmasq", "out", "neutron-dnsmasq.service")
	command := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold="+maxExposure, unit)
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}
