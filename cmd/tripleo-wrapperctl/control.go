// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/tripleo-wrappers/tripleo-wrappers/activator"
	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/generator"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/inventory"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/terminal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/version"
	"github.com/tripleo-wrappers/tripleo-wrappers/units"
)

// callTimeout bounds one call of an activator.
const callTimeout = 2 * time.Minute

// An action is what is done to one sidecar.
type action func(a *activator.Activator, ctx context.Context, netns string) error

// selection is which sidecars of a service are meant.
type selection struct {
	all, outdated bool
	parallel      int
}

func (c *control) startCommand() *cobra.Command {
	return c.sidecarsCommand("start", "started", (*activator.Activator).StartAgain, &cobra.Command{
		Use:   "start SERVICE NETNS...",
		Short: "Start sidecars again that were stopped or failed",
		Long: `Start sidecars that were stopped or that failed, with the arguments that they
had last. A sidecar that was never asked for since boot has none: its agent has
to call the wrapper. With --all, all that were asked for and do not run.`,
		Example: "  tripleo-wrapperctl start neutron-dnsmasq qdhcp-5c4cbd8e-3c9d-4a7b-9a3f-0c2d1e4f5a6b",
	}, func(s *inventory.Sidecar) bool { return s.State == inventory.Stopped || s.State == inventory.Failed })
}

func (c *control) stopCommand() *cobra.Command {
	return c.sidecarsCommand("stop", "stopped", (*activator.Activator).StopSidecar, &cobra.Command{
		Use:   "stop SERVICE NETNS...",
		Short: "Stop sidecars",
		Long: `Stop sidecars. An agent that looks after its helpers asks for them again. With
--all, all of the service.`,
		Example: "  tripleo-wrapperctl stop neutron-dnsmasq --all",
	}, func(s *inventory.Sidecar) bool { return !s.State.Down() })
}

func (c *control) restartCommand() *cobra.Command {
	return c.sidecarsCommand("restart", "restarted", (*activator.Activator).Restart, &cobra.Command{
		Use:   "restart SERVICE NETNS...",
		Short: "Restart sidecars, a few at a time",
		Long: `Restart sidecars with the arguments that they have, by the definition as it is
now, and wait until each is ready. They are restarted one after the other, or
--parallel at a time; after the first that fails no other is begun. That one is
down until start, or its agent, brings it up. With --all, all of the service;
with --outdated, those whose definition or image has changed since they were
started. Of these, one whose network namespace is gone is left alone.`,
		Example: `  tripleo-wrapperctl restart neutron-dnsmasq --outdated
  tripleo-wrapperctl restart neutron-haproxy --all --parallel=4`,
	}, func(s *inventory.Sidecar) bool { return !s.State.Down() })
}

// sidecarsCommand makes a command that does something to sidecars of a service:
// those that are named, or those of which --all is true.
func (c *control) sidecarsCommand(name, done string, do action, command *cobra.Command, all func(*inventory.Sidecar) bool) *cobra.Command {
	var chosen selection
	command.Use += "|--all"
	command.Args = cobra.MinimumNArgs(1)
	command.ValidArgsFunction = c.completeSidecars(1000)
	command.Flags().BoolVar(&chosen.all, "all", false, "all sidecars of the service")
	command.Flags().IntVar(&chosen.parallel, "parallel", 1, "do this `NUMBER` at a time")
	if name == "restart" {
		command.Use += "|--outdated"
		command.Flags().BoolVar(&chosen.outdated, "outdated", false, "those whose definition or image has changed since they were started")
		command.MarkFlagsMutuallyExclusive("all", "outdated")
	}
	command.DisableFlagsInUseLine = true
	command.RunE = func(command *cobra.Command, args []string) error {
		several := chosen.all || chosen.outdated
		if !several {
			args = asSidecar(args)
		}
		if named := len(args) > 1; named == several {
			return errors.New("name network namespaces or say --all, one of the two")
		}
		if chosen.parallel < 1 {
			return errors.New("--parallel has to be 1 or more")
		}
		netns := args[1:]
		for _, name := range netns {
			if err := layout.CheckNetns(args[0], name); err != nil {
				return fmt.Errorf("the name of network namespace %q %w", name, err)
			}
		}
		_, set := generator.Render(c.root)
		service, err := c.controlled(&set, name, args[0])
		if err != nil {
			return err
		}
		host := inventory.NewHost(c.systemd)
		if name != "stop" {
			changed, err := host.Changed(command.Context(), service)
			if err != nil {
				return failed(err)
			}
			if changed {
				return failed(c.notYet(command.Context(), service.Name, done))
			}
		}
		if len(netns) == 0 {
			if name == "restart" {
				do = (*activator.Activator).RestartIfUp
			}
			var sidecars []inventory.Sidecar
			if name == "stop" { // systemd knows what runs, also where the engine does not answer
				sidecars, err = host.Known(command.Context(), service)
			} else {
				sidecars, err = host.Sidecars(command.Context(), []conf.Service{*service})
			}
			if err != nil {
				return failed(err)
			}
			for _, sidecar := range sidecars {
				if all(&sidecar) && (!chosen.outdated || sidecar.Outdated) {
					netns = append(netns, sidecar.Netns)
				}
			}
		}
		return c.each(command.Context(), service, netns, chosen.parallel, done, do)
	}
	return command
}

