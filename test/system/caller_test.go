// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An agent's container has service_dir, the kill scripts in Neutron's place and
// /run/netns, the host's pid and network namespaces, and nothing else of the host.
func TestFromContainer(t *testing.T) {
	forEngines(t, func(t *testing.T, engine string) {
		s := define(t, engine, dnsmasq)
		n := s.netns()
		agent := "agent-" + s.name
		must(t, "podman", "run", "--detach", "--name="+agent, "--privileged", "--pid=host", "--network=host",
			"--volume=/run/netns:/run/netns:shared", "--volume="+s.dir+":"+s.dir+":shared",
			"--volume="+s.state("wrapper")+":/usr/local/bin/dnsmasq:ro",
			"--volume="+s.dir+"/kill_scripts:/etc/neutron/kill_scripts:ro",
			"localhost/agent", "sleep", "1000")
		t.Cleanup(func() { run(t, "podman", "rm", "--force", "--time=0", agent) })

		inAgent := func(command ...string) result {
			t.Helper()
			return run(t, append([]string{"podman", "exec", agent}, command...)...)
		}
		// A namespace made in the container, as Neutron does.
		made := &netns{"qdhcp-made-in-agent", n.pidFile}
		if r := inAgent("ip", "netns", "add", made.name); r.status != 0 {
			t.Fatal(r.stderr)
		}
		t.Cleanup(func() {
			run(t, "systemctl", "stop", s.unit(made.name))
			run(t, "ip", "netns", "del", made.name)
		})
		r := inAgent(append([]string{"ip", "netns", "exec", made.name, "env", "PROCESS_TAG=dnsmasq-" + made.name,
			"/usr/local/bin/dnsmasq"}, made.arguments()...)...)
		if r.status != 0 {
			t.Fatalf("wrapper in the agent's container: exit status %d\n%s", r.status, r.stderr)
		}
		pid := s.check(made)

		// The sidecar outlives the agent, and another agent can stop it.
		must(t, "podman", "restart", "--time=0", agent)
		if again := s.check(made); again != pid {
			t.Errorf("a restart of the agent replaced process %d by %d", pid, again)
		}
		if r := inAgent("/etc/neutron/kill_scripts/test-kill", "9", fmt.Sprint(pid)); r.status != 0 {
			t.Errorf("kill script in the agent's container: exit status %d\n%s", r.status, r.stderr)
		}
		s.gone(made, pid)

		// A call that fails says why, in the agent.
		r = inAgent(append([]string{"ip", "netns", "exec", made.name, "/usr/local/bin/dnsmasq"}, made.arguments("--no-such-option")...)...)
		if r.status != 1 || !strings.Contains(r.stderr, "bad command line options") {
			t.Errorf("exit status %d\n%s", r.status, r.stderr)
		}
	})
}

