// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// maxSize is the size of the largest definition; nobody writes a larger one on
// purpose.
const maxSize = 1 << 20

const devNull = "/dev/null"

// nullDevice is the device number of /dev/null, the same on every Linux.
const nullDevice = 1<<8 | 3

// readFile returns the text of a definition or drop-in, and whether the file is
// a mask instead. The name is as seen inside root.
func readFile(root, name string) (text string, mask bool, err error) {
	target, err := follow(root, name)
	if err != nil {
		return "", false, err
	}
	if target == devNull {
		return "", true, nil
	}
	file := filepath.Join(root, target)
	// Looked at before it is opened, since opening can have effects of its own
	// on a device, and without waiting, should it become a FIFO in between.
	info, err := os.Stat(file)
	if err != nil {
		if _, lerr := os.Readlink(filepath.Join(root, name)); lerr == nil && errors.Is(err, fs.ErrNotExist) {
			return "", false, errors.New("is a symbolic link to a file that does not exist; to mask a definition link it to /dev/null")
		}
		return "", false, cannotRead(err)
	}
	if mask, err := regular(info); mask || err != nil {
		return "", mask, err
	}
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0) // #nosec G304 -- a definition that root or the caller wrote
	if err != nil {
		return "", false, cannotRead(err)
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return "", false, cannotRead(err)
	}
	if mask, err := regular(info); mask || err != nil {
		return "", mask, err
	}
	// One byte more than allowed tells a file that is too large, also one that
	// grows while it is read.
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return "", false, cannotRead(err)
	}
	if len(data) > maxSize {
		return "", false, fmt.Errorf("is larger than %d bytes; a definition has to be smaller", maxSize)
	}
	if len(data) == 0 {
		return "", true, nil
	}
	// Some editors begin a file with a byte order mark; it is no part of the text.
	return strings.TrimPrefix(string(data), "\ufeff"), false, nil
}

// regular reports whether a file is a mask, and fails for what is no file.
func regular(info fs.FileInfo) (mask bool, err error) {
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return info.Size() == 0, nil
	case mode.IsDir():
		return false, errors.New("is a directory; a definition has to be a regular file")
	case mode&fs.ModeNamedPipe != 0:
		return false, errors.New("is a FIFO; a definition has to be a regular file")
	case mode&fs.ModeCharDevice != 0:
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Rdev == nullDevice {
			return true, nil
		}
	}
	return false, errors.New("is a socket or a device; a definition has to be a regular file")
}

// follow returns where a path leads to, as seen inside root, without a symbolic
// link in it.
//
// On a host the kernel does that. In another root it would follow an absolute
// link out of it and read the files of the wrong host.
func follow(root, name string) (string, error) {
	if root == "/" {
		return name, nil
	}
	resolved, links := "/", 0
	for rest := name; rest != ""; {
		var first string
		first, rest, _ = strings.Cut(rest, "/")
		next := path.Join(resolved, first) // ".." stays inside root, and is the parent, since resolved has no link in it
		if next == "/" {
			resolved = next // root itself may be a link
			continue
		}
		target, err := os.Readlink(filepath.Join(root, next))
		if err != nil {
			resolved = next // not a link; what else is wrong with it, who opens it says
			continue
		}
		if links++; links > 40 { // as many as the kernel follows
			return "", cannotRead(syscall.ELOOP)
		}
		if path.IsAbs(target) {
			resolved = "/"
		}
		rest = target + "/" + rest
	}
	return resolved, nil
}

// cannotRead takes the path out of an error, since a Problem has it already.
func cannotRead(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("cannot be read: %w", err)
}
