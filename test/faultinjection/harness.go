// SPDX-License-Identifier: Apache-2.0

// Command faultinjection makes real wrapper calls for real sidecars on a
// throwaway host, injects one fault at a time, and then compares what was asked
// for with what runs and with what was refused. test/faults runs it. With
// --soak it does so for hours beside a stream of calls, and looks for what is
// left behind; test/soak runs that.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxStderr is how much of what a call says on standard error is kept, in bytes.
const maxStderr = 64 << 10

// callLimit is when a call that has not returned counts as lost.
const callLimit = 15 * time.Minute

// A request is one call of a wrapper and how it ended.
type request struct {
	netns     string
	arguments []string
	status    int
	stderr    string
	returned  bool
	took      time.Duration
}

// engines are the lines of a definition that choose one.
var engines = map[string]string{
	"systemd": `container_cli = "systemd"`,
	"image":   "container_cli = \"systemd\"\nimage_name = \"localhost/agent\"",
	"podman":  "container_cli = \"podman\"\nimage_name = \"localhost/agent\"",
	// A throwaway host has not all capabilities, which a privileged container
	// of Docker would ask for.
	"docker": `container_cli = "docker"
image_name = "localhost/agent"
privileged = false
container_options = ["--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", "--cap-add=NET_RAW"]`,
}

// A scene is a service and what was asked of it.
type scene struct {
	name, dir, engine string // engine is a key of engines
	timeout           string // of [ready]
	extra             string // more lines of the definition
	namespaces        []string
	mu                sync.Mutex
	requests          []*request
	gone              map[string]bool // namespaces that were deleted on purpose
	stopped           map[string]bool // namespaces whose sidecar was stopped on purpose
	problems          []string        // what the scene itself found wrong
}

var scenes atomic.Int64

// newScene puts a definition in place and makes namespaces for it.
func newScene(engine string, namespaces int, more ...func(*scene)) *scene {
	n := scenes.Add(1)
	s := &scene{
		name: fmt.Sprintf("fault%d", n), dir: fmt.Sprintf("/var/lib/fault%d", n), engine: engine, timeout: "60s",
		gone: map[string]bool{}, stopped: map[string]bool{},
	}
	for _, f := range more {
		f(s)
	}
	s.define()
	s.waitForSocket()
	s.addNamespaces(namespaces)
	return s
}

func (s *scene) definition() string { return "/etc/tripleo-wrappers/" + s.name + ".toml" }

// define writes the definition and reloads.
func (s *scene) define() {
	text := fmt.Sprintf("service_dir = %q\nservice_kill_script = \"fault-kill\"\n%s\n%s\ncmd = \"/usr/sbin/dnsmasq -k\"\n[ready]\npid_file_option = [\"--pid-file\"]\ntimeout = %q\n",
		s.dir, engines[s.engine], s.extra, s.timeout)
	check(os.WriteFile(s.definition(), []byte(text), 0o644))
	sh("systemctl daemon-reload")
}

func (s *scene) waitForSocket() {
	eventually(s.name+".socket is active", func() bool { return try("systemctl", "is-active", "--quiet", s.name+".socket") })
}

func (s *scene) addNamespaces(n int) {
	for range n {
		name := fmt.Sprintf("qdhcp-%s-%04d", s.name, len(s.namespaces))
		s.namespaces = append(s.namespaces, name)
	}
	added := s.namespaces[len(s.namespaces)-n:]
	parallel(8, len(added), func(i int) {
		check(command("ip", "netns", "add", added[i]))
		check(os.MkdirAll(filepath.Dir(s.pidFile(added[i])), 0o755))
	})
}

func (s *scene) pidFile(netns string) string { return filepath.Join(s.dir, "dhcp", netns, "pid") }
func (s *scene) state(file string) string    { return filepath.Join(s.dir, s.name, file) }
func (s *scene) unit(netns string) string    { return s.name + "@" + netns + ".service" }

// arguments are Neutron's. Without port 0, dnsmasq would take an inotify
// instance each, of which a machine has 128 by default.
func (s *scene) arguments(netns string) []string {
	return []string{
		"--no-hosts", "--no-resolv", "--port=0", "--pid-file=" + s.pidFile(netns),
		"--dhcp-leasefile=" + filepath.Join(filepath.Dir(s.pidFile(netns)), "leases"), "--bind-dynamic",
		"--dhcp-range=set:subnet-1,10.0.0.0,static,255.255.255.0,86400s", "--conf-file=/dev/null", "--domain=openstacklocal",
	}
}

// call calls the wrapper as Neutron does and keeps how it ended.
func (s *scene) call(netns string, more ...string) *request {
	return s.callWith(s.state("wrapper"), netns, more...)
}

