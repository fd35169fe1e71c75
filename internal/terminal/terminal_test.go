// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func table(terminal Terminal, elastic int, rows ...[]Cell) string {
	var out strings.Builder
	terminal.Writer = &out
	terminal.Table(2, elastic, rows)
	return out.String()
}

func TestTable(t *testing.T) {
	rows := [][]Cell{
		Row("NETNS", "STATE", "NOTES"),
		{{Text: "qdhcp-é"}, {Text: "running", Colour: Good}, {}},
		{{Text: "q\x1b[2J"}, {Text: ""}, {Text: "orphan", Colour: Warn}},
	}
	want := "  NETNS    STATE    NOTES\n" +
		"  qdhcp-é  running\n" +
		"  q?[2J             orphan\n"
	if diff := cmp.Diff(want, table(Terminal{}, 0, rows...)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	coloured := strings.NewReplacer("running", "\x1b[32mrunning\x1b[0m", "orphan", "\x1b[33morphan\x1b[0m").Replace(want)
	if diff := cmp.Diff(coloured, table(Terminal{width: 80, colours: true}, 0, rows...)); diff != "" {
		t.Errorf("in colours (-want +got):\n%s", diff)
	}
}

// A table fits on a terminal that is wide enough for what cannot be shortened.
func TestTableFits(t *testing.T) {
	row := Row("qdhcp-5c4cbd8e-3c9d-4a7b-9a3f-0c2d1e4f5a6b", "running", "a note that is long enough")
	for width := 51; width < 90; width++ {
		for line := range strings.Lines(table(Terminal{width: width}, 0, row)) {
			if n := utf8.RuneCountInString(strings.TrimSpace(line)) + 2; n > width {
				t.Errorf("width %d: %d columns: %q", width, n, line)
			}
		}
	}
	if got := table(Terminal{}, 0, row); !strings.Contains(got, row[0].Text) {
		t.Errorf("shortened where there is no terminal: %q", got)
	}
}

func TestShorten(t *testing.T) {
	tests := []struct {
		text string
		most int
		want string
	}{
		{"abcdef", 6, "abcdef"}, {"abcdef", 5, "ab…ef"}, {"abcdef", 4, "ab…f"}, {"äöüäöü", 3, "ä…ü"},
		{"abc", 2, "a…"}, {"abc", 1, "…"}, {"", 0, ""},
	}
	for _, test := range tests {
		if got := Shorten(test.text, test.most); got != test.want {
			t.Errorf("Shorten(%q, %d) = %q, want %q", test.text, test.most, got, test.want)
		}
	}
}

func TestProgress(t *testing.T) {
	for _, width := range []int{0, 80} {
		var out strings.Builder
		terminal := &Terminal{Writer: &out, width: width}
		p := terminal.Progress(2)
		p.Step("one is done")
		p.Step("")
		p.End()
		if got := strings.Contains(out.String(), "2 of 2"); got != (width > 0) {
			t.Errorf("width %d: a bar: %v: %q", width, got, out.String())
		}
		if !strings.Contains(out.String(), "one is done\n") {
			t.Errorf("width %d: %q", width, out.String())
		}
	}
}
