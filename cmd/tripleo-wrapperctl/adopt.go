// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tripleo-wrappers/tripleo-wrappers/activator"
	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/generator"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/inventory"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/netns"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/proc"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/role"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/version"
	"github.com/tripleo-wrappers/tripleo-wrappers/units"
)

func (c *control) adoptCommand() *cobra.Command {
	var prefix string
	var dryRun, undo bool
	command := &cobra.Command{
		Use:   "adopt SERVICE",
		Short: "Take over what other wrappers have left: units and running containers",
		Long: `Take over, for a service that is defined, what the Ansible role
tripleo-systemd-wrapper or another system of wrappers has left on this host. The
role's units, which take the place of generated ones, are moved away and a copy
is kept. Containers that run go on as sidecars of the service, with the same
processes. Requests that come meanwhile are kept in the spool and served then.
It can be called any number of times.

Containers are those named SERVICE-NETNS, as the role and edpm-ansible name
them, or PREFIX and NETNS with --containers=PREFIX. Those that cannot be taken
over are left as they are until the agent asks for them the next time.`,
		Example: `  tripleo-wrapperctl adopt --dry-run neutron-dnsmasq
  tripleo-wrapperctl adopt --containers=neutron_dhcp_agent_dnsmasq_ neutron-dnsmasq`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeServices,
		RunE: func(command *cobra.Command, args []string) error {
			if err := needRoot(); err != nil {
				return err
			}
			goOn()
			if undo {
				return c.unadopt(command.Context(), strings.TrimSuffix(args[0], ".service"), dryRun)
			}
			services, err := c.services(args[0])
			if err != nil {
				return err
			}
			return c.adopt(command.Context(), &services[0], cmp.Or(prefix, layout.Container(services[0].Name, "")), dryRun)
		},
	}
	command.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done, and do nothing")
	command.Flags().BoolVar(&undo, "undo", false, "put back what the role left; the definition has to be gone")
	command.Flags().StringVar(&prefix, "containers", "", "take over containers whose names are this `PREFIX` and a network namespace")
	command.MarkFlagsMutuallyExclusive("undo", "containers")
	return command
}

// An adoption is the JSON form of what adopt did, or would do.
type adoption struct {
	Service    string    `json:"service"`
	Changed    bool      `json:"changed"`
	Files      []string  `json:"files"`             // moved away, or put back
	Waiting    []string  `json:"waiting,omitempty"` // kill scripts that others use, and that are not put back for that
	Containers []adopted `json:"containers"`
}

// An adopted is what became of a container.
type adopted struct {
	Container string `json:"container"`
	Netns     string `json:"netns"`
	PID       int    `json:"pid"`
	Done      string `json:"done"`          // taken over or left
	Why       string `json:"why,omitempty"` // where it was left

	container inventory.Container
	arguments []string
	rename    bool // to the name of a sidecar, by which the next start finds it and replaces it
}

// What was done with a container.
const (
	takenOver = "taken over"
	left      = "left"
)

func (c *control) adopt(ctx context.Context, service *conf.Service, prefix string, dryRun bool) error {
	files, err := role.Units("/", service.Name, service.Dir)
	if err != nil {
		return failed(err)
	}
	containers, err := c.adoptable(ctx, service, prefix)
	if err != nil {
		return failed(err)
	}
	result := adoption{Service: service.Name, Files: append([]string{}, files...), Containers: containers}
	work := slices.ContainsFunc(containers, func(a adopted) bool { return a.Done == takenOver || a.rename })
	result.Changed = work || len(files) > 0 || len(leftovers(service.Name)) > 0
	if result.Changed && !dryRun {
		if result.Containers, err = c.change(ctx, service, files, prefix); err == nil {
			err = c.takes(ctx, service)
		}
	}
	result.Containers = append([]adopted{}, result.Containers...) // not null in JSON
	if c.json {
		return errors.Join(failed(err), c.printJSON(result))
	}
	c.sayAdopted(&result, dryRun)
	return failed(err)
}

func (c *control) sayAdopted(result *adoption, dryRun bool) {
	would := ""
	if dryRun {
		would = "would be "
	}
	for _, file := range result.Files {
		c.say("%s: %smoved away; a copy is in %s", file, would, layout.AdoptedDir)
	}
	for _, container := range result.Containers {
		if container.Done == left {
			c.say("%s: %sleft as it is: %s", container.Container, would, container.Why)
		} else {
			c.say("%s: %s%s as %s, process %d", container.Container, would, takenOver,
				layout.SidecarUnit(result.Service, container.Netns), container.PID)
		}
	}
	if !result.Changed {
		c.say("%s: nothing to adopt", result.Service)
	}
}

