// SPDX-License-Identifier: Apache-2.0

package readiness_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/readiness"
)

const id = "5f1a0c4e-1234-4abc-9def-0123456789ab"

func TestPIDFiles(t *testing.T) {
	var (
		dnsmasq    = readiness.Rule{PIDFileOptions: []string{"--pid-file", "-x"}}
		keepalived = readiness.Rule{PIDFileOptions: []string{"-p", "-r"}}
		radvd      = readiness.Rule{PIDFileOptions: []string{"-p"}}
		haproxy    = readiness.Rule{PIDFile: "/var/lib/neutron/external/pids/{uuid}.pid.haproxy"}
	)
	tests := []struct {
		name      string
		rule      readiness.Rule
		arguments []string
		netns     string
		want      []string
		err       string
	}{
		{
			name:      "dnsmasq, as Neutron calls it",
			rule:      dnsmasq,
			arguments: []string{"--no-hosts", "--pid-file=/var/lib/neutron/dhcp/" + id + "/pid", "--conf-file=/dev/null"},
			want:      []string{"/var/lib/neutron/dhcp/" + id + "/pid"},
		},
		{name: "value in the next argument", rule: dnsmasq, arguments: []string{"--pid-file", "/a/pid"}, want: []string{"/a/pid"}},
		{name: "short option", rule: dnsmasq, arguments: []string{"-k", "-x", "/a/pid"}, want: []string{"/a/pid"}},
		{name: "short option with its value", rule: dnsmasq, arguments: []string{"-x/a/pid"}, want: []string{"/a/pid"}},
		{name: "longer option of the same beginning", rule: dnsmasq, arguments: []string{"--pid-file-of-another=/a/pid", "--pid-files=/b"}},
		{name: "option that is not there", rule: dnsmasq, arguments: []string{"-k", "pid-file=/a"}},
		{name: "no arguments", rule: dnsmasq},
		{name: "no rule", arguments: []string{"--pid-file=/a/pid"}},
		{name: "missing value", rule: dnsmasq, arguments: []string{"-k", "--pid-file"}},
		{name: "empty value", rule: dnsmasq, arguments: []string{"--pid-file="}, err: `pid file "" of option --pid-file is not an absolute path; the agent has to call with one`},
		{name: "relative path", rule: dnsmasq, arguments: []string{"--pid-file=run/pid"}, err: `pid file "run/pid" of option --pid-file is not an absolute path; the agent has to call with one`},
		{name: "path that is not clean", rule: dnsmasq, arguments: []string{"--pid-file=/a//b/../pid"}, want: []string{"/a/pid"}},
		{
			name:      "keepalived writes two",
			rule:      keepalived,
			arguments: []string{"-P", "-f", "/c/keepalived.conf", "-p", "/p/r.pid.keepalived", "-r", "/p/r.pid.keepalived-vrrp", "-D"},
			want:      []string{"/p/r.pid.keepalived", "/p/r.pid.keepalived-vrrp"},
		},
		{
			name:      "radvd",
			rule:      radvd,
			arguments: []string{"-C", "/c/radvd.conf", "-p", "/p/r.pid.radvd", "-m", "syslog", "-u", "neutron"},
			want:      []string{"/p/r.pid.radvd"},
		},
		{
			name:      "haproxy, by the namespace",
			rule:      haproxy,
			arguments: []string{"-f", "/c/" + id + ".conf"},
			netns:     "ovnmeta-" + id,
			want:      []string{"/var/lib/neutron/external/pids/" + id + ".pid.haproxy"},
		},
		{
			name:  "the first UUID of several, behind digits that are of none",
			rule:  haproxy,
			netns: "0123-" + strings.ToUpper(id) + "0123" + id + "-" + strings.Repeat("0", 36),
			want:  []string{"/var/lib/neutron/external/pids/" + id + ".pid.haproxy"},
		},
		{
			name:  "namespace without a UUID",
			rule:  haproxy,
			netns: "ovnmeta-1",
			err: "pid file /var/lib/neutron/external/pids/{uuid}.pid.haproxy: there is no UUID in the name of network namespace ovnmeta-1; " +
				"use {netns} in the definition's ready.pid_file",
		},
		{
			name:  "by the namespace's whole name",
			rule:  readiness.Rule{PIDFile: "/p/{netns}/{netns}.pid"},
			netns: "blue",
			want:  []string{"/p/blue/blue.pid"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.rule.PIDFiles(test.arguments, test.netns)
			if message := fmt.Sprint(err); test.err != "" && message != test.err || test.err == "" && err != nil {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzPIDFiles(f *testing.F) {
	f.Add("--pid-file=/a", "-x", "/b")
	f.Add("-x/a", "--pid-file", "b")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		rule := readiness.Rule{PIDFileOptions: []string{"--pid-file", "-x"}}
		files, err := rule.PIDFiles([]string{a, b, c}, "n")
		for _, file := range files {
			if !strings.HasPrefix(file, "/") || err != nil {
				t.Errorf("pid file %q of %q %q %q, error %v", file, a, b, c, err)
			}
		}
	})
}

func TestParsePID(t *testing.T) {
	tests := []struct {
		content string
		want    int
		ok      bool
	}{
		{"1", 1, true},
		{"42\n", 42, true},
		{"  42 \r\n\n", 42, true},
		{"2147483647", 2147483647, true},
		{"2147483648", 0, false},
		{"", 0, false},
		{"\n", 0, false},
		{"0", 0, false},
		{"-1", 0, false},
		{"+1", 0, false},
		{"1 2", 0, false},
		{"0x10", 0, false},
		{"1_0", 0, false},
		{"12a", 0, false},
		{"4\x002", 0, false},
		{"٤٢", 0, false}, // digits, but not those of C
	}
	for _, test := range tests {
		got, err := readiness.ParsePID([]byte(test.content))
		if got != test.want || (err == nil) != test.ok {
			t.Errorf("ParsePID(%q) = %d, %v, want %d", test.content, got, err, test.want)
		}
	}
}

func FuzzParsePID(f *testing.F) {
	for _, seed := range []string{"1", "42\n", "-1", "+1", "", "0", "99999999999"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		pid, err := readiness.ParsePID(content)
		if (pid > 0) != (err == nil) {
			t.Errorf("ParsePID(%q) = %d, %v", content, pid, err)
		}
		if err == nil && strings.TrimLeft(strings.TrimSpace(string(content)), "0") != fmt.Sprint(pid) {
			t.Errorf("ParsePID(%q) = %d", content, pid)
		}
	})
}

// Each pid file is looked at again and again, and the arguments are the caller's.
func TestManyPIDFiles(t *testing.T) {
	rule := readiness.Rule{PIDFileOptions: []string{"-x"}}
	arguments := slices.Repeat([]string{"-x/a"}, 16)
	if files, err := rule.PIDFiles(arguments, "qdhcp-1"); err != nil || len(files) != 16 {
		t.Errorf("16: %q, error %v", files, err)
	}
	if files, err := rule.PIDFiles(append(arguments, "-x/a"), "qdhcp-1"); err == nil || len(files) != 0 {
		t.Errorf("17: %q, error %v", files, err)
	}
}
