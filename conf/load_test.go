// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

var update = flag.Bool("update", false, "write the expected files of testdata")

// Each directory of testdata that holds etc or usr is a case: the root of a
// host, with what must come out of it beside etc and usr. A new case is a new
// directory; go test -update writes the expected files, to be read before they
// are committed.
func TestGolden(t *testing.T) {
	roots := map[string]bool{}
	for _, pattern := range []string{"testdata/*/etc", "testdata/*/usr"} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range dirs {
			roots[filepath.Dir(dir)] = true
		}
	}
	if len(roots) == 0 {
		t.Fatal("no cases")
	}
	for root := range roots {
		t.Run(filepath.Base(root), func(t *testing.T) {
			set := Load(root)
			checkConsistent(t, set)

			services, err := json.MarshalIndent(set.Services, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			compare(t, filepath.Join(root, "services.json"), string(services)+"\n")

			var problems strings.Builder
			for _, b := range set.Broken {
				fmt.Fprintf(&problems, "broken %s: %s", b.Name, b.Source)
				if b.Service != "" && b.Service != b.Name {
					fmt.Fprintf(&problems, ", of service %q", b.Service)
				}
				problems.WriteByte('\n')
			}
			for _, p := range set.Problems() {
				fmt.Fprintln(&problems, p.Error())
			}
			compare(t, filepath.Join(root, "problems.txt"), problems.String())

			if diff := cmp.Diff(set, Load(root)); diff != "" {
				t.Errorf("a second Load differs:\n%s", diff)
			}
		})
	}
}

