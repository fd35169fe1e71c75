// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/arglist"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/netns"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/proc"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/processes"
)

// enterSidecar makes this process one of another sidecar, that of a service in
// a network namespace: with its mounts, its IPC and its host name, its
// environment, and no capability that it has not. The network namespace is the
// same already.
//
// It does not ask podman exec or docker exec: what these start is the engine's,
// in a control group of the other sidecar, and nobody would be told how it ends.
//
// The calling goroutine has to be locked to the thread that will become the
// command: no other thread is changed.
func enterSidecar(service, container, instance string) error {
	unit := layout.SidecarUnit(service, instance)
	output, err := ask(context.Background(), "systemctl", "show", "--property=MainPID", "--value", unit)
	if err != nil {
		return fmt.Errorf("asking systemd for the process of %s: %w", unit, err)
	}
	main, err := strconv.Atoi(output)
	if err != nil {
		return fmt.Errorf("asking systemd for the process of %s: unexpected answer %q", unit, output)
	}
	owner := processes.Service{Name: service, Container: container}
	pid := owner.Command(instance, main)
	if pid == 0 {
		return fmt.Errorf("%s does not run", unit)
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("holding on to process %d of %s: %w", pid, unit, err)
	}
	defer unix.Close(pidfd)
	member, err := lookAt(&owner, instance, pid)
	if err != nil {
		return fmt.Errorf("looking at process %d of %s: %w", pid, unit, err)
	}
	// What was read above is that process's only if it is still alive: its pid
	// may be another's by now.
	if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil {
		return fmt.Errorf("process %d of %s has ended", pid, unit)
	}
	// Threads share their root and working directory, which a mount namespace
	// is not entered with.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("parting from the other threads' file system: %w", err)
	}
	if err := unix.Setns(pidfd, unix.CLONE_NEWNS|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("entering the namespaces of process %d of %s: %w", pid, unit, err)
	}
	if err := member.takeOver(); err != nil {
		return fmt.Errorf("becoming like process %d of %s: %w", pid, unit, err)
	}
	return nil
}

// becomeSealed runs this program again, from a copy in memory that nobody can
// change. What joins a container may become a script there whose interpreter is
// /proc/self/exe, and that would be this program's file on the host, there to be
// written to (CVE-2019-5736, of runc, which does the same).
func becomeSealed() error {
	const all = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	if seals, err := unix.FcntlInt(self.Fd(), unix.F_GET_SEALS, 0); err == nil && seals&all == all {
		return nil
	}
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("tripleo-wrapper", flags|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3, all can be executed
		fd, err = unix.MemfdCreate("tripleo-wrapper", flags)
	}
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "copy") // #nosec G115 -- a descriptor
	defer file.Close()
	if _, err := io.Copy(file, self); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, all); err != nil {
		return err
	}
	return unix.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), os.Args, os.Environ())
}

// maxEnviron is how large the environment of what is joined may be, in bytes: a
// process can have it seem to be as large as its memory (prctl(2), PR_SET_MM).
const maxEnviron = 2 << 20

// A member is what a process of a sidecar has, besides its namespaces, that
// another one of the same sidecar gets.
type member struct {
	environ         []string
	capabilities    uint64 // its bounding set
	noNewPrivileges bool
}

// lookAt reads a process of the sidecar of a service in a network namespace.
func lookAt(owner *processes.Service, instance string, pid int) (*member, error) {
	owned, err := owner.Owns(instance, pid)
	if err != nil {
		return nil, err
	}
	if !owned {
		return nil, errors.New("it is another's")
	}
	own, err := netns.OfPath("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	dir := "/proc/" + strconv.Itoa(pid)
	its, err := netns.OfPath(dir + "/ns/net")
	if err != nil {
		return nil, err
	}
	if its != own {
		return nil, errors.New("it is in another network namespace")
	}
	same, err := sameUsers(dir)
	if err != nil {
		return nil, err
	}
	if !same {
		return nil, errors.New("its user namespace is not the host's, so that its root is another user than this one")
	}
	environ, err := proc.Read(pid, "environ", maxEnviron+1)
	if err != nil {
		return nil, err
	}
	if len(environ) > maxEnviron {
		return nil, fmt.Errorf("its environment has more than %d bytes", maxEnviron)
	}
	status, err := os.ReadFile(dir + "/status") // #nosec G304 -- of a process, by its number
	if err != nil {
		return nil, err
	}
	m, err := parseMember(environ, status)
	if err != nil {
		return nil, err
	}
	// What the other's caller passed on is for the other.
	passed, err := os.ReadFile(layout.EnvFile(owner.Name, instance))
	if err != nil {
		return nil, err
	}
	others, err := arglist.Decode(passed)
	if err != nil {
		return nil, err
	}
	m.environ = without(m.environ, others)
	return m, nil
}

// sameUsers says whether a process, by its directory in /proc, has the same users
// as this one.
func sameUsers(dir string) (bool, error) {
	own, err := os.Stat("/proc/self/ns/user")
	if err != nil {
		return false, err
	}
	its, err := os.Stat(dir + "/ns/user")
	if err != nil {
		return false, err
	}
	return os.SameFile(own, its), nil
}

// parseMember reads what /proc/PID/environ and /proc/PID/status say of a process.
func parseMember(environ, status []byte) (*member, error) {
	m := &member{}
	for variable := range strings.SplitSeq(string(environ), "\x00") {
		name, _, ok := strings.Cut(variable, "=")
		if ok && name != "" && !ofSystemd(name) {
			m.environ = append(m.environ, variable)
		}
	}
	found := false
	for line := range bytes.Lines(status) {
		name, value, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
		value = strings.TrimSpace(value)
		var err error
		switch name {
		case "CapBnd":
			m.capabilities, err = strconv.ParseUint(value, 16, 64)
			found = true
		case "NoNewPrivs":
			m.noNewPrivileges = value == "1"
		}
		if err != nil {
			return nil, fmt.Errorf("unexpected %s %q", name, value)
		}
	}
	if !found {
		return nil, fmt.Errorf("the kernel does not say which capabilities it has")
	}
	return m, nil
}

// ofSystemd says whether systemd sets a variable for one service, about that
// very one (systemd.exec(5)).
func ofSystemd(name string) bool {
	return slices.Contains([]string{
		"NOTIFY_SOCKET", "MAINPID", "MANAGERPID", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "CREDENTIALS_DIRECTORY",
		"MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE",
		"RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY", "CONFIGURATION_DIRECTORY",
	}, name) || strings.HasPrefix(name, "LISTEN_") || strings.HasPrefix(name, "WATCHDOG_")
}

// takeOver gives all of it to this thread and the program that it becomes. What
// the sidecar's own unit sets and the other has not, as `systemctl edit` can,
// stays.
func (m *member) takeOver() error {
	for _, variable := range m.environ {
		name, value, _ := strings.Cut(variable, "=")
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("taking over %q: %w", name, err)
		}
	}
	if err := keepCapabilities(m.capabilities); err != nil {
		return err
	}
	if m.noNewPrivileges {
		return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	return nil
}
