// SPDX-License-Identifier: Apache-2.0

// Package convert makes definitions of calls of the Ansible role
// tripleo-systemd-wrapper, for hosts that move over from it.
//
// It takes a file as Ansible takes it: a playbook, a list of tasks, or
// variables of a group or a host. Each call of the role in it becomes a
// definition, by the variables that the call sees in that file. A call in a loop
// over a list is as many calls:
//
//	definitions, err := convert.Convert("playbook.yml", content)
//	for _, d := range definitions {
//		write(d.Name+".toml", d.Text)
//		report(d.Notes) // what somebody has to look at
//	}
//
// Variables that no call in the file uses become a definition as well. The
// call is in another file then.
//
// Nothing is lost silently: what has no counterpart in a definition, and what
// [conf] would refuse, has a [Note].
package convert

import (
	"bytes"
	"fmt"
	"strings"
)

// A Definition is a definition made of one call of the role.
type Definition struct {
	// Name is that of the service if it is known. It can be a file's name, and
	// no other definition of the same file has it.
	Name string `json:"name"`
	// Text is TOML, with the notes as comments where they belong.
	Text  string `json:"text"`
	Notes []Note `json:"notes"`
}

// A Note is something that has no counterpart in a definition, or that
// somebody has to look at.
type Note struct {
	Line     int    `json:"line"`               // in the converted file, from 1
	Variable string `json:"variable,omitempty"` // the role's variable; empty for what concerns none
	Message  string `json:"message"`
}

// What is converted, and what comes of it, has a size that somebody could have
// written by hand.
const (
	MaxSize  = 1 << 20 // of a file, in bytes
	maxCalls = 1000    // in a file
	maxText  = 1 << 20 // of all definitions of a file, in bytes
)

// Convert makes definitions of what the file of that name holds, in the order
// of the file. It fails for a file that is not YAML, and for one that sets none
// of the role's variables.
func Convert(name string, content []byte) ([]Definition, error) {
	if len(content) > MaxSize {
		return nil, fmt.Errorf("%s: is larger than %d bytes; convert the part of it that sets %s*", name, MaxSize, prefix)
	}
	if bytes.HasPrefix(content, []byte("$ANSIBLE_VAULT;")) {
		return nil, fmt.Errorf("%s: is encrypted; convert what \"ansible-vault decrypt --output=FILE %[1]s\" writes to FILE", name)
	}
	documents, err := parse(name, content)
	if err != nil {
		return nil, err
	}
	calls, err := find(documents)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := checkVariables(calls); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var (
		definitions []Definition
		taken       = make(map[string]bool)
		size        = 0
	)
	for _, c := range calls {
		d := define(name, c, taken)
		if size += len(d.Text); size > maxText {
			return nil, fmt.Errorf("%s: makes more than %d bytes of definitions; convert its parts one by one", name, maxText)
		}
		definitions = append(definitions, d)
	}
	return definitions, nil
}

// checkVariables reports that no call sees any of the role's variables.
func checkVariables(calls []*call) error {
	var names []string
	for _, v := range variables {
		for _, c := range calls {
			if _, ok := c.vars.lookup(v.key); ok {
				return nil
			}
		}
		names = append(names, v.key)
	}
	known := fmt.Sprintf("%s* (%s)", prefix, strings.Join(names, ", "))
	for _, c := range calls {
		if c.bare == nil {
			return fmt.Errorf("line %d calls the role %s, but none of its variables is set here; convert the file that sets %s",
				c.line, roleName, known)
		}
	}
	return fmt.Errorf("sets none of the variables of the role %s, %s; convert the file that does", roleName, known)
}
