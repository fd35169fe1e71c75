// SPDX-License-Identifier: Apache-2.0

// Command tripleo-wrapperctl is for the operator of a host. Each command is in
// a file of its own.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/generator"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/manager"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/shell"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/terminal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/version"
)

// Exit statuses. Those of status are systemctl's (LSB).
const (
	exitError      = 1
	exitUsage      = 2
	exitNotRunning = 3
	exitUnknown    = 4
)

// patience is for how long systemd may be away, such as while dbus-daemon is
// restarted, before somebody at a terminal is told.
const patience = 10 * time.Second

func main() {
	// An operator who has seen enough, or a service that is stopped. It holds up
	// to the end: timeout(1), for one, sends its signal twice, and the second
	// would kill a program that has finished.
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := &control{
		stdout:  terminal.New(stdout),
		stderr:  terminal.New(stderr),
		systemd: &manager.Manager{Patience: patience},
	}
	defer c.systemd.Close()
	command := c.command()
	command.SetArgs(args)
	command.SetOut(c.stdout)
	command.SetErr(stderr)
	err := command.ExecuteContext(ctx)
	status := 0
	if failed := (*failure)(nil); errors.As(err, &failed) {
		c.complain(terminal.Bad, failed.message())
		status = failed.status
	} else if err != nil {
		fmt.Fprintf(stderr, "tripleo-wrapperctl: %v; try --help\n", err)
		return exitUsage
	}
	if lost := c.stdout.Err(); lost != nil && !errors.Is(err, lost) {
		c.complain(terminal.Bad, "writing the output: "+lost.Error())
		status = cmp.Or(status, exitError)
	}
	return status
}

// seenEnough tells whether a command that goes on until Ctrl-C has come to its
// end. Ctrl-C is for all that run on the terminal: err may be that of a program
// which noticed it before this one did.
func seenEnough(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return true
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == unix.SIGINT
}

// A failure is an error of a command that made sense, and the exit status.
type failure struct {
	status int
	err    error // nil where all has been said
}

func (f *failure) Error() string { return f.message() }
func (f *failure) Unwrap() error { return f.err }

func (f *failure) message() string {
	if f.err == nil {
		return ""
	}
	return f.err.Error()
}

func failed(err error) error {
	if err == nil {
		return nil
	}
	return &failure{exitError, err}
}

// control is what all commands share.
type control struct {
	stdout, stderr *terminal.Terminal
	systemd        *manager.Manager

	root string // --root
	json bool   // --json

	doubts bool // whether something could not be found out, which has been said
}

// command returns the whole command line.
func (c *control) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "tripleo-wrapperctl",
		Short: "Show and control the sidecars of this host",
		Long: `tripleo-wrapperctl shows and controls the sidecars of this host: the helpers of
Neutron's agents (dnsmasq, haproxy, keepalived, radvd) that run outside the
agents' containers. Without a command it lists them.

A sidecar is named by its service, which is the name of its definition in
/etc/tripleo-wrappers, and its network namespace, which is Neutron's.`,
		Example: `  A tenant has no DHCP. What is the matter with it?
      tripleo-wrapperctl status neutron-dnsmasq qdhcp-5c4cbd8e-3c9d-4a7b-9a3f-0c2d1e4f5a6b
  What is wrong with my definition?
      tripleo-wrapperctl check
  Take changed definitions into use, and see what is to be restarted for them:
      tripleo-wrapperctl reload
      tripleo-wrapperctl restart neutron-dnsmasq --outdated`,
		Version:           version.Version,
		Args:              cobra.NoArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: func(command *cobra.Command, _ []string) error { return c.checkRoot(command) },
	}
	root.SetVersionTemplate("tripleo-wrapperctl {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringVar(&c.root, "root", "/", "read the definitions below this `DIR` (check, cat, run-command)")
	flags.BoolVar(&c.json, "json", false, "print JSON, for programs")
	list := c.listCommand()
	root.RunE = list.RunE
	root.AddCommand(
		list, c.statusCommand(), c.monitorCommand(), c.logsCommand(),
		c.startCommand(), c.stopCommand(), c.restartCommand(), c.syncCommand(),
		c.checkCommand(), c.reloadCommand(), c.adoptCommand(), c.takeOverCommand(), c.catCommand(), c.runCommandCommand(), c.convertCommand(),
		c.metricsCommand(), c.completionCommand(),
	)
	return root
}

// ofFiles marks the commands that only read files, and so can do that below
// --root. All others show or change what runs on this host.
var ofFiles = map[string]string{"root": "yes"}

// checkRoot makes --root an absolute path, and refuses it where it makes no
// sense.
func (c *control) checkRoot(command *cobra.Command) error {
	if c.root == "" {
		return errors.New("--root has to be a directory, is empty")
	}
	root, err := filepath.Abs(c.root)
	if err != nil {
		return failed(err)
	}
	if c.root = root; root == "/" {
		return nil
	}
	if command.Annotations["root"] == "" {
		name := command.Name()
		if !command.HasParent() {
			name = "list" // what is done without a command
		}
		return fmt.Errorf("%s is about this host, as it runs, and takes no --root; check, cat and run-command do", name)
	}
	info, err := os.Stat(root)
	if err != nil {
		return failed(fmt.Errorf("looking for --root: %w", err))
	}
	if !info.IsDir() {
		return failed(fmt.Errorf("looking for --root: %s is no directory", root))
	}
	return nil
}

