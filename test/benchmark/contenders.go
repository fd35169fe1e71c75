// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/units"
)

const (
	// dir is service_dir of all services, and where all others have their files.
	dir   = "/var/lib/benchmark"
	image = "localhost/agent"

	killScriptName   = "dnsmasq-kill"
	activatorProgram = layout.ActivatorProgram
)

// A contender is a way to start a sidecar, or a container or unit that is one.
type contender struct {
	name, about string
	// beside is the contender that its figures are compared with.
	beside string
	// definition has the engine's lines of a definition; empty for what is not
	// ours.
	definition string
	// call is the command that starts the sidecar of a namespace, kill the one
	// that ends it.
	call func(s *sidecar) []string
	kill func(s *sidecar, pid int) []string
	// burst starts many at once. Without it, each is called for by itself.
	burst func(sidecars []*sidecar) ([]string, error)
	// noSidecar says that it starts none.
	noSidecar bool
	// mayLose says that it does not start all that it is asked for.
	mayLose bool
	// maxBurst is the most that it starts at once in each round, and rareBurst the
	// most that it does in some, where each would take too long.
	maxBurst, rareBurst int
}

// Names of contenders.
const (
	podman      = "podman"
	systemd     = "systemd"
	withImage   = "systemd, image"
	docker      = "docker"
	barePodman  = "bare podman run"
	bareSystemd = "bare systemctl"
	shellCalls  = "shell wrapper"
	pathUnit    = "path unit"
	justCalls   = "calls of true"
)

func (c *contender) ours() bool { return c.definition != "" }

// service is also the name of its containers and namespaces.
func (c *contender) service() string {
	return "bench-" + strings.NewReplacer(", ", "-", " ", "-").Replace(c.name)
}

// activator is the unit of its activator.
func (c *contender) activator() string { return c.service() + ".service" }

// A sidecar is what a contender has started, or will start, in a namespace.
type sidecar struct {
	of      *contender
	netns   string
	pidFile string
}

func (c *contender) sidecar(name string) *sidecar {
	return c.in("qdhcp-" + c.service() + "-" + name)
}

// in returns the sidecar in a namespace.
func (c *contender) in(netns string) *sidecar {
	return &sidecar{c, netns, filepath.Join(dir, "dhcp", c.service(), netns, "pid")}
}

// What the names of the namespaces of bursts begin with.
const burstNetns = "qdhcp-bench-burst-"

// atOnce returns the sidecars of a burst. All contenders have theirs in the same
// namespaces, in turns: making and deleting a thousand takes longer than a burst.
func (c *contender) atOnce(n int) []*sidecar {
	var all []*sidecar
	for i := range n {
		all = append(all, c.in(burstNetns+strconv.Itoa(i)))
	}
	return all
}

// prepare makes what the sidecar needs, as the agent does.
func (s *sidecar) prepare() error {
	if err := os.MkdirAll(filepath.Dir(s.pidFile), 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(layout.NetnsDir, s.netns)); err == nil {
		return nil
	}
	_, err := run("ip", "netns", "add", s.netns)
	return err
}

// arguments are Neutron's. Without port 0, dnsmasq would take an inotify
// instance each, of which a machine has 128 by default.
func (s *sidecar) arguments() []string {
	files := filepath.Dir(s.pidFile)
	return []string{
		"--no-hosts", "--no-resolv", "--port=0", "--pid-file=" + files + "/pid", "--dhcp-leasefile=" + files + "/leases",
		"--dhcp-match=set:ipxe,175", "--bind-dynamic", "--dhcp-range=set:subnet-1,10.0.0.0,static,255.255.255.0,86400s",
		"--conf-file=/dev/null", "--domain=openstacklocal",
	}
}

// inside is how Neutron calls a helper.
func (s *sidecar) inside(program string) []string {
	call := []string{"ip", "netns", "exec", s.netns, "env", "PROCESS_TAG=dnsmasq-" + s.netns, program}
	return append(call, s.arguments()...)
}

func (s *sidecar) unit() string { return layout.SidecarUnit(s.of.service(), s.netns) }

// command is what the sidecars of all contenders are.
var command = []string{"/usr/sbin/dnsmasq", "-k"}

