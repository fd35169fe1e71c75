// SPDX-License-Identifier: Apache-2.0

package units

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
)

func TestQuote(t *testing.T) {
	tests := []struct{ word, want string }{
		{"plain", "plain"},
		{"--option=/a/b,c:d+e@f_g.h", "--option=/a/b,c:d+e@f_g.h"},
		{"", `""`},
		{";", `";"`},
		{"a b", `"a b"`},
		{"$HOME", "$$HOME"},
		{"%i", "%%i"},
		{`say "a\b"`, `"say \"a\\b\""`},
		{"two\nlines\tand a tab", `"two\nlines\tand a tab"`},
		{"\r\x01\x7f", `"\x0d\x01\x7f"`},
		{"\u0085", `"\u0085"`},
		{"\xff\ufffd", `"\xff` + "\ufffd" + `"`},
		{"\ufffe", `"\xef\xbf\xbe"`},
		{"é", `"é"`},
	}
	for _, test := range tests {
		if got := quote(test.word); got != test.want {
			t.Errorf("quote(%q) = %s, want %s", test.word, got, test.want)
		}
	}
	if got, want := quoteSetting("$HOME 1%"), `"$HOME 1%%"`; got != want {
		t.Errorf("quoteSetting does not leave $ alone: got %s, want %s", got, want)
	}
}

func TestText(t *testing.T) {
	tests := []struct{ line, want string }{
		{"as it is", "as it is"},
		{"100% of\r\nit\tall", "100%% of it all"},
		{`no line goes on \\`, `no line goes on `},
	}
	for _, test := range tests {
		if got := text(test.line); got != test.want {
			t.Errorf("text(%q) = %q, want %q", test.line, got, test.want)
		}
	}
}

func TestSpan(t *testing.T) {
	tests := map[time.Duration]string{
		time.Minute:             "60s",
		1500 * time.Millisecond: "1500ms",
		500 * time.Microsecond:  "500us",
	}
	for d, want := range tests {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %s, want %s", d, got, want)
		}
	}
}

// Words that have a meaning somewhere in a unit file. The property test puts
// more together from these.
var awkward = []string{
	"", " ", ";", `\;`, "-", "@", ":", "+", "!", "|", "#", "=", "%", "%%", "%i", "%n", "$", "$$", "$HOME", "${HOME}",
	`"`, `'`, "`", `\`, `\\`, `\n`, `\x41`, `\101`, `\u0041`, `\s`, "\n", "\r", "\t", "\v", "\x01", "\x1b[0m", "\x7f", "\x80", "\xff",
	"\u0085", "\u00a0", "\u2028", "\ufeff", "\ufffd", "\ufdd0", "\ufffe", "\uffff", "\U0001fffe", "\U0010ffff",
	"é", "日本語", "🙂", "a", "word", "0", "/", "{}", "*", "?", "~", "&", "<", ">", "(", ")", "[Unit]", "ExecStart=/bin/false",
}

// What quote returns is what systemd's own parser makes a word again.
func TestQuoteRoundTrip(t *testing.T) {
	words := awkward[:len(awkward):len(awkward)]
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var word strings.Builder
		for range 1 + random.IntN(6) {
			word.WriteString(awkward[random.IntN(len(awkward))])
		}
		words = append(words, word.String())
	}
	for range 500 {
		word := make([]byte, 1+random.IntN(12))
		for i := range word {
			word[i] = byte(1 + random.IntN(255))
		}
		words = append(words, string(word))
	}
	if got, want := parsedBySystemd(t, words), words; !cmp.Equal(got, want) {
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Fatalf("word %q, quoted %s, comes out of systemd as %q", want[i], quote(want[i]), got[i])
			}
		}
		t.Fatalf("%d words come out of systemd as %d", len(want), len(got))
	}
}

// parsedBySystemd returns the words that systemd makes of a command line of
// quoted words. With debug logging, `systemd-analyze verify` prints the units
// that it has read; no systemd has to run.
func parsedBySystemd(t *testing.T, words []string) []string {
	t.Helper()
	const label = "Command Line: "
	dump := dumpUnit(t, "ExecStart=/bin/true "+strings.Join(quoteAll(words), " "))
	_, line, ok := strings.Cut(dump, label)
	if !ok {
		t.Fatalf("there is no %q in what systemd-analyze prints:\n%s", label, dump)
	}
	// The line is printed as a C string, so it has no newline in it.
	line, _, _ = strings.Cut(line, "\n")
	printed, err := splitPrinted(line)
	if err != nil {
		t.Fatal(err)
	}
	got := printed[1:] // after /bin/true
	for i := range got {
		// That $$ is $ is seen to when the command is run (systemd.service(5)).
		// A single one would be a variable.
		if strings.Contains(strings.ReplaceAll(got[i], "$$", ""), "$") {
			t.Errorf("word %q has a variable in it for systemd: %q", words[min(i, len(words)-1)], got[i])
		}
		got[i] = strings.ReplaceAll(got[i], "$$", "$")
	}
	return got
}

func dumpUnit(t *testing.T, settings string) string {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("systemd-analyze is not here to parse units")
	}
	unit := filepath.Join(t.TempDir(), "words.service")
	if err := os.WriteFile(unit, []byte("[Service]\n"+settings+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	command := exec.Command("systemd-analyze", "verify", "--recursive-errors=no", "--man=no", unit)
	command.Env = append(os.Environ(), "SYSTEMD_LOG_LEVEL=debug", "LC_ALL=C.UTF-8")
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	return stdout.String()
}

// splitPrinted reads a command line as systemd prints it: words with blanks
// between them, the odd ones as C strings.
func splitPrinted(line string) ([]string, error) {
	escapes := map[byte]byte{
		'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v', 's': ' ',
		'"': '"', '\\': '\\', '$': '$', '`': '`', '\'': '\'',
	}
	var words []string
	var word strings.Builder
	quoted, begun := false, false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '"':
			quoted, begun = !quoted, true
		case c == ' ' && !quoted:
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		case c == '\\' && quoted && i+1 < len(line):
			i++
			if plain, ok := escapes[line[i]]; ok {
				word.WriteByte(plain)
				break
			}
			octal, err := strconv.ParseUint(line[i:min(i+3, len(line))], 8, 8)
			if err != nil {
				return nil, fmt.Errorf("unexpected escape in %q", line[i-1:])
			}
			word.WriteByte(byte(octal))
			i += 2
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words, nil
}

// In BindPaths= a colon within quotes is none between source and destination.
func TestBindPathsRoundTrip(t *testing.T) {
	const source, destination = `/srv/a b"c'%i$HOME;é`, "/mnt/x y"
	unit := host(&conf.Service{BindMounts: []conf.BindMount{{Source: source, Destination: destination}}})
	_, paths, ok := strings.Cut(unit, "BindPaths=")
	if !ok {
		t.Fatalf("no BindPaths= in:\n%s", unit)
	}
	paths, _, _ = strings.Cut(paths, "\n")
	dump := dumpUnit(t, "ExecStart=/bin/true\nBindPaths="+paths)
	if want := "BindPaths: " + source + ":" + destination + ":rbind\n"; !strings.Contains(dump, want) {
		t.Errorf("systemd does not print %q:\n%s", want, dump)
	}
}

