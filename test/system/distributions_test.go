// SPDX-License-Identifier: Apache-2.0

//go:build system

package system

import (
	"os"
	"strings"
	"testing"
)

// A systemd that does not know a setting ignores it. This one is made to ignore
// where a sidecar belongs, as one before 242 does.
func TestNetnsUnknownToSystemd(t *testing.T) {
	s := define(t, "systemd", dnsmasq)
	s.dropIn(t, "[Service]\nNetworkNamespacePath=\n")
	n := s.netns()
	r := s.call(n, n.arguments()...)
	if r.status != 225 || !strings.Contains(r.stderr, "systemd, before version 242, did not enter it") {
		t.Errorf("status %d: %s", r.status, r.stderr)
	}
}

// Settings that this systemd does not know stand for those that an older one
// does not.
func TestUnknownSettings(t *testing.T) {
	const unit = "unknown-settings.service"
	path := "/run/systemd/system/" + unit
	text := "[Unit]\nNoSuchSetting=yes\n[Service]\nType=no-such-type\nExecStart=/bin/sleep infinity\nNoSuchSetting=yes\n" +
		"ProtectNothing=strict\nRestartPreventExitStatus=SIGKILL NOSUCHSTATUS 225\n[NoSuchSection]\nA=b\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		run(t, "systemctl", "stop", unit)
		os.Remove(path)
		run(t, "systemctl", "daemon-reload")
	})
	must(t, "systemctl", "daemon-reload")
	must(t, "systemctl", "start", unit)
	if got := must(t, "systemctl", "show", "--value", "--property=ActiveState", unit); got != "active" {
		t.Errorf("the unit is %s", got)
	}
}
