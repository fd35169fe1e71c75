// SPDX-License-Identifier: Apache-2.0

// Command terminalsvg draws what a terminal showed. It reads text with escape
// sequences and writes an SVG, as wide as the longest line. Of the sequences it
// knows bold and the eight colours, and drops all others.
package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Sizes in pixels. No common font of fixed width is wider than 0.62 of its
// height; in a narrower one there is some room at the right.
const (
	fontSize   = 14
	cellWidth  = 0.62 * fontSize
	lineHeight = 19
	padding    = 18
)

// The window has its own background, so it looks the same on any page.
const style = `
rect { fill: #0d1117; stroke: #3d444d }
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace;
  white-space: pre; fill: #d1d7e0 }
.bold { font-weight: bold; fill: #f0f6fc }
.c30 { fill: #656c76 } .c31 { fill: #ff7b72 } .c32 { fill: #3fb950 } .c33 { fill: #d29922 }
.c34 { fill: #58a6ff } .c35 { fill: #bc8cff } .c36 { fill: #39c5cf } .c37 { fill: #f0f6fc }
`

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "terminalsvg: %v\n", err)
		os.Exit(1)
	}
}

func run(r io.Reader, w io.Writer) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("reading what to draw: %w", err)
	}
	if _, err := w.Write(draw(parse(string(text)))); err != nil {
		return fmt.Errorf("writing the picture: %w", err)
	}
	return nil
}

// A look is how characters look: bold or not, and a colour by its number in
// escape sequences, 30 to 37, or 0.
type look struct {
	bold   bool
	colour int
}

// apply takes the parameters of a Select Graphic Rendition sequence, such as
// "1;32".
func (l *look) apply(parameters string) {
	for parameter := range strings.SplitSeq(parameters, ";") {
		n, _ := strconv.Atoi(parameter) // none at all is the same as 0
		switch {
		case n == 0:
			*l = look{}
		case n == 1:
			l.bold = true
		case n == 22:
			l.bold = false
		case n >= 30 && n <= 37:
			l.colour = n
		case n == 39:
			l.colour = 0
		}
	}
}

// A span is a part of a line that looks the same from its beginning to its end.
type span struct {
	look
	text string
}

// escape matches control sequences, with the parameters of those that select
// how characters look, and operating system commands, such as hyperlinks.
var escape = regexp.MustCompile("\x1b\\[([0-9;]*)m|\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\a\x1b]*(?:\a|\x1b\\\\)")

// parse splits text into lines, and lines into spans. Empty lines at the end
// are left out.
func parse(text string) [][]span {
	var lines [][]span
	var current look
	for line := range strings.SplitSeq(strings.TrimRight(text, "\r\n"), "\n") {
		line = strings.TrimSuffix(line, "\r")
		var spans []span
		column, begin := 0, 0
		add := func(end int) {
			if text := expand(line[begin:end], column); text != "" {
				spans = append(spans, span{current, text})
				column += utf8.RuneCountInString(text)
			}
		}
		for _, m := range escape.FindAllStringSubmatchIndex(line, -1) {
			add(m[0])
			begin = m[1]
			if m[2] >= 0 {
				current.apply(line[m[2]:m[3]])
			}
		}
		add(len(line))
		lines = append(lines, spans)
	}
	return lines
}

// expand replaces tabs in text that begins at a column: SVG has none.
func expand(text string, column int) string {
	var b strings.Builder
	for _, r := range text {
		if r != '\t' {
			b.WriteRune(r)
			column++
			continue
		}
		n := 8 - column%8
		b.WriteString(strings.Repeat(" ", n))
		column += n
	}
	return b.String()
}

func draw(lines [][]span) []byte {
	columns := 0
	for _, line := range lines {
		n := 0
		for _, s := range line {
			n += utf8.RuneCountInString(s.text)
		}
		columns = max(columns, n)
	}
	width := int(float64(columns)*cellWidth) + 2*padding
	height := len(lines)*lineHeight + 2*padding

	var b bytes.Buffer
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %[1]d %[2]d\">\n",
		width, height)
	fmt.Fprintf(&b, "<style>%s</style>\n", style)
	fmt.Fprintf(&b, "<rect x=\"0.5\" y=\"0.5\" width=\"%d\" height=\"%d\" rx=\"8\"/>\n", width-1, height-1)
	for i, line := range lines {
		if len(line) == 0 {
			continue
		}
		fmt.Fprintf(&b, "<text xml:space=\"preserve\" x=\"%d\" y=\"%d\">", padding, padding+fontSize+i*lineHeight)
		for _, s := range line {
			s.draw(&b)
		}
		b.WriteString("</text>\n")
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func (s span) draw(b *bytes.Buffer) {
	var classes []string
	if s.bold {
		classes = append(classes, "bold")
	}
	if s.colour != 0 {
		classes = append(classes, "c"+strconv.Itoa(s.colour))
	}
	if len(classes) > 0 {
		fmt.Fprintf(b, "<tspan class=\"%s\">", strings.Join(classes, " "))
		defer b.WriteString("</tspan>")
	}
	// A buffer takes everything.
	_ = xml.EscapeText(b, []byte(s.text))
}
