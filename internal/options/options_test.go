// SPDX-License-Identifier: Apache-2.0

package options_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/readiness"
)

// full has a value in every field, and none is a default.
func full() *options.Service {
	return &options.Service{
		Name:            "neutron-dnsmasq",
		Dir:             "/var/lib/neutron",
		KillScript:      "dnsmasq-kill",
		Container:       options.Docker,
		AllowedUIDs:     []uint32{42435, 0, 4294967294},
		PassEnvironment: []string{"PROCESS_TAG", "LANG"},
		Ready:           readiness.Rule{PIDFileOptions: []string{"--pid-file", "-x"}, PIDFile: "/p/{uuid}.pid"},
		ReadyTimeout:    1500 * time.Millisecond,
		IdleTimeout:     5 * time.Minute,
		Debug:           true,
		Join:            "neutron-keepalived",
		Run:             [][]string{{"-n"}, {"--a", "b c\n\"'$%<é"}},
		Command:         []string{"/bin/d", "", "--x=1", "two\nlines"},
		NoDevices:       true,
	}
}

// A field that somebody adds and forgets here would be lost between the unit
// and the activator without a test noticing.
func TestFullIsFull(t *testing.T) {
	checkSet(t, "Service", reflect.ValueOf(*full()))
}

func checkSet(t *testing.T, name string, value reflect.Value) {
	if value.IsZero() {
		t.Errorf("%s is not set", name)
	}
	if value.Kind() == reflect.Struct {
		for i := range value.NumField() {
			checkSet(t, name+"."+value.Type().Field(i).Name, value.Field(i))
		}
	}
}

func TestRoundTrip(t *testing.T) {
	minimal := &options.Service{Name: "s", Dir: "/d", ReadyTimeout: time.Second, IdleTimeout: time.Second}
	for name, want := range map[string]*options.Service{"full": full(), "minimal": minimal} {
		got, rest, err := options.Parse(want.Args())
		if err != nil || len(rest) > 0 {
			t.Errorf("%s: arguments %q are left, error %v", name, rest, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// The client gets what is for it, before the arguments of the helper.
func TestClientRoundTrip(t *testing.T) {
	service := full()
	arguments := []string{"--service=not-ours", "--", "-x"}
	got, rest, err := options.Parse(append(append(service.ClientArgs(), "--"), arguments...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(arguments, rest); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
	want := &options.Service{
		Name:            service.Name,
		Dir:             service.Dir,
		PassEnvironment: service.PassEnvironment,
		Ready:           service.Ready,
		ReadyTimeout:    service.ReadyTimeout,
		Run:             service.Run,
		IdleTimeout:     30 * time.Second,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct{ args, want string }{
		{"", "--service is missing"},
		{"--service=s", "--service-dir has to be an absolute path"},
		{"--service=s --service-dir=d", "--service-dir has to be an absolute path"},
		{"--service=s --service-dir=/d --no-such-option", "no-such-option"},
		{"--service=s --service-dir=/d --allowed-uid=-1", "allowed-uid"},
		{"--service=s --service-dir=/d --allowed-uid=4294967296", "allowed-uid"},
		{"--service=s --service-dir=/d --idle-timeout=5", "idle-timeout"},
		{"--service=s --service-dir=/d --run=-n", "run"},
		{"--service=s --service-dir=/d --run=[]", "run"},
		{"--service=s --service-dir=/d --run=[[]]", "run"},
	}
	for _, test := range tests {
		if _, _, err := options.Parse(strings.Fields(test.args)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Parse(%s): error %v, want %q", test.args, err, test.want)
		}
	}
}

func TestControl(t *testing.T) {
	service := &options.Service{Run: [][]string{{"-n"}, {"stop", "-w"}}}
	tests := []struct{ arguments, rest string }{
		{"-C file -n", "-C file"},
		{"-n -n", "-n"},
		{"stop -w dir", "dir"},
		{"-n", ""},
		{"-d -C file", "no"},
		{"-nC file", "no"},
		{"stop now -w dir", "no"},
		{"-w stop", "no"},
		{"stop", "no"},
		{"", "no"},
	}
	for _, test := range tests {
		rest, ok := service.Control(strings.Fields(test.arguments))
		if ok != (test.rest != "no") || ok && strings.Join(rest, " ") != test.rest {
			t.Errorf("%q: %v, %q is left, want %q", test.arguments, ok, rest, test.rest)
		}
	}
	if _, ok := new(options.Service).Control([]string{"-n"}); ok {
		t.Error("a service without control commands has one")
	}
}
