// SPDX-License-Identifier: Apache-2.0

// Package mantest holds programs to their manual pages: an option that one has
// and the other has not is an error.
//
// A page has the options of the program itself in the section OPTIONS. Each
// command of the program is a subsection of COMMANDS, whose heading begins with
// the command's name, and has its own options there. An option is a term of a
// definition list:
//
//	**-n** *N*, **--lines=***N*
//	:   Print the last N lines.
package mantest

import (
	"flag"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/man"
)

// A Command is a command of a program, with the options that it has besides
// those of the program itself.
type Command struct {
	Name    string   // empty for the program itself
	Options []string // with their dashes: "--lines", "-n"
}

// Commands fails the test unless a page, such as "tripleo-wrapper.1", describes
// these commands with these options, and no others.
func Commands(t *testing.T, page string, commands ...Command) {
	t.Helper()
	source, err := man.Source(page)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{}
	for _, command := range commands {
		want[command.Name] = slices.Compact(slices.Sorted(slices.Values(command.Options)))
	}
	got := described(source)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("commands of the program and of %s (-program +page):\n%s", page, diff)
	}
	for name, options := range want {
		if diff := cmp.Diff(options, got[name]); diff != "" {
			t.Errorf("options of %q and of %s (-program +page):\n%s", name, page, diff)
		}
	}
}

// Flags returns the options of a set of flags.
func Flags(flags *flag.FlagSet) []string {
	var options []string
	flags.VisitAll(func(f *flag.Flag) {
		dashes := "--"
		if len(f.Name) == 1 {
			dashes = "-"
		}
		options = append(options, dashes+f.Name)
	})
	return options
}

var option = regexp.MustCompile(`(?:^|, )\*\*(--?[A-Za-z0-9][A-Za-z0-9-]*)`)

// described returns the options that a page describes, by command.
func described(source string) map[string][]string {
	options := map[string][]string{}
	section, command := "", ""
	lines := strings.Split(source, "\n")
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "## "):
			section, command = strings.TrimPrefix(line, "## "), ""
			if section == "OPTIONS" {
				options[""] = nil
			}
		case strings.HasPrefix(line, "### ") && section == "COMMANDS":
			command, _, _ = strings.Cut(strings.Trim(strings.TrimPrefix(line, "### "), "*"), " ")
			command = strings.Trim(command, "*")
			options[command] = nil
		case i+1 < len(lines) && strings.HasPrefix(lines[i+1], ":") &&
			(section == "OPTIONS" || section == "COMMANDS" && command != ""):
			for _, match := range option.FindAllStringSubmatch(line, -1) {
				options[command] = append(options[command], match[1])
			}
		}
	}
	for name := range options {
		options[name] = slices.Compact(slices.Sorted(slices.Values(options[name])))
	}
	return options
}
