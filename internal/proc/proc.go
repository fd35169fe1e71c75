// SPDX-License-Identifier: Apache-2.0

// Package proc reads what /proc says of a process: whether it is alive, and
// which unit or container it belongs to.
package proc

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// Flags of a process in the ninth field of /proc/PID/stat (include/linux/sched.h).
const (
	flagExiting  = 0x00000004 // PF_EXITING: getting shut down
	flagSignaled = 0x00000400 // PF_SIGNALED: killed by a signal
)

// Alive says whether a process runs and will go on running. One that has been
// killed is not alive, even where the kernel has not yet come round to ending
// it: Neutron starts a helper again at once after `kill -9`, and must not be
// told that the dying one is fine.
func Alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	status, err := os.ReadFile(file(pid, "status"))
	if err != nil || killPending(status) {
		return false
	}
	stat, err := os.ReadFile(file(pid, "stat"))
	if err != nil {
		return false
	}
	state, flags, err := parseStat(stat)
	return err == nil && state != 'Z' && state != 'X' && flags&(flagExiting|flagSignaled) == 0
}

// Asleep returns how often a process that is asleep has stopped running so far,
// of itself or for others (proc_pid_status(5), *_ctxt_switches); 0 for one that is
// not asleep. One that tells the same twice has not run in between. Of several
// threads it tells this of the first.
func Asleep(pid int) uint64 {
	status, err := os.ReadFile(file(pid, "status"))
	if err != nil {
		return 0
	}
	return asleep(status)
}

// asleep finds what Asleep returns in a /proc/PID/status.
func asleep(status []byte) uint64 {
	var switches uint64
	sleeps := false
	for line := range bytes.Lines(status) {
		name, value, _ := strings.Cut(string(line), ":")
		value = strings.TrimSpace(value)
		switch name {
		case "State":
			sleeps = strings.HasPrefix(value, "S")
		case "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches":
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return 0
			}
			switches += n
		}
	}
	if !sleeps {
		return 0
	}
	return switches
}

// killPending says whether SIGKILL is among the pending signals of a
// /proc/PID/status.
func killPending(status []byte) bool {
	const sigkill = 1 << (9 - 1)
	for line := range bytes.Lines(status) {
		name, value, _ := strings.Cut(string(line), ":")
		if name != "SigPnd" && name != "ShdPnd" {
			continue
		}
		mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err == nil && mask&sigkill != 0 {
			return true
		}
	}
	return false
}

// fieldsOf returns the fields of a /proc/PID/stat from the third on. The second one,
// the command in parentheses, may itself hold blanks and parentheses.
func fieldsOf(stat []byte) []string {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return nil
	}
	return strings.Fields(string(stat[end+1:]))
}

// parseStat returns the state and the flags of a /proc/PID/stat.
func parseStat(stat []byte) (state byte, flags uint64, err error) {
	fields := fieldsOf(stat)
	if len(fields) < 7 || len(fields[0]) != 1 {
		return 0, 0, fmt.Errorf("unexpected content: %q", stat)
	}
	flags, err = strconv.ParseUint(fields[6], 10, 64)
	return fields[0][0], flags, err
}

// Ran returns how long a process has run on a processor so far, all of its threads
// together, to a hundredth of a second; 0 for one that is gone.
func Ran(pid int) time.Duration {
	stat, err := os.ReadFile(file(pid, "stat"))
	if err != nil {
		return 0
	}
	return ran(stat)
}

// ran finds what Ran returns in a /proc/PID/stat: utime and stime, in the ticks that
// the kernel has for programs, of which each platform of Go's has 100 in a second
// (proc_pid_stat(5); USER_HZ in asm-generic/param.h).
func ran(stat []byte) time.Duration {
	const inUser, inSystem, tick = 11, 12, time.Second / 100
	fields := fieldsOf(stat)
	if len(fields) <= inSystem {
		return 0
	}
	user, err := strconv.ParseUint(fields[inUser], 10, 32)
	system, errSystem := strconv.ParseUint(fields[inSystem], 10, 32)
	if err != nil || errSystem != nil {
		return 0
	}
	return time.Duration(user+system) * tick // #nosec G115 -- less than 33 bits
}

