// SPDX-License-Identifier: Apache-2.0

package man_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/man"
)

// pages returns the rendered pages by their names.
func pages(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := man.Files()
	if err != nil {
		t.Fatal(err)
	}
	delete(files, man.Schema)
	delete(files, man.DropInSchema)
	if len(files) == 0 {
		t.Fatal("no pages")
	}
	return files
}

func source(t *testing.T, page string) string {
	t.Helper()
	text, err := man.Source(page)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// run runs a program of the system with a text on standard input.
func run(t *testing.T, stdin []byte, name string, args ...string) (stdout, stderr string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("%s is not here to read pages with", name)
	}
	command := exec.CommandContext(t.Context(), name, args...)
	var out, complaints bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(stdin), &out, &complaints
	if err := command.Run(); err != nil {
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
			t.Fatal(err)
		}
	}
	return out.String(), complaints.String()
}

// leftover matches emphasis of Markdown that was none, such as that of a part of
// a word.
var leftover = regexp.MustCompile(`.*(\*\*|\*\w+\*|__|` + "`" + `).*`)

// Neither of the two programs that show manual pages has anything to complain
// of, and no line is wider than the usual terminal.
func TestRender(t *testing.T) {
	for name, page := range pages(t) {
		t.Run(name, func(t *testing.T) {
			if i := bytes.IndexFunc(page, func(r rune) bool { return r > unicode.MaxASCII }); i >= 0 {
				t.Errorf("not all terminals can show %q", page[i:min(i+20, len(page))])
			}
			t.Run("groff", func(t *testing.T) {
				shown, complaints := run(t, page, "groff", "-man", "-ww", "-rLL=80n", "-Tascii", "-P-cbou")
				if complaints != "" {
					t.Errorf("groff complains:\n%s", complaints)
				}
				for line := range strings.Lines(shown) {
					if line = strings.TrimRight(line, " \n"); len(line) > 80 {
						t.Errorf("is wider than 80 columns: %s", line)
					}
				}
				if mark := leftover.FindString(shown); mark != "" {
					t.Errorf("shows Markdown: %s", mark)
				}
				if !strings.Contains(shown, "SEE ALSO\n") {
					t.Errorf("groff shows no section SEE ALSO:\n%s", shown)
				}
			})
			t.Run("mandoc", func(t *testing.T) {
				complaints, _ := run(t, page, "mandoc", "-T", "lint", "-W", "warning")
				for line := range strings.Lines(complaints) {
					// That of the build would make each build another one.
					if !strings.Contains(line, "missing date") {
						t.Errorf("mandoc complains: %s", line)
					}
				}
			})
		})
	}
}

