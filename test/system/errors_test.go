// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/shell"
)

var update = flag.Bool("update", false, "write what is seen of each error into errors.md")

// errorsFile is docs/errors.md, which test/system/run puts here and, with
// -update, takes back.
const errorsFile = "errors.md"

// A mishap is an error that somebody can meet. Its name is that of a section of
// docs/errors.md, which says how it comes about; what is seen of it is in that
// section's block.
type mishap struct {
	name    string
	provoke func(w *witness)
}

// TestErrors provokes each error that docs/errors.md has, and compares what is
// seen of it with what is written there.
func TestErrors(t *testing.T) {
	content, err := os.ReadFile(errorsFile)
	if err != nil {
		t.Fatal(err)
	}
	seen, written := map[string]string{}, blocks(string(content))
	w := &witness{t: t}
	t.Cleanup(func() {
		w.t = t
		w.undefine()
		os.Remove(program)
		run(t, "ip", "netns", "del", netnsName)
	})
	w.givenUp = w.beginGivingUp() // which takes half a minute
	for _, m := range mishaps {
		t.Run(m.name, func(t *testing.T) {
			// Two processes may write to the journal in either order, and systemd
			// may look a moment earlier or later: what is written down has to be
			// seen in one of two times.
			for try := 0; try < 2 && (try == 0 || !*update && seen[m.name] != written[m.name]); try++ {
				w.begin(t)
				m.provoke(w)
				seen[m.name] = w.end()
			}
		})
	}
	if len(seen) != len(mishaps) || t.Failed() {
		return // there is nothing to compare where not all were asked for
	}
	got, err := fill(string(content), seen)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(errorsFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(string(content), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("docs/errors.md is not what is seen now; if that is right: test/system/run -test.run=TestErrors -update\n%s", diff)
	}
}

// blocks returns the blocks of a document, by section.
func blocks(document string) map[string]string {
	found := map[string]string{}
	section, inBlock := "", false
	for line := range strings.Lines(document) {
		name, isHeading := strings.CutPrefix(strings.TrimSpace(line), "### ")
		switch {
		case inBlock && strings.HasPrefix(line, "```"):
			inBlock = false
		case inBlock:
			found[section] += line
		case isHeading:
			section = name
		case strings.HasPrefix(line, "```console"):
			inBlock = true
		}
	}
	return found
}

// fill puts what was seen into the blocks of a document, by section.
func fill(document string, seen map[string]string) (string, error) {
	var out strings.Builder
	section, inBlock := "", false
	filled := map[string]bool{}
	for line := range strings.Lines(document) {
		name, isHeading := strings.CutPrefix(strings.TrimSpace(line), "### ")
		switch {
		case inBlock && strings.HasPrefix(line, "```"):
			inBlock = false
		case inBlock:
			continue
		case isHeading:
			section = name
		case strings.HasPrefix(line, "```console"):
			block, ok := seen[section]
			if !ok || filled[section] {
				return "", fmt.Errorf("section %q of docs/errors.md: no test for its block", section)
			}
			filled[section], inBlock = true, true
			line += block
		}
		out.WriteString(line)
	}
	for name := range seen {
		if !filled[name] {
			return "", fmt.Errorf("docs/errors.md has no section %q with a block (```console)", name)
		}
	}
	return out.String(), nil
}

// A witness provokes errors of a service on a host as Neutron has it, and keeps
// what is seen of them, as on a terminal.
type witness struct {
	t       *testing.T
	s       *service  // neutron-dnsmasq
	text    string    // of its definition
	pid     int       // of the sidecar that was started last
	since   time.Time // when the error begins
	console strings.Builder
	vary    []variation
	givenUp func() // keeps what is seen of a spooled request that fails in every try
}

// A variation is what differs from one run to the next, and what stands for it
// in the document.
type variation struct {
	pattern *regexp.Regexp
	stand   string
}

func vary(pattern, stand string) variation { return variation{regexp.MustCompile(pattern), stand} }

var variations = []variation{
	vary(`[0-9a-f]{64}`, "CONTAINER"),
	vary(`[0-9a-f]{32}`, "REQUEST"),
	vary(`\.([A-Z2-7]{26}|[0-9a-f]{16})\b`, ".RANDOM"),
	vary(`\bprocess \d+`, "process PID"),
	vary(`\bProcess: \d+`, "Process: PID"),
	vary(`in control group [^ ]+:`, "in control group CGROUP:"),
	vary(`\(\d+\) - No such process`, "(PID) - No such process"),
	vary(`(?m)^(\S+)\[\d+\]: `, "$1[PID]: "),
	vary(`/proc/self/fd/\d+`, "/proc/self/fd/N"),
	vary(`\.prom\.\d+`, ".prom.NUMBER"),
	vary(`processes\.rejected-\d+`, "processes.rejected-NUMBER"),
	vary(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\dZ?`, "TIME"),
	vary(`[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d`, "TIME"),
	vary(`TIME; \d+m?s ago`, "TIME; AGE ago"),
	vary(`\bin \d+\.\d+ s\b`, "in N s"),
	vary(`running  \d+s +`, "running  0s     "),
	vary(`PID +RESTARTS`, "PID  RESTARTS"), // as wide as the longest pid
	vary(`"time":\d+`, `"time":NUMBER`),
	vary(`with Docker's daemon, exit status \d+`, "with Docker's daemon, exit status N"),
	// What the name server is called, and how it is out of reach.
	vary(`(lookup [a-z.]+).*`, "$1 …"),
	// dnsmasq says this to the system log, and more to its standard error. Which
	// of them comes first nobody knows.
	vary(`(?m)^.*FAILED to start up\n`, ""),
}

// netnsName is the network namespace of all errors.
const netnsName = "qdhcp-1"

func (w *witness) begin(t *testing.T) {
	w.t = t
	if w.s != nil {
		w.s.t = t
	}
	w.console.Reset()
	w.vary = variations
	w.since = time.Now()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seen so far:\n%s", w.console.String())
			t.Logf("journal:\n%s", run(t, "journalctl", "--no-pager", "--output=short-precise", w.sinceFlag()).stdout)
		}
	})
	run(t, "ip", "netns", "add", netnsName)
	must(t, "ip", "-n", netnsName, "link", "set", "lo", "up")
}

