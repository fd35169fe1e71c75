// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/generator"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

func (c *control) logsCommand() *cobra.Command {
	var (
		follow bool
		lines  lineCount
	)
	command := &cobra.Command{
		Use:   "logs SERVICE [NETNS]",
		Short: "Show the journal of a service's sidecars, or of one",
		Long: `Show what the sidecars of a service, or one of them, and the requests for them
left in the journal. It is journalctl(1) that shows it; with --json, its own
JSON. The service need not be defined any more.`,
		Example: `  tripleo-wrapperctl logs -f neutron-dnsmasq
  tripleo-wrapperctl logs -n 100 neutron-dnsmasq qdhcp-5c4cbd8e-3c9d-4a7b-9a3f-0c2d1e4f5a6b`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: c.completeSidecars(1),
	}
	command.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new lines as they come")
	command.Flags().VarP(&lines, "lines", "n", "only the last `NUMBER` of lines (default all)")
	command.RunE = func(command *cobra.Command, args []string) error {
		args = asSidecar(args)
		_, set := generator.Render("/")
		service, err := c.logged(command.Context(), &set, args[0])
		if err != nil {
			return err
		}
		journalctl := []string{}
		if follow {
			journalctl = append(journalctl, "--follow")
		}
		if command.Flags().Changed("lines") {
			journalctl = append(journalctl, "--lines="+lines.String())
		}
		if c.json {
			journalctl = append(journalctl, "--output=json")
		}
		journalctl = append(journalctl, "SERVICE="+service)
		if len(args) == 2 {
			journalctl = append(journalctl, "NETNS="+args[1], "+", "UNIT="+layout.SidecarUnit(service, args[1]))
		}
		// #nosec G204 -- no shell; what the caller says stands behind FIELD=
		show := exec.CommandContext(command.Context(), "journalctl", journalctl...)
		show.Cancel = func() error { return show.Process.Signal(os.Interrupt) }
		show.WaitDelay = time.Second
		show.Stdin, show.Stdout, show.Stderr = os.Stdin, os.Stdout, os.Stderr
		err = show.Run()
		if seenEnough(command.Context(), err) {
			return nil
		}
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			status := exit.ExitCode() // journalctl has said why
			if signaled, ok := exit.Sys().(syscall.WaitStatus); ok && signaled.Signaled() {
				status = 128 + int(signaled.Signal()) // as a shell has it, for a pager that was left
			}
			return &failure{status: status}
		}
		return failed(err)
	}
	return command
}

// logged returns the name by which a service is in the journal: an error where
// there is no such service and never was, as far as the journal goes back.
func (c *control) logged(ctx context.Context, set *conf.Set, name string) (string, error) {
	switch service, broken := lookUp(set, name); {
	case service != nil:
		return service.Name, nil
	case broken != nil:
		return lastName(broken), nil
	}
	_, err := c.find(set, name)
	name = strings.TrimSuffix(name, ".service")
	left, journalErr := journal.Read(ctx, journal.Query{Lines: 1, Matches: []string{"SERVICE=" + name}})
	if journalErr != nil || len(left) > 0 {
		return name, nil // journalctl says the same
	}
	return "", &failure{exitUnknown, fmt.Errorf("%w; and nothing in the journal is of that name", err)}
}