// plain is a page as a reader sees it, without emphasis and line breaks.
func plain(markdown string) string {
	return strings.Join(strings.Fields(strings.NewReplacer("*", "", "`", "", `\`, "").Replace(markdown)), " ")
}

var version = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+$`)

// Every key has what its entry needs, is in the page, and nothing else is.
func TestKeys(t *testing.T) {
	var want []string
	for _, k := range conf.Keys {
		if k.Details == "" || strings.TrimSpace(k.Details) != k.Details {
			t.Errorf("%s has the details %q", k.Name, k.Details)
		}
		if !version.MatchString(k.Since) {
			t.Errorf("%s is there since %q", k.Name, k.Since)
		}
		want = append(want, strings.TrimPrefix(k.Name, "ready."))
	}
	page := source(t, "tripleo-wrappers.toml.5")
	var got []string
	for _, match := range regexp.MustCompile(`(?m)^\*\*([a-z_]+)\*\* = .*\n:`).FindAllStringSubmatch(page, -1) {
		got = append(got, match[1])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("conf.Keys and keys of the page (-keys +page):\n%s", diff)
	}
	for _, k := range conf.Keys {
		for _, text := range []string{k.Meaning, k.Details, k.Example} {
			if !strings.Contains(plain(page), plain(text)) {
				t.Errorf("%s: not in the page: %s", k.Name, text)
			}
		}
	}
}

// The README's table of keys says what conf.Keys says.
func TestREADME(t *testing.T) {
	const heading = "## Keys of a definition\n"
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(readme), heading)
	if !ok {
		t.Fatalf("the README has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var got, want []string
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "| `") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	for _, k := range conf.Keys {
		value, fallback := k.Type, "`"+k.Default+"`"
		if k.Values != nil {
			value = "`\"" + strings.Join(k.Values, "\"`, `\"") + "\"`"
		}
		if words, ok := strings.CutPrefix(k.Default, "("); ok {
			fallback = strings.TrimSuffix(words, ")")
		}
		if k.Required {
			fallback = "required"
		}
		cells := []string{"`" + k.Name + "`", value, fallback, strings.TrimSuffix(k.Meaning, ".")}
		want = append(want, "| "+strings.Join(cells, " | ")+" |")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("conf.Keys and the README's table (-keys +README):\n%s", diff)
	}
}

// blocks returns the blocks of Markdown that are shown as they are.
func blocks(markdown string) []string {
	var all []string
	var block strings.Builder
	for line := range strings.Lines(markdown + "\nend\n") {
		code, ok := strings.CutPrefix(line, "    ")
		switch {
		case ok:
			block.WriteString(code)
		case strings.TrimSpace(line) == "" && block.Len() > 0:
			block.WriteString("\n")
		case block.Len() > 0:
			all = append(all, strings.TrimSpace(block.String())+"\n")
			block.Reset()
		}
	}
	return all
}

// The README's first definition is the example that it says it is.
func TestFirstDefinition(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("../examples/neutron-dnsmasq.toml")
	if err != nil {
		t.Fatal(err)
	}
	lines := func(text string) (all []string) {
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				all = append(all, line)
			}
		}
		return all
	}
	for _, block := range blocks(string(readme)) {
		if strings.HasPrefix(block, "service_dir = ") {
			if diff := cmp.Diff(lines(string(example)), lines(block)); diff != "" {
				t.Errorf("the example and the README's definition (-example +README):\n%s", diff)
			}
			return
		}
	}
	t.Error("the README has no definition")
}

// Examples are what they are shown for: definitions and drop-ins without a
// problem, whose first line names the schema that fits.
func TestExamples(t *testing.T) {
	examples := map[string]string{}
	for name := range pages(t) {
		for _, block := range blocks(source(t, name)) {
			if _, rest, _ := strings.Cut(block, "\n"); strings.HasPrefix(block, "#:schema ") && rest != "" {
				examples[name+": "+block] = block
			}
		}
	}
	if len(examples) == 0 {
		t.Error("there are no examples in pages")
	}
	files, err := filepath.Glob("../examples/*.toml")
	others, _ := filepath.Glob("../examples/*/*.toml")
	files = append(files, others...)
	if err != nil || len(files) == 0 {
		t.Errorf("there are no examples: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		examples[file] = string(text)
	}
	for name, text := range examples {
		directive, _, _ := strings.Cut(text, "\n")
		root := t.TempDir()
		file := filepath.Join(root, conf.AdminDir, "example.toml")
		switch directive {
		case "#:schema /usr/share/tripleo-wrappers/" + man.Schema:
			check(t, schema(t, man.Schema), name, text)
		case "#:schema /usr/share/tripleo-wrappers/" + man.DropInSchema:
			check(t, schema(t, man.DropInSchema), name, text)
			write(t, file, `service_dir = "/d"`+"\n"+`cmd = "c"`+"\n"+`image_name = "i"`+"\n")
			file = filepath.Join(root, conf.AdminDir, "example.toml.d/drop-in.toml")
		default:
			t.Errorf("%s: the first line names no schema", name)
		}
		write(t, file, text)
		if strings.Contains(text, "\njoin = \"neutron-keepalived\"\n") {
			write(t, filepath.Join(root, conf.AdminDir, "neutron-keepalived.toml"), examples["../examples/neutron-keepalived.toml"])
		}
		if set := conf.Load(root); len(set.Services) == 0 || len(set.Broken) != 0 {
			t.Errorf("%s: %v", name, set.Problems())
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Names that are decided in the code are those of the page that explains them.
func TestNames(t *testing.T) {
	page := plain(source(t, "tripleo-wrappers.7"))
	for _, name := range append([]string{
		conf.AdminDir, conf.VendorDir,
		layout.Activator(), layout.ClientBinary(), layout.Target, layout.NetnsDir,
		layout.LogFile("NAME", "NETNS"), layout.ArgsFile("NAME", "NETNS"),
		layout.SocketUnit("NAME"), layout.PathUnit("NAME"), layout.ServiceUnit("NAME"),
		layout.TemplateUnit("NAME"), layout.SidecarUnit("NAME", "NETNS"), layout.Container("NAME", "NETNS"),
		layout.StateDir("SERVICE_DIR", "NAME") + "/" + layout.Wrapper,
		layout.StateDir("SERVICE_DIR", "NAME") + "/" + layout.Client,
		layout.StateDir("SERVICE_DIR", "NAME") + "/" + layout.Socket,
		layout.StateDir("SERVICE_DIR", "NAME") + "/" + layout.Spool,
		layout.StateDir("SERVICE_DIR", "NAME") + "/" + layout.SpoolFailed,
		layout.StateDir("SERVICE_DIR", "NAME") + "/" + layout.SpoolRejected + "N",
		layout.KillScript("SERVICE_DIR", "SCRIPT"),
		layout.SpoolTimestamp, layout.SpoolLock, layout.SpoolsTaken()[0], layout.SpoolsTaken()[len(layout.SpoolsTaken())-1],
		journal.Service + "=", journal.Netns + "=", journal.Request + "=", journal.Unit + "=", journal.PID + "=",
		journal.Result + "=", journal.ReadyUsec + "=",
		journal.Started, journal.Running, journal.Failed, journal.Refused, journal.Dropped, journal.GaveUp,
	}, records()...) {
		if !strings.Contains(page, name) {
			t.Errorf("not in the page: %s", name)
		}
	}
}

func records() (names []string) {
	for _, file := range layout.Records("NAME", "NETNS") {
		names = append(names, filepath.Base(file))
	}
	return names
}

// A page of ours that another one mentions is there.
func TestReferences(t *testing.T) {
	all := pages(t)
	reference := regexp.MustCompile(`\*\*(tripleo-[a-z.-]+)\*\*\(([0-9])\)`)
	for name := range all {
		for _, match := range reference.FindAllStringSubmatch(source(t, name), -1) {
			if page := match[1] + "." + match[2]; all[page] == nil {
				t.Errorf("%s mentions %s, which is not there", name, page)
			}
		}
	}
}
