// SPDX-License-Identifier: Apache-2.0

package beneath_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
)

// A trap is a directory in which everything has been laid out that an agent
// could think of, and a secret beside it that nothing may lead to.
type trap struct {
	*beneath.Dir
	path    string
	outside string // a directory with secret in it
}

const secret = "the content of a file outside"

func newTrap(t *testing.T) trap {
	t.Helper()
	outside, path := t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(path, name) }
	err := errors.Join(
		os.WriteFile(filepath.Join(outside, "secret"), []byte(secret), 0o600),
		os.WriteFile(at("file"), []byte("content"), 0o640),
		os.MkdirAll(at("sub/deeper"), 0o755),
		os.WriteFile(at("sub/file"), []byte("below"), 0o644),
		os.Symlink(filepath.Join(outside, "secret"), at("link")),
		os.Symlink("file", at("link-within")),
		os.Symlink("gone", at("link-to-nothing")),
		os.Symlink(outside, at("link-to-directory")),
		os.Symlink("sub", at("link-to-sub")),
		os.Symlink("/proc/self/fd/0", at("magic-link")),
		unix.Mkfifo(at("fifo"), 0o666),
		os.WriteFile(at("huge"), nil, 0o644),
		os.Truncate(at("huge"), 1<<40),
	)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: at("socket")})
		unix.Close(fd)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, err := beneath.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return trap{dir, path, outside}
}

// unharmed checks that nothing outside has changed.
func (d trap) unharmed(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(d.outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("outside are %v, %v", entries, err)
	}
	content, err := os.ReadFile(filepath.Join(d.outside, "secret"))
	if err != nil || string(content) != secret {
		t.Errorf("the secret is %q, %v", content, err)
	}
}

// check compares an error with an errno, or a part of its text.
func check(t *testing.T, what string, err error, want any) {
	t.Helper()
	switch want := want.(type) {
	case nil:
		if err != nil {
			t.Errorf("%s: error %v", what, err)
		}
	case error:
		if !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", what, err, want)
		}
	case string:
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", what, err, want)
		}
	}
}

func TestReadFile(t *testing.T) {
	dir := newTrap(t)
	tests := []struct {
		name, content string
		err           any
	}{
		{"file", "content", nil},
		{"sub/file", "below", nil},
		{"./file", "content", nil},
		{"sub/../file", "content", nil}, // does not leave the directory
		{"gone", "", fs.ErrNotExist},
		{"", "", fs.ErrNotExist},
		{"file/x", "", unix.ENOTDIR},
		{"link", "", unix.ELOOP},
		{"link-within", "", unix.ELOOP},
		{"link-to-nothing", "", unix.ELOOP},
		{"link-to-directory/secret", "", unix.ELOOP},
		{"link-to-sub/file", "", unix.ELOOP},
		{"magic-link", "", unix.ELOOP},
		{"../" + filepath.Base(dir.outside) + "/secret", "", unix.EXDEV},
		{"sub/../../x", "", unix.EXDEV},
		{filepath.Join(dir.outside, "secret"), "", unix.EXDEV},
		{filepath.Join(dir.path, "file"), "", unix.EXDEV}, // absolute, even into the directory
		{"sub", "", "is not a regular file"},
		{".", "", "is not a regular file"},
		{"fifo", "", "is not a regular file"},
		{"socket", "", "is not a regular file"},
		{"huge", "", "is larger than 1000 bytes"},
	}
	for _, test := range tests {
		content, _, err := dir.ReadFile(test.name, 1000)
		check(t, "ReadFile of "+test.name, err, test.err)
		if string(content) != test.content {
			t.Errorf("ReadFile(%q) = %q, want %q", test.name, content, test.content)
		}
		if err != nil && strings.Trim(test.name, ".") != "" && !strings.Contains(err.Error(), filepath.Base(test.name)) {
			t.Errorf("error does not say of which file: %v", err)
		}
	}
}

