// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// rows are all faults, in the order of the table.
var rows = []row{
	{"burst-cold", "burst from as many namespaces, activator cold", 60, 1000, burstCold},
	{"burst-warm", "the same burst again, with as many running", 60, 1000, burstWarm},
	{"burst-podman", "burst, Podman", 20, 200, burstPodman},
	{"one-namespace", "burst in one namespace, two argument lists in turn", 40, 200, oneNamespace},
	{"kill-activator", "activator killed (-9) every 50 ms, at most 100 times", 60, 300, killActivator},
	{"daemon-reload", "systemctl daemon-reload in a loop", 60, 300, systemctlLoop(1000, "daemon-reload")},
	{"daemon-reexec", "systemctl daemon-reexec in a loop", 60, 300, systemctlLoop(1000, "daemon-reexec")},
	{"restart-socket", "systemctl restart of the socket, 30 times in a row", 60, 300, systemctlLoop(30, "restart", ".socket")},
	{"stop-service", "systemctl stop of the activator, 30 times in a row", 60, 300, systemctlLoop(30, "stop", ".service")},
	{"socket-away", "socket away, then back", 60, 300, socketAway},
	{"two-wrappers", "the role's shell wrapper and ours spool at once", 40, 300, twoWrappers},
	{"spool-retried", "Podman fails at first, once for each that the role's shell wrapper spooled", 10, 100, spoolRetried},
	{"disk-full", "file system of service_dir full, then room again", 20, 100, diskFull},
	{"read-only", "file system of service_dir read-only, then writable again", 20, 100, readOnly},
	{"run-full", "/run full, then room again", 20, 100, runFull},
	{"no-dbus", "dbus-daemon stopped", 20, 100, noDBus},
	{"no-private-socket", "systemd's private socket unusable", 20, 100, noPrivateSocket},
	{"podman-slow", "Podman slow (30 s; in the short run 3 s)", 5, 40, podmanSlow},
	{"podman-hangs", "Podman hangs", 3, 40, podmanHangs},
	{"podman-fails", "Podman fails one time in three", 15, 90, podmanFails},
	{"image-gone", "the image disappears, then is back", 10, 60, imageGone},
	{"name-taken", "containers left over in state Created", 10, 60, nameTaken},
	{"netns-deleted", "namespaces deleted before, during and after the start", 30, 300, netnsDeleted},
	{"netns-remade", "namespaces made again with a sidecar in the old one", 10, 100, netnsRemade},
	{"dying", "sidecars die at random; others are killed on purpose", 20, 100, dying},
	{"definition", "definition edited, broken, removed and put back", 10, 60, definitionChanges},
	{"slow-clients", "200 clients that say nothing or a byte a second", 20, 100, slowClients},
}

// rebootRow is injected by the caller of this program, see reboot.go.
var rebootRow = row{name: "reboot", fault: "reboot with a spool left behind; half of the namespaces are there again", short: 20, long: 200}

func burstCold(n int) *scene {
	s := newScene("systemd", n)
	s.burst(s.namespaces)
	return s
}

func burstWarm(n int) *scene {
	s := newScene("systemd", 2*n)
	s.burst(s.namespaces[:n])
	s.burst(s.namespaces[n:])
	s.burst(s.namespaces[:n/10]) // some of those that run already
	return s
}

func burstPodman(n int) *scene {
	s := newScene("podman", n)
	s.burst(s.namespaces)
	return s
}

func oneNamespace(n int) *scene {
	s := newScene("systemd", 1)
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() { s.callAgain(s.namespaces[0], fmt.Sprintf("--dhcp-option=5,10.0.0.%d", i%2)) })
	}
	calls.Wait()
	// Which of them came last is nobody's to say, but this one did.
	s.call(s.namespaces[0])
	return s
}

func killActivator(n int) *scene {
	s := newScene("systemd", n)
	killed := 0
	during(func() { s.burst(s.namespaces) }, 50*time.Millisecond, 100, func(int) {
		if pid := s.activatorPID(); pid > 1 && try("kill", "-9", strconv.Itoa(pid)) {
			killed++
		}
	})
	if killed == 0 {
		s.problem("the activator was never killed")
	}
	return s
}

