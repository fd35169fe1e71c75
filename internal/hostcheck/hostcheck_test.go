// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// expect checks that each finding has what is wanted in it, "!" before it for
// one that is fatal.
func expect(t *testing.T, got []Finding, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("findings %+v, want %q", got, want)
	}
	for i, finding := range got {
		text, fatal := strings.CutPrefix(want[i], "!")
		if finding.Fatal != fatal || !strings.Contains(finding.Key+": "+finding.Message, text) {
			t.Errorf("finding %+v, want %q", finding, want[i])
		}
	}
}

func TestShadows(t *testing.T) {
	etc, run, control := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), filepath.Base(unitDirs[0]))
	s := &conf.Service{Name: "a"}
	expect(t, shadows(s, []string{control, etc, run}))
	write(t, filepath.Join(etc, "a.path"), "[Path]\n")
	write(t, filepath.Join(etc, "a.path.d", "override.conf"), "[Path]\n")
	write(t, filepath.Join(etc, "b.service"), "")
	if err := os.Mkdir(control, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, mask := range []string{filepath.Join(run, "a@.service"), filepath.Join(control, "a.socket")} {
		if err := os.Symlink("/dev/null", mask); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, shadows(s, []string{control, etc, run}), "!a.socket is masked by an adoption, which is under way or was interrupted; to have it done: tripleo-wrapperctl adopt a",
		"!"+etc+"/a.path takes the place", "!a@.service is masked, so it never runs; to undo that: systemctl unmask a@.service")
	if got := replaced("a", []string{control, etc, run}); !slices.Equal(got, []string{inPlace(etc+"/a.path", "a")}) {
		t.Errorf("replaced are %q", got)
	}
	if unitDirs[0] != filepath.Dir(layout.MaskFile("a.socket")) {
		t.Errorf("%s is not where an adoption makes its masks", unitDirs[0])
	}
}

func TestKillScripts(t *testing.T) {
	config := t.TempDir()
	s := &conf.Service{Dir: "/var/lib/neutron", KillScript: "dnsmasq-kill"}
	expect(t, killScripts(s)) // nothing says where the configuration is
	s.ConfigBindMount = &conf.BindMount{Source: config}
	expect(t, killScripts(s)) // Neutron's default

	agent, rootwrap := filepath.Join(config, "neutron", "dhcp_agent.ini"), filepath.Join(config, "rootwrap.conf")
	write(t, rootwrap, "[DEFAULT]\nexec_dirs=/sbin,/usr/bin,/etc/neutron/kill_scripts\n")
	write(t, agent, "[AGENT]\n# kill_scripts_path = /elsewhere\n")
	expect(t, killScripts(s))
	write(t, agent, "[AGENT]\nkill_scripts_path=/etc/neutron/kill_scripts/\n")
	expect(t, killScripts(s))

	write(t, agent, "[AGENT]\nkill_scripts_path = /var/lib/neutron/kill_scripts/\n")
	expect(t, killScripts(s), "service_kill_script: "+agent+" has kill_scripts_path = /var/lib/neutron/kill_scripts, which is not among exec_dirs in "+rootwrap+
		", so that rootwrap does not find dnsmasq-kill; add it there, or leave the option out and mount /var/lib/neutron/kill_scripts on /etc/neutron/kill_scripts")
	write(t, agent, "[AGENT]\nkill_scripts_path = /elsewhere\n")
	expect(t, killScripts(s), "has kill_scripts_path = /elsewhere; the agent's container has to have /var/lib/neutron/kill_scripts mounted there",
		"has kill_scripts_path = /elsewhere, which is not among exec_dirs")

	write(t, rootwrap, "[DEFAULT]\nexec_dirs = /sbin, /var/lib/neutron/kill_scripts/\n")
	write(t, agent, "[AGENT]\nkill_scripts_path = /var/lib/neutron/kill_scripts\n")
	expect(t, killScripts(s))
	s.KillScript = ""
	write(t, agent, "[AGENT]\nkill_scripts_path = /elsewhere\n")
	expect(t, killScripts(s))
}

func TestSources(t *testing.T) {
	dir := t.TempDir()
	s := &conf.Service{
		ConfigBindMount: &conf.BindMount{Source: filepath.Join(dir, "none")},
		BindMounts:      []conf.BindMount{{Source: dir}, {Source: filepath.Join(dir, "neither")}},
	}
	expect(t, sources(s), "!config_bind_mount: "+dir+"/none: no such file", "!bind_mounts: "+dir+"/neither: no such file")
	s.Engine = conf.Docker
	expect(t, sources(s), "config_bind_mount: "+dir+"/none: no such file", "Docker makes an empty directory of it")
}

func TestAgents(t *testing.T) {
	all := []conf.Service{
		{Name: "a", Dir: "/var/lib/a", BindMounts: []conf.BindMount{{Source: "/var/lib/ab"}, {Source: "/var/lib"}, {Source: "/var/lib//a/x/"}}},
		{Name: "b", Dir: "/var/lib/b", Image: "dir:/var/lib/a/root", ConfigBindMount: &conf.BindMount{Source: "/var/lib/b"}},
	}
	expect(t, agents(&all[0], all), "bind_mounts: /var/lib//a/x/ is in the service_dir of a")
	expect(t, agents(&all[1], all), "image_name: /var/lib/a/root is in the service_dir of a", "config_bind_mount: /var/lib/b is in the service_dir of b")
}

// What only root may look at is not called missing.
func TestHidden(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "in", "config"), "")
	if err := os.Chmod(filepath.Join(dir, "in"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "in"), 0o755) })
	if os.Geteuid() == 0 {
		if err := syscall.Seteuid(65534); err != nil {
			t.Fatal(err)
		}
		defer syscall.Seteuid(0)
	}
	config := filepath.Join(dir, "in", "config")
	expect(t, sources(&conf.Service{ConfigBindMount: &conf.BindMount{Source: config}}))
	expect(t, engine(context.Background(), &conf.Service{Engine: conf.Systemd, Command: conf.Command{Argv: []string{config}}}))
	expect(t, shadows(&conf.Service{Name: "a"}, []string{filepath.Join(dir, "in")}))
}

func TestEngine(t *testing.T) {
	ctx := context.Background()
	t.Setenv("PATH", t.TempDir())
	expect(t, engine(ctx, &conf.Service{Engine: conf.Podman}), "!container_cli: podman is not on this host")
	expect(t, engine(ctx, &conf.Service{Engine: conf.Systemd, Image: "localhost/a"}), "!container_cli: podman is not on this host")
	expect(t, engine(ctx, &conf.Service{Engine: conf.Systemd, Image: "dir:/no/such/root"}), "!image_name: /no/such/root: no such file")
	host := conf.Service{Engine: conf.Systemd, Command: conf.Command{Argv: []string{"/no/such/program", "-k"}}}
	expect(t, engine(ctx, &host), "!cmd: /no/such/program: no such file")
	host.Command.Argv[0] = "/bin/sh"
	expect(t, engine(ctx, &host))
	host.Command.Argv[0] = "dnsmasq" // found by the shim, in systemd's own PATH
	expect(t, engine(ctx, &host))
}
