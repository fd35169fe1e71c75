// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/arglist"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/netns"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/rootfs"
)

// Exit statuses of the shim.
const (
	exitNoLog    = 209 // EXIT_STDOUT in systemd.exec(5)
	exitNoNetns  = 225 // EXIT_NETWORK there
	exitNoExec   = 126 // as in sh(1)
	exitNotFound = 127
)

// execOptions are the options of exec: what the activator has left, where the
// command is to run, and what is to be kept of the start.
type execOptions struct {
	args, env                    string
	netns, netnsRecord           string
	definition, definitionRecord string
	notify                       bool
	log                          string
	image, service, instance     string
	binds                        []rootfs.Bind
	unprivileged                 bool
	join, container              string
}

func (o *execOptions) flags() *flag.FlagSet {
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.args, "args", "", "")
	flags.StringVar(&o.env, "env", "", "")
	flags.StringVar(&o.netns, "netns", "", "")
	flags.StringVar(&o.netnsRecord, "netns-record", "", "")
	flags.StringVar(&o.definition, "definition", "", "")
	flags.StringVar(&o.definitionRecord, "definition-record", "", "")
	flags.BoolVar(&o.notify, "notify", false, "")
	flags.StringVar(&o.log, "log", "", "")
	flags.StringVar(&o.image, "image", "", "")
	flags.StringVar(&o.service, "service", "", "")
	flags.StringVar(&o.instance, "instance", "", "")
	flags.Func("bind", "", func(text string) error {
		bind, err := parseBind(text)
		o.binds = append(o.binds, bind)
		return err
	})
	flags.BoolVar(&o.unprivileged, "unprivileged", false, "")
	flags.StringVar(&o.join, "join", "", "")
	flags.StringVar(&o.container, "container", "", "")
	return flags
}

// mendCommand is what to do about a command that cannot be run.
const mendCommand = "install it on the host, or mend the definition: " + layout.ControlProgram + " check"

// Exec becomes a sidecar's command: the words behind its options and, behind
// those, the arguments in a file. It returns, with the exit status, only if
// that fails.
func Exec(args []string, stderr io.Writer) int {
	var o execOptions
	flags := o.flags()
	if err := flags.Parse(args); err != nil {
		complain(stderr, "exec: %v", err)
		return exitUsage
	}
	if o.join != "" {
		if err := becomeSealed(); err != nil {
			complain(stderr, "exec: running from a copy of this program: %v", err)
			return exitError
		}
	}
	command, err := holdNetns(o.netns, o.netnsRecord, flags.Args())
	if err != nil {
		complain(stderr, "exec: %v", err)
		return exitNoNetns
	}
	arguments, err := readList(o.args)
	if err != nil {
		complain(stderr, "exec: %v", err)
		return exitError
	}
	command = append(command, arguments...)
	if len(command) == 0 {
		complain(stderr, "exec: a command is missing")
		return exitUsage
	}
	environ, err := readList(o.env)
	if err != nil {
		complain(stderr, "exec: %v", err)
		return exitError
	}
	announce(environ, stderr)
	if o.definitionRecord != "" {
		// Only the operator's list is the poorer without it.
		if err := os.WriteFile(o.definitionRecord, []byte(o.definition), 0o600); err != nil && !errors.Is(err, unix.EROFS) { // by a drop-in
			complain(stderr, "exec: keeping which definition this is: %v", err)
		}
	}
	// To tell systemd when all is done that takes time; its socket is the host's.
	ready := func() error { return nil }
	if o.notify {
		if ready, err = notifier(); err != nil {
			complain(stderr, "exec: %v", err)
			return exitError
		}
	}
	output, err := openLog(o.log) // the file is the host's
	if err != nil {
		complain(stderr, "exec: log = \"file\": %v; mend that, or have log = \"journal\" in the definition", err)
		return exitNoLog
	}
	if o.image != "" {
		if err := enterImage(&o); err != nil {
			complain(stderr, "exec: %v", err)
			return exitError
		}
	}
	if o.join != "" {
		if err := enterSidecar(o.join, o.container, o.instance); err != nil {
			complain(stderr, "exec: joining %s: %v", o.join, err)
			return exitError
		}
	}
	if o.unprivileged {
		if err := keepCapabilities(unprivileged); err != nil {
			complain(stderr, "exec: giving up capabilities: %v", err)
			return exitError
		}
	}
	program, err := exec.LookPath(command[0])
	if err != nil {
		complain(stderr, "%v; %s", err, mendCommand) // begins with "exec: "
		if errors.Is(err, os.ErrPermission) {
			return exitNoExec
		}
		return exitNotFound
	}
	if err := ready(); err != nil {
		complain(stderr, "exec: telling systemd: %v", err)
		return exitError
	}
	err = output.become(program, command, overlay(os.Environ(), environ))
	complain(stderr, "exec: %s: %v; %s", program, err, mendCommand)
	if errors.Is(err, os.ErrNotExist) {
		return exitNotFound
	}
	return exitNoExec
}