// systemctlLoop calls systemctl again and again during a burst, at most so many
// times: an activator is not up for long enough to serve anything when its
// socket is restarted or it is stopped all the time, and requests wait until
// that ends.
func systemctlLoop(most int, verb string, suffix ...string) func(int) *scene {
	return func(n int) *scene {
		s := newScene("systemd", n)
		arguments := []string{verb}
		for _, suffix := range suffix {
			arguments = append(arguments, s.name+suffix)
		}
		during(func() { s.burst(s.namespaces) }, 100*time.Millisecond, most, func(int) { try("systemctl", arguments...) })
		return s
	}
}

// away stops the socket and what would bring it back, the path unit included.
func (s *scene) away() {
	sh("systemctl stop tripleo-wrappers.target")
	sh("systemctl stop " + s.name + ".socket " + s.name + ".service")
}

func (s *scene) back() { sh("systemctl start tripleo-wrappers.target") }

func socketAway(n int) *scene {
	s := newScene("systemd", n)
	s.away()
	var calls sync.WaitGroup
	calls.Go(func() { s.burst(s.namespaces) })
	eventually("requests are spooled", func() bool {
		content, err := os.ReadFile(s.state("processes"))
		return err == nil && strings.Count(string(content), "\n") >= n
	})
	s.back()
	calls.Wait()
	return s
}

// roleWrapper is a wrapper that works as the role's did (its templates/
// service_wrapper.j2): a line appended and the time stamp changed, under a lock
// that nobody else has.
const roleWrapper = `#!/bin/bash
ARGS="$@"
NETNS=$(ip netns identify)
exec {lock}>%[1]s || exit 1
flock $lock
echo "$NETNS $ARGS" >> %[2]s
date > %[3]s
`

func roleLock(service string) string { return "/var/lock/" + service + "-processes.lock" }

func twoWrappers(n int) *scene {
	s := newScene("systemd", n)
	s.spool(true)()
	s.awaitSpool()
	s.back()
	return s
}

func spoolRetried(n int) *scene {
	s := newScene("podman", n)
	// For each once, however long all of them take: none is given up.
	tried := filepath.Join("/run", s.name+"-tried")
	check(os.Mkdir(tried, 0o700))
	defer os.RemoveAll(tried)
	restore := fakePodman(`[ "$1" = run ] && for option; do case $option in
--name=` + s.name + `-*) mkdir "` + tried + `/${option#*=}" 2>/dev/null && { echo "no luck" >&2; exit 125; } ;;
esac; done`)
	s.spool(false)()
	s.awaitSpool()
	restore()
	failed, err := os.ReadDir(tried)
	check(err)
	if len(failed) != n {
		s.problem("Podman failed for %d of %d", len(failed), n)
	}
	s.back()
	return s
}

// spool has the role's wrapper called, or it and ours in turn, while the socket
// is away and the spool is watched. It returns a function that waits for them.
func (s *scene) spool(both bool) (wait func()) {
	old := filepath.Join(s.dir, "old-wrapper")
	text := fmt.Sprintf(roleWrapper, roleLock(s.name), s.state("processes"), s.state("processes-timestamp"))
	check(os.WriteFile(old, []byte(text), 0o755))
	s.away()
	sh("systemctl start " + s.name + ".path")
	var calls sync.WaitGroup
	for i, netns := range s.namespaces {
		calls.Go(func() {
			if !both || i%2 == 0 {
				s.callWith(old, netns)
			} else {
				s.call(netns)
			}
		})
	}
	return calls.Wait
}