// notYet is the error of what is to be done by a definition that systemd has not
// read as it is now.
func (c *control) notYet(ctx context.Context, service, done string) error {
	socket, err := c.systemd.State(ctx, layout.SocketUnit(service))
	if err == nil && socket.LoadState == "not-found" {
		return fmt.Errorf("the definition of %s is not in use yet, so nothing of it can be %s; first: tripleo-wrapperctl reload", service, done)
	}
	return fmt.Errorf("the definition of %s has changed since systemd read it, so they would be %s by the old one; first: tripleo-wrapperctl reload",
		service, done)
}

// controlled returns the service whose sidecars a command is for. To stop one takes
// no more than its name, which is known where the definition is broken, too.
func (c *control) controlled(set *conf.Set, command, name string) (*conf.Service, error) {
	service, err := c.find(set, name)
	if _, broken := lookUp(set, name); broken != nil && command == "stop" {
		return &conf.Service{Name: lastName(broken)}, nil
	}
	if err != nil {
		return nil, &failure{exitUnknown, err}
	}
	return service, nil
}

// A deed is the JSON form of what was done to one sidecar.
type deed struct {
	Service string  `json:"service"`
	Netns   string  `json:"netns"`
	Done    string  `json:"done"`            // started, stopped, restarted, failed, left out, orphan or down
	Error   string  `json:"error,omitempty"` // where it was not done
	Seconds float64 `json:"seconds"`

	unknown bool // that it failed since there is no such sidecar
}

// What was done to a sidecar that is of no use any more, or that somebody has stopped
// since it was looked for: nothing, which is no failure.
const (
	orphaned = "orphan"
	downNow  = "down"
)

// each does something to sidecars, several at a time, until the first failure,
// and says which were left alone.
func (c *control) each(ctx context.Context, service *conf.Service, netns []string, parallel int, done string, do action) error {
	if err := needRoot(); err != nil {
		return err
	}
	goOn()
	a := activator.New(units.Options(service), version.Version, journal.NewJournal(layout.ControlProgram), func(string) {})
	defer a.Close()
	var (
		work   sync.WaitGroup
		mu     sync.Mutex
		broken bool
		deeds  = make([]deed, len(netns))
		places = make(chan struct{}, parallel)
	)
	progress := c.stderr.Progress(len(netns))
	for i, name := range netns {
		deeds[i] = deed{Service: service.Name, Netns: name, Done: "left out"}
		places <- struct{}{}
		mu.Lock()
		stop := broken || ctx.Err() != nil
		mu.Unlock()
		if stop {
			<-places
			continue
		}
		work.Go(func() {
			defer func() { <-places }()
			began := time.Now()
			err := do(a, ctx, name)
			mu.Lock()
			defer mu.Unlock()
			deeds[i].Seconds = time.Since(began).Seconds()
			deeds[i].Done = done
			line := fmt.Sprintf("%s: %s in %.1f s", name, done, deeds[i].Seconds)
			switch {
			case errors.Is(err, activator.ErrDown):
				deeds[i].Done, deeds[i].Error = downNow, err.Error()
				line = name + ": " + deeds[i].Error
			case errors.Is(err, activator.ErrOrphan):
				deeds[i].Done, deeds[i].Error = orphaned, fmt.Sprintf("%v; to stop it: tripleo-wrapperctl stop %s %s", err, service.Name, name)
				line = c.stderr.Colour(terminal.Warn, name+": "+deeds[i].Error)
			case err != nil:
				broken = true
				deeds[i].Done, deeds[i].Error = "failed", activator.Reason(err)
				deeds[i].unknown = errors.Is(err, activator.ErrUnknown)
				line = c.stderr.Colour(terminal.Bad, name+": "+deeds[i].Error)
			}
			progress.Step(line)
		})
	}
	work.Wait()
	progress.End()
	if c.json {
		if err := c.printJSON(deeds); err != nil {
			return err
		}
	}
	return summarize(deeds, done, service.Name)
}

