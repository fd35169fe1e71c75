// SPDX-License-Identifier: Apache-2.0

package units

import (
	"reflect"
	"testing"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
)

// Every field of a definition either makes a difference to a sidecar that runs,
// or is one of those that do not.
func TestDigest(t *testing.T) {
	without := map[string]bool{
		"Source": true, "DropIns": true, "KillScript": true, "AllowedUIDs": true, "IdleTimeout": true, "Ready": true, "Run": true,
	}
	base := conf.Service{Engine: conf.Podman}
	for i := range reflect.TypeFor[conf.Service]().NumField() {
		changed := base
		field := reflect.ValueOf(&changed).Elem().Field(i)
		name := reflect.TypeFor[conf.Service]().Field(i).Name
		switch value := field.Addr().Interface().(type) {
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
			*value = conf.Systemd
		case *conf.Log:
			*value = conf.LogFile
		case *conf.Command:
			value.Shell = "other"
		case **conf.BindMount:
			*value = &conf.BindMount{Source: "/other"}
		case *[]conf.BindMount:
			*value = []conf.BindMount{{Source: "/other"}}
		case *conf.Ready:
			value.PIDFile = "/other"
		default:
			t.Fatalf("%s: no value for type %v", name, field.Type())
		}
		if differs := Digest(&changed) != Digest(&base); differs == without[name] {
			t.Errorf("%s: the digest differs: %v", name, differs)
		}
	}
}
