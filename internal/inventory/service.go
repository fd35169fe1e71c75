// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/processes"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/spool"
	"github.com/tripleo-wrappers/tripleo-wrappers/units"
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
	// States of the units: active, inactive, failed …; "" where systemd did not say.
	Socket    string `json:"socket"`
	Path      string `json:"path"`
	Activator string `json:"activator"`
	Target    string `json:"target"` // of the target that holds up those of all services

	// Replaced says which files of others take the place of generated units, and
	// what to do.
	Replaced []string `json:"replaced"`
	// Faults are what is wrong with what its agents need on this host, and why
	// the socket is not up.
	Faults []string `json:"faults"`

	Spooled  Count         `json:"spooled"`  // requests that wait in the spool
	GivenUp  Count         `json:"given_up"` // requests in processes.failed
	Sidecars map[State]int `json:"sidecars"` // how many are in each state; nil where nobody knows
	Outdated Count         `json:"outdated"`
	Orphans  Count         `json:"orphans"`
}

// InState returns how many of the service's sidecars are in a state. What does
// not run is known from the records by which outdated ones are.
func (s *Service) InState(state State) Count {
	if s.Sidecars == nil || state.Down() && s.Outdated == Unknown {
		return Unknown
	}
	return Count(s.Sidecars[state])
}

// A Count is how many of something there are, or Unknown.
type Count int

// Unknown is what nobody can say, which is not 0. In JSON it is null.
const Unknown Count = -1

// String returns the number, "-" for Unknown.
func (c Count) String() string {
	if c == Unknown {
		return "-"
	}
	return strconv.Itoa(int(c))
}

// MarshalJSON implements json.Marshaler.
func (c Count) MarshalJSON() ([]byte, error) {
	if c == Unknown {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, int64(c), 10), nil
}

// Broken returns what there is to say of a service whose definition is broken,
// and those of its sidecars that systemd has. Nobody can say which process of
// theirs is the helper, or whether they are outdated. Its spool is where it was
// when its socket was started last, if that is known.
func (h *Host) Broken(ctx context.Context, b *conf.Broken) (Service, []Sidecar, error) {
	s := Service{
		Service: b.Name, Definition: b.Source,
		Spooled: Unknown, GivenUp: Unknown, Outdated: Unknown, Orphans: Unknown, Replaced: []string{}, Faults: []string{},
	}
	for _, problem := range b.Problems {
		s.Problems = append(s.Problems, problem.Error())
	}
	if err := h.units(ctx, &s); err != nil {
		return s, nil, err
	}
	var spoolErr error
	name := cmp.Or(b.Service, b.Name)
	if dir, ok := preparedDir(name); ok {
		var waiting Requests
		waiting, spoolErr = Waiting(&conf.Service{Name: name, Dir: dir}, "")
		s.Spooled, s.GivenUp = waiting.Spooled, waiting.GivenUp
	}
	running, err := Running(ctx, h.Systemd, h.names, processes.Service{Name: name})
	if err != nil {
		return s, nil, errors.Join(spoolErr, fmt.Errorf("looking for sidecars of %s: %w", name, err))
	}
	var sidecars []Sidecar
	for _, sidecar := range running {
		sidecar.PID = 0
		sidecars = append(sidecars, Sidecar{Service: b.Name, State: state(&sidecar), Sidecar: sidecar})
	}
	s.count(sidecars)
	return s, sidecars, spoolErr
}

// preparedDir returns the service_dir that a service's socket was started with
// last. Only root can say.
func preparedDir(service string) (string, bool) {
	content, err := os.ReadFile(layout.PreparedFile(service))
	if err != nil {
		return "", false
	}
	with, _, err := options.Parse(strings.Split(string(content), "\x00"))
	if err != nil || with.Name != service {
		return "", false
	}
	return with.Dir, true
}

// units fills in the states of a service's units, of all or of none.
func (h *Host) units(ctx context.Context, s *Service) error {
	names := []string{layout.SocketUnit(s.Service), layout.PathUnit(s.Service), layout.ServiceUnit(s.Service), layout.Target}
	states := make([]string, len(names))
	for i, name := range names {
		state, err := h.Systemd.State(ctx, name)
		if err != nil {
			return err
		}
		states[i] = state.ActiveState
		if state.LoadState != "loaded" {
			states[i] = state.LoadState
		}
	}
	s.Socket, s.Path, s.Activator, s.Target = states[0], states[1], states[2], states[3]
	return nil
}