// adoptable returns the containers that run and are a service's by their name
// and the network namespace that they are in.
func (c *control) adoptable(ctx context.Context, service *conf.Service, prefix string) ([]adopted, error) {
	var all []adopted
	engines := []conf.Engine{conf.Podman, conf.Docker}
	if service.Engine == conf.Docker {
		slices.Reverse(engines)
	}
	known := map[string]bool{} // containers, by their ids
	for _, engine := range engines {
		if _, err := exec.LookPath(string(engine)); err != nil {
			continue
		}
		asked := *service
		asked.Engine = engine
		containers, err := inventory.RunningContainers(ctx, &asked, func(name string) bool { return strings.HasPrefix(name, prefix) })
		if err != nil && engine == service.Engine {
			return nil, err
		} // else there may be no daemon of Docker
		// With podman-docker, both are the same.
		containers = slices.DeleteFunc(containers, func(container inventory.Container) bool {
			was := known[container.ID]
			known[container.ID] = true
			return was
		})
		found := c.inNamespaces(ctx, service, prefix, containers)
		if len(found) > 0 && engine != service.Engine {
			return nil, fmt.Errorf("%s of %s runs, such as %s, and container_cli is %q, which would start a second helper beside it; "+
				"adopt with container_cli = %q, change it then, and: tripleo-wrapperctl reload && tripleo-wrapperctl restart %s --outdated",
				number(len(found), "container"), engine, found[0].Container, service.Engine, engine, service.Name)
		}
		all = append(all, found...)
	}
	return all, nil
}

// inNamespaces leaves of containers those that are in the network namespace that
// they are named for and are no sidecars of ours, and says what is to become of
// each.
func (c *control) inNamespaces(ctx context.Context, service *conf.Service, prefix string, containers []inventory.Container) []adopted {
	names := netns.NewNames(layout.NetnsDir)
	var found []adopted
	// The newest first: of several in one namespace, it is the one that the agent
	// knows of.
	slices.SortFunc(containers, func(x, y inventory.Container) int { return y.Started.Compare(x.Started) })
	for _, container := range containers {
		id, err := netns.OfPath(fmt.Sprintf("/proc/%d/ns/net", container.PID))
		if err != nil {
			continue
		}
		namespace, err := names.Find(id)
		if err != nil || !strings.HasPrefix(container.Name, prefix+namespace) || layout.CheckNetns(service.Name, namespace) != nil {
			continue
		}
		state, err := c.systemd.State(ctx, layout.SidecarUnit(service.Name, namespace))
		if err != nil || !state.Down() && container.Name == layout.Container(service.Name, namespace) {
			continue // it is the sidecar's
		}
		a := adopted{Container: container.Name, Netns: namespace, PID: container.PID, Done: takenOver, container: container}
		served := !state.Down() || slices.ContainsFunc(found, func(other adopted) bool { return other.Netns == namespace })
		a.rename = !served && container.Name != layout.Container(service.Name, namespace)
		var known bool
		switch a.arguments, known = argumentsOf(service, &container); {
		case served:
			a.Done, a.Why = left, "another one serves the same network namespace; "+remove(service, container.Name)
		case !known:
			a.Done, a.Why = left, unknownCommand+"mend that, or "+remove(service, container.Name)
		}
		found = append(found, a)
	}
	return found
}

const unknownCommand = "its command is not the cmd of the definition, so its arguments cannot be told from it; "

// remove says how a container is removed.
func remove(service *conf.Service, container string) string {
	return fmt.Sprintf("remove it: %s rm --force %s", service.Engine, container)
}

// argumentsOf returns the arguments that the agent called the wrapper with for a
// container, and whether they can be told from the command before them.
func argumentsOf(service *conf.Service, container *inventory.Container) ([]string, bool) {
	words := container.Command
	if len(words) > 4 && path.Base(words[0]) == "ip" && words[1] == "netns" && words[2] == "exec" {
		words = words[4:]
	}
	if words[0] == path.Join(layout.StateDir(service.Dir, service.Name), role.Command) {
		return words[1:], true
	}
	// What a shell has made of it counts, not what the shell was told.
	words, err := proc.Arguments(container.PID)
	command := service.Command.Argv
	if err != nil || len(command) == 0 || len(words) < len(command) || !slices.Equal(words[:len(command)], command) {
		return nil, false
	}
	return words[len(command):], true
}

