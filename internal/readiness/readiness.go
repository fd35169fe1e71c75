// SPDX-License-Identifier: Apache-2.0

// Package readiness says when a sidecar is ready: as a daemon that forks into
// the background is when it returns, namely when its pid file names it and it
// has nothing left to do that may fail. Neutron counts on that
// (neutron/agent/linux/external_process.py).
package readiness

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// A Rule tells which pid files a sidecar writes. With neither field set there
// are none to wait for.
type Rule struct {
	// PIDFileOptions are options of the command that take a pid file's path,
	// such as "--pid-file" and "-x". Each that a call has is waited for.
	PIDFileOptions []string
	// PIDFile is a path with the placeholders {netns} and {uuid}: the network
	// namespace's name, and the UUID in it.
	PIDFile string
}

// PIDFiles returns the pid files of a sidecar that is started with those
// arguments in that network namespace. It fails for a rule with {uuid} and a
// namespace without one, and for a relative path, which nobody but the sidecar
// could resolve.
func (r *Rule) PIDFiles(arguments []string, netns string) ([]string, error) {
	if r.PIDFile != "" {
		id := findUUID(netns)
		if id == "" && strings.Contains(r.PIDFile, "{uuid}") {
			return nil, fmt.Errorf("pid file %s: there is no UUID in the name of network namespace %s; "+
				"use {netns} in the definition's ready.pid_file", r.PIDFile, netns)
		}
		return []string{strings.NewReplacer("{netns}", netns, "{uuid}", id).Replace(r.PIDFile)}, nil
	}
	var files []string
	for i, argument := range arguments {
		for _, option := range r.PIDFileOptions {
			file, ok := value(option, argument, arguments[i+1:])
			if !ok {
				continue
			}
			if !path.IsAbs(file) {
				return nil, fmt.Errorf("pid file %q of option %s is not an absolute path; the agent has to call with one", file, option)
			}
			files = append(files, path.Clean(file))
		}
	}
	if len(files) > maxPIDFiles {
		return nil, fmt.Errorf("the arguments name %d pid files, of which at most %d are looked for; the agent has to call with fewer",
			len(files), maxPIDFiles)
	}
	return files, nil
}

// findUUID returns the first UUID in a text, in lower case as Neutron has them,
// or "".
//
// Package regexp would do the same, at the price of a tenth of the client.
func findUUID(text string) string {
	const form = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
	for ; len(text) >= len(form); text = text[1:] {
		if isUUID(text[:len(form)], form) {
			return text[:len(form)]
		}
	}
	return ""
}

func isUUID(text, form string) bool {
	for i := range len(form) {
		switch c := text[i]; {
		case form[i] == '-':
			if c != '-' {
				return false
			}
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f':
		default:
			return false
		}
	}
	return true
}

// value returns the value that an argument gives to an option, in the forms of
// getopt_long(3): "--option=value", "--option" "value", "-o" "value", "-ovalue".
func value(option, argument string, rest []string) (string, bool) {
	after, ok := strings.CutPrefix(argument, option)
	switch {
	case !ok:
		return "", false
	case after == "":
		if len(rest) == 0 {
			return "", false
		}
		return rest[0], true
	case strings.HasPrefix(option, "--"):
		return strings.CutPrefix(after, "=")
	case len(option) == 2:
		return after, true
	}
	return "", false
}

// maxPIDFiles is how many pid files a call may name: more than any helper writes.
// Each is looked at again and again.
const maxPIDFiles = 16

// MaxPIDFile is more than any pid file holds, in bytes.
const MaxPIDFile = 64

// ParsePID reads the content of a pid file: the pid in decimal, with white
// space around it at the most.
func ParsePID(content []byte) (int, error) {
	text := string(bytes.TrimSpace(content))
	pid, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%q is not a pid", text)
	}
	if pid == 0 {
		return 0, errors.New("0 is not a pid")
	}
	return int(pid), nil
}
