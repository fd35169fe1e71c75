// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Where examples are installed, and what all of them have in common.
const (
	exampleDir = "/usr/share/doc/tripleo-wrappers/examples"
	neutronDir = "/var/lib/neutron"
	// configDir is mounted for Podman.
	configDir = "/var/lib/config-data/puppet-generated/neutron/etc/neutron"
)

// A helper is what an example defines, in one network namespace.
type helper struct {
	*service
	program string // by which the agent calls it
	id      string // of the router or network
	in      *netns
}

// forExample has a test go through each engine that an example is for, and
// through Podman once more with no more privilege than the helper needs.
func forExample(t *testing.T, program string, test func(t *testing.T, s *service)) {
	for _, engine := range []string{"systemd", "podman"} {
		t.Run(engine, func(t *testing.T) { test(t, putExample(t, engine, program, "")) })
	}
	t.Run("podman, not privileged", func(t *testing.T) {
		s := putExample(t, "podman", program, "privileged = false\ncontainer_options = "+neededOptions(t, program)+"\n")
		s.useRunc(t)
		test(t, s)
	})
}

// putExample puts an example in place as an operator does. For Podman its
// comments say what to change. Keys are put before those of the example.
func putExample(t *testing.T, engine, program, keys string) *service {
	t.Helper()
	s := &service{t: t, name: "neutron-" + program, dir: neutronDir, engine: engine}
	content, err := os.ReadFile(filepath.Join(exampleDir, s.name+".toml"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	if engine == "podman" {
		text = strings.Replace(text, "\ncontainer_cli = ", "\n# container_cli = ", 1)
		text = regexp.MustCompile(`(?m)^#   (container_cli|image_name|config_bind_mount) = `).ReplaceAllString(text, "$1 = ")
		image := regexp.MustCompile(`(?m)^image_name = "(.*)"$`).FindStringSubmatch(text)
		if image == nil {
			t.Fatalf("%s names no image", s.name)
		}
		must(t, "podman", "tag", "localhost/agent", image[1])
		t.Cleanup(func() { run(t, "podman", "untag", image[1], image[1]) })
		put(t, configDir+"/neutron.conf", "[AGENT]\n")
	}
	put(t, s.file(), keys+text)
	t.Cleanup(s.remove)
	r := run(t, "tripleo-wrapperctl", "check", s.file())
	if r.status != 0 || r.stderr != "" || !strings.HasPrefix(r.stdout, "No problems.") {
		t.Fatalf("check: exit status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	must(t, "tripleo-wrapperctl", "reload")
	// Neutron's own user, by the number that it has in Kolla's images and in ours.
	if r := run(t, "id", "neutron"); r.status != 0 {
		must(t, "useradd", "--uid=42435", "--user-group", "--no-create-home", "neutron")
	}
	return s
}

// put writes a file as an agent does. radvd takes none that it could write.
func put(t testing.TB, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o444); err != nil {
		t.Fatal(err)
	}
}

// newHelper makes a network namespace as the agent does, of that kind, and another
// one with a tenant's machine at the other end of interface tap.
func newHelper(t *testing.T, s service, kind string) *helper {
	t.Helper()
	s.t = t
	id := fmt.Sprintf("%08d-5555-6666-7777-888888888888", namespaces.Add(1))
	h := &helper{service: &s, program: strings.TrimPrefix(s.name, "neutron-"), id: id, in: &netns{name: kind + "-" + id}}
	must(t, "ip", "netns", "add", h.in.name)
	must(t, "ip", "netns", "add", "tenant")
	t.Cleanup(func() {
		run(t, "systemctl", "stop", s.unit(h.in.name))
		run(t, "ip", "netns", "del", h.in.name)
		run(t, "ip", "netns", "del", "tenant")
	})
	must(t, "ip", "link", "add", "tap", "netns", h.in.name, "type", "veth",
		"peer", "name", "eth0", "address", "fa:16:3e:5a:4b:3c", "netns", "tenant")
	h.ip("link", "set", "lo", "up")
	h.ip("link", "set", "tap", "up")
	h.ip("address", "add", "10.0.0.2/24", "dev", "tap")
	must(t, "ip", "-n", "tenant", "link", "set", "eth0", "up")
	return h
}

func (h *helper) ip(arguments ...string) string {
	h.t.Helper()
	return must(h.t, append([]string{"ip", "-n", h.in.name}, arguments...)...)
}

// run runs a command in the network namespace, as the agent does.
func (h *helper) run(command ...string) result {
	h.t.Helper()
	return run(h.t, append([]string{"ip", "netns", "exec", h.in.name}, command...)...)
}

// tenant runs a command on the tenant's machine.
func (h *helper) tenant(command ...string) result {
	h.t.Helper()
	return run(h.t, append([]string{"ip", "netns", "exec", "tenant"}, command...)...)
}

// start calls the wrapper and looks at once for what the agent counts on: each
// pid file names a process of the sidecar that has the UUID in its command line
// (neutron/agent/linux/external_process.py). It returns the pids.
func (h *helper) start(pidFiles []string, arguments ...string) []int {
	h.t.Helper()
	for _, file := range pidFiles {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			h.t.Fatal(err)
		}
		os.Remove(file)
	}
	r := h.run(append([]string{"env", "PROCESS_TAG=" + h.program + "-" + h.id, h.state("wrapper")}, arguments...)...)
	if r.status != 0 {
		h.t.Fatalf("wrapper: exit status %d\n%s", r.status, r.stderr)
	}
	var pids []int
	for _, file := range pidFiles {
		content, err := os.ReadFile(file)
		if err != nil {
			h.t.Fatalf("the wrapper returned before the pid file was there: %v", err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
		if err != nil {
			h.t.Fatalf("%s: %v", file, err)
		}
		command := cmdline(h.t, pid)
		// When haproxy's master has written its pid file, it becomes haproxy once
		// more, which can come right behind the activator's look at it. For the
		// blink of that, it has no command line. Agents look again for 60 s.
		for deadline := time.Now().Add(time.Second); h.program == "haproxy" && equal(command, []string{""}) && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
			command = cmdline(h.t, pid)
		}
		if !strings.Contains(strings.Join(command, " "), h.id) {
			h.t.Errorf("%s names process %d, %q, which has no %s in its command line", file, pid, command, h.id)
		}
		h.checkOwner(h.in, pid)
		pids = append(pids, pid)
	}
	return pids
}

// signal sends a signal by the kill script.
func (h *helper) signal(signal string, pid int) {
	h.t.Helper()
	r := h.run(filepath.Join(neutronDir, "kill_scripts", h.program+"-kill"), signal, strconv.Itoa(pid))
	if r.status != 0 {
		h.t.Fatalf("%s-kill %s %d: exit status %d\n%s", h.program, signal, pid, r.status, r.stderr)
	}
}

// stop stops the helper by the kill script, with the first of its pids; nothing
// is left when that returns.
func (h *helper) stop(signal string, pids []int) {
	h.t.Helper()
	h.signal(signal, pids[0])
	for _, pid := range pids {
		h.gone(h.in, pid)
	}
	if left := must(h.t, "ip", "netns", "pids", h.in.name); left != "" {
		h.t.Errorf("processes left in the network namespace: %q", strings.Fields(left))
	}
}

// has waits for an address in a network namespace.
func (h *helper) has(netns, address string) {
	h.t.Helper()
	eventually(h.t, address+" is an address in "+netns, func() bool {
		return strings.Contains(must(h.t, "ip", "-n", netns, "-brief", "address"), " "+address)
	})
}

func TestExampleDnsmasq(t *testing.T) {
	forExample(t, "dnsmasq", func(t *testing.T, s *service) {
		h := newHelper(t, *s, "qdhcp")
		dir := filepath.Join(neutronDir, "dhcp", h.id)
		pidFile := dir + "/pid"
		assign := func(address string) {
			t.Helper()
			put(t, dir+"/host", "fa:16:3e:5a:4b:3c,host.openstacklocal,"+address+"\n")
			put(t, dir+"/addn_hosts", address+" host.openstacklocal host\n")
			put(t, dir+"/opts", "tag:subnet-1,option:dns-server,10.0.0.2\ntag:subnet-1,option:router,10.0.0.1\n")
		}
		ask := func(address string) {
			t.Helper()
			r := h.tenant("busybox", "udhcpc", "-f", "-n", "-q", "-i", "eth0", "-s", "/bin/true")
			if !strings.Contains(r.stdout+r.stderr, "lease of "+address+" obtained") {
				t.Errorf("no lease of %s\n%s%s", address, r.stdout, r.stderr)
			}
		}
		assign("10.0.0.5")
		pids := h.start([]string{pidFile},
			"--no-hosts", "--no-resolv", "--pid-file="+pidFile,
			"--dhcp-hostsfile="+dir+"/host", "--addn-hosts="+dir+"/addn_hosts", "--dhcp-optsfile="+dir+"/opts",
			"--dhcp-leasefile="+dir+"/leases", "--dhcp-match=set:ipxe,175",
			"--dhcp-userclass=set:ipxe6,iPXE", "--local-service", "--bind-dynamic",
			"--dhcp-range=set:subnet-1,10.0.0.0,static,255.255.255.0,86400s", "--dhcp-option-force=option:mtu,1450",
			"--dhcp-lease-max=256", "--conf-file=/dev/null", "--domain=openstacklocal")
		ask("10.0.0.5")

		assign("10.0.0.7")
		h.signal("HUP", pids[0])
		ask("10.0.0.7")
		h.stop("9", pids)
	})
}

// The agents' haproxy differs in where it listens, which file it has, and which
// header it adds (neutron/agent/metadata and neutron/agent/ovn/metadata).
func TestExampleHaproxy(t *testing.T) {
	const proxy = `
global
    log         /dev/log local0 info
    log-tag     haproxy-metadata-proxy-@ID@
    user        neutron
    group       neutron
    maxconn     1024
    pidfile     /var/lib/neutron/external/pids/@ID@.pid.haproxy
    daemon

defaults
    log global
    mode http
    option httplog
    option dontlognull
    option http-server-close
    option forwardfor
    retries                 3
    timeout http-request    30s
    timeout connect         30s
    timeout client          32s
    timeout server          32s
    timeout http-keep-alive 30s

listen listener
    bind @ADDRESS@

    server metadata /var/lib/neutron/metadata_proxy
`
	agents := map[string]struct{ kind, dir, address, header string }{
		"DHCP agent":         {"qdhcp", "ns-metadata-proxy", "169.254.169.254:80", "X-Neutron-Network-ID"},
		"L3 agent":           {"qrouter", "ns-metadata-proxy", "0.0.0.0:9697", "X-Neutron-Router-ID"},
		"OVN metadata agent": {"ovnmeta", "ovn-metadata-proxy", "169.254.169.254:80", "X-OVN-Network-ID"},
	}
	forExample(t, "haproxy", func(t *testing.T, s *service) {
		serveMetadata(t, filepath.Join(neutronDir, "metadata_proxy"))
		for name, agent := range agents {
			t.Run(name, func(t *testing.T) {
				h := newHelper(t, *s, agent.kind)
				h.ip("address", "add", "169.254.169.254/32", "dev", "tap")
				must(t, "ip", "-n", "tenant", "address", "add", "10.0.0.5/24", "dev", "eth0")
				must(t, "ip", "-n", "tenant", "route", "add", "169.254.169.254/32", "dev", "eth0")
				file := filepath.Join(neutronDir, agent.dir, h.id+".conf")
				start := func(header string) []int {
					t.Helper()
					put(t, file, strings.NewReplacer("@ID@", h.id, "@ADDRESS@", agent.address).Replace(proxy)+
						"    http-request "+header+"\n")
					return h.start([]string{filepath.Join(neutronDir, "external/pids", h.id+".pid.haproxy")}, "-f", file)
				}
				ask := func(want ...string) {
					t.Helper()
					address := strings.Replace(agent.address, "0.0.0.0", "10.0.0.2", 1)
					r := h.tenant("busybox", "wget", "-q", "-O", "-", "http://"+address+"/openstack")
					for _, line := range append(want, "GET /openstack", "X-Forwarded-For: 10.0.0.5") {
						if !slices.Contains(strings.Split(r.stdout, "\n"), line) {
							t.Errorf("exit status %d, and the request that arrived has no %q\n%s%s", r.status, line, r.stdout, r.stderr)
						}
					}
				}
				pids := start("set-header " + agent.header + " " + h.id)
				ask(http.CanonicalHeaderKey(agent.header) + ": " + h.id)

				// Its configuration is changed: the agent stops it and starts it again.
				h.stop("15", pids)
				pids = start("set-header X-Changed yes")
				ask("X-Changed: yes")
				h.stop("9", pids)
			})
		}
	})
}

// serveMetadata answers at the metadata agent's socket with what has arrived.
func serveMetadata(t *testing.T, socket string) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s\n", r.Method, r.URL)
		for key := range r.Header {
			fmt.Fprintf(w, "%s: %s\n", key, r.Header.Get(key))
		}
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
}

// keepalivedRouter is the configuration of a router. Neutron advertises every two
// seconds, which takes a router twice as long to become the master.
const keepalivedRouter = `global_defs {
    notification_email_from neutron@openstack.local
    router_id neutron
}
vrrp_instance VR_5 {
    state BACKUP
    interface tap
    virtual_router_id 5
    priority 50
    garp_master_delay 60
    nopreempt
    advert_int 1
    track_interface {
        tap
    }
    virtual_ipaddress {
        169.254.0.5/24 dev tap
    }
    virtual_ipaddress_excluded {
        @VIPS@
    }
}
`

func TestExampleKeepalived(t *testing.T) {
	forExample(t, "keepalived", func(t *testing.T, s *service) {
		h := newHelper(t, *s, "qrouter")
		dir := filepath.Join(neutronDir, "ha_confs")
		file := filepath.Join(dir, h.id, "keepalived.conf")
		pidFile := filepath.Join(dir, h.id+".pid.keepalived")
		put(t, file, strings.ReplaceAll(keepalivedRouter, "@VIPS@", "10.0.1.1/24 dev tap"))
		pids := h.start([]string{pidFile, pidFile + "-vrrp"}, "-P", "-f", file, "-p", pidFile, "-r", pidFile+"-vrrp", "-D")
		h.has(h.in.name, "169.254.0.5/24")
		h.has(h.in.name, "10.0.1.1/24")
		var journal string
		eventually(t, "the journal says that it is the master", func() bool {
			journal = must(t, "journalctl", "--output=cat", "--unit="+s.unit(h.in.name))
			return strings.Contains(journal, "Entering MASTER STATE")
		})
		if strings.Count(journal, "Entering MASTER STATE") != 1 {
			t.Errorf("the journal says more than once that it is the master\n%s", journal)
		}

		put(t, file, strings.ReplaceAll(keepalivedRouter, "@VIPS@", "10.0.1.1/24 dev tap\n        10.0.2.1/24 dev tap"))
		h.signal("HUP", pids[0])
		h.has(h.in.name, "10.0.2.1/24")
		h.stop("15", pids)
		if left := h.ip("-brief", "-4", "address", "show", "tap"); strings.Contains(left, "10.0.1.1") {
			t.Errorf("it has not given up its addresses: %s", left)
		}
	})
}

func TestExampleRadvd(t *testing.T) {
	const router = `interface tap
{
   AdvSendAdvert on;
   MinRtrAdvInterval 30;
   MaxRtrAdvInterval 100;
   AdvLinkMTU 1450;
   prefix @PREFIX@
   {
        AdvOnLink on;
        AdvAutonomous on;
   };
};
`
	forExample(t, "radvd", func(t *testing.T, s *service) {
		h := newHelper(t, *s, "qrouter")
		if r := h.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"); r.status != 0 {
			t.Fatal(r.stderr)
		}
		file := filepath.Join(neutronDir, "ra", h.id+".radvd.conf")
		pidFile := filepath.Join(neutronDir, "external/pids", h.id+".pid.radvd")
		put(t, file, strings.ReplaceAll(router, "@PREFIX@", "2001:db8:1::/64"))
		pids := h.start([]string{pidFile}, "-C", file, "-p", pidFile, "-m", "syslog", "-u", "neutron")
		// Of its own accord or asked by the tenant's machine.
		h.has("tenant", "2001:db8:1:")

		put(t, file, strings.ReplaceAll(router, "@PREFIX@", "2001:db8:2::/64"))
		h.signal("HUP", pids[0])
		h.has("tenant", "2001:db8:2:")
		h.stop("9", pids)
	})
}

// stateChange stands in for Neutron's program, which Debian has only with all of
// Neutron. It takes the same arguments and is a daemon of the same kind
// (neutron/agent/linux/daemon.py): it leaves the foreground twice, writes its pid
// file then, and removes that when it is told to end. It writes the router's
// state as the real one does.
const stateChange = `#!/bin/sh
for word; do
	case $word in
	--pid_file=*) file=${word#*=} ;;
	--conf_dir=*) dir=${word#*=} ;;
	--monitor_interface=*) device=${word#*=} ;;
	--monitor_cidr=*) cidr=${word#*=} ;;
	esac
done
if [ "$DAEMON" ]; then
	trap 'rm -f "$file"; exit 0' TERM
	echo $$ >"$file"
	while sleep 0.1; do
		state=backup
		ip -brief address show "$device" | grep -q " $cidr" && state=primary
		echo "$state" >"$dir/state"
	done
fi
(DAEMON=yes setsid "$0" "$@" </dev/null >/dev/null 2>&1 &)
`

// The agent asks for the monitor of a router before it starts the router's
// keepalived (neutron/agent/l3/ha_router.py).
func TestExampleKeepalivedStateChange(t *testing.T) {
	program := "/usr/local/bin/neutron-keepalived-state-change"
	put(t, program, stateChange)
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(program) })
	keepalived := putExample(t, "systemd", "keepalived", "")
	s := putExample(t, "systemd", "keepalived-state-change", "")
	k := newHelper(t, *keepalived, "qrouter")
	h := &helper{service: s, program: "keepalived-state-change", id: k.id, in: k.in}
	t.Cleanup(func() { run(t, "systemctl", "stop", s.unit(h.in.name)) })

	dir := filepath.Join(neutronDir, "ha_confs")
	pidFile := filepath.Join(neutronDir, "external/pids", h.id+".monitor.pid")
	monitor := []string{
		"--router_id=" + h.id, "--namespace=" + h.in.name, "--conf_dir=" + filepath.Join(dir, h.id),
		"--monitor_interface=tap", "--monitor_cidr=169.254.0.5/24", "--pid_file=" + pidFile,
		"--state_path=" + neutronDir, "--user=0", "--group=0",
	}
	file := filepath.Join(dir, h.id, "keepalived.conf")
	put(t, file, strings.ReplaceAll(keepalivedRouter, "@VIPS@", "10.0.1.1/24 dev tap"))
	if err := os.MkdirAll(filepath.Dir(pidFile), 0o755); err != nil {
		t.Fatal(err)
	}
	r := h.run(append([]string{h.state("wrapper")}, monitor...)...)
	if r.status != 0 || !strings.Contains(r.stderr, "the request is spooled") {
		t.Fatalf("exit status %d\n%s", r.status, r.stderr)
	}
	keepalivedPIDs := filepath.Join(dir, h.id+".pid.keepalived")
	startKeepalived := func() []int {
		t.Helper()
		return k.start([]string{keepalivedPIDs, keepalivedPIDs + "-vrrp"},
			"-P", "-f", file, "-p", keepalivedPIDs, "-r", keepalivedPIDs+"-vrrp", "-D")
	}
	pids := startKeepalived()
	state := func(want string) {
		t.Helper()
		eventually(t, "the state is "+want, func() bool {
			content, err := os.ReadFile(filepath.Join(dir, h.id, "state"))
			return err == nil && strings.TrimSpace(string(content)) == want
		})
	}
	eventually(t, "it runs", func() bool { return h.active(h.in) })
	state("primary")

	// The agent stops it by a signal of its own, and starts it again.
	must(t, "kill", "-15", fmt.Sprint(pid(t, pidFile)))
	h.start([]string{pidFile}, monitor...)
	// keepalived ends, and it ends with it.
	stop := func(pid int) {
		t.Helper()
		k.signal("15", pids[0])
		k.gone(k.in, pids[0])
		eventually(t, "it has ended with keepalived", func() bool { return show(t, s.unit(h.in.name), "ActiveState") == "inactive" })
		h.gone(h.in, pid)
		if left := must(t, "ip", "netns", "pids", h.in.name); left != "" {
			t.Errorf("processes left in the network namespace: %q", strings.Fields(left))
		}
	}
	// An operator starts it again, who does not remove the pid file.
	before := pid(t, pidFile)
	must(t, "tripleo-wrapperctl", "restart", s.name, h.in.name)
	if pid(t, pidFile) == before || alive(before) {
		t.Errorf("process %d was not replaced", before)
	}
	state("primary")
	stop(pid(t, pidFile))
	// As the process monitor does.
	pids = startKeepalived()
	monitored := h.start([]string{pidFile}, monitor...)
	state("primary")
	stop(monitored[0])
}

