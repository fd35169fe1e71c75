// SPDX-License-Identifier: Apache-2.0

// Package hostcheck looks for what keeps a definition that is right in itself
// from working on this host.
package hostcheck

import (
	"bufio"
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

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/inventory"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// A Finding is something that is in the way.
type Finding struct {
	Key     string // of the definition; "" where it is about the host
	Fatal   bool   // whether no sidecar can work so
	Message string // what is wrong, and what to do
}

// unitDirs is where units are found before generated ones (systemd.unit(5)), and
// before those the masks of an adoption.
var unitDirs = []string{layout.MaskFile(""), "/etc/systemd/system", "/run/systemd/system"}

// Check looks for what is in the way of a service, one of all those. Without root's rights, the
// images of the host cannot be looked for, and neither can what is in directories
// of others.
func Check(ctx context.Context, s *conf.Service, all []conf.Service) []Finding {
	var findings []Finding
	findings = append(findings, engine(ctx, s)...)
	findings = append(findings, sources(s)...)
	findings = append(findings, agents(s, all)...)
	findings = append(findings, shadows(s, unitDirs)...)
	return append(findings, killScripts(s)...)
}

func engine(ctx context.Context, s *conf.Service) []Finding {
	if s.Join != "" {
		return nil // it is the other's
	}
	tool := s.Engine
	if s.Engine == conf.Systemd {
		dir, ok := strings.CutPrefix(s.Image, layout.RootDirectory)
		switch {
		case ok:
			return missing("image_name", dir, "the root file system has to be there")
		case s.Image == "" && len(s.Command.Argv) > 0 && path.IsAbs(s.Command.Argv[0]):
			return missing("cmd", s.Command.Argv[0], "install the program")
		case s.Image == "":
			return nil
		}
		tool = conf.Podman
	}
	if _, err := exec.LookPath(string(tool)); err != nil {
		return []Finding{{"container_cli", true, fmt.Sprintf("%s is not on this host; install it, or run the host's own programs: "+
			"container_cli = %q without an image_name", tool, conf.Systemd)}}
	}
	if os.Geteuid() != 0 {
		return nil
	}
	asked := *s
	asked.Engine = tool
	switch _, err := inventory.ImageID(ctx, &asked); {
	case errors.Is(err, inventory.ErrNoImage):
		return []Finding{{"image_name", false, fmt.Sprintf("%s is not on this host, so the first start has to fetch it; get it now with: %s pull %s",
			s.Image, tool, s.Image)}}
	case err != nil:
		return []Finding{{"container_cli", true, err.Error()}}
	}
	return nil
}

// hidden says whether an error comes of a lack of rights, which root does not have.
func hidden(err error) bool { return os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission) }

// missing finds that a file is not there.
func missing(key, file, remedy string) []Finding {
	if _, err := os.Stat(file); err != nil && !hidden(err) {
		return []Finding{{key, true, fmt.Sprintf("%v; %s", reason(err), remedy)}}
	}
	return nil
}

func sources(s *conf.Service) []Finding {
	var findings []Finding
	check := func(key string, mount conf.BindMount) {
		_, err := os.Stat(mount.Source)
		switch {
		case err == nil || hidden(err):
		case s.Engine == conf.Docker && errors.Is(err, fs.ErrNotExist):
			findings = append(findings, Finding{key, false, fmt.Sprintf("%v; Docker makes an empty directory of it at the first start", reason(err))})
		default:
			findings = append(findings, Finding{key, true, fmt.Sprintf("%v; a sidecar fails to start until it is there", reason(err))})
		}
	}
	if s.ConfigBindMount != nil {
		check("config_bind_mount", *s.ConfigBindMount)
	}
	for _, mount := range s.BindMounts {
		check("bind_mounts", mount)
	}
	return findings
}

// agents finds what root mounts, or runs programs of, in a directory that an agent
// can write.
func agents(s *conf.Service, all []conf.Service) []Finding {
	var findings []Finding
	check := func(key, file string) {
		for _, other := range all {
			if strings.HasPrefix(path.Clean(file)+"/", other.Dir+"/") {
				findings = append(findings, Finding{key, false, fmt.Sprintf("%s is in the service_dir of %s, whose agent can put a link to anything of the host in its place; keep it elsewhere",
					file, other.Name)})
				return
			}
		}
	}
	if dir, ok := strings.CutPrefix(s.Image, layout.RootDirectory); ok {
		check("image_name", dir)
	}
	if s.ConfigBindMount != nil {
		check("config_bind_mount", s.ConfigBindMount.Source)
	}
	for _, mount := range s.BindMounts {
		check("bind_mounts", mount.Source)
	}
	return findings
}

