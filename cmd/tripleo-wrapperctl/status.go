// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tripleo-wrappers/tripleo-wrappers/activator"
	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/generator"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/hostcheck"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/inventory"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/terminal"
	"github.com/tripleo-wrappers/tripleo-wrappers/units"
)

func (c *control) statusCommand() *cobra.Command {
	lines := lineCount(10)
	command := &cobra.Command{
		Use:   "status [SERVICE [NETNS]]",
		Short: "Tell how services or a sidecar do, and what to do when they do not",
		Long: `Without arguments: how each service does, and every broken definition. With a
service: its definition, units, spool and sidecars, and its last warnings. With
a network namespace: the sidecar in it, the life of the last request for it, the
last lines of its journal, what failed, and what to do next.

Exit status: 0 all is well; 1 something is wrong, or could not be found out; 3
the sidecar does not run; 4 there is no such service.`,
		Example: `  tripleo-wrapperctl status
  tripleo-wrapperctl status neutron-dnsmasq
  tripleo-wrapperctl status neutron-dnsmasq qdhcp-5c4cbd8e-3c9d-4a7b-9a3f-0c2d1e4f5a6b`,
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: c.completeSidecars(1),
		RunE: func(command *cobra.Command, args []string) error {
			_, set := generator.Render(c.root)
			args = asSidecar(args)
			switch len(args) {
			case 0:
				return c.statusAll(command.Context(), &set)
			case 1:
				return c.statusService(command.Context(), &set, args[0], int(lines))
			}
			service, err := c.find(&set, args[0])
			if err != nil {
				return &failure{exitUnknown, err}
			}
			return c.statusSidecar(command.Context(), service, args[1], int(lines))
		},
	}
	command.Flags().VarP(&lines, "lines", "n", "show this `NUMBER` of lines of the journal")
	return command
}

// errUnwell ends a status that has said what is wrong.
var errUnwell = &failure{status: exitError}

func (c *control) statusAll(ctx context.Context, set *conf.Set) error {
	host := inventory.NewHost(c.systemd)
	sidecars, err := host.Sidecars(ctx, set.Services)
	c.doubt(err)
	all := []inventory.Service{}
	for i := range set.Services {
		all = append(all, c.service(ctx, host, &set.Services[i], sidecars))
	}
	for i := range set.Broken {
		service, _, err := host.Broken(ctx, &set.Broken[i])
		c.doubt(err)
		all = append(all, service)
	}
	if c.json {
		if err := c.printJSON(all); err != nil {
			return err
		}
	} else {
		c.printServices(all)
	}
	return c.verdict(slices.ContainsFunc(all, func(s inventory.Service) bool { return len(adviseService(&s)) > 0 }))
}

// service returns how a service does, and what is wrong with what its socket's
// start makes.
func (c *control) service(ctx context.Context, host *inventory.Host, service *conf.Service, sidecars []inventory.Sidecar) inventory.Service {
	s, err := host.Service(ctx, service, sidecars)
	c.doubt(err)
	s.Replaced = hostcheck.Replaced(service.Name)
	switch {
	case s.ReloadNeeded, len(s.Replaced) > 0:
	case s.Socket == "active":
		s.Faults = append(s.Faults, activator.Faults(units.Options(service))...)
	case s.Socket == "failed", s.Socket == "activating":
		why, err := c.whyNoSocket(ctx, service)
		c.doubt(err)
		s.Faults = append(s.Faults, why...)
	}
	return s
}

// whyNoSocket returns what the last start of a service's socket complained
// about.
func (c *control) whyNoSocket(ctx context.Context, service *conf.Service) ([]string, error) {
	failed, err := c.systemd.Changed(ctx, layout.SocketUnit(service.Name))
	if err != nil {
		return nil, err
	}
	return notLaidOut(ctx, service, time.UnixMicro(failed).Add(-socketStart))
}

