// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// A draft is a service in the making: values that are put on top of each other
// file by file, and then decoded one by one.
type draft struct {
	base string // the file's name without its suffix
	path string // the definition's path with root

	values map[string]setting // by the names of Keys
	wrong  map[string]bool    // keys whose value has a problem

	// incomplete is set when a file could not be read: what is missing may be
	// in there.
	incomplete bool

	service   Service
	named     bool   // service.Name is set and valid
	duplicate bool   // but another definition has it
	last      string // the name that the service had, where it is not known now; or ""
	alone     bool   // read without the others of its host
	problems  []Problem
}

// A setting is a value, as the TOML parser returns it, and where it is written.
type setting struct {
	value any
	doc   *document
}

func newDraft(root, base, source string) *draft {
	return &draft{
		base:    base,
		path:    filepath.Join(root, source),
		values:  make(map[string]setting),
		wrong:   make(map[string]bool),
		service: defaults(source),
	}
}

// defaults returns a service with what Keys says are the defaults.
func defaults(source string) Service {
	return Service{
		Source:          source,
		Engine:          Podman,
		Privileged:      true,
		Restart:         "on-failure",
		Log:             LogJournal,
		PassEnvironment: []string{"PROCESS_TAG"},
		AllowedUIDs:     []uint32{0},
		IdleTimeout:     30 * time.Second,
		Ready:           Ready{Timeout: 60 * time.Second},
	}
}

// maxUnknown is how many unknown keys of one file are reported. Whoever has
// more has fed us something else than a definition.
const maxUnknown = 100

// apply puts the values of a file on top of those of the files before it.
func (d *draft) apply(doc *document) {
	unknown := 0
	set := func(key string, value any, known bool) {
		if known {
			d.values[key] = setting{value, doc}
			return
		}
		if unknown++; unknown <= maxUnknown {
			d.unknown(doc, key)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(doc.tables)) {
		value := doc.tables[name]
		if name != readyTable {
			// A quoted name can hold a dot and still be in no table.
			_, known := keysByName[name]
			set(name, value, known && !strings.Contains(name, "."))
			continue
		}
		table, ok := value.(map[string]any)
		if !ok {
			d.failAt(doc, name, "has to be a table, is %s; write [ready], and its keys below it", describe(value))
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(table)) {
			key := readyTable + "." + name
			_, known := keysByName[key]
			set(key, table[name], known)
		}
	}
	if unknown > maxUnknown {
		d.problems = append(d.problems, Problem{File: doc.path, Message: fmt.Sprintf("has %d more unknown keys", unknown-maxUnknown)})
	}
}

// check decodes all values, and then looks at them together.
func (d *draft) check() {
	d.checkSize()
	for i := range Keys {
		k := &Keys[i]
		if s, ok := d.values[k.Name]; ok && !d.wrong[k.Name] {
			before := len(d.problems)
			k.decode(d, k, s.value)
			d.wrong[k.Name] = len(d.problems) > before
		}
	}
	if !d.incomplete {
		d.checkPresent()
	}
	d.checkTogether()
}

// unknown reports a key that no definition has.
func (d *draft) unknown(doc *document, key string) {
	hint := "; tripleo-wrappers.toml(5) lists those that there are"
	switch near := nearestKey(key); near {
	case "":
	case key: // in quotes, with a dot
		hint = "; write it without quotes"
	default:
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	d.failAt(doc, key, "unknown key%s", hint)
}

// fail reports what is wrong with the value of a key, or with its absence.
func (d *draft) fail(key, format string, args ...any) {
	d.failAt(d.values[key].doc, key, format, args...)
}

func (d *draft) failAt(doc *document, key, format string, args ...any) {
	p := Problem{File: d.path, Line: 1, Column: 1, Key: printable(key), Message: fmt.Sprintf(format, args...)}
	if doc != nil {
		p.File = doc.path
		p.Line, p.Column = doc.position(key)
	}
	d.problems = append(d.problems, p)
}

// printable returns a key as it is if it is a plain one, and else quoted.
func printable(key string) string {
	if strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") != "" || key == "" {
		return quote(key)
	}
	return key
}

// The functions as… return a value of the type in their name, or report what
// the value is instead.

func (d *draft) asString(k *Key, value any) (string, bool) {
	s, ok := value.(string)
	if !ok {
		d.fail(k.Name, "has to be a string, is %s; write for example %s", describe(value), k.Example)
	}
	return s, ok
}

func (d *draft) asBool(k *Key, value any) bool {
	b, ok := value.(bool)
	if s, isString := value.(string); isString && (s == "true" || s == "false") {
		d.fail(k.Name, "has to be true or false, is a string; write %s without the quotes", s)
	} else if !ok {
		d.fail(k.Name, "has to be true or false, is %s", describe(value))
	}
	return b
}

func (d *draft) asStrings(k *Key, value any) ([]string, bool) {
	list, ok := value.([]any)
	if !ok {
		hint := "for example " + k.Example
		if s, isString := value.(string); isString && len(s) <= 200 {
			hint = "[" + strconv.Quote(s) + "]"
		}
		d.fail(k.Name, "has to be a list of strings, is %s; write %s", describe(value), hint)
		return nil, false
	}
	strs := make([]string, 0, len(list))
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			d.fail(k.Name, "has to be a list of strings, but its %s entry is %s", ordinal(i), describe(v))
			return nil, false
		}
		strs = append(strs, s)
	}
	return strs, true
}

