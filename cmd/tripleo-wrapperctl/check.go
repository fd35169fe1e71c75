// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/generator"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/hostcheck"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/terminal"
)

func (c *control) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE...]",
		Short: "Show everything that is wrong with definitions",
		Long: `Show everything that is wrong with all definitions of this host, or with the
files that are named, which need not be in their place yet.

Definitions that are right in themselves are checked for what only the host
knows: whether the engine, the image and the sources of bind mounts are there,
whether units in /etc/systemd/system take the place of generated ones, and
whether the agent's configuration names the kill scripts. That is left out with
--root. No rights are needed but to read the files; only root can look for
images, and for what only root may see.

Exit status: 0 nothing is wrong, though there may be warnings; 1 something is
wrong; 2 a call that makes no sense.`,
		Annotations: ofFiles,
		Example: `  tripleo-wrapperctl check
  tripleo-wrapperctl check ./neutron-dnsmasq.toml`,
		RunE: func(command *cobra.Command, args []string) error { return c.check(command.Context(), args) },
	}
}

// A problem is the JSON form of one thing that is wrong.
type problem struct {
	File     string `json:"file"`
	Line     int    `json:"line,omitempty"`   // from 1
	Column   int    `json:"column,omitempty"` // from 1, in bytes
	Key      string `json:"key,omitempty"`
	Severity string `json:"severity"` // error or warning
	Message  string `json:"message"`
}

func (c *control) check(ctx context.Context, files []string) error {
	set, loose, err := c.definitions(files)
	if err != nil {
		return &failure{exitUsage, err}
	}
	problems := []problem{}
	for _, p := range set.Problems() {
		problems = append(problems, problem{p.File, p.Line, p.Column, p.Key, "error", p.Message})
	}
	if c.root == "/" {
		for i := range set.Services {
			for _, finding := range hostcheck.Check(ctx, &set.Services[i], set.Services) {
				severity := "warning"
				if finding.Fatal {
					severity = "error"
				}
				problems = append(problems, problem{set.Services[i].Source, 0, 0, finding.Key, severity, finding.Message})
			}
		}
	}
	if c.json {
		err = c.printJSON(problems)
	} else {
		for i := range problems {
			c.printProblem(&problems[i])
		}
	}
	if err != nil {
		return err
	}
	if slices.ContainsFunc(problems, func(p problem) bool { return p.Severity == "error" }) {
		return errUnwell
	}
	found := "No problems"
	if len(problems) > 0 {
		found = "No errors, " + number(len(problems), "warning")
	}
	switch {
	case c.json:
	case len(set.Services) == 0:
		fmt.Fprintf(c.stdout, "%s: there is no definition in %s.\n", found, c.adminDir())
	case c.root != "/":
		fmt.Fprintf(c.stdout, "%s.\n", found)
	case loose:
		fmt.Fprintf(c.stdout, "%s. To take it into use, put it into %s, as NAME.toml, then: tripleo-wrapperctl reload\n", found, conf.AdminDir)
	default:
		fmt.Fprintf(c.stdout, "%s. To take definitions into use: tripleo-wrapperctl reload\n", found)
	}
	return nil
}

// definitions returns all definitions, or those of files: as part of the whole
// where they are in their place, since two may clash, and by themselves
// elsewhere. Loose says that at least one is not in its place.
func (c *control) definitions(files []string) (_ conf.Set, loose bool, _ error) {
	_, all := generator.Render(c.root)
	if len(files) == 0 {
		return all, false, nil
	}
	var set conf.Set
	for _, file := range files {
		source := file
		if absolute, err := filepath.Abs(file); err == nil {
			source = absolute
		}
		inPlace := false
		for _, service := range all.Services {
			if service.Source == source {
				set.Services = append(set.Services, service)
				inPlace = true
			}
		}
		for _, broken := range all.Broken {
			if broken.Source == source {
				set.Broken = append(set.Broken, broken)
				inPlace = true
			}
		}
		if inPlace {
			continue
		}
		if err := c.misnamed(file, source, &all); err != nil {
			return set, false, err
		}
		loose = true
		alone := conf.LoadFile(c.root, file)
		if len(alone.Services)+len(alone.Broken) == 0 {
			return set, false, fmt.Errorf("%s is empty, or a link to /dev/null: it is no definition and masks one", file)
		}
		set.Services = append(set.Services, alone.Services...)
		set.Broken = append(set.Broken, alone.Broken...)
	}
	return set, loose, nil
}

