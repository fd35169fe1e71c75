// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What the Ansible role tripleo-systemd-wrapper puts on a host, in the shape of its
// templates and in our words.
var roleFiles = map[string]string{
	"/etc/systemd/system/@NAME@.path": `[Path]
PathModified=@DIR@/@NAME@/processes-timestamp

[Install]
WantedBy=multi-user.target
`,
	// KillMode= is what hosts needed where Podman leaves conmon in this unit. So it
	// is the harder case: conmon is where the activator will be.
	"/etc/systemd/system/@NAME@.service": `[Unit]
Description=Tripleo @NAME@ sync service

[Service]
Type=oneshot
ExecStart=@DIR@/@NAME@/sync
User=root
KillMode=process
`,
	"@DIR@/@NAME@/command": `#!/bin/sh
exec /usr/sbin/dnsmasq -k $@
`,
	"@DIR@/@NAME@/wrapper": `#!/usr/bin/env bash
NETNS=$(ip netns identify)
exec {lock}>/var/lock/@NAME@-processes.lock || exit 1
flock "$lock"
echo "$NETNS $*" >> @DIR@/@NAME@/processes
date > @DIR@/@NAME@/processes-timestamp
flock -u "$lock"
`,
	"@DIR@/@NAME@/sync": `#!/usr/bin/env bash
jobs=@DIR@/@NAME@/processes
[ -s "$jobs" ] || exit 0
exec {lock}>/var/lock/@NAME@-processes.lock || exit 1
flock -w 10 "$lock" || exit 1
while read -r netns args; do
    name=@NAME@-$netns
    [ -z "$(@CLI@ ps --quiet --filter "name=^$name\$")" ] || continue
    @CLI@ rm -f "$name" >/dev/null 2>&1
    @CLI@ run --detach @OPTIONS@ -v /run/netns:/run/netns:shared -v @DIR@:@DIR@:shared -v /dev/log:/dev/log \
        --net host --pid host -u root --name "$name" localhost/agent \
        ip netns exec "$netns" @DIR@/@NAME@/command $args </dev/null {lock}>&-
done < "$jobs"
: > "$jobs"
flock -u "$lock"
`,
	"@DIR@/kill_scripts/test-kill": `#!/bin/bash
kill_container() { @CLI@ stop "$1" && @CLI@ rm "$1"; }
signal_container() { @CLI@ kill --signal "$2" "$1"; }
echo "the role's"
`,
}

// putRole puts the role's files in place and has its path unit started, as the
// role does. It returns them by their names.
func putRole(t *testing.T, s *service) map[string]string {
	options := map[string]string{"podman": "--privileged --log-driver k8s-file --log-opt path=/var/log/containers/stdouts/$name.log",
		"docker": "--cap-add=SYS_ADMIN --cap-add=NET_ADMIN --cap-add=NET_RAW"}
	replace := strings.NewReplacer("@NAME@", s.name, "@DIR@", s.dir, "@CLI@", s.engine, "@OPTIONS@", options[s.engine])
	files := map[string]string{}
	for name, text := range roleFiles {
		name = replace.Replace(name)
		files[name] = replace.Replace(text)
		put(t, name, files[name])
		if strings.HasPrefix(name, s.dir) {
			must(t, "chmod", "755", name)
		}
	}
	if s.engine == "podman" {
		put(t, "/var/log/containers/stdouts/.keep", "") // the role has TripleO make it, and its podman run needs it
	}
	t.Cleanup(func() {
		run(t, "systemctl", "disable", "--now", s.name+".path")
		for name := range files {
			os.Remove(name)
		}
	})
	must(t, "systemctl", "daemon-reload")
	must(t, "systemctl", "enable", "--now", s.name+".path")
	return files
}

