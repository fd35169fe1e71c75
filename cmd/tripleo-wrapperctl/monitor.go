// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/generator"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/inventory"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/terminal"
)

func (c *control) monitorCommand() *cobra.Command {
	interval := span(time.Second)
	command := &cobra.Command{
		Use:   "monitor [SERVICE...]",
		Short: "Watch requests as they come, and how the services do",
		Long: `Watch the requests for all services, or for some, and on a terminal also how
many sidecars they have, until Ctrl-C. Elsewhere each step of a request is a
line, or with --json an object.`,
		Example:           "  tripleo-wrapperctl monitor --interval=5s neutron-dnsmasq",
		ValidArgsFunction: c.completeServices,
	}
	command.Flags().Var(&interval, "interval", "look again after this `TIME`")
	command.RunE = func(command *cobra.Command, args []string) error {
		if time.Duration(interval) < 100*time.Millisecond {
			return errors.New("--interval has to be 100ms or more")
		}
		_, set := generator.Render(c.root)
		services, err := c.pick(&set, args...)
		if err != nil {
			return err
		}
		var broken []conf.Broken
		if len(args) == 0 {
			broken = set.Broken
		}
		if len(services) == 0 {
			return failed(fmt.Errorf("there is nothing to watch: %s holds no definition that can be used; see: tripleo-wrapperctl check", conf.AdminDir))
		}
		return failed(c.monitor(command.Context(), services, broken, time.Duration(interval)))
	}
	return command
}

func (c *control) monitor(ctx context.Context, services []conf.Service, broken []conf.Broken, interval time.Duration) error {
	host := inventory.NewHost(c.systemd)
	query := journal.Query{Since: time.Now()}
	for _, service := range services {
		query.Matches = append(query.Matches, "SERVICE="+service.Name)
	}
	query.Matches = append(query.Matches, journal.ProgramIs(layout.Activator()))
	live := c.stdout.Interactive() && !c.json
	if live {
		fmt.Fprint(c.stdout, enterScreen)
		defer fmt.Fprint(c.stdout, leaveScreen)
	}
	var events []journal.Entry
	for {
		entries, err := journal.Read(ctx, query)
		if seenEnough(ctx, err) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(entries) > 0 {
			query.Since, query.After = time.Time{}, entries[len(entries)-1].Cursor
		}
		if live {
			events = append(events, entries...)
			events = events[max(0, len(events)-maxEvents):]
			err = c.drawMonitor(ctx, host, services, broken, events)
		} else {
			err = c.printEvents(entries)
		}
		if seenEnough(ctx, err) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return nil
		}
	}
}

// Sequences of terminals (console_codes(4), xterm): the other screen, so that
// what was there before is back at the end, and drawing it anew.
const (
	enterScreen = "\x1b[?1049h"
	leaveScreen = "\x1b[?1049l"
	redraw      = "\x1b[H\x1b[J"
)

// maxEvents is how many steps of requests are kept to be shown.
const maxEvents = 200

// drawMonitor draws the screen at once, so that it does not flicker: how the
// services do, what of that is not known, since an agent can see to that, and below
// it as many of the last steps of requests as there is room for.
func (c *control) drawMonitor(ctx context.Context, host *inventory.Host, services []conf.Service, broken []conf.Broken, events []journal.Entry) error {
	var screen bytes.Buffer
	onto := c.stdout.Onto(&screen)
	view := &control{stdout: onto, stderr: onto}
	fmt.Fprintf(&screen, "%s  every service and the last requests; Ctrl-C ends it\n\n", time.Now().Format(time.TimeOnly))
	var all []inventory.Service
	var errs []error
	for i := range services {
		sidecars, knownErr := host.Known(ctx, &services[i])
		service, err := host.Service(ctx, &services[i], sidecars)
		all, errs = append(all, service), append(errs, knownErr, err)
	}
	for i := range broken {
		service, _, err := host.Broken(ctx, &broken[i])
		all, errs = append(all, service), append(errs, err)
	}
	view.printServices(all)
	view.warn(errors.Join(errs...))
	fmt.Fprintln(&screen)
	room := c.stdout.Height() - bytes.Count(screen.Bytes(), []byte("\n")) - 1
	rows := [][]terminal.Cell{}
	for _, entry := range events[max(0, len(events)-max(room, 1)):] {
		rows = append(rows, eventRow(&entry))
	}
	view.stdout.Table(0, 3, rows)
	_, err := fmt.Fprint(c.stdout, redraw, strings.TrimSuffix(screen.String(), "\n"))
	return err
}

func eventRow(entry *journal.Entry) []terminal.Cell {
	message := journal.OneLine(entry.Message)
	if entry.Netns != "" {
		message = withoutUnit(layout.SidecarUnit(entry.Service, entry.Netns), message)
	}
	row := terminal.Row(entry.Time.Format(time.TimeOnly), entry.Service, terminal.Shorten(entry.Netns, 20), message)
	if entry.Warning() {
		row[3].Colour = terminal.Bad
	}
	return row
}

// An event is the JSON form of a step of a request.
type event struct {
	Service string `json:"service"`
	Netns   string `json:"netns,omitempty"`
	Result  string `json:"result,omitempty"`
	logLine
}

func (c *control) printEvents(entries []journal.Entry) error {
	for i := range entries {
		entry := &entries[i]
		if c.json {
			line := event{entry.Service, entry.Netns, entry.Result, logLine{entry.Time, entry.Request, journal.OneLine(entry.Message)}}
			if err := c.encoder().Encode(line); err != nil {
				return err
			}
			continue
		}
		_, err := fmt.Fprintf(c.stdout, "%s %s\n", entry.Time.Format(time.DateTime), terminal.Printable(journal.OneLine(entry.Message)))
		if err != nil {
			return err
		}
	}
	return nil
}
