// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/proc"
)

const (
	// followPoll is how often a container is looked at whose daemon is away, and
	// how soon the daemon is asked about it. It is asked less and less often, at
	// last every followLimit: each sidecar asks.
	followPoll  = 500 * time.Millisecond
	followLimit = 5 * time.Second
	// askTimeout bounds a question to Docker, which is busy at times.
	askTimeout = 30 * time.Second
	// endTimeout is how long a container may take to end when it is told to by
	// Docker, and then as long again when its processes are. Both are over when
	// systemd loses patience (TimeoutStopSec=).
	endTimeout = 4 * time.Second
	endPoll    = 100 * time.Millisecond
	// exitDocker is docker run's own exit status when the daemon fails it.
	exitDocker = 125
	// exitTerminated is the exit status of a program that SIGTERM has ended.
	exitTerminated = 128 + int(unix.SIGTERM)
)

// followOptions say which container docker run makes, or which one, by its id,
// runs already.
type followOptions struct {
	name, cidFile, attach string
}

func (o *followOptions) flags() *flag.FlagSet {
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.name, "name", "", "")
	flags.StringVar(&o.cidFile, "cidfile", "", "")
	flags.StringVar(&o.attach, "attach", "", "")
	return flags
}

// Follow runs `docker run`, the words behind its options, in the foreground and
// stays with the container until that has ended; it returns its exit status.
//
// docker run alone ends with its connection to the daemon, so with each restart
// of that. The container lives on then if the daemon has live-restore. Without
// it the daemon stops the container, and the exit status is a failure, for
// systemd to start the sidecar again.
func Follow(args []string, stderr io.Writer) int {
	var o followOptions
	flags := o.flags()
	if err := flags.Parse(args); err != nil {
		complain(stderr, "follow: %v", err)
		return exitUsage
	}
	if flags.NArg() == 0 && o.attach == "" {
		complain(stderr, "follow: a command is missing")
		return exitUsage
	}
	// docker passes on to the container what it gets, as by systemctl kill. This
	// one waits for what comes of it.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer cancel()

	if o.attach != "" {
		if err := os.WriteFile(o.cidFile, []byte(o.attach), 0o600); err != nil {
			complain(stderr, "follow: %v", err)
			return exitError
		}
		if len(processesOf(o.cidFile)) == 0 {
			complain(stderr, "follow: container %s does not run any more", o.name)
			return exitError
		}
		return o.follow(ctx, daemonState(ctx), exitOK, stderr)
	}
	// A container left over, in whatever state, does not block its name. What
	// keeps it from being removed, docker run will say.
	_, _ = ask(ctx, "docker", "rm", "--force", "--volumes", o.name)
	if err := os.Remove(o.cidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		complain(stderr, "follow: %v", err)
		return exitError
	}
	daemon := daemonState(ctx)
	return o.follow(ctx, daemon, foreground(ctx, flags.Args(), stderr), stderr)
}

// follow stays with a container for as long as it has a process, and returns its
// exit status. What the connection to it, if there was one, has ended with is
// given, and the state that the daemon was in then. When this process is told to
// end, so is the container.
func (o *followOptions) follow(ctx context.Context, daemon string, status int, stderr io.Writer) int {
	asked, wait := time.Now(), followPoll
	for pid := 0; ctx.Err() == nil && o.runs(&pid); {
		select {
		case <-time.After(followPoll):
		case <-ctx.Done():
		}
		if time.Since(asked) < wait {
			continue
		}
		// To ask a daemon that is down would have docker.socket start it, against
		// the will of whoever stopped it. Inspect says nothing while it is on its
		// way, unlike attach.
		if !isDown(daemonState(ctx)) {
			running, err := ask(ctx, "docker", "container", "inspect", "--format={{.State.Running}}", o.name)
			if err == nil && running == "true" {
				daemon = daemonState(ctx)
				status = foreground(ctx, []string{"docker", "attach", "--no-stdin", o.name}, stderr)
				asked, wait = time.Now(), followPoll
				continue
			}
		}
		asked, wait = time.Now(), min(2*wait, followLimit)
	}
	if ctx.Err() != nil {
		o.end()
		return exitTerminated
	}
	if daemonState(ctx) != daemon {
		complain(stderr, "the container has ended with Docker's daemon, exit status %d; with \"live-restore\": true "+
			"in /etc/docker/daemon.json it would have lived on", status)
		return exitDocker
	}
	return status
}