// awaitSpool waits until what was spooled has been served or given up, for callers
// that do not wait themselves. A pid file would not do: where systemd is quicker to
// start one again that failed than the activator is to stop it, it is of a process
// that ends before the next try. What is missing at the end is found by settle.
func (s *scene) awaitSpool() {
	deadline := time.Now().Add(5 * time.Minute)
	for time.Now().Before(deadline) {
		_, err := os.Stat(s.state("processes"))
		taken, _ := filepath.Glob(s.state("processes.taken-*"))
		if errors.Is(err, os.ErrNotExist) && len(taken) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// onSmallDisk gives a scene's service_dir a file system of its own.
func onSmallDisk(s *scene) {
	check(os.MkdirAll(s.dir, 0o755))
	check(command("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", s.dir))
}

func diskFull(n int) *scene {
	s := newScene("systemd", 2*n, onSmallDisk)
	filler := filepath.Join(s.dir, "filler")
	try("dd", "if=/dev/zero", "of="+filler, "bs=1M")
	try("dd", "if=/dev/zero", "of="+filler+"2", "bs=1")
	s.burst(s.namespaces[:n])
	// The same with the socket away: nothing can be spooled.
	s.away()
	s.burst(s.namespaces[:n])
	os.Remove(filler)
	os.Remove(filler + "2")
	s.back()
	s.burst(s.namespaces)
	s.mustAllRun()
	return s
}

// mustAllRun holds that every namespace's last call succeeded.
func (s *scene) mustAllRun() {
	last := map[string]*request{}
	for _, r := range s.requests {
		last[r.netns] = r
	}
	for _, netns := range s.namespaces {
		if r := last[netns]; r == nil || r.status != 0 {
			s.problem("%s: the fault is over and a call still fails: %+v\n%s", netns, r,
				output("journalctl", "--quiet", "--output=short-precise", "--lines=60", "--unit="+s.name+"@"+netns+".service"))
		}
	}
}

func readOnly(n int) *scene {
	s := newScene("systemd", 2*n, onSmallDisk)
	check(command("mount", "-o", "remount,ro", s.dir))
	s.burst(s.namespaces[:n])
	s.away()
	s.burst(s.namespaces[:n])
	check(command("mount", "-o", "remount,rw", s.dir))
	s.back()
	s.burst(s.namespaces)
	s.mustAllRun()
	return s
}

// runFull fills a file system of the size of a few arguments in the place of
// the service's part of /run: filling /run itself would stop systemd, and what
// would be measured then is systemd.
func runFull(n int) *scene {
	s := newScene("systemd", 2*n, func(s *scene) {
		dir := "/run/tripleo-wrappers/" + s.name
		check(os.MkdirAll(dir, 0o700))
		check(command("mount", "-t", "tmpfs", "-o", "size=32k,mode=0700", "tmpfs", dir))
	})
	dir := "/run/tripleo-wrappers/" + s.name
	defer try("umount", "--lazy", dir)
	s.burst(s.namespaces[:n]) // some fit
	check(command("mount", "-o", "remount,size=64m", dir))
	s.burst(s.namespaces)
	s.mustAllRun()
	return s
}

func noDBus(n int) *scene {
	s := newScene("systemd", n)
	sh("systemctl stop dbus.socket dbus.service")
	defer sh("systemctl start dbus.socket dbus.service")
	s.burst(s.namespaces)
	s.mustAllRun()
	return s
}

func noPrivateSocket(n int) *scene {
	s := newScene("systemd", n)
	sh("mount --bind /dev/null /run/systemd/private")
	defer try("umount", "/run/systemd/private")
	s.burst(s.namespaces)
	s.mustAllRun()
	return s
}

// fakePodman puts a program before the real Podman that may be slow, hang or
// fail, and else becomes the real one.
func fakePodman(script string) (restore func()) {
	const fake = "/usr/local/bin/podman"
	check(os.WriteFile(fake, []byte("#!/bin/sh\n"+script+"\nexec /usr/bin/podman \"$@\"\n"), 0o755))
	return func() { os.Remove(fake) }
}

func podmanSlow(n int) *scene {
	s := newScene("podman", n)
	delay := "30"
	if n < 20 {
		delay = "3"
	}
	defer fakePodman(`[ "$1" = run ] && sleep ` + delay)()
	s.burst(s.namespaces)
	s.mustAllRun()
	return s
}

func podmanHangs(n int) *scene {
	s := newScene("podman", n, func(s *scene) { s.timeout = "5s" })
	restore := fakePodman(`[ "$1" = run ] && sleep 1000`)
	s.burst(s.namespaces)
	restore()
	s.burst(s.namespaces)
	s.mustAllRun()
	return s
}

func podmanFails(n int) *scene {
	s := newScene("podman", n)
	restore := fakePodman(`[ "$1" = run ] && [ $(($(od -An -N1 -tu1 /dev/urandom) % 3)) = 0 ] && { echo "no luck" >&2; exit 125; }`)
	s.burst(s.namespaces)
	for _, r := range s.requests {
		if r.status != 0 && !strings.Contains(r.stderr, "no luck") {
			s.problem("%s: the caller was not told Podman's reason: %s", r.netns, r.stderr)
		}
	}
	restore()
	s.burst(s.namespaces)
	s.mustAllRun()
	return s
}

func imageGone(n int) *scene {
	s := newScene("podman", 2*n)
	s.burst(s.namespaces[:n])
	sh("podman tag localhost/agent localhost/kept && podman untag localhost/agent localhost/agent")
	s.burst(s.namespaces[n:])
	sh("podman tag localhost/kept localhost/agent && podman untag localhost/kept localhost/kept")
	s.burst(s.namespaces)
	s.mustAllRun()
	return s
}

func nameTaken(n int) *scene {
	s := newScene("podman", n)
	parallel(2, n, func(i int) {
		check(command("podman", "create", "--name="+s.name+"-"+s.namespaces[i], "localhost/agent", "sleep", "1"))
	})
	s.burst(s.namespaces)
	s.mustAllRun()
	return s
}

func netnsDeleted(n int) *scene {
	s := newScene("systemd", n)
	third := n / 3
	remove := func(netns string) {
		s.gone[netns] = true
		check(command("ip", "netns", "del", netns))
	}
	for _, netns := range s.namespaces[:third] { // before
		remove(netns)
	}
	var calls sync.WaitGroup
	calls.Go(func() { s.burst(s.namespaces) })
	for _, netns := range s.namespaces[third : 2*third] { // during
		time.Sleep(2 * time.Millisecond)
		remove(netns)
	}
	calls.Wait()
	for _, netns := range s.namespaces[2*third : 2*third+third/2] { // after
		remove(netns)
	}
	// Any call has the activator look around.
	s.call(s.namespaces[n-1])
	sh("systemctl stop " + s.name + ".service")
	s.call(s.namespaces[n-1])
	eventually("sidecars without a namespace are stopped", func() bool {
		for pidFile := range dnsmasqs() {
			if s.gone[filepath.Base(filepath.Dir(pidFile))] {
				return false
			}
		}
		return true
	})
	return s
}

func netnsRemade(n int) *scene {
	s := newScene("systemd", n)
	s.burst(s.namespaces)
	parallel(4, n, func(i int) {
		check(command("ip", "netns", "del", s.namespaces[i]))
		check(command("ip", "netns", "add", s.namespaces[i]))
	})
	s.burst(s.namespaces)
	s.mustAllRun()
	return s
}

func dying(n int) *scene {
	s := newScene("systemd", 2*n)
	s.burst(s.namespaces)
	old := map[string]string{}
	for _, netns := range s.namespaces {
		pid, err := s.pid(netns)
		check(err)
		old[netns] = strconv.Itoa(pid)
	}
	began := time.Now()
	for i, netns := range s.namespaces[:n] {
		check(command("kill", "-"+[]string{"SEGV", "ABRT", "BUS"}[i%3], old[netns]))
	}
	for i, netns := range s.namespaces[n:] {
		s.stopped[netns] = true
		switch i % 4 {
		case 0:
			check(command("kill", "-9", old[netns]))
		case 1:
			check(command("kill", "-15", old[netns]))
		case 2:
			check(command(s.dir+"/kill_scripts/fault-kill", "9", old[netns]))
		case 3:
			check(command(s.dir+"/kill_scripts/fault-kill", "15", old[netns]))
		}
	}
	for _, netns := range s.namespaces[:n] {
		eventually(netns+" is back", func() bool {
			pid, err := s.pid(netns)
			return err == nil && strconv.Itoa(pid) != old[netns]
		})
	}
	// Without systemd, Neutron's process monitor would bring them back, which looks
	// once a minute (check_child_processes_interval).
	if took := time.Since(began); took > 30*time.Second {
		s.problem("sidecars that died were back only after %v", took)
	}
	time.Sleep(3 * time.Second)
	running := dnsmasqs()
	for _, netns := range s.namespaces[n:] {
		if len(running[s.pidFile(netns)]) > 0 {
			s.problem("%s was killed on purpose and is back", netns)
		}
	}
	return s
}

func definitionChanges(n int) *scene {
	s := newScene("systemd", 2*n)
	s.burst(s.namespaces[:n])
	before := dnsmasqs()
	untouched := func(when string) {
		now := dnsmasqs()
		for _, netns := range s.namespaces[:n] {
			if fmt.Sprint(now[s.pidFile(netns)]) != fmt.Sprint(before[s.pidFile(netns)]) {
				s.problem("%s: the sidecar was touched when the definition was %s", netns, when)
			}
		}
	}
	stop := s.stream(s.namespaces[n:])
	s.extra = `idle_timeout = "7s"`
	s.define()
	time.Sleep(time.Second)
	stop()
	untouched("edited")

	good := s.extra
	s.extra = "brok en"
	s.define()
	time.Sleep(time.Second)
	untouched("broken")
	var calls sync.WaitGroup
	calls.Go(func() { s.burst(s.namespaces[n:]) })
	time.Sleep(time.Second)
	s.extra = good
	s.define()
	calls.Wait()
	untouched("mended")

	check(os.Remove(s.definition()))
	sh("systemctl daemon-reload")
	time.Sleep(time.Second)
	untouched("removed")
	var away sync.WaitGroup
	away.Go(func() { s.burst(s.namespaces[n:]) })
	time.Sleep(time.Second)
	s.define()
	away.Wait()
	untouched("put back")
	s.burst(s.namespaces[n:])
	s.mustAllRun()
	return s
}

func slowClients(n int) *scene {
	s := newScene("systemd", n)
	alone := s.typical("--domain=alone")
	const clients = 200
	quit := make(chan struct{})
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() {
			for {
				conn, err := net.Dial("unix", s.state("activator.sock"))
				if err != nil {
					time.Sleep(100 * time.Millisecond)
				}
				for alive := err == nil; alive; {
					if i%2 == 0 {
						_, err := conn.Write([]byte("x"))
						alive = err == nil
					}
					select {
					case <-quit:
						conn.Close()
						return
					case <-time.After(time.Second):
					}
					if i%2 == 1 {
						conn.SetReadDeadline(time.Now().Add(time.Millisecond))
						_, err := conn.Read(make([]byte, 1))
						timeout, ok := err.(net.Error)
						alive = ok && timeout.Timeout()
					}
				}
				if conn != nil {
					conn.Close()
				}
				select {
				case <-quit:
					return
				default:
				}
			}
		})
	}
	time.Sleep(2 * time.Second)
	// What a machine that is slow takes for the same calls by themselves is not the
	// slow clients' fault.
	if took := s.typical(); took > time.Second+2*alone {
		s.problem("honest calls took %v, and %v by themselves", took, alone)
	}
	close(quit)
	group.Wait()
	s.mustAllRun()
	return s
}

// typical makes a call in each namespace, one after the other, and returns the
// median of how long they took.
func (s *scene) typical(more ...string) time.Duration {
	var took []time.Duration
	for _, netns := range s.namespaces {
		took = append(took, s.call(netns, more...).took)
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// callAgain is a call that leaves the pid file to the sidecar: others are
// calling for the same one.
func (s *scene) callAgain(netns string, more ...string) {
	r := &request{netns: netns, arguments: append(s.arguments(netns), more...), returned: true}
	command := append([]string{"netns", "exec", netns, s.state("wrapper")}, r.arguments...)
	if out, err := exec.Command("ip", command...).CombinedOutput(); err != nil {
		s.problem("%s: %v: %s", netns, err, out)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
}