func (s *scene) callWith(wrapper, netns string, more ...string) *request {
	r := &request{netns: netns, arguments: append(s.arguments(netns), more...)}
	s.mu.Lock()
	s.requests = append(s.requests, r)
	s.mu.Unlock()
	s.send(r, wrapper)
	return r
}

// send calls a wrapper for a request.
func (s *scene) send(r *request, wrapper string) {
	netns := r.netns
	// Neutron removes the pid file first (external_process.py).
	os.Remove(s.pidFile(netns))
	command := append([]string{"ip", "netns", "exec", netns, "env", "PROCESS_TAG=dnsmasq-" + netns, wrapper}, r.arguments...)
	if err := r.run(command...); err != nil {
		s.problem("calling the wrapper in %s: %v", netns, err)
	}
}

// run runs the command of a request and keeps how it ended. The error is that
// of one that could not be run.
func (r *request) run(command ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	// A file and no pipe: with a thousand calls at a time it may take a while
	// until somebody comes to read what is left in each pipe.
	stderr, err := os.CreateTemp("", "stderr")
	check(err)
	defer stderr.Close()
	check(os.Remove(stderr.Name()))
	cmd.Stderr = stderr
	began := time.Now()
	err = cmd.Run()
	r.took = time.Since(began)
	r.returned = ctx.Err() == nil
	said, readErr := io.ReadAll(io.NewSectionReader(stderr, 0, maxStderr))
	check(readErr)
	r.stderr = string(said)
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		r.status = exit.ExitCode()
	default:
		r.status = -1
		return err
	}
	return nil
}

// burst makes a call in each namespace, all at once, and returns when all have
// returned.
func (s *scene) burst(namespaces []string, more ...string) {
	var calls sync.WaitGroup
	for _, netns := range namespaces {
		calls.Go(func() { s.call(netns, more...) })
	}
	calls.Wait()
}

// during injects a fault again and again while f runs, at least once.
func during(f func(), every time.Duration, most int, inject func(i int)) (injected int) {
	done := make(chan struct{})
	go func() { f(); close(done) }()
	for injected < most {
		inject(injected)
		injected++
		select {
		case <-done:
			return injected
		case <-time.After(every):
		}
	}
	<-done
	return injected
}

// stream makes one call after the other until it is told to stop.
func (s *scene) stream(namespaces []string) (stop func()) {
	quit := make(chan struct{})
	var calls sync.WaitGroup
	calls.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-quit:
				return
			default:
				s.call(namespaces[i%len(namespaces)], fmt.Sprintf("--dhcp-option=5,10.0.0.%d", i%200))
			}
		}
	})
	return func() { close(quit); calls.Wait() }
}

func (s *scene) problem(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// A tally is the comparison of what was asked for, what runs, and what was
// refused.
type tally struct {
	requests, running, refused, lost, duplicates int
	notes                                        []string
	reasons                                      map[string]int // of refusals
}

var particulars = regexp.MustCompile(`[0-9a-f]{32}|[A-Z2-7]{20,}|[a-z]*fault[0-9]+[-@a-z0-9.]*|process [0-9]+|/[^ ]*/`)

// refuse counts a refusal by its reason, without what is of this call only.
func (t *tally) refuse(r *request) {
	t.refused++
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	reason := particulars.ReplaceAllString(strings.Join(lines[:min(2, len(lines))], " / "), "…")
	if t.reasons == nil {
		t.reasons = map[string]int{}
	}
	t.reasons[reason]++
}

// count counts a call, and says whether it succeeded. What it brought about is
// looked at elsewhere.
func (t *tally) count(r *request) bool {
	t.requests++
	switch {
	case !r.returned:
		t.lose("call in %s did not return", r.netns)
	case r.status == 0:
		return true
	case strings.TrimSpace(r.stderr) == "":
		t.lose("call in %s failed without a reason", r.netns)
	default:
		t.refuse(r)
	}
	return false
}

func (t *tally) lose(format string, args ...any) {
	t.lost++
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// settle compares. Of several calls in a namespace the last that succeeded
// counts: what runs there has to have its arguments.
func (s *scene) settle() tally {
	var t tally
	want := map[string]*request{}
	for _, r := range s.requests {
		if t.count(r) {
			want[r.netns] = r
		}
	}
	processes := dnsmasqs()
	for netns, r := range want {
		if s.gone[netns] || s.stopped[netns] {
			continue
		}
		pids := processes[s.pidFile(netns)]
		if len(pids) > 1 {
			t.duplicates++
			t.notes = append(t.notes, fmt.Sprintf("%d processes for %s", len(pids), netns))
		}
		if why := s.runs(r, pids); why != "" {
			t.lose("%s: exit status 0, but %s", netns, why)
			continue
		}
		t.running++
	}
	for _, p := range s.problems {
		t.lose("%s", p)
	}
	return t
}

// runs says why the sidecar of a request that succeeded does not run. pids are
// the processes that were called with its pid file.
func (s *scene) runs(r *request, pids []int) string {
	pid, err := s.pid(r.netns)
	if err != nil {
		return err.Error()
	}
	if !slices.Contains(pids, pid) {
		return fmt.Sprintf("process %d of its pid file is not its dnsmasq", pid)
	}
	return s.isOf(pid, r)
}

// pid returns the process that a namespace's pid file names.
func (s *scene) pid(netns string) (int, error) {
	content, err := os.ReadFile(s.pidFile(netns))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(content)))
}

