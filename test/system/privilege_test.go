// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// dropIns are those that docs/security.md has, for a service of another name and
// directory.
func dropIns(t *testing.T, s *service) []string {
	t.Helper()
	content, err := os.ReadFile(securityFile)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for i, part := range strings.Split(string(content), "```ini\n") {
		text, _, ok := strings.Cut(part, "```")
		if i > 0 && ok {
			found = append(found, strings.NewReplacer("/var/lib/neutron", s.dir,
				"neutron-dnsmasq", s.name, "neutron-haproxy", s.name).Replace(text))
		}
	}
	if len(found) != 2 {
		t.Fatalf("docs/security.md has %d drop-ins, want 2", len(found))
	}
	return found
}

// neededOptions returns the container_options that docs/security.md has for a
// helper that is not privileged, as TOML.
func neededOptions(t *testing.T, program string) string {
	t.Helper()
	content, err := os.ReadFile(securityFile)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(content), "| "+program+" | `")
	options, _, end := strings.Cut(rest, "` |")
	if !ok || !end {
		t.Fatalf("docs/security.md has no container_options for %s", program)
	}
	return options
}

// useRunc has Podman run a service's sidecars by runc. For containers that are
// not privileged crun raises a limit, for which a throwaway host lacks the
// capability. It has no controller of the number of processes either. The
// capabilities are those of containers.conf(5); what Podman 4.3 has built in is more.
func (s *service) useRunc(t *testing.T) {
	t.Helper()
	s.dropIn(t, "[Service]\nEnvironment=CONTAINERS_CONF="+s.runcConfig(t)+"\n")
}

// runcConfig returns a configuration of Podman's that says so.
func (s *service) runcConfig(t *testing.T) string {
	t.Helper()
	file := "/run/containers-" + s.name + ".conf"
	put(t, file, `
[engine]
runtime = "runc"
[containers]
pids_limit = 0
default_capabilities = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID",
  "SETPCAP", "SETUID", "SYS_CHROOT"]
`)
	t.Cleanup(func() { os.Remove(file) })
	return file
}

// capabilities returns what a process can ever have.
func capabilities(t *testing.T, pid string) string {
	t.Helper()
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "CapBnd:")
	return strings.Fields(rest)[0]
}

// confined checks that what a sidecar runs can neither write to the host, nor reach
// who would do it in its place, nor run what an agent puts into service_dir, and that
// an agent cannot get at the host's files by way of it.
func confined(t *testing.T, s *service, pid string) {
	t.Helper()
	program := filepath.Join(s.dir, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, program)
	in := func(command ...string) result {
		return run(t, append([]string{"nsenter", "--target=" + pid, "--mount", "--"}, command...)...)
	}
	if r := in(program); r.status == 0 || !strings.Contains(r.stderr, "ermission denied") {
		t.Errorf("it can run a file in service_dir: exit status %d, %s", r.status, r.stderr)
	}
	for _, file := range []string{"/etc/made-by-a-sidecar", "/usr/made-by-a-sidecar", "/run/made-by-a-sidecar", "/var/lib/made-by-a-sidecar"} {
		if r := in("touch", file); r.status == 0 {
			t.Errorf("it can write %s", file)
			os.Remove(file)
		}
	}
	for _, socket := range []string{"/run/systemd/private", "/run/dbus/system_bus_socket", "/run/docker.sock", "/run/containerd/containerd.sock"} {
		if notThere(socket) {
			t.Errorf("the host has no %s", socket)
		}
		if r := in("test", "-e", socket); r.status != 1 {
			t.Errorf("it has %s", socket)
		}
	}
	number, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if r := s.unprivilegedAgent(t).looksInto(number); r.status == 0 || !strings.Contains(r.stderr, "ermission denied") {
		t.Errorf("an agent can see its files: exit status %d, %s", r.status, r.stderr)
	}
}

func TestLessPrivilege(t *testing.T) {
	const haproxy = `
cmd = ["/usr/sbin/haproxy", "-Ws"]
[ready]
pid_file = "@DIR@/{netns}.pid"
timeout = "20s"
`
	startHaproxy := func(s *service, n *netns) string {
		t.Helper()
		file, pidFile := filepath.Join(s.dir, "haproxy.conf"), filepath.Join(s.dir, n.name+".pid")
		put(t, file, "global\n  user nobody\n  group nogroup\n  pidfile "+pidFile+"\ndefaults\n  mode http\n  timeout client 1s\n  timeout connect 1s\n  timeout server 1s\n"+
			"listen a\n  bind 127.0.0.1:80\n  http-request return status 200\n")
		if r := s.call(n, "-f", file); r.status != 0 {
			t.Fatalf("haproxy: exit status %d\n%s", r.status, r.stderr)
		}
		if r := run(t, "ip", "netns", "exec", n.name, "busybox", "wget", "-q", "-O", "-", "http://127.0.0.1/"); r.status != 0 {
			t.Errorf("haproxy does not answer: %s", r.stderr)
		}
		pid, err := os.ReadFile(pidFile)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(pid))[0]
	}
	startDnsmasq := func(s *service, n *netns) string {
		t.Helper()
		s.start(n, "--user=nobody")
		pid, err := os.ReadFile(n.pidFile)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(pid))
	}
	t.Run("systemd dnsmasq", func(t *testing.T) {
		s := define(t, "systemd", dnsmasq)
		s.dropIn(t, dropIns(t, s)[0])
		n := s.netns()
		startDnsmasq(s, n)
		confined(t, s, strconv.Itoa(s.start(n, "--user=root", "--group=root"))) // as an agent may have it
		if r := s.call(n, n.arguments("--log-facility=/etc/made-by-a-sidecar")...); r.status == 0 || !notThere("/etc/made-by-a-sidecar") {
			t.Errorf("dnsmasq writes where its arguments say: exit status %d", r.status)
		}
	})
	t.Run("systemd haproxy", func(t *testing.T) {
		s := define(t, "systemd", haproxy)
		s.dropIn(t, dropIns(t, s)[1])
		confined(t, s, startHaproxy(s, s.netns()))
	})
	for _, test := range []struct {
		name, engine, text string
		start              func(*service, *netns) string
		options            string // besides those that each needs
	}{
		{"podman dnsmasq", "podman", dnsmasq, startDnsmasq, neededOptions(t, "dnsmasq")},
		{"podman haproxy", "podman", haproxy, startHaproxy, neededOptions(t, "haproxy")},
		// ip-netns(8) needs the one more.
		{"docker dnsmasq", "docker", dnsmasq, startDnsmasq, withOption(neededOptions(t, "dnsmasq"), "--cap-add=SYS_ADMIN")},
		{"docker haproxy", "docker", haproxy, startHaproxy, withOption(neededOptions(t, "haproxy"), "--cap-add=SYS_ADMIN")},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := engines[test.engine]
			t.Cleanup(func() { engines[test.engine] = all })
			engines[test.engine] = "container_cli = \"" + test.engine + "\"\nimage_name = \"localhost/agent\"\nprivileged = false\n" +
				"container_options = " + test.options + "\n"
			s := define(t, test.engine, test.text)
			if test.engine == "podman" {
				s.useRunc(t)
			}
			pid := test.start(s, s.netns())
			if got := capabilities(t, pid); slices.Contains([]string{capabilities(t, "1"), ""}, got) {
				t.Errorf("the container can have all of the host's capabilities: %s", got)
			}
		})
	}
}

// withOption adds an option to container_options.
func withOption(options, option string) string {
	options = strings.TrimSuffix(options, "]") + `, "` + option + `"]`
	return strings.Replace(options, "[, ", "[", 1)
}
