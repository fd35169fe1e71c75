// SPDX-License-Identifier: Apache-2.0

//go:build system

// Package system tests the installed project on a throwaway host: real
// systemd, real Podman, real dnsmasq, real network namespaces. test/system/run
// runs it; on any other machine it would write to the real one's /etc.
package system

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// waitTime bounds each wait for what has to come about by itself.
const waitTime = 30 * time.Second

// A result is how a command ended.
type result struct {
	stdout, stderr string
	status         int
	took           time.Duration
}

// run runs a command, which may fail.
func run(t testing.TB, command ...string) result {
	t.Helper()
	return runWith(t, nil, command...)
}

func runWith(t testing.TB, prepare func(*exec.Cmd), command ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// A daemon that keeps the pipes must not keep the test.
	cmd.WaitDelay = 5 * time.Second
	if prepare != nil {
		prepare(cmd)
	}
	began := time.Now()
	err := cmd.Run()
	r := result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode(), time.Since(began)}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Errorf("%q: %v\n%s", command, err, r.stderr)
	}
	return r
}

// must runs a command that has to succeed, and returns its output.
func must(t testing.TB, command ...string) string {
	t.Helper()
	r := run(t, command...)
	if r.status != 0 {
		t.Fatalf("%q: exit status %d\n%s%s", command, r.status, r.stdout, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(waitTime)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", waitTime, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// show returns a property of a unit.
func show(t testing.TB, unit, property string) string {
	t.Helper()
	return must(t, "systemctl", "show", "--value", "--property="+property, unit)
}

// A service is a definition that is in use.
type service struct {
	t      testing.TB
	name   string
	base   string // of the definition's file, where that is not the name
	dir    string // service_dir
	engine string
	since  time.Time // from when on its journal is its own: names are used again
}

// engines are what each test of a sidecar is done with, and the lines of a
// definition that say so.
var engines = map[string]string{
	"systemd": `container_cli = "systemd"`,
	"podman":  "container_cli = \"podman\"\nimage_name = \"localhost/agent\"",
	"image":   "container_cli = \"systemd\"\nimage_name = \"localhost/agent\"",
	// A throwaway host has not all capabilities, which a privileged container
	// of Docker would ask for.
	"docker": `
container_cli = "docker"
image_name = "localhost/agent"
privileged = false
container_options = ["--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", "--cap-add=NET_RAW"]
`,
}

// dnsmasq is the rest of a definition of dnsmasq.
const dnsmasq = `
cmd = "/usr/sbin/dnsmasq -k"
[ready]
pid_file_option = ["--pid-file", "-x"]
timeout = "20s"
`

var services atomic.Int64

// define puts a definition in place, as an operator does: one file, one
// daemon-reload. Text is all of it but the service's directory, kill script and
// engine, which are made up here; @DIR@ in it stands for the directory.
func define(t testing.TB, engine, text string) *service {
	t.Helper()
	n := services.Add(1)
	s := &service{
		t:      t,
		name:   fmt.Sprintf("test%d-%s", n, engine),
		dir:    fmt.Sprintf("/var/lib/test%d", n),
		engine: engine,
		since:  time.Now(),
	}
	s.write(text)
	must(t, "systemctl", "daemon-reload")
	t.Cleanup(s.remove)
	eventually(t, s.name+".socket is active", func() bool { return show(t, s.name+".socket", "ActiveState") == "active" })
	return s
}

func (s *service) file() string { return "/etc/tripleo-wrappers/" + cmp.Or(s.base, s.name) + ".toml" }

func (s *service) write(text string) {
	s.t.Helper()
	definition := fmt.Sprintf("service_dir = %q\nservice_kill_script = \"test-kill\"\n%s\n%s", s.dir, engines[s.engine], strings.ReplaceAll(text, "@DIR@", s.dir))
	if err := os.WriteFile(s.file(), []byte(definition), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// remove takes the definition away, and all that it made.
func (s *service) remove() {
	if s.t.Failed() {
		r := run(s.t, "journalctl", "--no-pager", "--lines=60", "SERVICE="+s.name)
		s.t.Logf("journal of %s:\n%s", s.name, r.stdout)
	}
	run(s.t, "systemctl", "stop", s.name+"@*.service")
	os.Remove(s.file())
	run(s.t, "systemctl", "daemon-reload")
	// systemd keeps the slice of a template that has had an instance, and now and
	// then the slice's control group alone, without having started the slice.
	slice := "system-" + strings.ReplaceAll(s.name, "-", `\x2d`) + ".slice"
	run(s.t, "systemctl", "stop", s.name+".socket", s.name+".path", s.name+".timer", s.name+".service", s.name+"@*.service", slice)
	os.Remove("/sys/fs/cgroup/system.slice/" + slice)
	os.RemoveAll(s.dir)
	os.RemoveAll(filepath.Join("/run/tripleo-wrappers", s.name))
}

func (s *service) state(file string) string { return filepath.Join(s.dir, s.name, file) }

func (s *service) unit(netns string) string { return s.name + "@" + netns + ".service" }

// A netns is a network namespace as Neutron makes them, and the files of its
// dnsmasq.
type netns struct {
	name    string
	pidFile string
}

var namespaces atomic.Int64

func (s *service) netns() *netns {
	s.t.Helper()
	id := fmt.Sprintf("%08d-1111-2222-3333-444444444444", namespaces.Add(1))
	n := &netns{"qdhcp-" + id, filepath.Join(s.dir, "dhcp", id, "pid")}
	must(s.t, "ip", "netns", "add", n.name)
	s.t.Cleanup(func() {
		run(s.t, "systemctl", "stop", s.unit(n.name))
		run(s.t, "ip", "netns", "del", n.name)
	})
	must(s.t, "ip", "-n", n.name, "link", "set", "lo", "up")
	if err := os.MkdirAll(filepath.Dir(n.pidFile), 0o755); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// arguments are Neutron's (neutron/agent/linux/dhcp.py), with more at the end.
func (n *netns) arguments(more ...string) []string {
	return append([]string{
		"--no-hosts", "--no-resolv", "--pid-file=" + n.pidFile,
		"--dhcp-leasefile=" + filepath.Join(filepath.Dir(n.pidFile), "leases"),
		"--dhcp-match=set:ipxe,175", "--bind-dynamic",
		"--dhcp-range=set:subnet-1,10.0.0.0,static,255.255.255.0,86400s",
		"--conf-file=/dev/null", "--domain=openstacklocal",
	}, more...)
}

// call calls the wrapper as Neutron does: without an old pid file, in the
// network namespace.
func (s *service) call(n *netns, arguments ...string) result {
	s.t.Helper()
	return s.callFile(n, s.state("wrapper"), arguments...)
}

func (s *service) callFile(n *netns, wrapper string, arguments ...string) result {
	s.t.Helper()
	command := []string{"ip", "netns", "exec", n.name, "env", "PROCESS_TAG=dnsmasq-" + n.name, wrapper}
	return run(s.t, append(command, arguments...)...)
}

// start calls the wrapper, which has to succeed, and returns the pid.
func (s *service) start(n *netns, more ...string) int {
	s.t.Helper()
	r := s.call(n, n.arguments(more...)...)
	if r.status != 0 {
		s.t.Fatalf("wrapper: exit status %d\n%s", r.status, r.stderr)
	}
	return s.check(n, more...)
}

// check looks at once at what has to hold when a wrapper call has returned 0,
// and returns the pid.
func (s *service) check(n *netns, more ...string) int {
	s.t.Helper()
	content, err := os.ReadFile(n.pidFile)
	if err != nil {
		s.t.Fatalf("the wrapper returned before the pid file was there: %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		s.t.Fatal(err)
	}
	want := append([]string{"/usr/sbin/dnsmasq", "-k"}, n.arguments(more...)...)
	if got := cmdline(s.t, pid); !equal(got, want) {
		s.t.Errorf("command line of the sidecar\n got %q\nwant %q", got, want)
	}
	s.checkOwner(n, pid)
	if tag := "PROCESS_TAG=dnsmasq-" + n.name; !contains(list(s.t, pid, "environ"), tag) {
		s.t.Errorf("%s is not in the environment of the sidecar", tag)
	}
	if got, want := inode(s.t, fmt.Sprintf("/proc/%d/ns/net", pid)), inode(s.t, "/run/netns/"+n.name); got != want {
		s.t.Errorf("the sidecar is in another network namespace")
	}
	return pid
}

// checkOwner looks whether a process is the sidecar's. What Docker runs is not in
// the unit's control group.
func (s *service) checkOwner(n *netns, pid int) {
	s.t.Helper()
	if s.engine == "docker" {
		if main := s.mainPID(n); pid != main {
			s.t.Errorf("process %d is not that of the container, %d", pid, main)
		}
	} else if unit := unitOf(s.t, pid); unit != s.unit(n.name) {
		s.t.Errorf("process %d is of unit %q, want %q", pid, unit, s.unit(n.name))
	}
}

// kill calls the kill script as Neutron does.
func (s *service) kill(signal string, pid int) result {
	s.t.Helper()
	return run(s.t, filepath.Join(s.dir, "kill_scripts", "test-kill"), signal, strconv.Itoa(pid))
}

// crash has a sidecar die, and waits for systemd to bring it back.
func (s *service) crash(n *netns, pid int) {
	s.t.Helper()
	must(s.t, "kill", "-SEGV", strconv.Itoa(pid))
	eventually(s.t, "the sidecar is back", func() bool {
		content, err := os.ReadFile(n.pidFile)
		now, atoiErr := strconv.Atoi(strings.TrimSpace(string(content)))
		return err == nil && atoiErr == nil && now != pid && alive(now) && show(s.t, s.unit(n.name), "ActiveState") == "active"
	})
}

// gone checks that nothing of a sidecar is there any more.
func (s *service) gone(n *netns, pid int) {
	s.t.Helper()
	if alive(pid) {
		s.t.Errorf("process %d is still there", pid)
	}
	if state := show(s.t, s.unit(n.name), "ActiveState"); state != "inactive" {
		s.t.Errorf("%s is %s", s.unit(n.name), state)
	}
	if s.engine == "podman" || s.engine == "docker" {
		if ids := must(s.t, s.engine, "ps", "--all", "--quiet", "--filter=name=^"+s.name+"-"+n.name+"$"); ids != "" {
			s.t.Errorf("the container is still there: %s", ids)
		}
	}
}

// running returns how many sidecars are up.
func (s *service) running() int {
	s.t.Helper()
	out := must(s.t, "systemctl", "list-units", "--plain", "--no-legend", "--state=active", s.name+"@*.service")
	if out == "" {
		return 0
	}
	return len(strings.Split(out, "\n"))
}

func alive(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil
}

func cmdline(t testing.TB, pid int) []string { return list(t, pid, "cmdline") }

// list reads a NUL-separated list of /proc/PID.
func list(t testing.TB, pid int, name string) []string {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(content), "\x00"), "\x00")
}

// unitOf asks systemd, not the code under test, whose a process is.
func unitOf(t testing.TB, pid int) string {
	t.Helper()
	r := run(t, "systemctl", "whoami", strconv.Itoa(pid))
	if r.status == 0 {
		return strings.TrimSpace(r.stdout)
	}
	// systemctl whoami is of systemd 253.
	path := must(t, "busctl", "call", "--json=short", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
		"org.freedesktop.systemd1.Manager", "GetUnitByPID", "u", strconv.Itoa(pid))
	var reply struct{ Data []string }
	if err := json.Unmarshal([]byte(path), &reply); err != nil || len(reply.Data) != 1 {
		t.Fatalf("unexpected answer %q", path)
	}
	id := must(t, "busctl", "get-property", "--json=short", "org.freedesktop.systemd1", reply.Data[0],
		"org.freedesktop.systemd1.Unit", "Id")
	var name struct{ Data string }
	if err := json.Unmarshal([]byte(id), &name); err != nil {
		t.Fatalf("unexpected answer %q", id)
	}
	return name.Data
}

func inode(t testing.TB, path string) string {
	t.Helper()
	return must(t, "stat", "--dereference", "--format=%d:%i", path)
}

func equal(a, b []string) bool {
	return strings.Join(a, "\x00") == strings.Join(b, "\x00") && len(a) == len(b)
}

func contains(list []string, entry string) bool {
	for _, e := range list {
		if e == entry {
			return true
		}
	}
	return false
}

// forEngines runs a test with each engine.
func forEngines(t *testing.T, test func(t *testing.T, engine string)) {
	for engine := range engines {
		t.Run(engine, func(t *testing.T) { test(t, engine) })
	}
}
