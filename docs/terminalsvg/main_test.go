// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/xml"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRun(t *testing.T) {
	tests := []struct {
		name, in string
		want     []string // lines of text, as they are marked up
	}{
		{"plain", "one\ntwo\n", []string{"one", "two"}},
		{"line ends of a terminal", "one\r\ntwo\r\n", []string{"one", "two"}},
		{"bold and back", "\x1b[1mhost#\x1b[0m ls", []string{`<tspan class="bold">host#</tspan> ls`}},
		{"bold over two lines", "\x1b[1ma \\\n b\x1b[0m\nc",
			[]string{`<tspan class="bold">a \</tspan>`, `<tspan class="bold"> b</tspan>`, "c"}},
		{"colour and bold at once", "\x1b[0;1;32mok\x1b[m:", []string{`<tspan class="bold c32">ok</tspan>:`}},
		{"colour alone taken back", "\x1b[1;31ma\x1b[39mb\x1b[22mc",
			[]string{`<tspan class="bold c31">a</tspan><tspan class="bold">b</tspan>c`}},
		{"other sequences dropped", "a\x1b[K\x1b[?25lb \x1b]8;;file:///etc\aetc\x1b]8;;\a", []string{"ab etc"}},
		{"tab after a colour", "\x1b[32mreal\x1b[0m\t1s", []string{`<tspan class="c32">real</tspan>    1s`}},
		{"what XML has names for", "a <b> & c", []string{"a &lt;b&gt; &amp; c"}},
		{"no character of XML", "a\x01b", []string{"a\uFFFDb"}},
		{"nothing", "", nil},
	}
	lines := regexp.MustCompile(`<text [^>]*>(.*)</text>`)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			if err := run(strings.NewReader(test.in), &out); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range lines.FindAllStringSubmatch(out.String(), -1) {
				got = append(got, m[1])
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
			if err := xml.Unmarshal([]byte(out.String()), new(struct{})); err != nil {
				t.Errorf("not well-formed: %v", err)
			}
		})
	}
}

// The picture has room for the longest line, and for empty ones.
func TestSize(t *testing.T) {
	size := regexp.MustCompile(`^<svg [^>]*width="(\d+)" height="(\d+)"`)
	measure := func(in string) []string {
		return size.FindStringSubmatch(string(draw(parse(in))))[1:]
	}
	want := measure("…2345678\n\nthree")
	if got := measure("1\n\n\t"); !slices.Equal(got, want) {
		t.Errorf("size is %v, want %v as with a longest line of 8 characters", got, want)
	}
	if got := measure("…2345678\nthree"); got[1] == want[1] {
		t.Errorf("height is %v with an empty line and without", got[1])
	}
}
