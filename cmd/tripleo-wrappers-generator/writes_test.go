// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The system calls by which a file system is changed or somebody else is told to, and
// those that may; but for write(2), for which a file has been opened.
const changing = "open,openat,openat2,creat,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,rmdir,link,linkat," +
	"symlink,symlinkat,mknod,mknodat,chmod,fchmod,fchmodat,chown,lchown,fchown,fchownat,truncate,ftruncate,utimensat," +
	"setxattr,lsetxattr,fsetxattr,removexattr,lremovexattr,fremovexattr,mount,move_mount,bind,connect,sendto,sendmsg"

// What strace(1) prints of a call with -y: which call, and the paths in it, those
// of descriptors in pointed brackets.
var (
	tracedCall = regexp.MustCompile(`^\d+ +(\w+)\((.*)$`)
	tracedPath = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
	tracedDir  = regexp.MustCompile(`(?:AT_FDCWD|\d+)<([^>]*)>`)
)

// The generator runs as root at boot and changes nothing but its first
// directory: strace sees each call that would.
func TestWritesOnlyToItsDirectory(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("strace is not here to see what is written")
	}
	work := t.TempDir()
	program, trace, root := filepath.Join(work, "generator"), filepath.Join(work, "trace"), filepath.Join(work, "root")
	if output, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	definitions := filepath.Join(root, "etc/tripleo-wrappers")
	dirs := []string{filepath.Join(work, "normal"), filepath.Join(work, "early"), filepath.Join(work, "late")}
	for _, dir := range append(dirs, definitions) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"good":   "service_dir = \"/var/lib/neutron\"\ncontainer_cli = \"systemd\"\ncmd = \"/bin/true\"\n",
		"broken": "service_dir = \"../../../etc\"\nservice_name = \"../../x\"\n",
	} {
		if err := os.WriteFile(filepath.Join(definitions, name+".toml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	command := append([]string{"-f", "-y", "-s", "4096", "-o", trace, "-e", "trace=" + changing, program, "--root=" + root}, dirs...)
	// The broken definition is an error.
	if output, err := exec.Command("strace", command...).CombinedOutput(); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Fatalf("%v\n%s", err, output)
	}
	content, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	within := 0
	for line := range strings.Lines(string(content)) {
		call := tracedCall.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if call == nil || strings.HasPrefix(call[1], "open") && !strings.Contains(line, "O_WRONLY") && !strings.Contains(line, "O_RDWR") && !strings.Contains(line, "O_CREAT") {
			continue
		}
		if strings.Contains(line, `"/dev/kmsg"`) {
			continue // where it says what is wrong
		}
		outside := true
		paths := tracedPath.FindAllStringSubmatch(call[2], -1)
		if strings.HasPrefix(call[1], "symlink") && len(paths) > 0 {
			paths = paths[1:] // what the link says
		}
		for _, path := range paths {
			full := path[1]
			if dir := tracedDir.FindStringSubmatch(call[2]); !filepath.IsAbs(full) && dir != nil {
				full = filepath.Join(dir[1], full)
			}
			outside = !strings.HasPrefix(filepath.Clean(full)+"/", dirs[0]+"/")
			if outside {
				break
			}
		}
		if outside {
			t.Errorf("outside of %s: %s", dirs[0], line)
		} else {
			within++
		}
	}
	if within < 10 {
		t.Errorf("%d calls within %s, so strace has not seen all:\n%s", within, dirs[0], content)
	}
}
