// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/inventory"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// completionTimeout is how long somebody who has pressed Tab is kept waiting.
const completionTimeout = 2 * time.Second

func (c *control) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:                   "completion bash|zsh|fish",
		Short:                 "Print the script by which a shell completes this command",
		Example:               "  tripleo-wrapperctl completion bash > /etc/bash_completion.d/tripleo-wrapperctl",
		Annotations:           ofFiles,
		Args:                  cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs:             []string{"bash", "zsh", "fish"},
		DisableFlagsInUseLine: true,
		RunE: func(command *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return failed(command.Root().GenBashCompletionV2(c.stdout, true))
			case "zsh":
				return failed(command.Root().GenZshCompletion(c.stdout))
			case "fish":
				return failed(command.Root().GenFishCompletion(c.stdout, true))
			}
			return fmt.Errorf("no completion for %s", args[0])
		},
	}
}

type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completeServices completes names of services.
func (c *control) completeServices(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	services, err := c.services()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, service := range services {
		if !slices.Contains(args, service.Name) {
			names = append(names, service.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeSidecars completes a service and then network namespaces, at most so
// many of them; those that have or had a sidecar.
func (c *control) completeSidecars(most int) completion {
	return func(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return c.completeServices(command, args, typed)
		}
		if len(args) > most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
		defer cancel()
		names := inventory.Recorded(args[0])
		if states, err := c.systemd.List(ctx, layout.SidecarUnit(args[0], "*")); err == nil {
			for _, state := range states {
				if netns, ok := layout.SidecarNetns(args[0], state.Unit); ok {
					names = append(names, netns)
				}
			}
		}
		slices.Sort(names)
		names = slices.DeleteFunc(slices.Compact(names), func(name string) bool { return slices.Contains(args[1:], name) })
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