// Parent returns the pid of a process's parent.
func Parent(pid int) (int, error) {
	stat, err := os.ReadFile(file(pid, "stat"))
	if err != nil {
		return 0, err
	}
	fields := fieldsOf(stat)
	if len(fields) < 2 {
		return 0, fmt.Errorf("unexpected content of %s: %q", file(pid, "stat"), stat)
	}
	return strconv.Atoi(fields[1])
}

// maxArguments is how much of a command line is read, in bytes: a process can have
// it seem to be as large as its memory (prctl(2), PR_SET_MM).
const maxArguments = 2 << 20

// Arguments returns the command line of a process, of at most 2 MiB.
func Arguments(pid int) ([]string, error) {
	list, err := Read(pid, "cmdline", maxArguments)
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00"), nil
}

// HasArguments says whether a process has a command line. There is none while it
// becomes another program.
func HasArguments(pid int) bool {
	first, err := Read(pid, "cmdline", 1)
	return err == nil && len(first) == 1 && first[0] != 0
}

// Read returns at most max bytes of a file of a process in /proc.
func Read(pid int, name string, max int64) ([]byte, error) {
	f, err := os.Open(file(pid, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, max))
}

// Unit returns the systemd unit that a process belongs to, or "" for one that
// belongs to none.
func Unit(pid int) (string, error) {
	cgroups, err := os.ReadFile(file(pid, "cgroup"))
	if err != nil {
		return "", err
	}
	return ofCgroup(cgroups, outermostUnit), nil
}

// Container returns the id of the container that a process belongs to, or ""
// for one that belongs to none.
func Container(pid int) (string, error) {
	cgroups, err := os.ReadFile(file(pid, "cgroup"))
	if err != nil {
		return "", err
	}
	return ofCgroup(cgroups, outermostContainer), nil
}

// OfContainer returns the processes that belong to a container.
func OfContainer(id string) ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(0)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		// One that ended since belongs to none.
		if owner, err := Container(pid); err == nil && owner == id && id != "" {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// ofCgroup looks for something in the path in a /proc/PID/cgroup (cgroups(7)):
// that of the unified hierarchy or, where systemd does not use it, that of its
// own of version 1.
func ofCgroup(cgroups []byte, find func(path string) string) string {
	var unified, legacy string
	for line := range bytes.Lines(cgroups) {
		fields := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		switch {
		case len(fields) != 3:
		case fields[0] == "0" && fields[1] == "":
			unified = find(fields[2])
		case fields[1] == "name=systemd":
			legacy = find(fields[2])
		}
	}
	return cmp.Or(unified, legacy)
}

// outermostUnit finds the outermost part of a path that is no slice. What lies
// below it is the unit's own to name (Delegate=yes) and tells nothing.
func outermostUnit(cgroup string) string {
	for part := range strings.SplitSeq(cgroup, "/") {
		switch path.Ext(part) {
		case ".slice":
		case ".service", ".scope", ".socket", ".mount", ".swap":
			// systemd escapes what could be a file's of the kernel, such as
			// io.dns@n.service, and what is like an escaped name.
			return strings.TrimPrefix(part, "_")
		default:
			if part != "" {
				return ""
			}
		}
	}
	return ""
}

// outermostContainer finds the id of the outermost container in a path. What
// lies below it was named in the container, and tells nothing.
func outermostContainer(cgroup string) string {
	for part := range strings.SplitSeq(cgroup, "/") {
		if id := containerID(part); id != "" {
			return id
		}
	}
	return ""
}

// containerID returns the id in what container tools call a container's control
// group: docker-ID.scope with systemd's help and ID without it, libpod-ID and
// the like. The id is 64 hexadecimal digits.
func containerID(name string) string {
	id := strings.TrimSuffix(name, ".scope")
	id = id[strings.LastIndexByte(id, '-')+1:]
	if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
		return ""
	}
	return id
}

func file(pid int, name string) string {
	return path.Join("/proc", strconv.Itoa(pid), name)
}
