// SPDX-License-Identifier: Apache-2.0

package units

import (
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