func FuzzQuote(f *testing.F) {
	for _, word := range awkward {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, word string) {
		if strings.Contains(word, "\x00") {
			return
		}
		quoted := quote(word)
		if strings.ContainsAny(quoted, "\n\r") {
			t.Errorf("quote(%q) = %q is more than a line", word, quoted)
		}
		if !utf8.ValidString(quoted) {
			t.Errorf("quote(%q) = %q is not UTF-8, which systemd would not read", word, quoted)
		}
		if got, err := unquote(quoted); err != nil || got != word {
			t.Errorf("quote(%q) = %s, which is %q again, error %v", word, quoted, got, err)
		}
	})
}

// unquote is what systemd's manual says of quoting (systemd.syntax(7)), of
// specifiers and of variables, for one word. It says it again for fuzzing, for
// which systemd's own parser is too slow.
func unquote(word string) (string, error) {
	body, quoted := strings.CutPrefix(word, `"`)
	if quoted {
		var ok bool
		if body, ok = strings.CutSuffix(body, `"`); !ok {
			return "", fmt.Errorf("open quote")
		}
	} else if word == "" || strings.ContainsAny(word, " \t'\"\\;") {
		return "", fmt.Errorf("has to be quoted")
	}
	var b strings.Builder
	for i := 0; i < len(body); i++ {
		switch c := body[i]; c {
		case '"':
			return "", fmt.Errorf("quote within quotes")
		case '%', '$':
			if i++; i == len(body) || body[i] != c {
				return "", fmt.Errorf("single %c", c)
			}
			b.WriteByte(c)
		case '\\':
			rest := body[i+1:]
			digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}
			switch {
			case rest == "":
				return "", fmt.Errorf("open escape")
			case digits[rest[0]] > 0 && len(rest) > digits[rest[0]]:
				n := digits[rest[0]]
				value, err := strconv.ParseUint(rest[1:1+n], 16, 32)
				if err != nil {
					return "", err
				}
				if n == 2 {
					b.WriteByte(byte(value))
				} else {
					b.WriteRune(rune(value))
				}
				i += 1 + n
			default:
				plain, ok := map[byte]byte{'n': '\n', 't': '\t', '"': '"', '\\': '\\'}[rest[0]]
				if !ok {
					return "", fmt.Errorf("unexpected escape \\%c", rest[0])
				}
				b.WriteByte(plain)
				i++
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}