// notLaidOut returns why what a service's socket needs was last not laid out since
// that time. It is not looked for by the unit: journald may not know that of a
// process that has ended. Whoever has /dev/log can write under any identifier, but
// not what came from a standard output, and as root.
func notLaidOut(ctx context.Context, service *conf.Service, since time.Time) ([]string, error) {
	journal.Sync(ctx)
	entries, err := journal.Read(ctx, journal.Query{
		Since: since, Matches: []string{"SYSLOG_IDENTIFIER=" + layout.ActivatorProgram, "_TRANSPORT=stdout", "_UID=0"},
	})
	for _, entry := range slices.Backward(entries) {
		message := strings.TrimPrefix(journal.OneLine(entry.Message), layout.ActivatorProgram+": ")
		if strings.HasPrefix(message, "laying out "+layout.StateDir(service.Dir, service.Name)+": ") {
			return []string{message}, nil
		}
	}
	return nil, err
}

// socketStart is longer than the start of a socket takes.
const socketStart = 30 * time.Second

// doubt reports what keeps a status from being the whole truth.
func (c *control) doubt(err error) {
	if err != nil {
		c.doubts = true
		c.warn(err)
	}
}

// verdict ends a status that has said what is wrong.
func (c *control) verdict(unwell bool) error {
	if os.Geteuid() != 0 {
		c.doubt(errNotRoot)
	}
	if unwell || c.doubts {
		return errUnwell
	}
	return nil
}

func (c *control) printServices(all []inventory.Service) {
	if len(all) == 0 {
		fmt.Fprintf(c.stdout, "No services: there is no definition in %s. See tripleo-wrappers.toml(5).\n", conf.AdminDir)
		return
	}
	rows := [][]terminal.Cell{terminal.Row("SERVICE", "SOCKET", "PATH", "SPOOLED", "SIDECARS")}
	for _, s := range all {
		row := terminal.Row(s.Service, cmp.Or(s.Socket, "-"), cmp.Or(s.Path, "-"), s.Spooled.String(), summary(&s))
		if len(s.Problems) > 0 {
			what := "broken definition"
			if len(s.Sidecars) > 0 {
				what += ", " + summary(&s)
			}
			row = terminal.Row(s.Service, "-", "-", s.Spooled.String(), what)
			row[4].Colour = terminal.Bad
		}
		row[1].Colour, row[2].Colour = unitColour(s.Socket), unitColour(s.Path)
		rows = append(rows, row)
	}
	c.stdout.Table(0, 0, rows)
	for _, s := range all {
		c.printAdvice(adviseService(&s), s.Service+": ")
	}
}

func unitColour(state string) terminal.Colour {
	switch state {
	case "active":
		return terminal.Good
	case "":
		return terminal.Plain
	}
	return terminal.Bad
}

// notKnown stands in the place of what could not be found out.
const notKnown = "not known"

