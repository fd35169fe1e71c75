// SPDX-License-Identifier: Apache-2.0

package client

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestReadPID(t *testing.T) {
	dir := t.TempDir()
	written := time.Now().Add(-time.Minute).Truncate(time.Second)
	for name, content := range map[string]string{
		"pid":   "4711\n",
		"text":  "dnsmasq\n",
		"zeros": strings.Repeat("0", 1<<20) + "1",
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, written, written); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	pid, changed, err := readPID(filepath.Join(dir, "pid"))
	if err != nil || pid != 4711 || !changed.Equal(written) {
		t.Errorf("readPID gives %d, %v and error %v", pid, changed, err)
	}
	for _, name := range []string{"missing", "text", "zeros", "fifo", "."} {
		if pid, _, err := readPID(filepath.Join(dir, name)); err == nil {
			t.Errorf("readPID of %q gives %d, want an error", name, pid)
		}
	}
}
