// SPDX-License-Identifier: Apache-2.0

// Package terminal prints for people: tables that line up, in colours where
// the output is a terminal that wants them.
package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// A Terminal is where output goes; it need not be one.
type Terminal struct {
	io.Writer
	width   int // in columns; 0 where lines may have any length
	colours bool
	err     error
}

// New returns the terminal that w is, if it is one. Colours are left out where
// the environment has NO_COLOR (https://no-color.org) or a TERM that is dumb.
func New(w io.Writer) *Terminal {
	t := &Terminal{Writer: w}
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return t
	}
	t.colours = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	t.width = 80
	if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
		t.width = width
	}
	return t
}

// Write implements io.Writer.
func (t *Terminal) Write(text []byte) (int, error) {
	n, err := t.Writer.Write(text)
	if t.err == nil {
		t.err = err
	}
	return n, err
}

// Err returns the first error of writing, which those who print lines do not look
// at.
func (t *Terminal) Err() error { return t.err }

// Onto returns a terminal like this one whose output is kept in w.
func (t *Terminal) Onto(w io.Writer) *Terminal {
	return &Terminal{Writer: w, width: t.width, colours: t.colours}
}

// Height returns how many lines the terminal has now, or a usual number.
func (t *Terminal) Height() int {
	if file, ok := t.Writer.(*os.File); ok {
		if _, height, err := term.GetSize(int(file.Fd())); err == nil && height > 0 {
			return height
		}
	}
	return 24
}

// Interactive says whether it is a terminal.
func (t *Terminal) Interactive() bool { return t.width > 0 }

// A Colour is how a text stands out.
type Colour string

// The colours, by what they are for.
const (
	Plain Colour = ""
	Good  Colour = "32"
	Bad   Colour = "1;31"
	Warn  Colour = "33"
	Bold  Colour = "1"
	Faint Colour = "2"
)

// Colour returns a text in a colour, where the terminal has colours.
func (t *Terminal) Colour(colour Colour, text string) string {
	if !t.colours || colour == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(colour) + "m" + text + "\x1b[0m"
}

// A Cell is a text in a table.
type Cell struct {
	Text   string
	Colour Colour
}

// Row makes a row of cells without colours.
func Row(texts ...string) []Cell {
	row := make([]Cell, len(texts))
	for i, text := range texts {
		row[i].Text = text
	}
	return row
}

// shortest is what is left of the texts of a column, in columns of the
// terminal, however narrow that is.
const shortest = 12

// Table prints rows, indented, as a table whose columns line up. Where lines
// would be wider than the terminal, the texts of one column, counted from 0,
// are shortened in their middle, as systemctl(1) does.
func (t *Terminal) Table(indent int, elastic int, rows [][]Cell) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell.Text))
		}
	}
	total := indent + 2*(len(widths)-1)
	for _, width := range widths {
		total += width
	}
	if t.width > 0 && total > t.width && elastic < len(widths) {
		widths[elastic] = max(widths[elastic]-(total-t.width), min(shortest, widths[elastic]))
	}
	for _, row := range rows {
		line := strings.Repeat(" ", indent)
		blanks := 0
		for i, cell := range row {
			text := Shorten(Printable(cell.Text), widths[i])
			if text != "" {
				line += strings.Repeat(" ", blanks) + t.Colour(cell.Colour, text)
				blanks = 0
			}
			blanks += widths[i] - utf8.RuneCountInString(text) + 2
		}
		fmt.Fprintln(t, line)
	}
}

// Shorten takes out the middle of a text that is longer than a number of
// characters: names of network namespaces differ at both ends.
func Shorten(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	if most < 2 {
		return "…"
	}
	head := most / 2
	return string(runes[:head]) + "…" + string(runes[len(runes)-(most-1-head):])
}

// Printable returns a text without what would do something to a terminal.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}
