// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// The directories of definitions, the first one wins.
const (
	AdminDir  = "/etc/tripleo-wrappers"
	VendorDir = "/usr/lib/tripleo-wrappers"
)

const (
	suffix       = ".toml"
	dropInSuffix = ".toml.d"
)

// Load reads all definitions below root: "/" on a host, or another directory
// that holds a host's file system. It never fails; what is wrong is in the
// Set's Broken.
func Load(root string) Set {
	if root == "" {
		root = "/"
	}
	root = filepath.Clean(root)
	definitions, unreadable := find(root)
	drafts := make([]*draft, len(definitions)) // nil for a mask
	// systemd waits for this at each daemon-reload, and most of it is TOML.
	var readers sync.WaitGroup
	processors := runtime.GOMAXPROCS(0)
	for first := range processors {
		readers.Go(func() {
			for i := first; i < len(definitions); i += processors {
				drafts[i] = read(root, definitions[i])
			}
		})
	}
	readers.Wait()
	drafts = slices.DeleteFunc(drafts, func(d *draft) bool { return d == nil })
	findLastNames(root, drafts)
	return sortOut(append(drafts, unreadable...), packagedUnits(root))
}

// LoadFile reads one definition that need not be in its place yet, for the host
// whose file system is at root. Its drop-ins, if there are any, are beside it; a
// service that it joins is not looked for. It never fails; what is wrong is in the
// Set's Broken, and a file that is no definition but a mask makes an empty Set.
func LoadFile(root, name string) Set {
	others := packagedUnits(root)
	file, err := filepath.Abs(name)
	if err != nil {
		d := newDraft("/", path.Base(name), name)
		d.problems = []Problem{{File: name, Message: err.Error()}}
		return sortOut([]*draft{d}, others)
	}
	dir, base := path.Dir(file), strings.TrimSuffix(path.Base(file), suffix)
	def := definition{base: base, source: file}
	beside := listing{dropInDirs: map[string]bool{base: true}}
	def.findDropIns("/", []string{dir}, []listing{beside})
	d := read("/", def)
	if d == nil {
		return Set{}
	}
	d.alone = true
	return sortOut([]*draft{d}, others)
}

// Check returns what is wrong with the text of a definition by itself, as if it
// were that of the file BASE.toml, without drop-ins and among no others.
func Check(base, text string) []Problem {
	d := newDraft("/", base, path.Join(AdminDir, base+suffix))
	if doc := d.parse(d.path, text); doc != nil {
		d.apply(doc)
	}
	d.check()
	return firstProblems(d.problems)
}

// A definition is a definition's file and its drop-ins, before they are read.
type definition struct {
	base     string // the file's name without its suffix
	source   string
	dropIns  []string // in order; masks are among them
	problems []Problem
}

// find lists all definitions, sorted by file name, with a draft for each
// directory that cannot be read.
func find(root string) (definitions []definition, unreadable []*draft) {
	dirs := []string{AdminDir, VendorDir}
	listings := make([]listing, len(dirs))
	for i, dir := range dirs {
		var err error
		if listings[i], err = list(root, dir); err != nil {
			d := newDraft(root, path.Base(dir), dir)
			d.problems = []Problem{{File: d.path, Message: err.Error()}}
			unreadable = append(unreadable, d)
		}
	}
	files := merge(dirs, listings)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		def := definition{base: strings.TrimSuffix(name, suffix), source: files[name]}
		def.findDropIns(root, dirs, listings)
		definitions = append(definitions, def)
	}
	return definitions, unreadable
}

// findDropIns lists the drop-ins of a definition.
func (def *definition) findDropIns(root string, dirs []string, listings []listing) {
	var (
		dropInDirs []string
		found      []listing
	)
	for i, dir := range dirs {
		if !listings[i].dropInDirs[def.base] {
			continue
		}
		dir = path.Join(dir, def.base+dropInSuffix)
		l, err := list(root, dir)
		if err != nil {
			def.problems = append(def.problems, Problem{File: filepath.Join(root, dir), Message: err.Error()})
		}
		dropInDirs, found = append(dropInDirs, dir), append(found, l)
	}
	files := merge(dropInDirs, found)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		def.dropIns = append(def.dropIns, files[name])
	}
}

