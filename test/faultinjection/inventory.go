// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// An inventory is what there is on a host that a service, a sidecar or a request
// could leave behind.
type inventory struct {
	names   map[string][]string // by kind: what can be told by its name
	numbers map[string]int64    // by kind: counts, and bytes
	others  map[string]int      // by prefix: what others leave behind
}

// Kinds of an inventory, in the order in which they are shown.
var (
	namedKinds   = []string{"units", "failed units", "control groups", "mounts", "files", "processes", "containers", "volumes"}
	countedKinds = []string{"descriptors of systemd", "descriptors of all", "sockets", "memory of systemd", "memory of all"}
)

// Memory is what a process has for itself: what it maps of files is the cache's.
const memoryField = "RssAnon:"

// places are where the project, systemd, Podman and Docker keep what they have of
// a sidecar. A depth bounds how far they are looked into, 0 for all the way: the
// files of an image or of a layer are none of a sidecar's.
var places = []struct {
	dir   string
	depth int
}{
	{"/", 1}, {"/run", 0}, {"/tmp", 0}, {"/var/tmp", 0}, {"/dev/shm", 0}, {"/etc/systemd", 0}, {"/etc/tripleo-wrappers", 0},
	{"/var/lib", 1}, {"/var/lib/tripleo-wrappers", 0}, {"/var/lib/containers", 4}, {"/var/lib/docker", 3}, {"/var/lock", 0},
}

// volatile are files that come and go by themselves.
var volatile = []string{
	"/run/systemd/journal/streams/", // one for each process whose output goes to the journal
	"/run/systemd/inhibit/", "/run/systemd/units/", "/run/log/", "/run/docker/", "/run/containerd/",
	"/tmp/stderr", // of this program's own calls
	"/tmp/go-build",
}

// ofOthers is what is left behind by others than the project, by the beginning of
// its name, and when.
var ofOthers = []struct{ prefix, why string }{
	{"/tmp/namespace-dev-", "systemd, of a process that is killed while its mount namespace is made"},
	{"/sys/fs/cgroup/systemd", "Podman, of an agent's container, where it could not have a scope of systemd"},
	{"/run/libpod/exits/", "conmon, of a container that ended when its Podman had been killed"},
	{"/var/tmp/storage", "Podman, of a pull that was broken off (containers/image#2045)"},
}

// takeInventory looks at all of the host.
func takeInventory() *inventory {
	i := &inventory{names: map[string][]string{}, numbers: map[string]int64{}, others: map[string]int{}}
	i.names["units"] = firstWords(output("systemctl", "list-units", "--all", "--full", "--plain", "--no-legend"))
	i.names["failed units"] = firstWords(output("systemctl", "list-units", "--failed", "--full", "--plain", "--no-legend"))
	i.names["control groups"] = walk("/sys/fs/cgroup", 0, fs.DirEntry.IsDir)
	for _, line := range lines(read("/proc/1/mountinfo")) {
		if fields := strings.Fields(line); len(fields) > 4 {
			i.names["mounts"] = append(i.names["mounts"], fields[4])
		}
	}
	for _, place := range places {
		i.names["files"] = append(i.names["files"], walk(place.dir, place.depth, func(fs.DirEntry) bool { return true })...)
	}
	i.names["containers"] = append(lines(output("podman", "ps", "--all", "--format={{.Names}}")), lines(output("docker", "ps", "--all", "--format={{.Names}}"))...)
	i.names["volumes"] = append(lines(output("podman", "volume", "ls", "--quiet")), lines(output("docker", "volume", "ls", "--quiet"))...)
	i.numbers["sockets"] = int64(len(lines(read("/proc/net/unix"))))
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range processes {
		descriptors, err := os.ReadDir(dir + "/fd")
		if err != nil || dir == "/proc/"+strconv.Itoa(os.Getpid()) {
			continue
		}
		count, memory := int64(len(descriptors)), memoryOf(dir)
		i.numbers["descriptors of all"] += count
		i.numbers["memory of all"] += memory
		if dir == "/proc/1" {
			i.numbers["descriptors of systemd"], i.numbers["memory of systemd"] = count, memory
		}
		i.names["processes"] = append(i.names["processes"], strings.TrimSpace(read(dir+"/comm")))
	}
	for kind, names := range i.names {
		i.names[kind] = slices.DeleteFunc(names, func(name string) bool {
			for _, other := range ofOthers {
				if strings.HasPrefix(name, other.prefix) {
					i.others[other.prefix]++
					return true
				}
			}
			return false
		})
		slices.Sort(i.names[kind])
	}
	return i
}

// memoryOf returns the bytes that a process has for itself.
func memoryOf(dir string) int64 {
	for _, line := range lines(read(dir + "/status")) {
		if value, ok := strings.CutPrefix(line, memoryField); ok {
			kB, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kB << 10
		}
	}
	return 0
}

// more returns what is here and was not there before, and as often as it is.
func (i *inventory) more(before *inventory, kind string) []string {
	var more []string
	there := slices.Clone(before.names[kind])
	for _, name := range i.names[kind] {
		if at, found := slices.BinarySearch(there, name); found {
			there = slices.Delete(there, at, at+1)
		} else {
			more = append(more, name)
		}
	}
	return more
}

func (i *inventory) show(kind string) string {
	switch {
	case strings.HasPrefix(kind, "memory"):
		return fmt.Sprintf("%.1f MiB", float64(i.numbers[kind])/(1<<20))
	case slices.Contains(namedKinds, kind):
		return strconv.Itoa(len(i.names[kind]))
	}
	return strconv.FormatInt(i.numbers[kind], 10)
}

// walk returns the names of what is in a directory and is wanted, down to a depth,
// 0 for all the way down.
func walk(dir string, depth int, wanted func(fs.DirEntry) bool) []string {
	var found []string
	_ = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it is gone
		}
		if slices.ContainsFunc(volatile, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			return nil
		}
		if name != dir && wanted(entry) {
			found = append(found, name)
		}
		below := strings.Count(strings.TrimPrefix(strings.TrimPrefix(name, dir), "/"), "/") + 1
		if entry.IsDir() && name != dir && depth > 0 && below >= depth {
			return fs.SkipDir
		}
		return nil
	})
	return found
}

// read returns a file's content, nothing for one that is gone.
func read(file string) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return string(content)
}

func lines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}

func firstWords(text string) []string {
	var words []string
	for _, line := range lines(text) {
		if fields := strings.Fields(line); len(fields) > 0 {
			words = append(words, fields[0])
		}
	}
	return words
}
