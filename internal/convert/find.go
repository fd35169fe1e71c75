// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// A call is a call of the role, or the variables of one that is in another file.
type call struct {
	line int
	vars *scope
	// bare is the mapping of variables without a call, and nil for a call.
	bare *yaml.Node
	// item is what the call's loop has, for this call: the values of the
	// loop's variable by their paths, as in "item.name".
	item  map[string]string
	notes []Note
}

// A scope is a place that sets variables of the role for all that is in it.
type scope struct {
	outer *scope
	vars  map[string]variable // by their names without prefix
	used  bool                // by a call, or by a scope within
}

// A variable is a variable of the role, known or not, as one place sets it.
type variable struct {
	name  string // without prefix
	line  int
	value *yaml.Node
}

// lookup returns a variable as it is seen in a scope.
func (s *scope) lookup(name string) (variable, bool) {
	for ; s != nil; s = s.outer {
		if v, ok := s.vars[name]; ok {
			return v, true
		}
	}
	return variable{}, false
}

func (s *scope) use() {
	for ; s != nil && !s.used; s = s.outer {
		s.used = true
	}
}

// Bounds for what is read: aliases can make much of a small file.
const (
	maxDepth  = 100
	maxVisits = 1 << 20
)

var errTooMuch = fmt.Errorf("holds more than %d values, or values nested more than %d deep, counting what aliases stand for",
	maxVisits, maxDepth)

// parse reads all documents of a file.
func parse(name string, content []byte) (documents []*yaml.Node, err error) {
	// Its input may be anything, and a parser may have a bug.
	defer func() {
		if r := recover(); r != nil {
			documents, err = nil, fmt.Errorf("%s: cannot be parsed: %v", name, r)
		}
	}()
	loader, err := yaml.NewLoader(bytes.NewReader(content),
		yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		return nil, fmt.Errorf("%s: cannot be parsed: %w", name, err)
	}
	for {
		var document yaml.Node
		err := loader.Load(&document)
		var le *yaml.LoadError
		switch {
		case errors.Is(err, io.EOF):
			return documents, nil
		case errors.As(err, &le):
			message := le.Message
			if le.ContextMsg != "" {
				message = le.ContextMsg + ", " + message
			}
			if le.Mark.Line > 0 {
				name = fmt.Sprintf("%s:%d:%d", name, le.Mark.Line, max(le.Mark.Column, 1))
			}
			return nil, fmt.Errorf("%s: is not YAML: %s", name, printable(message))
		case err != nil:
			return nil, fmt.Errorf("%s: is not YAML: %s", name, printable(err.Error()))
		}
		documents = append(documents, &document)
	}
}

// A finder goes through YAML and collects calls of the role.
type finder struct {
	calls  []*call
	merged map[*yaml.Node]bool // mappings that others take over with "<<"
	visits int
}

// find returns the calls of the role, and the variables that no call sees, in
// the order of the file.
func find(documents []*yaml.Node) ([]*call, error) {
	f := finder{merged: make(map[*yaml.Node]bool)}
	for _, document := range documents {
		for _, n := range document.Content {
			if err := f.walk(n, nil, 0); err != nil {
				return nil, err
			}
		}
	}
	var calls []*call
	for _, c := range f.calls {
		if c.bare == nil || !c.vars.used && !f.isPart(c) {
			calls = append(calls, c)
		}
	}
	if len(calls) > maxCalls {
		return nil, fmt.Errorf("calls the role, or sets variables for it, more than %d times; convert its parts one by one",
			maxCalls)
	}
	return calls, nil
}

// isPart tells variables that are written once, for others to take over, from
// those that are a service.
func (f *finder) isPart(c *call) bool {
	_, named := c.vars.lookup("service_name")
	return f.merged[c.bare] && !named
}

// visit counts what is looked at.
func (f *finder) visit(depth int) error {
	if f.visits++; f.visits > maxVisits || depth > maxDepth {
		return errTooMuch
	}
	return nil
}

// walk looks for calls in n, whatever that is: plays, blocks and tasks all set
// variables by "vars", and differ in nothing else that matters here.
func (f *finder) walk(n *yaml.Node, s *scope, depth int) error {
	if err := f.visit(depth); err != nil {
		return err
	}
	switch n = target(n); n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if err := f.walk(item, s, depth+1); err != nil {
				return err
			}
		}
	case yaml.MappingNode:
		return f.mapping(n, s, depth)
	}
	return nil
}