// Whenever it dies, it is only called again.
func TestAdoptDies(t *testing.T) {
	n := services.Add(1)
	s := &service{t: t, name: fmt.Sprintf("test%d-podman", n), dir: fmt.Sprintf("/var/lib/test%d", n), engine: "podman"}
	t.Cleanup(s.remove)
	putRole(t, s)
	var all []*netns
	pids := map[*netns]int{}
	for range 3 {
		n := s.netns()
		all = append(all, n)
		pids[n] = s.askRole(n, s.state("wrapper"))
	}
	// Asked for with other arguments, and not served yet.
	changed := s.netns()
	old := s.askRole(changed, s.state("wrapper"))
	must(t, "systemctl", "stop", s.name+".path")
	if r := s.call(changed, changed.arguments("--log-dhcp")...); r.status != 0 {
		t.Fatal(r.stderr)
	}
	s.write(dnsmasq)
	for _, after := range []string{"0.02", "0.1", "0.2", "0.3", "0.4"} {
		run(t, "timeout", "--signal=KILL", after, "tripleo-wrapperctl", "adopt", s.name)
	}
	must(t, "tripleo-wrapperctl", "adopt", s.name)
	for _, n := range all {
		if now := n.pid(t); now != pids[n] {
			t.Errorf("%s: process %d is now %d", n.name, pids[n], now)
		}
		s.checkOwner(n, pids[n])
	}
	if again := adopt(t, s.name); again.Changed {
		t.Errorf("%+v", again)
	}
	eventually(t, "what was asked for last is served", func() bool {
		now := helpers(t, changed)
		return len(now) == 1 && now[0] != old && contains(cmdline(t, now[0]), "--log-dhcp")
	})
	last := s.netns()
	s.start(last)
}

// What an operator wrote is nobody else's to move.
func TestAdoptRefuses(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	if a := adopt(t, s.name); a.Changed {
		t.Errorf("nothing to adopt: %+v", a)
	}
	mine := "/etc/systemd/system/" + s.name + ".path"
	put(t, mine, "[Path]\nPathExists=/etc/mine\n")
	defer os.Remove(mine)
	mention(t, control(t, 1, "adopt", s.name), mine, "is not the role's")
	if notThere(mine) {
		t.Error("it is gone")
	}
	os.Remove(mine)

	// systemd cannot take a container over, and must not run a second helper.
	n := s.netns()
	name := s.name + "-" + n.name
	must(t, "podman", "run", "--detach", "--name="+name, "--network=ns:/run/netns/"+n.name, "--pid=host", "--privileged", "localhost/agent", "sleep", "1000")
	t.Cleanup(func() { run(t, "podman", "rm", "--force", "--time=0", name) })
	mention(t, control(t, 1, "adopt", s.name), name, "container_cli")
}

// adoption is what adopt --json prints.
type adoption struct {
	Changed    bool
	Files      []string
	Waiting    []string
	Containers []struct {
		Container, Netns, Done, Why string
		PID                         int
	}
}

func adopt(t *testing.T, args ...string) adoption {
	t.Helper()
	var a adoption
	r := control(t, 0, append([]string{"adopt", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(r.stdout), &a); err != nil {
		t.Fatalf("%v:\n%s", err, r.stdout)
	}
	return a
}

// done returns what was done with the container in a network namespace.
func (a adoption) done(n *netns) string {
	for _, container := range a.Containers {
		if container.Netns == n.name {
			return container.Done
		}
	}
	return ""
}

// pid waits for the process that a pid file names and that is in the network
// namespace.
func (n *netns) pid(t testing.TB) int {
	t.Helper()
	var pid int
	eventually(t, n.name+" has a helper", func() bool {
		content, err := os.ReadFile(n.pidFile)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(content)))
		return err == nil && alive(pid)
	})
	return pid
}

// askRole calls the role's wrapper and waits for the helper. Its path unit sees
// nothing while its service runs, and so loses requests; the time stamp is changed
// until this one is served, but no more often than systemd lets the service start
// (five times in 10 s), after which the path unit has failed for good.
func (s *service) askRole(n *netns, wrapper string) int {
	s.t.Helper()
	if r := s.callFile(n, wrapper, n.arguments()...); r.status != 0 {
		s.t.Fatalf("the role's wrapper: exit status %d\n%s", r.status, r.stderr)
	}
	changed := time.Now()
	eventually(s.t, n.name+" is served by the role", func() bool {
		if time.Since(changed) > 3*time.Second {
			changed = time.Now()
			put(s.t, s.state("processes-timestamp"), changed.String())
		}
		return !notThere(n.pidFile)
	})
	return n.pid(s.t)
}

