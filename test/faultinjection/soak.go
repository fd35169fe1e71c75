// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A soak is hours of calls for the sidecars of a few services, beside which one
// disturbance comes after the other. Each call is looked at when it returns. At
// the end all is taken away, and the host has to be as it was.
const (
	soakRequests   = 20000            // at least, in
	soakTime       = 2 * time.Hour    // this time, and as many in proportion in another one
	soakPause      = 5 * time.Second  // between two disturbances
	soakNamespaces = 12               // of each worker
	goneTime       = 15 * time.Second // within which a sidecar that was killed has to be gone
	settleTime     = 2 * time.Minute  // within which the host has to be as it was
	attackTime     = 25 * time.Minute // of all attacks together
	// memoryGrowth is what systemd may have grown, in bytes: between the passes of
	// two hours it went up and down by 1.5 MiB, since a heap is never
	// twice the same.
	memoryGrowth = 2 << 20
)

// standing are the services that are called all the time, by how many workers, and
// how long each of them waits between two calls.
var standing = []struct {
	engine  string
	workers int
	pause   time.Duration
}{
	{"systemd", 2, 600 * time.Millisecond},
	{"image", 2, 600 * time.Millisecond},
	{"podman", 1, 1500 * time.Millisecond},
	{"docker", 1, 2500 * time.Millisecond},
}

// A worker makes calls for its own namespaces, one after the other, and so knows
// what has to run in each of them.
type worker struct {
	*scene
	own    []string
	pause  time.Duration
	random *rand.Rand
	want   map[string]*request // what the last call of a namespace brought about
	tally  tally
	did    map[string]int // by action
}

// actions are what a worker does, and how often in a hundred.
var actions = []struct {
	name   string
	weight int
	do     func(w *worker, netns string)
}{
	{"start, or replace by one with other arguments", 32, func(w *worker, netns string) { w.start(netns) }},
	{"ask again for what runs", 15, (*worker).again},
	{"reload (HUP)", 12, (*worker).reload},
	{"kill (TERM or KILL), by the kill script", 20, (*worker).kill},
	{"let it die (SEGV, ABRT or BUS), and ask again at once", 8, (*worker).crash},
	{"make the network namespace anew, and start", 7, (*worker).remake},
	{"tripleo-wrapperctl restart", 6, (*worker).restart},
}

func (w *worker) work(ctx context.Context) {
	for ctx.Err() == nil {
		w.act(w.own[w.random.IntN(len(w.own))])
		select {
		case <-ctx.Done():
		case <-time.After(w.pause):
		}
	}
}

func (w *worker) act(netns string) {
	n := w.random.IntN(100)
	for _, action := range actions {
		if n -= action.weight; n < 0 {
			w.did[action.name]++
			action.do(w, netns)
			return
		}
	}
}

func (w *worker) start(netns string) {
	w.ask(netns, fmt.Sprintf("--dhcp-option=5,10.0.0.%d", w.random.IntN(200)))
}

func (w *worker) ask(netns string, more ...string) {
	r := &request{netns: netns, arguments: append(w.arguments(netns), more...)}
	w.send(r, w.state("wrapper"))
	w.expect(r)
}

// expect holds that a request that succeeded has its sidecar. After one that
// failed, nobody knows what runs.
func (w *worker) expect(r *request) {
	delete(w.want, r.netns)
	if !w.tally.count(r) {
		w.refused(r)
		return
	}
	pid, err := w.pid(r.netns)
	if err != nil {
		w.tally.lose("%s: exit status 0, but %v", r.netns, err)
		return
	}
	if why := w.isOf(pid, r); why != "" {
		w.tally.lose("%s: exit status 0, but %s", r.netns, why)
		return
	}
	w.tally.running++
	w.want[r.netns] = r
}

// refused logs what a caller sees.
func (w *worker) refused(r *request) {
	fmt.Fprintf(os.Stderr, "    %s, %s: exit status %d: %s\n", w.engine, r.netns, r.status, strings.TrimSpace(r.stderr))
}

// runningIn returns what runs in a namespace, and starts it if nothing does.
func (w *worker) runningIn(netns string) (r *request, pid int, ok bool) {
	r = w.want[netns]
	if r == nil {
		w.start(netns)
		return nil, 0, false
	}
	pid, err := w.pid(netns)
	if err != nil {
		w.tally.lose("%s: what ran there: %v", netns, err)
		delete(w.want, netns)
		return nil, 0, false
	}
	return r, pid, true
}

