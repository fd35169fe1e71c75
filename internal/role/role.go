// SPDX-License-Identifier: Apache-2.0

// Package role knows what the Ansible role tripleo-systemd-wrapper left on a
// host: two units that take the place of generated ones, and scripts in
// service_dir. It tells them from what an operator wrote, keeps copies of them
// and puts these back.
package role

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// Where the role put its units, and the link that starts its path unit at boot.
const (
	unitDir  = "/etc/systemd/system"
	wantsDir = unitDir + "/multi-user.target.wants"
)

// syncScripts are the names that the script of the role's service has had in
// the state directory.
var syncScripts = []string{"sync", "process-sync"}

// Command is the role's script in the state directory that its containers run.
const Command = "command"

// maxScript is more than any of the role's scripts has, in bytes.
const maxScript = 64 << 10

// Units returns the role's files of a service that take the place of generated
// units. A file of such a name that is not the role's is an error.
func Units(root, service, serviceDir string) ([]string, error) {
	var found []string
	var errs []error
	for _, unit := range []string{layout.PathUnit(service), layout.ServiceUnit(service)} {
		file := path.Join(root, unitDir, unit)
		info, err := os.Lstat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var content []byte
		if err == nil && info.Mode().IsRegular() {
			content, err = os.ReadFile(file) // #nosec G304 -- in unitDir, which is root's
		}
		switch state := layout.StateDir(serviceDir, service); {
		case err != nil:
			errs = append(errs, err)
		case isUnit(unit, content, state):
			found = append(found, file)
		default:
			errs = append(errs, fmt.Errorf("%s takes the place of a generated unit and is not the role's for %s, so it is left alone; "+
				"if nobody needs it, move it away, then try again", file, state))
		}
	}
	link := path.Join(root, wantsDir, layout.PathUnit(service))
	if target, err := os.Readlink(link); err == nil && path.Base(target) == layout.PathUnit(service) {
		found = append(found, link)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return found, nil
}

// isUnit says whether a unit file is the role's (its templates/service.path.j2
// and service.service.j2): it watches the one file, or runs the one script. What
// an operator has added to it does not make it another's.
func isUnit(name string, content []byte, state string) bool {
	if path.Ext(name) == ".path" {
		return slices.Equal(settings(content, "PathModified"), []string{path.Join(state, layout.SpoolTimestamp)}) &&
			settings(content, "PathChanged", "PathExists", "PathExistsGlob", "DirectoryNotEmpty", "Unit") == nil
	}
	commands := settings(content, "ExecStart", "ExecStartPre", "ExecStartPost")
	return len(commands) == 1 && path.Dir(commands[0]) == state && slices.Contains(syncScripts, path.Base(commands[0]))
}

// settings returns the values of settings of a unit file.
func settings(content []byte, names ...string) []string {
	var values []string
	for line := range strings.Lines(string(content)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && slices.Contains(names, strings.TrimSpace(name)) {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}

// isScript says whether a file in service_dir is the role's wrapper or kill
// script (its templates/service_wrapper.j2 and service_kill.j2).
func isScript(content []byte) bool {
	contains := func(text string) bool { return bytes.Contains(content, []byte(text)) }
	wrapper := contains("ip netns identify") && contains("/"+layout.SpoolTimestamp)
	kill := contains("kill_container") && contains("signal_container")
	return bytes.HasPrefix(content, []byte("#!")) && len(content) <= maxScript && (wrapper || kill)
}

// KeepScript keeps a copy of a file that is about to be replaced, if it is a
// script of the role's and there is no copy of it yet. It is the last chance:
// units may be read again, and scripts replaced, before an operator adopts a
// service.
func KeepScript(file string, content []byte, mode fs.FileMode) error {
	if !isScript(content) {
		return nil
	}
	kept := layout.KeptFile(file)
	if _, err := os.Lstat(kept); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return write(kept, content, mode)
}

// Keep keeps a copy of a file, in the place of an older one.
func Keep(file string) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	kept := layout.KeptFile(file)
	if info.Mode().Type() == fs.ModeSymlink {
		target, err := os.Readlink(file)
		if err != nil {
			return err
		}
		return link(kept, target)
	}
	content, err := os.ReadFile(file) // #nosec G304 -- a unit of the role that Units found
	if err != nil {
		return err
	}
	return write(kept, content, info.Mode().Perm())
}

// Restore puts the kept files of a service back in their places and returns
// them; none if nothing is kept. Kill scripts of its service_dir that others use
// stay as they are, and are returned as waiting.
func Restore(service string, used func(script string) bool) (restored, waiting []string, err error) {
	put := func(file string, restore func(string) (bool, error)) error {
		done, err := restore(file)
		if done {
			restored = append(restored, file)
		}
		return err
	}
	serviceDir := keptServiceDir(service)
	script := func(file string) (bool, error) { return restoreScript(serviceDir, file) }
	if serviceDir != "" {
		kept, err := filepath.Glob(layout.KeptFile(path.Join(serviceDir, layout.KillScripts, "*")))
		if err != nil {
			return nil, nil, err
		}
		for _, file := range kept {
			file = layout.KillScript(serviceDir, path.Base(file))
			if used(file) {
				waiting = append(waiting, file)
				continue
			}
			if err := put(file, script); err != nil {
				return restored, waiting, err
			}
		}
	}
	// Those by which the others are found come last.
	units := []string{
		path.Join(wantsDir, layout.PathUnit(service)), path.Join(unitDir, layout.ServiceUnit(service)), path.Join(unitDir, layout.PathUnit(service)),
	}
	for _, file := range units {
		if err := put(file, restore); err != nil {
			return restored, waiting, err
		}
	}
	if serviceDir != "" {
		err = put(path.Join(layout.StateDir(serviceDir, service), layout.Wrapper), script)
	}
	return restored, waiting, err
}

// Kept says whether files of a service are kept: the role's units and, also where
// nobody has adopted it, its wrapper.
func Kept(service string) bool {
	files := []string{path.Join(unitDir, layout.PathUnit(service)), path.Join(unitDir, layout.ServiceUnit(service))}
	if dir := keptServiceDir(service); dir != "" {
		files = append(files, path.Join(layout.StateDir(dir, service), layout.Wrapper))
	}
	return slices.ContainsFunc(files, func(file string) bool {
		_, err := os.Lstat(layout.KeptFile(file))
		return err == nil
	})
}

// keptServiceDir returns service_dir of a service of which files are kept; "" if it
// is not known.
func keptServiceDir(service string) string {
	content, err := os.ReadFile(layout.KeptFile(path.Join(unitDir, layout.PathUnit(service))))
	watched := settings(content, "PathModified")
	if err == nil && len(watched) == 1 && path.Base(path.Dir(watched[0])) == service {
		return path.Dir(path.Dir(watched[0]))
	}
	var dir string
	_ = filepath.WalkDir(layout.AdoptedDir, func(name string, entry fs.DirEntry, err error) error {
		state := path.Dir(strings.TrimPrefix(name, layout.AdoptedDir))
		if err == nil && entry.Type().IsRegular() && path.Base(name) == layout.Wrapper && path.Base(state) == service {
			dir = path.Dir(state)
			return fs.SkipAll
		}
		return nil
	})
	return dir
}

// restore puts a kept file of root's own directories back.
func restore(file string) (bool, error) {
	kept := layout.KeptFile(file)
	info, err := os.Lstat(kept)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.Mode().Type() == fs.ModeSymlink {
		target, err := os.Readlink(kept)
		if err == nil {
			err = link(file, target)
		}
		if err != nil {
			return false, err
		}
		return true, os.Remove(kept)
	}
	content, err := os.ReadFile(kept) // #nosec G304 -- below layout.AdoptedDir, which is root's
	if err != nil {
		return false, err
	}
	if err := write(file, content, info.Mode().Perm()); err != nil {
		return false, err
	}
	return true, os.Remove(kept)
}

// restoreScript puts a kept script back in a directory that an agent can write.
func restoreScript(serviceDir, file string) (bool, error) {
	kept := layout.KeptFile(file)
	info, err := os.Lstat(kept)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	content, err := os.ReadFile(kept) // #nosec G304 -- below layout.AdoptedDir, which is root's
	if err != nil {
		return false, err
	}
	dir, err := beneath.Open(serviceDir)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	if err := dir.WriteFile(strings.TrimPrefix(file, serviceDir+"/"), content, info.Mode().Perm()); err != nil {
		return false, err
	}
	return true, os.Remove(kept)
}

// write puts a file in its place, at once or not at all, and its directory if
// that is not there.
func write(file string, content []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(path.Dir(file), 0o755); err != nil { // #nosec G301 -- of units and copies, which have modes of their own
		return err
	}
	dir, err := beneath.Open(path.Dir(file))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.WriteFile(path.Base(file), content, mode)
}

func link(file, target string) error {
	if err := os.MkdirAll(path.Dir(file), 0o755); err != nil { // #nosec G301 -- of units and copies, which have modes of their own
		return err
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(target, file)
}