func (f *finder) mapping(n *yaml.Node, s *scope, depth int) error {
	m, err := f.fields(n, depth)
	if err != nil {
		return err
	}
	if s, err = f.open(s, n, m, depth); err != nil {
		return err
	}
	for _, field := range m {
		switch key := module(field.key); {
		case key == "vars" || strings.HasPrefix(key, prefix):
			// open has seen them.
		case key == "include_role" || key == "import_role":
			err = f.task(field, m, s, depth)
		case (key == "roles" || key == "dependencies") && target(field.value).Kind == yaml.SequenceNode:
			err = f.roles(field.value, s, depth+1)
		default:
			err = f.walk(field.value, s, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// open returns the scope inside of the mapping n with the fields m: with its
// vars, and with variables that it holds itself.
func (f *finder) open(s *scope, n *yaml.Node, m []field, depth int) (*scope, error) {
	if vars, ok := get(m, "vars"); ok {
		fields, err := f.fieldsOf(vars.value, depth)
		if err != nil {
			return nil, err
		}
		s = f.scope(s, vars.value, fields)
	}
	return f.scope(s, n, m), nil
}

// scope returns a scope with the role's variables among the fields of a mapping,
// or the outer one if there are none.
func (f *finder) scope(outer *scope, mapping *yaml.Node, fields []field) *scope {
	s := &scope{outer: outer, vars: make(map[string]variable)}
	line := 0
	for _, field := range fields {
		if name, ok := strings.CutPrefix(field.key, prefix); ok {
			s.vars[name] = variable{name, field.line, field.value}
			if line == 0 {
				line = field.line
			}
		}
	}
	if len(s.vars) == 0 {
		return outer
	}
	outer.use()
	f.calls = append(f.calls, &call{line: line, vars: s, bare: target(mapping)})
	return s
}

// roles adds the calls of the role in a play's list of roles, or in a role's
// list of dependencies.
func (f *finder) roles(list *yaml.Node, s *scope, depth int) error {
	for _, entry := range target(list).Content {
		if err := f.visit(depth); err != nil {
			return err
		}
		entry = target(entry)
		if entry.Kind == yaml.ScalarNode && isRole(entry.Value) {
			f.add(&call{line: entry.Line, vars: s})
			continue
		}
		m, err := f.fieldsOf(entry, depth)
		if err != nil {
			return err
		}
		inner, err := f.open(s, entry, m, depth)
		if err != nil {
			return err
		}
		for _, key := range []string{"role", "name"} {
			if name, ok := get(m, key); ok && isRole(target(name.value).Value) {
				f.add(&call{line: name.line, vars: inner, notes: conditions(m)})
				break
			}
		}
	}
	return nil
}

// task adds the calls of a task with the fields m, if the role that it includes
// is this one: one call, or as many as the task's loop has items.
func (f *finder) task(include field, m []field, s *scope, depth int) error {
	name, err := f.included(include.value, depth)
	if err != nil || !isRole(name) {
		return err
	}
	notes := conditions(m)
	for _, loop := range m {
		if loop.key != "loop" && !strings.HasPrefix(loop.key, "with_") {
			continue
		}
		list := target(loop.value)
		if list.Kind != yaml.SequenceNode || loop.key != "loop" && loop.key != "with_items" && loop.key != "with_list" {
			notes = append(notes, Note{Line: loop.line, Message: fmt.Sprintf(
				"the call is repeated by %s over what is no list in this file; copy the definition for each item", loop.key)})
			break
		}
		name := "item"
		if control, ok := get(m, "loop_control"); ok {
			fields, err := f.fieldsOf(control.value, depth)
			if err != nil {
				return err
			}
			if v, ok := get(fields, "loop_var"); ok {
				name = target(v.value).Value
			}
		}
		for _, n := range list.Content {
			item := make(map[string]string)
			if err := f.values(n, name, item, depth+1); err != nil {
				return err
			}
			f.add(&call{line: target(n).Line, vars: s, item: item, notes: notes})
		}
		return nil
	}
	f.add(&call{line: include.line, vars: s, notes: notes})
	return nil
}

func (f *finder) add(c *call) {
	c.vars.use()
	f.calls = append(f.calls, c)
}

// conditions notes that a call is made on a condition only.
func conditions(m []field) []Note {
	when, ok := get(m, "when")
	if !ok {
		return nil
	}
	n := target(when.value)
	all := []string{n.Value}
	if n.Kind == yaml.SequenceNode {
		all = nil
		for _, item := range n.Content {
			all = append(all, target(item).Value)
		}
	}
	return []Note{{Line: when.line, Message: fmt.Sprintf(
		"the call is made when %s, which a definition cannot say; put it on the hosts where that is so",
		quote(strings.Join(all, " and ")))}}
}

// maxPath is more than any expression has that names an item's value, in bytes.
const maxPath = 256

// values collects the scalars in n by their paths, as in "item.name".
func (f *finder) values(n *yaml.Node, path string, into map[string]string, depth int) error {
	if err := f.visit(depth); err != nil || len(path) > maxPath {
		return err
	}
	n = target(n)
	if missing(n) == "" {
		into[path] = n.Value
		return nil
	}
	fields, err := f.fieldsOf(n, depth)
	if err != nil {
		return err
	}
	for _, field := range fields {
		if err := f.values(field.value, path+"."+field.key, into, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// included returns the role that include_role or import_role names: "name: x"
// or "name=x".
func (f *finder) included(n *yaml.Node, depth int) (string, error) {
	if n = target(n); n.Kind == yaml.ScalarNode {
		for word := range strings.FieldsSeq(n.Value) {
			if name, ok := strings.CutPrefix(word, "name="); ok {
				return strings.Trim(name, `"'`), nil
			}
		}
	}
	fields, err := f.fieldsOf(n, depth)
	name, _ := get(fields, "name")
	return target(name.value).Value, err
}

// isRole tells the role's name, in each of the forms that it has had, from
// those of others. It may be behind a path or a collection.
func isRole(name string) bool {
	name = name[strings.LastIndexAny(name, "/.")+1:]
	return strings.ReplaceAll(name, "_", "-") == roleName
}

// module returns the short name of a module of Ansible itself.
func module(key string) string {
	key = strings.TrimPrefix(key, "ansible.builtin.")
	return strings.TrimPrefix(key, "ansible.legacy.")
}

// A field is a key of a mapping with its value.
type field struct {
	key   string
	line  int
	value *yaml.Node
}

func get(fields []field, key string) (field, bool) {
	for _, f := range fields {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}

// fieldsOf returns the fields of n, or none if it is no mapping.
func (f *finder) fieldsOf(n *yaml.Node, depth int) ([]field, error) {
	if n = target(n); n.Kind != yaml.MappingNode {
		return nil, nil
	}
	return f.fields(n, depth+1)
}

// fields returns the fields of a mapping, and those of others that it takes
// over with "<<". Of several with one key it returns the last, as Ansible does.
func (f *finder) fields(mapping *yaml.Node, depth int) ([]field, error) {
	var (
		fields, merged []field
		index          = make(map[string]int)
	)
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if err := f.visit(depth); err != nil {
			return nil, err
		}
		key, value := target(mapping.Content[i]), mapping.Content[i+1]
		switch {
		case key.Tag == "!!merge":
			more, err := f.mergedFields(value, depth+1)
			if err != nil {
				return nil, err
			}
			merged = append(merged, more...)
		case key.Kind != yaml.ScalarNode:
		default:
			at, ok := index[key.Value]
			if !ok {
				at = len(fields)
				index[key.Value] = at
				fields = append(fields, field{})
			}
			fields[at] = field{key.Value, key.Line, value}
		}
	}
	for _, m := range merged {
		if err := f.visit(depth); err != nil {
			return nil, err
		}
		if _, ok := index[m.key]; !ok {
			index[m.key] = len(fields)
			fields = append(fields, m)
		}
	}
	return fields, nil
}

// mergedFields returns the fields that the value of "<<" stands for: those of a
// mapping or of several.
func (f *finder) mergedFields(n *yaml.Node, depth int) ([]field, error) {
	list := []*yaml.Node{n}
	if n = target(n); n.Kind == yaml.SequenceNode {
		list = n.Content
	}
	var all []field
	for _, m := range list {
		f.merged[target(m)] = true
		fields, err := f.fieldsOf(m, depth)
		if err != nil {
			return nil, err
		}
		all = append(all, fields...)
	}
	return all, nil
}

// target returns what a node stands for: an alias stands for another.
func target(n *yaml.Node) *yaml.Node {
	if n == nil {
		return &yaml.Node{}
	}
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}
