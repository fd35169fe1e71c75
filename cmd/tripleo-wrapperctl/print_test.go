// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/convert"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/inventory"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/manager"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/terminal"
)

func TestAge(t *testing.T) {
	tests := []struct {
		span time.Duration
		want string
	}{
		{-time.Second, "0s"},
		{999 * time.Millisecond, "0s"},
		{59 * time.Second, "59s"},
		{time.Minute, "1m"},
		{9*time.Minute + 59*time.Second, "9m59s"},
		{10*time.Minute + 59*time.Second, "10m"},
		{2*time.Hour + 30*time.Second, "2h"},
		{2*time.Hour + 5*time.Minute, "2h5m"},
		{9*24*time.Hour + 23*time.Hour, "9d23h"},
		{400 * 24 * time.Hour, "400d"},
	}
	for _, test := range tests {
		if got := age(test.span); got != test.want {
			t.Errorf("age(%v) = %q, want %q", test.span, got, test.want)
		}
	}
}

func TestMark(t *testing.T) {
	tests := []struct{ rest, want string }{
		{"debug = 5", "^~~~~"}, {"größe = 5", "^~~~~"}, {"5", "^"}, {"", "^"}, {"= 5", "^"}, {`"a b"`, "^~"},
	}
	for _, test := range tests {
		if got := mark(test.rest); got != test.want {
			t.Errorf("mark(%q) = %q, want %q", test.rest, got, test.want)
		}
	}
}

