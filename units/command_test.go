// SPDX-License-Identifier: Apache-2.0

package units

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
)

func TestCommand(t *testing.T) {
	awkward := `two "words" $HOME %i \` + "\n\t\u0085\xff"
	tests := []struct {
		name    string
		service conf.Service
		want    []string // at the end
		first   string
	}{
		{"a list on the host", conf.Service{Engine: conf.Systemd, Command: conf.Command{Argv: []string{"/bin/d", awkward, ""}}},
			[]string{"/bin/d", awkward, ""}, "/bin/d"},
		{"shell text on the host", conf.Service{Engine: conf.Systemd, Command: conf.Command{Shell: `exec d $(echo "-k")`}},
			[]string{"/bin/sh", "-c", `exec d $(echo "-k") "$@"`, "a"}, "/bin/sh"},
		{"podman", conf.Service{Engine: conf.Podman, Image: "localhost/i", Command: conf.Command{Argv: []string{"d", "-k"}}},
			[]string{"localhost/i", "d", "-k"}, "podman"},
		{"docker", conf.Service{Engine: conf.Docker, Image: "localhost/i", Command: conf.Command{Argv: []string{"d", "-k"}}},
			[]string{"d", "-k"}, "docker"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.service.Name, test.service.Dir = "a", "/s"
			got, err := Command(&test.service, "qdhcp-1")
			if err != nil || len(got) < len(test.want) {
				t.Fatalf("%q, error %v", got, err)
			}
			if diff := cmp.Diff(test.want, got[len(got)-len(test.want):]); diff != "" || got[0] != test.first {
				t.Errorf("begins with %q (-want +got):\n%s", got[0], diff)
			}
			if test.service.Engine == conf.Podman && !slices.Contains(got, "--network=ns:/run/netns/qdhcp-1") {
				t.Errorf("the network namespace is missing in %q", got)
			}
		})
	}
}

// However long a definition is that there can be, no line of its units is longer than
// systemd reads (LONG_LINE_MAX), and no argument than Linux passes on (MAX_ARG_STRLEN).
func TestLongest(t *testing.T) {
	const room = 20<<10 - 100
	fill := func(size int, text string) string { return strings.Repeat(text, room/size) }
	for _, text := range []string{
		"cmd = ['c', " + fill(1, "'',") + "]\nrun = [['-n']]",
		"cmd = ['c', '" + fill(1, "$") + "']\nrun = [['-n']]",
		"cmd = ['c', " + fill(2, "'$',") + "]\nrun = [['-n']]",
		"cmd = ['c', \"" + fill(1, `\u0001`) + "\"]\nrun = [['-n']]",
		"cmd = \"c '" + fill(1, "$") + "'\"",
		"cmd = 'c'\nrun = [['" + fill(1, "<") + "']]",
		"cmd = 'c'\nrun = [[\"" + fill(1, `\u0001`) + "\"]]",
		"cmd = 'c'\nrun = [" + fill(3, "['<'],") + "]",
		"cmd = 'c'\ncontainer_options = ['--label', \"" + fill(1, `\t`) + "\"]",
		"cmd = 'c'\ncontainer_options = ['-a', " + fill(2, "'$',") + "]",
		"cmd = 'c'\nconfig_bind_mount = '/" + fill(1, "%") + ":/b'",
		"cmd = 'c'\npass_environment = [" + fill(2, "'A',") + "]",
		"cmd = 'c'\nallowed_uids = [" + fill(8, "4294967294,") + "]",
		"cmd = 'c'\nready.pid_file_option = [" + fill(3, "'-$',") + "]",
	} {
		root := t.TempDir()
		file := filepath.Join(root, conf.AdminDir, "a.toml")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("service_dir = '/s'\nimage_name = 'i'\n"+text), 0o644); err != nil {
			t.Fatal(err)
		}
		set := conf.Load(root)
		if len(set.Services) != 1 {
			t.Errorf("%.40s: %v", text, set.Problems())
			continue
		}
		service := &set.Services[0]
		for _, unit := range Render(service) {
			for line := range strings.Lines(unit.Text) {
				if len(line) >= 1<<20 {
					t.Errorf("%.40s: a line of %s has %d bytes", text, unit.Name, len(line))
				}
			}
		}
		words, err := Command(service, "i")
		if err != nil {
			t.Error(err)
		}
		for _, word := range append(words, Options(service).Args()...) {
			if len(word) >= 128<<10 {
				t.Errorf("%.40s: an argument has %d bytes", text, len(word))
			}
		}
	}
}

func TestSplitWordsErrors(t *testing.T) {
	for _, line := range []string{`"open`, `%h`, `$HOME`, `\q`, `"\x1`, `"\xzz"`, `\u12`, `%`, `\`} {
		if words, err := splitWords(line, "i"); err == nil {
			t.Errorf("%s is read as %q", line, words)
		}
	}
}

// Whatever is quoted is read back as it was.
func FuzzSplitWords(f *testing.F) {
	f.Add("plain", "")
	f.Add(`"\`, "%i$$\n\t\x00\xff\ufffe\u0085é")
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.Contains(a+b, "\x00") {
			return // no word of a command line holds one
		}
		got, err := splitWords(quote(a)+" "+quote(b)+" %i", "instance")
		if err != nil || !slices.Equal(got, []string{a, b, "instance"}) {
			t.Errorf("%q and %q are read back as %q, error %v", a, b, got, err)
		}
	})
}