// A log is the open file that a command's output goes to; without one, the output
// goes where this process's goes.
type log struct{ fd int }

const noLog = -1

// openLog opens a file to append to, and makes it if need be. systemd cannot do
// that by StandardOutput=: it opens the file before it makes the directory
// (LogsDirectory=).
func openLog(name string) (log, error) {
	if name == "" {
		return log{noLog}, nil
	}
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_NOCTTY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return log{noLog}, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return log{fd}, nil
}

// become executes a program that writes to the log, and returns only if that
// fails. What this process itself has to say is read where it goes now: the
// caller is told of it.
func (l log) become(program string, command, environ []string) error {
	if l.fd == noLog {
		return unix.Exec(program, command, environ)
	}
	for _, fd := range []int{unix.Stdout, unix.Stderr} {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) // #nosec G115 -- 1 or 2
		if err != nil {
			return err
		}
		defer func() { _ = unix.Dup3(own, fd, 0) }()
		if err := unix.Dup3(l.fd, fd, 0); err != nil {
			return err
		}
	}
	return unix.Exec(program, command, environ)
}

// notifier returns a function that tells systemd that the service has started
// (sd_notify(3)), where systemd wants to be told. Nobody else will.
func notifier() (func() error, error) {
	const variable = "NOTIFY_SOCKET"
	socket := os.Getenv(variable)
	if socket == "" {
		return func() error { return nil }, nil
	}
	if err := os.Unsetenv(variable); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", socket, err)
	}
	return func() error { return unix.Send(fd, []byte("READY=1"), 0) }, nil
}

// imageTimeout bounds looking for an image, which may have to be pulled.
const imageTimeout = 10 * time.Minute

// enterImage changes the root file system, the environment and the working
// directory to those of an image.
func enterImage(o *execOptions) error {
	ctx, cancel := context.WithTimeout(context.Background(), imageTimeout)
	defer cancel()
	image, err := rootfs.Enter(ctx, o.service, o.instance, o.image, o.binds)
	if err != nil {
		return err
	}
	for _, variable := range image.Env {
		name, value, _ := strings.Cut(variable, "=")
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("taking over %q from the image: %w", variable, err)
		}
	}
	return os.Chdir(image.WorkingDir)
}

// parseBind reads SRC:DST or SRC:DST:ro.
func parseBind(text string) (rootfs.Bind, error) {
	parts := strings.Split(text, ":")
	readOnly := len(parts) == 3 && parts[2] == "ro"
	if len(parts) != 2 && !readOnly {
		return rootfs.Bind{}, errors.New("has to be SRC:DST or SRC:DST:ro")
	}
	return rootfs.Bind{Source: parts[0], Destination: parts[1], ReadOnly: readOnly}, nil
}

// unprivileged are the capabilities of a container that is not privileged:
// Podman's default ones (containers.conf(5)).
const unprivileged = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_KILL | 1<<unix.CAP_NET_BIND_SERVICE | 1<<unix.CAP_SETFCAP | 1<<unix.CAP_SETGID |
	1<<unix.CAP_SETPCAP | 1<<unix.CAP_SETUID | 1<<unix.CAP_SYS_CHROOT

