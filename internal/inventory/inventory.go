// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/manager"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/netns"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/processes"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/rootfs"
	"github.com/tripleo-wrappers/tripleo-wrappers/units"
)

// A State is what has become of a sidecar, in a word.
type State string

// The states.
const (
	Up         State = "running"
	Starting   State = "starting"
	Restarting State = "restarting" // ended by itself, and about to be brought back
	Stopping   State = "stopping"
	Stopped    State = "stopped"  // was asked for and ready, and does not run any more
	Failed     State = "failed"   // was asked for, and did not become ready
	NotOurs    State = "not ours" // somebody made a container of the sidecar's name by hand
)

// Down says whether it is a state of a sidecar that does not run.
func (s State) Down() bool { return s == Stopped || s == Failed || s == NotOurs }

// A Sidecar is one that runs, that was asked for and does not, or whose name
// somebody else has taken.
type Sidecar struct {
	Service string `json:"service"`
	Engine  string `json:"engine"`
	Image   string `json:"image"` // "" for the host's own file system
	State   State  `json:"state"`
	// Outdated says that the definition, or the image that it names, has
	// changed since the sidecar was started.
	Outdated bool `json:"outdated"`
	protocol.Sidecar
}

// A Host is where sidecars are looked for.
type Host struct {
	Systemd *manager.Manager
	names   *netns.Names
	missed  map[string]bool // services whose sidecars systemd did not tell of
}

// NewHost returns this host.
func NewHost(systemd *manager.Manager) *Host {
	return &Host{Systemd: systemd, names: netns.NewNames(layout.NetnsDir), missed: map[string]bool{}}
}

// Sidecars returns the sidecars of services, sorted by service and network
// namespace. Without root's rights, only what systemd tells is known. An error
// is about one service or engine and does not keep the others from being
// listed.
func (h *Host) Sidecars(ctx context.Context, services []conf.Service) ([]Sidecar, error) {
	var (
		all  []Sidecar
		errs []error
	)
	engines := map[string]*engineState{}
	for i := range services {
		service := &services[i]
		sidecars, err := h.Known(ctx, service)
		if err != nil {
			errs = append(errs, fmt.Errorf("looking for sidecars of %s: %w", service.Name, err))
			continue
		}
		if os.Geteuid() == 0 {
			asked := engineOf(service)
			key := string(asked.Engine) + strings.Join(asked.DockerSockets, " ")
			if asked.Engine != conf.Systemd && engines[key] == nil {
				engines[key] = askEngine(ctx, asked)
				if err := engines[key].err; err != nil {
					errs = append(errs, fmt.Errorf("looking for containers: %w", err))
				}
			}
			if engine := engines[key]; engine != nil {
				sidecars = h.compare(ctx, service, sidecars, engine)
			}
		}
		all = append(all, sidecars...)
	}
	return all, errors.Join(errs...)
}

// Known returns the sidecars of a service that systemd or a record tells of,
// without asking the container engine: quicker than Sidecars, and without those
// that are not ours or whose image has changed.
func (h *Host) Known(ctx context.Context, service *conf.Service) ([]Sidecar, error) {
	running, err := Running(ctx, h.Systemd, h.names, processes.Service{Name: service.Name, Container: units.Options(service).Container})
	h.missed[service.Name] = err != nil
	if err != nil {
		return nil, err
	}
	sidecars := map[string]Sidecar{}
	digest := units.Digest(service)
	for _, sidecar := range running {
		recorded, err := os.ReadFile(layout.DefinitionFile(service.Name, sidecar.Netns))
		sidecars[sidecar.Netns] = Sidecar{
			Service: service.Name, Engine: string(service.Engine), Image: service.Image,
			State: state(&sidecar), Outdated: err == nil && string(recorded) != digest, Sidecar: sidecar,
		}
	}
	for _, namespace := range Recorded(service.Name) {
		_, err := h.names.Lookup(namespace)
		if _, ok := sidecars[namespace]; !ok && err == nil {
			sidecar := Absent(service, namespace)
			if _, err := os.Stat(layout.ReadyFile(service.Name, namespace)); err != nil {
				sidecar.State = Failed
			}
			sidecars[namespace] = sidecar
		}
	}
	return sorted(sidecars), nil
}