// end takes the sidecar away, and returns what was seen.
func (w *witness) end() string {
	if w.s != nil {
		run(w.t, "systemctl", "stop", w.s.unit(netnsName))
	}
	text := w.console.String()
	for _, v := range w.vary {
		text = v.pattern.ReplaceAllString(text, v.stand)
	}
	return text
}

// sinceFlag has journalctl begin where the error does.
func (w *witness) sinceFlag() string {
	return fmt.Sprintf("--since=@%d.%06d", w.since.Unix(), w.since.Nanosecond()/1000)
}

// define has neutron-dnsmasq be defined like that, and nothing left of how it
// was defined before.
func (w *witness) define(text string) {
	w.t.Helper()
	if w.s != nil && w.text == text {
		return
	}
	w.undefine()
	w.s, w.text = &service{t: w.t, name: "neutron-dnsmasq", dir: "/var/lib/neutron"}, text
	w.write(text)
	must(w.t, "systemctl", "daemon-reload")
	eventually(w.t, "the socket is active", func() bool { return show(w.t, w.s.name+".socket", "ActiveState") == "active" })
}

// anew has a definition be in place that was there already, but nothing of what
// was done with it.
func (w *witness) anew(text string) {
	w.t.Helper()
	w.undefine()
	w.define(text)
}

func (w *witness) undefine() {
	if w.s != nil {
		w.s.t = w.t
		w.s.remove()
		run(w.t, "systemctl", "reset-failed")
		os.RemoveAll("/run/tripleo-wrappers/" + w.s.name)
	}
	w.s, w.text = nil, ""
}

