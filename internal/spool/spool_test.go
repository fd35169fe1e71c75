// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/spool"
)

// The test's own binary is other processes, too: each of these variables has
// it do one thing and end.
const (
	appendMany    = "TEST_SPOOL_APPEND" // appends that many requests
	appendLimited = "TEST_SPOOL_LIMIT"  // appends one, with files limited to that size
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(appendMany) != "":
		exit(helpAppend(os.Args[1], os.Args[2], os.Getenv(appendMany)))
	case os.Getenv(appendLimited) != "":
		exit(helpLimited(os.Args[1], os.Getenv(appendLimited)))
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprint(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// helper returns this binary as another process.
func helper(variable, value string, args ...string) *exec.Cmd {
	command := exec.Command("/proc/self/exe", args...)
	command.Env = append(os.Environ(), variable+"="+value)
	return command
}

func request(id string) *spool.Request {
	return &spool.Request{
		Time:  1700000000000000,
		Netns: "qdhcp-1",
		Start: protocol.NewStart(id, []string{"--pid-file=/x", "two\nlines", ""}, map[string]string{"PROCESS_TAG": "t"}),
	}
}

func TestParse(t *testing.T) {
	const stamp = 1600000000000000
	type parsed struct {
		Time      int64
		Netns     string
		Arguments []string
	}
	tests := []struct {
		name, content string
		want          []parsed
		bad           []string // number and text
	}{
		{name: "empty"},
		{
			name:    "a client's line",
			content: `{"time":1700000000000000,"netns":"qdhcp-1","id":"1","arguments":["-k","two words"]}` + "\n",
			want:    []parsed{{1700000000000000, "qdhcp-1", []string{"-k", "two words"}}},
		},
		{
			name:    "one with bytes",
			content: `{"time":1700000000000000,"netns":"qdhcp-1","arguments_base64":["/w=="]}` + "\n",
			want:    []parsed{{1700000000000000, "qdhcp-1", []string{"\xff"}}},
		},
		{
			name:    "a line of the role's wrapper",
			content: "qdhcp-2 --no-hosts  --pid-file=/x\n",
			want:    []parsed{{stamp, "qdhcp-2", []string{"--no-hosts", "--pid-file=/x"}}},
		},
		{
			name:    "a namespace alone",
			content: "qdhcp-2\n",
			want:    []parsed{{stamp, "qdhcp-2", nil}},
		},
		{
			name:    "both kinds, blank lines, and no newline at the end",
			content: "\nqdhcp-2 -k\n  \r\n{\"time\":1,\"netns\":\"qdhcp-1\"}",
			want:    []parsed{{stamp, "qdhcp-2", []string{"-k"}}, {1, "qdhcp-1", nil}},
		},
		{
			name:    "a line of the role's wrapper that is cut short",
			content: "qdhcp-2 -k\nqdhcp-3 --dhcp-range=set:sub",
			want:    []parsed{{stamp, "qdhcp-2", []string{"-k"}}},
			bad:     []string{"2 qdhcp-3 --dhcp-range=set:sub"},
		},
		{
			name:    "a bad line takes no other with it",
			content: "qdhcp-1 -k\n{\"netns\":\n{\"netns\":1}\nqdhcp-2\x00 -k\nqdhcp-3 a\x00b\nqdhcp-4 -k\n",
			want:    []parsed{{stamp, "qdhcp-1", []string{"-k"}}, {stamp, "qdhcp-2\x00", []string{"-k"}}, {stamp, "qdhcp-4", []string{"-k"}}},
			bad:     []string{`2 {"netns":`, `3 {"netns":1}`, "5 qdhcp-3 a\x00b"},
		},
		{
			name:    "both forms of arguments",
			content: `{"netns":"n","arguments":["a"],"arguments_base64":["YQ=="]}`,
			bad:     []string{`1 {"netns":"n","arguments":["a"],"arguments_base64":["YQ=="]}`},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			requests, bad := spool.Parse([]byte(test.content), stamp)
			var got []parsed
			for _, r := range requests {
				arguments, err := r.ArgumentList()
				if err != nil {
					t.Error(err)
				}
				if len(arguments) == 0 {
					arguments = nil
				}
				got = append(got, parsed{r.Time, r.Netns, arguments})
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			var gotBad []string
			for _, b := range bad {
				if b.Err == nil {
					t.Errorf("line %d is bad without a reason", b.Number)
				}
				gotBad = append(gotBad, fmt.Sprintf("%d %s", b.Number, b.Text))
			}
			if diff := cmp.Diff(test.bad, gotBad); diff != "" {
				t.Errorf("bad lines (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("qdhcp-1 -k\n{\"netns\":\"n\"}\n\n{\n"))
	f.Add([]byte("{\"time\":1,\"netns\":\"n\",\"arguments_base64\":[\"/w==\"]}"))
	f.Add([]byte("\xff\xfe \x00\n\r\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		requests, bad := spool.Parse(content, 42)
		lines := 0
		for line := range bytes.Lines(content) {
			if strings.TrimSpace(string(line)) != "" {
				lines++
			}
		}
		// Of lines that are no requests the first hundred are kept.
		if found := len(requests) + len(bad); found > lines || found < lines && len(bad) != 100 {
			t.Fatalf("%d requests and %d bad lines of %d", len(requests), len(bad), lines)
		}
		for _, r := range requests {
			line, err := r.Line()
			if err != nil {
				t.Fatalf("%+v cannot be put back: %v", r, err)
			}
			if bytes.Count(line, []byte{'\n'}) != 1 {
				t.Fatalf("%+v is put back as more than a line: %q", r, line)
			}
		}
	})
}

// What comes out of the spool goes back in when it cannot be served yet.
func FuzzLine(f *testing.F) {
	f.Add("qdhcp-1", "-k", "\xff", "t", int64(1))
	f.Add("", "two\nlines", "", "\u2028", int64(-1))
	f.Fuzz(func(t *testing.T, netns, a, b, value string, at int64) {
		netns = strings.ToValidUTF8(netns, "")
		want := []string{a, b}
		r := spool.Request{Time: at, Netns: netns, Start: protocol.NewStart("id", want, map[string]string{"NAME": value})}
		line, err := r.Line()
		if err != nil {
			t.Fatal(err)
		}
		requests, bad := spool.Parse(line, 42)
		if strings.Contains(a+b, "\x00") {
			if len(bad) != 1 {
				t.Errorf("an argument holds a NUL byte: %d bad lines", len(bad))
			}
			return
		}
		if len(requests) != 1 || len(bad) > 0 {
			t.Fatalf("%d requests, %d bad lines", len(requests), len(bad))
		}
		got := requests[0]
		arguments, err := got.ArgumentList()
		if err != nil || !cmp.Equal(arguments, want) || got.Time != at || got.Netns != netns {
			t.Errorf("%+v comes back as %+v, error %v", r, got, err)
		}
	})
}

func TestAppend(t *testing.T) {
	dir := t.TempDir()
	for _, id := range []string{"1", "2"} {
		if err := spool.Append(t.Context(), dir, request(id)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"1", "2"}, ids(t, filepath.Join(dir, layout.Spool))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, mode := range map[string]fs.FileMode{layout.Spool: 0o600, layout.SpoolLock: 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != mode {
			t.Errorf("mode of %s is %v, want %v, error %v", name, info.Mode(), mode, err)
		}
	}
	stamp, err := os.ReadFile(filepath.Join(dir, layout.SpoolTimestamp))
	if _, parseErr := time.Parse(time.RFC3339Nano, strings.TrimSpace(string(stamp))); err != nil || parseErr != nil {
		t.Errorf("time stamp %q, %v, %v", stamp, err, parseErr)
	}
}

// ids returns the ids of the requests in a spool, in which all lines are good.
func ids(t *testing.T, file string) (all []string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	requests, bad := spool.Parse(content, 0)
	for _, b := range bad {
		t.Errorf("line %d of %s: %v: %q", b.Number, file, b.Err, b.Text)
	}
	for _, r := range requests {
		all = append(all, r.ID)
	}
	return all
}

// Somebody was interrupted within a line. The next request is whole.
func TestAppendAfterATornLine(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, layout.Spool)
	const torn = `{"time":1,"netns":"qdh`
	if err := os.WriteFile(file, []byte("qdhcp-1 -k\n"+torn), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := spool.Append(t.Context(), dir, request("2")); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	requests, bad := spool.Parse(content, 0)
	if len(requests) != 2 || requests[1].ID != "2" || len(bad) != 1 || bad[0].Text != torn {
		t.Errorf("requests %+v, bad lines %+v", requests, bad)
	}
}

func helpLimited(dir, limit string) error {
	size, err := strconv.ParseUint(limit, 10, 64)
	if err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: size}); err != nil {
		return err
	}
	return spool.Append(context.Background(), dir, request("2"))
}

// The file system is full. A limit on the size of files has the same effect on
// a program, down to half a line being written.
func TestAppendToAFullFileSystem(t *testing.T) {
	line, err := request("1").Line()
	if err != nil {
		t.Fatal(err)
	}
	for name, before := range map[string]string{
		"whole":                "qdhcp-1 -k\n" + string(line),
		"torn line at its end": "qdhcp-1 -k\nqdhcp-2",
	} {
		// No room at all, and room for a part of the line.
		for _, room := range []int{0, 1, 10, len(line) - 1} {
			t.Run(fmt.Sprintf("%s, %d bytes free", name, room), func(t *testing.T) {
				dir := t.TempDir()
				file := filepath.Join(dir, layout.Spool)
				if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
					t.Fatal(err)
				}
				output, err := helper(appendLimited, strconv.Itoa(len(before)+room), dir).CombinedOutput()
				if err == nil || !strings.Contains(string(output), unix.EFBIG.Error()) {
					t.Errorf("%v, output %q, want %v", err, output, unix.EFBIG)
				}
				after, err := os.ReadFile(file)
				if diff := cmp.Diff(before, string(after)); diff != "" || err != nil {
					t.Errorf("%v (-before +after):\n%s", err, diff)
				}
			})
		}
	}
}

func helpAppend(dir, name, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for i := range n {
		if err := spool.Append(context.Background(), dir, request(fmt.Sprintf("%s-%d", name, i))); err != nil {
			return err
		}
	}
	return nil
}

// Clients append, each a process of its own or not, while the activator takes
// the spool away again and again. No request is lost, and none is there twice.
func TestAppendWhileTaking(t *testing.T) {
	const writers, each = 3, 40
	dir := t.TempDir()
	state, err := beneath.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()

	var appending sync.WaitGroup
	for i := range writers {
		appending.Go(func() {
			if err := helpAppend(dir, fmt.Sprintf("goroutine-%d", i), strconv.Itoa(each)); err != nil {
				t.Error(err)
			}
		})
		appending.Go(func() {
			if output, err := helper(appendMany, strconv.Itoa(each), dir, fmt.Sprintf("process-%d", i)).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, output)
			}
		})
	}
	done := make(chan struct{})
	go func() { appending.Wait(); close(done) }()

	seen := map[string]int{}
	serve := func() {
		taken, err := spool.Take(t.Context(), state, nil)
		if err != nil {
			t.Error(err)
		}
		for _, name := range taken {
			for _, id := range ids(t, filepath.Join(dir, name)) {
				seen[id]++
			}
			if err := state.Remove(name); err != nil {
				t.Error(err)
			}
		}
	}
	for taking := true; taking; {
		select {
		case <-done:
			taking = false
		default:
		}
		serve()
	}
	want := map[string]int{}
	for i := range writers {
		for j := range each {
			want[fmt.Sprintf("goroutine-%d-%d", i, j)] = 1
			want[fmt.Sprintf("process-%d-%d", i, j)] = 1
		}
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("how often each request was taken (-want +got):\n%s", diff)
	}
}

func TestTake(t *testing.T) {
	dir := t.TempDir()
	state, err := beneath.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	take := func(want int) []string {
		t.Helper()
		taken, err := spool.Take(t.Context(), state, nil)
		if err != nil || len(taken) != want {
			t.Fatalf("taken: %q, want %d, error %v", taken, want, err)
		}
		for _, name := range taken {
			if !strings.HasPrefix(name, layout.SpoolTaken) {
				t.Errorf("name %s", name)
			}
		}
		return taken
	}

	// Nothing to take, and nothing is made for it: no lock either.
	take(0)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("files %v, error %v", entries, err)
	}

	if err := spool.Append(t.Context(), dir, request("1")); err != nil {
		t.Fatal(err)
	}
	first := take(1)
	if _, err := os.Stat(filepath.Join(dir, layout.Spool)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the spool is still there: %v", err)
	}

	// What an earlier activator took and did not finish is found again.
	if err := spool.Append(t.Context(), dir, request("2")); err != nil {
		t.Fatal(err)
	}
	second := take(2)
	if !cmp.Equal(ids(t, filepath.Join(dir, first[0])), []string{"1"}) {
		t.Error("the first spool taken has changed")
	}
	for _, name := range second {
		if err := state.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	take(0)
}

// An agent puts something else in the spool's place: it is taken away as it
// is, and its target is not touched.
func TestTakeALink(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "file")
	err := errors.Join(os.WriteFile(outside, []byte("x"), 0o600), os.Symlink(outside, filepath.Join(dir, layout.Spool)))
	if err != nil {
		t.Fatal(err)
	}
	state, err := beneath.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	taken, err := spool.Take(t.Context(), state, nil)
	if err != nil || len(taken) != 1 {
		t.Fatalf("taken: %q, error %v", taken, err)
	}
	if target, err := os.Readlink(filepath.Join(dir, taken[0])); err != nil || target != outside {
		t.Errorf("what was taken is a link to %q, error %v", target, err)
	}
	if content, err := os.ReadFile(outside); err != nil || string(content) != "x" {
		t.Errorf("the link's target is %q, error %v", content, err)
	}
}

// A name that is in use, though its file has been removed by somebody, is not given
// to another spool.
func TestTakeNameInUse(t *testing.T) {
	dir := t.TempDir()
	if err := spool.Append(t.Context(), dir, request("1")); err != nil {
		t.Fatal(err)
	}
	state, err := beneath.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	names := layout.SpoolsTaken()
	taken, err := spool.Take(t.Context(), state, map[string]bool{names[0]: true})
	if err != nil || len(taken) != 1 || taken[0] != names[1] {
		t.Errorf("taken: %q, error %v; want %q", taken, err, names[1])
	}
	inUse := map[string]bool{}
	for _, name := range names {
		inUse[name] = true
	}
	if err := spool.Append(t.Context(), dir, request("2")); err != nil {
		t.Fatal(err)
	}
	if taken, err := spool.Take(t.Context(), state, inUse); err != nil || len(taken) != 1 {
		t.Errorf("taken: %q, error %v; want the first one alone", taken, err)
	}
	if _, err := os.Stat(filepath.Join(dir, layout.Spool)); err != nil {
		t.Errorf("the second spool does not wait: %v", err)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	lock, err := spool.Lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	// Nobody waits longer than they said they would.
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := spool.Lock(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lock that is held: error %v", err)
	}
	if err := spool.Append(ctx, dir, request("1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Append: error %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, layout.Spool)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a request was written without the lock: %v", err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	lock, err = spool.Lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
}

// A link in the lock's place must not have root make a file somewhere, nor a
// fifo hold it up.
func TestLockTraps(t *testing.T) {
	target := filepath.Join(t.TempDir(), "made")
	tests := map[string]struct {
		trap func(file string) error
		want error // nil: the lock may be taken
	}{
		"link":      {func(file string) error { return os.Symlink(target, file) }, unix.ELOOP},
		"directory": {func(file string) error { return os.Mkdir(file, 0o755) }, unix.EISDIR},
		"fifo":      {func(file string) error { return unix.Mkfifo(file, 0o600) }, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := test.trap(filepath.Join(dir, layout.SpoolLock)); err != nil {
				t.Fatal(err)
			}
			lock, err := spool.Lock(t.Context(), dir)
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if err == nil {
				if err := lock.Unlock(); err != nil {
					t.Error(err)
				}
			}
			if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the link was followed: %v", err)
			}
		})
	}
}

func TestAppendErrors(t *testing.T) {
	if err := spool.Append(t.Context(), filepath.Join(t.TempDir(), "gone"), request("1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no state directory: error %v", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, layout.Spool), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := spool.Append(t.Context(), dir, request("1")); !errors.Is(err, unix.EISDIR) {
		t.Errorf("a directory in the spool's place: error %v", err)
	}
}

// A file with another name, which may be the host's, is not written to. As a lock
// it is as good as any.
func TestAppendToHardLinks(t *testing.T) {
	for _, test := range []struct {
		name, want string
	}{
		{layout.Spool, "is a hard link"},
		{layout.SpoolTimestamp, ""}, // the request is spooled all the same
		{layout.SpoolLock, ""},
	} {
		dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(outside, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(outside, filepath.Join(dir, test.name)); err != nil {
			t.Skipf("no hard links between directories here: %v", err)
		}
		err := spool.Append(t.Context(), dir, request("1"))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
		if content, err := os.ReadFile(outside); err != nil || string(content) != "x" {
			t.Errorf("%s: the file has become %q, error %v", test.name, content, err)
		}
		if content, err := os.ReadFile(filepath.Join(dir, layout.Spool)); test.want == "" && (err != nil || len(content) == 0) {
			t.Errorf("%s: the spool is %q, error %v", test.name, content, err)
		}
	}
}
