// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"strings"
	"testing"
	"time"
)

// Patience is that of a command with systemd, however often that is asked.
func TestPatience(t *testing.T) {
	dir := t.TempDir()
	defer func(p, b string) { private, booted = p, b }(private, booted)
	private, booted = "unix:path="+dir+"/none", dir
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", private)
	m := &Manager{Patience: time.Second}
	ask := func() time.Duration {
		began := time.Now()
		if _, err := m.State(context.Background(), "a.service"); err == nil || !strings.Contains(err.Error(), "connecting to the system bus: ") {
			t.Errorf("error %v", err)
		}
		return time.Since(began)
	}
	if took := ask(); took < m.Patience {
		t.Errorf("given up after %v", took)
	}
	if took := ask(); took >= m.Patience {
		t.Errorf("asked again, it took %v", took)
	}

	booted = dir + "/none"
	m = &Manager{}
	if _, err := m.State(context.Background(), "a.service"); err == nil || !strings.Contains(err.Error(), "systemd does not run here: there is no "+booted) {
		t.Errorf("where there is no systemd: error %v", err)
	}
}
