// SPDX-License-Identifier: Apache-2.0

package role

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const state = "/var/lib/neutron/neutron-dnsmasq"

func TestIsUnit(t *testing.T) {
	const (
		pathUnit = "[Path]\nPathModified=" + state + "/processes-timestamp\n\n[Install]\nWantedBy=multi-user.target\n"
		service  = "[Unit]\nDescription=Tripleo neutron-dnsmasq sync service\n\n[Service]\nType=oneshot\nExecStart=" + state + "/sync\nUser=root\n"
	)
	tests := []struct {
		about, name, content string
		want                 bool
	}{
		{"the role's", "neutron-dnsmasq.path", pathUnit, true},
		{"the role's", "neutron-dnsmasq.service", service, true},
		{"an older version's", "neutron-dnsmasq.service", strings.ReplaceAll(service, "/sync", "/process-sync"), true},
		{"with an operator's fix", "neutron-dnsmasq.service", service + "KillMode=process\n", true},
		{"with debugging", "neutron-dnsmasq.service", strings.Replace(service, "Type", "Environment=SYSTEMD_LOG_LEVEL=debug\nType", 1), true},

		{"another service's", "neutron-dnsmasq.path", strings.ReplaceAll(pathUnit, "dnsmasq", "haproxy"), false},
		{"that watches more", "neutron-dnsmasq.path", strings.Replace(pathUnit, "[Install]", "PathExists=/etc/x\n[Install]", 1), false},
		{"that starts another", "neutron-dnsmasq.path", strings.Replace(pathUnit, "[Install]", "Unit=mine.service\n[Install]", 1), false},
		{"that watches twice", "neutron-dnsmasq.path", pathUnit + pathUnit, false},
		{"an operator's", "neutron-dnsmasq.service", "[Service]\nExecStart=/usr/local/bin/sync\n", false},
		{"an operator's in the directory", "neutron-dnsmasq.service", strings.ReplaceAll(service, "/sync", "/mine"), false},
		{"with arguments", "neutron-dnsmasq.service", strings.ReplaceAll(service, "/sync", "/sync --all"), false},
		{"that does more", "neutron-dnsmasq.service", service + "ExecStartPost=/bin/touch /x\n", false},
		{"an empty one", "neutron-dnsmasq.service", "", false},
		{"a commented one", "neutron-dnsmasq.path", "#" + strings.ReplaceAll(pathUnit, "\n", "\n#"), false},
	}
	for _, test := range tests {
		if got := isUnit(test.name, []byte(test.content), state); got != test.want {
			t.Errorf("%s %s: %v", test.about, filepath.Ext(test.name), got)
		}
	}
}

func TestUnits(t *testing.T) {
	root := t.TempDir()
	units := filepath.Join(root, "etc/systemd/system")
	write := func(name, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(units, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(units, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(wantErr string, want ...string) {
		t.Helper()
		got, err := Units(root, "a", "/d")
		if (err == nil) != (wantErr == "") || err != nil && !strings.Contains(err.Error(), wantErr) {
			t.Errorf("error %v, want %q", err, wantErr)
		}
		for i := range want {
			want[i] = filepath.Join(units, want[i])
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	expect("")
	write("a.path", "[Path]\nPathModified=/d/a/processes-timestamp\n")
	write("multi-user.target.wants/b.path", "")
	expect("", "a.path")
	write("a.service", "[Service]\nExecStart=/d/a/sync\n")
	if err := os.Symlink("/etc/systemd/system/a.path", filepath.Join(units, "multi-user.target.wants/a.path")); err != nil {
		t.Fatal(err)
	}
	expect("", "a.path", "a.service", "multi-user.target.wants/a.path")
	write("a.service", "[Service]\nExecStart=/usr/bin/true\n")
	expect("a.service takes the place of a generated unit and is not the role's")
	if err := os.Remove(filepath.Join(units, "a.service")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", filepath.Join(units, "a.service")); err != nil {
		t.Fatal(err)
	}
	expect("is not the role's")
}

func TestIsScript(t *testing.T) {
	const wrapper = "#!/usr/bin/env bash\nNETNS=$(ip netns identify)\necho \"$NETNS $@\" >> /d/a/processes\ndate > /d/a/processes-timestamp\n"
	const kill = "#!/bin/bash\nkill_container() {\n}\nsignal_container() {\n}\n"
	for content, want := range map[string]bool{
		wrapper: true, kill: true,
		"":                            false,
		strings.TrimPrefix(kill, "#"): false,
		"#!/bin/sh\nexec /d/a/tripleo-wrapper wrapper -- \"$@\"\n": false,
		kill + strings.Repeat("#", maxScript):                      false,
	} {
		if got := isScript([]byte(content)); got != want {
			t.Errorf("%.40q: %v", content, got)
		}
	}
}