// leftovers returns what an adoption has left that was interrupted.
func leftovers(service string) []string {
	files, _ := filepath.Glob(layout.TakeOverFile(layout.SidecarUnit(service, "*")))
	for _, unit := range heldBack(service) {
		if target, err := os.Readlink(layout.MaskFile(unit)); err == nil && target == os.DevNull {
			files = append(files, layout.MaskFile(unit))
		}
	}
	return files
}

// heldBack returns the units that must not take requests meanwhile.
func heldBack(service string) []string {
	return []string{layout.SocketUnit(service), layout.PathUnit(service)}
}

const (
	// syncTimeout is how long the role's script may take that is under way.
	syncTimeout = 3 * time.Minute
	// cleanUpTimeout bounds what has to be done whatever happened.
	cleanUpTimeout = time.Minute
)

// change puts generated units in the place of the role's, and containers under
// them. Requests go to the spool meanwhile, whichever wrapper makes them: the
// socket and both path units are down, and masked so that the target does not
// bring them back. It returns what became of the containers.
func (c *control) change(ctx context.Context, service *conf.Service, files []string, prefix string) (containers []adopted, err error) {
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
		defer cancel()
		for _, file := range leftovers(service.Name) {
			err = errors.Join(err, os.Remove(file))
			_ = os.Remove(path.Dir(file)) // if it is a drop-in's, and empty
		}
		err = errors.Join(err, c.systemd.Reload(ctx))
	}()
	if len(files) > 0 {
		if err := c.replaceUnits(ctx, service, files); err != nil {
			return nil, err
		}
	}
	// From here on nobody starts another one.
	if containers, err = c.adoptable(ctx, service, prefix); err != nil {
		return nil, err
	}
	for i := range containers {
		if err := writeTakeOver(service, &containers[i]); err != nil {
			return containers, err
		}
	}
	if err := c.systemd.Reload(ctx); err != nil {
		return containers, err
	}
	a := activator.New(units.Options(service), version.Version, journal.NewJournal(layout.ControlProgram), func(string) {})
	defer a.Close()
	for i := range containers {
		container := &containers[i]
		if container.rename {
			name := layout.Container(service.Name, container.Netns)
			if err := inventory.RenameContainer(ctx, service, container.container.ID, name); err != nil {
				return containers, err
			}
			if container.Done == left {
				container.Why = fmt.Sprintf("%smend that, and then, without --containers, since it is called %s now: tripleo-wrapperctl adopt %s; or %s",
					unknownCommand, name, service.Name, remove(service, name))
			}
		}
		if container.Done != takenOver {
			continue
		}
		if ctx.Err() != nil {
			return containers, ctx.Err()
		}
		if err := a.TakeOver(ctx, container.Netns, container.arguments, container.container.Started); err != nil {
			container.Done, container.Why = left, activator.Reason(err)
		}
	}
	return containers, nil
}