// summarize returns an error where not all was done. Its status says whether
// that is for nothing but a sidecar that does not exist.
func summarize(deeds []deed, done, service string) error {
	var failures, unknown, left, all int
	for _, d := range deeds {
		all++
		switch d.Done {
		case orphaned, downNow:
			all--
		case "failed":
			failures++
			if d.unknown {
				unknown++
			}
		case "left out":
			left++
		}
	}
	if failures == 0 && left == 0 {
		return nil
	}
	text := fmt.Sprintf("%d of %s %s, %d failed", all-failures-left, number(all, "sidecar"), done, failures)
	switch {
	case left == 1:
		text += ", and 1 was left as it was"
	case left > 0:
		text += fmt.Sprintf(", and %d were left as they were", left)
	}
	if unknown == failures && unknown > 0 {
		return &failure{exitUnknown, fmt.Errorf("%s; those that there are: tripleo-wrapperctl list %s", text, service)}
	}
	return failed(fmt.Errorf("%s; see: tripleo-wrapperctl status %s NETNS", text, service))
}

func (c *control) syncCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "sync [SERVICE...]",
		Short: "Serve the spool now, and stop sidecars whose network namespace is gone",
		Long: `Have the activators of all services, or of some, serve what is in the spool, and
stop sidecars whose network namespace is gone. Both go on in the background.`,
		Example:           "  tripleo-wrapperctl sync neutron-dnsmasq",
		ValidArgsFunction: c.completeServices,
		RunE: func(command *cobra.Command, args []string) error {
			services, err := c.services(args...)
			if err != nil {
				return err
			}
			return c.sync(command.Context(), services)
		},
	}
}

// A syncResult is the JSON form of what sync found.
type syncResult struct {
	Service string `json:"service"`
	protocol.Synced
	Error string `json:"error,omitempty"`
}

func (c *control) sync(ctx context.Context, services []conf.Service) error {
	goOn()
	results := []syncResult{}
	var errs []error
	for _, service := range services {
		result := syncResult{Service: service.Name}
		if err := ask(ctx, &service, protocol.MethodSync, &result.Synced); err != nil {
			result.Error = err.Error()
			errs = append(errs, fmt.Errorf("%s: %w", service.Name, err))
		} else if !c.json {
			fmt.Fprintf(c.stdout, "%s: %s, %s whose network namespace is gone\n",
				service.Name, number(result.Spooled, "spooled request"), number(result.Orphans, "sidecar"))
		}
		results = append(results, result)
	}
	if c.json {
		if err := c.printJSON(results); err != nil {
			return err
		}
	}
	return failed(errors.Join(errs...))
}

// ask calls a service's activator.
func ask(ctx context.Context, service *conf.Service, method string, reply any) error {
	socket := path.Join(layout.StateDir(service.Dir, service.Name), layout.Socket)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("calling the activator: %w; try it with sudo", err)
	}
	if err != nil {
		return fmt.Errorf("calling the activator: %w; see: systemctl status %s", err, layout.SocketUnit(service.Name))
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // ends the call, which says so
	err = varlink.DoCall(conn, method, struct{}{}, reply)
	var refusal *varlink.RemoteError
	var why protocol.Failure
	if errors.As(err, &refusal) && json.Unmarshal(refusal.Parameters, &why) == nil && why.Message != "" {
		return errors.New(why.Message)
	}
	if err != nil {
		return fmt.Errorf("calling the activator: %w; see: journalctl -u %s", err, layout.ServiceUnit(service.Name))
	}
	return nil
}