// The agent starts conntrackd in the router's network namespace, looks for it by
// its command line, and commands it from its own (neutron/agent/linux/conntrackd.py).
func TestExampleConntrackd(t *testing.T) {
	const router = `
General {
    HashSize 32768
    HashLimit 131072
    Syslog on
    LockFile @DIR@/conntrackd.lock
    UNIX {
        Path @DIR@/conntrackd.ctl
        Backlog 20
    }
    SocketBufferSize 262142
    SocketBufferSizeMaxGrown 655355
    Filter From Kernelspace {
        Protocol Accept {
            TCP
            SCTP
            DCCP
            UDP
            ICMP
            IPv6-ICMP
        }
        Address Ignore {
            IPv4_address 127.0.0.1
            IPv6_address ::1
            IPv4_address 10.0.0.2
        }
    }
}
Sync {
    Mode FTFW {
    }
    Multicast Default {
        IPv4_address 225.0.0.50
        IPv4_interface 10.0.0.2
        Group 3780
        Interface tap
        SndSocketBuffer 24985600
        RcvSocketBuffer 24985600
        Checksum on
    }
}
`
	forExample(t, "conntrackd", func(t *testing.T, s *service) {
		h := newHelper(t, *s, "qrouter")
		dir := filepath.Join(neutronDir, "ha_confs", h.id)
		file := filepath.Join(dir, "conntrackd.conf")
		put(t, file, strings.ReplaceAll(router, "@DIR@", dir))
		wrapper := h.state("wrapper")

		// Before it runs.
		if r := run(t, wrapper, "-C", file, "-n"); r.status == 0 || !strings.Contains(r.stderr, "0 running sidecars") {
			t.Errorf("exit status %d\n%s", r.status, r.stderr)
		}
		start := func() int {
			t.Helper()
			h.start(nil, "-d", "-C", file)
			found := strings.Fields(must(t, "pgrep", "-f", "conntrackd -d -C "+file))
			if len(found) != 1 {
				t.Fatalf("the agent finds processes %q", found)
			}
			pid, err := strconv.Atoi(found[0])
			if err != nil {
				t.Fatal(err)
			}
			h.checkOwner(h.in, pid)
			eventually(t, "it has a socket", func() bool { return !notThere(filepath.Join(dir, "conntrackd.ctl")) })
			return pid
		}
		pid := start()
		if r := run(t, wrapper, "-C", file, "-n"); r.status != 0 {
			t.Errorf("-n: exit status %d\n%s%s", r.status, r.stdout, r.stderr)
		}
		if r := h.run(wrapper, "-C", file, "-s"); r.status != 0 || !strings.Contains(r.stdout, "cache internal:") {
			t.Errorf("-s: exit status %d\n%s%s", r.status, r.stdout, r.stderr)
		}
		// What the real one says, and that it failed.
		if r := h.run(wrapper, "-C", file+".missing", "-s"); r.status != 1 || !strings.Contains(r.stdout+r.stderr, "can't open") && !strings.Contains(r.stdout+r.stderr, ".missing") {
			t.Errorf("-s without a configuration: exit status %d\n%s%s", r.status, r.stdout, r.stderr)
		}
		stop := func(pid int) {
			t.Helper()
			if r := run(t, wrapper, "-C", file, "-k"); r.status != 0 {
				t.Errorf("-k: exit status %d\n%s%s", r.status, r.stdout, r.stderr)
			}
			eventually(t, "it has ended", func() bool { return !alive(pid) && show(t, s.unit(h.in.name), "ActiveState") == "inactive" })
			h.gone(h.in, pid)
		}
		stop(pid)
		// Started again, as the process monitor does.
		stop(start())
	})
}