func TestRefusals(t *testing.T) {
	s := define(t, "systemd", "allowed_uids = [0, 42435]\nidle_timeout = \"2s\"\n"+dnsmasq)
	n := s.netns()

	t.Run("outside of any namespace", func(t *testing.T) {
		r := run(t, append([]string{s.state("wrapper")}, n.arguments()...)...)
		if r.status != 1 || !strings.Contains(r.stderr, "no network namespace that has a name") {
			t.Errorf("exit status %d\n%s", r.status, r.stderr)
		}
		// A namespace without a name is outside, too.
		r = run(t, append([]string{"unshare", "--net", s.state("wrapper")}, n.arguments()...)...)
		if r.status != 1 || !strings.Contains(r.stderr, "no network namespace that has a name") {
			t.Errorf("exit status %d\n%s", r.status, r.stderr)
		}
	})
	t.Run("uid", func(t *testing.T) {
		as := func(uid uint32) result {
			command := append([]string{"nsenter", "--net=/run/netns/" + n.name, "--", "setpriv", fmt.Sprintf("--reuid=%d", uid),
				"--clear-groups",
				"env", "PROCESS_TAG=dnsmasq-" + n.name, s.state("wrapper")}, n.arguments()...)
			return run(t, command...)
		}
		if r := as(1234); r.status != 1 || !strings.Contains(r.stderr, "uid 1234 may not") {
			t.Errorf("uid 1234: exit status %d\n%s", r.status, r.stderr)
		}
		if r := as(42435); r.status != 0 {
			t.Errorf("uid 42435: exit status %d\n%s", r.status, r.stderr)
		}
		rootOnly := define(t, "systemd", dnsmasq)
		r := runWith(t, func(cmd *exec.Cmd) {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1234, Gid: 1234}}
		}, rootOnly.state("wrapper"))
		if r.status != 1 || !strings.Contains(r.stderr, "permission denied") {
			t.Errorf("exit status %d\n%s", r.status, r.stderr)
		}
	})

	for _, test := range []struct {
		name, send, reply string
		finish            bool
	}{
		{"not JSON", "hello\x00", "not a Varlink call", true},
		{"larger than 1 MiB", strings.Repeat("x", 1<<20+1) + "\x00", "larger than 1048576 bytes", true},
		{"cut off", `{"method":"org.openstack.tripleo.Wrapper.List"`, "unexpected EOF", true},
		{"never finished", `{"method":`, "timeout", false},
		{"unknown method", `{"method":"org.openstack.tripleo.Wrapper.Rm"}` + "\x00", "MethodNotFound", true},
		{"unknown parameter", `{"method":"org.openstack.tripleo.Wrapper.Start","parameters":{"netns":"x"}}` + "\x00", "InvalidParameter", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			reply := converse(t, s.state("activator.sock"), test.send, test.finish)
			if !strings.Contains(reply, test.reply) {
				t.Errorf("reply %q does not say %q", reply, test.reply)
			}
			s.start(n) // the next honest call works
		})
	}
}

// converse sends bytes to a socket and returns all that comes back.
func converse(t *testing.T, socket, send string, finish bool) string {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(waitTime)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, send); err != nil {
		t.Fatal(err)
	}
	if finish {
		if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	reply, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("reading the reply: %v", err)
	}
	return string(reply)
}

// ask makes a Varlink call and returns the reply's parameters.
func ask(t *testing.T, socket, method string) map[string]any {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "{\"method\":%q}\x00", method)
	message, err := bufio.NewReader(conn).ReadBytes(0)
	if err != nil {
		t.Fatal(err)
	}
	var reply struct {
		Parameters map[string]any
		Error      string
	}
	if err := json.Unmarshal(message[:len(message)-1], &reply); err != nil || reply.Error != "" {
		t.Fatalf("%s: %v %s", method, err, message)
	}
	return reply.Parameters
}

func TestVarlink(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	n := s.netns()
	pid := s.start(n)
	socket := s.state("activator.sock")

	list := ask(t, socket, "org.openstack.tripleo.Wrapper.List")["sidecars"].([]any)
	if len(list) != 1 {
		t.Fatalf("List: %v", list)
	}
	sidecar := list[0].(map[string]any)
	if sidecar["netns"] != n.name || sidecar["unit"] != s.unit(n.name) || sidecar["pid"] != float64(pid) ||
		sidecar["active_state"] != "active" || sidecar["orphan"] != false {
		t.Errorf("List: %v", sidecar)
	}
	if synced := ask(t, socket, "org.openstack.tripleo.Wrapper.Sync"); synced["orphans"] != 0.0 || synced["spooled"] != 0.0 {
		t.Errorf("Sync: %v", synced)
	}
	must(t, "ip", "netns", "del", n.name)
	if synced := ask(t, socket, "org.openstack.tripleo.Wrapper.Sync"); synced["orphans"] != 1.0 {
		t.Errorf("Sync with an orphan: %v", synced)
	}
	eventually(t, "the orphan is stopped", func() bool { return show(t, s.unit(n.name), "ActiveState") == "inactive" })
	if info := ask(t, socket, "org.varlink.service.GetInfo"); info["vendor"] != "tripleo-wrappers" {
		t.Errorf("GetInfo: %v", info)
	}
}