// count counts the service's among sidecars.
func (s *Service) count(sidecars []Sidecar) {
	s.Sidecars, s.Orphans = map[State]int{}, 0
	for _, sidecar := range sidecars {
		if sidecar.Service != s.Service {
			continue
		}
		s.Sidecars[sidecar.State]++
		if sidecar.Outdated && s.Outdated != Unknown {
			s.Outdated++
		}
		if sidecar.Orphan {
			s.Orphans++
		}
	}
}

// Service returns how a service does that has these sidecars, as far as that is
// known.
func (h *Host) Service(ctx context.Context, service *conf.Service, sidecars []Sidecar) (Service, error) {
	waiting, spoolErr := Waiting(service, "")
	s := Service{
		Service: service.Name, Definition: service.Source, Engine: string(service.Engine), Image: service.Image,
		Problems: []string{}, Replaced: []string{}, Faults: []string{},
		Spooled: waiting.Spooled, GivenUp: waiting.GivenUp, Outdated: Unknown, Orphans: Unknown,
	}
	if err := h.units(ctx, &s); err != nil {
		return s, errors.Join(err, spoolErr)
	}
	if !h.missed[service.Name] {
		if os.Geteuid() == 0 {
			s.Outdated = 0
		}
		s.count(sidecars)
	}
	changed, err := h.Changed(ctx, service)
	if s.ReloadNeeded = s.New() || changed; !s.ReloadNeeded && err == nil {
		// Drop-ins of systemctl edit are not ours to compare.
		s.ReloadNeeded, err = h.Systemd.NeedsReload(ctx, layout.SocketUnit(service.Name))
	}
	return s, errors.Join(err, spoolErr)
}

// Changed says whether the units of a service are not those that its definition
// makes now: it has been changed since systemd read it, or one of its drop-ins has.
func (h *Host) Changed(ctx context.Context, service *conf.Service) (bool, error) {
	if !changed(service) {
		return false, nil
	}
	// There are none while systemd has them written, and nor does it answer then.
	if _, err := h.Systemd.State(ctx, layout.Target); err != nil {
		return false, err
	}
	return changed(service), nil
}

func changed(service *conf.Service) bool {
	for _, file := range units.Render(service) {
		if file.Link != "" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(layout.GeneratedDir, file.Name)) // #nosec G304 -- written by systemd's generators alone
		if err != nil || string(text) != file.Text {
			return true
		}
	}
	return false
}

// New says whether systemd has no units of the service yet.
func (s *Service) New() bool {
	return slices.Contains([]string{s.Socket, s.Path, s.Activator}, "not-found")
}

// Requests counts requests that were not served at once.
type Requests struct {
	Spooled Count // in the spool, or taken from it and not served yet
	GivenUp Count // in processes.failed
}

// Waiting counts the requests of a service that were not served at once, for
// one network namespace or, where that is "", for all.
func Waiting(service *conf.Service, netns string) (Requests, error) {
	unknown := Requests{Unknown, Unknown}
	top, err := beneath.Open(service.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return Requests{}, nil
	}
	if err != nil {
		return unknown, err
	}
	defer top.Close()
	dir, err := top.Sub(service.Name)
	if errors.Is(err, os.ErrNotExist) {
		return Requests{}, nil
	}
	if err != nil {
		return unknown, err
	}
	defer dir.Close()
	spooled, err := count(dir, netns, append(layout.SpoolsTaken(), layout.Spool)...)
	givenUp, failedErr := count(dir, netns, layout.SpoolFailed)
	return Requests{spooled, givenUp}, errors.Join(err, failedErr)
}

// count counts the requests in files of a spool's form.
func count(dir *beneath.Dir, netns string, names ...string) (Count, error) {
	sum := 0
	for _, name := range names {
		n, err := countFile(dir, name, netns)
		if err != nil {
			return Unknown, err
		}
		sum += n
	}
	return Count(sum), nil
}

// countFile counts those in one file. Lines that begin with "#" say why a
// request was given up.
func countFile(dir *beneath.Dir, name, netns string) (int, error) {
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