// keepCapabilities takes all capabilities but these from this thread and what it
// becomes. systemd cannot: they are needed to change the root file system, or to
// enter another sidecar.
//
// The thread loses them at once, and not only the program that it becomes: that
// is looked for where whoever is root in a container can have put links, and
// with CAP_SYS_PTRACE these lead to the host by way of /proc/PID/root. The other
// threads keep theirs, so nobody may get at their memory through this one
// (PR_SET_DUMPABLE in prctl(2)); the program that it becomes is as any other.
func keepCapabilities(keep uint64) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	for capability := range 64 {
		if keep&(1<<capability) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0)
		if err == unix.EINVAL {
			break // the kernel has no more
		}
		if err != nil {
			return err
		}
	}
	return limitCapabilities(keep)
}

// overlay returns an environment with other variables in it. Of two of the same
// name, programs differ in which they take.
func overlay(environ, other []string) []string { return append(without(environ, other), other...) }

// without returns an environment less the variables that another one has.
func without(environ, other []string) []string {
	name := func(variable string) string {
		name, _, _ := strings.Cut(variable, "=")
		return name
	}
	return slices.DeleteFunc(environ, func(variable string) bool {
		return slices.ContainsFunc(other, func(o string) bool { return name(o) == name(variable) })
	})
}

// holdNetns sees to it that a command gets the network namespace that is
// recorded, and returns the command. The name may stand for another one by now:
// made again by the time that systemd brings the sidecar back, where nobody asked
// for one, or put there by an agent, since agents can write to /run/netns.
//
// Where systemd has entered the namespace, it is netns.Own, and nothing is left
// to change. Podman is told of an open file that this process leaves it, rather
// than of the name, which it would look up once more.
func holdNetns(namespace, record string, command []string) ([]string, error) {
	if namespace == "" {
		return command, nil
	}
	const ask = "the agent has to ask for the sidecar again"
	flags := unix.O_PATH | unix.O_NOFOLLOW
	if namespace == netns.Own {
		flags = unix.O_PATH
	}
	fd, err := unix.Open(namespace, flags, 0)
	if err != nil {
		return nil, fmt.Errorf("the network namespace is gone: %w; if it comes back, %s",
			&os.PathError{Op: "open", Path: namespace, Err: err}, ask)
	}
	id, err := netns.OfFile(fd)
	if err != nil {
		return nil, fmt.Errorf("the network namespace is gone: %s %w; if it comes back, %s", namespace, err, ask)
	}
	if record != "" {
		recorded, err := os.ReadFile(record) // #nosec G304 -- named by the sidecar's unit
		if err != nil {
			return nil, notLeft(err)
		}
		if string(recorded) != id.String() {
			why := "it has been made again since"
			if namespace == netns.Own {
				why += ", or systemd, before version 242, did not enter it"
			}
			return nil, fmt.Errorf("the network namespace is gone: %s; %s", why, ask)
		}
	}
	i := slices.Index(command, layout.PodmanNetwork+namespace)
	if i < 0 {
		unix.CloseOnExec(fd)
		return command, nil
	}
	command = slices.Clone(command)
	command[i] = fmt.Sprintf("%s/proc/%d/fd/%d", layout.PodmanNetwork, os.Getpid(), fd)
	return command, nil
}

// announce leaves the request's id in the journal of the sidecar's unit.
func announce(environ []string, stderr io.Writer) {
	for _, entry := range environ {
		if id, ok := strings.CutPrefix(entry, layout.RequestVariable+"="); ok {
			complain(stderr, "starting for request %s", id)
		}
	}
}

func readList(name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	content, err := os.ReadFile(name) // #nosec G304 -- named by the sidecar's unit
	if err != nil {
		return nil, notLeft(err)
	}
	entries, err := arglist.Decode(content)
	if err != nil {
		return nil, notLeft(fmt.Errorf("%s: %w", name, err))
	}
	return entries, nil
}

// notLeft is the error of what a request leaves for its sidecar and cannot be
// read: somebody may have started the unit of a sidecar that nobody asked for.
func notLeft(err error) error {
	return fmt.Errorf("reading what the activator left: %w; a sidecar is started by its agent's call of the wrapper, "+
		"and then again by %s start", err, layout.ControlProgram)
}