// Recorded returns the network namespaces that a sidecar of a service was ever
// started in, as far as that is kept.
func Recorded(service string) []string {
	var namespaces []string
	entries, err := os.ReadDir(layout.ServiceRuntimeDir(service))
	if err != nil {
		return nil // no sidecar yet, or not root's rights
	}
	for _, entry := range entries {
		if namespace, ok := strings.CutSuffix(entry.Name(), path.Ext(layout.ArgsFile(service, ""))); ok {
			namespaces = append(namespaces, namespace)
		}
	}
	return namespaces
}

// Absent returns a sidecar that does not run.
func Absent(service *conf.Service, namespace string) Sidecar {
	sidecar := Sidecar{
		Service: service.Name, Engine: string(service.Engine), Image: service.Image, State: Stopped,
		Sidecar: protocol.Sidecar{
			Netns: namespace, Unit: layout.SidecarUnit(service.Name, namespace), ActiveState: "inactive", SubState: "dead",
		},
	}
	if service.Engine != conf.Systemd {
		name := layout.Container(service.Name, namespace)
		sidecar.Container = &name
	}
	return sidecar
}

func sorted(sidecars map[string]Sidecar) []Sidecar {
	var list []Sidecar
	for _, namespace := range slices.Sorted(maps.Keys(sidecars)) {
		list = append(list, sidecars[namespace])
	}
	return list
}

// state says in a word what systemd says in two.
func state(s *protocol.Sidecar) State {
	switch {
	case s.SubState == "auto-restart":
		return Restarting
	case s.ActiveState == "activating":
		return Starting
	case s.ActiveState == "deactivating":
		return Stopping
	case s.ActiveState == "active", s.ActiveState == "reloading":
		return Up
	}
	return Stopped
}

// engineOf returns the service as the engine sees it that knows its image: where
// systemd runs its sidecars in an image, that is Podman.
func engineOf(service *conf.Service) *conf.Service {
	if service.Engine != conf.Systemd || service.Image == "" || strings.HasPrefix(service.Image, layout.RootDirectory) {
		return service
	}
	other := *service
	other.Engine = conf.Podman
	return &other
}

// engineState is what a container engine says.
type engineState struct {
	containers map[string]string // ids of images by names of containers
	images     map[string]string // ids of images by their names
	err        error
}

func askEngine(ctx context.Context, service *conf.Service) *engineState {
	e := &engineState{images: map[string]string{}}
	e.containers, e.err = containers(ctx, service)
	return e
}

// image returns the id of a service's image; "" where it is not there or the
// engine does not say.
func (e *engineState) image(ctx context.Context, service *conf.Service) string {
	id, asked := e.images[service.Image]
	if !asked {
		// Nothing is outdated by an image that is not there.
		id, _ = ImageID(ctx, engineOf(service))
		e.images[service.Image] = id
	}
	return id
}

// compare marks sidecars whose image has changed, and adds containers that have
// a sidecar's name and are none.
func (h *Host) compare(ctx context.Context, service *conf.Service, list []Sidecar, engine *engineState) []Sidecar {
	if service.Engine == conf.Systemd {
		for i := range list {
			used, err := rootfs.Read(layout.ImageFile(service.Name, list[i].Netns))
			if now := engine.image(ctx, service); err == nil && !list[i].State.Down() && now != "" && now != used.ID {
				list[i].Outdated = true
			}
		}
		return list
	}
	sidecars := map[string]Sidecar{}
	for _, sidecar := range list {
		sidecars[sidecar.Netns] = sidecar
	}
	for name, image := range engine.containers {
		namespace, ok := strings.CutPrefix(name, layout.Container(service.Name, ""))
		if !ok {
			continue
		}
		sidecar, known := sidecars[namespace]
		_, err := h.names.Lookup(namespace)
		switch {
		case known && !sidecar.State.Down():
			if now := engine.image(ctx, service); now != "" && now != image {
				sidecar.Outdated = true
				sidecars[namespace] = sidecar
			}
		case err == nil:
			sidecar = Absent(service, namespace)
			sidecar.State = NotOurs
			sidecars[namespace] = sidecar
		}
	}
	return sorted(sidecars)
}
