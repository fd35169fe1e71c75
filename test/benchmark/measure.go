// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

const generator = "/usr/lib/systemd/system-generators/tripleo-wrappers-generator"

// A bench measures the contenders on this host.
type bench struct {
	plan       plan
	contenders []*contender
	results    results
	facts      facts
	running    int // sidecars of ours that run all the time
	round      int // the one that is being measured, of its kind
	problems   []error
	record     record
	recordFile string    // where it is kept; "" for nowhere
	until      time.Time // when the sitting ends; zero for when all is measured
}

// A plan says how much is measured.
type plan struct {
	Rounds      int
	running     []int // from few to many
	bursts      []int
	definitions []int
}

// facts are what is measured only once.
type facts struct {
	clientSize int64
	// lost is how many single calls the path unit lost.
	lost int
	// idle is the memory of activators that have had nothing to do for longer
	// than they stay.
	idle int64
}

// run measures all figures. What fails is left out, and noted.
func (b *bench) run() error {
	if err := install(b.contenders); err != nil {
		return fmt.Errorf("installing the contenders: %w", err)
	}
	for _, phase := range []func() error{b.client, b.generator, b.bursts, b.calls, b.idle} {
		if err := phase(); err != nil {
			return err
		}
	}
	return nil
}

// try notes the problem of a contender, and goes on with the others.
func (b *bench) try(c *contender, err error) bool {
	if err != nil {
		b.note(fmt.Errorf("%s: %w", c.name, err))
	}
	return err == nil
}

// add takes a measurement of this round.
func (b *bench) add(k key, m measurement) {
	m.round = b.round
	b.results.add(k, m)
}

func (b *bench) note(problem error) {
	if problem != nil {
		say("%v", problem)
		b.problems = append(b.problems, problem)
	}
}