// replaceUnits moves the role's units away once their script is done.
func (c *control) replaceUnits(ctx context.Context, service *conf.Service, files []string) error {
	for _, file := range files {
		if err := role.Keep(file); err != nil {
			return fmt.Errorf("keeping a copy: %w", err)
		}
	}
	for _, unit := range heldBack(service.Name) {
		mask := layout.MaskFile(unit)
		if err := os.MkdirAll(path.Dir(mask), 0o755); err != nil { // #nosec G301 -- a directory of systemd, with the mode that it gives it
			return err
		}
		if err := os.Symlink(os.DevNull, mask); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := c.systemd.Reload(ctx); err != nil {
		return err
	}
	for _, unit := range heldBack(service.Name) {
		if err := c.systemd.Stop(ctx, unit); err != nil {
			return err
		}
	}
	if err := c.awaitEnd(ctx, layout.ServiceUnit(service.Name)); err != nil {
		return err
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

// awaitEnd waits for the role's script. To stop it would kill what it is about to
// start.
func (c *control) awaitEnd(ctx context.Context, unit string) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	for {
		state, err := c.systemd.State(ctx, unit)
		if err != nil || state.Down() {
			return err
		}
		if !pause(ctx) {
			return fmt.Errorf("waiting for the role's %s to end: %w; see: systemctl status %s", unit, ctx.Err(), unit)
		}
	}
}

// writeTakeOver has the unit of a sidecar take over a container at its next
// start.
func writeTakeOver(service *conf.Service, container *adopted) error {
	if container.Done != takenOver {
		return nil
	}
	unit := layout.SidecarUnit(service.Name, container.Netns)
	command := fmt.Sprintf("%s %s %s %s %d %d", layout.Control(), takeOverName, unit,
		container.container.ID, container.container.PID, container.container.Monitor)
	if service.Engine == conf.Docker {
		command = fmt.Sprintf("%s follow --name=%s --cidfile=%s --attach=%s", layout.ClientBinary(),
			layout.Container(service.Name, container.Netns), layout.CIDFile(service.Name, container.Netns), container.container.ID)
	}
	file := layout.TakeOverFile(unit)
	if err := os.MkdirAll(path.Dir(file), 0o755); err != nil { // #nosec G301 -- systemctl cat reads it as anybody
		return err
	}
	// Where it fails, the container stays as it is.
	settings := "[Service]\nExecStart=\nExecStart=" + command + "\nExecStopPost=\nRestart=no\n"
	return os.WriteFile(file, []byte(settings), 0o644) // #nosec G306 -- a drop-in, no secret
}

// takes sees to it that a service takes requests.
func (c *control) takes(ctx context.Context, service *conf.Service) error {
	target, err := c.systemd.State(ctx, layout.Target)
	if err != nil {
		return err
	}
	if !target.Active() {
		return fmt.Errorf("requests wait in the spool, since %s is not started; to start all: systemctl enable --now %s",
			layout.Target, layout.Target)
	}
	var errs []error
	for _, unit := range heldBack(service.Name) {
		state, err := c.systemd.Start(ctx, unit)
		if err == nil && !state.Active() {
			err = fmt.Errorf("%s did not start; see: systemctl status %s", unit, unit)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// unadopt puts back what the role left.
func (c *control) unadopt(ctx context.Context, name string, dryRun bool) error {
	if err := layout.CheckService(name); err != nil {
		return failed(fmt.Errorf("the name of service %q %w", name, err))
	}
	_, set := generator.Render("/")
	sources := map[string]string{}
	for _, service := range set.Services {
		sources[service.Name] = service.Source
	}
	for _, broken := range set.Broken {
		sources[broken.Name] = broken.Source
	}
	if source, ok := sources[name]; ok {
		return failed(fmt.Errorf("%s defines %s, whose generated units and the role's cannot both be in use; "+
			"move that file away (mv %s %s.adopted), then call this again; nothing was changed", source, name, source, source))
	}
	result := adoption{Service: name, Files: []string{}, Containers: []adopted{}}
	result.Changed = role.Kept(name)
	users := func(script string) (users []string) {
		for _, broken := range set.Broken {
			users = append(users, broken.Source+", which is broken,") // nobody knows
		}
		for _, service := range set.Services {
			if service.KillScript != "" && layout.KillScript(service.Dir, service.KillScript) == script {
				users = append(users, service.Name)
			}
		}
		return users
	}
	var err error
	if result.Changed && !dryRun {
		result.Files, result.Waiting, err = c.putBack(ctx, name, func(script string) bool { return len(users(script)) > 0 })
	}
	if c.json {
		return errors.Join(failed(err), c.printJSON(result))
	}
	for _, file := range result.Files {
		c.say("%s: put back", file)
	}
	for _, file := range result.Waiting {
		c.say("%s: stays as it is, since %s uses it; the role's is %s", file, strings.Join(users(file), " and "), layout.KeptFile(file))
	}
	switch states, listErr := c.systemd.List(ctx, layout.SidecarUnit(name, "*")); {
	case !result.Changed:
		c.say("%s: nothing of the role's is kept", name)
	case dryRun:
		c.say("%s: the role's files would be put back", name)
	case listErr == nil && len(states) > 0:
		c.say("%s: %s left running, which the role's kill script does not know; its agent asks for containers when they are stopped: "+
			"systemctl stop '%s'", name, number(len(states), "sidecar"), layout.SidecarUnit(name, "*"))
	}
	return failed(err)
}

func (c *control) putBack(ctx context.Context, name string, used func(script string) bool) (files, waiting []string, err error) {
	files, waiting, err = role.Restore(name, used)
	if err != nil {
		return files, waiting, fmt.Errorf("putting back what the role left: %w", err)
	}
	if err := c.systemd.Reload(ctx); err != nil {
		return files, waiting, err
	}
	if err := c.stopUnits(ctx, stopOrder(name)); err != nil {
		return files, waiting, err
	}
	watch := layout.PathUnit(name)
	state, err := c.systemd.Start(ctx, watch)
	if err == nil && !state.Active() {
		err = fmt.Errorf("%s did not start; see: systemctl status %s", watch, watch)
	}
	return files, waiting, err
}
