// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// Names that agents, operators and the role's users know.
func TestNames(t *testing.T) {
	const service, netns, dir = "neutron-dnsmasq", "qdhcp-1", "/var/lib/neutron"
	got := map[string]string{
		"state directory": layout.StateDir(dir, service),
		"wrapper":         layout.StateDir(dir, service) + "/" + layout.Wrapper,
		"socket file":     layout.StateDir(dir, service) + "/" + layout.Socket,
		"spool":           layout.StateDir(dir, service) + "/" + layout.Spool,
		"time stamp":      layout.StateDir(dir, service) + "/" + layout.SpoolTimestamp,
		"kill script":     layout.KillScript(dir, "dnsmasq-kill"),
		"arguments":       layout.ArgsFile(service, netns),
		"environment":     layout.EnvFile(service, netns),
		"namespace":       layout.NetnsFile(service, netns),
		"log":             layout.LogFile(service, netns),
		"container":       layout.Container(service, netns),
		"socket":          layout.SocketUnit(service),
		"path":            layout.PathUnit(service),
		"service":         layout.ServiceUnit(service),
		"template":        layout.TemplateUnit(service),
		"sidecar":         layout.SidecarUnit(service, netns),
	}
	want := map[string]string{
		"state directory": "/var/lib/neutron/neutron-dnsmasq",
		"wrapper":         "/var/lib/neutron/neutron-dnsmasq/wrapper",
		"socket file":     "/var/lib/neutron/neutron-dnsmasq/activator.sock",
		"spool":           "/var/lib/neutron/neutron-dnsmasq/processes",
		"time stamp":      "/var/lib/neutron/neutron-dnsmasq/processes-timestamp",
		"kill script":     "/var/lib/neutron/kill_scripts/dnsmasq-kill",
		"arguments":       "/run/tripleo-wrappers/neutron-dnsmasq/qdhcp-1.args",
		"environment":     "/run/tripleo-wrappers/neutron-dnsmasq/qdhcp-1.env",
		"namespace":       "/run/tripleo-wrappers/neutron-dnsmasq/qdhcp-1.netns",
		"log":             "/var/log/containers/stdouts/neutron-dnsmasq-qdhcp-1.log",
		"container":       "neutron-dnsmasq-qdhcp-1",
		"socket":          "neutron-dnsmasq.socket",
		"path":            "neutron-dnsmasq.path",
		"service":         "neutron-dnsmasq.service",
		"template":        "neutron-dnsmasq@.service",
		"sidecar":         "neutron-dnsmasq@qdhcp-1.service",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSidecarNetns(t *testing.T) {
	tests := []struct {
		service, unit, want string
		ok                  bool
	}{
		{"dnsmasq", "dnsmasq@qdhcp-1.service", "qdhcp-1", true},
		{"dnsmasq", "dnsmasq@a@b.service", "a@b", true},
		{"dnsmasq", "dnsmasq@a.service.service", "a.service", true},
		{"dnsmasq", "neutron-dnsmasq@qdhcp-1.service", "", false},
		{"neutron", "neutron-dnsmasq@qdhcp-1.service", "", false},
		{"dnsmasq", "dnsmasq.service", "", false},
		{"dnsmasq", "dnsmasq@.service", "", false},
		{"dnsmasq", "dnsmasq@qdhcp-1.socket", "", false},
		{"dnsmasq", "", "", false},
	}
	for _, test := range tests {
		got, ok := layout.SidecarNetns(test.service, test.unit)
		if ok != test.ok || ok && got != test.want {
			t.Errorf("SidecarNetns(%q, %q) = %q, %v, want %q, %v", test.service, test.unit, got, ok, test.want, test.ok)
		}
	}
}

func TestCheckNames(t *testing.T) {
	longest := strings.Repeat("s", 100)
	tests := []struct{ name, service, netns string }{ // what is wrong, "" for nothing
		{"neutron-dnsmasq", "", ""},
		{"qdhcp-5f1a0c4e-1234-4abc-9def-0123456789ab", "", ""},
		{"A.b_c-9", "", ""},
		{"0", "", ""},
		{"", "is empty", "is empty"},
		{"-a", "has to begin with a letter or a digit", "has to begin with a letter or a digit"},
		{".a", "has to begin with a letter or a digit", "has to begin with a letter or a digit"},
		{"a/b", "holds '/'", "holds '/'"},
		{"a@b", "holds '@'", "holds '@'"},
		{"a b", "holds ' '", "holds ' '"},
		{"a%i", "holds '%'", "holds '%'"},
		{`a\x2d`, `holds '\\'`, `holds '\\'`},
		{"a\n", `holds '\n'`, `holds '\n'`},
		{"é", "has to begin", "has to begin"},
		{"kill_scripts", "is the name of the directory of the kill scripts", ""},
		{longest, "", ""},
		{longest + "s", "is longer than 100 bytes", ""},
		{strings.Repeat("n", 239), "is longer than 100 bytes", ""},
		// "service@" and ".service" are 16 bytes.
		{strings.Repeat("n", 240), "is longer than 100 bytes", "makes a unit name longer than 255 bytes"},
	}
	check := func(what, name, want string, err error) {
		t.Helper()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s %q: error %v, want %q", what, name, err, want)
		}
	}
	for _, test := range tests {
		check("service", test.name, test.service, layout.CheckService(test.name))
		check("network namespace", test.name, test.netns, layout.CheckNetns("service", test.name))
	}
	// Whatever the service, Neutron's longest names fit.
	check("network namespace", "snat-UUID", "", layout.CheckNetns(longest, "ovnmeta-5f1a0c4e-1234-4abc-9def-0123456789ab"))
}
