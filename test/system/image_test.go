// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// variant makes an image that is localhost/agent with changes, under a name
// that the test has for itself.
func variant(t *testing.T, name string, changes ...string) {
	t.Helper()
	container := must(t, "podman", "create", "localhost/agent", "true")
	commit := []string{"podman", "commit", "--quiet"}
	for _, change := range changes {
		commit = append(commit, "--change="+change)
	}
	must(t, append(commit, container, name)...)
	must(t, "podman", "rm", container)
	t.Cleanup(func() { run(t, "podman", "rmi", "--force", name) })
}

// say is the rest of a definition of a sidecar that does what it is told to, and
// writes to the file that comes first, before it is ready.
const say = `
cmd = ["/bin/sh", "-c", "eval \"$2\" >$1 2>&1; echo $$ >$1.pid; exec sleep 1000", "x"]
[ready]
pid_file_option = ["--pid-file"]
timeout = "20s"
`

// told has a sidecar run shell text, and returns what that prints.
func (s *service) told(n *netns, text string) string {
	s.t.Helper()
	file := filepath.Join(s.dir, "told")
	// The same call again would find it running.
	if r := s.call(n, file, text, "--pid-file="+file+".pid", time.Now().String()); r.status != 0 {
		s.t.Fatalf("exit status %d\n%s", r.status, r.stderr)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}

// imageService is a service whose sidecars systemd runs in an image.
func imageService(t *testing.T, image, text string) *service {
	t.Helper()
	const engine = "variant"
	engines[engine] = fmt.Sprintf("container_cli = \"systemd\"\nimage_name = %q", image)
	defer delete(engines, engine)
	s := define(t, engine, text)
	s.engine = "image"
	return s
}

// What a sidecar in an image sees is the image's, but for what a privileged
// container would have of the host.
func TestImage(t *testing.T) {
	variant(t, "localhost/variant", "ENV GREETING=a b", "ENV PATH=/odd:/bin:/usr/sbin", "WORKDIR /var/lib")
	mounted := t.TempDir()
	if err := os.WriteFile(mounted+"/file", []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	// The order in which binds are named does not matter.
	must(t, "mkdir", "-p", mounted+"/outer/inner")
	binds := fmt.Sprintf("config_bind_mount = \"%s:/etc/new/place:ro\"\nbind_mounts = [\"%[1]s:/srv/outer/inner\", \"%[1]s/outer:/srv/outer\"]\n", mounted)
	s := imageService(t, "localhost/variant", binds+say)
	n := s.netns()
	for text, want := range map[string]string{
		"echo $GREETING $PATH $PROCESS_TAG; pwd":                                                       "a b /odd:/bin:/usr/sbin dnsmasq-" + n.name + "\n/var/lib",
		"readlink /sbin; cat /etc/debian_version":                                                      "bin\ncat: can't open '/etc/debian_version': No such file or directory",
		"cat /etc/new/place/file; (echo >/etc/new/place/x) 2>/dev/null || echo , read-only":            "of the host, read-only",
		"cat /srv/outer/inner/file":                                                                    "of the host",
		"cd " + s.dir + " && mkdir below && mount -t tmpfs below below && grep -c ^below /proc/mounts": "1",
		"ls /sys/class/net":       "lo",
		"ls /run/netns/" + n.name: "/run/netns/" + n.name,
		"cat /proc/1/comm; test -S /dev/log && test -c /dev/net/tun; id -u": "systemd\n0",
	} {
		if got := s.told(n, text); got != want {
			t.Errorf("%s\n got %q\nwant %q", text, got, want)
		}
	}
	if mounts := must(t, "cat", "/proc/self/mounts"); strings.Contains(mounts, s.dir+"/below") {
		t.Error("what it mounts is mounted on the host as well")
	}
	if got, want := s.told(n, "cat /etc/resolv.conf"), must(t, "cat", "/etc/resolv.conf"); got != want {
		t.Errorf("/etc/resolv.conf is %q, want the host's, %q", got, want)
	}
	const may = "grep -E '^(CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status"
	container := define(t, "podman", say)
	if got, want := s.told(n, may), container.told(container.netns(), may); got != want || strings.Count(want, ":") != 6 {
		t.Errorf("it may do\n%s\nand a privileged container\n%s", got, want)
	}
}

// Without privileges it has the capabilities of a container that has none.
func TestImageUnprivileged(t *testing.T) {
	s := imageService(t, "localhost/agent", "privileged = false\n"+say)
	if got, want := s.told(s.netns(), "grep CapBnd /proc/self/status"), "CapBnd:\t00000000800405fb"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What a sidecar writes is its own, and goes with it.
func TestImageLayer(t *testing.T) {
	for _, image := range []string{"localhost/agent", "dir:"} {
		t.Run(image, func(t *testing.T) {
			if image == "dir:" {
				dir := t.TempDir() + "/a,b"
				must(t, "sh", "-c", "mkdir $0 && podman export $(podman create localhost/agent true) | tar -C $0 -x", dir)
				run(t, "podman", "rm", "--latest")
				image = "dir:" + dir
			}
			s := imageService(t, image, say)
			n, other := s.netns(), s.netns()
			if got := s.told(n, "echo mine >/etc/passwd; rm /bin/env; mkdir /new; cat /etc/passwd"); got != "mine" {
				t.Errorf("got %q", got)
			}
			const look = "ls -d /new; ls /bin/env; head -c 4 /etc/passwd"
			const untouched = "ls: /new: No such file or directory\n/bin/env\nroot"
			if got := s.told(other, look); got != untouched {
				t.Errorf("another sidecar sees %q", got)
			}
			if got := s.told(n, look); got != untouched {
				t.Errorf("the next one sees %q", got)
			}
			for _, n := range []*netns{n, other} {
				pid := s.mainPID(n)
				must(t, "kill", "-9", fmt.Sprint(pid))
				eventually(t, "the sidecar is gone", func() bool { return show(t, s.unit(n.name), "ActiveState") == "inactive" })
				s.gone(n, pid)
			}
		})
	}
}

// The next start is in the image that has the name by then. A sidecar that runs
// keeps the one that it has, whatever is done to clear up.
func TestImageUpdate(t *testing.T) {
	variant(t, "localhost/updated", "ENV VERSION=old")
	s := imageService(t, "localhost/updated", say)
	n, other := s.netns(), s.netns()
	if got := s.told(n, "echo $VERSION"); got != "old" {
		t.Errorf("got %q", got)
	}
	old := s.mainPID(n)
	// Written whenever Podman has been asked.
	asked := func() string {
		return must(t, "stat", "--format=%i %y", "/run/tripleo-wrappers/"+s.name+"/image.json")
	}
	before := asked()
	if got := s.told(other, "echo $VERSION"); got != "old" {
		t.Errorf("got %q", got)
	}
	if now := asked(); now != before {
		t.Error("Podman was asked again for an image that is known")
	}

	variant(t, "localhost/updated", "ENV VERSION=new")
	must(t, "podman", "image", "prune", "--force")
	must(t, "podman", "system", "prune", "--force")
	if got := s.told(other, "echo $VERSION"); got != "new" {
		t.Errorf("the next start is in the image %q", got)
	}
	if s.mainPID(n) != old || !alive(old) {
		t.Error("the sidecar that ran was replaced")
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/bin/busybox", old)); err != nil {
		t.Errorf("the image of a sidecar that runs is not there any more: %v", err)
	}

	// When nobody uses it, it can be cleared away after the next change.
	volumes := func() int {
		label := "org.openstack.tripleo.wrappers.service=" + s.name
		return len(strings.Fields(must(t, "podman", "volume", "ls", "--quiet", "--filter=label="+label)))
	}
	if held := volumes(); held != 2 {
		t.Errorf("%d images are held, want 2", held)
	}
	s.told(n, "echo $VERSION")
	variant(t, "localhost/updated", "ENV VERSION=newest")
	if got := s.told(n, "echo $VERSION"); got != "newest" {
		t.Errorf("the next start is in the image %q", got)
	}
	if held := volumes(); held != 2 { // n's and other's
		t.Errorf("%d images are held, want 2", held)
	}
}

// A sidecar with a file system of its own sees a network namespace that is made
// when it runs already, and is no peer of the host's mounts: with as many
// sidecars as namespaces, the kernel would go over all of them again and again.
func TestNetnsSlave(t *testing.T) {
	for _, engine := range []string{"podman", "image", "docker"} {
		t.Run(engine, func(t *testing.T) {
			s := define(t, engine, dnsmasq)
			pid := s.start(s.netns())
			late := "/run/netns/" + s.netns().name
			inside := fmt.Sprintf("/proc/%d/root%s", pid, late)
			if got, want := inode(t, inside), inode(t, late); got != want {
				t.Errorf("%s is %s for the sidecar, want %s", late, got, want)
			}
			mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
			if err != nil {
				t.Fatal(err)
			}
			seen := 0
			for line := range strings.Lines(string(mounts)) {
				if fields := strings.Fields(line); strings.HasPrefix(fields[4], "/run/netns") {
					seen++
					if strings.Contains(line, " shared:") || !strings.Contains(line, " master:") {
						t.Errorf("not a slave: %s", line)
					}
				}
			}
			if seen < 3 { // the directory and two namespaces
				t.Errorf("%d mounts at /run/netns", seen)
			}
		})
	}
}

// An image is pulled by the host's network, and the sidecar is in its own all
// the same. Nothing can be pulled on a throwaway host: a stand-in for Podman
// takes an image of the host, and notes in which network it was asked.
func TestImagePull(t *testing.T) {
	const fake, noted = "/usr/local/bin/podman", "/run/pulled-in"
	script := `#!/bin/sh
[ "$1" = pull ] && { readlink /proc/self/ns/net >` + noted + `; exec /usr/bin/podman tag localhost/agent localhost/pulled; }
exec /usr/bin/podman "$@"
`
	if err := os.WriteFile(fake, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(fake)
	defer os.Remove(noted)
	defer run(t, "podman", "rmi", "localhost/pulled")
	engines["pulled"] = "container_cli = \"systemd\"\nimage_name = \"localhost/pulled\""
	defer delete(engines, "pulled")
	s := define(t, "pulled", dnsmasq)
	s.start(s.netns()) // which looks at its network namespace
	s.start(s.netns())
	if got, want := must(t, "cat", noted), must(t, "readlink", "/proc/1/ns/net"); got != want {
		t.Errorf("pulled in %s, want the host's, %s", got, want)
	}
}