// summary says in words how many sidecars are in each state.
func summary(s *inventory.Service) string {
	if s.Sidecars == nil {
		return notKnown
	}
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(s.Sidecars)) {
		parts = append(parts, fmt.Sprintf("%d %s", s.Sidecars[state], state))
	}
	if s.Outdated > 0 {
		parts = append(parts, fmt.Sprintf("%d outdated", s.Outdated))
	}
	if s.Orphans > 0 {
		parts = append(parts, number(int(s.Orphans), "orphan"))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func (c *control) printAdvice(advice []string, prefix string) {
	for _, text := range advice {
		fmt.Fprint(c.stdout, c.stdout.Colour(terminal.Warn, "→ "+prefix))
		for line := range strings.SplitSeq(text, "\n") {
			fmt.Fprintln(c.stdout, terminal.Printable(line))
		}
	}
}

// serviceDetails is the JSON form of the status of a service.
type serviceDetails struct {
	inventory.Service
	Log    []logLine `json:"log"`    // its last warnings and errors
	Advice []string  `json:"advice"` // what to do next
}

type logLine struct {
	Time    time.Time `json:"time"`
	Request string    `json:"request,omitempty"`
	Message string    `json:"message"`
}

func logLines(entries []journal.Entry) []logLine {
	lines := []logLine{}
	for _, entry := range entries {
		lines = append(lines, logLine{entry.Time, entry.Request, journal.OneLine(entry.Message)})
	}
	return lines
}

func (c *control) statusService(ctx context.Context, set *conf.Set, name string, lines int) error {
	details := serviceDetails{Log: []logLine{}}
	host := inventory.NewHost(c.systemd)
	switch service, broken := lookUp(set, name); {
	case service != nil:
		name = service.Name
		sidecars, err := host.Sidecars(ctx, []conf.Service{*service})
		c.doubt(err)
		details.Service = c.service(ctx, host, service, sidecars)
	case broken != nil:
		var err error
		name = lastName(broken)
		details.Service, _, err = host.Broken(ctx, broken)
		c.doubt(err)
	default:
		_, err := c.find(set, name)
		name = strings.TrimSuffix(name, ".service")
		states, listErr := c.systemd.List(ctx, layout.SidecarUnit(name, "*"))
		if listErr == nil && len(states) > 0 {
			err = fmt.Errorf("%w; %s of it left running; to stop: systemctl stop '%s'",
				err, number(len(states), "sidecar"), layout.SidecarUnit(name, "*"))
		}
		return &failure{exitUnknown, err}
	}
	if lines > 0 {
		journal.Sync(ctx)
		entries, err := journal.Read(ctx, journal.Query{
			Boot: true, Lines: lines, Matches: []string{"SERVICE=" + name, "PRIORITY=4", "PRIORITY=3", "PRIORITY=2"},
		})
		c.doubt(err)
		details.Log = logLines(entries)
	}
	details.Advice = adviseService(&details.Service)
	if c.json {
		if err := c.printJSON(details); err != nil {
			return err
		}
	} else {
		c.printService(&details)
	}
	return c.verdict(len(details.Advice) > 0)
}

func (c *control) printService(s *serviceDetails) {
	c.heading(s.Service.Service, len(s.Advice) == 0)
	field := c.field
	field("Definition", s.Definition)
	for _, problem := range s.Problems {
		field("Problem", problem)
	}
	if len(s.Problems) == 0 {
		engine := s.Engine
		if s.Image != "" {
			engine += ", " + terminal.Printable(s.Image)
		}
		field("Engine", engine)
		field("Socket", c.stdout.Colour(unitColour(s.Socket), cmp.Or(s.Socket, notKnown)))
		field("Path", c.stdout.Colour(unitColour(s.Path), cmp.Or(s.Path, notKnown)))
		field("Activator", cmp.Or(s.Activator, notKnown))
	}
	field("Spool", spool(s.Spooled, s.GivenUp))
	field("Sidecars", summary(&s.Service))
	if len(s.Log) > 0 {
		fmt.Fprintln(c.stdout, "\nLast warnings and errors:")
		c.printLog(s.Log)
	}
	if len(s.Advice) > 0 {
		fmt.Fprintln(c.stdout)
	}
	c.printAdvice(s.Advice, "")
}

func spool(spooled, givenUp inventory.Count) string {
	if spooled == inventory.Unknown {
		return notKnown
	}
	return fmt.Sprintf("%v waiting, %v given up", spooled, givenUp)
}

func (c *control) heading(text string, well bool) {
	colour := terminal.Good
	if !well {
		colour = terminal.Bad
	}
	fmt.Fprintln(c.stdout, c.stdout.Colour(colour, "●")+" "+c.stdout.Colour(terminal.Bold, text))
}

func (c *control) field(name, value string) { fmt.Fprintf(c.stdout, "%12s: %s\n", name, value) }

func (c *control) printLog(lines []logLine) {
	for _, line := range lines {
		fmt.Fprintf(c.stdout, "  %s %s\n", line.Time.Format("Jan 02 15:04:05"), terminal.Printable(line.Message))
	}
}

// adviseService says what is wrong with a service, and what to do; nothing
// where all is well.
func adviseService(s *inventory.Service) []string {
	advice := []string{}
	add := func(format string, args ...any) { advice = append(advice, fmt.Sprintf(format, args...)) }
	if len(s.Problems) > 0 {
		add("%s\n  mend it (tripleo-wrapperctl check %s shows all of its problems), then: tripleo-wrapperctl reload",
			s.Problems[0], s.Definition)
		return advice
	}
	switch masked := maskedUnits(s); {
	case s.Socket == "": // nobody knows
	case s.New():
		add("%s is not in use yet; to take it into use: tripleo-wrapperctl reload", s.Definition)
	case masked != "":
		add("masked, so that it never runs: %s; how to undo that says: tripleo-wrapperctl check %s", masked, s.Definition)
	case len(s.Replaced) > 0:
		advice = append(advice, s.Replaced...)
	case s.ReloadNeeded:
		add("%s has changed since systemd read it, or a drop-in has; to take it into use: tripleo-wrapperctl reload", s.Definition)
	case s.Target != "active" && (s.Socket != "active" || s.Path != "active"):
		add("requests are only spooled while its socket is %s and its path unit is %s; to start those of all services: "+
			"systemctl enable --now %s", s.Socket, s.Path, layout.Target)
	case s.Socket != "active":
		why := "for the reason: systemctl status " + layout.SocketUnit(s.Service)
		if len(s.Faults) > 0 {
			why = strings.Join(s.Faults, "; ")
		}
		start := "; when that is mended: systemctl restart " + layout.SocketUnit(s.Service)
		add("its socket is %s, so requests are only spooled: %s%s", s.Socket, strings.TrimSuffix(why, start), start)
	case s.Path != "active":
		add("its path unit is %s, so that what is spooled has to wait; for the reason: systemctl status %s; to start it: systemctl start %[2]s",
			s.Path, layout.PathUnit(s.Service))
	case len(s.Faults) > 0:
		add("%s; to have it made anew: tripleo-wrapperctl reload", strings.Join(s.Faults, "; "))
	case s.Spooled > 0 && s.Activator != "active":
		add("%s in the spool; to have it served: tripleo-wrapperctl sync %s", number(int(s.Spooled), "request"), s.Service)
	}
	if s.Activator == "failed" {
		add("its activator failed; for the reason: journalctl -u %s.service", s.Service)
	}
	if n := s.Sidecars[inventory.Failed]; n > 0 {
		add("%s did not start; for the reason: tripleo-wrapperctl status %s NETNS", number(n, "sidecar"), s.Service)
	}
	if s.Sidecars[inventory.NotOurs] > 0 {
		add("somebody made %s by hand with the name of a sidecar; the next request for that sidecar replaces it",
			number(s.Sidecars[inventory.NotOurs], "container"))
	}
	if n := s.Sidecars[inventory.Restarting]; n > 0 {
		add("%s ended unasked, and will be brought back; for the reason: tripleo-wrapperctl status %s NETNS", number(n, "sidecar"), s.Service)
	}
	return advice
}

func maskedUnits(s *inventory.Service) string {
	var masked []string
	for unit, state := range map[string]string{
		layout.SocketUnit(s.Service): s.Socket, layout.PathUnit(s.Service): s.Path, layout.ServiceUnit(s.Service): s.Activator,
	} {
		if state == "masked" {
			masked = append(masked, unit)
		}
	}
	slices.Sort(masked)
	return strings.Join(masked, " ")
}

func namespaceExists(netns string) bool {
	_, err := os.Stat(path.Join(layout.NetnsDir, netns))
	return err == nil
}

// A sidecarDetails is the JSON form of the status of a sidecar.
type sidecarDetails struct {
	inventory.Sidecar
	NetnsExists bool            `json:"netns_exists"`
	Spooled     inventory.Count `json:"spooled"`
	GivenUp     inventory.Count `json:"given_up"`
	Requests    []logLine       `json:"requests"` // the life of the last request
	Log         []logLine       `json:"log"`      // what the sidecar and systemd said last
	Result      string          `json:"result"`   // of the last request, "" if there is none
	Reason      string          `json:"reason"`   // why the last request failed
	Advice      []string        `json:"advice"`

	recorded bool // the arguments that it was last asked for with
}

func (c *control) statusSidecar(ctx context.Context, service *conf.Service, netns string, lines int) error {
	if err := layout.CheckNetns(service.Name, netns); err != nil {
		return &failure{exitUsage, fmt.Errorf("the name of the network namespace %w", err)}
	}
	details := sidecarDetails{Sidecar: inventory.Absent(service, netns)}
	host := inventory.NewHost(c.systemd)
	sidecars, err := host.Sidecars(ctx, []conf.Service{*service})
	c.doubt(err)
	whole := c.service(ctx, host, service, nil)
	if whole.Sidecars == nil {
		return errUnwell // whether it runs is not known, and why has been said
	}
	known := false
	for _, sidecar := range sidecars {
		if sidecar.Netns == netns {
			details.Sidecar, known = sidecar, true
		}
	}
	details.recorded = slices.Contains(inventory.Recorded(service.Name), netns)
	details.NetnsExists = namespaceExists(netns)
	waiting, err := inventory.Waiting(service, netns)
	c.doubt(err)
	details.Spooled, details.GivenUp = waiting.Spooled, waiting.GivenUp
	journal.Sync(ctx)
	entries, err := journal.OfUnit(ctx, journal.Query{Boot: true, Lines: maxHistory, Matches: []string{
		"SERVICE=" + service.Name, "NETNS=" + netns, "+", "UNIT=" + layout.SidecarUnit(service.Name, netns),
	}})
	c.doubt(err)
	details.tell(entries, lines)
	details.Advice = append(adviseService(&whole), adviseSidecar(&details, service, &whole)...)
	if c.json {
		if err := c.printJSON(details); err != nil {
			return err
		}
	} else {
		c.printSidecar(&details)
	}
	verdict := c.verdict(len(details.Advice) > 0)
	switch {
	case !known && !details.NetnsExists && len(entries) == 0:
		return &failure{exitUnknown, fmt.Errorf("%[1]s never had a sidecar in network namespace %[2]s, which does not exist; "+
			"those that it had one in: tripleo-wrapperctl list %[1]s", service.Name, netns)}
	case details.State != inventory.Up:
		return &failure{status: exitNotRunning}
	}
	return verdict
}

// maxHistory is how many entries of the journal are read to find the last
// request for a sidecar and what came of it.
const maxHistory = 1000

// tell fills in what the journal says: of the last request, and the last lines
// of all others.
func (d *sidecarDetails) tell(entries []journal.Entry, lines int) {
	d.Requests, d.Log = []logLine{}, []logLine{}
	// The last request's life begins with its first line, and what was done to
	// the sidecar since, without one, belongs to it.
	last, began := "", 0
	for i, entry := range entries {
		if entry.Program == layout.Activator() && entry.Request != "" && entry.Request != last {
			last, began = entry.Request, i
		}
		if entry.Result != "" {
			d.Result, d.Reason = entry.Result, ""
			if entry.Warning() {
				d.Reason = withoutUnit(d.Unit, entry.Message)
			}
		}
	}
	var request, other []journal.Entry
	for i, entry := range entries {
		entry.Message = withoutUnit(d.Unit, entry.Message)
		switch {
		case entry.Program != layout.Activator():
			other = append(other, entry)
		case i >= began:
			request = append(request, entry)
		}
	}
	d.Requests = logLines(request)
	d.Log = logLines(other[max(0, len(other)-lines):])
}

func withoutUnit(unit, message string) string {
	return strings.TrimPrefix(journal.OneLine(message), unit+": ")
}

func (c *control) printSidecar(d *sidecarDetails) {
	c.heading(d.Service+" in "+d.Netns, d.State == inventory.Up && len(d.Advice) == 0)
	state := c.stdout.Colour(stateColour(d.State), string(d.State))
	if d.Since > 0 && !d.State.Down() {
		since := time.UnixMicro(d.Since)
		state += fmt.Sprintf(" since %s; %s ago", since.Format(time.DateTime), age(time.Since(since)))
	}
	if more := notes(&d.Sidecar); len(more) > 0 {
		state += ", " + c.stdout.Colour(terminal.Warn, strings.Join(more, ", "))
	}
	c.field("State", state)
	c.field("Unit", d.Unit+" ("+d.ActiveState+"/"+d.SubState+")")
	if d.Container != nil {
		c.field("Container", *d.Container)
	}
	if d.PID > 0 {
		c.field("Process", fmt.Sprintf("%d, brought back %s", d.PID, number(d.Restarts, "time")))
	}
	if d.Spooled != 0 || d.GivenUp != 0 {
		c.field("Spool", spool(d.Spooled, d.GivenUp))
	}
	if len(d.Requests) > 0 {
		fmt.Fprintln(c.stdout, "\nLast request"+requestID(d.Requests)+":")
		c.printLog(d.Requests)
	}
	if len(d.Log) > 0 {
		fmt.Fprintln(c.stdout, "\nJournal of the sidecar:")
		c.printLog(d.Log)
	}
	if len(d.Advice) > 0 {
		fmt.Fprintln(c.stdout)
	}
	c.printAdvice(d.Advice, "")
}

func requestID(lines []logLine) string {
	if lines[0].Request == "" {
		return ""
	}
	return " " + lines[0].Request
}

// adviseSidecar says what is wrong with a sidecar, and what to do; nothing
// where all is well.
func adviseSidecar(d *sidecarDetails, service *conf.Service, whole *inventory.Service) []string {
	advice := []string{}
	add := func(format string, args ...any) { advice = append(advice, fmt.Sprintf(format, args...)) }
	restart := fmt.Sprintf("tripleo-wrapperctl restart %s %s", d.Service, d.Netns)
	// Without a record of its arguments, only its agent can have it started.
	again := "restart the agent"
	if d.recorded {
		again += fmt.Sprintf(", or: tripleo-wrapperctl start %s %s", d.Service, d.Netns)
	}
	switch {
	case d.Orphan:
		add("its network namespace is gone, so it serves nobody; to stop it: tripleo-wrapperctl stop %s %s", d.Service, d.Netns)
	case !d.NetnsExists:
		add("network namespace %s does not exist: the agent has not made it, or has deleted it", d.Netns)
	case d.State == inventory.NotOurs:
		add("container %s was made by hand, or by another wrapper; the agent's next request replaces it; to take it over if it runs: "+
			"tripleo-wrapperctl adopt %s; to remove it: %s rm --force %s", *d.Container, d.Service, d.Engine, *d.Container)
	case d.State == inventory.Restarting:
		add("it keeps ending by itself; the lines above say why. When the cause is mended: %s", restart)
	case d.State == inventory.Up && d.Outdated:
		add("its definition or image has changed since it was started; to take that into use: %s", restart)
	case d.State.Down() && d.Reason != "":
		add("the last request ended with: %s", d.Reason)
		add("when the cause is mended, %s", again)
	case d.State.Down() && len(d.Requests) == 0 && d.Spooled == 0:
		add("no wrapper call for it is in the journal since boot: see that %s is mounted over the program in the agent's "+
			"container, and look into the agent's log", path.Join(layout.StateDir(service.Dir, service.Name), layout.Wrapper))
	case d.State.Down() && len(d.Requests) > 0:
		add("it was stopped, as the lines above say; to have it back, %s", again)
	}
	switch {
	case d.Spooled > 0 && whole.Socket == "active":
		add("a request for it waits in the spool; to have it served now: tripleo-wrapperctl sync %s", d.Service)
	case d.Spooled > 0:
		add("a request for it waits in the spool, until the socket is back")
	}
	if d.GivenUp > 0 && d.State != inventory.Up {
		add("requests for it were given up; they and the reasons are in %s",
			path.Join(layout.StateDir(service.Dir, service.Name), layout.SpoolFailed))
	}
	return advice
}
