// SPDX-License-Identifier: Apache-2.0

package units

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
)

// Every field of a definition either makes a difference to a sidecar that runs, or
// is one of those that do not with its engine.
func TestDigest(t *testing.T) {
	without := map[conf.Engine]string{
		conf.Podman:  "Source DropIns KillScript AllowedUIDs IdleTimeout Ready Run DockerSockets",
		conf.Docker:  "Source DropIns KillScript AllowedUIDs IdleTimeout Ready Run",
		conf.Systemd: "Source DropIns KillScript AllowedUIDs IdleTimeout Ready Run DockerSockets PassEnvironment Debug",
	}
	for engine, without := range without {
		base := conf.Service{Name: "a", Engine: engine}
		for i := range reflect.TypeFor[conf.Service]().NumField() {
			changed := base
			field := reflect.ValueOf(&changed).Elem().Field(i)
			name := reflect.TypeFor[conf.Service]().Field(i).Name
			change(t, name, field.Addr().Interface())
			if differs := Digest(&changed) != Digest(&base); differs == slices.Contains(strings.Fields(without), name) {
				t.Errorf("%s, %s: the digest differs: %v", engine, name, differs)
			}
			// What the unit says of these besides is of the description, of who waits, or of the next start.
			same := strings.ReplaceAll(sidecarUnit(&changed), Digest(&changed), Digest(&base)) == sidecarUnit(&base)
			if !same && Digest(&changed) == Digest(&base) && !slices.Contains([]string{"Source", "Ready"}, name) {
				t.Errorf("%s, %s: the unit differs, and the digest does not", engine, name)
			}
		}
	}
}

// change gives a field of a definition another value.
func change(t *testing.T, name string, field any) {
	t.Helper()
	switch value := field.(type) {
	case *string:
		*value = "other"
	case *bool:
		*value = true
	case *time.Duration:
		*value = time.Second
	case *[]string:
		*value = []string{"other"}
	case *[][]string:
		*value = [][]string{{"other"}}
	case *[]uint32:
		*value = []uint32{1}
	case *conf.Engine:
		*value = "other"
	case *conf.Log:
		*value = conf.LogFile
	case *conf.Command:
		value.Shell = "other"
	case **conf.BindMount:
		*value = &conf.BindMount{Source: "/other"}
	case *[]conf.BindMount:
		*value = []conf.BindMount{{Source: "/other"}}
	case *conf.Ready:
		value.PIDFile, value.Timeout = "/other", time.Second
	default:
		t.Fatalf("%s: no value for type %v", name, reflect.TypeOf(field))
	}
}