// The agent starts dibbler-client as a daemon and stops it by another call
// (neutron/agent/linux/dibbler.py).
func TestExampleDibblerClient(t *testing.T) {
	const client = `
# Config for dibbler-client.

# Use enterprise number based duid
duid-type duid-en 8888 0x5555666677778888

# 8 (Debug) is most verbose. 7 (Info) is usually the best option
log-level 8

# No automatic downlink address assignment
downlink-prefix-ifaces "none"

# Use script to notify l3_agent of assigned prefix
script "@DIR@/notify.sh"

# Ask for prefix over the external gateway interface
iface "tap" {
# Bind to generated LLA
bind-to-address @ADDRESS@
# ask for address
    pd 1
}
`
	forExample(t, "dibbler-client", func(t *testing.T, s *service) {
		h := newHelper(t, *s, "qrouter")
		dir := filepath.Join(neutronDir, "pd", h.id+":11111111-2222-3333-4444-555555555555:qr-11111111-22")
		pidFile := filepath.Join(dir, "client.pid")
		address := ""
		eventually(t, "the interface has an address of its own", func() bool {
			for _, word := range strings.Fields(h.ip("-brief", "-6", "address", "show", "dev", "tap", "-tentative")) {
				if strings.HasPrefix(word, "fe80:") {
					address, _, _ = strings.Cut(word, "/")
				}
			}
			return address != ""
		})
		put(t, filepath.Join(dir, "notify.sh"), "#!/bin/sh\n")
		put(t, filepath.Join(dir, "client.conf"), strings.NewReplacer("@DIR@", dir, "@ADDRESS@", address).Replace(client))
		stop := []string{h.state("wrapper"), "stop", "-w", dir}
		if r := h.run(stop...); r.status == 0 {
			t.Errorf("stopped before it ran: %s%s", r.stdout, r.stderr)
		}
		start := func() int {
			t.Helper()
			h.start(nil, "start", "-w", dir)
			helper := netns{name: h.in.name, pidFile: pidFile} // not there yet, since the call waits for none
			return helper.pid(t)
		}
		first := start()
		h.checkOwner(h.in, first)
		if command := cmdline(t, first); !contains(command, dir) {
			t.Errorf("process %d is %q, without its directory", first, command)
		}
		if r := h.run(h.state("wrapper"), "status", "-w", dir); !strings.Contains(r.stdout, "RUNNING") {
			t.Errorf("status: exit status %d\n%s%s", r.status, r.stdout, r.stderr)
		}
		if r := h.run(stop...); r.status != 0 {
			t.Errorf("stop: exit status %d\n%s%s", r.status, r.stdout, r.stderr)
		}
		eventually(t, "it has ended", func() bool { return !alive(first) && show(t, s.unit(h.in.name), "ActiveState") == "inactive" })
		h.gone(h.in, first)

		// Started again, and stopped by a signal.
		second := start()
		h.program = "dibbler"
		h.stop("9", []int{second})
	})
}
