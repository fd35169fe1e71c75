// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	godbus "github.com/godbus/dbus/v5"
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

// Of all that systemd tells, only the ends of jobs are kept until somebody reads
// them, in order, and nothing waits with a goroutine of its own.
func TestJobEnds(t *testing.T) {
	const jobs = 500
	handler := jobEnds{godbus.NewSequentialSignalHandler().(sequential)}
	ends := make(chan *godbus.Signal)
	handler.AddSignal(ends)
	before := runtime.NumGoroutine()
	for i := range uint32(jobs) {
		handler.DeliverSignal(managerName+".Manager", "JobNew", &godbus.Signal{})
		handler.DeliverSignal("org.freedesktop.DBus.Properties", "PropertiesChanged", &godbus.Signal{})
		handler.DeliverSignal(managerName+".Manager", "JobRemoved", &godbus.Signal{Body: []any{i}})
	}
	if more := runtime.NumGoroutine() - before; more > 0 {
		t.Errorf("there are %d goroutines more", more)
	}
	for i := range uint32(jobs) {
		select {
		case end := <-ends:
			if len(end.Body) != 1 || end.Body[0] != i {
				t.Fatalf("signal %d is %v", i, end.Body)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%d of %d ends of jobs came", i, jobs)
		}
	}
	handler.Terminate()
	if end, open := <-ends; open {
		t.Errorf("another signal: %v", end)
	}
}
