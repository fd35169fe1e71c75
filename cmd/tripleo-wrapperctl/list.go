// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/generator"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/inventory"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/terminal"
)

func (c *control) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [SERVICE...]",
		Short: "List the sidecars of all services, or of some",
		Long: `List the sidecars of all services, or of some, by service and network namespace.

States: running, starting, stopping, restarting (ended by itself, is about to be
brought back), stopped (was asked for, and does not run any more), failed (was
asked for, and did not become ready), not ours (somebody made a container of the
sidecar's name by hand). Notes: outdated (the definition or its image has
changed since the sidecar was started), orphan (its network namespace is gone;
sync stops it, as does the activator whenever it is started).`,
		Example: `  tripleo-wrapperctl list neutron-dnsmasq
  tripleo-wrapperctl list --json | jq -r '.[] | select(.outdated) | .unit'`,
		ValidArgsFunction: c.completeServices,
		RunE: func(command *cobra.Command, args []string) error {
			_, set := generator.Render(c.root)
			services, err := c.pick(&set, args...)
			if err != nil {
				return err
			}
			var broken []conf.Broken
			if len(args) == 0 {
				broken = set.Broken
			}
			return c.list(command.Context(), services, broken)
		},
	}
}

func (c *control) list(ctx context.Context, services []conf.Service, broken []conf.Broken) error {
	host := inventory.NewHost(c.systemd)
	sidecars, err := host.Sidecars(ctx, services)
	var groups []group
	for i := range services {
		groups = append(groups, groupOf(&services[i]))
	}
	for i := range broken {
		_, theirs, brokenErr := host.Broken(ctx, &broken[i])
		err = errors.Join(err, brokenErr)
		sidecars = append(sidecars, theirs...)
		groups = append(groups, group{broken[i].Name, "its definition is broken; see: tripleo-wrapperctl check " + broken[i].Source})
	}
	if c.json {
		if sidecars == nil {
			sidecars = []inventory.Sidecar{}
		}
		if err := c.printJSON(sidecars); err != nil {
			return err
		}
		return failed(err)
	}
	if err == nil || len(sidecars) > 0 { // else nobody knows that there are none
		c.printSidecars(groups, sidecars, time.Now())
	}
	if os.Geteuid() != 0 {
		c.warn(errNotRoot)
	}
	return failed(err)
}

var errNotRoot = errors.New("without root's rights, sidecars that are stopped, failed, outdated or not ours cannot be seen")

// A group is what stands above the sidecars of a service.
type group struct{ service, what string }

func groupOf(service *conf.Service) group { return group{service.Name, runBy(service)} }

// printSidecars prints a table for each service.
func (c *control) printSidecars(groups []group, sidecars []inventory.Sidecar, now time.Time) {
	for i, group := range groups {
		if i > 0 {
			fmt.Fprintln(c.stdout)
		}
		fmt.Fprintln(c.stdout, c.stdout.Colour(terminal.Bold, group.service)+": "+group.what)
		rows := [][]terminal.Cell{terminal.Row("NETNS", "STATE", "SINCE", "PID", "RESTARTS", "NOTES")}
		for _, sidecar := range sidecars {
			if sidecar.Service == group.service {
				rows = append(rows, sidecarRow(&sidecar, now))
			}
		}
		if len(rows) == 1 {
			fmt.Fprintln(c.stdout, "  no sidecars")
			continue
		}
		c.stdout.Table(2, 0, dropEmpty(rows))
	}
	if len(groups) == 0 {
		fmt.Fprintf(c.stdout, "No services: there is no definition in %s. See tripleo-wrappers.toml(5).\n", conf.AdminDir)
	}
}

// runBy says in words what runs a service's sidecars.
func runBy(service *conf.Service) string {
	if service.Join != "" {
		return string(service.Engine) + ", in the sidecars of " + service.Join
	}
	if service.Image == "" {
		return string(service.Engine) + ", the host's own programs"
	}
	return string(service.Engine) + ", " + terminal.Printable(service.Image)
}

func sidecarRow(s *inventory.Sidecar, now time.Time) []terminal.Cell {
	row := terminal.Row(s.Netns, string(s.State), "-", "-", "-", strings.Join(notes(s), ", "))
	row[1].Colour = stateColour(s.State)
	row[5].Colour = terminal.Warn
	if s.State.Down() {
		return row
	}
	if s.Since > 0 {
		row[2].Text = age(now.Sub(time.UnixMicro(s.Since)))
	}
	if s.PID > 0 {
		row[3].Text = strconv.Itoa(s.PID)
	}
	row[4].Text = strconv.Itoa(s.Restarts)
	return row
}

func notes(s *inventory.Sidecar) []string {
	var notes []string
	if s.Outdated {
		notes = append(notes, "outdated")
	}
	if s.Orphan {
		notes = append(notes, "orphan")
	}
	return notes
}

func stateColour(state inventory.State) terminal.Colour {
	switch state {
	case inventory.Up:
		return terminal.Good
	case inventory.Starting, inventory.Stopping:
		return terminal.Plain
	case inventory.Stopped:
		return terminal.Faint
	}
	return terminal.Bad
}

// dropEmpty takes away the last column where it has nothing but its heading.
func dropEmpty(rows [][]terminal.Cell) [][]terminal.Cell {
	last := len(rows[0]) - 1
	for _, row := range rows[1:] {
		if row[last].Text != "" {
			return rows
		}
	}
	for i := range rows {
		rows[i] = rows[i][:last]
	}
	return rows
}

// age returns a time span in at most two units, as in "3h12m".
func age(d time.Duration) string {
	units := []struct {
		name string
		span time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	d = max(d, 0).Truncate(time.Second)
	for i, unit := range units {
		if d < unit.span {
			continue
		}
		text := fmt.Sprintf("%d%s", d/unit.span, unit.name)
		if i+1 < len(units) && d < 10*unit.span {
			if rest := d % unit.span / units[i+1].span; rest > 0 {
				text += fmt.Sprintf("%d%s", rest, units[i+1].name)
			}
		}
		return text
	}
	return "0s"
}
