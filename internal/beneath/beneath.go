// SPDX-License-Identifier: Apache-2.0

// Package beneath reads and writes files of a directory that somebody else can
// write: nothing below it is followed, waited for or trusted. A symbolic link,
// a fifo, a device or a mount in the way is an error, never a detour, and so is
// a file that has another name as well, which may be anywhere (a hard link).
package beneath

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// resolve is how every path is resolved: within the directory, through no
// symbolic link and into no other file system (openat2(2)).
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// maxTries is how often a path is resolved anew because something was renamed
// meanwhile.
const maxTries = 100

// ErrUnfit is what is read and is no regular file, or too large a one, or has
// another name as well: to try again does not help.
var ErrUnfit = errors.New("unfit")

// Info is what there is to know of a file that was read.
type Info struct {
	Changed time.Time // when it was last written to
	Owner   uint32    // the uid
}

// A Dir is a directory whose content is not trusted. Paths given to its methods
// are relative to it and must not leave it.
type Dir struct {
	f *os.File
}

// Open opens a directory by a path that is trusted, links and all.
func Open(name string) (*Dir, error) {
	f, err := os.OpenFile(name, unix.O_DIRECTORY|unix.O_RDONLY, 0) // #nosec G304 -- trusted, see above
	if err != nil {
		return nil, err
	}
	return &Dir{f}, nil
}

// Close closes the directory.
func (d *Dir) Close() error { return d.f.Close() }

// Path returns the path by which the directory was opened.
func (d *Dir) Path() string { return d.f.Name() }

// Sub opens a directory below this one.
func (d *Dir) Sub(name string) (*Dir, error) {
	f, err := d.open(name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return &Dir{f}, nil
}

// MakeSub opens a directory directly below this one, and makes it with that
// mode, whatever the umask, when it is not there.
func (d *Dir) MakeSub(name string, mode os.FileMode) (*Dir, error) {
	sub, err := d.Sub(name)
	if !errors.Is(err, os.ErrNotExist) {
		return sub, err
	}
	if err := unix.Mkdirat(d.fd(), name, uint32(mode)); err != nil && err != unix.EEXIST {
		return nil, &os.PathError{Op: "mkdir", Path: d.join(name), Err: err}
	}
	sub, err = d.Sub(name)
	if err != nil {
		return nil, err
	}
	return sub, sub.f.Chmod(mode)
}

// ProcPath returns a path that leads to this very directory for as long as it
// is open, even when its name leads elsewhere by now. For libraries that take
// a path; the last part of what they open is theirs to guard.
func (d *Dir) ProcPath() string { return fmt.Sprintf("/proc/self/fd/%d", d.fd()) }

// Exists says whether there is anything of that name, a link included.
func (d *Dir) Exists(name string) (bool, error) {
	var st unix.Stat_t
	err := unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch err {
	case nil:
		return true, nil
	case unix.ENOENT:
		return false, nil
	}
	return false, &os.PathError{Op: "stat", Path: d.join(name), Err: err}
}

// Mode returns the permission bits of what has that name.
func (d *Dir) Mode(name string) (os.FileMode, error) {
	info, err := d.stat(name)
	if err != nil {
		return 0, err
	}
	return info.Mode().Perm(), nil
}

// Size returns the size of what has that name, in bytes.
func (d *Dir) Size(name string) (int64, error) {
	info, err := d.stat(name)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Handle returns what has that name without opening it in any way that has an
// effect (O_PATH). It is good for /proc/self/fd, which leads to this very file.
func (d *Dir) Handle(name string) (*os.File, error) {
	return d.open(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
}

func (d *Dir) stat(name string) (os.FileInfo, error) {
	f, err := d.Handle(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}

func (d *Dir) open(name string, flags int, mode os.FileMode) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC), // #nosec G115 -- constants of this package, none negative
		Mode:    uint64(mode),
		Resolve: resolve,
	}
	for try := 1; ; try++ {
		fd, err := unix.Openat2(d.fd(), name, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), d.join(name)), nil
		case err == unix.EINTR:
		case err == unix.EAGAIN && flags&unix.O_NONBLOCK == 0 && try < maxTries: // a rename elsewhere, see openat2(2)
		default:
			return nil, &os.PathError{Op: "open", Path: d.join(name), Err: leased(err)}
		}
	}
}

// leased says what an error means that a file is opened with which is not to be
// waited for. Whoever owns a file may have a lease on it, and hold up everybody
// else who opens it, by /proc/sys/fs/lease-break-time (fcntl(2), F_SETLEASE).
func leased(err error) error {
	if errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("a process has a lease on it (see /proc/locks): %w", err)
	}
	return err
}

