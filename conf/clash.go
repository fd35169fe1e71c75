// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// checkNames has a name used by one definition only. The one whose file has
// that name keeps it, else the first by file name. A definition that is broken
// keeps its name as well: another that took it over would lose it again when
// the first one is mended.
func checkNames(drafts []*draft) {
	owners := make(map[string]*draft)
	for _, d := range drafts {
		if !d.named {
			continue
		}
		name := d.service.Name
		if owners[name] == nil || d.base == name {
			owners[name] = d
		}
	}
	for _, d := range drafts {
		if owner := owners[d.service.Name]; d.named && owner != d {
			d.duplicate = true
			d.fail("service_name", "%s is already the name of the service in %s; choose another name",
				quote(d.service.Name), owner.path)
		}
	}
}

// unitFiles maps the names of unit files to their paths.
type unitFiles map[string]string

// packagedUnits returns the units that packages have installed below root. A
// generated unit comes before one of these that has its name (systemd.unit(5)).
func packagedUnits(root string) unitFiles {
	units := unitFiles{}
	for _, dir := range []string{"/lib/systemd/system", "/usr/lib/systemd/system", "/usr/local/lib/systemd/system"} {
		target, err := follow(root, dir)
		if err != nil {
			continue
		}
		// Where there is none, or none that can be read, systemd has no units of it.
		entries, _ := os.ReadDir(filepath.Join(root, target))
		for _, entry := range entries {
			units[entry.Name()] = filepath.Join(root, dir, entry.Name())
		}
	}
	return units
}

// of returns the path of a unit whose place one of the service's takes, "" if
// there is none.
func (units unitFiles) of(service string) string {
	for _, unit := range layout.Units(service) {
		if file := units[unit]; file != "" {
			return file
		}
	}
	return ""
}

// ofSidecars says whether a package has a unit that sidecars of the service are
// started by, or asked for.
func (units unitFiles) ofSidecars(service string) bool {
	for _, unit := range []string{layout.TemplateUnit(service), layout.SocketUnit(service), layout.PathUnit(service)} {
		if units[unit] != "" {
			return true
		}
	}
	return false
}

// checkUnits has no service take the place of another's unit: a definition named
// docker would be the end of docker.service.
func checkUnits(drafts []*draft, others unitFiles) {
	for _, d := range drafts {
		if !d.named {
			continue
		}
		if file := others.of(d.service.Name); file != "" {
			d.fail("service_name", "a unit of %s would take the place of %s, which is another's; choose another name with service_name",
				quote(d.service.Name), file)
		}
	}
}

// checkDirs has no service_dir below that of another service, whose agent can write
// there: root trusts the path of a service_dir, and what it lays out would be where a
// link leads. The files of two services in one service_dir have names of their own,
// but for kill scripts, which they may share.
func checkDirs(drafts []*draft) {
	owners := make(map[string]*draft) // by service_dir, the first by name
	for _, d := range drafts {
		if len(d.problems) > 0 {
			continue
		}
		if owner := owners[d.service.Dir]; owner == nil || d.service.Name < owner.service.Name {
			owners[d.service.Dir] = d
		}
	}
	for _, d := range drafts {
		if len(d.problems) > 0 {
			continue
		}
		for dir := path.Dir(d.service.Dir); dir != "/"; dir = path.Dir(dir) {
			if owner := owners[dir]; owner != nil {
				d.fail("service_dir", "%s is below %s, which is that of service %s in %s: its agent could put a link in the place of it; choose a directory elsewhere, or the same",
					d.service.Dir, dir, quote(owner.service.Name), owner.path)
				break
			}
		}
	}
}

// checkContainers has no agent choose a name of a network namespace by which a sidecar
// of its service gets the name of a container, or of a log file, of another agent's:
// these are SERVICE-NETNS, and a container that has the name is removed. Services of
// one service_dir are left alone, since their agents have to trust each other.
func checkContainers(drafts []*draft) {
	owners := make(map[string]*draft)
	for _, d := range drafts {
		if len(d.problems) == 0 {
			owners[d.service.Name] = d
		}
	}
	for _, d := range drafts {
		if len(d.problems) > 0 {
			continue
		}
		s := &d.service
		for i := range s.Name {
			owner := owners[s.Name[:i]]
			if s.Name[i] != '-' || owner == nil || owner.service.Dir == s.Dir {
				continue
			}
			other := &owner.service
			if s.Engine == other.Engine && s.Engine != Systemd || s.Log == LogFile && other.Log == LogFile {
				d.fail("service_name", "%s begins with the name of the service %s in %s, whose agent could give a sidecar the name of a container or log file of this one; choose another name, or the same service_dir",
					quote(s.Name), quote(other.Name), owner.path)
				break
			}
		}
	}
}