// At 80 columns nothing of Neutron's names is cut off as long as all is well.
func TestListFits(t *testing.T) {
	now := time.Unix(1700000000, 0)
	netns := "qdhcp-5c4cbd8e-3c9d-4a7b-9a3f-0c2d1e4f5a6b"
	services := []conf.Service{{Name: "neutron-dnsmasq", Engine: conf.Podman, Image: "localhost/a"}, {Name: "empty", Engine: conf.Systemd}}
	sidecars := []inventory.Sidecar{
		{Service: "neutron-dnsmasq", State: inventory.Up, Sidecar: protocol.Sidecar{
			Netns: netns, PID: 4194303, Since: now.Add(-9*time.Hour - 59*time.Minute).UnixMicro(), Restarts: 12345678,
		}},
		{Service: "neutron-dnsmasq", State: inventory.Stopped, Sidecar: protocol.Sidecar{Netns: "qdhcp-2"}},
	}
	groups := []group{groupOf(&services[0]), groupOf(&services[1])}
	var out strings.Builder
	c := &control{stdout: terminal.New(&out)}
	c.printSidecars(groups, sidecars, now)
	want := `neutron-dnsmasq: podman, localhost/a
  NETNS                                       STATE    SINCE  PID      RESTARTS
  qdhcp-5c4cbd8e-3c9d-4a7b-9a3f-0c2d1e4f5a6b  running  9h59m  4194303  12345678
  qdhcp-2                                     stopped  -      -        -

empty: systemd, the host's own programs
  no sidecars
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for line := range strings.Lines(out.String()) {
		if len(strings.TrimSuffix(line, "\n")) > 80 {
			t.Errorf("longer than 80 columns: %s", line)
		}
	}
	sidecars[0].Outdated, sidecars[0].Orphan = true, true
	out.Reset()
	c.printSidecars(groups[:1], sidecars, now)
	if !strings.Contains(out.String(), "NOTES\n") || !strings.Contains(out.String(), "12345678  outdated, orphan\n") {
		t.Errorf("notes are missing:\n%s", out.String())
	}
}

// Each way in which a sidecar can be unwell has its advice, and one that is
// well has none.
func TestAdviseSidecar(t *testing.T) {
	container := "a-n"
	request := []logLine{{Message: "asked for"}}
	tests := []struct {
		name    string
		details sidecarDetails
		want    []string // what each piece of advice holds
		socket  string
	}{
		{"well", sidecarDetails{NetnsExists: true, Sidecar: inventory.Sidecar{State: inventory.Up}, GivenUp: 1}, nil, ""},
		{"orphan", sidecarDetails{Sidecar: inventory.Sidecar{State: inventory.Up, Sidecar: protocol.Sidecar{Orphan: true}}},
			[]string{"tripleo-wrapperctl stop a n"}, ""},
		{"no namespace", sidecarDetails{Sidecar: inventory.Sidecar{State: inventory.Stopped}}, []string{"n does not exist"}, ""},
		{"not ours", sidecarDetails{NetnsExists: true, Sidecar: inventory.Sidecar{State: inventory.NotOurs, Engine: "podman",
			Sidecar: protocol.Sidecar{Container: &container}}}, []string{"podman rm --force a-n"}, ""},
		{"comes back again and again", sidecarDetails{NetnsExists: true, Sidecar: inventory.Sidecar{State: inventory.Restarting}},
			[]string{"tripleo-wrapperctl restart a n"}, ""},
		{"outdated", sidecarDetails{NetnsExists: true, Sidecar: inventory.Sidecar{State: inventory.Up, Outdated: true}},
			[]string{"tripleo-wrapperctl restart a n"}, ""},
		{"failed", sidecarDetails{NetnsExists: true, Sidecar: inventory.Sidecar{State: inventory.Stopped}, Reason: "no luck", GivenUp: 1, recorded: true},
			[]string{"no luck", "restart the agent, or: tripleo-wrapperctl start a n", "/s/a/processes.failed"}, ""},
		{"refused", sidecarDetails{NetnsExists: true, Sidecar: inventory.Sidecar{State: inventory.Stopped}, Reason: "not you"},
			[]string{"not you", "when the cause is mended, restart the agent"}, ""},
		{"never asked for", sidecarDetails{NetnsExists: true, Sidecar: inventory.Sidecar{State: inventory.Stopped}},
			[]string{"/s/a/wrapper is mounted"}, ""},
		{"only spooled", sidecarDetails{NetnsExists: true, Sidecar: inventory.Sidecar{State: inventory.Stopped}, Spooled: 1},
			[]string{"tripleo-wrapperctl sync a"}, "active"},
		{"spooled, and nobody serves it", sidecarDetails{NetnsExists: true, Sidecar: inventory.Sidecar{State: inventory.Stopped}, Spooled: 1},
			[]string{"until the socket is back"}, "failed"},
		{"stopped", sidecarDetails{NetnsExists: true, Sidecar: inventory.Sidecar{State: inventory.Stopped}, Requests: request, recorded: true},
			[]string{"tripleo-wrapperctl start a n"}, ""},
		{"stopped, and forgotten", sidecarDetails{NetnsExists: true, Sidecar: inventory.Sidecar{State: inventory.Stopped}, Requests: request},
			[]string{"to have it back, restart the agent"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.details.Service, test.details.Netns = "a", "n"
			got := adviseSidecar(&test.details, &conf.Service{Name: "a", Dir: "/s"}, &inventory.Service{Socket: test.socket})
			if len(got) != len(test.want) {
				t.Fatalf("advice %q, want some with %q", got, test.want)
			}
			for i := range got {
				if !strings.Contains(got[i], test.want[i]) {
					t.Errorf("advice %q, want %q in it", got[i], test.want[i])
				}
			}
		})
	}
}

func TestAdviseService(t *testing.T) {
	well := inventory.Service{Service: "a", Definition: "/a.toml", Socket: "active", Path: "active", Activator: "inactive", Target: "active"}
	tests := []struct {
		name   string
		change func(*inventory.Service)
		want   string
	}{
		{"well", func(*inventory.Service) {}, ""},
		{"systemd does not say", func(s *inventory.Service) { s.Socket, s.Path, s.Activator, s.Target = "", "", "", "" }, ""},
		{"broken", func(s *inventory.Service) { s.Problems = []string{"cmd: is missing"} }, "tripleo-wrapperctl check /a.toml"},
		{"changed", func(s *inventory.Service) { s.ReloadNeeded = true }, "tripleo-wrapperctl reload"},
		{"new", func(s *inventory.Service) { s.Socket, s.ReloadNeeded = "not-found", true }, "/a.toml is not in use yet"},
		{"masked", func(s *inventory.Service) { s.Socket, s.Activator = "masked", "masked" },
			"masked, so that it never runs: a.service a.socket; how to undo that says: tripleo-wrapperctl check /a.toml"},
		{"target stopped", func(s *inventory.Service) { s.Socket, s.Target = "inactive", "inactive" }, "systemctl enable --now tripleo-wrappers.target"},
		{"socket away", func(s *inventory.Service) { s.Socket = "failed" },
			"its socket is failed, so requests are only spooled: for the reason: systemctl status a.socket; when that is mended: systemctl restart a.socket"},
		{"not laid out", func(s *inventory.Service) {
			s.Socket, s.Faults = "failed", []string{"it is full; when that is mended: systemctl restart a.socket"}
		}, "only spooled: it is full; when that is mended: systemctl restart a.socket"},
		{"path unit away", func(s *inventory.Service) { s.Path = "failed" }, "to start it: systemctl start a.path"},
		{"wrapper is missing", func(s *inventory.Service) { s.Faults = []string{"/s/a/wrapper is missing"} },
			"/s/a/wrapper is missing; to have it made anew: tripleo-wrapperctl reload"},
		{"spool waits", func(s *inventory.Service) { s.Spooled = 2 }, "2 requests in the spool"},
		{"spool is being served", func(s *inventory.Service) { s.Spooled, s.Activator = 2, "active" }, ""},
		{"activator failed", func(s *inventory.Service) { s.Activator = "failed" }, "journalctl -u a.service"},
		{"not ours", func(s *inventory.Service) { s.Sidecars = map[inventory.State]int{inventory.NotOurs: 1} }, "somebody made 1 container by hand"},
		{"failed", func(s *inventory.Service) { s.Sidecars = map[inventory.State]int{inventory.Failed: 1} }, "1 sidecar did not start"},
		{"again and again", func(s *inventory.Service) { s.Sidecars = map[inventory.State]int{inventory.Restarting: 2} }, "2 sidecars ended unasked, and will be brought back; "},
	}
	for _, test := range tests {
		s := well
		test.change(&s)
		got := strings.Join(adviseService(&s), "\n")
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: advice %q, want %q in it", test.name, got, test.want)
		}
	}
}

// A service is found by its name, with .service or without, and by the name that
// it had before its definition was broken.
func TestLookUp(t *testing.T) {
	set := &conf.Set{
		Services: []conf.Service{{Name: "x"}, {Name: "x.service"}, {Name: "y"}},
		Broken:   []conf.Broken{{Name: "broken", Service: "haproxy"}, {Name: "y.service"}, {Name: "nameless"}},
	}
	c := &control{systemd: &manager.Manager{}, root: "/"}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, test := range []struct{ name, logged string }{
		{"x", "x"}, {"x.service", "x.service"}, {"x.service.service", "x.service"}, {"y", "y"}, {"y.service", "y.service"},
		{"haproxy", "haproxy"}, {"haproxy.service", "haproxy"}, {"broken", "haproxy"}, {"nameless.service", "nameless"},
	} {
		if got, err := c.logged(ctx, set, test.name); err != nil || got != test.logged {
			t.Errorf("%s is %q in the journal, error %v, want %q", test.name, got, err, test.logged)
		}
	}
	for _, name := range []string{"", ".service", "z", "x@n"} {
		if service, broken := lookUp(set, name); service != nil || broken != nil {
			t.Errorf("%q is %v, %v", name, service, broken)
		}
	}
}

// What a definition says is of no matter to stop, and of much to start.
func TestControlled(t *testing.T) {
	set := &conf.Set{Services: []conf.Service{{Name: "a", Dir: "/s"}}, Broken: []conf.Broken{{Name: "b", Service: "haproxy", Source: "/b.toml"}}}
	c := &control{root: "/"}
	for _, command := range []string{"start", "stop", "restart"} {
		if service, err := c.controlled(set, command, "a"); err != nil || service.Dir != "/s" {
			t.Errorf("%s a: %v, error %v", command, service, err)
		}
		service, err := c.controlled(set, command, "b")
		if stop := command == "stop"; stop != (err == nil) || stop && service.Name != "haproxy" {
			t.Errorf("%s b: %v, error %v", command, service, err)
		}
		if _, err := c.controlled(set, command, "c"); err == nil || !strings.Contains(err.Error(), "there is no service c") {
			t.Errorf("%s c: error %v", command, err)
		}
	}
}

// What could not be found out looks like nothing else, and ends status as what
// is wrong does.
func TestStatusWithoutSystemd(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	service := conf.Service{Name: "a", Dir: t.TempDir(), Engine: conf.Systemd}
	var out, complaints strings.Builder
	c := &control{stdout: terminal.New(&out), stderr: terminal.New(&complaints), systemd: &manager.Manager{}}
	if err := c.statusAll(ctx, &conf.Set{Services: []conf.Service{service}}); err != errUnwell {
		t.Errorf("error %v", err)
	}
	want := "SERVICE  SOCKET  PATH  SPOOLED  SIDECARS\na        -       -     0        not known\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.Contains(complaints.String(), "tripleo-wrapperctl: looking for sidecars of a: ") {
		t.Errorf("the reason is not said: %s", complaints.String())
	}
	out.Reset()
	if err := c.statusSidecar(ctx, &service, "n", 0); err != errUnwell || out.String() != "" {
		t.Errorf("of a sidecar: error %v\n%s", err, out.String())
	}
}

// A status that did not see all has not found out that all is well.
func TestVerdict(t *testing.T) {
	var complaints strings.Builder
	c := &control{stderr: terminal.New(&complaints)}
	err := c.verdict(false)
	if root := os.Geteuid() == 0; root != (err == nil) || root == strings.Contains(complaints.String(), "failed, outdated or not ours cannot be seen") {
		t.Errorf("root: %v, error %v, said: %s", root, err, complaints.String())
	}
	if err := c.verdict(true); err != errUnwell {
		t.Errorf("unwell: error %v", err)
	}
}

// No agent, and no systemd that is away, ends an operator's monitor.
func TestDrawMonitor(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	service := conf.Service{Name: "a", Dir: t.TempDir(), Engine: conf.Systemd}
	state := layout.StateDir(service.Dir, "a")
	if err := os.Mkdir(state, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(state, layout.SpoolFailed)); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	c := &control{stdout: terminal.New(&out)}
	broken := []conf.Broken{{Name: "b", Source: "/b.toml", Problems: []conf.Problem{{Message: "cmd: is missing"}}}}
	events := []journal.Entry{{Service: "a", Message: "asked for"}}
	if err := c.drawMonitor(ctx, inventory.NewHost(&manager.Manager{}), []conf.Service{service}, broken, events); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a        -       -     0        not known\n", "b        -       -     -        broken definition\n",
		"tripleo-wrapperctl: asking systemd for ", "/" + layout.SpoolFailed + ": ", "asked for"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}

// What somebody wrote into the system log by the activator's name does not become
// advice, and advice does nothing to a terminal.
func TestForgedAdvice(t *testing.T) {
	dir := t.TempDir()
	script := `#!/bin/sh
case "$*" in
--sync) ;;
*SYSLOG_IDENTIFIER=tripleo-wrappers-activator*_TRANSPORT=stdout*_UID=0*)
	echo '{"MESSAGE":"tripleo-wrappers-activator: laying out /s/a: it is full"}' ;;
