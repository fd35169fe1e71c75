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
	// followPoll is how often a container is looked at whose daemon is away.
	followPoll = 500 * time.Millisecond
	// askTimeout bounds a question to Docker, which is busy at times.
	askTimeout = 30 * time.Second
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
	// systemd signals all processes of the unit, and docker passes on to the
	// container what it gets. This one waits for what comes of it.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGTERM)

	if o.attach != "" {
		if err := os.WriteFile(o.cidFile, []byte(o.attach), 0o600); err != nil {
			complain(stderr, "follow: %v", err)
			return exitError
		}
		if !alive(o.cidFile) {
			complain(stderr, "follow: container %s does not run any more", o.name)
			return exitError
		}
		return o.follow(daemonState(), exitOK, told, stderr)
	}
	// A container left over, in whatever state, does not block its name. What
	// keeps it from being removed, docker run will say.
	_, _ = ask("docker", "rm", "--force", "--volumes", o.name)
	if err := os.Remove(o.cidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		complain(stderr, "follow: %v", err)
		return exitError
	}
	daemon := daemonState()
	return o.follow(daemon, foreground(flags.Args(), stderr), told, stderr)
}

// follow stays with a container for as long as it has a process, and returns its
// exit status. What the connection to it, if there was one, has ended with is
// given, and the state that the daemon was in then.
func (o *followOptions) follow(daemon string, status int, told chan os.Signal, stderr io.Writer) int {
	for alive(o.cidFile) {
		select {
		case <-time.After(followPoll):
		case <-told:
			return exitTerminated
		}
		// Says nothing while the daemon is away, unlike docker attach.
		running, err := ask("docker", "container", "inspect", "--format={{.State.Running}}", o.name)
		if err == nil && running == "true" {
			daemon = daemonState()
			status = foreground([]string{"docker", "attach", "--no-stdin", o.name}, stderr)
		}
	}
	if daemonState() != daemon {
		complain(stderr, "the container has ended with Docker's daemon, exit status %d; with \"live-restore\": true "+
			"in /etc/docker/daemon.json it would have lived on", status)
		return exitDocker
	}
	return status
}

// daemonState returns something that changes as soon as Docker's daemon is told
// to end, and when it is started again.
func daemonState() string {
	// Where the daemon is no unit, nothing changes.
	state, _ := ask("systemctl", "show", "--property=ActiveState,MainPID", "docker.service")
	return state
}

// alive says whether a container has a process: its id is in a file.
func alive(cidFile string) bool {
	id, err := os.ReadFile(cidFile) // #nosec G304 -- named by the sidecar's unit
	if err != nil {
		return false // docker run made none
	}
	processes, err := proc.OfContainer(string(id))
	return err == nil && len(processes) > 0
}

// ask runs a command and returns what it prints.
func ask(words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	// #nosec G204 -- no shell; docker and systemctl, with fixed words and a checked name
	output, err := exec.CommandContext(ctx, words[0], words[1:]...).Output()
	return strings.TrimSpace(string(output)), err
}

// foreground runs a command and returns its exit status, as a shell has it.
func foreground(words []string, stderr io.Writer) int {
	command := exec.Command(words[0], words[1:]...) // #nosec G204 -- no shell; docker, and the unit's command
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	err := command.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, exec.ErrNotFound):
		complain(stderr, "%v; %s", err, mendCommand) // begins with "exec: "
		return exitNotFound
	case !errors.As(err, &exit):
		complain(stderr, "follow: %v", err)
		return exitNoExec
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}
