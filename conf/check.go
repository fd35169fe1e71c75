// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"errors"
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// The longest path of a Unix socket: sun_path of unix(7), less the NUL at its end.
const maxSocketPath = 107

// The longest name of a file.
const maxFileName = 255

// maxUID is the largest user number. The one after it means "no user" to the kernel.
const maxUID = math.MaxUint32 - 1

// The characters of a path, for a regular expression and in words.
const (
	pathSet   = "A-Za-z0-9/_.@+=,~-"
	pathChars = "letters, digits and /_.@+=,~-"
)

var (
	safePath = regexp.MustCompile(`^[` + pathSet + `]*$`)
	fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	image    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:@-]*$`)
	mountOpt = regexp.MustCompile(`^[A-Za-z0-9=_-]+$`)
	variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// checkPath returns an absolute path without what does not matter in it (a
// slash at its end, doubled ones). Few characters are allowed: the path goes
// into unit settings, container mounts and shell scripts, each with a
// quoting of its own.
func checkPath(s string) (string, error) {
	switch {
	case s == "":
		return "", errors.New("is empty; it has to be an absolute path")
	case s[0] != '/':
		return "", fmt.Errorf("has to be an absolute path, is %s", quote(s))
	case climbs(s):
		return "", fmt.Errorf(`must not have ".." in it, is %s`, quote(s))
	case !safePath.MatchString(s):
		return "", fmt.Errorf("may only have %s in it, since it goes into unit settings, container mounts and scripts; is %s", pathChars, quote(s))
	}
	return path.Clean(s), nil
}

// climbs says whether a path has a part in it that leads to the directory above.
func climbs(path string) bool { return slices.Contains(strings.Split(path, "/"), "..") }

// hiddenDirs are those that the activator does not see as others do, by
// PrivateTmp=, ProtectHome= and PrivateDevices= of its unit (systemd.exec(5)), or
// that hold no files of anybody's.
var hiddenDirs = []string{"/dev", "/home", "/proc", "/root", "/run/user", "/sys", "/tmp", "/var/tmp"}

// checkServiceDir returns service_dir without what does not matter in it.
func checkServiceDir(s, example string) (string, error) {
	dir, err := checkPath(s)
	if err != nil {
		return "", err
	}
	if dir == "/" {
		return "", fmt.Errorf(`must not be "/"; write for example %s`, example)
	}
	for _, hidden := range hiddenDirs {
		if dir == hidden || strings.HasPrefix(dir, hidden+"/") {
			return "", fmt.Errorf("must not be in %s, where the activator sees no files of others; write for example %s", hidden, example)
		}
	}
	return dir, nil
}

func checkFileName(s string) error {
	if !fileName.MatchString(s) {
		return fmt.Errorf("has to be a file name of letters, digits and _.- that begins with a letter or a digit, is %s", quote(s))
	}
	if len(s) > maxFileName {
		return fmt.Errorf("is longer than %d bytes", maxFileName)
	}
	return nil
}

func checkImage(s string) error {
	if dir, ok := strings.CutPrefix(s, layout.RootDirectory); ok {
		if _, err := checkPath(dir); err != nil {
			return fmt.Errorf("the path after dir: %w", err)
		}
		return nil
	}
	if !image.MatchString(s) {
		return fmt.Errorf("is not the name of an image: %s; it begins with a letter or a digit, and has only letters, digits and ._/:@- in it", quote(s))
	}
	return nil
}

func parseBindMount(s string) (BindMount, error) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return BindMount{}, fmt.Errorf("has to be SRC:DST or SRC:DST:OPTS, is %s", quote(s))
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return BindMount{}, fmt.Errorf("has a control character in it: %s", quote(s))
	}
	m := BindMount{Source: parts[0], Destination: parts[1]}
	switch {
	case !path.IsAbs(m.Source):
		return BindMount{}, fmt.Errorf("the source %s has to be an absolute path in %s; named volumes are not supported", quote(m.Source), quote(s))
	case !path.IsAbs(m.Destination):
		return BindMount{}, fmt.Errorf("the destination %s has to be an absolute path in %s", quote(m.Destination), quote(s))
	case climbs(m.Source), climbs(m.Destination): // systemd ignores such a mount
		return BindMount{}, fmt.Errorf(`must not have ".." in a path, is %s`, quote(s))
	case path.Clean(m.Destination) == "/":
		return BindMount{}, fmt.Errorf("the destination must not be the root directory in %s", quote(s))
	}
	if len(parts) == 3 {
		m.Options = parts[2]
		for _, o := range strings.Split(m.Options, ",") {
			if !mountOpt.MatchString(o) {
				return BindMount{}, fmt.Errorf(`has the mount option %s in %s; write for example "ro" or "ro,z", or leave the second colon out`, quote(o), quote(s))
			}
		}
	}
	return m, nil
}

// The options of podman run and docker run that the generated units set, or
// that would take the container from systemd's supervision.
var ownOptions = []string{
	"--cgroups", "--cidfile", "--detach", "--log-driver", "--name", "--net", "--network",
	"--pid", "--replace", "--restart", "--rm", "--sdnotify",
}

// detached matches -d, also among other one-letter options that take no value.
var detached = regexp.MustCompile(`^-[iPqt]*d`)

func checkContainerOptions(options []string) (problems []error) {
	for i, o := range options {
		name, _, _ := strings.Cut(o, "=")
		switch {
		case o == "":
			problems = append(problems, fmt.Errorf("its %s entry is empty", ordinal(i)))
		case strings.ContainsAny(o, "\x00\r\n"):
			problems = append(problems, fmt.Errorf("its %s entry has a NUL or a newline in it: %s", ordinal(i), quote(o)))
		case i == 0 && o[0] != '-':
			problems = append(problems, fmt.Errorf("has to begin with an option, begins with %s", quote(o)))
		case o == "-", o == "--":
			problems = append(problems, fmt.Errorf("%s would end the options, and what follows would be taken for the image", quote(o)))
		case slices.Contains(ownOptions, name), detached.MatchString(o):
			problems = append(problems, fmt.Errorf("%s is set by the unit of the sidecar, which could not supervise it otherwise; leave it out", quote(name)))
		}
	}
	return problems
}

// The variables that change what root's podman, docker or shell does, by name
// and by beginning. The caller of a wrapper, in the agent's container, sets
// their values, so no definition may pass them on.
var (
	refusedVariables = []string{
		"PATH", "HOME", "USER", "LOGNAME", "SHELL", "IFS", "ENV", "PS4", "CDPATH", "SHELLOPTS", "TMPDIR", "MAINPID", "INVOCATION_ID",
		"JOURNAL_STREAM", "CREDENTIALS_DIRECTORY", "HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS", "NLSPATH",
		"LOCPATH", "GCONV_PATH", "GETCONF_DIR", "NIS_PATH", "TZDIR",
		"GODEBUG", "GOTRACEBACK", "GOGC", "GOMEMLIMIT", "GOMAXPROCS", "GOCOVERDIR",
	}
	refusedPrefixes = []string{
		"LD_", "BASH", "NOTIFY_", "LISTEN_", "WATCHDOG_", "SYSTEMD_", "DBUS_", "XDG_",
		"CONTAINER_", "CONTAINERS_", "_CONTAINERS_", "DOCKER_", "PODMAN_", "REGISTRIES_", "REGISTRY_", "STORAGE_",
		"BUILDAH_", "CONMON_", "CRUN_", "NETAVARK_", "GLIBC_", "MALLOC_", "SSL_", "SSH_",
	}
)

func checkVariable(name string) error {
	if !variable.MatchString(name) {
		return fmt.Errorf("%s is not the name of an environment variable; list names only, without values", quote(name))
	}
	refused := slices.Contains(refusedVariables, name) ||
		slices.ContainsFunc(refusedPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) ||
		strings.HasSuffix(strings.ToLower(name), "_proxy")
	if refused {
		return fmt.Errorf("%s cannot be passed: it would let the agent's container change what podman, docker or systemd does as root on the host", quote(name))
	}
	return nil
}

func checkPIDFileOption(s string) error {
	switch {
	case len(strings.TrimLeft(s, "-")) == 0 || s[0] != '-':
		return fmt.Errorf(`has to be an option such as "--pid-file" or "-x", is %s`, quote(s))
	case strings.Contains(s, "="):
		return fmt.Errorf("%s must not have a '=' in it; write the option alone", quote(s))
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return fmt.Errorf("%s must not have a blank in it; write one option per entry", quote(s))
	}
	return nil
}

var placeholders = strings.NewReplacer("{netns}", "", "{uuid}", "")

func checkPIDFile(s string) (string, error) {
	bare := placeholders.Replace(s)
	if strings.ContainsAny(bare, "{}") {
		return "", fmt.Errorf("has an unknown placeholder in %s; there are {netns} and {uuid}", quote(s))
	}
	// A placeholder stands for at least one letter and never for dots or
	// slashes, so the path is as good as with letters in their place.
	if _, err := checkPath(strings.NewReplacer("{netns}", "n", "{uuid}", "u").Replace(s)); err != nil {
		return "", err
	}
	return path.Clean(s), nil
}

// maxValues is how long the values of a definition may be together. An argument has
// less than 128 KiB (MAX_ARG_STRLEN of Linux), and a value can become six times as
// long in one (JSON). A line of a unit has less than 1 MiB (LONG_LINE_MAX of systemd).
const maxValues = 20 << 10

// checkSize reports values that are too long together, at the longest of them.
func (d *draft) checkSize() {
	longest, most, all := "", 0, 0
	for i := range Keys {
		name := Keys[i].Name
		size := valueSize(d.values[name].value)
		d.wrong[name] = size > maxValues // and is not looked at any further
		all += size
		if size > most {
			longest, most = name, size
		}
	}
	if all > maxValues {
		d.wrong[longest] = true
		d.fail(longest, "is too long: all values of a definition together can have %d bytes; shorten it", maxValues)
	}
}

func valueSize(value any) int {
	switch v := value.(type) {
	case nil:
		return 0
	case string:
		return len(v) + 1 // the blank behind it
	case []any:
		size := 1
		for _, entry := range v {
			size += valueSize(entry)
		}
		return size
	}
	return 8 // a number, or what is of no use
}

// checkPresent reports what a definition lacks.
func (d *draft) checkPresent() {
	if _, ok := d.values["service_name"]; !ok {
		if err := layout.CheckService(d.base); err != nil {
			d.fail("service_name", "is missing, and the file's name cannot stand for it: %s %s; write for example service_name = \"neutron-dnsmasq\"", quote(d.base), err)
		} else {
			d.service.Name, d.named = d.base, true
		}
	}
	for _, k := range Keys {
		if _, ok := d.values[k.Name]; !ok && k.Required {
			d.fail(k.Name, "is missing; write for example %s = %s", k.Name, k.Example)
		}
	}
	if d.service.Join != "" || d.wrong["join"] {
		return // the image is the other's
	}
	if d.service.Engine == Systemd || d.wrong["image_name"] || d.wrong["container_cli"] {
		return
	}
	if strings.HasPrefix(d.service.Image, layout.RootDirectory) {
		d.fail("image_name", `is a directory, which %s cannot run; name an image, or write container_cli = "systemd"`, d.service.Engine)
	}
	if d.service.Image != "" {
		return
	}
	what := "is missing"
	if _, ok := d.values["image_name"]; ok {
		what = `is ""`
	}
	d.fail("image_name", `%s, but %s needs an image; name one, or write container_cli = "systemd" to run the command in the host's root file system`, what, d.service.Engine)
}