func TestReadFileLimit(t *testing.T) {
	dir := newTrap(t)
	const size = int64(len("content"))
	changed := time.Unix(1700000000, 5000)
	if err := os.Chtimes(filepath.Join(dir.path, "file"), changed, changed); err != nil {
		t.Fatal(err)
	}
	content, at, err := dir.ReadFile("file", size)
	if err != nil || string(content) != "content" || !at.Changed.Equal(changed) {
		t.Errorf("%q, changed at %v, error %v", content, at, err)
	}
	_, _, err = dir.ReadFile("file", size-1)
	check(t, "ReadFile of a file that is larger", err, "is larger than 6 bytes")
}

// A device in the directory is not even opened: opening some has effects.
func TestReadFileDevice(t *testing.T) {
	dev, err := beneath.Open("/dev")
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	for _, name := range []string{"zero", "null"} {
		_, _, err := dev.ReadFile(name, 1000)
		check(t, "ReadFile of "+name, err, "is not a regular file")
		check(t, "Append to "+name, dev.Append(name, []byte("x"), 0o600), "is not a regular file")
	}
}

func TestWriteFile(t *testing.T) {
	tests := []struct {
		name string
		err  any
	}{
		{"new", nil},
		{"file", nil},
		{"sub/new", nil},
		{"link", nil}, // replaced, as are the next ones
		{"link-within", nil},
		{"link-to-nothing", nil},
		{"link-to-directory", nil},
		{"fifo", nil},
		{"socket", nil},
		{"sub", unix.EISDIR},
		{"gone/new", fs.ErrNotExist},
		{"file/new", unix.ENOTDIR},
		{"link-to-directory/new", unix.ELOOP},
		{"link-to-sub/new", unix.ELOOP},
		{"../new", unix.EXDEV},
		{"sub/../../new", unix.EXDEV},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, "/", "|"), func(t *testing.T) {
			dir := newTrap(t)
			before := names(t, dir.path)
			err := dir.WriteFile(test.name, []byte("written"), 0o751)
			check(t, "WriteFile", err, test.err)
			dir.unharmed(t)
			if content, err := os.ReadFile(filepath.Join(dir.path, "file")); test.name != "file" && (err != nil || string(content) != "content") {
				t.Errorf("another file has become %q, %v", content, err)
			}
			after := names(t, dir.path)
			if test.err != nil {
				if diff := cmp.Diff(before, after); diff != "" {
					t.Errorf("files left behind (-before +after):\n%s", diff)
				}
				return
			}
			file := filepath.Join(dir.path, test.name)
			info, err := os.Lstat(file)
			if err != nil || info.Mode() != 0o751 {
				t.Errorf("mode %v, error %v", info.Mode(), err)
			}
			if content, err := os.ReadFile(file); err != nil || string(content) != "written" {
				t.Errorf("content %q, error %v", content, err)
			}
			for _, name := range after {
				if !slices.Contains(before, name) && name != test.name {
					t.Errorf("%s is left behind", name)
				}
			}
		})
	}
}

// names returns the names of all that is below a directory.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		relative, _ := filepath.Rel(dir, name)
		all = append(all, relative)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A file system that is full, here one with a limit on the size of files: what
// was there stays, whole, and nothing else is left.
func TestWriteFileFull(t *testing.T) {
	dir := newTrap(t)
	before := names(t, dir.path)
	err := filesOf(t, 4, func() error { return dir.WriteFile("file", []byte("much more than that"), 0o644) })
	check(t, "WriteFile", err, unix.EFBIG)
	if content, err := os.ReadFile(filepath.Join(dir.path, "file")); err != nil || string(content) != "content" {
		t.Errorf("the file has become %q, %v", content, err)
	}
	if diff := cmp.Diff(before, names(t, dir.path)); diff != "" {
		t.Errorf("names (-before +after):\n%s", diff)
	}
}