// asOneOf returns a string that is one of k.Values.
func (d *draft) asOneOf(k *Key, value any) (string, bool) {
	s, ok := d.asString(k, value)
	if !ok {
		return "", false
	}
	if !slices.Contains(k.Values, s) {
		d.fail(k.Name, "has to be one of %s, is %s", strings.Join(k.Values, ", "), quote(s))
		return "", false
	}
	return s, true
}

func (d *draft) asDuration(k *Key, value any) time.Duration {
	var (
		t   time.Duration
		err error
	)
	switch v := value.(type) {
	case string:
		t, err = ParseDuration(v)
	case int64:
		t, err = secondsDuration(float64(v), strconv.FormatInt(v, 10))
	case float64:
		t, err = secondsDuration(v, strconv.FormatFloat(v, 'g', -1, 64))
	default:
		err = fmt.Errorf("has to be a duration, is %s; write for example %s", describe(value), k.Example)
	}
	if err != nil {
		d.fail(k.Name, "%s", err)
	}
	return t
}

// describe names the type of a TOML value.
func describe(value any) string {
	switch value.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case time.Time:
		return "a date or time"
	case []any:
		return "a list"
	case []map[string]any:
		return "a list of tables"
	}
	return "a table"
}

// ordinal names an index as people count.
func ordinal(i int) string {
	n := i + 1
	switch {
	case n%100 >= 11 && n%100 <= 13:
	case n%10 == 1:
		return fmt.Sprintf("%dst", n)
	case n%10 == 2:
		return fmt.Sprintf("%dnd", n)
	case n%10 == 3:
		return fmt.Sprintf("%drd", n)
	}
	return fmt.Sprintf("%dth", n)
}

// One function per key, in the order of Keys. Each sets the field of the
// service, and reports what is wrong with the value by itself.

func (d *draft) serviceName(k *Key, value any) {
	s, ok := d.asString(k, value)
	if !ok {
		return
	}
	if err := layout.CheckService(s); err != nil {
		d.fail(k.Name, "%s %s", quote(s), err)
		return
	}
	d.service.Name, d.named = s, true
}

func (d *draft) serviceDir(k *Key, value any) {
	s, ok := d.asString(k, value)
	if !ok {
		return
	}
	dir, err := checkServiceDir(s, k.Example)
	if err != nil {
		d.fail(k.Name, "%s", err)
		return
	}
	d.service.Dir = dir
}

func (d *draft) cmd(k *Key, value any) {
	var (
		c   Command
		err error
	)
	switch v := value.(type) {
	case string:
		c, err = parseCommand(v)
	case []any:
		argv, ok := d.asStrings(k, value)
		if !ok {
			return
		}
		c, err = Command{Argv: argv}, checkArgv(argv)
	default:
		err = fmt.Errorf("has to be a string or a list of strings, is %s; write for example %s", describe(value), k.Example)
	}
	if err != nil {
		d.fail(k.Name, "%s", err)
		return
	}
	d.service.Command = c
}

func (d *draft) containerCLI(k *Key, value any) {
	if s, ok := d.asOneOf(k, value); ok {
		d.service.Engine = Engine(s)
	}
}

func (d *draft) imageName(k *Key, value any) {
	s, ok := d.asString(k, value)
	if !ok || s == "" { // whether an image is needed depends on the engine
		return
	}
	if err := checkImage(s); err != nil {
		d.fail(k.Name, "%s", err)
		return
	}
	d.service.Image = s
}

func (d *draft) join(k *Key, value any) {
	s, ok := d.asString(k, value)
	if !ok || s == "" {
		return
	}
	if err := layout.CheckService(s); err != nil {
		d.fail(k.Name, "is not the name of a service: %s %s", quote(s), err)
		return
	}
	d.service.Join = s
}

