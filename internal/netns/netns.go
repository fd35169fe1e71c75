// SPDX-License-Identifier: Apache-2.0

// Package netns finds the name of a network namespace: its entry in
// /run/netns, where ip-netns(8) and Neutron keep them.
package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrNoName is returned for a network namespace without an entry in /run/netns.
var ErrNoName = errors.New("network namespace has no name in /run/netns")

// Own is the network namespace of a process itself, by its first thread.
const Own = "/proc/self/ns/net"

// An ID tells a network namespace from all others that exist now: the device
// and the inode of its file in nsfs (namespaces(7)).
type ID struct {
	Dev, Ino uint64
}

// String returns the ID as a line of text.
func (id ID) String() string { return fmt.Sprintf("%d:%d\n", id.Dev, id.Ino) }

// OfPath returns the namespace that a file stands for, such as Own, links and
// all. A file of another file system than nsfs gives an error.
func OfPath(path string) (ID, error) { return ofPath(path, 0) }

// OfEntry returns the namespace that an entry of /run/netns stands for. Agents
// can write there, so a symbolic link is no namespace: it would lead to one that
// whoever made it could not enter, such as /proc/1/ns/net.
func OfEntry(path string) (ID, error) { return ofPath(path, unix.O_NOFOLLOW) }

func ofPath(path string, flags int) (ID, error) {
	// O_PATH opens whatever it is without side effects.
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return ID{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	id, err := OfFile(fd)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return id, err
}

// OfFile returns the namespace that an open file stands for.
func OfFile(fd int) (ID, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return ID{}, err
	}
	if fs.Type != unix.NSFS_MAGIC {
		return ID{}, errors.New("is not a namespace")
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return ID{}, err
	}
	return ID{st.Dev, st.Ino}, nil
}

// OfPeer returns the network namespace that the client of an accepted Unix
// stream socket made its socket in. The kernel makes the accepted socket in
// the client's namespace (unix_stream_connect in net/unix/af_unix.c), and
// SIOCGSKNS gives that of a socket. Unlike /proc/PID/ns/net of the peer's pid
// this cannot be fooled by a pid that is recycled. Needs CAP_NET_ADMIN.
func OfPeer(socket int) (ID, error) {
	fd, err := unix.IoctlRetInt(socket, unix.SIOCGSKNS)
	if err != nil {
		return ID{}, fmt.Errorf("asking for the socket's network namespace: %w", err)
	}
	defer unix.Close(fd)
	id, err := OfFile(fd)
	if err != nil {
		return ID{}, fmt.Errorf("asking for the socket's network namespace: %w", err)
	}
	return id, nil
}

// Names finds names in a directory of network namespaces. It remembers what it
// found, since each call would otherwise look at every namespace of the host;
// what it remembers is checked before it is believed.
type Names struct {
	dir string

	mu    sync.Mutex
	known map[ID]string
}

// NewNames returns the names in dir, /run/netns on a host.
func NewNames(dir string) *Names { return &Names{dir: dir, known: map[ID]string{}} }

// Find returns a namespace's name, or ErrNoName.
func (n *Names) Find(id ID) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name, ok := n.known[id]; ok {
		if found, err := n.Lookup(name); err == nil && found == id {
			return name, nil
		}
	}
	entries, err := os.ReadDir(n.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	clear(n.known)
	for _, entry := range entries {
		// An entry that is no namespace, or goes at this moment, names nothing.
		if found, err := n.Lookup(entry.Name()); err == nil {
			n.known[found] = entry.Name()
		}
	}
	if name, ok := n.known[id]; ok {
		return name, nil
	}
	return "", ErrNoName
}

// Lookup returns the namespace of that name. The error of one that is not
// there satisfies errors.Is(err, os.ErrNotExist).
func (n *Names) Lookup(name string) (ID, error) {
	return OfEntry(filepath.Join(n.dir, name))
}
