// SPDX-License-Identifier: Apache-2.0

// Package processes says which processes are of which sidecar, and which of
// them is the sidecar's command.
//
// Whose a process is, the kernel says by its control group, which nobody but
// root on the host can change. The processes that systemd and Podman start are
// in the unit's own. Those that Docker starts are in one that has the
// container's id for its name; which container that is, `docker run` has left
// in a file (--cidfile) that only root can write. So Docker is never asked, and
// the activator needs no way to its socket.
//
// A sidecar may have been started before its definition named another engine, so
// that is asked for only where nothing else tells.
package processes

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/proc"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/readiness"
)

// A Service is one whose processes are looked at.
type Service struct {
	Name      string
	Container string // options.Podman or options.Docker, as the definition has it now; "" where sidecars are no containers
}

// Sidecar returns the network namespace of the sidecar that a process is of,
// and whether it is of one of this service at all.
func (s Service) Sidecar(pid int) (netns string, ok bool, err error) {
	unit, err := proc.Unit(pid)
	if err != nil {
		return "", false, err
	}
	if netns, ok := layout.SidecarNetns(s.Name, unit); ok {
		return netns, true, nil
	}
	id, err := proc.Container(pid)
	if err != nil || id == "" {
		return "", false, err
	}
	files, err := filepath.Glob(layout.CIDFile(s.Name, "*"))
	if err != nil {
		return "", false, err
	}
	for _, file := range files {
		netns := strings.TrimSuffix(path.Base(file), path.Ext(file))
		if s.containerID(netns) == id {
			return netns, true, nil
		}
	}
	return "", false, nil
}

// Owns says whether a process is of the sidecar in a network namespace.
func (s Service) Owns(netns string, pid int) (bool, error) {
	unit, err := proc.Unit(pid)
	if err != nil || unit == layout.SidecarUnit(s.Name, netns) {
		return err == nil, err
	}
	return s.inContainer(netns, pid)
}

// inContainer says whether a process is in a sidecar's container of Docker.
func (s Service) inContainer(netns string, pid int) (bool, error) {
	id, err := proc.Container(pid)
	return id != "" && id == s.containerID(netns), err
}

// containerID returns the id of a sidecar's container of Docker, "" where there
// is none.
func (s Service) containerID(netns string) string {
	id, err := os.ReadFile(layout.CIDFile(s.Name, netns))
	if err != nil {
		return ""
	}
	return string(id)
}

// Command returns the process that a sidecar's command is, 0 if it is not
// alive. The main process of the unit is given.
func (s Service) Command(netns string, main int) int {
	if !proc.Alive(main) {
		return 0
	}
	if pid, err := containerProcess(main); err == nil {
		// The main process is conmon, which outlives the container's own
		// process by a moment.
		if !proc.Alive(pid) {
			return 0
		}
		return pid
	}
	if s.Container != options.Docker {
		return main
	}
	// The main process stays with the container, which is not its child.
	processes, err := s.containerProcesses(netns)
	if err != nil {
		// Nobody tells; the end of the main process will.
		return main
	}
	for _, pid := range processes {
		if proc.Alive(pid) {
			return pid
		}
	}
	return 0
}

// IsCommand says whether a process of a sidecar is the sidecar's command. The
// main process of the unit is given.
func (s Service) IsCommand(netns string, main, pid int) bool {
	if in, err := s.inContainer(netns, pid); err == nil && in {
		inside, err := s.StartedInside(netns, pid)
		return err == nil && !inside
	}
	return s.Command(netns, main) == pid
}

// containerProcess returns the first process of the container that a conmon
// watches, from the pid file that conmon was told to write (conmon(8), --pid).
// What else is there came later, or clears up behind it: when the first one ends,
// so does the container.
//
// Until conmon runs, podman itself is the main process, whose command line ends
// with what an agent has asked for: it names no file here.
func containerProcess(conmon int) (int, error) {
	words, err := proc.Arguments(conmon)
	if err != nil {
		return 0, err
	}
	if path.Base(words[0]) != "conmon" {
		return 0, fmt.Errorf("process %d is not conmon", conmon)
	}
	i := slices.Index(words, "-p")
	if i < 0 || i+1 == len(words) {
		return 0, fmt.Errorf("process %d names no pid file", conmon)
	}
	dir, err := beneath.Open(path.Dir(words[i+1]))
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	content, _, err := dir.ReadFile(path.Base(words[i+1]), readiness.MaxPIDFile)
	if err != nil {
		return 0, err
	}
	return readiness.ParsePID(content)
}

// containerProcesses returns the processes of a sidecar's container of Docker
// that were started from outside of it, which is one: the command.
func (s Service) containerProcesses(netns string) ([]int, error) {
	processes, err := proc.OfContainer(s.containerID(netns))
	if err != nil {
		return nil, err
	}
	var first []int
	for _, pid := range processes {
		if inside, err := s.StartedInside(netns, pid); err == nil && !inside && !isRuntime(pid) {
			first = append(first, pid)
		}
	}
	return first, nil
}

// isRuntime says whether a process is still one of the runtime (`runc init`), which
// is in the place of the command from when a container is made until it is started.
func isRuntime(pid int) bool {
	words, err := proc.Arguments(pid)
	return err == nil && path.Base(words[0]) == "runc"
}

// StartedInside says whether the parent of a process is of the same sidecar.
func (s Service) StartedInside(netns string, pid int) (bool, error) {
	parent, err := proc.Parent(pid)
	if err != nil {
		return false, err
	}
	return s.Owns(netns, parent)
}
