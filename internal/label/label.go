// SPDX-License-Identifier: Apache-2.0

// Package label gives files the SELinux type that containers may use, which the
// Ansible role gave them. Where SELinux is not enabled it does nothing.
package label

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
)

// What containers may read, write and run, whatever categories they have: the type
// (svirt_sandbox_file_t is an older name of it) and level of the role's files.
const (
	fileType = "container_file_t"
	level    = "s0"
)

// Labels are how the labels of files are read and written, by paths that are
// followed.
type Labels struct {
	enabled func() bool
	get     func(path string) (string, error)
	set     func(path, label string) error
}

// Host returns the labels of this host.
func Host() *Labels {
	return &Labels{enabled: selinux.GetEnabled, get: selinux.FileLabel, set: selinux.SetFileLabel}
}

// Files gives these files of a directory the type, and "." for the directory
// itself. Those that are not there, or are links, hard ones included, are left out,
// and so are those that have the type: their categories are somebody's choice. An
// agent can write the directory, so that each is opened first, and never named to
// the kernel.
func (l *Labels) Files(dir *beneath.Dir, names ...string) error {
	if !l.enabled() {
		return nil
	}
	for _, name := range names {
		f, err := dir.Handle(name)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ELOOP) {
			continue
		}
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil && (info.IsDir() || info.Sys().(*syscall.Stat_t).Nlink <= 1) {
			err = l.label(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		}
		_ = f.Close() // only names the file (O_PATH)
		if err != nil {
			return fmt.Errorf("giving %s the SELinux type %s: %w", f.Name(), fileType, err)
		}
	}
	return nil
}

func (l *Labels) label(path string) error {
	now, err := l.get(path)
	if errors.Is(err, unix.ENOTSUP) {
		return nil // the file system has no labels of its own
	}
	if err != nil {
		return err
	}
	context, err := selinux.NewContext(now)
	if err != nil || context["type"] == fileType {
		return err
	}
	context["type"] = fileType
	if context["level"] != "" {
		context["level"] = level
	}
	return l.set(path, context.Get())
}
