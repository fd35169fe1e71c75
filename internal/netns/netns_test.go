// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/netns"
)

const own = "/proc/self/ns/net"

// /proc/self is that of the process's first thread. It is kept for the main
// goroutine, so that no test takes it to another namespace.
func init() { runtime.LockOSThread() }

func TestOfPath(t *testing.T) {
	first, err := netns.OfPath(own)
	if err != nil || first.Ino == 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	if second, err := netns.OfPath(fmt.Sprintf("/proc/%d/ns/net", os.Getpid())); err != nil || second != first {
		t.Errorf("%+v, %v, want %+v", second, err, first)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := netns.OfPath(file); err == nil || !strings.Contains(err.Error(), "is not a namespace") {
		t.Errorf("a plain file: error %v", err)
	}
	if _, err := netns.OfPath(file + "-gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: error %v", err)
	}
}

// A link is no entry: whoever can make one need not be able to enter what it
// leads to.
func TestOfEntry(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(own, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if id, err := netns.OfEntry(filepath.Join(dir, "link")); err == nil || !strings.Contains(err.Error(), "is not a namespace") {
		t.Errorf("%+v, error %v", id, err)
	}
	self, err := netns.OfPath(filepath.Join(dir, "link"))
	if err != nil {
		t.Fatal(err)
	}
	if name, err := netns.NewNames(dir).Find(self); !errors.Is(err, netns.ErrNoName) {
		t.Errorf("found %q, error %v", name, err)
	}
}

func TestFindWithoutName(t *testing.T) {
	self, err := netns.OfPath(own)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// ip-netns(8) makes a file first and mounts the namespace on it after that.
	if err := os.WriteFile(filepath.Join(dir, "being-made"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"no entries": dir, "no directory": filepath.Join(dir, "gone")} {
		if found, err := netns.NewNames(dir).Find(self); !errors.Is(err, netns.ErrNoName) {
			t.Errorf("%s: found %q, error %v", name, found, err)
		}
	}
	if _, err := netns.NewNames(filepath.Join(dir, "being-made")).Find(self); err == nil || errors.Is(err, netns.ErrNoName) {
		t.Errorf("a file in the directory's place: error %v", err)
	}
}

// add makes a network namespace with a name, and remove takes it away.
func add(t *testing.T, name string) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("network namespaces are made by root only")
		}
		t.Skip("network namespaces are made by root only")
	}
	if output, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("ip netns add: %v: %s", err, output)
	}
	t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(layout.NetnsDir, name)); err == nil {
			remove(t, name)
		}
	})
}

func remove(t *testing.T, name string) {
	t.Helper()
	if output, err := exec.Command("ip", "netns", "delete", name).CombinedOutput(); err != nil {
		t.Errorf("ip netns delete: %v: %s", err, output)
	}
}

func unique(name string) string {
	return fmt.Sprintf("tw-test-%s-%d-%d", name, os.Getpid(), time.Now().UnixNano())
}

func TestFind(t *testing.T) {
	one, other := unique("one"), unique("other")
	add(t, one)
	add(t, other)
	names := netns.NewNames(layout.NetnsDir)
	id := map[string]netns.ID{}
	for _, name := range []string{one, other} {
		var err error
		if id[name], err = names.Lookup(name); err != nil {
			t.Fatal(err)
		}
		// The second time it is remembered.
		for range 2 {
			if got, err := names.Find(id[name]); err != nil || got != name {
				t.Errorf("found %q, want %q, error %v", got, name, err)
			}
		}
	}

	// This one looks at the old one's name again only when it is another's.
	late := netns.NewNames(layout.NetnsDir)
	if got, err := late.Find(id[one]); err != nil || got != one {
		t.Errorf("found %q, want %q, error %v", got, one, err)
	}

	// Made again under the same name, it is another namespace. The old one is
	// kept in existence, or the new one might get its inode.
	old, err := os.Open(filepath.Join(layout.NetnsDir, one))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	remove(t, one)
	if _, err := names.Lookup(one); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lookup of one that is gone: error %v", err)
	}
	if got, err := names.Find(id[one]); !errors.Is(err, netns.ErrNoName) {
		t.Errorf("Find of one that is gone: %q, error %v", got, err)
	}
	add(t, one)
	for _, names := range []*netns.Names{names, late} {
		if got, err := names.Find(id[one]); !errors.Is(err, netns.ErrNoName) {
			t.Errorf("Find of one whose name is another's: %q, error %v", got, err)
		}
	}
	again, err := names.Lookup(one)
	if err != nil || again == id[one] {
		t.Fatalf("%+v, %v", again, err)
	}
	if got, err := names.Find(again); err != nil || got != one {
		t.Errorf("found %q, want %q, error %v", got, one, err)
	}
	if got, err := names.Find(id[other]); err != nil || got != other {
		t.Errorf("found %q, want %q, error %v", got, other, err)
	}
}

// The kernel says where a client's socket was made: neither the server's
// namespace nor, later, what the client's pid has become.
func TestOfPeer(t *testing.T) {
	name := unique("peer")
	add(t, name)
	want, err := netns.NewNames(layout.NetnsDir).Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	self, err := netns.OfPath(own)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()

	connectFrom := func(namespace string) netns.ID {
		t.Helper()
		connected := make(chan error, 1)
		go func() {
			// The thread stays in the namespace, so it ends with this goroutine.
			runtime.LockOSThread()
			connected <- connect(namespace, socket)
		}()
		conn, err := listener.AcceptUnix()
		if err := errors.Join(err, <-connected); err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		file, err := conn.File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		id, err := netns.OfPeer(int(file.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if got := connectFrom(filepath.Join(layout.NetnsDir, name)); got != want {
		t.Errorf("the peer's namespace is %+v, want %+v", got, want)
	}
	if got := connectFrom(own); got != self {
		t.Errorf("the peer's namespace is %+v, want %+v", got, self)
	}
}

// connect makes a connection from a namespace and closes it: who asks about it
// later asks about a client that is gone.
func connect(namespace, socket string) error {
	file, err := os.Open(namespace)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
}

func TestOfPeerErrors(t *testing.T) {
	file, err := os.Open(own)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if id, err := netns.OfPeer(int(file.Fd())); err == nil {
		t.Errorf("a file that is no socket: %+v", id)
	}
}
