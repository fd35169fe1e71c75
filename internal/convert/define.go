// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

const (
	roleName = "tripleo-systemd-wrapper"
	prefix   = "tripleo_systemd_wrapper_"
)

// variables are those of the role. Where one that is not required is left out,
// the role's default is also that of the key.
var variables = []struct {
	key      string // the variable's name without prefix, and the key of a definition
	required bool   // the role fails without it
	read     func(d *draft, v variable) (toml string, ok bool)
}{
	{"service_name", true, (*draft).text},
	{"service_dir", true, (*draft).text},
	{"cmd", true, (*draft).command},
	{"container_cli", false, (*draft).text},
	{"image_name", true, (*draft).text},
	{"config_bind_mount", true, (*draft).text},
	{"docker_additional_sockets", false, (*draft).list},
	{"service_kill_script", false, (*draft).text},
	{"debug", false, (*draft).boolean},
}

// A draft is a definition in the making.
type draft struct {
	call     *call
	texts    map[string]string // the values that are text, by key
	values   map[string]string // all values as TOML, by key
	comments map[string]string // what stands above a key or a table
	examples map[string]string // lines that stand in for keys, as comments
	notes    []*note
	jinja    map[string]*note // those on values that hold Jinja, by key
}

// A note stands above a key, or above the whole definition.
type note struct {
	Note
	key string
}

// define makes a definition of a call. It adds its name to those taken.
func define(file string, c *call, taken map[string]bool) Definition {
	d := &draft{
		call:     c,
		texts:    make(map[string]string),
		values:   make(map[string]string),
		comments: make(map[string]string),
		examples: make(map[string]string),
		jinja:    make(map[string]*note),
	}
	for _, n := range c.notes {
		d.notes = append(d.notes, &note{Note: n})
	}
	d.read()
	d.readUnknown()
	d.output()
	d.ready()
	name := d.name(file, taken)
	d.check(name)
	slices.SortStableFunc(d.notes, func(a, b *note) int { return cmp.Compare(a.Line, b.Line) })
	definition := Definition{Name: name, Text: d.render(file), Notes: []Note{}}
	for _, n := range d.notes {
		definition.Notes = append(definition.Notes, n.Note)
	}
	return definition
}

// note adds a note on a variable.
func (d *draft) note(v variable, format string, args ...any) *note {
	n := &note{Note{v.line, prefix + printable(v.name), fmt.Sprintf(format, args...)}, v.name}
	d.notes = append(d.notes, n)
	return n
}

// read reads the role's variables.
func (d *draft) read() {
	for _, known := range variables {
		v, ok := d.call.vars.lookup(known.key)
		if ok {
			if value, ok := known.read(d, v); ok {
				d.values[v.name] = value
			}
		} else if known.required {
			d.note(variable{name: known.key, line: d.call.line},
				"is not set in this file, and the role needs it; look where else it is set, and add it")
			d.examples[known.key] = example(known.key)
		}
	}
}

// maxUnknown is how many unknown variables of one call are reported. Whoever
// has more has fed us something else.
const maxUnknown = 100

// readUnknown notes the variables that the role does not have.
func (d *draft) readUnknown() {
	unknown := make(map[string]variable)
	for s := d.call.vars; s != nil; s = s.outer {
		for name, v := range s.vars {
			if _, ok := unknown[name]; !ok && !isVariable(name) {
				unknown[name] = v
			}
		}
	}
	sorted := slices.SortedFunc(maps.Values(unknown), func(a, b variable) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.name, b.name))
	})
	for _, v := range sorted[:min(len(sorted), maxUnknown)] {
		d.note(v, "is no variable of the role, so it did nothing; left out").key = ""
	}
	if more := len(sorted) - maxUnknown; more > 0 {
		d.note(sorted[maxUnknown], "is no variable of the role, and neither are %d more; left out", more-1).key = ""
	}
}

func isVariable(name string) bool {
	for _, v := range variables {
		if v.key == name {
			return true
		}
	}
	return false
}

// output says where the sidecar's output is, which is not where the role had it.
func (d *draft) output() {
	if _, ok := d.call.vars.lookup("container_cli"); !ok {
		d.texts["container_cli"] = string(conf.Podman)
		d.values["container_cli"] = tomlString(string(conf.Podman))
		d.note(variable{name: "container_cli", line: d.call.line},
			"is not set in this file; podman is the role's default, and docker was in its first releases: look which of them it is")
	}
	if d.texts["container_cli"] == string(conf.Podman) {
		d.comments["log"] = "Output goes to the journal. The role had it in " + layout.LogDir + ", as with:"
		d.examples["log"] = `log = "file"`
	}
}