func compare(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// checkConsistent checks what holds for every Set.
func checkConsistent(t *testing.T, set Set) {
	t.Helper()
	names, sources := map[string]bool{}, map[string]bool{}
	add := func(name, source string) {
		if err := layout.CheckService(name); err != nil {
			t.Errorf("name %q of %s %v", name, source, err)
		}
		if names[name] {
			t.Errorf("two have the name %q", name)
		}
		if sources[source] {
			t.Errorf("%s is there twice", source)
		}
		names[name], sources[source] = true, true
	}
	for i, s := range set.Services {
		add(s.Name, s.Source)
		if i > 0 && set.Services[i-1].Name >= s.Name {
			t.Errorf("service %s is not sorted", s.Name)
		}
		if !filepath.IsAbs(s.Dir) || filepath.Clean(s.Dir) != s.Dir {
			t.Errorf("%s: Dir is %q", s.Name, s.Dir)
		}
		if (s.Command.Shell == "") == (len(s.Command.Argv) == 0) {
			t.Errorf("%s: Command is %+v", s.Name, s.Command)
		}
		if s.IdleTimeout <= 0 || s.Ready.Timeout <= 0 {
			t.Errorf("%s: a timeout is not positive", s.Name)
		}
	}
	for i, b := range set.Broken {
		add(b.Name, b.Source)
		if i > 0 && set.Broken[i-1].Name >= b.Name {
			t.Errorf("broken %s is not sorted", b.Name)
		}
		if len(b.Problems) == 0 {
			t.Errorf("%s is broken without a problem", b.Name)
		}
		for _, p := range b.Problems {
			if p.File == "" || p.Message == "" || (p.Line > 0) != (p.Column > 0) || p.Line < 0 {
				t.Errorf("%s has the problem %+v", b.Name, p)
			}
			if strings.ContainsAny(p.Message, "\n\x00") {
				t.Errorf("a message is not one line: %q", p.Message)
			}
		}
	}
}

// tree writes files below a new root, by their paths inside it.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const good = `service_dir = "/var/lib/neutron"
cmd = "dnsmasq"
image_name = "a"
`

// messages returns the problems of a root, without the root in them.
func messages(root string) []string {
	var got []string
	for _, p := range Load(root).Problems() {
		got = append(got, strings.TrimPrefix(p.Error(), root))
	}
	return got
}

func TestNoDirectories(t *testing.T) {
	if diff := cmp.Diff(Set{}, Load(t.TempDir())); diff != "" {
		t.Error(diff)
	}
}

// What is not a regular file is reported, and never waited for.
func TestNotRegular(t *testing.T) {
	root := tree(t, map[string]string{
		AdminDir + "/good.toml":   good,
		AdminDir + "/large.toml":  strings.Repeat("#", maxSize+1),
		AdminDir + "/most.toml":   good + strings.Repeat("#", maxSize-len(good)),
		AdminDir + "/file.toml":   good,
		AdminDir + "/file.toml.d": "a file where a directory of drop-ins is expected",
	})
	dir := filepath.Join(root, AdminDir)
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "dir.toml"), 0o755),
		syscall.Mkfifo(filepath.Join(dir, "fifo.toml"), 0o644),
		os.Symlink("fifo.toml", filepath.Join(dir, "to-fifo.toml")),
		os.Symlink("nowhere", filepath.Join(dir, "dangling.toml")),
		os.Symlink("loop.toml", filepath.Join(dir, "loop.toml")),
		os.MkdirAll(filepath.Join(root, VendorDir), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan []string, 1)
	go func() { done <- messages(root) }()
	select {
	case got := <-done:
		want := []string{
			AdminDir + "/dangling.toml: is a symbolic link to a file that does not exist; to mask a definition link it to /dev/null",
			AdminDir + "/dir.toml: is a directory; a definition has to be a regular file",
			AdminDir + "/fifo.toml: is a FIFO; a definition has to be a regular file",
			AdminDir + "/file.toml.d: cannot be read: not a directory",
			AdminDir + "/large.toml: is larger than 1048576 bytes; a definition has to be smaller",
			AdminDir + "/loop.toml: cannot be read: too many levels of symbolic links",
			AdminDir + "/to-fifo.toml: is a FIFO; a definition has to be a regular file",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Load hangs")
	}
	set := Load(root)
	checkConsistent(t, set)
	if len(set.Services) != 2 || set.Services[0].Name != "good" || set.Services[1].Name != "most" {
		t.Errorf("services: %+v", set.Services)
	}
}

func TestUnreadableDirectory(t *testing.T) {
	root := tree(t, map[string]string{
		AdminDir:                 "a file",
		VendorDir + "/good.toml": good,
	})
	set := Load(root)
	checkConsistent(t, set)
	if len(set.Services) != 1 {
		t.Errorf("services: %+v", set.Services)
	}
	if diff := cmp.Diff([]string{AdminDir + ": cannot be read: not a directory"}, messages(root)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Permission bits do not keep root from reading; a link to itself does.
func TestUnreadableFile(t *testing.T) {
	root := tree(t, map[string]string{AdminDir + "/b.toml": good})
	if err := os.Symlink("a.toml", filepath.Join(root, AdminDir, "a.toml")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{AdminDir + "/a.toml: cannot be read: too many levels of symbolic links"}, messages(root)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Inside another root a link leads to where it would on a host booted from it.
func TestLinksStayInsideRoot(t *testing.T) {
	root := tree(t, map[string]string{
		"/srv/definitions/linked.toml": good,
		VendorDir + "/masked.toml":     good,
		VendorDir + "/twice.toml":      good,
	})
	outside := filepath.Join(t.TempDir(), "outside.toml")
	if err := os.WriteFile(outside, []byte(good), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, AdminDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"absolute.toml": "/srv/definitions/linked.toml",
		"relative.toml": "../../srv/definitions/linked.toml",
		"climbing.toml": "../../../../../../../../../srv/definitions/linked.toml",
		"outside.toml":  outside,
		"masked.toml":   "../../../../../dev/null",
		"null.toml":     "/dev/null",
		"twice.toml":    "null.toml",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	set := Load(root)
	checkConsistent(t, set)
	var names []string
	for _, s := range set.Services {
		names = append(names, s.Name)
	}
	if diff := cmp.Diff([]string{"absolute", "climbing", "relative"}, names); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	if len(set.Broken) != 1 || set.Broken[0].Name != "outside" {
		t.Errorf("broken: %+v", set.Broken)
	}
}

// A directory of definitions that is a link leads inside root, too, as does one
// above it; root itself may be a link.
func TestDirectoriesStayInsideRoot(t *testing.T) {
	root := tree(t, map[string]string{
		"/srv/definitions/inside.toml":          good,
		"/srv/definitions/inside.toml.d/a.toml": "debug = true",
		"/vendor/tripleo-wrappers/vendor.toml":  good,
	})
	for name, target := range map[string]string{AdminDir: "/srv/definitions", "/usr/lib": "/vendor"} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "root")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{root, link} {
		set := Load(root)
		if len(set.Services) != 2 || len(set.Broken) > 0 || !set.Services[0].Debug || set.Services[1].Name != "vendor" {
			t.Errorf("below %s: %+v", root, set)
		}
	}
}

// Where the text does not say what the name is, it is that which the service had
// last, unless another has it now.
func TestLastName(t *testing.T) {
	kept := func(source string) string { return "[Unit]\nSourcePath=" + source + "\n" }
	root := tree(t, map[string]string{
		AdminDir + "/a%b.toml":                              "cmd = [",
		AdminDir + "/haproxy.toml":                          good + "service_name = 3",
		AdminDir + "/moved.toml":                            "cmd = [",
		AdminDir + "/new.toml":                              good + "service_name = 'taken'",
		layout.KeptTemplate("percent"):                      kept(AdminDir + "/a%%b.toml"),
		layout.KeptTemplate("neutron-old"):                  kept(AdminDir + "/haproxy.toml"),
		layout.KeptTemplate("neutron-last"):                 kept(AdminDir + "/haproxy.toml"),
		layout.KeptTemplate("taken"):                        kept(AdminDir + "/moved.toml"),
		AdminDir + "/odd.toml":                              "cmd = [",
		layout.KeptTemplate("-x"):                           kept(AdminDir + "/odd.toml"), // no name of a service
		AdminDir + "/generated.toml":                        "cmd = [",
		layout.GeneratedDir + "/neutron-generated@.service": kept(AdminDir + "/generated.toml"),
	})
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(root, layout.KeptTemplate("neutron-old")), old, old); err != nil {
		t.Fatal(err)
	}
	set := Load(root)
	checkConsistent(t, set)
	names := map[string]string{}
	for _, b := range set.Broken {
		names[filepath.Base(b.Source)] = b.Name
	}
	want := map[string]string{"a%b.toml": "percent", "haproxy.toml": "neutron-last", "moved.toml": "taken-broken",
		"odd.toml": "odd", "generated.toml": "neutron-generated"}
	if diff := cmp.Diff(want, names); diff != "" || len(set.Services) != 1 || set.Services[0].Name != "taken" {
		t.Errorf("%+v, names (-want +got):\n%s", set.Services, diff)
	}
}

// Text that is in no file is checked as if it were in one.
func TestCheck(t *testing.T) {
	for text, file := range map[string]string{
		good:                      "a",
		good + "debug = 1\nx = 2": "a",
		"cmd = [":                 "a",
		"cmd = 'x'":               "a",
		"service_dir = '/a'":      "no name",
	} {
		root := tree(t, map[string]string{AdminDir + "/" + file + ".toml": text})
		var got []string
		for _, p := range Check(file, text) {
			got = append(got, p.Error())
		}
		if diff := cmp.Diff(messages(root), got); diff != "" {
			t.Errorf("%q (-Load +Check):\n%s", text, diff)
		}
	}
}

func TestManyUnknownKeys(t *testing.T) {
	var text strings.Builder
	text.WriteString(good)
	for i := range 20000 {
		fmt.Fprintf(&text, "a.k%d = 1\nx%d = 1\n", i, i)
	}
	root := tree(t, map[string]string{AdminDir + "/a.toml": text.String()})
	start := time.Now()
	got := messages(root)
	if len(got) != maxUnknown+1 {
		t.Errorf("%d problems", len(got))
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
}

// Values that are too long together are told of once, at the longest of them, which
// is not looked at any further.
func TestTooLong(t *testing.T) {
	const little = "service_dir = '/d'\ncmd = 'c'\nimage_name = 'i'\n"
	const rest = maxValues - len("/d c i ")
	mount := func(size int) string {
		return "config_bind_mount = '/a:/" + strings.Repeat("x", size-len("/a:/ ")) + "'\n"
	}
	tooLong := func(line int, key string) []string {
		return []string{fmt.Sprintf("%s/a.toml:%d:1: %s: is too long: all values of a definition together can have 20480 bytes; shorten it", AdminDir, line, key)}
	}
	for text, want := range map[string][]string{
		mount(rest):     nil,
		mount(rest + 1): tooLong(4, "config_bind_mount"),
		mount(rest/2) + "container_options = ['--label', '" + strings.Repeat("x", rest/2) + "']": tooLong(5, "container_options"),
		"service_name = '" + strings.Repeat("x", rest) + "'":                                     tooLong(4, "service_name"),
		"allowed_uids = [" + strings.Repeat("-1,", maxValues/8) + "]":                            tooLong(4, "allowed_uids"),
		"run = [" + strings.Repeat("[''],", maxValues/2) + "]":                                   tooLong(4, "run"),
	} {
		got := messages(tree(t, map[string]string{AdminDir + "/a.toml": little + text}))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%.40s (-want +got):\n%s", text, diff)
		}
	}
}

func TestManyBrokenOfOneName(t *testing.T) {
	files := map[string]string{}
	for i := range 300 {
		files[fmt.Sprintf("%s/%03d.toml", AdminDir, i)] = good + `service_name = "same"`
	}
	set := Load(tree(t, files))
	checkConsistent(t, set)
	if len(set.Services) != 1 || set.Services[0].Source != AdminDir+"/000.toml" || len(set.Broken) != 299 {
		t.Errorf("%d services, %d broken", len(set.Services), len(set.Broken))
	}
}

func FuzzLoad(f *testing.F) {
	cases, err := filepath.Glob("testdata/*/*/*tripleo-wrappers/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	more, _ := filepath.Glob("testdata/*/usr/lib/tripleo-wrappers/*.toml")
	for _, file := range append(cases, more...) {
		if text, err := os.ReadFile(file); err == nil {
			f.Add(text, []byte("debug = true"))
		}
	}
	f.Fuzz(func(t *testing.T, main, dropIn []byte) {
		root := tree(t, map[string]string{
			AdminDir + "/fuzz.toml":          string(main),
			AdminDir + "/fuzz.toml.d/a.toml": string(dropIn),
			AdminDir + "/other.toml":         good,
		})
		// The fuzzer itself does not notice a hang.
		hang := time.AfterFunc(20*time.Second, func() { panic("Load hangs") })
		set := Load(root)
		hang.Stop()
		checkConsistent(t, set)
		want := 2
		if len(main) == 0 {
			want = 1
		}
		if n := len(set.Services) + len(set.Broken); n != want {
			t.Errorf("%d files became %d", want, n)
		}
		for _, p := range set.Problems() {
			text, ok := map[string][]byte{"fuzz.toml": main, "a.toml": dropIn}[filepath.Base(p.File)]
			if !ok && filepath.Base(p.File) == "other.toml" {
				text = []byte(good) // fuzz.toml may have taken its name
			}
			if p.Line > 1+strings.Count(string(text), "\n") || p.Column > len(text)+1 {
				t.Errorf("%v is outside of the file", p)
			}
		}
	})
}

func BenchmarkLoad1000(b *testing.B) {
	role, err := os.ReadFile("testdata/role/etc/tripleo-wrappers/neutron-dnsmasq.toml")
	if err != nil {
		b.Fatal(err)
	}
	files := map[string]string{}
	for i := range 1000 {
		files[fmt.Sprintf("%s/s%d.toml", AdminDir, i)] = strings.Replace(string(role), "neutron-dnsmasq", fmt.Sprint("s", i), 1)
	}
	root := tree(b, files)
	for b.Loop() {
		if set := Load(root); len(set.Services) != 1000 {
			b.Fatal(set.Problems())
		}
	}
}

func TestManyProblems(t *testing.T) {
	root := tree(t, map[string]string{AdminDir + "/a.toml": good + "pass_environment = [" + strings.Repeat("'a b', ", 1000) + "]"})
	got := messages(root)
	if want := AdminDir + "/a.toml:4:1: pass_environment: from here on there are 800 more problems"; len(got) != maxProblems+1 || got[maxProblems] != want {
		t.Errorf("%d problems, the last %q, want %q", len(got), got[len(got)-1], want)
	}
}