// merge maps the names of files in several directories to their paths, where a
// name in an earlier directory wins.
func merge(dirs []string, listings []listing) map[string]string {
	paths := make(map[string]string)
	for i, dir := range dirs {
		for _, name := range listings[i].files {
			if _, ok := paths[name]; !ok {
				paths[name] = path.Join(dir, name)
			}
		}
	}
	return paths
}

// A listing is what a directory holds that concerns us.
type listing struct {
	files      []string        // names with .toml at their end
	dropInDirs map[string]bool // names with .toml.d at their end, without it
}

// list reads a directory. One that does not exist is empty.
func list(root, dir string) (listing, error) {
	target, err := follow(root, dir)
	if err != nil {
		return listing{}, err
	}
	entries, err := os.ReadDir(filepath.Join(root, target))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		err = cannotRead(err)
	}
	l := listing{dropInDirs: make(map[string]bool)}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") {
			continue
		}
		if base, ok := strings.CutSuffix(name, dropInSuffix); ok {
			l.dropInDirs[base] = true
		} else if strings.HasSuffix(name, suffix) {
			l.files = append(l.files, name)
		}
	}
	return l, err
}

// read reads a definition and its drop-ins into a draft and checks it. It
// returns nil for a definition that is masked.
func read(root string, def definition) *draft {
	d := newDraft(root, def.base, def.source)
	main := d.read(root, def.source)
	if main == nil && len(d.problems) == 0 {
		return nil
	}
	if len(def.problems) > 0 {
		d.incomplete = true
		d.problems = append(d.problems, def.problems...)
	}
	if main != nil {
		d.apply(main)
	}
	for _, source := range def.dropIns {
		if doc := d.read(root, source); doc != nil {
			d.apply(doc)
			d.service.DropIns = append(d.service.DropIns, source)
		}
	}
	d.check()
	return d
}

// read reads one file. It returns nil for a mask, and for a file that has a
// problem as a whole.
func (d *draft) read(root, source string) *document {
	file := filepath.Join(root, source)
	text, mask, err := readFile(root, source)
	if err != nil {
		d.incomplete = true
		d.problems = append(d.problems, Problem{File: file, Message: err.Error()})
		return nil
	}
	if mask {
		return nil
	}
	return d.parse(file, text)
}

// parse reads the text of one file. It returns nil for one that is not TOML.
func (d *draft) parse(file, text string) *document {
	tables, err := parseTOML(text)
	if err != nil {
		p := Problem{File: file, Line: 1, Column: 1, Message: err.Error()}
		var se *syntaxError
		if errors.As(err, &se) {
			p.Line, p.Column = lineColumn(text, se.offset)
		}
		d.incomplete = true
		d.problems = append(d.problems, p)
		return nil
	}
	return &document{path: file, text: text, tables: tables}
}

// sortOut makes services of the drafts without a problem, and Brokens of the
// others, none of which has a unit among those of others.
func sortOut(drafts []*draft, others unitFiles) Set {
	checkNames(drafts)
	checkUnits(drafts, others)
	checkDirs(drafts)
	checkContainers(drafts)
	checkJoins(drafts)

	var (
		set    Set
		broken []*draft
		taken  = make(map[string]bool)
	)
	for _, d := range drafts {
		if len(d.problems) > 0 {
			broken = append(broken, d)
			continue
		}
		set.Services = append(set.Services, d.service)
		taken[d.service.Name] = true
	}
	// Who has a right to a name gets it before those whose name is made up.
	slices.SortStableFunc(broken, func(a, b *draft) int {
		return cmp.Compare(b.claim(), a.claim())
	})
	for _, d := range broken {
		d.problems = firstProblems(d.problems)
		name := freeName(d.name(), func(name string) bool { return taken[name] || others.of(name) != "" })
		service := d.known()
		if taken[service] || others.ofSidecars(service) {
			service = ""
		}
		taken[name] = true
		if service != "" {
			taken[service] = true
		}
		set.Broken = append(set.Broken, Broken{Name: name, Service: service, Source: d.service.Source, Problems: d.problems})
	}
	slices.SortFunc(set.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(set.Broken, func(a, b Broken) int { return cmp.Compare(a.Name, b.Name) })
	return set
}
