package client

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/arglist"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/netns"
)

// Exit statuses of the shim.
const (
	exitNoNetns  = 225 // EXIT_NETWORK in systemd.exec(5)
	exitNoExec   = 126 // as in sh(1)
	exitNotFound = 127
)

// execOptions are the options of exec: what the activator has left, where the
// command is to run, and what is to be kept of the start.
type execOptions struct {
	args, env                    string
	netns, netnsRecord           string
	definition, definitionRecord string
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
	return flags
}

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
	if flags.NArg() == 0 {
		complain(stderr, "exec: a command is missing")
		return exitUsage
	}
	if err := sameNetns(o.netns, o.netnsRecord); err != nil {
		complain(stderr, "exec: the network namespace is gone: %v", err)
		return exitNoNetns
	}
	arguments, err := readList(o.args)
	if err != nil {
		complain(stderr, "exec: %v", err)
		return exitError
	}
	environ, err := readList(o.env)
	if err != nil {
		complain(stderr, "exec: %v", err)
		return exitError
	}
	announce(environ, stderr)
	if o.definitionRecord != "" {
		// Only the operator's list is the poorer without it.
		if err := os.WriteFile(o.definitionRecord, []byte(o.definition), 0o600); err != nil {
			complain(stderr, "exec: keeping which definition this is: %v", err)
		}
	}
	command := append(flags.Args(), arguments...)
	program, err := exec.LookPath(command[0])
	if err != nil {
		complain(stderr, "%v", err) // begins with "exec: "
		if errors.Is(err, os.ErrPermission) {
			return exitNoExec
		}
		return exitNotFound
	}
	err = unix.Exec(program, command, overlay(os.Environ(), environ))
	complain(stderr, "exec: %s: %v", program, err)
	if errors.Is(err, os.ErrNotExist) {
		return exitNotFound
	}
	return exitNoExec
}

// overlay returns an environment with other variables in it. Of two of the same
// name, programs differ in which they take.
func overlay(environ, other []string) []string {
	name := func(variable string) string {
		name, _, _ := strings.Cut(variable, "=")
		return name
	}
	environ = slices.DeleteFunc(environ, func(variable string) bool {
		return slices.ContainsFunc(other, func(o string) bool { return name(o) == name(variable) })
	})
	return append(environ, other...)
}

// sameNetns says whether a network namespace is there and, if there is a record
// of which one it was, is still that one: it may have been made again under the
// same name by the time that systemd brings its sidecar back, and nobody asked
// for a sidecar in the new one.
func sameNetns(namespace, record string) error {
	if namespace == "" {
		return nil
	}
	id, err := netns.OfPath(namespace)
	if err != nil || record == "" {
		return err
	}
	recorded, err := os.ReadFile(record)
	if err != nil {
		return err
	}
	if string(recorded) != id.String() {
		return fmt.Errorf("%s has been made again since", namespace)
	}
	return nil
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
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading what the activator left: %w", err)
	}
	entries, err := arglist.Decode(content)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return entries, nil
}
