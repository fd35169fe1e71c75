// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMember(t *testing.T) {
	const status = "Name:\tdnsmasq\nCapInh:\t0000000000000000\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t1\nSeccomp:\t2\n"
	tests := []struct {
		name, environ, status string
		want                  *member // nil for an error
	}{
		{"a container's", "PATH=/bin\x00A=\x00B=x=y\nz\x00", status, &member{[]string{"PATH=/bin", "A=", "B=x=y\nz"}, 0xa80425fb, true}},
		{"of systemd", "NOTIFY_SOCKET=/n\x00LISTEN_FDS=3\x00INVOCATION_ID=1\x00NOTIFY=me\x00", "CapBnd:\tff\n",
			&member{[]string{"NOTIFY=me"}, 0xff, false}},
		{"no environment", "", status, &member{nil, 0xa80425fb, true}},
		{"what is no environment", "\x00=a\x00b\x00", status, &member{nil, 0xa80425fb, true}},
		{"no capabilities named", "", "Name:\tCapBnd\n", nil},
		{"capabilities that are none", "", "CapBnd:\tall\n", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseMember([]byte(test.environ), []byte(test.status))
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(member{})); diff != "" || (err != nil) != (test.want == nil) {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// Whatever a process of a sidecar has in its environment, what is taken over is
// variables that it has and that are not systemd's.
func FuzzParseMember(f *testing.F) {
	f.Add([]byte("PATH=/bin\x00NOTIFY_SOCKET=/n\x00=\x00"), []byte("CapBnd:\tff\nNoNewPrivs:\t1\n"))
	f.Fuzz(func(t *testing.T, environ, status []byte) {
		m, err := parseMember(environ, status)
		if err != nil {
			return
		}
		for _, variable := range m.environ {
			name, _, ok := strings.Cut(variable, "=")
			if !ok || name == "" || ofSystemd(name) || !bytes.Contains(environ, []byte(variable)) {
				t.Errorf("takes over %q", variable)
			}
		}
	})
}