func (w *witness) write(text string) {
	w.t.Helper()
	definition := "service_dir = \"/var/lib/neutron\"\nservice_kill_script = \"dnsmasq-kill\"\n" + text
	if err := os.WriteFile(w.s.file(), []byte(definition), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// sees runs a command and keeps what it prints.
func (w *witness) sees(command ...string) result {
	w.t.Helper()
	return w.seesAs(shell.Quote(command...), command...)
}

// shell is sees of a shell's command line.
func (w *witness) shell(script string) result {
	w.t.Helper()
	return w.seesAs(script, "sh", "-c", script)
}

// seesAs is sees, with the command line written otherwise.
func (w *witness) seesAs(shown string, command ...string) result {
	w.t.Helper()
	r := runWith(w.t, together, command...)
	w.keep(shown, r)
	return r
}

// together has a command print to standard error where it does to standard
// output, as on a terminal.
func together(command *exec.Cmd) { command.Stderr = command.Stdout }

func (w *witness) keep(shown string, r result) {
	fmt.Fprintf(&w.console, "$ %s\n%s%s", shown, r.stdout, r.stderr)
	if r.status != 0 {
		fmt.Fprintf(&w.console, "[exit status %d]\n", r.status)
	}
}

// program is how the agent calls the helper: the wrapper is in its place.
const program = "/usr/local/bin/dnsmasq"

// callCommand is an agent's call in the network namespace.
func (w *witness) callCommand(arguments ...string) []string {
	w.t.Helper()
	if err := os.Symlink(w.s.state("wrapper"), program); err != nil && !os.IsExist(err) {
		w.t.Fatal(err)
	}
	return append([]string{"ip", "netns", "exec", netnsName, "dnsmasq"}, arguments...)
}

// call is the agent's call as it is seen.
func (w *witness) call(arguments ...string) result {
	w.t.Helper()
	return w.sees(w.callCommand(arguments...)...)
}

// usual are arguments that dnsmasq is content with.
var usual = []string{"--port=0", "--pid-file=/var/lib/neutron/1.pid"}

// start has the sidecar run, which is not looked at.
func (w *witness) start() {
	w.t.Helper()
	must(w.t, w.callCommand(usual...)...)
	content, err := os.ReadFile("/var/lib/neutron/1.pid")
	if err != nil {
		w.t.Fatal(err)
	}
	if w.pid, err = strconv.Atoi(strings.TrimSpace(string(content))); err != nil {
		w.t.Fatal(err)
	}
}

// stands has a word of the document stand for a text.
func (w *witness) stands(word, text string) {
	w.vary = append([]variation{vary(`\b`+regexp.QuoteMeta(text)+`\b`, word)}, w.vary...)
}

// kill calls the kill script as Neutron does.
func (w *witness) kill(signal string, pid int) result {
	w.t.Helper()
	return w.seesAs("/var/lib/neutron/kill_scripts/dnsmasq-kill "+signal+" PID",
		"/var/lib/neutron/kill_scripts/dnsmasq-kill", signal, strconv.Itoa(pid))
}

// journal keeps what the journal has of the error.
func (w *witness) journal(arguments ...string) {
	w.t.Helper()
	w.journalOf(func(string) bool { return true }, arguments...)
}

// activatorSays keeps what the service's activator has logged of the error as a
// warning or worse.
func (w *witness) activatorSays() {
	w.t.Helper()
	w.journal("-p", "warning", "-t", "tripleo-wrappers-activator", "SERVICE="+w.s.name)
}

// journalWith keeps what the journal has as soon as a text is there.
func (w *witness) journalWith(text string, arguments ...string) {
	w.t.Helper()
	w.journalOf(func(output string) bool { return strings.Contains(output, text) }, arguments...)
}

func (w *witness) journalOf(complete func(output string) bool, arguments ...string) {
	w.t.Helper()
	command := append([]string{"journalctl", "--quiet", "--no-pager", "--no-hostname", w.sinceFlag()}, arguments...)
	var output string
	eventually(w.t, fmt.Sprintf("%q is in the journal", arguments), func() bool {
		must(w.t, "journalctl", "--sync")
		output = run(w.t, command...).stdout
		return complete(output)
	})
	fmt.Fprintf(&w.console, "$ journalctl %s\n", shell.Quote(arguments...))
	for line := range strings.Lines(output) {
		// Less the time: "Nov 22 11:48:36 ".
		w.console.WriteString(line[min(len("Jan 02 15:04:05 "), len(line)):])
	}
}

// advice keeps what status tells to do about the sidecar.
func (w *witness) advice() {
	w.t.Helper()
	must(w.t, "journalctl", "--sync")
	w.shell("tripleo-wrapperctl status neutron-dnsmasq " + netnsName + " | grep →")
}

// serviceAdvice keeps what status tells to do about the service.
func (w *witness) serviceAdvice() {
	w.t.Helper()
	must(w.t, "journalctl", "--sync")
	w.shell("tripleo-wrapperctl status neutron-dnsmasq | grep →")
}

// check keeps what is wrong with the definition.
func (w *witness) check() {
	w.t.Helper()
	w.sees("tripleo-wrapperctl", "check")
}

// away stops the socket, and the target that would bring it back, until the
// error is over. With the path unit nobody serves the spool either.
func (w *witness) away(pathToo bool) {
	w.t.Helper()
	must(w.t, "systemctl", "stop", "tripleo-wrappers.target")
	w.t.Cleanup(func() { run(w.t, "systemctl", "start", "tripleo-wrappers.target") })
	eventually(w.t, "the socket is away", func() bool { return show(w.t, w.s.name+".socket", "ActiveState") == "inactive" })
	must(w.t, "systemctl", "stop", w.s.name+".service")
	if !pathToo {
		must(w.t, "systemctl", "start", w.s.name+".path")
	}
}

// hides moves a file away until the error is over.
func (w *witness) hides(name string) {
	w.t.Helper()
	// In the same directory, so that it is only renamed.
	if err := os.Rename(name, name+".hidden"); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := os.Rename(name+".hidden", name); err != nil {
			w.t.Error(err)
		}
	})
}

