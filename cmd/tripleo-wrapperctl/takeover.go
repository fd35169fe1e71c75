// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/proc"
)

// takeOverName is the command that a unit runs in the place of podman run.
const takeOverName = "take-over"

// takeOverCommand makes a container of Podman's that runs already the service
// that it is called by. It is called by units, from a drop-in that adopt writes.
func (c *control) takeOverCommand() *cobra.Command {
	return &cobra.Command{
		Use:     takeOverName + " UNIT ID PID CONMON",
		Short:   "Move a container of Podman's into a unit; called by units while adopt is at work",
		Example: "  ExecStart=/usr/bin/tripleo-wrapperctl take-over %n 0e6c32f1… 4711 4709",
		Hidden:  true,
		Args:    cobra.ExactArgs(4),
		RunE: func(command *cobra.Command, args []string) error {
			pid, err := strconv.Atoi(args[2])
			if err != nil {
				return err
			}
			conmon, err := strconv.Atoi(args[3])
			if err != nil {
				return err
			}
			return failed(c.takeOver(command.Context(), args[0], args[1], pid, conmon))
		},
	}
}

// How long the processes of a container are looked for, which may just be
// making others, and how long systemd may take to hear what it is told.
const (
	attachTries   = 20
	takeOverLimit = 30 * time.Second
)

// takeOver moves all processes of a container into a unit and tells systemd
// which one is the main process: conmon, as of a container that the unit has
// started. Nothing is done to the processes themselves.
func (c *control) takeOver(ctx context.Context, unit, id string, pid, conmon int) error {
	ctx, cancel := context.WithTimeout(ctx, takeOverLimit)
	defer cancel()
	if owner, err := proc.Container(pid); err != nil || owner != id || !proc.Alive(pid) {
		return fmt.Errorf("process %d is not of container %s any more", pid, id)
	}
	main := conmon
	if words, err := proc.Arguments(conmon); err != nil || !slices.Contains(words, id) {
		main = pid // conmon was killed, and the container lives on
	}
	others := []int{main}
	for range attachTries {
		processes, err := proc.OfContainer(id)
		if err != nil {
			return err
		}
		if processes = append(processes, others...); len(processes) == 0 {
			break
		}
		// One may end in between; what it has left is found by the next look.
		if err = c.systemd.Attach(ctx, unit, processes); err != nil {
			if !proc.Alive(pid) || ctx.Err() != nil {
				return err
			}
			continue
		}
		others = nil
	}
	if owner, err := proc.Unit(pid); err != nil || owner != unit {
		return fmt.Errorf("process %d of container %s is not in %s", pid, id, unit)
	}
	if sent, err := daemon.SdNotify(false, fmt.Sprintf("MAINPID=%d\nREADY=1", main)); err != nil || !sent {
		return errors.Join(errors.New("no NOTIFY_SOCKET to tell systemd by"), err)
	}
	// systemd must not see this process end while it is the main one.
	for {
		now, err := c.systemd.MainPID(ctx, unit)
		if err != nil || now == main {
			return err
		}
		if !pause(ctx) {
			return ctx.Err()
		}
	}
}