// hint returns the command line of a command that says more.
func (c *control) hint(command string) string {
	if c.root == "/" {
		return "tripleo-wrapperctl " + command
	}
	return "tripleo-wrapperctl " + shell.Quote("--root="+c.root) + " " + command
}

// adminDir is where definitions are looked for.
func (c *control) adminDir() string { return filepath.Join(c.root, conf.AdminDir) }

// services returns the definitions that can be used, or those with the names,
// each of which there has to be.
func (c *control) services(names ...string) ([]conf.Service, error) {
	_, set := generator.Render(c.root)
	return c.pick(&set, names...)
}

// pick does so with definitions that have been read.
func (c *control) pick(set *conf.Set, names ...string) ([]conf.Service, error) {
	if len(names) == 0 {
		return set.Services, nil
	}
	var services []conf.Service
	var errs []error
	for _, name := range names {
		service, err := c.find(set, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		services = append(services, *service)
	}
	if len(errs) > 0 {
		return nil, &failure{exitUnknown, errors.Join(errs...)}
	}
	return services, nil
}

// asSidecar returns a service and a network namespace in the place of the name
// of a sidecar's unit; other arguments as they are.
func asSidecar(args []string) []string {
	if len(args) != 1 {
		return args
	}
	service, netns, ok := strings.Cut(strings.TrimSuffix(args[0], ".service"), "@")
	if !ok || service == "" || netns == "" {
		return args
	}
	return []string{service, netns}
}

// lookUp returns the service of a name or, if its definition is broken, that.
func lookUp(set *conf.Set, name string) (*conf.Service, *conf.Broken) {
	for _, name := range []string{name, strings.TrimSuffix(name, ".service")} { // one may be called x.service
		for i := range set.Services {
			if set.Services[i].Name == name {
				return &set.Services[i], nil
			}
		}
		for i := range set.Broken {
			if broken := &set.Broken[i]; broken.Name == name || broken.Service == name && name != "" {
				return nil, broken
			}
		}
	}
	return nil, nil
}

// lastName returns the name of a service whose definition is broken: that which
// its sidecars have.
func lastName(broken *conf.Broken) string { return cmp.Or(broken.Service, broken.Name) }

func (c *control) find(set *conf.Set, name string) (*conf.Service, error) {
	service, broken := lookUp(set, name)
	name = strings.TrimSuffix(name, ".service")
	switch {
	case service != nil:
		return service, nil
	case broken != nil:
		return nil, fmt.Errorf("the definition of %s is broken; see: %s", name, c.hint("check "+broken.Source))
	}
	if sidecar := asSidecar([]string{name}); len(sidecar) == 2 {
		return nil, fmt.Errorf("there is no service %s; a sidecar is named by service and network namespace: %s", name, strings.Join(sidecar, " "))
	}
	var known []string
	for i := range set.Services {
		known = append(known, set.Services[i].Name)
	}
	if len(known) == 0 && len(set.Broken) == 0 {
		return nil, fmt.Errorf("there is no service %s: there is no definition in %s", name, c.adminDir())
	}
	if len(known) == 0 {
		return nil, fmt.Errorf("there is no service %s: %s holds no definition that can be used; see: %s", name, c.adminDir(), c.hint("check"))
	}
	return nil, fmt.Errorf("there is no service %s; there are: %s", name, strings.Join(known, ", "))
}

// goOn has a command that changes things go on to its end when nobody reads what it
// says any more: a pipe is closed, or an SSH connection breaks. Go ends a program by
// SIGPIPE and SIGHUP then, unless it asks for them.
func goOn() { signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE, unix.SIGHUP) }

// needRoot returns an error for others than root.
func needRoot() error {
	if os.Geteuid() != 0 {
		return failed(errors.New("only root can do that; try it with sudo"))
	}
	return nil
}

// number returns how many of something there are.
func number(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// printJSON prints a value as JSON.
func (c *control) printJSON(value any) error {
	encoder := c.encoder()
	encoder.SetIndent("", "  ")
	return failed(encoder.Encode(value))
}

// encoder prints each value on a line of its own.
func (c *control) encoder() *json.Encoder {
	encoder := json.NewEncoder(c.stdout)
	encoder.SetEscapeHTML(false)
	return encoder
}

// warn reports what does not keep a command from going on.
func (c *control) warn(err error) {
	if err != nil {
		c.complain(terminal.Warn, err.Error())
	}
}

// complain prints a message of some lines, parts of which may be somebody
// else's.
func (c *control) complain(colour terminal.Colour, message string) {
	for line := range strings.Lines(message) {
		line = terminal.Printable(strings.TrimSuffix(line, "\n"))
		fmt.Fprintln(c.stderr, c.stderr.Colour(colour, "tripleo-wrapperctl:"), line)
	}
}