// shuffled returns contenders in an order of their own for each round, so that
// none always comes after the same.
func (b *bench) shuffled(suitable func(*contender) bool) []*contender {
	var all []*contender
	for _, c := range b.contenders {
		if suitable(c) {
			all = append(all, c)
		}
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// start has a sidecar started, and measures until it is ready: the command has
// returned, and the pid file names it.
func start(s *sidecar) (m measurement, pid int, err error) {
	if err := s.prepare(); err != nil {
		return m, 0, err
	}
	call := s.of.call(s)
	// Neutron removes the pid file first (external_process.py).
	if err := os.Remove(s.pidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return m, 0, err
	}
	c, err := startClock()
	if err != nil {
		return m, 0, err
	}
	if _, err := run(call...); err != nil {
		return m, 0, err
	}
	up, last := await([]string{s.pidFile})
	if up == 0 {
		return m, 0, fmt.Errorf("%q: nothing runs %v later", call, quiet)
	}
	m, err = c.stop(last)
	return m, pidIn(s.pidFile), err
}

// stop ends a sidecar, and measures until its process is gone and the command
// has returned.
func stop(s *sidecar, pid int) (m measurement, err error) {
	call := s.of.kill(s, pid)
	c, err := startClock()
	if err != nil {
		return m, err
	}
	if _, err := run(call...); err != nil {
		return m, err
	}
	if err := awaitGone(pid); err != nil {
		return m, err
	}
	return c.stop(time.Now())
}

// measureOwn measures a command with the CPU time of its own processes only.
func measureOwn(command ...string) (measurement, error) {
	time.Sleep(settle)
	began := time.Now()
	cpu, err := run(command...)
	return measurement{wall: time.Since(began), cpu: cpu}, err
}

// calls measures single calls, with more and more sidecars running.
func (b *bench) calls() error {
	for _, n := range b.plan.running {
		kind := fmt.Sprintf("calls, %d running", n)
		if b.done(kind) {
			continue
		}
		say("single calls, %d running", n)
		b.note(b.grow(n))
		err := b.rounds(kind, func() error {
			for _, c := range b.shuffled(func(c *contender) bool { return !c.noSidecar }) {
				b.call(c, warm)
				if c.ours() {
					b.call(c, cold)
				}
			}
			return b.reload()
		})
		if err != nil {
			return err
		}
		b.note(b.allRun())
	}
	return nil
}

// call starts a sidecar and ends it again.
func (b *bench) call(c *contender, f figure) {
	s := c.sidecar("call")
	m, pid, err := b.startPrepared(c, f, s)
	const tries = 3
	for range tries - 1 {
		if err == nil || !c.mayLose {
			break
		}
		say("%s: %v", c.name, err)
		b.facts.lost++
		if err = errors.Join(mendPathUnit(), c.clear(s)); err == nil {
			m, pid, err = b.startPrepared(c, f, s)
		}
	}
	if !b.try(c, err) {
		b.try(c, c.clear(s))
		return
	}
	b.add(key{f, c.name, b.running}, m)
	m, err = stop(s, pid)
	switch {
	case !b.try(c, err):
		b.try(c, c.clear(s))
	case f == warm:
		b.add(key{gone, c.name, b.running}, m)
	}
}

// startPrepared measures the start of a sidecar. All contenders have it alike: each
// has just done the same, without being measured, and the host has come to rest
// since.
func (b *bench) startPrepared(c *contender, f figure, s *sidecar) (m measurement, pid int, err error) {
	if _, pid, err = start(s); err != nil {
		return m, 0, err
	}
	if _, err = stop(s, pid); err != nil {
		return m, 0, err
	}
	if err = b.rest(c, f); err != nil {
		return m, 0, err
	}
	return start(s)
}

// restLimit is how long to wait for the host to rest. What lasts longer is noise,
// which all have.
const restLimit = 3 * time.Second

// rest stops the activators, to which systemd tells whatever happens to any unit,
// but that of a contender whose figure takes one. It then waits until the host does
// next to nothing.
func (b *bench) rest(c *contender, f figure) error {
	stop := []string{"systemctl", "stop"}
	for _, other := range b.contenders {
		if other.ours() && (other != c || f != warm) {
			stop = append(stop, other.activator())
		}
	}
	if _, err := run(stop...); err != nil {
		return err
	}
	for deadline := time.Now().Add(restLimit); time.Now().Before(deadline); {
		before, err := hostCPU()
		if err != nil {
			return err
		}
		time.Sleep(settle)
		after, err := hostCPU()
		if err != nil || after-before < settle/10 {
			return err
		}
	}
	return nil
}

// grow has more sidecars of ours run all the time.
func (b *bench) grow(n int) error {
	more := b.always(n)[b.running:] // of fewer it is the beginning
	err := parallel(4, len(more), func(i int) error {
		if err := more[i].prepare(); err != nil {
			return err
		}
		_, err := run(more[i].of.call(more[i])...)
		return err
	})
	b.running = n
	return errors.Join(err, b.allRun())
}

// allPodman is how many of the sidecars that run all the time are Podman's before
// there are others. What is in use today lists all that Podman has.
const allPodman = 100

// always returns the sidecars that run all the time, when n do: the first ones of
// Podman's, further ones of each contender of ours in turn.
func (b *bench) always(n int) []*sidecar {
	var ours []*contender
	for _, c := range b.contenders {
		if c.ours() {
			ours = append(ours, c)
		}
	}
	var all []*sidecar
	for i := range n {
		of := find(b.contenders, podman)
		if i >= allPodman {
			of = ours[i%len(ours)]
		}
		all = append(all, of.sidecar(strconv.Itoa(i)))
	}
	return all
}

// allRun looks whether as many run as should.
func (b *bench) allRun() error {
	var files []string
	for _, s := range b.always(b.running) {
		files = append(files, s.pidFile)
	}
	if up, _ := await(files); up < b.running {
		return fmt.Errorf("of %d sidecars, %d run", b.running, up)
	}
	return nil
}

func (b *bench) reload() error {
	m, err := measure("systemctl", "daemon-reload")
	b.add(key{reload, "", b.running}, m)
	return err
}

// measure measures a command from its beginning to its end.
func measure(command ...string) (m measurement, err error) {
	c, err := startClock()
	if err != nil {
		return m, err
	}
	if _, err := run(command...); err != nil {
		return m, err
	}
	return c.stop(time.Now())
}

// bursts measures many calls at once.
func (b *bench) bursts() error {
	for _, n := range b.plan.bursts {
		err := b.rounds(fmt.Sprintf("%d at once", n), func() error {
			for _, c := range b.shuffled(func(c *contender) bool { return c.bursts(n, b.round) }) {
				m, err := b.burst(c, n)
				if b.try(c, err) {
					say("%d at once, %s: %d up in %v", n, c.name, m.up, m.wall.Round(time.Millisecond))
					b.add(key{burst, c.name, n}, m)
				}
				b.try(c, c.clear(nil))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	// More network namespaces or containers than are measured with would make all
	// that comes after slower.
	left, err := output("sh", "-c", "podman ps --all --quiet; docker ps --all --quiet")
	if err != nil {
		return err
	}
	if left != "" {
		b.note(fmt.Errorf("containers are left over of bursts: %s", strings.Join(strings.Fields(left), " ")))
	}
	return shell("podman rm --all --force --time=0 && ip -all netns delete")
}

// burst starts sidecars all at once, with no activator there.
func (b *bench) burst(c *contender, n int) (m measurement, err error) {
	sidecars := c.atOnce(n)
	files := make([]string, n)
	for i, s := range sidecars {
		if err := s.prepare(); err != nil {
			return m, err
		}
		if err := os.Remove(s.pidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			return m, err
		}
		files[i] = s.pidFile
	}
	calls := make([][]string, n)
	for i, s := range sidecars {
		calls[i] = c.call(s)
	}
	if c.burst != nil {
		one, err := c.burst(sidecars)
		if err != nil {
			return m, err
		}
		calls = [][]string{one}
	}
	if c.mayLose {
		err = mendPathUnit()
	}
	if err = errors.Join(err, b.rest(c, burst)); err != nil {
		return m, err
	}
	before, err := memory()
	if err != nil {
		return m, err
	}
	clock, err := startClock()
	if err != nil {
		return m, err
	}
	var failed atomic.Int64
	problem := parallel(len(calls), len(calls), func(i int) error {
		_, err := run(calls[i]...)
		if err != nil {
			failed.Add(1)
		}
		return err
	})
	up, last := n, time.Now()
	if !c.noSidecar {
		up, last = await(files)
	}
	if c.ours() || c.noSidecar {
		up = min(up, n-int(failed.Load())) // whatever else came up
	}
	if m, err = clock.stop(last); err != nil {
		return m, err
	}
	m.up = up
	if problem != nil {
		first, _, _ := strings.Cut(problem.Error(), "\n")
		say("%s, one of those that failed: %s", c.name, first)
	}
	if up < n && !c.mayLose {
		b.try(c, fmt.Errorf("of %d at once, %d came up", n, up))
	}
	if c.noSidecar {
		return m, nil
	}
	after, err := memory()
	if err != nil {
		return m, err
	}
	if up > 0 {
		m.memory = (after - before) / int64(up)
	}
	if c.ours() {
		m.peak, err = resident(c, "VmHWM")
		if err == nil && m.peak == 0 {
			err = fmt.Errorf("%s has ended", c.activator())
		}
	}
	return m, err
}

// resident returns the bytes that an activator has in memory, by a name of
// /proc/PID/status; 0 if it does not run.
func resident(c *contender, name string) (int64, error) {
	pid, err := output("systemctl", "show", "--value", "--property=MainPID", c.activator())
	if err != nil || pid == "0" {
		return 0, err
	}
	kB, _ := field(filepath.Join("/proc", pid, "status"), name) // not there, if it has ended meanwhile
	return kB << 10, nil
}

// idle looks what is left of the activators when nobody has called for longer
// than they stay.
func (b *bench) idle() error {
	const stay = 30 * time.Second // idle_timeout
	say("waiting until activators have nothing to do")
	time.Sleep(stay + stay/2)
	for _, c := range b.contenders {
		if !c.ours() {
			continue
		}
		bytes, err := resident(c, "VmRSS")
		if err != nil {
			return err
		}
		b.facts.idle += bytes
	}
	return nil
}

// client measures the client: its size, how long it takes to start, and how
// much CPU time it takes in a call.
func (b *bench) client() error {
	say("client")
	client := layout.ClientBinary()
	info, err := os.Stat(client)
	if err != nil {
		return err
	}
	b.facts.clientSize = info.Size()
	if b.done(clientRounds) {
		return nil
	}

	c := find(b.contenders, systemd)
	s := c.sidecar("client")
	if _, _, err := start(s); err != nil {
		return fmt.Errorf("starting a sidecar: %w", err)
	}
	// A call for what runs already does all that the client does. The wrapper is
	// a script that ends in the client where this one ends.
	script := filepath.Join(dir, nothing)
	if err := os.WriteFile(script, []byte("#!/bin/sh\n:\n"), 0o755); err != nil {
		return err
	}
	commands := map[figure]map[string][]string{
		startUp: {ourClient: {client, "--version"}, nothing: {"true"}},
		again:   {ourClient: c.call(s), nothing: s.inside(script)},
	}
	err = b.rounds(clientRounds, func() error {
		for figure, pair := range commands {
			for name, command := range pair {
				m, err := measureOwn(command...)
				if err != nil {
					return err
				}
				b.add(key{figure, name, 0}, m)
			}
		}
		return nil
	})
	return errors.Join(err, c.clear(nil))
}

const clientRounds = "client"

// generator measures the generator beside a program that only reads the same
// definitions and writes the same units.
func (b *bench) generator() error {
	work, err := os.MkdirTemp("", "generator")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, n := range b.plan.definitions {
		say("generator, %d definitions", n)
		root := filepath.Join(work, strconv.Itoa(n))
		made, written, archive := filepath.Join(work, "made"), filepath.Join(work, "written"), filepath.Join(work, "units.tar")
		definitions := filepath.Join(root, "etc/tripleo-wrappers")
		if err := errors.Join(writeDefinitions(definitions, n), copyHostUnits(root)); err != nil {
			return err
		}
		const fill = "rm -rf %[1]s && mkdir %[1]s && %[2]s --root=%[3]s %[1]s %[1]s %[1]s && tar --create --file=%[4]s --directory=%[1]s ."
		if err := shell(fill, made, generator, root, archive); err != nil {
			return err
		}
		err := b.rounds(fmt.Sprintf("generator, %d definitions", n), func() error {
			for _, dir := range []string{made, written} {
				if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
					return err
				}
			}
			commands := map[figure][]string{
				generated: {generator, "--root=" + root, made, made, made},
				copied:    {self, copyCommand, definitions, archive, written},
			}
			for figure, command := range commands { // in any order
				m, err := measure(command...)
				if err != nil {
					return err
				}
				b.add(key{figure, "", n}, m)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// writeDefinitions writes definitions such as a host with containers has.
func writeDefinitions(dir string, n int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	const definition = `# Sidecars of the DHCP agent.
service_dir = "/var/lib/neutron"
service_kill_script = "dnsmasq-kill"
container_cli = "podman"
image_name = "quay.io/tripleomastercentos9/openstack-neutron-dhcp-agent:current-tripleo"
config_bind_mount = "/var/lib/config-data/puppet-generated/neutron/etc/neutron:/etc/neutron:ro"
cmd = "/usr/sbin/dnsmasq -k"

[ready]
pid_file_option = ["--pid-file", "-x"]
`
	for i := range n {
		name := filepath.Join(dir, fmt.Sprintf("neutron-dnsmasq-%d.toml", i))
		if err := os.WriteFile(name, []byte(definition), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// copyHostUnits has a root directory have the host's own units, whose names the
// generator reads.
func copyHostUnits(root string) error {
	const units = "usr/lib/systemd/system"
	if err := os.CopyFS(filepath.Join(root, units), os.DirFS("/"+units)); err != nil {
		return err
	}
	return os.Symlink("usr/lib", filepath.Join(root, "lib"))
}

// copyCommand has this program read definitions and write units, and do nothing
// else: the limit of the generator. It has the units from an archive, which
// takes less to read than they take to write.
const copyCommand = "copy"

func copyUnits(definitions, archive, to string) error {
	err := filepath.WalkDir(definitions, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			_, err = os.ReadFile(name)
		}
		return err
	})
	if err != nil {
		return err
	}
	content, err := os.ReadFile(archive)
	if err != nil {
		return err
	}
	units := tar.NewReader(bytes.NewReader(content))
	for {
		unit, err := units.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = writeUnit(filepath.Join(to, unit.Name), unit, units)
		}
		if err != nil {
			return err
		}
	}
}

func writeUnit(name string, unit *tar.Header, content io.Reader) error {
	switch unit.Typeflag {
	case tar.TypeDir:
		return os.MkdirAll(name, 0o755)
	case tar.TypeSymlink:
		return os.Symlink(unit.Linkname, name)
	}
	text, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	// As the generator does, which spares what os.WriteFile asks of the kernel.
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, text)
	return errors.Join(err, unix.Close(fd))
}