*) echo '{"MESSAGE":"tripleo-wrappers-activator: laying out /s/a: run this"}' ;;
esac
`
	if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	why, err := notLaidOut(context.Background(), &conf.Service{Name: "a", Dir: "/s"}, time.Now())
	if want := []string{"laying out /s/a: it is full"}; err != nil || !cmp.Equal(why, want) {
		t.Errorf("%q, error %v, want %q", why, err, want)
	}
	var out strings.Builder
	c := &control{stdout: terminal.New(&out)}
	c.printAdvice([]string{"one\n  two", "a\x9bb\u009bc\x1bd"}, "a: ")
	if want := "→ a: one\n  two\n→ a: a?b?c?d\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

// Programs read the steps of requests line by line.
func TestPrintEvents(t *testing.T) {
	var out strings.Builder
	c := &control{stdout: terminal.New(&out), json: true}
	at := time.Unix(1700000000, 0).UTC()
	if err := c.printEvents([]journal.Entry{
		{Service: "a", Netns: "n", Request: "1", Time: at, Message: "asked\nfor <it>"}, {Service: "a", Netns: "n", Result: journal.Started, Time: at},
	}); err != nil {
		t.Fatal(err)
	}
	want := `{"service":"a","netns":"n","time":"2023-11-14T22:13:20Z","request":"1","message":"asked for <it>"}
{"service":"a","netns":"n","result":"started","time":"2023-11-14T22:13:20Z","message":""}
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The life of the last request is told, and the reason if it failed.
func TestTell(t *testing.T) {
	activator := func(request, result, priority, message string) journal.Entry {
		return journal.Entry{Program: layout.Activator(), Request: request, Result: result, Priority: priority, Message: "a@n.service: " + message}
	}
	other := journal.Entry{Message: "dnsmasq\nsays", Request: "forged", Result: ""}
	entries := []journal.Entry{
		activator("1", "", "6", "asked for"), other, activator("1", journal.Failed, "3", "did not start"),
		activator("2", "", "6", "asked for again"), other, activator("2", journal.Started, "6", "started"),
		activator("", "", "6", "sent SIGHUP"), other, other,
	}
	d := sidecarDetails{Sidecar: inventory.Sidecar{Sidecar: protocol.Sidecar{Unit: "a@n.service"}}}
	d.tell(entries[:3], 10)
	if d.Result != journal.Failed || d.Reason != "did not start" || len(d.Requests) != 2 || len(d.Log) != 1 {
		t.Errorf("after a failure: %+v", d)
	}
	d.tell(entries, 3)
	got := fmt.Sprint(d.Result, d.Reason, len(d.Log), d.Log[0].Message, len(d.Requests), d.Requests[0].Message, d.Requests[2].Message)
	if want := fmt.Sprint(journal.Started, "", 3, "dnsmasq says", 3, "asked for again", "sent SIGHUP"); got != want {
		t.Errorf("after a start: %s, want %s", got, want)
	}
}

