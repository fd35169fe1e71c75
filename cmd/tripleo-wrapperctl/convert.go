// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/convert"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/terminal"
)

func (c *control) convertCommand() *cobra.Command {
	var output string
	command := &cobra.Command{
		Use:   "convert FILE...",
		Short: "Make definitions of what the Ansible role was called with",
		Long: `Make definitions of Ansible files that call the role tripleo-systemd-wrapper:
variables files, playbooks, task lists. They are printed, or with --output
written to files that are not there yet. What has no counterpart, or needs a
look, is noted on standard error and in the definition; Jinja expressions are
kept as they are.`,
		Example: `  tripleo-wrapperctl convert group_vars/compute.yml
  tripleo-wrapperctl convert --output=. site.yml && tripleo-wrapperctl check ./*.toml`,
		Annotations: ofFiles,
		Args:        cobra.MinimumNArgs(1),
		RunE:        func(_ *cobra.Command, args []string) error { return failed(c.convert(args, output)) },
	}
	command.Flags().StringVarP(&output, "output", "o", "", "write each definition to a file in this `DIR`, which is made")
	return command
}

// A converted is the JSON form of a definition that was made of an Ansible file.
type converted struct {
	From string `json:"from"`
	convert.Definition
	Keys map[string]any `json:"keys"` // what the text says
}

func (c *control) convert(files []string, output string) error {
	all := []converted{}
	var errs []error
	for _, file := range files {
		definitions, err := convertFile(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, definition := range definitions {
			one := converted{From: file, Definition: definition}
			if _, err := toml.Decode(definition.Text, &one.Keys); err != nil {
				errs = append(errs, fmt.Errorf("reading what %s became: %w", file, err))
				continue
			}
			all = append(all, one)
		}
	}
	for _, definition := range all {
		for _, note := range definition.Notes {
			place := fmt.Sprintf("%s:%d: ", definition.From, note.Line)
			if note.Variable != "" {
				place += note.Variable + ": "
			}
			fmt.Fprintln(c.stderr, c.stderr.Colour(terminal.Bold, terminal.Printable(place))+terminal.Printable(note.Message))
		}
	}
	switch {
	case output != "":
		errs = append(errs, c.writeDefinitions(all, output))
	case c.json:
		errs = append(errs, c.printJSON(all))
	default:
		for i, definition := range all {
			if i > 0 {
				fmt.Fprintln(c.stdout)
			}
			if len(all) > 1 {
				fmt.Fprintf(c.stdout, "# === %s.toml\n", definition.Name)
			}
			fmt.Fprint(c.stdout, definition.Text)
		}
	}
	return errors.Join(errs...)
}

func convertFile(name string) ([]convert.Definition, error) {
	file, err := os.Open(name) // #nosec G304 -- an argument of the caller's
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, convert.MaxSize+1))
	if err != nil {
		return nil, err
	}
	return convert.Convert(name, content)
}

// writeDefinitions writes each definition to a file of its own. A file that is
// there is left as it is.
func (c *control) writeDefinitions(definitions []converted, dir string) error {
	goOn()
	if err := os.MkdirAll(dir, 0o755); err != nil { // #nosec G301 -- no secrets; check reads them as anybody
		return fmt.Errorf("making the directory of --output: %w", err)
	}
	var errs []error
	for _, definition := range definitions {
		name := filepath.Join(dir, definition.Name+".toml")
		if err := writeNew(name, definition.Text); err != nil {
			errs = append(errs, err)
			continue
		}
		c.say("wrote %s", name)
	}
	return errors.Join(errs...)
}

func writeNew(name, text string) error {
	// #nosec G302 G304 -- the caller says where; no secret, and check reads it as anybody
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already and was left as it is; move it away, or use another --output", name)
	}
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}