func (d *draft) run(k *Key, value any) {
	lists, ok := value.([]any)
	if !ok {
		d.fail(k.Name, "has to be a list of lists of strings, is %s; write for example %s", describe(value), k.Example)
		return
	}
	for i, list := range lists {
		entries, ok := list.([]any)
		if !ok {
			d.fail(k.Name, "has to be a list of lists of strings, but its %s entry is %s; write for example %s", ordinal(i), describe(list), k.Example)
			continue
		}
		var words []string
		for _, entry := range entries {
			word, ok := entry.(string)
			if !ok || word == "" || strings.Contains(word, "\x00") {
				d.fail(k.Name, "its %s list may only have strings in it that are not empty and hold no NUL; write for example %s", ordinal(i), k.Example)
				words = nil
				break
			}
			words = append(words, word)
		}
		if len(entries) == 0 {
			d.fail(k.Name, "its %s list is empty, so that each call would be a control command; leave it out", ordinal(i))
		}
		if len(words) > 0 {
			d.service.Run = append(d.service.Run, words)
		}
	}
}

func (d *draft) configBindMount(k *Key, value any) {
	s, ok := d.asString(k, value)
	if !ok || s == "" {
		return
	}
	m, err := parseBindMount(s)
	if err != nil {
		d.fail(k.Name, "%s", err)
		return
	}
	d.service.ConfigBindMount = &m
}

func (d *draft) bindMounts(k *Key, value any) {
	list, _ := d.asStrings(k, value)
	for _, s := range list {
		m, err := parseBindMount(s)
		if err != nil {
			d.fail(k.Name, "%s", err)
			continue
		}
		d.service.BindMounts = append(d.service.BindMounts, m)
	}
}

func (d *draft) dockerSockets(k *Key, value any) {
	list, _ := d.asStrings(k, value)
	for _, s := range list {
		socket, err := checkPath(s)
		if err != nil {
			d.fail(k.Name, "%s", err)
			continue
		}
		d.service.DockerSockets = append(d.service.DockerSockets, socket)
	}
}

func (d *draft) killScript(k *Key, value any) {
	s, ok := d.asString(k, value)
	if !ok || s == "" {
		return
	}
	if err := checkFileName(s); err != nil {
		d.fail(k.Name, "%s", err)
		return
	}
	d.service.KillScript = s
}

func (d *draft) debug(k *Key, value any) { d.service.Debug = d.asBool(k, value) }

func (d *draft) containerOptions(k *Key, value any) {
	list, ok := d.asStrings(k, value)
	if !ok {
		return
	}
	for _, err := range checkContainerOptions(list) {
		d.fail(k.Name, "%s", err)
	}
	if len(list) > 0 {
		d.service.ContainerOptions = list
	}
}

func (d *draft) privileged(k *Key, value any) { d.service.Privileged = d.asBool(k, value) }

func (d *draft) restart(k *Key, value any) {
	if s, ok := d.asOneOf(k, value); ok {
		d.service.Restart = s
	}
}

func (d *draft) log(k *Key, value any) {
	if s, ok := d.asOneOf(k, value); ok {
		d.service.Log = Log(s)
	}
}

func (d *draft) passEnvironment(k *Key, value any) {
	d.service.PassEnvironment = nil
	list, _ := d.asStrings(k, value)
	for _, s := range list {
		if err := checkVariable(s); err != nil {
			d.fail(k.Name, "%s", err)
			continue
		}
		d.service.PassEnvironment = append(d.service.PassEnvironment, s)
	}
}

func (d *draft) allowedUIDs(k *Key, value any) {
	list, ok := value.([]any)
	if !ok {
		d.fail(k.Name, "has to be a list of integers, is %s; write for example %s", describe(value), k.Example)
		return
	}
	if len(list) == 0 {
		d.fail(k.Name, "is empty, so nobody could start a sidecar; write for example %s", k.Example)
	}
	d.service.AllowedUIDs = nil
	for i, v := range list {
		n, ok := v.(int64)
		switch {
		case !ok:
			d.fail(k.Name, "has to be a list of integers, but its %s entry is %s; users are given by number", ordinal(i), describe(v))
		case n < 0 || n > maxUID:
			d.fail(k.Name, "%d is not a user's number; these are 0 to %d", n, int64(maxUID))
		default:
			d.service.AllowedUIDs = append(d.service.AllowedUIDs, uint32(n))
		}
	}
}

func (d *draft) idleTimeout(k *Key, value any) { d.service.IdleTimeout = d.asDuration(k, value) }

func (d *draft) readyPIDFileOption(k *Key, value any) {
	list, _ := d.asStrings(k, value)
	for _, s := range list {
		if err := checkPIDFileOption(s); err != nil {
			d.fail(k.Name, "%s", err)
			continue
		}
		d.service.Ready.PIDFileOptions = append(d.service.Ready.PIDFileOptions, s)
	}
}

func (d *draft) readyPIDFile(k *Key, value any) {
	s, ok := d.asString(k, value)
	if !ok || s == "" {
		return
	}
	file, err := checkPIDFile(s)
	if err != nil {
		d.fail(k.Name, "%s", err)
		return
	}
	d.service.Ready.PIDFile = file
}

func (d *draft) readyTimeout(k *Key, value any) { d.service.Ready.Timeout = d.asDuration(k, value) }
