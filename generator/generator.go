// SPDX-License-Identifier: Apache-2.0

// Package generator joins definitions and units: it reads the one and writes
// the other, as systemd.generator(7) has it.
//
// It does nothing else. It runs before anything is mounted or started, several
// of it may run at once, and all that it leaves behind is below the directory
// that it was given.
package generator

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/units"
)

// Render returns the units of all definitions below root, and the definitions
// themselves. What is good is rendered whatever else is bad; what is bad has
// units that say so, and the template that its sidecars were started by, so that
// systemd goes on to look after them.
func Render(root string) ([]units.File, conf.Set) {
	set := conf.Load(root)
	files := RenderSet(set)
	for _, broken := range set.Broken {
		// There is none before an activator has run since boot, nor for who is not root.
		if broken.Service == "" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, layout.KeptTemplate(broken.Service))) // #nosec G304 -- below layout.RuntimeDir, which is root's alone
		if err == nil {
			files = append(files, units.File{Name: layout.TemplateUnit(broken.Service), Text: string(text)})
		}
	}
	return files, set
}

// RenderSet does so for definitions that have been read.
func RenderSet(set conf.Set) []units.File {
	var files []units.File
	for i := range set.Services {
		files = append(files, units.Render(&set.Services[i])...)
	}
	for i := range set.Broken {
		files = append(files, units.RenderBroken(&set.Broken[i])...)
	}
	return files
}

// Write writes units below a directory, each at once or not at all, and goes
// on after an error. It returns all errors.
func Write(dir string, files []units.File) []error {
	var errs []error
	made := map[string]bool{}
	for _, file := range files {
		name := filepath.Join(dir, file.Name)
		if parent := filepath.Dir(name); !made[parent] {
			if err := os.MkdirAll(parent, 0o755); err != nil { // #nosec G301 -- systemctl cat reads it as anybody
				errs = append(errs, err)
				continue
			}
			made[parent] = true
		}
		if err := write(name, file); err != nil {
			errs = append(errs, fmt.Errorf("writing unit %s: %w", file.Name, err))
		}
	}
	return errs
}

// write makes a link or a file, at once or not at all, so that whoever reads or
// writes the same unit at the same time never has half of one: a file is made
// under another name and renamed, and so is a link that takes the place of
// something. Mostly nothing is there: systemd clears the directory first.
func write(name string, file units.File) error {
	if file.Link != "" {
		if err := os.Symlink(file.Link, name); !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	temporary := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+"."+rand.Text())
	var err error
	if file.Link != "" {
		err = os.Symlink(file.Link, temporary)
	} else {
		err = writeFile(temporary, file.Text)
	}
	if err == nil {
		err = rename(temporary, name)
	}
	if err != nil {
		if removeErr := os.Remove(temporary); !errors.Is(removeErr, os.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}
	return err
}

// writeFile does what os.WriteFile does, without asking the kernel whether the
// file can be waited for: four calls of nine.
func writeFile(name, text string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644) // systemctl cat reads it as anybody
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// rename does what os.Rename does, without a look at what is there, which takes
// as long again.
func rename(from, to string) error {
	if err := unix.Rename(from, to); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// Print prints units with their names, for people.
func Print(w io.Writer, files []units.File) error {
	for i, file := range files {
		if i > 0 {
			fmt.Fprintln(w)
		}
		var err error
		if file.Link != "" {
			_, err = fmt.Fprintf(w, "# %s -> %s\n", file.Name, file.Link)
		} else {
			_, err = fmt.Fprintf(w, "# %s\n%s", file.Name, file.Text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