// ofJoined are the keys that a definition leaves to the one that it joins.
var ofJoined = []string{
	"container_cli", "image_name", "config_bind_mount", "bind_mounts", "docker_additional_sockets", "container_options", "privileged",
}

// checkJoin reports what cannot stand beside join, and has systemd itself run
// the sidecars.
func (d *draft) checkJoin() {
	s := &d.service
	for _, key := range ofJoined {
		switch value := d.values[key].value.(type) {
		case nil:
			continue
		case string:
			if value == "" {
				continue // as a drop-in takes it away
			}
		case []any:
			if len(value) == 0 {
				continue
			}
		}
		d.fail(key, "cannot be used with join: the sidecar runs in that of %s, whose definition says this for both; leave it out", s.Join)
	}
	if d.named && s.Join == s.Name {
		d.fail("join", "names the service itself; it takes the name of another one")
	}
	s.Engine = Systemd
}

// checkTogether reports values that are right by themselves but not with each other.
func (d *draft) checkTogether() {
	s := &d.service
	if s.Join != "" {
		d.checkJoin()
	} else if s.Engine == Systemd && len(s.ContainerOptions) > 0 {
		service := s.Name
		if !d.named {
			service = "SERVICE"
		}
		d.fail("container_options", `cannot be used with container_cli = "systemd", which runs no container tool; use "systemctl edit %s" instead`, layout.TemplateUnit(service))
	}
	if s.Ready.PIDFile != "" && len(s.Ready.PIDFileOptions) > 0 {
		d.fail("ready.pid_file", "cannot be used together with ready.pid_file_option; keep the one that tells where the pid file is")
	}
	if s.Ready.PIDFile != "" && s.Dir != "" && !strings.HasPrefix(s.Ready.PIDFile, s.Dir+"/") {
		d.fail("ready.pid_file", "has to be below service_dir, %s, is %s", s.Dir, quote(s.Ready.PIDFile))
	}
	if s.Dir != "" && d.named {
		socket := path.Join(layout.StateDir(s.Dir, s.Name), layout.Socket)
		if len(socket) > maxSocketPath {
			d.fail("service_dir", "is too long: the path of the activation socket, %s, has %d bytes, and at most %d are possible; shorten service_dir or service_name", socket, len(socket), maxSocketPath)
		}
	}
	// Podman and Docker refuse a second mount in one place.
	mounted := make(map[string]bool)
	mount := func(key string, m BindMount) {
		dst := path.Clean(m.Destination)
		switch {
		case dst == s.Dir || dst == layout.NetnsDir || dst == layout.LogSocket:
			d.fail(key, "mounts %s, which each sidecar has by itself; leave it out", quote(dst))
		case mounted[dst]:
			d.fail(key, "mounts %s a second time; leave one of the two out", quote(dst))
		}
		mounted[dst] = true
	}
	if m := s.ConfigBindMount; m != nil {
		mount("config_bind_mount", *m)
	}
	for _, m := range s.BindMounts {
		mount("bind_mounts", m)
	}
}