// checkJoins has each definition that joins another find it, in order and
// without a join of its own.
func checkJoins(drafts []*draft) {
	owners := make(map[string]*draft)
	for _, d := range drafts {
		if d.named && !d.duplicate {
			owners[d.service.Name] = d
		}
	}
	// Before any of these fails, which would make others' messages depend on
	// the order.
	broken := make(map[*draft]bool)
	for _, d := range drafts {
		broken[d] = len(d.problems) > 0
	}
	for _, d := range drafts {
		join := d.service.Join
		if join == "" || d.named && join == d.service.Name || d.alone {
			continue
		}
		other := owners[join]
		switch {
		case other == nil:
			d.fail("join", "there is no definition of the service %s; write one, or correct the name", quote(join))
		case other.service.Join != "":
			d.fail("join", "%s joins %s itself, in %s; name %[2]s here as well", quote(join), quote(other.service.Join), other.path)
		case broken[other]:
			d.fail("join", "the definition of %s is broken, %s; mend that one first", quote(join), other.path)
		default:
			d.service.JoinEngine, d.service.JoinPrivileged = other.service.Engine, other.service.Privileged
		}
	}
}

// claim tells how good a draft's right to its name is.
func (d *draft) claim() int {
	switch {
	case d.named && !d.duplicate:
		return 2
	case d.named || d.known() != "":
		return 1
	}
	return 0
}

// known returns the service's name, or that which it had last; "" if neither is
// known.
func (d *draft) known() string {
	switch {
	case d.named && !d.duplicate:
		return d.service.Name
	case !d.named && layout.CheckService(d.last) == nil:
		return d.last
	}
	return ""
}

// findLastNames finds the name that each service had last whose name is not known
// now, as the units of its sidecars say: those that systemd has, which are not there
// while it has generators write them, or those that its activator has kept, which
// only root can read.
func findLastNames(root string, drafts []*draft) {
	if !slices.ContainsFunc(drafts, func(d *draft) bool { return !d.named }) {
		return
	}
	names := map[string]string{} // by definition
	since := map[string]time.Time{}
	for _, pattern := range []string{layout.KeptTemplate("*"), path.Join(layout.GeneratedDir, layout.TemplateUnit("*"))} {
		files, _ := filepath.Glob(filepath.Join(root, pattern)) // fails for no pattern but a wrong one
		for _, file := range files {
			name, generated := strings.CutSuffix(path.Base(file), layout.TemplateUnit(""))
			if !generated {
				name = path.Base(path.Dir(file))
			}
			info, err := os.Stat(file)
			if err != nil {
				continue
			}
			source := sourceOf(file)
			// The file may have been that of another service before.
			if names[source] == "" || !info.ModTime().Before(since[source]) {
				names[source], since[source] = name, info.ModTime()
			}
		}
	}
	for _, d := range drafts {
		if !d.named {
			d.last = names[d.service.Source]
		}
	}
}

// sourceOf returns the definition that a unit was made of, "" if it does not say.
func sourceOf(unit string) string {
	text, _ := os.ReadFile(unit) // #nosec G304 -- root's: systemd's generators and the activator write there alone
	for line := range strings.Lines(string(text)) {
		if source, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "SourcePath="); ok {
			return strings.ReplaceAll(source, "%%", "%")
		}
	}
	return ""
}

// name returns the service's name if it is known, else that which it had last,
// so that what runs of it is still looked after, and otherwise one that is made
// from the file's name.
func (d *draft) name() string {
	if d.named {
		return d.service.Name
	}
	if last := d.known(); last != "" {
		return last
	}
	name := strings.Map(func(r rune) rune {
		if layout.CheckService("x"+string(r)) != nil {
			return '-'
		}
		return r
	}, d.base)
	return cmp.Or(strings.TrimLeft(name, "-_."), "unnamed")
}

// freeName returns name, or what comes nearest to it, as a valid name of a
// service that is not taken.
func freeName(name string, taken func(string) bool) string {
	for n := 0; ; n++ {
		end := ""
		switch {
		case n == 1:
			end = "-broken"
		case n > 1:
			end = fmt.Sprintf("-broken-%d", n)
		}
		start := name
		for len(start) > 1 && layout.CheckService(start+end) != nil {
			start = start[:len(start)-1]
		}
		free := start + end
		if !taken(free) && layout.CheckService(free) == nil {
			return free
		}
	}
}