// isOf says why a process is not the sidecar of a request.
func (s *scene) isOf(pid int, r *request) string {
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	want := "/usr/sbin/dnsmasq\x00-k\x00" + strings.Join(r.arguments, "\x00") + "\x00"
	if err != nil || string(cmdline) != want {
		return fmt.Sprintf("process %d has other arguments: %q %v", pid, cmdline, err)
	}
	group := "/" + s.unit(r.netns)
	if s.engine == "docker" {
		group = "/docker" // its daemon runs the container, in a group of its own
	}
	cgroup, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !strings.Contains(string(cgroup), group) {
		return fmt.Sprintf("process %d is not of %s but in %s", pid, s.unit(r.netns), cgroup)
	}
	inside, err1 := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
	named, err2 := os.Stat("/run/netns/" + r.netns)
	if err1 != nil || err2 != nil || !os.SameFile(inside, named) {
		return fmt.Sprintf("process %d is in another network namespace", pid)
	}
	return ""
}

// dnsmasqs returns the pids of all dnsmasq processes of the host by their pid
// file.
func dnsmasqs() map[string][]int {
	found := map[string][]int{}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(content), "/usr/sbin/dnsmasq\x00") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		for _, argument := range strings.Split(string(content), "\x00") {
			if pidFile, ok := strings.CutPrefix(argument, "--pid-file="); ok {
				found[pidFile] = append(found[pidFile], pid)
			}
		}
	}
	return found
}

// end takes all of a scene away, as README says.
func (s *scene) end() {
	stop := func() {
		try("sh", "-c", "systemctl stop '"+s.name+"@*.service'")
	}
	// Where the definition is gone first, systemd has forgotten what is to be done
	// behind a container.
	stop()
	os.Remove(s.definition())
	try("systemctl", "daemon-reload")
	try("systemctl", "stop", s.name+".socket", s.name+".path", s.name+".timer", s.name+".service")
	stop()
	// systemd keeps the slice of a template that has had an instance.
	try("systemctl", "stop", "system-"+s.name+".slice")
	parallel(8, len(s.namespaces), func(i int) { try("ip", "netns", "del", s.namespaces[i]) })
	try("umount", "--lazy", s.dir)
	os.RemoveAll(s.dir)
	os.RemoveAll("/run/tripleo-wrappers/" + s.name)
	os.Remove(roleLock(s.name))
	if s.engine == "image" {
		try("sh", "-c", "podman volume ls --quiet --filter=label=org.openstack.tripleo.wrappers.service="+s.name+" | xargs podman volume rm")
	}
}

// activatorPID returns the pid of the service's activator; 0 for none.
func (s *scene) activatorPID() int {
	output, err := exec.Command("systemctl", "show", "--value", "--property=MainPID", s.name+".service").Output()
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(output)))
	return pid
}

func check(err error) {
	if err != nil {
		panic(err) // ends the row, see runRow
	}
}

func command(name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	output, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %q: %w: %s", name, args, err, output)
	}
	return nil
}

func try(name string, args ...string) bool { return command(name, args...) == nil }

func sh(script string) { check(command("sh", "-c", script)) }

func output(name string, args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).Output()
	check(err)
	return strings.TrimSpace(string(out))
}

func eventually(what string, holds func() bool) {
	deadline := time.Now().Add(2 * time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			panic(fmt.Errorf("not within two minutes: %s", what))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func parallel(workers, n int, f func(i int)) {
	var next atomic.Int64
	var group sync.WaitGroup
	var failed atomic.Value
	for range workers {
		group.Go(func() {
			defer func() {
				if err := recover(); err != nil {
					failed.Store(fmt.Sprint(err))
				}
			}()
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		panic(err)
	}
}