func TestSummarize(t *testing.T) {
	tests := []struct {
		done []string
		want string
	}{
		{nil, ""},
		{[]string{"restarted", "restarted"}, ""},
		{[]string{"restarted", "failed", "left out", "left out"}, "1 of 4 sidecars restarted, 1 failed, and 2 were left as they were; see: tripleo-wrapperctl status a NETNS"},
		{[]string{"failed", "left out"}, "0 of 2 sidecars restarted, 1 failed, and 1 was left as it was; see: tripleo-wrapperctl status a NETNS"},
		{[]string{"failed"}, "0 of 1 sidecar restarted, 1 failed; see: tripleo-wrapperctl status a NETNS"},
	}
	for _, test := range tests {
		var deeds []deed
		for _, done := range test.done {
			deeds = append(deeds, deed{Done: done})
		}
		err := summarize(deeds, "restarted", "a")
		if got := fmt.Sprint(err); err == nil && test.want != "" || err != nil && got != test.want {
			t.Errorf("%v: error %v, want %q", test.done, err, test.want)
		}
	}
}

// An answer that does not get where it is to go is none.
func TestLostOutput(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	root := t.TempDir()
	file := filepath.Join(root, "vars.yml")
	if err := os.WriteFile(file, []byte("tripleo_systemd_wrapper_service_name: a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"convert", file}, {"convert", "--json", file}, {"check", "--root=" + root}, {"check", "--json", "--root=" + root}, {"--help"},
	} {
		var complaints strings.Builder
		status := run(context.Background(), args, full, &complaints)
		if status != exitError || strings.Count(complaints.String(), "no space left on device") != 1 {
			t.Errorf("%q: exit status %d\n%s", args, status, complaints.String())
		}
	}
}

// There is one limit of what is converted, and what is longer is not read.
func TestConvertLarge(t *testing.T) {
	name := filepath.Join(t.TempDir(), "large.yml")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{convert.MaxSize + 1, 16 * convert.MaxSize} {
		if err := os.Truncate(name, size); err != nil {
			t.Fatal(err)
		}
		if _, err := convertFile(name); err == nil || !strings.Contains(err.Error(), ": is larger than 1048576 bytes; convert the part of it that sets ") {
			t.Errorf("%d bytes: error %v", size, err)
		}
	}
}

// Who changes things does all of it, though nobody reads of it any more.
func TestGoOn(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "play.yml")
	text := "- hosts: all\n  tasks:\n"
	for _, name := range []string{"a", "b"} {
		text += "    - include_role: {name: tripleo-systemd-wrapper}\n      vars: {tripleo_systemd_wrapper_service_name: " + name + "}\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	read.Close()
	command := exec.Command("tripleo-wrapperctl", "convert", "--output="+dir, file)
	command.Stdout = write
	var exit *exec.ExitError
	if err := command.Run(); !errors.As(err, &exit) || exit.ExitCode() != exitError {
		t.Errorf("error %v, want exit status %d", err, exitError)
	}
	for _, name := range []string{"a.toml", "b.toml"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// Every command says what it does and gives an example.
func TestHelp(t *testing.T) {
	c := &control{stdout: terminal.New(io.Discard), stderr: terminal.New(io.Discard)}
	for _, command := range c.command().Commands() {
		if command.Short == "" || command.Example == "" || strings.HasSuffix(command.Short, ".") {
			t.Errorf("%s: short %q, example %q", command.Name(), command.Short, command.Example)
		}
		for line := range strings.Lines(command.Long + "\n" + command.Short) {
			if len(line) > 81 {
				t.Errorf("%s: longer than 80 columns: %s", command.Name(), line)
			}
		}
	}
}