// name returns a name for the definition that is not taken, and takes it.
func (d *draft) name(file string, taken map[string]bool) string {
	name := d.texts["service_name"]
	if layout.CheckService(name) != nil {
		name = baseName(file)
	} else if taken[name] {
		v, _ := d.call.vars.lookup("service_name")
		d.note(v, "%s is in this file more than once; a host can have one of them", quote(name))
	}
	free := name
	for n := 2; taken[free]; n++ {
		free = fmt.Sprintf("%s-%d", name, n)
	}
	taken[free] = true
	return free
}

// baseName makes the name of a service of that of a file.
func baseName(file string) string {
	base := path.Base(file)
	base = strings.Map(func(r rune) rune {
		if layout.CheckService("x"+string(r)) != nil {
			return '-'
		}
		return r
	}, strings.TrimSuffix(base, path.Ext(base)))
	const most = 80
	base = strings.TrimLeft(base[:min(len(base), most)], "-_.")
	if layout.CheckService(base) != nil {
		return "service"
	}
	return base
}

// check notes what is wrong with the definition. What is known to be missing, or
// to be Jinja, has a note already.
func (d *draft) check(name string) {
	refused := make(map[string]bool)
	for _, p := range conf.Check(name, d.render("")) {
		refused[p.Key] = true
		noted := slices.ContainsFunc(d.notes, func(n *note) bool { return n.key == p.Key })
		if _, ok := d.values[p.Key]; !ok && noted || d.jinja[p.Key] != nil {
			continue
		}
		v, ok := d.call.vars.lookup(p.Key)
		if !ok {
			v = variable{name: p.Key, line: d.call.line}
		}
		d.note(v, "%s", p.Message)
	}
	for key, n := range d.jinja {
		if refused[key] {
			n.Message += "; check refuses the definition until then"
		} else {
			n.Message += "; check takes it for the value"
		}
	}
}

// render returns the definition as TOML.
func (d *draft) render(file string) string {
	var b strings.Builder
	what := "a call"
	if d.call.bare != nil {
		what = "variables"
	}
	fmt.Fprintf(&b, "# Made from %s, line %d: %s of the role %s.\n", printable(file), d.call.line, what, roleName)
	d.renderNotes(&b, "")
	b.WriteString("\n")
	current := ""
	for _, k := range conf.Keys {
		table, name, dotted := strings.Cut(k.Name, ".")
		if !dotted {
			table, name = "", k.Name
		}
		value, ok := d.values[k.Name]
		if ok && table != current {
			b.WriteString("\n")
			comment(&b, d.comments[table])
			fmt.Fprintf(&b, "[%s]\n", table)
			current = table
		}
		comment(&b, d.comments[k.Name])
		d.renderNotes(&b, k.Name)
		if ok {
			fmt.Fprintf(&b, "%s = %s\n", name, value)
		} else if line := d.examples[k.Name]; line != "" {
			fmt.Fprintf(&b, "#%s\n", line)
		}
	}
	return b.String()
}

// renderNotes writes the notes on a key as comments.
func (d *draft) renderNotes(b *strings.Builder, key string) {
	for _, n := range d.notes {
		if n.key != key {
			continue
		}
		subject := ""
		if key != "" {
			subject = " on " + key
		} else if n.Variable != "" {
			subject = " on " + n.Variable
		}
		comment(b, fmt.Sprintf("NOTE%s, line %d: %s", subject, n.Line, n.Message))
	}
}

// comment writes text as a comment, in lines that can be read.
func comment(b *strings.Builder, text string) {
	const most = 100
	column := 0
	for word := range strings.FieldsSeq(text) {
		if column > 0 && column+1+len(word) > most {
			b.WriteString("\n")
			column = 0
		}
		if column == 0 {
			b.WriteString("#")
			column = 1
		}
		b.WriteString(" " + word)
		column += 1 + len(word)
	}
	if column > 0 {
		b.WriteString("\n")
	}
}

// example returns a line that a definition can have.
func example(key string) string {
	for _, k := range conf.Keys {
		if k.Name == key {
			return k.Name + " = " + k.Example
		}
	}
	return key
}
