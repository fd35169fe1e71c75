// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/arglist"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/shell"
	"github.com/tripleo-wrappers/tripleo-wrappers/units"
)

func (c *control) runCommandCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "run-command SERVICE [NETNS [ARGUMENT...]]",
		Short: "Print the command line that a sidecar is started with",
		Long: `Print the very command line that a sidecar is started with by the definition as
it is now, quoted for a shell. The arguments of the agent stand behind it: those
that are named or, for root and without --root, those that the sidecar was last
asked for with. A network namespace that is not named is printed as NETNS.`,
		Example: `  tripleo-wrapperctl run-command neutron-dnsmasq
  tripleo-wrapperctl run-command neutron-dnsmasq qdhcp-test --port=0`,
		Annotations: ofFiles,
		Args:        cobra.MinimumNArgs(1),
		// Options stand before the service.
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     c.completeSidecars(1),
		RunE:                  func(_ *cobra.Command, args []string) error { return c.runCommand(args) },
	}
	// What stands behind the service is the helper's.
	command.Flags().SetInterspersed(false)
	return command
}

func (c *control) runCommand(args []string) error {
	services, err := c.services(args[0])
	if err != nil {
		return err
	}
	netns := "NETNS"
	var arguments []string
	if len(args) > 1 {
		netns, arguments = args[1], args[2:]
		if err := layout.CheckNetns(services[0].Name, netns); err != nil {
			return fmt.Errorf("the name of network namespace %q %w", netns, err)
		}
	}
	if len(args) == 2 && c.root == "/" {
		content, err := os.ReadFile(layout.ArgsFile(services[0].Name, netns))
		if err == nil {
			arguments, err = arglist.Decode(content)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			c.warn(fmt.Errorf("reading the arguments that it was last asked for with: %w", err))
		}
	}
	words, err := units.Command(&services[0], netns)
	if err != nil {
		return failed(err)
	}
	words = append(words, arguments...)
	if c.json {
		return c.printJSON(words)
	}
	_, err = fmt.Fprintln(c.stdout, shell.Quote(words...))
	return failed(err)
}
