// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/mantest"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/scripttest"
	"golang.org/x/sys/unix"
)

const program = "tripleo-wrappers-generator"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){program: main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": scripttest.Status},
	})
}

const (
	good   = "service_dir = \"/var/lib/neutron\"\ncontainer_cli = \"systemd\"\ncmd = [\"dnsmasq\", \"-k\"]\n"
	broken = "service_dir = \"/var/lib/neutron\"\n"
)

// host returns a directory with definitions in it.
func host(t *testing.T, definitions map[string]string) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "etc/tripleo-wrappers")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range definitions {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// On a terminal, complaints go there: whoever calls it by hand sees them.
// Otherwise they go to the kernel's log, which a test leaves alone.
func TestComplaintsOnTerminal(t *testing.T) {
	tests := []struct {
		name        string
		definitions map[string]string
		inTheWay    string // a directory of this name
		units       []string
		complaint   string
		status      int
	}{
		{
			name:        "nothing to complain of",
			definitions: map[string]string{"good.toml": good},
			units:       []string{"good.path", "good.service", "good.socket", "good@.service"},
		},
		{
			name:        "a broken definition beside a good one",
			definitions: map[string]string{"broken.toml": broken, "good.toml": good},
			units:       []string{"broken.service", "broken.timer", "good.path", "good.service", "good.socket", "good@.service"},
			complaint:   "tripleo-wrappers-generator: ROOT/etc/tripleo-wrappers/broken.toml:1:1: cmd: is missing",
			status:      1,
		},
		{
			name:        "a unit that cannot be written",
			definitions: map[string]string{"good.toml": good},
			inTheWay:    "good.socket",
			units:       []string{"good.path", "good.service", "good@.service"},
			complaint:   "tripleo-wrappers-generator: writing unit good.socket: ",
			status:      1,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root, dir := host(t, test.definitions), t.TempDir()
			if test.inTheWay != "" {
				if err := os.MkdirAll(filepath.Join(dir, test.inTheWay, "sub"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			screen, terminal := openTerminal(t)
			command := exec.Command(program, "--root="+root, dir, t.TempDir(), t.TempDir())
			command.Stderr = terminal
			err := command.Run()
			terminal.Close()
			if got := command.ProcessState.ExitCode(); got != test.status {
				t.Errorf("exit status %d, want %d (%v)", got, test.status, err)
			}
			seen := make([]byte, 64<<10)
			n, _ := screen.Read(seen) // EIO: nothing was written
			got := strings.ReplaceAll(string(seen[:n]), root, "ROOT")
			if test.complaint == "" && got != "" || !strings.Contains(got, test.complaint) {
				t.Errorf("on the terminal is %q, want %q", got, test.complaint)
			}
			var units []string
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range entries {
				if entry.Type().IsRegular() {
					units = append(units, entry.Name())
				}
			}
			if diff := cmp.Diff(test.units, units); diff != "" {
				t.Errorf("units (-want +got):\n%s", diff)
			}
		})
	}
}

// openTerminal returns the two ends of a pseudo terminal (pts(4)).
func openTerminal(t *testing.T) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return screen, terminal
}

// The kernel's log refuses more than 1024 bytes at once, what it adds included.
func TestRecord(t *testing.T) {
	const most = 976
	if got := record("text\n"); got != "<3>text\n" {
		t.Errorf("got %q", got)
	}
	for n := range 4 {
		got := record(strings.Repeat("x", n) + strings.Repeat("ä", 2000) + "\n")
		if len(got) > most || len(got) < most-4 || !utf8.ValidString(got) || !strings.HasPrefix(got, "<3>") || !strings.HasSuffix(got, "ä…\n") {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	}
}

// systemd may run generators while generators run. What they write is whole at
// all times.
func TestTwoAtOnce(t *testing.T) {
	// A unit so large that writing it in place could be seen.
	var mounts strings.Builder
	for i := range 340 {
		fmt.Fprintf(&mounts, "  \"/srv/a-source-number-%d:/srv/a-destination-number-%d\",\n", i, i)
	}
	root := host(t, map[string]string{"large.toml": good + "bind_mounts = [\n" + mounts.String() + "]\n"})
	dir := t.TempDir()
	run := func() *exec.Cmd {
		command := exec.Command(program, "--root="+root, dir, t.TempDir(), t.TempDir())
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		return command
	}
	if err := run().Wait(); err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(dir, "large@.service")
	want, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	files := count(t, dir)

	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if got, err := os.ReadFile(unit); err != nil || !bytes.Equal(got, want) {
				t.Errorf("a reader got %d of %d bytes, error %v", len(got), len(want), err)
				return
			}
		}
	}()
	for range 10 {
		one, other := run(), run()
		if err := errors.Join(one.Wait(), other.Wait()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	<-stopped
	if got := count(t, dir); got != files {
		t.Errorf("%d files are left, want %d", got, files)
	}
}

func count(t *testing.T, dir string) (files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if !entry.IsDir() {
			files++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestManualPage(t *testing.T) {
	mantest.Commands(t, program+".8", mantest.Command{
		Options: append(mantest.Flags(new(options).flags()), "--help", "-h"),
	})
}
