// SPDX-License-Identifier: Apache-2.0

package units

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// quote returns a word for a command line (systemd.service(5), "Command
// lines") that arrives at the program as it is: no specifier, no variable and
// no escape in it means anything. The word must not hold a NUL byte.
func quote(word string) string {
	word = strings.ReplaceAll(word, "$", "$$")
	return quoteSetting(word)
}

// quoteSetting returns a word for any other setting that takes a list of words
// (systemd.syntax(7), "Quoting"), where "$" means nothing.
func quoteSetting(word string) string {
	const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789$%+,-./:=@_"
	word = strings.ReplaceAll(word, "%", "%%")
	if word != "" && strings.Trim(word, safe) == "" {
		return word
	}
	var b strings.Builder
	b.WriteByte('"')
	for i, r := range word {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == utf8.RuneError && !strings.HasPrefix(word[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, word[i])
		case unicode.Is(unicode.Noncharacter_Code_Point, r):
			// To systemd a line with one of these is not UTF-8, and is ignored.
			for _, c := range []byte(string(r)) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		case unicode.IsControl(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// text returns a value for a setting that takes a line of text, such as
// Description=.
func text(line string) string {
	// systemd ignores a line that is not UTF-8.
	line = strings.ToValidUTF8(line, "?")
	line = strings.Join(strings.FieldsFunc(line, unicode.IsControl), " ")
	// A backslash at the end would join the next line.
	return strings.TrimRight(strings.ReplaceAll(line, "%", "%%"), `\`)
}