// contenders returns all of them. The first ones are ours.
func contenders() []*contender {
	inImage := fmt.Sprintf("image_name = %q\n", image)
	all := []*contender{
		{
			name: podman, beside: barePodman, about: "our wrapper, with `container_cli = \"podman\"`",
			definition: "container_cli = \"podman\"\n" + inImage,
			maxBurst:   100, rareBurst: 300,
		}, {
			name: systemd, beside: bareSystemd, about: "our wrapper, with `container_cli = \"systemd\"`",
			definition: "container_cli = \"systemd\"\n",
			maxBurst:   1000,
		}, {
			name: withImage, beside: bareSystemd, about: "the same with an `image_name`",
			definition: "container_cli = \"systemd\"\n" + inImage,
			maxBurst:   1000,
		}, {
			name: docker, beside: shellCalls, about: "our wrapper, with `container_cli = \"docker\"`; not privileged",
			// A throwaway host has not all capabilities, which a privileged
			// container of Docker would ask for.
			definition: "container_cli = \"docker\"\nprivileged = false\ncontainer_options = " +
				"[\"--cap-add=SYS_ADMIN\", \"--cap-add=NET_ADMIN\", \"--cap-add=NET_RAW\"]\n" + inImage,
			maxBurst: 20, rareBurst: 100,
		}, {
			name: barePodman, about: "the limit: `podman run --detach` of the container of our definition",
			// Its call is made of our unit, see install.
			kill:     func(s *sidecar, _ int) []string { return []string{"podman", "rm", "--force", "--time=0", s.netns} },
			maxBurst: 100, rareBurst: 300,
		}, {
			name: bareSystemd, about: "the limit: `systemctl start` of our unit, with nothing but the command in it",
			call:     func(s *sidecar) []string { return []string{"systemctl", "start", s.unit()} },
			kill:     func(s *sidecar, _ int) []string { return []string{"systemctl", "stop", s.unit()} },
			burst:    transaction,
			maxBurst: 1000,
		}, {
			name: shellCalls, beside: barePodman,
			about:    "in use today: a shell script that calls `podman ps --all` and `podman run` through `nsenter`",
			call:     scriptCall("wrapper"),
			kill:     scriptKill,
			maxBurst: 100,
		}, {
			name: pathUnit, beside: barePodman,
			about:    "the Ansible role's design: a list, a path unit, and a script that starts what is in the list",
			call:     scriptCall("role-wrapper"),
			kill:     scriptKill,
			mayLose:  true,
			maxBurst: 100,
		}, {
			name:      justCalls,
			about:     "no sidecar: `ip netns exec`, `env` and `true`, which is what it takes to be called by Neutron at all",
			call:      func(s *sidecar) []string { return s.inside("true") },
			noSidecar: true,
			maxBurst:  1000,
		},
	}
	for _, c := range all {
		if c.ours() {
			c.call, c.kill = wrapperCall, killScript
		}
	}
	return all
}

// rareRound is of how many rounds one is such that has rare bursts.
const rareRound = 5

// bursts says whether it starts n at once in a round.
func (c *contender) bursts(n, round int) bool {
	return n <= c.maxBurst || n <= c.rareBurst && round%rareRound == 0
}

// find returns the contender of a name, which there has to be.
func find(all []*contender, name string) *contender {
	return all[slices.IndexFunc(all, func(c *contender) bool { return c.name == name })]
}

// clear ends a sidecar, whatever state it is in, or all of a contender's burst if it
// is nil.
func (c *contender) clear(s *sidecar) error {
	if c.noSidecar {
		return nil
	}
	if c.ours() || c.name == bareSystemd {
		unit := layout.SidecarUnit(c.service(), "*")
		if s != nil {
			unit = s.unit()
		}
		// A busy systemd may take longer to answer than systemctl waits by default.
		if err := shell("SYSTEMD_BUS_TIMEOUT=%.0f systemctl stop '%s'", callLimit.Seconds(), unit); err != nil || s != nil {
			return err
		}
		switch {
		case c.burst != nil:
			return endTransaction()
		case c.name != podman && c.name != docker:
			return nil
		}
		// Of hundreds of containers that are stopped at once, not all are removed within
		// the units' TimeoutStopSec=10s.
	}
	name := burstNetns
	if s != nil {
		name = s.netns
	}
	if c.mayLose { // the script behind it may still be starting some
		if err := shell("systemctl stop role.service"); err != nil {
			return err
		}
	}
	tool, remove := "podman", "rm --force --time=0"
	if c.name == docker {
		tool, remove = "docker", "rm --force"
	}
	var err error
	for range 3 { // it gives up on a process that takes its time to die
		err = shell("%[1]s ps --all --quiet --filter=name=%[3]s | xargs --no-run-if-empty %[1]s %[2]s", tool, remove, name)
		if err == nil {
			break
		}
	}
	return err
}

// mendPathUnit has the path unit begin anew: once it has failed, it loses all
// that comes after.
func mendPathUnit() error {
	return shell(": >%s/role/processes; systemctl reset-failed role.path role.service; systemctl restart role.path", dir)
}

// wrapperCall is how Neutron starts a sidecar of ours, and killScript how it ends
// it.
func wrapperCall(s *sidecar) []string {
	return s.inside(filepath.Join(layout.StateDir(dir, s.of.service()), layout.Wrapper))
}

func killScript(_ *sidecar, pid int) []string {
	return []string{layout.KillScript(dir, killScriptName), "9", strconv.Itoa(pid)}
}

// scriptCall is the same for a script of today's, and scriptKill for its kill
// script.
func scriptCall(script string) func(*sidecar) []string {
	return func(s *sidecar) []string { return s.inside(filepath.Join(dir, script)) }
}

