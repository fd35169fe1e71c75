// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/processes"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/spool"
)

// A Service is how a service as a whole does.
type Service struct {
	Service    string   `json:"service"`
	Definition string   `json:"definition"` // the file
	Engine     string   `json:"engine"`     // "" for a definition that is broken
	Image      string   `json:"image"`
	Problems   []string `json:"problems"` // of a definition that is broken

	// ReloadNeeded says that the definition has changed since systemd read it.
	ReloadNeeded bool `json:"reload_needed"`
	// States of the units: active, inactive, failed …
	Socket    string `json:"socket"`
	Path      string `json:"path"`
	Activator string `json:"activator"`

	Spooled  int           `json:"spooled"`  // requests that wait in the spool
	GivenUp  int           `json:"given_up"` // requests in processes.failed
	Sidecars map[State]int `json:"sidecars"` // how many are in each state
	Outdated int           `json:"outdated"`
	Orphans  int           `json:"orphans"`
}

// Broken returns what there is to say of a service whose definition is broken,
// and those of its sidecars that systemd has. Nobody can say which process of
// theirs is the helper, or whether they are outdated.
func (h *Host) Broken(ctx context.Context, b *conf.Broken) (Service, []Sidecar, error) {
	s := Service{Service: b.Name, Definition: b.Source, Sidecars: map[State]int{}}
	for _, problem := range b.Problems {
		s.Problems = append(s.Problems, problem.Error())
	}
	running, err := Running(ctx, h.Systemd, h.names, processes.Service{Name: b.Name})
	if err != nil {
		return s, nil, fmt.Errorf("looking for sidecars of %s: %w", b.Name, err)
	}
	var sidecars []Sidecar
	for _, sidecar := range running {
		sidecar.PID = 0
		sidecars = append(sidecars, Sidecar{Service: b.Name, State: state(&sidecar), Sidecar: sidecar})
	}
	s.count(sidecars)
	return s, sidecars, nil
}

// count counts the service's among sidecars.
func (s *Service) count(sidecars []Sidecar) {
	for _, sidecar := range sidecars {
		if sidecar.Service != s.Service {
			continue
		}
		s.Sidecars[sidecar.State]++
		if sidecar.Outdated {
			s.Outdated++
		}
		if sidecar.Orphan {
			s.Orphans++
		}
	}
}

// Service returns how a service does that has these sidecars.
func (h *Host) Service(ctx context.Context, service *conf.Service, sidecars []Sidecar) (Service, error) {
	s := Service{
		Service: service.Name, Definition: service.Source, Engine: string(service.Engine), Image: service.Image,
		Problems: []string{}, Sidecars: map[State]int{},
	}
	for _, unit := range []struct {
		name  string
		state *string
	}{
		{layout.SocketUnit(service.Name), &s.Socket},
		{layout.PathUnit(service.Name), &s.Path},
		{layout.ServiceUnit(service.Name), &s.Activator},
	} {
		state, err := h.Systemd.State(ctx, unit.name)
		if err != nil {
			return s, err
		}
		*unit.state = state.ActiveState
		if state.LoadState != "loaded" {
			s.ReloadNeeded = true // a definition without units is new
			*unit.state = state.LoadState
		}
	}
	if !s.ReloadNeeded {
		needs, err := h.Systemd.NeedsReload(ctx, layout.SocketUnit(service.Name))
		if err != nil {
			return s, err
		}
		s.ReloadNeeded = needs
	}
	s.count(sidecars)
	waiting, err := Waiting(service, "")
	s.Spooled, s.GivenUp = waiting.Spooled, waiting.GivenUp
	return s, err
}

// Requests counts requests that were not served at once.
type Requests struct {
	Spooled int // in the spool, or taken from it and not served yet
	GivenUp int // in processes.failed
}

// Waiting counts the requests of a service that were not served at once, for
// one network namespace or, where that is "", for all.
func Waiting(service *conf.Service, netns string) (Requests, error) {
	var requests Requests
	top, err := beneath.Open(service.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return requests, nil
	}
	if err != nil {
		return requests, err
	}
	defer top.Close()
	dir, err := top.Sub(service.Name)
	if errors.Is(err, os.ErrNotExist) {
		return requests, nil
	}
	if err != nil {
		return requests, err
	}
	defer dir.Close()
	for _, name := range append(layout.SpoolsTaken(), layout.Spool) {
		n, err := count(dir, name, netns)
		if err != nil {
			return requests, err
		}
		requests.Spooled += n
	}
	requests.GivenUp, err = count(dir, layout.SpoolFailed, netns)
	return requests, err
}

// count counts the requests in a file of a spool's form. Lines that begin with
// "#" say why a request was given up.
func count(dir *beneath.Dir, name, netns string) (int, error) {
	content, _, err := dir.ReadFile(name, spool.MaxSize)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var lines bytes.Buffer
	for line := range bytes.Lines(content) {
		if !bytes.HasPrefix(line, []byte("#")) {
			lines.Write(line)
		}
	}
	requests, bad := spool.Parse(lines.Bytes(), 0)
	if netns == "" {
		return len(requests) + len(bad), nil
	}
	n := 0
	for _, request := range requests {
		if request.Netns == netns {
			n++
		}
	}
	return n, nil
}