// misnamed returns an error for what is the name of a service rather than a
// file, and for a drop-in, which is checked with its definition.
func (c *control) misnamed(file, source string, all *conf.Set) error {
	sources := map[string]string{} // by service
	for _, service := range all.Services {
		sources[service.Name] = service.Source
	}
	for _, broken := range all.Broken {
		sources[broken.Name] = broken.Source
	}
	if definition, ok := sources[file]; ok {
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s is the name of a service, and check takes files; its definition: %s", file, c.hint("check "+definition))
		}
	}
	definition, ok := strings.CutSuffix(filepath.Dir(source), ".d")
	if !ok || !strings.HasSuffix(definition, ".toml") {
		return nil
	}
	for _, other := range sources {
		if filepath.Base(other) == filepath.Base(definition) {
			definition = other // a vendor's perhaps, with drop-ins in another directory
		}
	}
	return fmt.Errorf("%s is a drop-in, which is checked with its definition: %s", file, c.hint("check "+definition))
}

// printProblem prints a problem as compilers do, with the line and a mark below
// what is wrong.
func (c *control) printProblem(p *problem) {
	place := p.File
	if p.Line > 0 {
		place += fmt.Sprintf(":%d:%d", p.Line, p.Column)
	}
	message := p.Message
	if p.Key != "" {
		message = p.Key + ": " + message
	}
	colour := terminal.Bad
	if p.Severity == "warning" {
		colour = terminal.Warn
		message = c.stderr.Colour(colour, "warning: ") + message
	}
	fmt.Fprintln(c.stderr, c.stderr.Colour(terminal.Bold, place+":")+" "+message)
	line, ok := lineOf(p.File, p.Line)
	name := p.Key[strings.LastIndex(p.Key, ".")+1:]
	if !ok || p.Column < 1 || p.Column > len(line)+1 || !strings.Contains(line, name) {
		return // it is about no line, but about one that is missing
	}
	number := fmt.Sprintf("%5d | ", p.Line)
	before := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r // as wide as the one above it
		}
		return ' '
	}, strings.ToValidUTF8(line[:p.Column-1], "?"))
	fmt.Fprintln(c.stderr, c.stderr.Colour(terminal.Faint, number)+keepTabs(line))
	fmt.Fprintln(c.stderr, c.stderr.Colour(terminal.Faint, strings.Repeat(" ", len(number)-2)+"| ")+before+
		c.stderr.Colour(colour, mark(line[p.Column-1:])))
}

// maxQuoted is how long a line of a definition may be to be shown, in bytes.
const maxQuoted = 500

func lineOf(file string, number int) (string, bool) {
	if number < 1 {
		return "", false
	}
	f, err := os.Open(file) // #nosec G304 -- a definition, whose problems its reader has just found
	if err != nil {
		return "", false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", false
	}
	lines := bufio.NewScanner(f)
	for range number {
		if !lines.Scan() {
			return "", false
		}
	}
	return strings.TrimPrefix(lines.Text(), "\ufeff"), len(lines.Text()) <= maxQuoted
}

func keepTabs(line string) string {
	parts := strings.Split(line, "\t")
	for i := range parts {
		parts[i] = terminal.Printable(parts[i])
	}
	return strings.Join(parts, "\t")
}

// mark returns what stands below a word: "^~~~".
func mark(rest string) string {
	word := rest
	if end := strings.IndexAny(rest, " \t=,]#"); end >= 0 {
		word = rest[:end]
	}
	return "^" + strings.Repeat("~", max(0, utf8.RuneCountInString(word)-1))
}
