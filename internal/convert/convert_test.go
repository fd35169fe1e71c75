// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

var update = flag.Bool("update", false, "write what comes out to testdata")

// Each directory of testdata is a case:
//
//	in.yml        what is converted
//	NAME.toml     the definitions that must come out
//	notes.txt     their notes
//	problems.txt  what is then wrong with them, on a host that has nothing else
//	error.txt     the error, and nothing else comes out
//
// A file that would be empty is left out.
func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*/in.yml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no cases in testdata: %v", err)
	}
	for _, input := range inputs {
		dir := filepath.Dir(input)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			content, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			definitions, err := Convert("in.yml", content)
			if err != nil {
				got["error.txt"] = err.Error() + "\n"
			}
			checkDefinitions(t, definitions)
			for _, d := range definitions {
				got[d.Name+".toml"] = d.Text
				for _, n := range d.Notes {
					got["notes.txt"] += fmt.Sprintf("%s:%d: %s: %s\n", d.Name, n.Line, n.Variable, n.Message)
				}
			}
			root, set := load(t, definitions)
			for _, p := range set.Problems() {
				got["problems.txt"] += strings.ReplaceAll(p.Error(), root+conf.AdminDir+"/", "") + "\n"
			}
			if *update {
				writeFiles(t, dir, got)
			}
			if diff := cmp.Diff(files(t, dir), got); diff != "" {
				t.Errorf("(-want +got); if it is right, run go test -update:\n%s", diff)
			}
		})
	}
}

// files returns the golden files in a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "in.yml" {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(content)
	}
	return all
}