// end ends what there still is of the container: Docker may be away, or hang. It
// does not leave that to the unit, which may be another by now: whose definition
// has another engine, and so nothing in it that would remove the container.
func (o *followOptions) end() {
	sig, deadline := unix.SIGTERM, time.Now().Add(endTimeout)
	for {
		processes := processesOf(o.cidFile)
		if len(processes) == 0 || time.Now().After(deadline.Add(endTimeout)) {
			return
		}
		if time.Now().After(deadline) {
			sig = unix.SIGKILL
		}
		if sig != 0 {
			for _, pid := range processes {
				o.signal(pid, sig)
			}
			sig = 0
		}
		time.Sleep(endPoll)
	}
}

// signal sends a signal to a process, if it is still one of the container. One that
// has ended needs none, and another process may have its number by now.
func (o *followOptions) signal(pid int, sig unix.Signal) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(pidfd)
	id, err := os.ReadFile(o.cidFile)
	if err != nil {
		return
	}
	if owner, err := proc.Container(pid); err == nil && owner == string(id) {
		_ = unix.PidfdSendSignal(pidfd, sig, nil, 0)
	}
}

// daemonState returns something that changes as soon as Docker's daemon is told
// to end, and when it is started again.
func daemonState(ctx context.Context) string {
	// Where the daemon is no unit, nothing changes.
	state, _ := ask(ctx, "systemctl", "show", "--property=LoadState,ActiveState,MainPID", "docker.service")
	return state
}

// isDown says whether by that state the daemon is a unit that is down.
func isDown(state string) bool {
	down := strings.Contains(state, "ActiveState=inactive") || strings.Contains(state, "ActiveState=failed")
	return down && strings.Contains(state, "LoadState=loaded")
}

// runs says whether a container still has a process. It looks at the one first that
// was found the last time; to look for one takes a look at all of the host.
func (o *followOptions) runs(pid *int) bool {
	id, err := os.ReadFile(o.cidFile)
	if err != nil {
		return false // docker run made none
	}
	if *pid != 0 && len(id) > 0 {
		if owner, err := proc.Container(*pid); err == nil && owner == string(id) {
			return true
		}
	}
	*pid = 0
	if processes := processesOf(o.cidFile); len(processes) > 0 {
		*pid = processes[0]
	}
	return *pid != 0
}

// processesOf returns the processes of a container whose id is in a file.
func processesOf(cidFile string) []int {
	id, err := os.ReadFile(cidFile) // #nosec G304 -- named by the sidecar's unit
	if err != nil {
		return nil // docker run made none
	}
	processes, err := proc.OfContainer(string(id))
	if err != nil {
		return nil
	}
	return processes
}

// ask runs a command and returns what it prints.
func ask(ctx context.Context, words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	// #nosec G204 -- no shell; docker and systemctl, with fixed words and a checked name
	output, err := exec.CommandContext(ctx, words[0], words[1:]...).Output()
	return strings.TrimSpace(string(output)), err
}

// foreground runs a command and returns its exit status, as a shell has it. When
// this process is told to end, the command is.
func foreground(ctx context.Context, words []string, stderr io.Writer) int {
	command := exec.CommandContext(ctx, words[0], words[1:]...) // #nosec G204 -- no shell; docker, and the unit's command
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	command.Cancel = func() error { return command.Process.Signal(unix.SIGTERM) }
	command.WaitDelay = endTimeout
	err := command.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, exec.ErrNotFound):
		complain(stderr, "%v; %s", err, mendCommand) // begins with "exec: "
		return exitNotFound
	case ctx.Err() != nil:
		return exitTerminated
	case !errors.As(err, &exit):
		complain(stderr, "follow: %v", err)
		return exitNoExec
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}
