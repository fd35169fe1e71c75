// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// plainCommand matches text that means the same without a shell.
var plainCommand = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./ \t-]+$`)

// parseCommand reads a command that is written as one string.
//
// Words of nothing but letters, digits and _@%+=:,./- need no shell. They
// become an argument list, without an exec before them. All other text is for a
// shell, and is changed as little as possible so that ` "$@"` can be appended:
//
//   - Blanks, newlines and comments at its end are removed.
//   - Where no exec stands in command position, one is put before the command,
//     behind variable assignments: A=1 cmd becomes A=1 exec cmd. Without it a
//     shell would stay between systemd and the process, and swallow signals.
//
// An exec stands in command position at the beginning, after ; & | or a
// newline, and after variable assignments in these places. What is in quotes,
// $(…), `…`, ${…} or (…) is passed over.
//
// Text that runs several commands has to have an exec before the last one, which
// is the one that the arguments are for. Text whose end leaves no command for the
// arguments, as with ; or a redirection alone, is refused: the shell would run the
// first argument as a command.
func parseCommand(text string) (Command, error) {
	if strings.Contains(text, "\x00") {
		return Command{}, errors.New("has a NUL in it, which no command can have")
	}
	if plain := strings.TrimSpace(text); plainCommand.MatchString(plain) {
		words := strings.Fields(plain)
		if words[0] == "exec" {
			words = words[1:]
		}
		if len(words) == 0 {
			return Command{}, errors.New("names no command after exec")
		}
		// -a and the like are options of exec.
		if !strings.Contains(words[0], "=") && words[0][0] != '-' {
			return Command{Argv: words}, nil
		}
	}
	// A file with CRLF at the ends of its lines has them in long strings too,
	// where a shell would take the CR for a part of the last word.
	shell, err := parseShell(strings.ReplaceAll(text, "\r\n", "\n"))
	return Command{Shell: shell}, err
}

func checkArgv(argv []string) error {
	switch {
	case len(argv) == 0:
		return errors.New(`is an empty list; write for example ["/usr/sbin/dnsmasq", "-k"]`)
	case argv[0] == "":
		return errors.New("begins with an empty string; the first entry has to be the program")
	}
	if i := slices.IndexFunc(argv, func(a string) bool { return strings.Contains(a, "\x00") }); i >= 0 {
		return fmt.Errorf("has a NUL in its %s entry, which no argument can have", ordinal(i))
	}
	return nil
}

var errNoTarget = errors.New("has a redirection that leads nowhere; write the file behind it")

var errEmptyCommand = errors.New(`is empty; write for example "/usr/sbin/dnsmasq -k"`)

// reserved are the shell's words that begin a compound command. Its end takes
// no arguments.
var reserved = []string{"if", "while", "until", "for", "case", "{", "!"}

var (
	assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)
	// redirection is the beginning of one; without its target, that is the next word.
	redirection = regexp.MustCompile(`^[0-9]*(<<-?|<>|<&|>>|>&|>\||<|>)`)
)

// parseShell returns shell text as it is to be run, without the "$@".
func parseShell(text string) (string, error) {
	var (
		first    = -1    // where the first command's name is
		compound = false // whether it is a compound command
		commands = 0     // how many have a name
		hasExec  = false // whether one of them is exec
		isExec   = false // whether the last one is
		named    = false // whether the command at hand has a name
		begun    = false // whether it has any word, be it an assignment
		target   = false // whether the next word is where a redirection leads
		bare     = false // whether it is nothing but exec
		end      = 0     // after the last word or separator
		last     = ""    // that separator, if there is none of the other
	)
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == ' ', c == '\t', c == '\r':
			i++
			continue
		case strings.HasPrefix(text[i:], "\\\n"):
			i += 2
			continue
		case c == '#':
			i = skipTo(text, i, "\n")
			continue
		case target && strings.IndexByte("\n;&|", c) >= 0:
			return "", errNoTarget
		case strings.HasPrefix(text[i:], "&>"):
			return "", errors.New("redirects with &>, which sh takes for something else; write >FILE 2>&1")
		case c == '\n':
			i++
			named, begun = false, false
			continue
		case strings.IndexByte(";&|", c) >= 0:
			i++
			named, begun, last, end = false, false, string(c), i
			continue
		}
		next, ok := skipWord(text, i)
		if !ok {
			return "", errors.New("has a quote or a bracket that is not closed")
		}
		word := text[i:next]
		redirects := redirection.FindString(word)
		if target || redirects != "" {
			target = redirects == word
		} else if !named && !assignment.MatchString(word) {
			named = true
			commands++
			isExec = word == "exec"
			bare = isExec
			hasExec = hasExec || isExec
			if first < 0 {
				first, compound = i, slices.Contains(reserved, word) || word[0] == '('
			}
		} else if named {
			bare = false
		}
		begun, last = true, ""
		i, end = next, next
	}
	switch {
	case target:
		return "", errNoTarget
	case commands == 0 && end == 0:
		return "", errEmptyCommand
	case last != "":
		return "", fmt.Errorf("ends with %s, so that the arguments of the wrapper's caller would be run as a command; end with the command that they are for", quote(last))
	case named && bare:
		return "", errors.New("names no command after exec")
	case commands == 0 || !named && begun:
		return "", errors.New("names no command after the variable assignment or the redirection")
	case !hasExec && compound:
		return "", errors.New("begins with a compound command, after which the arguments of the wrapper's caller cannot stand; write $(…) around what chooses the command")
	case !isExec && commands > 1:
		return "", errors.New("runs several commands, with no exec before the last one; write exec before the one that is the sidecar's process, and put it last")
	}
	text = text[:end]
	for strings.HasSuffix(text, "\\\n") { // the word goes on in a line that has nothing more of it
		text = strings.TrimSuffix(text, "\\\n")
	}
	if !hasExec {
		text = text[:first] + "exec " + text[first:]
	}
	return strings.TrimLeft(text, " \t\r\n"), nil
}

// skipWord returns the offset after the shell word that begins at i, and
// whether all quotes and brackets in it are closed.
func skipWord(text string, i int) (int, bool) {
	for i < len(text) {
		c := text[i]
		switch {
		case strings.IndexByte(" \t\r\n;|", c) >= 0:
			return i, true
		case c == '&' && !strings.HasSuffix(text[:i], ">") && !strings.HasSuffix(text[:i], "<"):
			return i, true
		case c == '>' && strings.HasPrefix(text[i+1:], "|"):
			i += 2
			continue
		}
		next, ok := skipPiece(text, i)
		if !ok {
			return len(text), false
		}
		i = next
	}
	return i, true
}

// skipPiece returns the offset after the character, quotation or expansion
// that begins at i.
func skipPiece(text string, i int) (int, bool) {
	switch c := text[i]; {
	case c == '\\':
		return i + 2, i+1 < len(text)
	case c == '\'':
		return skipPast(text, i+1, '\'', false)
	case c == '"':
		return skipPast(text, i+1, '"', true)
	case c == '`':
		return skipPast(text, i+1, '`', true)
	case c == '(':
		return skipPast(text, i+1, ')', true)
	case strings.HasPrefix(text[i:], "${"):
		return skipPast(text, i+2, '}', true)
	}
	return i + 1, true
}

// skipPast returns the offset after the next close, passing over what is
// nested if asked to.
func skipPast(text string, i int, close byte, nested bool) (int, bool) {
	for i < len(text) {
		switch c := text[i]; {
		case c == close:
			return i + 1, true
		case !nested:
			i++
			continue
		// Within double quotes only expansions nest; the other signs are
		// themselves.
		case close == '"' && (c == '\'' || c == '(' && text[i-1] != '$'):
			i++
			continue
		}
		next, ok := skipPiece(text, i)
		if !ok {
			return len(text), false
		}
		i = next
	}
	return len(text), false
}