func writeFiles(t *testing.T, dir string, golden map[string]string) {
	t.Helper()
	for name := range files(t, dir) {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range golden {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// load loads definitions as a host would that has no others.
func load(t *testing.T, definitions []Definition) (root string, set conf.Set) {
	t.Helper()
	root = t.TempDir()
	dir := filepath.Join(root, conf.AdminDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range definitions {
		if err := os.WriteFile(filepath.Join(dir, d.Name+".toml"), []byte(d.Text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root, conf.Load(root)
}

// checkDefinitions checks what holds for all definitions of a file.
func checkDefinitions(t *testing.T, definitions []Definition) {
	t.Helper()
	names := map[string]bool{}
	for _, d := range definitions {
		valid := layout.CheckService(d.Name) == nil || len(d.Name) > 100 // with a number behind it
		if names[d.Name] || d.Name != filepath.Base(d.Name) || !valid {
			t.Errorf("the name %q is taken, or is no file's", d.Name)
		}
		names[d.Name] = true
		if !strings.HasPrefix(d.Text, "# Made from ") {
			t.Errorf("does not say what it was made from:\n%s", d.Text)
		}
		var values map[string]any
		meta, err := toml.Decode(d.Text, &values)
		if err != nil {
			t.Errorf("is not TOML: %v\n%s", err, d.Text)
		}
		var keys, order []string
		for _, k := range meta.Keys() {
			if k.String() != "ready" {
				keys = append(keys, k.String())
			}
		}
		for _, k := range conf.Keys {
			if slices.Contains(keys, k.Name) {
				order = append(order, k.Name)
			}
		}
		if diff := cmp.Diff(order, keys); diff != "" {
			t.Errorf("keys are not in the order of conf.Keys:\n%s", diff)
		}
		// Whatever is wrong with a definition has a note.
		for _, p := range conf.Check(d.Name, d.Text) {
			if !slices.ContainsFunc(d.Notes, func(n Note) bool { return n.Variable == prefix+p.Key }) {
				t.Errorf("no note says that %v", p)
			}
		}
		for _, n := range d.Notes {
			if n.Line < 1 || n.Message == "" || strings.ContainsFunc(n.Variable+n.Message, unicode.IsControl) {
				t.Errorf("not a note: %+v", n)
			}
		}
	}
}

// A call of the role and what comes of it are the same service.
func TestExampleIsTheSame(t *testing.T) {
	content, err := os.ReadFile("testdata/example/in.yml")
	if err != nil {
		t.Fatal(err)
	}
	definitions, err := Convert("in.yml", content)
	if err != nil {
		t.Fatal(err)
	}
	_, set := load(t, definitions)
	if len(set.Services) != 1 || len(set.Broken) != 0 {
		t.Fatalf("%+v", set)
	}
	want := conf.Load("../../conf/testdata/role").Services[0]
	want.Ready.PIDFileOptions = []string{"--pid-file", "-x"}
	if diff := cmp.Diff(want, set.Services[0]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Small files that stand for large ones, or for ones without end.
func TestBombs(t *testing.T) {
	var laughs strings.Builder
	laughs.WriteString("a0: &a0 {tripleo_systemd_wrapper_cmd: x}\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&laughs, "a%d: &a%d [*a%d, *a%[3]d, *a%[3]d, *a%[3]d]\n", i, i, i-1)
	}
	call := "include_role: {name: tripleo_systemd_wrapper}, vars: {tripleo_systemd_wrapper_cmd: "
	for name, test := range map[string]struct{ text, want string }{
		"billion laughs":     {laughs.String(), "more than 1048576 values"},
		"itself":             {"&a [tripleo_systemd_wrapper_cmd: x, *a, *a]", "values nested more than 100 deep"},
		"merges itself":      {"&a {tripleo_systemd_wrapper_cmd: x, <<: [*a, *a]}", "values nested more than 100 deep"},
		"itself in loop":     {"{" + call + "x}, loop: &a [*a]}", "values nested more than 100 deep"},
		"itself in a path":   {"{" + call + "x}, loop: [&a {? &k " + strings.Repeat("k", 100000) + " : {*k : {*k : {*k : {b: c}}}}}]}", ""},
		"conditions":         {"{" + call + "x}, when: [" + strings.Repeat("a,", 50000) + "]}", ""},
		"itself in item":     {"{" + call + "x}, loop: [&a {a: *a, b: *a}]}", "values nested more than 100 deep"},
		"nested":             {strings.Repeat("[", 1<<19), "depth"},
		"many calls":         {"a: &a {" + call + "x}}\nb: [" + strings.Repeat("*a, ", 1001) + "]", "more than 1000 times"},
		"much text":          {"a: &a {" + call + strings.Repeat("x", 60000) + "}}\nb: [" + strings.Repeat("*a, ", 999) + "]", "more than 1048576 bytes"},
		"large":              {strings.Repeat("#", 1<<20+1), "larger than 1048576 bytes"},
		"substituted":        {"{" + call + "\"" + strings.Repeat("{{ item }}", 6000) + "\"}, loop: [" + strings.Repeat("y", 60000) + "]}", ""},
		"many unknown":       {"tripleo_systemd_wrapper_cmd: x\n" + manyUnknown(20000), ""},
		"many without a use": {strings.Repeat("- {tripleo_systemd_wrapper_x: x}\n", 20000), "more than 1000 times"},
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			definitions, err := Convert("in.yml", []byte(test.text))
			checkDefinitions(t, definitions)
			if d := time.Since(begun); d > 20*time.Second {
				t.Errorf("took %v", d)
			}
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
			for _, d := range definitions {
				if len(d.Notes) > maxUnknown+20 {
					t.Errorf("%d notes", len(d.Notes))
				}
			}
		})
	}
}

func manyUnknown(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "tripleo_systemd_wrapper_x%d: x\n", i)
	}
	return b.String()
}

func TestName(t *testing.T) {
	for file, want := range map[string]string{
		"/etc/ansible/group_vars/neutron.yml": "neutron",
		"neutron dnsmasq.yaml":                "neutron-dnsmasq",
		"-":                                   "service",
		"..":                                  "service",
		"kill_scripts.yml":                    "service",
		"":                                    "service",
		".hidden":                             "service",
		"ünïx.yml":                            "n-x",
		strings.Repeat("x", 300):              strings.Repeat("x", 80),
	} {
		if got := baseName(file); got != want {
			t.Errorf("%q: %q, want %q", file, got, want)
		}
	}
}

// The words that Ansible takes for true and false.
func TestBoolean(t *testing.T) {
	for value, want := range map[string]any{
		"true": true, "True": true, "yes": true, "ON": true, "1": true, `"true"`: true, `"yes"`: true,
		"false": false, "no": false, "Off": false, "0": false, `"False"`: false,
		"2": nil, "maybe": nil, "": nil, "~": nil, "[]": nil,
	} {
		definitions, err := Convert("in.yml", []byte("tripleo_systemd_wrapper_debug: "+value+"\n"))
		if err != nil || len(definitions) != 1 {
			t.Fatalf("%s: %v, %v", value, definitions, err)
		}
		var got struct{ Debug any }
		if _, err := toml.Decode(definitions[0].Text, &got); err != nil {
			t.Error(err)
		}
		if got.Debug != want {
			t.Errorf("%s became %v, want %v", value, got.Debug, want)
		}
	}
}

// Only strings that can be read so are written without escapes, and all come back.
func FuzzTOMLString(f *testing.F) {
	for _, s := range []string{
		"", "a", `a"b`, "a'b\"", `\`, "a\nb", "a\nb'", "'''\n", "\n", "\r\n",
		"\x00\x1b\x7f\u0085", "\u202e", "\U0001F600", "\U000E0001", "\xff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := "a = " + tomlString(s) + "\n"
		var got struct{ A string }
		if _, err := toml.Decode(text, &got); err != nil {
			t.Fatalf("%q is not TOML: %v", text, err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); got.A != want {
			t.Errorf("%q came back as %q", want, got.A)
		}
	})
}

func FuzzConvert(f *testing.F) {
	inputs, err := filepath.Glob("testdata/*/in.yml")
	if err != nil {
		f.Fatal(err)
	}
	for _, input := range inputs {
		content, err := os.ReadFile(input)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("in.yml", content)
	}
	f.Add("a\n[ready]\nb/\x1b[31m", []byte("tripleo_systemd_wrapper_cmd: x"))
	f.Add(strings.Repeat("long ", 100), []byte("&a {tripleo_systemd_wrapper_\n: *a, <<: *a, ? [] : {}}"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		// The fuzzer itself does not notice a hang.
		hang := time.AfterFunc(20*time.Second, func() { panic("Convert hangs") })
		defer hang.Stop()
		definitions, err := Convert(name, content)
		checkDefinitions(t, definitions)
		if (err == nil) == (len(definitions) == 0) {
			t.Errorf("%d definitions and the error %v", len(definitions), err)
		}
	})
}
