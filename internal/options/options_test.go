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
	}
	for _, test := range tests {
		if _, _, err := options.Parse(strings.Fields(test.args)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Parse(%s): error %v, want %q", test.args, err, test.want)
		}
	}
}
