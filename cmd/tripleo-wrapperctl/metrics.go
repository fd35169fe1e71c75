// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/tripleo-wrappers/tripleo-wrappers/generator"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/inventory"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/metrics"
)

func (c *control) metricsCommand() *cobra.Command {
	var output, state string
	command := &cobra.Command{
		Use:   "metrics",
		Short: "Print counts of requests and sidecars for monitoring",
		Long: `Print counts of requests by their results, times to ready, sidecars by state and
the length of the spool, in the text format of Prometheus. node_exporter's
textfile collector reads them from a file. tripleo-wrappers-metrics.timer writes
one every 30 seconds when it is enabled.

Requests are counted from the journal: since the last boot, or with --state from
where the counts in that file end.`,
		Example: `  tripleo-wrapperctl metrics
  systemctl enable --now tripleo-wrappers-metrics.timer`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return failed(c.metrics(command.Context(), output, state))
		},
	}
	command.Flags().StringVar(&output, "output", "", "write to this `FILE`, all or nothing")
	command.Flags().StringVar(&state, "state", "", "keep the counts in this `FILE` and go on from there")
	return command
}

func (c *control) metrics(ctx context.Context, output, state string) error {
	counters := &metrics.Counters{}
	if state != "" {
		var err error
		if counters, err = metrics.Load(state); err != nil {
			return fmt.Errorf("reading the counts so far: %w", err)
		}
	}
	query := journal.Query{After: counters.Cursor, Boot: counters.Cursor == "", Matches: []string{journal.ProgramIs(layout.Activator())}}
	if err := journal.Each(ctx, query, counters.Count); err != nil {
		return err
	}
	host := inventory.NewHost(c.systemd)
	_, set := generator.Render(c.root)
	sidecars, err := host.Sidecars(ctx, set.Services)
	c.warn(err)
	var services []inventory.Service
	for i := range set.Services {
		service, err := host.Service(ctx, &set.Services[i], sidecars)
		c.warn(err)
		services = append(services, service)
	}
	for i := range set.Broken {
		service, _, err := host.Broken(ctx, &set.Broken[i])
		c.warn(err)
		services = append(services, service)
	}
	var text bytes.Buffer
	if err := counters.Write(&text, services); err != nil {
		return err
	}
	if output == "" {
		_, err = c.stdout.Write(text.Bytes())
	} else {
		err = metrics.WriteFile(output, text.Bytes())
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("writing the metrics: %w; make that directory, or have the timer use another: "+
			"systemctl edit tripleo-wrappers-metrics.service", err)
	}
	if err != nil {
		return fmt.Errorf("writing the metrics: %w", err)
	}
	if state != "" {
		if err := counters.Save(state); err != nil {
			return fmt.Errorf("keeping the counts: %w", err)
		}
	}
	return nil
}
