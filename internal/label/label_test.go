// SPDX-License-Identifier: Apache-2.0

package label

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
)

// attribute stands for security.selinux, which only a kernel with SELinux keeps.
const attribute = "trusted.tripleo-wrappers-test"

// fake keeps labels as the kernel does, by the very file that a path leads to.
func fake() *Labels {
	return &Labels{
		enabled: func() bool { return true },
		get: func(path string) (string, error) {
			buffer := make([]byte, 256)
			n, err := unix.Getxattr(path, attribute, buffer)
			if err == unix.ENODATA {
				return "system_u:object_r:var_lib_t:s0", nil
			}
			return string(buffer[:max(n, 0)]), err
		},
		set: func(path, label string) error { return unix.Setxattr(path, attribute, []byte(label), 0) },
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"wrapper", "other", "shared", "private"} {
		if err := os.WriteFile(in(name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, in("link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(outside, in("hard-link")); err != nil {
		t.Skipf("no hard links between directories here: %v", err)
	}
	if err := unix.Mkfifo(in("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	if err := unix.Bind(socket, &unix.SockaddrUnix{Name: in("activator.sock")}); err != nil {
		t.Fatal(err)
	}
	l := fake()
	if err := l.set(in("wrapper"), "unconfined_u:object_r:usr_t:s0"); err != nil {
		t.Skipf("no attributes here: %v", err)
	}
	for name, label := range map[string]string{
		"shared":  "system_u:object_r:container_file_t:s0:c1,c2",
		"private": "system_u:object_r:var_lib_t", // of a policy without levels
	} {
		if err := l.set(in(name), label); err != nil {
			t.Fatal(err)
		}
	}
	opened, err := beneath.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if err := l.Files(opened, ".", "wrapper", "shared", "private", "link", "hard-link", "fifo", "activator.sock", "missing"); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		dir:                  "system_u:object_r:container_file_t:s0",
		in("wrapper"):        "unconfined_u:object_r:container_file_t:s0",
		in("shared"):         "system_u:object_r:container_file_t:s0:c1,c2",
		in("private"):        "system_u:object_r:container_file_t",
		in("fifo"):           "system_u:object_r:container_file_t:s0",
		in("activator.sock"): "system_u:object_r:container_file_t:s0",
		in("other"):          "system_u:object_r:var_lib_t:s0",
		outside:              "system_u:object_r:var_lib_t:s0",
	}
	got := map[string]string{}
	for name := range want {
		if got[name], err = l.get(name); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFailures(t *testing.T) {
	dir := t.TempDir()
	opened, err := beneath.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	fails := func(err error) func(string) (string, error) { return func(string) (string, error) { return "", err } }
	l := &Labels{enabled: func() bool { return true }, get: fails(fmt.Errorf("getxattr: %w", unix.ENOTSUP))}
	if err := l.Files(opened, "."); err != nil {
		t.Errorf("a file system without labels: %v", err)
	}
	l.get = fails(unix.EPERM)
	if err := l.Files(opened, "."); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "container_file_t") {
		t.Errorf("error %v", err)
	}
	l.get = func(string) (string, error) { return "nonsense", nil }
	if err := l.Files(opened, "."); err == nil {
		t.Error("nonsense is a label")
	}
	// Where SELinux is not enabled nothing is even looked at.
	if err := (&Labels{enabled: func() bool { return false }}).Files(opened, "."); err != nil {
		t.Error(err)
	}
	if host := Host(); host.enabled() {
		t.Log("this host has SELinux")
	} else if err := host.Files(opened, ".", "missing"); err != nil {
		t.Error(err)
	}
}
