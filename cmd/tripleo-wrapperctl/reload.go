// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
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
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/units"
)

func (c *control) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Take changed definitions into use",
		Long: `Take changed definitions into use: have systemd run its generators and read its
units again (daemon-reload), start the sockets of new definitions, stop those of
definitions that are gone, and restart those that changed. Sidecars that run are
left alone; which of them are outdated is told.`,
		Example: "  tripleo-wrapperctl reload && tripleo-wrapperctl restart neutron-dnsmasq --outdated",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := needRoot(); err != nil {
				return err
			}
			goOn()
			return c.reload(command.Context())
		},
	}
}

// A reloaded is the JSON form of what reload did.
type reloaded struct {
	Started   []string            `json:"started"` // services
	Stopped   []string            `json:"stopped"`
	Restarted []string            `json:"restarted"`
	Broken    []string            `json:"broken"`
	Outdated  map[string][]string `json:"outdated"` // network namespaces by service
}

func (c *control) reload(ctx context.Context) error {
	before, err := generated()
	if err != nil {
		return failed(err)
	}
	if err := c.systemd.Reload(ctx); err != nil {
		return failed(err)
	}
	after, err := generated()
	if err != nil {
		return failed(err)
	}
	_, set := generator.Render("/")
	result := reloaded{Started: []string{}, Stopped: []string{}, Restarted: []string{}, Broken: []string{}, Outdated: map[string][]string{}}
	var errs []error
	gone, err := c.gone(ctx, before, &set)
	errs = append(errs, err)
	for _, name := range gone {
		errs = append(errs, c.stopGone(ctx, name))
		result.Stopped = append(result.Stopped, name)
		c.say("%s: its definition is gone; stopped its units", name)
		if states, err := c.systemd.List(ctx, layout.SidecarUnit(name, "*")); err == nil && len(states) > 0 {
			c.say("%s: %s left running; to stop: systemctl stop '%s'", name, number(len(states), "sidecar"), layout.SidecarUnit(name, "*"))
		}
	}
	target, err := c.systemd.State(ctx, layout.Target)
	if err == nil && !target.Active() && len(set.Services) > 0 {
		err = fmt.Errorf("no service is started, since %s is not; to start all: systemctl enable --now %[1]s", layout.Target)
	}
	errs = append(errs, err)
	for i := range set.Services {
		if !target.Active() {
			break
		}
		did, err := c.startService(ctx, &set.Services[i], before, after)
		errs = append(errs, err)
		switch did {
		case "started":
			result.Started = append(result.Started, set.Services[i].Name)
		case "restarted":
			result.Restarted = append(result.Restarted, set.Services[i].Name)
		default:
			continue
		}
		c.say("%s: %s its socket", set.Services[i].Name, did)
	}
	for _, broken := range set.Broken {
		result.Broken = append(result.Broken, broken.Name)
		c.say("%s: its definition is broken: %v", broken.Name, broken.Problems[0])
		errs = append(errs, fmt.Errorf("%s is broken; see: tripleo-wrapperctl check %s", broken.Source, broken.Source), c.reportBroken(ctx, broken.Name))
	}
	sidecars, err := inventory.NewHost(c.systemd).Sidecars(ctx, set.Services)
	errs = append(errs, err)
	for _, sidecar := range sidecars {
		if sidecar.Outdated {
			result.Outdated[sidecar.Service] = append(result.Outdated[sidecar.Service], sidecar.Netns)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(result.Outdated)) {
		c.say("%s: %s outdated; to take the change: tripleo-wrapperctl restart %s --outdated",
			name, number(len(result.Outdated[name]), "sidecar"), name)
	}
	if c.json {
		errs = append(errs, c.printJSON(result))
	}
	return failed(errors.Join(errs...))
}

// say tells people what was done.
func (c *control) say(format string, args ...any) {
	if !c.json {
		fmt.Fprintf(c.stdout, format+"\n", args...)
	}
}

// generated returns the texts of the generated units that there are of services
// by their names, as systemd was given them last.
func generated() (map[string]string, error) {
	texts := map[string]string{}
	files, err := filepath.Glob(path.Join(layout.GeneratedDir, layout.Target+".d", "*.conf"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		service := strings.TrimSuffix(path.Base(file), ".conf")
		for _, unit := range []string{layout.SocketUnit(service), layout.PathUnit(service), layout.ServiceUnit(service)} {
			text, err := os.ReadFile(path.Join(layout.GeneratedDir, unit)) // #nosec G304 -- written by systemd's generators alone
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
			texts[unit] = string(text)
		}
	}
	return texts, nil
}

// gone returns the services without a definition of which units are still there,
// the socket and the path unit or, of one that was broken, what said so: those
// that had a definition before this reload, and those that lost it at an
// earlier one.
func (c *control) gone(ctx context.Context, before map[string]string, set *conf.Set) ([]string, error) {
	defined := map[string]bool{}
	for _, service := range set.Services {
		defined[service.Name] = true
	}
	for _, broken := range set.Broken {
		defined[broken.Name], defined[broken.Service] = true, true
	}
	var names []string
	others := map[string]func(string) string{".path": layout.SocketUnit, ".socket": layout.PathUnit, ".timer": layout.ServiceUnit}
	for suffix, other := range others {
		states, err := c.systemd.List(ctx, "*"+suffix)
		if err != nil {
			return nil, err
		}
		for _, state := range states {
			name := strings.TrimSuffix(state.Unit, suffix)
			if defined[name] || state.LoadState != "not-found" || !state.Active() {
				continue
			}
			second, err := c.systemd.State(ctx, other(name))
			if err != nil {
				return nil, err
			}
			_, ours := before[layout.SocketUnit(name)]
			if suffix != ".path" && !ours {
				// Others have timers and sockets, too. Ours had an activator.
				if _, err := os.Stat(layout.ServiceRuntimeDir(name)); err != nil {
					continue
				}
			}
			// The path unit may be the role's, which was there all the time.
			if ours || suffix == ".socket" || second.LoadState == "not-found" && second.ActiveState != "inactive" {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// stopOrder are the units of a service, in the order in which they are stopped.
func stopOrder(name string) []string {
	return []string{layout.TimerUnit(name), layout.PathUnit(name), layout.SocketUnit(name), layout.ServiceUnit(name)}
}

// stopGone stops those units of a service that have no file any more. A package
// may have brought one of the same name since.
func (c *control) stopGone(ctx context.Context, name string) error {
	var gone []string
	for _, unit := range stopOrder(name) {
		state, err := c.systemd.State(ctx, unit)
		if err != nil {
			return err
		}
		if state.LoadState == "not-found" {
			gone = append(gone, unit)
		}
	}
	return c.stopUnits(ctx, gone)
}

func (c *control) stopUnits(ctx context.Context, units []string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*endTimeout)
	defer cancel()
	var errs []error
	for _, unit := range units {
		errs = append(errs, c.systemd.Stop(ctx, unit), c.systemd.ResetFailed(ctx, unit))
	}
	return errors.Join(errs...)
}

// reportBroken sees to it that the socket of a broken definition is stopped, and
// that its unit fails. systemd gives that up at a daemon-reload while the
// activator is being started.
func (c *control) reportBroken(ctx context.Context, name string) error {
	target, err := c.systemd.State(ctx, layout.Target)
	if err != nil || !target.Active() {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*endTimeout)
	defer cancel()
	timer := layout.TimerUnit(name)
	state, err := c.systemd.Start(ctx, timer)
	if err == nil && !state.Active() {
		err = fmt.Errorf("%s did not start; see: systemctl status %s", timer, timer)
	}
	return err
}

// startService sees to it that a service takes requests as its definition says,
// and says what that took.
func (c *control) startService(ctx context.Context, service *conf.Service, before, after map[string]string) (did string, err error) {
	socket, path, server := layout.SocketUnit(service.Name), layout.PathUnit(service.Name), layout.ServiceUnit(service.Name)
	old, known := before[socket]
	watch, err := c.systemd.State(ctx, path)
	if err != nil {
		return "", err
	}
	switch {
	case !known || old == "": // new, or broken until now
		for _, unit := range []string{socket, path} {
			if err := c.startUnit(ctx, unit, server); err != nil {
				return "", err
			}
		}
		if !listens(ctx, service) {
			// It was up all the time, with another unit's descriptors.
			return "started", c.restartUnit(ctx, socket)
		}
		return "started", nil
	case old != after[socket] || before[path] != after[path] || !activator.Prepared(units.Options(service)) ||
		len(activator.Faults(units.Options(service))) > 0 || !watch.Active() || !listens(ctx, service):
		// An address that has changed is not listened to: systemd keeps open
		// only what it finds in the new unit.
		for _, unit := range []string{socket, path} {
			if err := c.restartUnit(ctx, unit); err != nil {
				return "", err
			}
		}
		return "restarted", nil
	case before[server] != after[server]:
		// One job: callers start it again while it ends.
		state, err := c.systemd.State(ctx, server)
		if err == nil && !state.Down() {
			_, err = c.systemd.Restart(ctx, server)
		}
		return "", err
	}
	return "", nil
}

// endTimeout is longer than an activator takes to end (TimeoutStopSec=15s).
const endTimeout = 20 * time.Second

// startUnit starts a unit. systemd refuses to start a socket while its service is
// about to end, which that of a broken definition may be.
func (c *control) startUnit(ctx context.Context, unit, server string) error {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	for {
		before, err := c.systemd.State(ctx, server)
		if err != nil {
			return err
		}
		state, err := c.systemd.Start(ctx, unit)
		if err == nil && state.Active() {
			return nil
		}
		if err != nil || before.Down() || !pause(ctx) {
			return errors.Join(err, fmt.Errorf("%s did not start; see: systemctl status %s", unit, unit))
		}
	}
}

// restartUnit restarts a unit. systemd refuses to start a socket while its
// service is about to end, so that is tried for as long as it takes.
func (c *control) restartUnit(ctx context.Context, unit string) error {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	state, err := c.systemd.Restart(ctx, unit)
	for err == nil && !state.Active() && pause(ctx) {
		state, err = c.systemd.Start(ctx, unit)
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("it is not up after %v", endTimeout)
	}
	if err != nil {
		return fmt.Errorf("%s did not restart: %w; see: systemctl status %s", unit, err, unit)
	}
	return nil
}

// pause waits before the next try. It says false when ctx is done before.
func pause(ctx context.Context) bool {
	select {
	case <-time.After(100 * time.Millisecond):
		return true
	case <-ctx.Done():
		return false
	}
}

// listenTimeout bounds finding out whether a socket is listened to.
const listenTimeout = 5 * time.Second

// listens says whether somebody listens on a service's activation socket. The
// connection starts the activator, which finds nothing to do.
func listens(ctx context.Context, service *conf.Service) bool {
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path.Join(layout.StateDir(service.Dir, service.Name), layout.Socket))
	if err != nil {
		return false
	}
	_ = conn.Close() // that it was made is all there is to know
	return true
}