// helpers returns the dnsmasq processes in a network namespace.
func helpers(t *testing.T, n *netns) []int {
	t.Helper()
	var pids []int
	for _, field := range strings.Fields(run(t, "ip", "netns", "pids", n.name).stdout) {
		pid, err := strconv.Atoi(field)
		if name, readErr := os.ReadFile(filepath.Join("/proc", field, "comm")); err == nil && readErr == nil && string(name) == "dnsmasq\n" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// A host of the role's is adopted while its agents go on calling the wrapper that
// they have, and given back to the role.
func TestAdoptRole(t *testing.T) {
	for _, engine := range []string{"podman", "docker"} {
		t.Run(engine, func(t *testing.T) { testAdoptRole(t, engine) })
	}
}

func testAdoptRole(t *testing.T, engine string) {
	n := services.Add(1)
	s := &service{t: t, name: fmt.Sprintf("test%d-%s", n, engine), dir: fmt.Sprintf("/var/lib/test%d", n), engine: engine}
	t.Cleanup(s.remove)
	files := putRole(t, s)
	t.Cleanup(func() { // before the namespaces go
		for _, id := range strings.Fields(run(t, engine, "ps", "--all", "--quiet", "--filter=name=^"+s.name+"-").stdout) {
			run(t, engine, "rm", "--force", id)
		}
	})
	// An agent has the wrapper mounted.
	mounted := filepath.Join(t.TempDir(), "dnsmasq")
	put(t, mounted, "")
	must(t, "mount", "--bind", s.state("wrapper"), mounted)
	t.Cleanup(func() { run(t, "umount", mounted) })
	ask := func(n *netns) {
		if r := s.callFile(n, mounted, n.arguments()...); r.status != 0 {
			t.Errorf("the role's wrapper: exit status %d\n%s", r.status, r.stderr)
		}
	}

	var before []*netns
	pids := map[*netns]int{}
	for range 4 {
		n := s.netns()
		before = append(before, n)
		pids[n] = s.askRole(n, mounted)
	}

	// The definition, and systemd reads it before anybody adopts the service.
	s.write(strings.Replace(dnsmasq, `"/usr/sbin/dnsmasq -k"`, `"exec $(echo /usr/sbin/dnsmasq) -k"`, 1))
	must(t, "systemctl", "daemon-reload")

	// Nothing is changed by --dry-run.
	planned := adopt(t, "--dry-run", s.name)
	if !planned.Changed || len(planned.Files) != 3 || len(planned.Containers) != len(before) {
		t.Errorf("--dry-run: %+v", planned)
	}
	for name := range files {
		if strings.HasPrefix(name, "/etc/") && notThere(name) {
			t.Errorf("%s is gone after --dry-run", name)
		}
	}

	// Requests come all the time: for new namespaces, and for those that have a
	// helper.
	var during []*netns
	for range 6 {
		during = append(during, s.netns())
	}
	var stream sync.WaitGroup
	stream.Go(func() {
		for i, n := range during {
			ask(n)
			ask(before[i%len(before)])
		}
	})
	result := adopt(t, s.name)
	stream.Wait()
	if !result.Changed || !slices.Equal(result.Files, planned.Files) {
		t.Errorf("%+v", result)
	}
	for _, n := range before {
		if done := result.done(n); done != "taken over" {
			t.Errorf("%s: %q: %+v", n.name, done, result)
		}
	}
	for _, n := range during {
		n.pid(t)
	}
	eventually(t, "all are sidecars", func() bool { return s.running() == len(before)+len(during) })
	eventually(t, "the spool is served", func() bool { return notThere(s.state("processes")) && notThere(s.state("processes.taken-0")) })

	// The activator has the name of the role's service, and with it the control
	// group in which that left conmon.
	must(t, "systemctl", "stop", s.name+".service")

	// The processes are what they were, once in each namespace.
	listed := s.list()
	for _, n := range before {
		if now := n.pid(t); now != pids[n] {
			t.Errorf("%s: process %d is now %d", n.name, pids[n], now)
		}
		s.checkOwner(n, pids[n])
		if l := listed[n.name]; l.State != "running" || !l.Outdated || l.PID != pids[n] {
			t.Errorf("listed as %+v", l)
		}
	}
	for _, n := range slices.Concat(before, during) {
		if pids := helpers(t, n); len(pids) != 1 {
			t.Errorf("%s has the helpers %v", n.name, pids)
		}
	}
	if again := adopt(t, s.name); again.Changed || len(again.Files) > 0 || len(again.Containers) > 0 {
		t.Errorf("the second time: %+v", again)
	}
	left, _ := filepath.Glob("/run/systemd/system*/" + s.name + "*")
	if len(left) > 0 {
		t.Errorf("left over: %q", left)
	}

	// The new wrapper: with the same arguments, and with others.
	n0 := before[0]
	content, err := os.ReadFile(n0.pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if r := s.call(n0, n0.arguments()...); r.status != 0 || n0.pid(t) != pids[n0] {
		t.Errorf("the same arguments: exit status %d, process %s is now %d\n%s", r.status, content, n0.pid(t), r.stderr)
	}
	if r := s.call(n0, n0.arguments("--log-dhcp")...); r.status != 0 {
		t.Fatalf("other arguments: exit status %d\n%s", r.status, r.stderr)
	}
	if now := helpers(t, n0); len(now) != 1 || now[0] == pids[n0] {
		t.Errorf("the helpers are %v, and were %d", now, pids[n0])
	}
	if ids := must(t, engine, "ps", "--all", "--quiet", "--filter=name=^"+s.name+"-"+n0.name); len(strings.Fields(ids)) != 1 {
		t.Errorf("containers: %s", ids)
	}

	// The kill script, and kill(1).
	n1, n2, n3 := before[1], before[2], before[3]
	if r := s.kill("HUP", pids[n1]); r.status != 0 || !alive(pids[n1]) {
		t.Errorf("HUP: exit status %d\n%s", r.status, r.stderr)
	}
	if r := s.kill("9", pids[n1]); r.status != 0 {
		t.Errorf("9: exit status %d\n%s", r.status, r.stderr)
	}
	s.gone(n1, pids[n1])
	must(t, "kill", "-9", strconv.Itoa(pids[n2]))
	eventually(t, "the killed one is gone", func() bool { return show(t, s.unit(n2.name), "ActiveState") == "inactive" })
	s.gone(n2, pids[n2])

	// What the operator does about those that are outdated.
	control(t, 0, "restart", s.name, "--outdated")
	if now := s.list()[n3.name]; now.State != "running" || now.Outdated || now.PID == pids[n3] {
		t.Errorf("restarted: %+v", now)
	}

	// The wrapper that the agent has mounted is the role's still.
	last := s.netns()
	ask(last)
	s.checkOwner(last, last.pid(t))

	// The way back.
	mention(t, control(t, 1, "adopt", "--undo", s.name), "mv "+s.file())
	if err := os.Remove(s.file()); err != nil {
		t.Fatal(err)
	}
	undone := adopt(t, "--undo", s.name)
	if !undone.Changed {
		t.Errorf("undone: %+v", undone)
	}
	for name, want := range files {
		got, err := os.ReadFile(name)
		if err != nil || string(got) != want {
			t.Errorf("%s: error %v\n%s", name, err, got)
		}
	}
	if again := adopt(t, "--undo", s.name); again.Changed {
		t.Errorf("undone twice: %+v", again)
	}
	if state := show(t, s.name+".path", "UnitFileState"); state != "enabled" {
		t.Errorf("%s.path is %s", s.name, state)
	}
	pid := s.askRole(s.netns(), s.state("wrapper"))
	if unit := unitOf(t, pid); strings.HasPrefix(unit, s.name+"@") {
		t.Errorf("process %d is of %s", pid, unit)
	}
}

// putOthers puts an example for another system's wrappers in place, not loaded
// yet, with an image that is there.
func putOthers(t *testing.T, system, name string, changes ...string) *service {
	t.Helper()
	s := &service{t: t, name: name, dir: neutronDir, engine: "podman"}
	content, err := os.ReadFile(filepath.Join(exampleDir, system, name+".toml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(changes...).Replace(string(content))
	image := regexp.MustCompile(`(?m)^image_name = "(.*?)"`).FindStringSubmatch(text)
	mount := regexp.MustCompile(`(?m)^config_bind_mount = "(.*?):`).FindStringSubmatch(text)
	if image == nil || mount == nil {
		t.Fatalf("%s of %s names no image or no configuration", name, system)
	}
	must(t, "podman", "tag", "localhost/agent", image[1])
	t.Cleanup(func() { run(t, "podman", "untag", image[1], image[1]) })
	put(t, filepath.Join(mount[1], "neutron.conf"), "[AGENT]\n")
	put(t, s.file(), text)
	t.Cleanup(s.remove)
	return s
}

// dnsmasq as Kolla's wrapper starts it, with the agent's state in a volume.
func TestAdoptKolla(t *testing.T) {
	const state = "/var/lib/neutron/kolla"
	must(t, "podman", "volume", "create", "neutron_metadata_socket")
	t.Cleanup(func() { run(t, "podman", "volume", "rm", "--force", "neutron_metadata_socket") })
	if err := os.MkdirAll(state, 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "mount", "--bind", must(t, "podman", "volume", "inspect", "--format={{.Mountpoint}}", "neutron_metadata_socket"), state)
	t.Cleanup(func() { run(t, "umount", "--lazy", state) })
	s := putOthers(t, "kolla", "neutron-dnsmasq", `container_cli = "docker"`, `container_cli = "podman"`)
	s.dir = state
	n := s.netns()
	old := "neutron_dhcp_agent_dnsmasq_" + n.name
	start := func(name string) int {
		os.Remove(n.pidFile)
		must(t, append([]string{"nsenter", "--net=/run/netns/" + n.name, "podman", "run", "--rm", "--detach",
			"-v", "/run/netns:/run/netns:shared", "-v", "neutron_metadata_socket:" + state, "-v", "kolla_logs:/var/log/kolla",
			"--net", "host", "--pid", "host", "--cgroupns", "host", "--privileged", "-u", "root", "--name", name,
			"localhost/agent", "/usr/sbin/dnsmasq", "-k"}, n.arguments("--port=0")...)...)
		t.Cleanup(func() { run(t, "podman", "rm", "--force", "--time=0", name, s.name+"-"+n.name) })
		return n.pid(t)
	}
	// Where the name is taken, the wrapper appends a date: there are two, and the
	// agent knows of the second one.
	first := start(old)
	pid := start(old + "_2026-01-02-030405-678901234")

	if a := adopt(t, s.name); a.Changed {
		t.Errorf("by the name of a sidecar: %+v", a)
	}
	a := adopt(t, "--containers=neutron_dhcp_agent_dnsmasq_", s.name)
	if len(a.Containers) != 2 || a.done(n) != "taken over" || a.Containers[1].Done != "left" || a.Containers[1].PID != first {
		t.Fatalf("%+v", a)
	}
	must(t, "tripleo-wrapperctl", "reload")
	s.checkOwner(n, pid)
	if again := adopt(t, "--containers=neutron_dhcp_agent_dnsmasq_", s.name); again.Changed || again.done(n) != "left" {
		t.Errorf("the second time: %+v", again)
	}
	must(t, "podman", "rm", "--force", "--time=0", old) // as the operator is told
	if names := must(t, "podman", "ps", "--all", "--format={{.Names}}", "--filter=name="+n.name); names != s.name+"-"+n.name {
		t.Errorf("containers: %s", names)
	}
	// The wrapper of an agent that does not know of it.
	if r := s.call(n, n.arguments("--port=0")...); r.status != 0 || n.pid(t) != pid || len(helpers(t, n)) != 1 {
		t.Errorf("exit status %d, process %d is now %d of %v\n%s", r.status, pid, n.pid(t), helpers(t, n), r.stderr)
	}
	must(t, "kill", "-9", strconv.Itoa(pid))
	eventually(t, "the killed one is gone", func() bool { return show(t, s.unit(n.name), "ActiveState") == "inactive" })
	s.gone(n, pid)
	s.start(n)
}

// One whose command the definition does not have is left, by the name that is
// told, and is taken over by it when the definition is mended.
func TestAdoptOtherCommand(t *testing.T) {
	s := define(t, "podman", `cmd = ["/bin/other"]`)
	n := s.netns()
	name := s.name + "-" + n.name
	must(t, "nsenter", "--net=/run/netns/"+n.name, "podman", "run", "--rm", "--detach", "--net=host", "--pid=host", "--privileged",
		"--name=kolla_"+n.name, "localhost/agent", "sleep", "1000")
	t.Cleanup(func() { run(t, "podman", "rm", "--force", "--time=0", "kolla_"+n.name, name) })

	a := adopt(t, "--dry-run", "--containers=kolla_", s.name)
	if a.done(n) != "left" || !strings.HasSuffix(a.Containers[0].Why, "remove it: podman rm --force kolla_"+n.name) {
		t.Errorf("dry run: %+v", a)
	}
	a = adopt(t, "--containers=kolla_", s.name)
	if a.done(n) != "left" || !strings.HasSuffix(a.Containers[0].Why, "tripleo-wrapperctl adopt "+s.name+"; or remove it: podman rm --force "+name) {
		t.Errorf("%+v", a)
	}
	if names := must(t, "podman", "ps", "--format={{.Names}}", "--filter=name="+n.name); names != name {
		t.Errorf("containers: %s", names)
	}
	s.write(`cmd = ["sleep"]`)
	control(t, 0, "reload")
	if a := adopt(t, s.name); a.done(n) != "taken over" || !s.active(n) {
		t.Errorf("after the definition is mended: %+v", a)
	}
}

// haproxy as the wrapper of edpm-ansible starts it: from within the agent's
// container, so that conmon is the child of the agent's.
func TestAdoptEDPM(t *testing.T) {
	s := putOthers(t, "edpm", "neutron-haproxy")
	id := "0b1c2d3e-1111-2222-3333-444444444444"
	n := &netns{"ovnmeta-" + id, filepath.Join(neutronDir, "external/pids", id+".pid.haproxy")}
	must(t, "ip", "netns", "add", n.name)
	must(t, "ip", "-n", n.name, "link", "set", "lo", "up")
	name, agent := s.name+"-"+n.name, "ovn_metadata_agent"
	t.Cleanup(func() {
		run(t, "podman", "rm", "--force", "--time=0", agent, name)
		run(t, "ip", "netns", "del", n.name)
	})
	put(t, n.pidFile, "")
	config := filepath.Join(neutronDir, "ovn-metadata-proxy", id+".conf")
	put(t, config, "global\n pidfile "+n.pidFile+"\n daemon\ndefaults\n mode http\n timeout connect 1s\n timeout client 1s\n timeout server 1s\n"+
		"listen l\n bind 127.0.0.1:9697\n server s 127.0.0.1:1\n")
	put(t, "/var/log/containers/stdouts/.keep", "") // edpm-ansible's podman run needs it
	wrapper := fmt.Sprintf("nsenter --net=/run/netns/%s -m -t 1 podman run --detach --log-driver k8s-file --log-opt path=/var/log/containers/stdouts/%s.log "+
		"-v /run/netns:/run/netns:shared -v %s:%s:shared -v /dev/log:/dev/log --net host --pid host --cgroupns host --privileged -u root --name %s "+
		"localhost/agent /bin/sh -c 'exec /usr/sbin/haproxy -Ws -f %s'", n.name, name, neutronDir, neutronDir, name, config)
	must(t, "podman", "run", "--detach", "--name="+agent, "--net=host", "--pid=host", "--cgroupns=host", "--privileged",
		"-v", "/run/netns:/run/netns:shared", "localhost/agent", "sh", "-c", wrapper+"; exec sleep 1000")
	pid := n.pid(t)

	a := adopt(t, s.name)
	if a.done(n) != "taken over" {
		t.Fatalf("%+v", a)
	}
	must(t, "tripleo-wrapperctl", "reload")
	s.checkOwner(n, pid)
	if l := s.list()[n.name]; l.State != "running" || !l.Outdated {
		t.Errorf("listed as %+v", l)
	}
	if r := s.call(n, "-f", config); r.status != 0 || n.pid(t) != pid {
		t.Errorf("the same arguments: exit status %d, process %d is now %d\n%s", r.status, pid, n.pid(t), r.stderr)
	}
	// The agent's container is started anew, which is what all this is for.
	must(t, "podman", "rm", "--force", "--time=0", agent)
	if !alive(pid) || show(t, s.unit(n.name), "ActiveState") != "active" {
		t.Error("it ended with the agent's container")
	}
	kill := filepath.Join(neutronDir, "kill_scripts/haproxy-kill")
	if r := run(t, kill, "9", strconv.Itoa(pid)); r.status != 0 {
		t.Errorf("kill script: exit status %d\n%s", r.status, r.stderr)
	}
	s.gone(n, pid)
}

// What cannot be taken over is left, and replaced when it is asked for; and the
// kill script says what to do about it.
func TestAdoptLeft(t *testing.T) {
	s := define(t, "podman", strings.Replace(dnsmasq, `"/usr/sbin/dnsmasq -k"`, `"/usr/sbin/dnsmasq --keep-in-foreground"`, 1))
	n := s.netns()
	name := s.name + "-" + n.name
	must(t, append([]string{"podman", "run", "--detach", "--name=" + name, "--network=ns:/run/netns/" + n.name, "--pid=host", "--privileged",
		"--volume=" + s.dir + ":" + s.dir, "localhost/agent", "/usr/sbin/dnsmasq", "-k"}, n.arguments()...)...)
	t.Cleanup(func() { run(t, "podman", "rm", "--force", "--time=0", name) })
	pid := n.pid(t)
	a := adopt(t, s.name)
	if a.Changed || a.done(n) != "left" {
		t.Errorf("%+v", a)
	}
	r := s.kill("9", pid)
	if r.status != 1 || !alive(pid) {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	mention(t, r, "adopt")
	if r := s.call(n, n.arguments()...); r.status != 0 {
		t.Errorf("exit status %d\n%s", r.status, r.stderr)
	}
	if now := helpers(t, n); len(now) != 1 || now[0] == pid {
		t.Errorf("the helpers are %v, and %d before", now, pid)
	}
}

// undefine takes a service's definition away, as an operator does.
func (s *service) undefine() {
	s.t.Helper()
	if err := os.Remove(s.file()); err != nil {
		s.t.Fatal(err)
	}
	control(s.t.(*testing.T), 0, "reload")
}

// same checks that files are as they were.
func same(t *testing.T, files map[string]string) {
	t.Helper()
	for name, want := range files {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: error %v\n%s", name, err, got)
		}
	}
}

// roleService is a service that the role has put on a host.
func roleService(t *testing.T) (*service, map[string]string) {
	t.Helper()
	n := services.Add(1)
	s := &service{t: t, name: fmt.Sprintf("test%d-podman", n), dir: fmt.Sprintf("/var/lib/test%d", n), engine: "podman", since: time.Now()}
	t.Cleanup(s.remove)
	t.Cleanup(func() { // before the namespaces go
		run(t, "sh", "-c", "podman rm --force --time=0 $(podman ps --all --quiet --filter=name=^"+s.name+"-)")
	})
	return s, putRole(t, s)
}

// A definition alone replaces the role's scripts. Where it is taken away again, they
// come back without having been adopted, and nothing of ours listens any more.
func TestUndoNotAdopted(t *testing.T) {
	s, files := roleService(t)
	s.write(dnsmasq)
	must(t, "systemctl", "daemon-reload")
	eventually(t, "the socket is there", func() bool { return show(t, s.name+".socket", "ActiveState") == "active" })
	if content, err := os.ReadFile(s.state("wrapper")); err != nil || string(content) == files[s.state("wrapper")] {
		t.Fatalf("the role's wrapper is still there, so nothing is tried: %v", err)
	}
	mention(t, control(t, 1, "status", s.name), "/etc/systemd/system/"+s.name+".path", "tripleo-wrapperctl adopt "+s.name)

	s.undefine()
	if state := show(t, s.name+".socket", "ActiveState"); state == "active" {
		t.Error("the socket is still there, and nobody serves it")
	}
	if undone := adopt(t, "--undo", s.name); !undone.Changed || len(undone.Files) != 2 {
		t.Errorf("%+v", undone)
	}
	same(t, files)
	if again := adopt(t, "--undo", s.name); again.Changed {
		t.Errorf("undone twice: %+v", again)
	}
	s.askRole(s.netns(), s.state("wrapper"))
}

// Of two services of one service_dir, one goes back to the role with the kill script
// that is its own; one that the other uses stays until that goes back as well.
func TestUndoOneOfTwo(t *testing.T) {
	first, files := roleService(t)
	second, _ := roleService(t)
	second.dir = first.dir
	others := putRole(t, second)
	own := filepath.Join(first.dir, "kill_scripts", "own-kill")
	files[own] = files[filepath.Join(first.dir, "kill_scripts", "test-kill")]
	shared := filepath.Join(first.dir, "kill_scripts", "test-kill")
	put(t, own, files[own])
	must(t, "chmod", "755", own)
	first.write(dnsmasq)
	must(t, "sed", "--in-place", "s/test-kill/own-kill/", first.file())
	second.write(dnsmasq)
	for _, s := range []*service{first, second} {
		if a := adopt(t, s.name); !a.Changed {
			t.Errorf("%+v", a)
		}
	}
	ours, err := os.ReadFile(shared)
	if err != nil || string(ours) == files[shared] {
		t.Fatalf("the shared kill script is not ours: %v", err)
	}

	first.undefine()
	delete(files, shared)
	if undone := adopt(t, "--undo", first.name); !slices.Equal(undone.Waiting, []string{shared}) {
		t.Errorf("%+v", undone)
	}
	same(t, files)
	if now, err := os.ReadFile(shared); err != nil || string(now) != string(ours) {
		t.Errorf("the other's kill script: %v\n%s", err, now)
	}
	second.undefine()
	if undone := adopt(t, "--undo", second.name); len(undone.Waiting) > 0 {
		t.Errorf("%+v", undone)
	}
	same(t, others)
}

// Whoever is at the terminal may be gone, or have had enough. No unit stays masked,
// and each sidecar that was taken over can be restarted.
func TestAdoptInterrupted(t *testing.T) {
	for _, signal := range []string{"HUP", "INT"} {
		t.Run(signal, func(t *testing.T) {
			s, _ := roleService(t)
			var all []*netns
			for range 2 {
				n := s.netns()
				all = append(all, n)
				s.askRole(n, s.state("wrapper"))
			}
			s.write(dnsmasq)
			s.dropIn(t, "[Service]\nExecStartPre=/bin/sleep 1.5\n") // so that one is being taken over
			r := run(t, "timeout", "--signal="+signal, "1", "tripleo-wrapperctl", "adopt", s.name)
			eventually(t, "it ends", func() bool {
				return run(t, "pgrep", "--full", "^tripleo-wrapperctl adopt "+s.name).status != 0
			})
			if masks, _ := filepath.Glob("/run/systemd/system.control/" + s.name + "*"); len(masks) > 0 {
				t.Errorf("%s is left\n%s%s", masks, r.stdout, r.stderr)
			}
			for _, n := range all {
				eventually(t, "systemd has done what it was told", func() bool { return show(t, s.unit(n.name), "ActiveState") != "activating" })
				if s.active(n) && notThere("/run/tripleo-wrappers/"+s.name+"/"+n.name+".args") {
					t.Errorf("the arguments of %s are not known\n%s%s", s.unit(n.name), r.stdout, r.stderr)
				}
			}
			adopt(t, s.name)
			if err := os.RemoveAll("/run/systemd/system/" + s.name + "@.service.d"); err != nil {
				t.Fatal(err)
			}
			control(t, 0, "reload")
			control(t, 0, "restart", s.name, "--all")
			for _, n := range all {
				if !s.active(n) {
					t.Errorf("%s is down", s.unit(n.name))
				}
			}
		})
	}
}

// A container that cannot be taken over goes on as it is.
func TestAdoptFails(t *testing.T) {
	s, _ := roleService(t)
	n := s.netns()
	pid := s.askRole(n, s.state("wrapper"))
	s.write(dnsmasq)
	s.dropIn(t, "[Service]\nExecStartPre=/bin/false\n")
	if a := adopt(t, s.name); a.done(n) != "left" {
		t.Errorf("%+v", a)
	}
	if now := n.pid(t); now != pid || !alive(pid) {
		t.Errorf("process %d is now %d", pid, now)
	}
	if ids := must(t, "podman", "ps", "--quiet", "--filter=name=^"+s.name+"-"+n.name); len(strings.Fields(ids)) != 1 {
		t.Errorf("containers: %q", ids)
	}
}

// With podman-docker, each container of Podman's is one of Docker's as well.
func TestAdoptPodmanDocker(t *testing.T) {
	s, _ := roleService(t)
	n := s.netns()
	s.askRole(n, s.state("wrapper"))
	s.write(dnsmasq)
	bin := t.TempDir()
	script(t, filepath.Join(bin, "docker"), `exec podman "$@"`)
	must(t, "env", "PATH="+bin+":"+os.Getenv("PATH"), "tripleo-wrapperctl", "adopt", s.name)
	if !s.active(n) {
		t.Error("the sidecar does not run")
	}
}
