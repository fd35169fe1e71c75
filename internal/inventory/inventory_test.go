// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/manager"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
)

func TestState(t *testing.T) {
	tests := []struct {
		active, sub string
		want        State
	}{
		{"active", "running", Up},
		{"reloading", "reload", Up},
		{"activating", "start", Starting},
		{"activating", "auto-restart", Restarting},
		{"deactivating", "stop-sigterm", Stopping},
		{"failed", "failed", Stopped},
		{"inactive", "dead", Stopped},
	}
	for _, test := range tests {
		if got := state(&protocol.Sidecar{ActiveState: test.active, SubState: test.sub}); got != test.want {
			t.Errorf("%s/%s is %q, want %q", test.active, test.sub, got, test.want)
		}
	}
}

func TestWaiting(t *testing.T) {
	dir := t.TempDir()
	service := &conf.Service{Name: "a", Dir: filepath.Join(dir, "missing")}
	expect := func(netns string, want Requests) {
		t.Helper()
		got, err := Waiting(service, netns)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: error %v (-want +got):\n%s", netns, err, diff)
		}
	}
	expect("", Requests{})
	service.Dir = dir
	expect("", Requests{})
	state := filepath.Join(dir, "a")
	if err := os.Mkdir(state, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"processes":         "{\"netns\":\"n\"}\nm --the-role\n",
		"processes.taken-1": "n -x\n{not JSON\n",
		"processes.failed":  "# 2026-01-01T00:00:00Z why\n{\"netns\":\"n\"}\n# why\n{torn\n",
	} {
		if err := os.WriteFile(filepath.Join(state, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expect("", Requests{Spooled: 4, GivenUp: 2})
	expect("n", Requests{Spooled: 2, GivenUp: 1})
	expect("other", Requests{})

	// An agent can put anything there.
	if err := os.Remove(filepath.Join(state, "processes")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(state, "processes")); err != nil {
		t.Fatal(err)
	}
	if got, err := Waiting(service, ""); err == nil || got != (Requests{Spooled: Unknown, GivenUp: 2}) {
		t.Errorf("a link is followed: %+v, error %v", got, err)
	}
}

// What nobody knows is not 0.
func TestCount(t *testing.T) {
	got, err := json.Marshal([]Count{0, 12, Unknown})
	if want := "[0,12,null]"; err != nil || string(got) != want {
		t.Errorf("%s, error %v, want %s", got, err, want)
	}
	if got := fmt.Sprint(Count(0), Count(12), Unknown); got != "0 12 -" {
		t.Errorf("as text: %s", got)
	}
}

// What systemd does not say is not known.
func TestServiceWithoutSystemd(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	host := NewHost(&manager.Manager{})
	service := conf.Service{Name: "a", Dir: t.TempDir(), Engine: conf.Systemd}
	sidecars, err := host.Sidecars(ctx, []conf.Service{service})
	if err == nil {
		t.Errorf("sidecars %v, and no error", sidecars)
	}
	s, err := host.Service(ctx, &service, sidecars)
	if err == nil || s.Sidecars != nil || s.Socket != "" || s.Outdated != Unknown || s.Orphans != Unknown || s.InState(Up) != Unknown {
		t.Errorf("%+v, error %v", s, err)
	}
	if s.Spooled != 0 || s.GivenUp != 0 {
		t.Errorf("the spool, which systemd has nothing to do with: %+v", s)
	}
	s, _, err = host.Broken(ctx, &conf.Broken{Name: "a"})
	if err == nil || s.Sidecars != nil || s.Socket != "" || s.Orphans != Unknown {
		t.Errorf("broken: %+v, error %v", s, err)
	}
}

// engines is a stand-in for a container engine, for what it says and how it
// fails.
func stub(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestContainers(t *testing.T) {
	tests := []struct {
		name, script string
		engine       conf.Engine
		want         map[string]string
		fails        bool
	}{
		{name: "none", engine: conf.Podman, want: map[string]string{}},
		{name: "two", engine: conf.Podman, script: "echo a-n 12; echo a-m 34", want: map[string]string{"a-n": "12", "a-m": "34"}},
		{name: "failure", engine: conf.Podman, script: "echo no >&2; exit 125", fails: true},
		{name: "docker", engine: conf.Docker, script: `case $1 in ps) echo 1;; container) echo /a-n sha256:12;; esac`,
			want: map[string]string{"a-n": "sha256:12"}},
		{name: "docker, one is gone meanwhile", engine: conf.Docker,
			script: `case $1 in ps) echo 1; echo 2;; container) echo /a-n sha256:12; echo "no such container" >&2; exit 1;; esac`,
			want:   map[string]string{"a-n": "sha256:12"}},
		{name: "docker, none", engine: conf.Docker, script: `[ $1 = ps ]`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stub(t, string(test.engine), test.script)
			got, err := containers(context.Background(), &conf.Service{Engine: test.engine})
			if diff := cmp.Diff(test.want, got); (err != nil) != test.fails || diff != "" {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// What Podman and Docker say of a container differs in little more than a slash.
func TestRunningContainers(t *testing.T) {
	tests := []struct {
		name, script string
		engine       conf.Engine
		want         []Container
		fails        bool
	}{
		{name: "podman", engine: conf.Podman, script: `case "$*" in ps*) echo "1 a-n"; echo "2 b-n"; echo "3 a-m";;
"container inspect 1 3") echo '[{"Id":"1","Name":"a-n","Path":"ip","Args":["netns"],"State":{"Running":true,"Pid":7,"ConmonPid":6}}]'
	echo "no such container 3" >&2; exit 125;; esac`,
			want: []Container{{ID: "1", Name: "a-n", PID: 7, Monitor: 6, Command: []string{"ip", "netns"}}}},
		{name: "docker, one has ended", engine: conf.Docker, script: `case "$*" in ps*) echo "1 a-n"; echo "3 a-m";;
"container inspect 1 3") echo '[{"Id":"1","Name":"/a-n","Path":"x","Args":[],"State":{"Running":true,"Pid":7}},
	{"Id":"3","Name":"/a-m","Path":"x","State":{"Running":false}}]';; esac`,
			want: []Container{{ID: "1", Name: "a-n", PID: 7, Command: []string{"x"}}}},
		{name: "none", engine: conf.Podman, script: `[ "$1" = ps ] && echo "2 b-n"`},
		{name: "no daemon", engine: conf.Docker, script: "echo Cannot connect >&2; exit 1", fails: true},
		{name: "not JSON", engine: conf.Podman, script: `echo "1 a-n"`, fails: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stub(t, string(test.engine), test.script)
			got, err := RunningContainers(context.Background(), &conf.Service{Engine: test.engine},
				func(name string) bool { return strings.HasPrefix(name, "a-") })
			if diff := cmp.Diff(test.want, got); (err != nil) != test.fails || diff != "" {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestImageID(t *testing.T) {
	service := &conf.Service{Engine: conf.Docker, Image: "localhost/a", DockerSockets: []string{"/run/d.sock"}}
	stub(t, "docker", `[ "$DOCKER_HOST $*" = "unix:///run/d.sock image inspect --format={{.Id}} localhost/a" ] && echo sha256:12`)
	if id, err := ImageID(context.Background(), service); id != "sha256:12" || err != nil {
		t.Errorf("%q, error %v", id, err)
	}
	for _, test := range []struct {
		script string
		want   string
	}{
		{"echo Error: No such image: localhost/a >&2; exit 1", ErrNoImage.Error()},
		{"echo Error: localhost/a: image not known >&2; exit 125", ErrNoImage.Error()},
		{"echo Cannot connect to the Docker daemon >&2; exit 1",
			"looking for image localhost/a: docker image: exit status 1: Cannot connect to the Docker daemon"},
		{"exit 2", "looking for image localhost/a: docker image: exit status 2"},
	} {
		stub(t, "docker", test.script)
		if _, err := ImageID(context.Background(), service); err == nil || err.Error() != test.want {
			t.Errorf("%s: error %v, want %s", test.script, err, test.want)
		}
	}
}