func (w *worker) again(netns string) {
	r, _, ok := w.runningIn(netns)
	if ok {
		w.ask(netns, r.arguments[len(w.arguments(netns)):]...)
	}
}

// killScript calls the kill script as Neutron does, and says whether it succeeded.
func (w *worker) killScript(netns, signal string, pid int) bool {
	r := &request{netns: netns}
	if err := r.run(filepath.Join(w.dir, "kill_scripts", "fault-kill"), signal, strconv.Itoa(pid)); err != nil {
		w.tally.lose("%s: calling the kill script: %v", netns, err)
		return false
	}
	if w.tally.count(r) {
		return true
	}
	w.refused(r)
	if strings.Contains(r.stderr, "No such process") {
		w.tally.lose("%s: process %d ran, and has ended and not come back", netns, pid)
	}
	return false
}

func (w *worker) reload(netns string) {
	r, pid, ok := w.runningIn(netns)
	if !ok || !w.killScript(netns, "HUP", pid) {
		return
	}
	if why := w.isOf(pid, r); why != "" {
		w.tally.lose("%s: after a reload, %s", netns, why)
	}
}

func (w *worker) kill(netns string) {
	_, pid, ok := w.runningIn(netns)
	if !ok || !w.killScript(netns, []string{"9", "15"}[w.random.IntN(2)], pid) {
		return
	}
	delete(w.want, netns)
	deadline := time.Now().Add(goneTime)
	for syscall.Kill(pid, 0) == nil {
		if time.Now().After(deadline) {
			w.tally.lose("%s: process %d was killed and is there after %v", netns, pid, goneTime)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (w *worker) crash(netns string) {
	r, pid, ok := w.runningIn(netns)
	if !ok {
		return
	}
	signals := []syscall.Signal{syscall.SIGSEGV, syscall.SIGABRT, syscall.SIGBUS}
	if err := syscall.Kill(pid, signals[w.random.IntN(len(signals))]); err != nil {
		w.tally.lose("%s: process %d, which ran: %v", netns, pid, err)
	}
	w.ask(netns, r.arguments[len(w.arguments(netns)):]...)
}

func (w *worker) remake(netns string) {
	delete(w.want, netns)
	check(command("ip", "netns", "del", netns))
	check(command("ip", "netns", "add", netns))
	w.start(netns)
}

func (w *worker) restart(netns string) {
	old, _, ok := w.runningIn(netns)
	if !ok {
		return
	}
	r := &request{netns: netns, arguments: old.arguments}
	if err := r.run("tripleo-wrapperctl", "restart", w.name, netns); err != nil {
		w.tally.lose("%s: calling tripleo-wrapperctl: %v", netns, err)
		return
	}
	w.expect(r)
}

// A disturbance is a fault or an attack, for services of its own or for the
// standing ones.
type disturbance struct {
	name string
	run  func(scenes []*scene) tally
}

// disturbances are all rows of faults in their short form, mishaps of the standing
// services, and all attacks of the tests.
func disturbances(attacks string) []disturbance {
	var all []disturbance
	for _, r := range rows {
		all = append(all, disturbance{r.fault, func([]*scene) tally { return runRow(&r, r.short) }})
	}
	standing := func(name string, f func(s *scene)) {
		all = append(all, disturbance{"standing services: " + name, func(scenes []*scene) (t tally) {
			for _, s := range scenes {
				f(s)
			}
			return t
		}})
	}
	standing("activator killed (-9), ten times", func(s *scene) {
		for range 10 {
			if pid := s.activatorPID(); pid > 1 {
				try("kill", "-9", strconv.Itoa(pid))
			}
			time.Sleep(200 * time.Millisecond)
		}
	})
	standing("activator stopped", func(s *scene) { try("systemctl", "stop", s.name+".service") })
	standing("socket restarted", func(s *scene) { try("systemctl", "restart", s.name+".socket") })
	standing("daemon-reload", func(*scene) { try("systemctl", "daemon-reload") })
	standing("daemon-reexec", func(*scene) { try("systemctl", "daemon-reexec") })
	return append(all, disturbance{"all attacks of TestAttacks", func([]*scene) tally { return runAttacks(attacks) }})
}

// runAttacks runs the test of all attacks.
func runAttacks(program string) (t tally) {
	ctx, cancel := context.WithTimeout(context.Background(), attackTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-test.run=^TestAttacks$", "-test.v", "-test.timeout="+attackTime.String())
	cmd.Dir = filepath.Dir(program)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	// A program that has no such test ends well, too.
	if err != nil || !strings.Contains(string(out), "--- PASS: TestAttacks (") {
		fmt.Fprintf(os.Stderr, "%s\n", out)
		t.notes = append(t.notes, fmt.Sprintf("%v: %s", err, failures(string(out)))) // no request
	}
	return t
}

// failures returns what a test's output says of those that failed, on one line.
func failures(output string) string {
	var said []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "_test.go:") || strings.HasPrefix(line, "--- FAIL: ") {
			said = append(said, line)
		}
	}
	return strings.Join(said, "; ")
}

// A pass is what was there when each disturbance had come once more.
type pass struct {
	at         time.Duration
	sidecars   int
	activators int
	memory     int64 // of all activators, in bytes
	inventory  *inventory
}

// A soak's course, for its report.
type soak struct {
	began   time.Time
	took    time.Duration
	seed    uint64
	scenes  []*scene // of standing, in its order
	workers []*worker
	faults  tally // of all disturbances together

	// By disturbance: how often it came, and for how long in all.
	disturbed map[string]int
	seconds   map[string]float64

	passes              []pass
	empty, first, ended *inventory          // before all, after the first pass, behind all
	left                map[string][]string // by kind: what was not there before
	requests            int
	problems            []string
}

// runSoak soaks for a time, and writes what came of it to a file. It says whether
// all was well.
func runSoak(length time.Duration, seed uint64, attacks, report string) (well bool) {
	defer func() {
		if err := recover(); err != nil { // a step of its own failed, see check
			fmt.Fprintf(os.Stderr, "the soak is broken off: %v\n", err)
			well = false
		}
	}()
	k := &soak{began: time.Now(), seed: seed, disturbed: map[string]int{}, seconds: map[string]float64{}}
	// What Podman, Docker and ip-netns(8) leave when they are first used is there
	// before all.
	for _, kind := range standing {
		s := newScene(kind.engine, 1)
		s.call(s.namespaces[0])
		s.end()
	}
	sh("podman run --rm --privileged --pid=host --network=host localhost/agent true; podman secret ls; journalctl --sync")
	// An agent that is not privileged is run by runc; see useRunc in test/system.
	sh(`printf '[engine]\nruntime = "runc"\n[containers]\npids_limit = 0\n' >/run/runc.conf
CONTAINERS_CONF=/run/runc.conf podman run --rm --cap-add=SYS_ADMIN --pid=host --network=host localhost/agent true
rm /run/runc.conf; test -e /run/runc`)
	sh("systemctl daemon-reexec")
	k.empty = takeInventory()
	random := rand.New(rand.NewPCG(seed, 0))
	for i, kind := range standing {
		s := newScene(kind.engine, kind.workers*soakNamespaces)
		k.scenes = append(k.scenes, s)
		for j := range kind.workers {
			k.workers = append(k.workers, &worker{
				scene: s, own: s.namespaces[j*soakNamespaces : (j+1)*soakNamespaces], pause: kind.pause,
				random: rand.New(rand.NewPCG(seed, uint64(10*(i+1)+j))), want: map[string]*request{}, did: map[string]int{},
			})
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var working sync.WaitGroup
	for _, w := range k.workers {
		working.Go(func() {
			defer func() {
				if err := recover(); err != nil {
					w.tally.lose("%s: %v", w.name, err)
				}
			}()
			w.work(ctx)
		})
	}
	all := disturbances(attacks)
	for ctx.Err() == nil {
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, d := range all {
			if ctx.Err() != nil {
				break
			}
			k.disturb(d)
			select {
			case <-ctx.Done():
			case <-time.After(soakPause):
			}
		}
		k.look()
	}
	working.Wait()
	k.finish()
	k.judge(length)
	k.took = time.Since(k.began)
	text := k.report()
	fmt.Print(text)
	if report != "" {
		check(os.WriteFile(report, []byte(text), 0o644))
	}
	return len(k.problems) == 0
}

func (k *soak) disturb(d disturbance) {
	began := time.Now()
	t := d.run(k.scenes)
	k.disturbed[d.name]++
	k.seconds[d.name] += time.Since(began).Seconds()
	k.faults.requests += t.requests
	k.faults.running += t.running
	k.faults.refused += t.refused
	k.faults.lost += t.lost
	k.faults.duplicates += t.duplicates
	for _, note := range t.notes {
		k.problem("%s: %s", d.name, note)
	}
	fmt.Fprintf(os.Stderr, "%6.0f s: %s: %d requests, %d lost, in %.1f s\n",
		time.Since(k.began).Seconds(), d.name, t.requests, t.lost, time.Since(began).Seconds())
}

func (k *soak) problem(format string, args ...any) {
	problem := fmt.Sprintf(format, args...)
	fmt.Fprintln(os.Stderr, "    "+problem)
	k.problems = append(k.problems, problem)
}

// look takes an inventory in the midst of it all.
func (k *soak) look() {
	p := pass{at: time.Since(k.began), inventory: takeInventory()}
	for _, pids := range dnsmasqs() {
		p.sidecars += len(pids)
	}
	for _, s := range k.scenes {
		if pid := s.activatorPID(); pid > 0 {
			p.activators++
			p.memory += memoryOf("/proc/" + strconv.Itoa(pid))
		}
	}
	k.passes = append(k.passes, p)
	if k.first == nil {
		k.first = p.inventory
	}
}

// finish has each standing service show once more that it works, and takes all
// away.
func (k *soak) finish() {
	for _, w := range k.workers {
		for _, netns := range w.own {
			w.start(netns)
			if w.want[netns] == nil {
				w.tally.lose("%s: the faults are over and a call still fails", netns)
			}
		}
	}
	processes := dnsmasqs()
	for _, w := range k.workers {
		for _, netns := range w.own {
			if pids := processes[w.pidFile(netns)]; len(pids) > 1 {
				w.tally.duplicates++
				k.problem("%s has processes %v", netns, pids)
			}
		}
	}
	for _, s := range k.scenes {
		for _, problem := range s.problems {
			k.problem("%s", problem)
		}
		s.end()
	}
	try("systemctl", "reset-failed")
	// What systemd still knows is what counts, and not the size of its heap.
	try("systemctl", "daemon-reexec")
	deadline := time.Now().Add(settleTime)
	for {
		k.ended = takeInventory()
		k.left = map[string][]string{}
		for _, kind := range namedKinds {
			if left := k.ended.more(k.empty, kind); len(left) > 0 {
				k.left[kind] = left
			}
		}
		if len(k.left) == 0 && k.ended.numbers["descriptors of systemd"] <= k.empty.numbers["descriptors of systemd"] || time.Now().After(deadline) {
			return
		}
		time.Sleep(2 * time.Second)
	}
}

// tellProcesses says more of some processes that are left behind, and of those of
// the same name: what they were called with and since when, and of a shim, which has
// its container's id for an argument, what Docker logged of that. The report does
// without where it cannot be told.
func tellProcesses(names []string) {
	const tell = `
for name do
    ps -C "$name" -o pid=,lstart=,args= | head -n 5 | while read -r line; do
        echo "$line"
        id=$(echo "$line" | grep -oE -m 1 '\b[0-9a-f]{64}\b') || continue
        timeout 5 journalctl --quiet --no-pager -u docker.service -u containerd.service | grep -F "$id" | tail -n 50
    done
done
true`
	names = slices.Compact(slices.Clone(names))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", tell, "sh"}, names[:min(4, len(names))]...)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Fprintf(os.Stderr, "telling more of processes: %v\n", err)
	}
}

// judge adds up, and says what is not as it has to be.
func (k *soak) judge(length time.Duration) {
	k.requests = k.faults.requests
	for _, w := range k.workers {
		k.requests += w.tally.requests
		for _, note := range w.tally.notes {
			k.problem("%s", note)
		}
	}
	if least := int(float64(soakRequests) * length.Seconds() / soakTime.Seconds()); k.requests < least {
		k.problem("%d requests were made, less than %d", k.requests, least)
	}
	for _, kind := range namedKinds {
		if left := k.left[kind]; len(left) > 0 {
			k.problem("left behind: %d %s, such as %s", len(left), kind, strings.Join(left[:min(5, len(left))], " "))
			fmt.Fprintf(os.Stderr, "left behind:\n    %s\n", strings.Join(left, "\n    "))
			if kind == "processes" {
				tellProcesses(left)
			}
		}
	}
	if now, then := k.ended.numbers["descriptors of systemd"], k.empty.numbers["descriptors of systemd"]; now > then {
		k.problem("systemd has %d descriptors open, and had %d", now, then)
	}
	for _, span := range []struct {
		what      string
		then, now *inventory
	}{{"before", k.empty, k.ended}, {"after the first pass", k.first, k.passes[len(k.passes)-1].inventory}} {
		if grown := span.now.numbers["memory of systemd"] - span.then.numbers["memory of systemd"]; grown > memoryGrowth {
			k.problem("systemd has %d bytes of memory more than %s", grown, span.what)
		}
	}
}