func scriptKill(_ *sidecar, pid int) []string {
	return []string{filepath.Join(dir, "kill"), "9", strconv.Itoa(pid)}
}

// define puts our definition in place.
func (c *contender) define() error {
	const text = `service_dir = %q
service_kill_script = %q
cmd = %q
%s
[ready]
pid_file_option = ["--pid-file"]
`
	content := fmt.Sprintf(text, dir, killScriptName, strings.Join(command, " "), c.definition)
	return os.WriteFile(filepath.Join("/etc/tripleo-wrappers", c.service()+".toml"), []byte(content), 0o644)
}

// podmanRun returns the call of Podman for the container that ours starts,
// without the options that make sense only in a unit.
func podmanRun(service string) (func(*sidecar) []string, error) {
	services := conf.Load("/").Services
	i := slices.IndexFunc(services, func(s conf.Service) bool { return s.Name == service })
	if i < 0 {
		return nil, fmt.Errorf("there is no definition of %s", service)
	}
	const netns = "NETNS"
	ours, err := units.Command(&services[i], netns)
	if err != nil {
		return nil, err
	}
	inUnit := []string{"--cgroups=split", "--sdnotify=conmon", "--log-driver=passthrough"}
	return func(s *sidecar) []string {
		var call []string
		for _, word := range ours {
			switch {
			case slices.Contains(inUnit, word):
			case strings.HasPrefix(word, "--name="):
				call = append(call, "--name="+s.netns)
			default:
				call = append(call, strings.ReplaceAll(word, netns, s.netns))
			}
		}
		return append(call, s.arguments()...)
	}, nil
}

const bareTemplate = "/etc/systemd/system/bench-bare-systemctl@.service"

// bareUnit is the template of the limit: our unit with the command itself.
func bareUnit(ours string) string {
	arguments := (&contender{name: bareSystemd}).in("%i").arguments()
	var b strings.Builder
	for line := range strings.Lines(ours) {
		if strings.HasPrefix(line, "ExecStart=") {
			words := append(slices.Clone(command), arguments...)
			line = "ExecStart=" + strings.Join(words, " ") + "\nKillSignal=SIGKILL\n"
		}
		if line == "Type=notify\n" { // nobody would tell
			line = "Type=exec\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// burstTarget wants the units of a burst.
const (
	burstTarget = "bench-burst.target"
	burstFile   = "/run/systemd/system/" + burstTarget
)

// transaction makes a target that wants the units of all sidecars: they are
// started in one transaction.
func transaction(sidecars []*sidecar) ([]string, error) {
	if err := os.MkdirAll(burstFile+".wants", 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(burstFile, []byte("[Unit]\n"), 0o644); err != nil {
		return nil, err
	}
	for _, s := range sidecars {
		if err := os.Symlink(bareTemplate, filepath.Join(burstFile+".wants", s.unit())); err != nil {
			return nil, err
		}
	}
	return []string{"systemctl", "start", burstTarget}, shell("systemctl daemon-reload")
}

// endTransaction takes the target away: as long as it is there, systemd keeps
// all that it wants, and reads it at each reload.
func endTransaction() error {
	return shell("systemctl stop %s; rm -rf %s %[2]s.wants; systemctl daemon-reload", burstTarget, burstFile)
}

//go:embed today
var today embed.FS

// install puts all contenders in place.
func install(all []*contender) error {
	if err := installToday(); err != nil {
		return err
	}
	for _, c := range all {
		if !c.ours() {
			continue
		}
		if err := c.define(); err != nil {
			return err
		}
	}
	if _, err := run("systemctl", "daemon-reload"); err != nil {
		return err
	}
	// The limits are made of what is ours, so that they are equal.
	var err error
	if find(all, barePodman).call, err = podmanRun(find(all, podman).service()); err != nil {
		return err
	}
	unit, err := os.ReadFile(filepath.Join(layout.GeneratedDir, layout.TemplateUnit(find(all, systemd).service())))
	if err != nil {
		return fmt.Errorf("reading the unit that the bare one is to equal: %w", err)
	}
	if err := os.WriteFile(bareTemplate, []byte(bareUnit(string(unit))), 0o644); err != nil {
		return err
	}
	return shell("systemctl daemon-reload && systemctl start role.path")
}

// installToday writes the scripts and units of what is not ours.
func installToday() error {
	if err := os.MkdirAll(dir+"/role", 0o755); err != nil {
		return err
	}
	files, err := today.ReadDir("today")
	if err != nil {
		return err
	}
	for _, file := range files {
		content, err := today.ReadFile("today/" + file.Name())
		if err != nil {
			return err
		}
		to, mode := dir, os.FileMode(0o755)
		if ext := filepath.Ext(file.Name()); ext == ".path" || ext == ".service" {
			to, mode = "/etc/systemd/system", 0o644
		}
		content = bytes.ReplaceAll(content, []byte("@DIR@"), []byte(dir))
		if err := os.WriteFile(filepath.Join(to, file.Name()), content, mode); err != nil {
			return err
		}
	}
	return nil
}
