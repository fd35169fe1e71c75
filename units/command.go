// SPDX-License-Identifier: Apache-2.0

package units

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// Command returns the command line that the sidecar of a network namespace is
// started with, less the arguments of its caller, which stand behind it. It is
// read from the unit's text, so that it is the very one.
func Command(s *conf.Service, netns string) ([]string, error) {
	for line := range strings.Lines(sidecarUnit(s)) {
		line, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "ExecStart=")
		if !ok {
			continue
		}
		words, err := splitWords(line, netns)
		if err != nil {
			return nil, fmt.Errorf("reading the unit of %s: %w", s.Name, err)
		}
		// The client stands before it, with options of its own.
		for len(words) > 0 && words[0] == layout.ClientBinary() {
			words = behindOptions(words)
		}
		return words, nil
	}
	return nil, fmt.Errorf("the unit of %s has no command", s.Name)
}

// behindOptions returns the words behind "--".
func behindOptions(words []string) []string {
	for i, word := range words {
		if word == "--" {
			return words[i+1:]
		}
	}
	return nil
}

// splitWords returns the words of a command line that quote made, with the
// instance's name in the place of its specifier.
func splitWords(line, instanceName string) ([]string, error) {
	var words []string
	for {
		line = strings.TrimLeft(line, " ")
		if line == "" {
			return words, nil
		}
		var word strings.Builder
		quoted := line[0] == '"'
		if quoted {
			line = line[1:]
		}
		for {
			if line == "" {
				if quoted {
					return nil, fmt.Errorf("a quotation mark is missing")
				}
				break
			}
			if quoted && line[0] == '"' {
				line = line[1:]
				break
			}
			if !quoted && line[0] == ' ' {
				break
			}
			text, size, err := unescape(line, instanceName)
			if err != nil {
				return nil, err
			}
			word.WriteString(text)
			line = line[size:]
		}
		words = append(words, word.String())
	}
}

// unescape returns what stands for at the beginning of a text, and how many
// bytes of it that is.
func unescape(text, instanceName string) (string, int, error) {
	two := text[:min(2, len(text))]
	switch two {
	case "%i":
		return instanceName, 2, nil
	case "%%", "$$", `\"`, `\\`:
		return two[1:], 2, nil
	case `\n`:
		return "\n", 2, nil
	case `\t`:
		return "\t", 2, nil
	case `\x`, `\u`:
		digits := 2
		if two == `\u` {
			digits = 4
		}
		if len(text) < 2+digits {
			return "", 0, fmt.Errorf("%q is cut short", text)
		}
		code, err := strconv.ParseUint(text[2:2+digits], 16, 16)
		if err != nil {
			return "", 0, err
		}
		if two == `\x` {
			return string([]byte{byte(code)}), 2 + digits, nil // #nosec G115 -- two hexadecimal digits
		}
		return string(rune(code)), 2 + digits, nil
	}
	if text[0] == '%' || text[0] == '$' || text[0] == '\\' {
		return "", 0, fmt.Errorf("%q stands for nothing known", two)
	}
	return text[:1], 1, nil
}