// mount mounts a small file system until the error is over.
func mount(t *testing.T, dir, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "mount", "-t", "tmpfs", "-o", options, "tmpfs", dir)
	t.Cleanup(func() { run(t, "umount", "--lazy", dir) })
}

// puts makes a file until the error is over.
func (w *witness) puts(name, text string, mode os.FileMode) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { os.Remove(name) })
}

// inBackground runs a command that others wait for.
func (w *witness) inBackground(command ...string) (wait func() result) {
	w.t.Helper()
	done := make(chan result, 1)
	t := w.t
	go func() { done <- run(t, command...) }()
	return func() result { return <-done }
}

// as returns a command in the network namespace of a user.
func as(uid int, command ...string) []string {
	return append([]string{"nsenter", "--net=/run/netns/" + netnsName, "setpriv", "--reuid=" + strconv.Itoa(uid), "--clear-groups"}, command...)
}

// spool puts text in the place of the spool, at once, as it may have been there
// for long.
func (w *witness) spool(text string) { spoolFor(w.t, w.s, text) }

func spoolFor(t *testing.T, s *service, text string) {
	t.Helper()
	spool := s.state("processes")
	old := time.Now().Add(-time.Hour)
	if err := os.WriteFile(spool+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(spool+".new", old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(spool+".new", spool); err != nil {
		t.Fatal(err)
	}
}

// beginGivingUp spools a request of a service that has no room to serve it.
func (w *witness) beginGivingUp() (givenUp func()) {
	w.t.Helper()
	since := time.Now()
	s := &service{t: w.t, name: "neutron-radvd", dir: "/var/lib/neutron-radvd"}
	mount(w.t, "/run/tripleo-wrappers/"+s.name, "size=4k,mode=0700")
	definition := "service_dir = \"/var/lib/neutron-radvd\"\ncontainer_cli = \"systemd\"\ncmd = \"/usr/sbin/radvd -n\"\n"
	if err := os.WriteFile(s.file(), []byte(definition), 0o644); err != nil {
		w.t.Fatal(err)
	}
	must(w.t, "systemctl", "daemon-reload")
	remove := func() { s.t = w.t; s.remove() }
	w.t.Cleanup(remove)
	eventually(w.t, "the socket is active", func() bool { return show(w.t, s.name+".socket", "ActiveState") == "active" })
	must(w.t, "ip", "netns", "add", "qrouter-1")
	w.t.Cleanup(func() { run(w.t, "ip", "netns", "del", "qrouter-1") })
	spoolFor(w.t, s, "qrouter-1 --debug=1\n")
	return func() {
		w.t.Helper()
		w.since = since
		w.journalWith("gave up", "-p", "err", "-g", "gave up", "SERVICE="+s.name)
		w.sees("cat", s.state("processes.failed"))
		remove()
	}
}

// onSmallDisk is define with a file system for service_dir that is soon full.
func (w *witness) onSmallDisk(text string) {
	w.t.Helper()
	w.undefine()
	mount(w.t, "/var/lib/neutron", "size=16m")
	w.define(text)
}

// stopDocker stops Docker's daemon until the error is over.
func stopDocker(t *testing.T) {
	t.Helper()
	must(t, "systemctl", "stop", "docker.socket", "docker.service")
	t.Cleanup(func() {
		run(t, "systemctl", "reset-failed", "docker.service")
		must(t, "systemctl", "start", "docker.service")
	})
}

// problems keeps what check says of definitions, each by itself.
func (w *witness) problems(all []problem) {
	w.t.Helper()
	w.undefine()
	w.console.WriteString("$ tripleo-wrapperctl check    # of one definition after the other\n")
	for _, p := range all {
		files := map[string]string{"neutron-dnsmasq": p.definition()}
		for name, text := range p.beside {
			files[name] = text
		}
		for name, text := range files {
			if err := os.WriteFile("/etc/tripleo-wrappers/"+name+".toml", []byte(text), 0o644); err != nil {
				w.t.Fatal(err)
			}
		}
		r := run(w.t, "tripleo-wrapperctl", "check")
		if r.status != 1 || r.stdout != "" || r.stderr == "" {
			w.t.Errorf("%q: exit status %d\n%s%s", p.definition(), r.status, r.stdout, r.stderr)
		}
		w.console.WriteString(r.stderr)
		for name := range files {
			os.Remove("/etc/tripleo-wrappers/" + name + ".toml")
		}
	}
}