// shadows finds units that take the place of generated ones: those of the
// Ansible role tripleo-systemd-wrapper have the same names.
func shadows(s *conf.Service, dirs []string) []Finding {
	var findings []Finding
	eachShadow(s.Name, dirs, func(dir, unit, target string, err error) {
		finding := Finding{Fatal: true}
		switch {
		case err != nil:
			finding.Message = err.Error()
		case target == os.DevNull && path.Base(dir) == path.Base(layout.MaskFile("")):
			finding.Message = fmt.Sprintf("%s is masked by an adoption, which is under way or was interrupted; to have it done: tripleo-wrapperctl adopt %s",
				unit, s.Name)
		case target == os.DevNull:
			finding.Message = fmt.Sprintf("%s is masked, so it never runs; to undo that: systemctl unmask%s %[1]s; then: tripleo-wrapperctl reload",
				unit, runtimeOption(dir))
		default:
			finding.Message = inPlace(path.Join(dir, unit), s.Name)
		}
		findings = append(findings, finding)
	})
	return findings
}

// Replaced says which unit files take the place of generated ones of a service, and
// what to do: what systemd runs is not ours. Masks, of which systemd tells itself, are
// not among them.
func Replaced(service string) []string { return replaced(service, unitDirs) }

func replaced(service string, dirs []string) []string {
	messages := []string{}
	eachShadow(service, dirs, func(dir, unit, target string, err error) {
		if err == nil && target != os.DevNull {
			messages = append(messages, inPlace(path.Join(dir, unit), service))
		}
	})
	return messages
}

func inPlace(file, service string) string {
	return fmt.Sprintf("%s takes the place of the unit that is generated; "+
		"if the role tripleo-systemd-wrapper left it: tripleo-wrapperctl adopt %s; else move it away, then: tripleo-wrapperctl reload", file, service)
}

// eachShadow calls found for each file in directories by the name of a unit of a
// service: with what it points at if it is a link, or why it cannot be looked at.
func eachShadow(service string, dirs []string, found func(dir, unit, target string, err error)) {
	for _, dir := range dirs {
		for _, unit := range layout.Units(service) {
			file := path.Join(dir, unit)
			target, _ := os.Readlink(file)
			if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) && !hidden(err) {
				found(dir, unit, target, err)
			}
		}
	}
}

// runtimeOption is what systemctl unmask needs to undo a mask in /run.
func runtimeOption(dir string) string {
	if strings.HasPrefix(dir, "/run/") {
		return " --runtime"
	}
	return ""
}

// defaultKillScripts is where Neutron looks for kill scripts unless its
// kill_scripts_path says otherwise (neutron/conf/agent/common.py), and where its
// rootwrap.conf has rootwrap look.
const defaultKillScripts = "/etc/neutron/kill_scripts"

// killScripts looks into the agent's configuration, where the definition says
// where that is. Neutron calls a script that is in kill_scripts_path by its bare
// name (get_kill_cmd in external_process.py), which rootwrap looks for in
// exec_dirs. What is mounted in the agent's container cannot be seen from here.
func killScripts(s *conf.Service) []Finding {
	if s.KillScript == "" || s.ConfigBindMount == nil {
		return nil
	}
	source, err := filepath.EvalSymlinks(s.ConfigBindMount.Source)
	if err != nil {
		return nil // said of the bind mount already
	}
	type setting struct{ file, value string }
	var paths, execDirs []setting
	_ = filepath.WalkDir(source, func(name string, _ fs.DirEntry, err error) error {
		info, statErr := os.Stat(name)
		if err != nil || statErr != nil || !info.Mode().IsRegular() || path.Ext(name) != ".ini" && path.Ext(name) != ".conf" {
			return nil // what cannot be read says nothing
		}
		if value := option(name, "kill_scripts_path"); value != "" {
			paths = append(paths, setting{name, path.Clean(value)})
		}
		if value := option(name, "exec_dirs"); value != "" {
			execDirs = append(execDirs, setting{name, value})
		}
		return nil
	})
	var findings []Finding
	own := path.Join(s.Dir, layout.KillScripts)
	for _, set := range paths {
		if set.value == defaultKillScripts {
			continue
		}
		if set.value != own {
			findings = append(findings, Finding{"service_kill_script", false, fmt.Sprintf("%s has kill_scripts_path = %s; the agent's container has to have %s mounted there",
				set.file, set.value, own)})
		}
		for _, rootwrap := range execDirs {
			dirs := strings.FieldsFunc(rootwrap.value, func(r rune) bool { return r == ',' || r == ' ' })
			if !slices.ContainsFunc(dirs, func(dir string) bool { return path.Clean(dir) == set.value }) {
				findings = append(findings, Finding{"service_kill_script", false, fmt.Sprintf("%s has kill_scripts_path = %s, which is not among exec_dirs in %s, so that rootwrap does not find %s; "+
					"add it there, or leave the option out and mount %s on %s", set.file, set.value, rootwrap.file, s.KillScript, own, defaultKillScripts)})
			}
		}
	}
	return findings
}

// option returns the value of an option in a file of oslo.config's form; "" if it
// is not set there.
func option(name, key string) string {
	f, err := os.Open(name) // #nosec G304 -- in a directory that the definition names; one value of it is shown
	if err != nil {
		return ""
	}
	defer f.Close()
	value := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), "=")
		if ok && strings.TrimSpace(before) == key {
			value = strings.TrimSpace(after)
		}
	}
	return value
}

// reason says what is wrong with a file, without the name of the system call.
func reason(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return fmt.Errorf("%s: %w", pathErr.Path, pathErr.Err)
	}
	return err
}
