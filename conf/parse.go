// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// A document is the text of one definition or drop-in, and what it says.
type document struct {
	path   string // with root
	text   string
	tables map[string]any

	// Made for the first problem: positions cost more than the rest together,
	// and a good document needs none.
	meta       *toml.MetaData
	primitives map[string]toml.Primitive
	positions  map[string]int
}

// A syntaxError is what keeps a text from being TOML.
type syntaxError struct {
	offset  int
	message string
}

func (e *syntaxError) Error() string { return e.message }

// parseTOML reads a TOML document.
func parseTOML(text string) (tables map[string]any, err error) {
	if err := checkText(text); err != nil {
		return nil, err
	}
	if err := checkNesting(text); err != nil {
		return nil, err
	}
	// The parser panics where it finds a bug in itself.
	defer func() {
		if r := recover(); r != nil {
			tables, err = nil, &syntaxError{0, fmt.Sprintf("cannot be parsed: %v", r)}
		}
	}()
	if _, err := toml.Decode(text, &tables); err != nil {
		var pe toml.ParseError
		if !errors.As(err, &pe) {
			return nil, &syntaxError{0, strings.TrimPrefix(err.Error(), "toml: ")}
		}
		message := strings.TrimSuffix(pe.Message, ".")
		if first, size := utf8.DecodeRuneInString(message); strings.HasPrefix(message, "Key ") || strings.HasPrefix(message, "Invalid ") {
			message = string(unicode.ToLower(first)) + message[size:]
		}
		// It quotes what it found, the end of the file as a NUL.
		message = strings.ReplaceAll(message, "\x00", "EOF")
		message = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return '?'
			}
			return r
		}, message)
		return nil, &syntaxError{pe.Position.Start, message}
	}
	return tables, nil
}

// checkText finds what TOML allows nowhere. The parser would find it as well,
// but says less, and not always in the right place.
func checkText(text string) *syntaxError {
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		return &syntaxError{0, "is UTF-16; a definition has to be UTF-8"}
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(text[i:])
			if r == utf8.RuneError && size == 1 {
				return &syntaxError{i, fmt.Sprintf("holds the byte 0x%02x, which is not UTF-8", c)}
			}
			i += size - 1
		case c == '\t', c == '\n', c == '\r' && strings.HasPrefix(text[i+1:], "\n"):
		case c == '\r':
			return &syntaxError{i, "holds a carriage return without a newline after it"}
		case c == 0:
			return &syntaxError{i, "holds a NUL byte; a definition has to be text, in UTF-8"}
		case c < ' ', c == 0x7f:
			return &syntaxError{i, fmt.Sprintf(`holds the control character 0x%02x; in a string write "\u%04x"`, c, c)}
		}
	}
	return nil
}

// maxNesting is more than any definition needs.
const maxNesting = 32

// checkNesting refuses brackets in brackets, and dotted keys, that are deep
// enough to take all memory: the parser calls itself for the former, and keeps
// each beginning of the latter. Up to the first syntax error it sees the text
// as the parser does; what comes after that the parser never reaches.
func checkNesting(text string) *syntaxError {
	depth, parts := 0, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '#':
			i = skipTo(text, i, "\n") - 1
		case '"', '\'':
			i = skipString(text, i) - 1
		case '[', '{':
			depth++
			parts = 0
		case ']', '}':
			depth = max(depth-1, 0)
		case '\n', '=', ',':
			parts = 0
		case '.':
			parts++
		}
		if depth > maxNesting || parts > maxNesting {
			return &syntaxError{i, fmt.Sprintf("is nested more than %d deep", maxNesting)}
		}
	}
	return nil
}

// skipTo returns the offset of the first stop at or after i, or the end.
func skipTo(text string, i int, stop string) int {
	if n := strings.Index(text[i:], stop); n >= 0 {
		return i + n
	}
	return len(text)
}

// skipString returns the offset after the TOML string that begins at i.
func skipString(text string, i int) int {
	q := text[i : i+1]
	long := strings.Repeat(q, 3)
	end := q
	if strings.HasPrefix(text[i:], long) {
		end = long
	}
	for i += len(end); i < len(text); i++ {
		switch {
		case q == `"` && text[i] == '\\':
			i++
		case strings.HasPrefix(text[i:], end):
			i += len(end)
			// Up to two more quotes belong to the string: """a""""".
			for n := 0; n < 2 && end == long && strings.HasPrefix(text[i:], q); n++ {
				i++
			}
			return i
		case text[i] == '\n' && end == q:
			return i
		}
	}
	return len(text)
}

// lineColumn returns the line and column of an offset, both from 1.
func lineColumn(text string, offset int) (line, column int) {
	before := text[:min(max(offset, 0), len(text))]
	return 1 + strings.Count(before, "\n"), len(before) - strings.LastIndex(before, "\n")
}

// position returns the line and column of a key, which is dotted for the keys
// of the table ready.
func (doc *document) position(key string) (line, column int) {
	if offset, ok := doc.positions[key]; ok {
		return lineColumn(doc.text, offset)
	}
	if doc.positions == nil {
		doc.positions = make(map[string]int)
		// It was decoded before, so it can be.
		if meta, err := toml.Decode(doc.text, &doc.primitives); err == nil {
			doc.meta = &meta
		}
	}
	path := toml.Key{key}
	if _, ok := doc.primitives[key]; !ok {
		path = strings.SplitN(key, ".", 2)
	}
	doc.positions[key] = doc.offset(path)
	return lineColumn(doc.text, doc.positions[key])
}

// offset returns where a key is written, or 0 if that cannot be told.
//
// The parser knows, but tells only in the error that it makes when a value
// refuses to be decoded.
func (doc *document) offset(path toml.Key) int {
	if doc.meta == nil {
		return 0
	}
	start, ok := doc.refuse(path)
	if !ok {
		// A table may be there only because of its keys, as a is in a.b = 1.
		// The first of them stands for it.
		for _, k := range doc.meta.Keys() {
			if len(k) > len(path) && slices.Equal(k[:len(path)], path) {
				path = k
				start, ok = doc.refuse(path)
				break
			}
		}
		if !ok {
			return 0
		}
	}
	// Outside of inline tables it is the value's position. The key is at the
	// beginning of that line.
	before := doc.text[strings.LastIndex(doc.text[:start], "\n")+1 : start]
	eq := strings.LastIndex(before, "=")
	if len(path) == 1 || eq >= 0 && strings.Trim(before[eq+1:], " \t\"'[") == "" {
		return start - len(strings.TrimLeft(before, " \t"))
	}
	return start
}

// refuse returns the parser's position of a key.
func (doc *document) refuse(path toml.Key) (start int, ok bool) {
	in := doc.primitives
	for _, name := range path[:len(path)-1] {
		outer, ok := in[name]
		in = nil
		if !ok || doc.meta.PrimitiveDecode(outer, &in) != nil {
			return 0, false
		}
	}
	p, ok := in[path[len(path)-1]]
	var pe toml.ParseError
	if !ok || !errors.As(doc.meta.PrimitiveDecode(p, refusal{}), &pe) || pe.Position.Line == 0 {
		return 0, false
	}
	return min(pe.Position.Start, len(doc.text)), true
}

// refusal is a value that refuses to be decoded.
type refusal struct{}

func (refusal) UnmarshalTOML(any) error { return errRefused }

var errRefused = errors.New("refused")