// filesOf does something while files may have so many bytes.
func filesOf(t *testing.T, bytes uint64, do func() error) error {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	err := do()
	if restore := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); restore != nil {
		t.Fatal(restore)
	}
	return err
}

// Nor is half of what is appended left.
func TestAppendFull(t *testing.T) {
	dir := newTrap(t)
	for _, name := range []string{"file", "new"} {
		before, _ := os.ReadFile(filepath.Join(dir.path, name))
		err := filesOf(t, uint64(len(before))+4, func() error { return dir.Append(name, []byte("much more than that"), 0o644) })
		check(t, "Append", err, unix.EFBIG)
		if content, err := os.ReadFile(filepath.Join(dir.path, name)); err != nil || string(content) != string(before) {
			t.Errorf("%s has become %q, %v", name, content, err)
		}
	}
}

// hardLink gives the secret another name, in the directory.
func (d trap) hardLink(t *testing.T, name string) {
	t.Helper()
	if err := os.Link(filepath.Join(d.outside, "secret"), filepath.Join(d.path, name)); err != nil {
		t.Skipf("no hard links between directories here: %v", err)
	}
}

// What a hard link shares with is not written to: the name gets another file.
func TestWriteFileHardLink(t *testing.T) {
	dir := newTrap(t)
	dir.hardLink(t, "hard")
	check(t, "WriteFile", dir.WriteFile("hard", []byte("written"), 0o644), nil)
	dir.unharmed(t)
}

// Neither is it read or appended to. Once the link is gone there is a file again.
func TestHardLink(t *testing.T) {
	dir := newTrap(t)
	dir.hardLink(t, "hard")
	content, _, err := dir.ReadFile("hard", 1000)
	check(t, "ReadFile", err, beneath.ErrUnfit)
	check(t, "ReadFile", err, "hard is a hard link, the file has 2 names; remove this one: rm "+filepath.Join(dir.path, "hard"))
	if len(content) > 0 {
		t.Errorf("ReadFile returns %q", content)
	}
	check(t, "Append", dir.Append("hard", []byte("+"), 0o600), "hard is a hard link, the file has 2 names")
	dir.unharmed(t)
	check(t, "Remove", dir.Remove("hard"), nil)
	check(t, "Append", dir.Append("hard", []byte("+"), 0o600), nil)
	dir.unharmed(t)
}