// ReadFile reads a regular file of at most max bytes. It returns what there is
// to know of that very file as well.
func (d *Dir) ReadFile(name string, max int64) ([]byte, Info, error) {
	// O_PATH opens without side effects: no waiting for a fifo's other end, no
	// device that does something when it is opened.
	handle, err := d.open(name, unix.O_PATH, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV) {
		err = fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	if err != nil {
		return nil, Info{}, err
	}
	defer handle.Close()
	info, err := CheckFile(handle)
	if err != nil {
		return nil, Info{}, fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", handle.Fd()), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, Info{}, fmt.Errorf("open %s: %w", handle.Name(), leased(errors.Unwrap(err)))
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, Info{}, fmt.Errorf("read %s: %w", handle.Name(), err)
	}
	if int64(len(content)) > max {
		return nil, Info{}, fmt.Errorf("%w: %s is larger than %d bytes", ErrUnfit, handle.Name(), max)
	}
	return content, Info{info.ModTime(), info.Sys().(*syscall.Stat_t).Uid}, nil
}

// CheckFile returns what there is to know of a file that is open, which has to be
// a regular one without another name: to read or write one that has is to do so
// where the other name is.
func CheckFile(f *os.File) (os.FileInfo, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", f.Name())
	}
	if links := info.Sys().(*syscall.Stat_t).Nlink; links > 1 {
		return nil, fmt.Errorf("%s is a hard link, the file has %d names; remove this one: rm %[1]s", f.Name(), links)
	}
	return info, nil
}

// WriteFile puts a file with that content and mode in the place of whatever
// has that name, at once or not at all. Nobody sees half a file, and a program
// that runs from the old one goes on. A directory of that name is an error.
func (d *Dir) WriteFile(name string, content []byte, mode os.FileMode) error {
	dir, base, err := d.parent(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	temporary := fmt.Sprintf(".%s.%016x", base, rand.Uint64()) // #nosec G404 -- made with O_EXCL, so it is no secret
	f, err := dir.open(temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	err = write(f, content, mode)
	if err == nil {
		err = dir.rename(temporary, base)
	}
	if err != nil {
		return errors.Join(err, dir.Remove(temporary))
	}
	return nil
}

func write(f *os.File, content []byte, mode os.FileMode) error {
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	return f.Sync()
}

// Append adds to the end of a regular file, and makes it with that mode when
// it is not there. One that has another name as well is an error. After an error
// the file is what it was before, unless somebody else has written to it.
func (d *Dir) Append(name string, content []byte, mode os.FileMode) error {
	f, err := d.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_NONBLOCK, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	before, err := CheckFile(f)
	if err != nil {
		return err
	}
	n, err := f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err != nil && n > 0 {
		// Where the disk is full, a part may have been written, and all would be
		// written again. Cut it off, unless it is no longer the end.
		if info, statErr := f.Stat(); statErr == nil && info.Size() == before.Size()+int64(n) {
			err = errors.Join(err, f.Truncate(before.Size()))
		}
	}
	return err
}

// Rename renames within the directory, whatever it is that has the name.
func (d *Dir) Rename(from, to string) error { return d.rename(from, to) }

func (d *Dir) rename(from, to string) error {
	if err := unix.Renameat(d.fd(), from, d.fd(), to); err != nil {
		return &os.LinkError{Op: "rename", Old: d.join(from), New: d.join(to), Err: err}
	}
	return nil
}

// Remove removes a file, or the link if it is one.
func (d *Dir) Remove(name string) error {
	if err := unix.Unlinkat(d.fd(), name, 0); err != nil {
		return &os.PathError{Op: "remove", Path: d.join(name), Err: err}
	}
	return nil
}

// Names returns the names in the directory, at most max of them.
func (d *Dir) Names(max int) ([]string, error) {
	// A file of its own, so that each call begins at the beginning.
	f, err := d.open(".", unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(max)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}

// parent opens the directory that a path's last part is in.
func (d *Dir) parent(name string) (*Dir, string, error) {
	dir, base := path.Split(name)
	if dir == "" {
		dir = "."
	}
	parent, err := d.Sub(strings.TrimSuffix(dir, "/"))
	return parent, base, err
}

func (d *Dir) fd() int { return int(d.f.Fd()) }

func (d *Dir) join(name string) string { return path.Join(d.f.Name(), name) }
