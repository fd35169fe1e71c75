// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxValue is the size of the longest value, in bytes. It bounds what loops can
// make of it.
const maxValue = 64 << 10

// text reads a variable that is text.
func (d *draft) text(v variable) (string, bool) {
	s, why := d.scalar(v, v.value)
	if why != "" {
		d.leaveOut(v, why)
		return "", false
	}
	d.texts[v.name] = s
	return tomlString(s), true
}

// bash matches what a plain POSIX shell does not know.
var bash = regexp.MustCompile(`\[\[|[<>]\(|<<<|\$'|&>|\|&|\bfunction\b`)

// command reads the command, which the role ran as CMD $@ in a script of bash.
func (d *draft) command(v variable) (string, bool) {
	toml, ok := d.text(v)
	if found := bash.FindString(d.texts[v.name]); found != "" && d.jinja[v.name] == nil {
		d.note(v, "holds %s, which bash knows and other shells may not; the role ran the command with bash, "+
			"a definition has it run with the image's /bin/sh: look which shell that is", quote(found))
	}
	return toml, ok
}

// list reads a variable that is a list of texts.
func (d *draft) list(v variable) (string, bool) {
	n := target(v.value)
	if n.Kind != yaml.SequenceNode {
		s, why := d.scalar(v, n)
		switch {
		case why != "":
			d.leaveOut(v, why)
			return "", false
		case s == "":
			return "", false
		case d.jinja[v.name] == nil:
			d.note(v, "is text, and has to be a list; taken as a list of one")
		}
		return "[" + tomlString(s) + "]", true
	}
	var items []string
	size := 0
	for _, item := range n.Content {
		s, why := d.scalar(v, item)
		if size += len(s); size > maxValue {
			why = tooLong
		}
		if why != "" {
			d.leaveOut(v, "holds an entry that "+why)
			return "", false
		}
		items = append(items, tomlString(s))
	}
	return "[" + strings.Join(items, ", ") + "]", len(items) > 0
}

// boolean reads a variable that is true or false, in one of the words that
// Ansible takes for these.
func (d *draft) boolean(v variable) (string, bool) {
	s, why := d.scalar(v, v.value)
	if why != "" {
		d.leaveOut(v, why)
		return "", false
	}
	switch strings.ToLower(s) {
	case "true", "yes", "on", "1":
		return "true", true
	case "false", "no", "off", "0":
		return "false", true
	}
	if d.jinja[v.name] != nil {
		return tomlString(s), true
	}
	d.leaveOut(v, "is neither true nor false but "+quote(s))
	return "", false
}

// leaveOut notes that a variable cannot be converted.
func (d *draft) leaveOut(v variable, why string) {
	d.note(v, "%s; left out", why)
	delete(d.jinja, v.name)
	d.examples[v.name] = example(v.name)
}

// scalar returns a value as text, or why it has none. It notes Jinja in it.
func (d *draft) scalar(v variable, n *yaml.Node) (text, why string) {
	n = target(n)
	if why := missing(n); why != "" {
		return "", why
	}
	if len(n.Value) > maxValue {
		return "", tooLong
	}
	text, ok := d.call.expand(n.Value)
	if !ok {
		return "", tooLong
	}
	// A block scalar ends in a newline that nobody means.
	text = strings.TrimSpace(text)
	if jinja.MatchString(text) && d.jinja[v.name] == nil {
		d.jinja[v.name] = d.note(v,
			"holds the Jinja expression %s, kept as it is: put its value there", quote(jinja.FindString(text)))
	}
	return text, ""
}

var tooLong = fmt.Sprintf("is longer than %d bytes", maxValue)

// missing says why a node has no text, or "" if it has one.
func missing(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "is a mapping"
	case n.Kind == yaml.SequenceNode:
		return "is a list"
	case n.Kind != yaml.ScalarNode || n.Tag == "!!null":
		return "has no value"
	case n.Tag == "!vault":
		return "is encrypted with Ansible Vault"
	}
	return ""
}

// jinja matches an expression, statement or comment of Jinja.
var jinja = regexp.MustCompile(`(?s)\{\{.*?(\}\}|$)|\{%.*?(%\}|$)|\{#.*?(#\}|$)`)

// reference matches an expression that is the name of a variable, or that of an
// attribute in it: {{ item }}, {{ item.name }}, {{ item['name'] }}.
var reference = regexp.MustCompile(`\{\{-?\s*(\w+)((?:\.\w+|\[(?:'[^']*'|"[^"]*")\])*)\s*-?\}\}`)

var subscript = strings.NewReplacer(`['`, `.`, `["`, `.`, `']`, ``, `"]`, ``)

// expand puts in the values of the loop's variable. It fails when the text
// becomes too long.
func (c *call) expand(text string) (string, bool) {
	if len(c.item) == 0 {
		return text, true
	}
	size := len(text)
	text = reference.ReplaceAllStringFunc(text, func(expression string) string {
		name := reference.FindStringSubmatch(expression)
		value, ok := c.item[name[1]+subscript.Replace(name[2])]
		if !ok {
			return expression
		}
		if size += len(value); size > maxValue {
			return ""
		}
		return value
	})
	return text, size <= maxValue
}