func TestAppend(t *testing.T) {
	dir := newTrap(t)
	tests := []struct {
		name, content string
		err           any
	}{
		{"new", "+", nil},
		{"new", "++", nil},
		{"file", "content+", nil},
		{"sub/file", "below+", nil},
		{"link", "", unix.ELOOP},
		{"link-within", "", unix.ELOOP},
		{"link-to-nothing", "", unix.ELOOP},
		{"link-to-directory/secret", "", unix.ELOOP},
		{"magic-link", "", unix.ELOOP},
		{"../new", "", unix.EXDEV},
		{"/tmp/new", "", unix.EXDEV},
		{"sub", "", unix.EISDIR},
		{"fifo", "", unix.ENXIO}, // nobody reads, and nobody is waited for
		{"socket", "", unix.ENXIO},
	}
	for _, test := range tests {
		check(t, "Append to "+test.name, dir.Append(test.name, []byte("+"), 0o600), test.err)
		if test.err == nil {
			if content, err := os.ReadFile(filepath.Join(dir.path, test.name)); err != nil || string(content) != test.content {
				t.Errorf("%s: content %q, want %q, error %v", test.name, content, test.content, err)
			}
		}
	}
	dir.unharmed(t)
	if mode, err := dir.Mode("new"); err != nil || mode != 0o600 {
		t.Errorf("mode %v, error %v", mode, err)
	}

	// Somebody reads from the fifo: it is no file all the same.
	reader, err := os.OpenFile(filepath.Join(dir.path, "fifo"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	check(t, "Append to a fifo with a reader", dir.Append("fifo", []byte("+"), 0o600), "is not a regular file")
}

func TestSub(t *testing.T) {
	dir := newTrap(t)
	tests := []struct {
		name string
		err  any
	}{
		{"sub", nil},
		{"sub/deeper", nil},
		{".", nil},
		{"gone", fs.ErrNotExist},
		{"file", unix.ENOTDIR},
		{"fifo", unix.ENOTDIR},
		{"link-to-directory", unix.ELOOP},
		{"link-to-sub", unix.ELOOP},
		{"link-to-sub/deeper", unix.ELOOP},
		{"..", unix.EXDEV},
		{dir.outside, unix.EXDEV},
	}
	for _, test := range tests {
		sub, err := dir.Sub(test.name)
		check(t, "Sub of "+test.name, err, test.err)
		if err == nil {
			if want := filepath.Join(dir.path, test.name); sub.Path() != want {
				t.Errorf("path %s, want %s", sub.Path(), want)
			}
			sub.Close()
		}
	}
}

func TestMakeSub(t *testing.T) {
	dir := newTrap(t)
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	tests := []struct {
		name string
		err  any
	}{
		{"new", nil},
		{"new", nil}, // there already
		{"file", unix.ENOTDIR},
		{"fifo", unix.ENOTDIR},
		{"link-to-directory", unix.ELOOP},
		{"link-to-sub", unix.ELOOP},
		{"link-to-nothing", unix.ELOOP},
		{"../new", unix.EXDEV},
	}
	for _, test := range tests {
		sub, err := dir.MakeSub(test.name, 0o755)
		check(t, "MakeSub of "+test.name, err, test.err)
		if err != nil {
			continue
		}
		sub.Close()
		if mode, err := dir.Mode(test.name); err != nil || mode != 0o755 {
			t.Errorf("mode %v, error %v", mode, err)
		}
	}
	dir.unharmed(t)
	if _, err := os.Lstat(filepath.Join(dir.path, "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link to nothing has led to something: %v", err)
	}

	// One that is there keeps the mode that somebody gave it.
	if err := os.Chmod(filepath.Join(dir.path, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	sub, err := dir.MakeSub("sub", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	sub.Close()
	if mode, err := dir.Mode("sub"); err != nil || mode != 0o700 {
		t.Errorf("mode %v, error %v", mode, err)
	}
}

func TestExistsAndMode(t *testing.T) {
	dir := newTrap(t)
	tests := []struct {
		name   string
		exists bool
		mode   fs.FileMode
		err    any // of Mode
	}{
		{"file", true, 0o640, nil},
		{"gone", false, 0, fs.ErrNotExist},
		{"link", true, 0o777, nil}, // its own
		{"link-to-nothing", true, 0o777, nil},
		{"link-to-sub/deeper", false, 0, unix.ELOOP},
		{"fifo", true, 0o666 &^ umask(), nil},
	}
	for _, test := range tests {
		// Exists takes a name in the directory, and no path.
		if exists, err := dir.Exists(test.name); !strings.Contains(test.name, "/") && (err != nil || exists != test.exists) {
			t.Errorf("%s exists: %v, error %v", test.name, exists, err)
		}
		mode, err := dir.Mode(test.name)
		check(t, "Mode of "+test.name, err, test.err)
		if mode != test.mode {
			t.Errorf("mode of %s is %v, want %v", test.name, mode, test.mode)
		}
	}
}

func umask() fs.FileMode {
	mask := unix.Umask(0)
	unix.Umask(mask)
	return fs.FileMode(mask)
}

func TestRenameAndRemove(t *testing.T) {
	dir := newTrap(t)
	check(t, "Rename", dir.Rename("link", "renamed"), nil)
	if target, err := os.Readlink(filepath.Join(dir.path, "renamed")); err != nil || target != filepath.Join(dir.outside, "secret") {
		t.Errorf("the link has become %q, %v", target, err)
	}
	check(t, "Remove of a link", dir.Remove("renamed"), nil)
	check(t, "Remove of a directory", dir.Remove("sub"), unix.EISDIR)
	check(t, "Remove of nothing", dir.Remove("gone"), fs.ErrNotExist)
	check(t, "Rename of nothing", dir.Rename("gone", "file"), fs.ErrNotExist)
	dir.unharmed(t)
}

func TestNames(t *testing.T) {
	path := t.TempDir()
	dir, err := beneath.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if got, err := dir.Names(10); err != nil || len(got) > 0 {
		t.Errorf("names in an empty directory: %q, %v", got, err)
	}
	want := []string{"a", "b", "c"}
	for _, name := range want {
		check(t, "WriteFile", dir.WriteFile(name, nil, 0o644), nil)
	}
	// Each call begins at the beginning.
	for range 2 {
		got, err := dir.Names(10)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	if got, err := dir.Names(2); err != nil || len(got) != 2 {
		t.Errorf("at most two names: %q, %v", got, err)
	}
}

// The path given to libraries leads to the directory that was opened, whatever
// has its name by now.
func TestProcPath(t *testing.T) {
	dir := newTrap(t)
	moved := dir.path + "-moved"
	if err := errors.Join(os.Rename(dir.path, moved), os.Symlink(dir.outside, dir.path)); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir.ProcPath(), "file"))
	if err != nil || string(content) != "content" {
		t.Errorf("content %q, error %v", content, err)
	}
	check(t, "WriteFile", dir.WriteFile("new", []byte("new"), 0o644), nil)
	if _, err := os.Stat(filepath.Join(moved, "new")); err != nil {
		t.Error(err)
	}
	dir.unharmed(t)
}

func TestOpenErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	_, err := beneath.Open(file)
	check(t, "Open of nothing", err, fs.ErrNotExist)
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = beneath.Open(file)
	check(t, "Open of a file", err, unix.ENOTDIR)
}

func TestSize(t *testing.T) {
	name := t.TempDir()
	if err := os.WriteFile(filepath.Join(name, "file"), []byte("four"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir, err := beneath.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if size, err := dir.Size("file"); err != nil || size != 4 {
		t.Errorf("size %d, error %v", size, err)
	}
	if _, err := dir.Size("missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a missing file: error %v", err)
	}
}

// A lease of another process on a file has whoever opens it wait, by default for 45 s.
func TestLease(t *testing.T) {
	const holder = "BENEATH_TEST_HOLDS"
	if name := os.Getenv(holder); name != "" { // this is the other process
		signal.Ignore(unix.SIGIO)
		f, err := os.Open(name)
		if err == nil {
			_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
		}
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("held\n")
		os.Stdin.Read(make([]byte, 1)) // until the test is over
		return
	}
	path := t.TempDir()
	name := filepath.Join(path, "file")
	if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := exec.Command(os.Args[0], "-test.run=^TestLease$")
	other.Env = append(os.Environ(), holder+"="+name)
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		_ = other.Wait() // it has nothing to tell
	}()
	if line := make([]byte, 5); true {
		if _, err := out.Read(line); err != nil || string(line) != "held\n" {
			t.Fatalf("the other process says %q, error %v", line, err)
		}
	}
	dir, err := beneath.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	began := time.Now()
	_, _, err = dir.ReadFile("file", 100)
	check(t, "reading it", err, unix.EAGAIN)
	if err == nil || !strings.Contains(err.Error(), "lease") || !strings.Contains(err.Error(), name) {
		t.Errorf("the error does not say what it is, and of which file: %v", err)
	}
	check(t, "adding to it", dir.Append("file", []byte("x"), 0o600), unix.EAGAIN)
	check(t, "putting another in its place", dir.WriteFile("file", []byte("other"), 0o600), nil)
	if content, _, err := dir.ReadFile("file", 100); err != nil || string(content) != "other" {
		t.Errorf("the other one: %q, error %v", content, err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}
