// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
)

// needed is what a definition has besides the key that a test is about.
var needed = map[string]string{
	"service_dir": `"/var/lib/needed"`,
	"cmd":         `"needed"`,
	"image_name":  `"needed"`,
}

func definitionWith(key, value string) string {
	var b strings.Builder
	for k, v := range needed {
		if k != key && (key != "join" || k != "image_name") {
			fmt.Fprintf(&b, "%s = %s\n", k, v)
		}
	}
	if key != "" {
		fmt.Fprintf(&b, "%s = %s\n", key, value)
	}
	return b.String()
}

func loadOne(t *testing.T, text string) Service {
	t.Helper()
	// The state directory of the example pid file.
	text = strings.Replace(text, "/var/lib/needed", "/var/lib/neutron", strings.Count(text, "ready.pid_file ="))
	files := map[string]string{AdminDir + "/needed.toml": text}
	if strings.Contains(text, "join =") {
		files[AdminDir+"/neutron-keepalived.toml"] = definitionWith("service_dir", `"/var/lib/other"`)
	}
	set := Load(tree(t, files))
	if len(set.Services) != len(files) {
		t.Fatalf("%v\nin\n%s", set.Problems(), text)
	}
	return set.Services[0]
}

// Every key decodes its example and its default; the examples of all keys
// together reach every field of a Service; and what Keys calls the default is
// what a definition without the key has.
func TestKeys(t *testing.T) {
	plain := loadOne(t, definitionWith("", ""))
	reached := map[string]bool{"Source": true, "DropIns": true}
	for _, k := range Keys {
		t.Run(k.Name, func(t *testing.T) {
			if k.Type == "" || k.Meaning == "" || strings.Contains(k.Meaning, "\n") || !strings.HasSuffix(k.Meaning, ".") {
				t.Errorf("is not described: %+v", k)
			}
			if k.Required != (k.Default == "") {
				t.Errorf("Required is %v, Default %q", k.Required, k.Default)
			}
			example := loadOne(t, definitionWith(k.Name, k.Example))
			changed := differentFields(reflect.ValueOf(plain), reflect.ValueOf(example), "")
			if len(changed) == 0 {
				t.Errorf("the example %s changes nothing", k.Example)
			}
			for _, field := range changed {
				reached[field] = true
			}
			if k.Default != "" && k.Default[0] != '(' {
				if diff := cmp.Diff(plain, loadOne(t, definitionWith(k.Name, k.Default))); diff != "" {
					t.Errorf("the default is not %s (-default +%s):\n%s", k.Default, k.Default, diff)
				}
			}
			for _, v := range k.Values {
				loadOne(t, definitionWith(k.Name, fmt.Sprintf("%q", v)))
			}
			// No key takes a date, so each of them looks at the type.
			set := Load(tree(t, map[string]string{AdminDir + "/a.toml": definitionWith(k.Name, "2024-01-01")}))
			ps := set.Problems()
			if len(ps) == 0 || ps[0].Key != k.Name || !strings.Contains(ps[0].Message, "date") {
				t.Errorf("a date gives %v", ps)
			}
		})
	}
	for _, field := range allFields(reflect.TypeFor[Service](), "") {
		if !reached[field] {
			t.Errorf("no key reaches the field %s", field)
		}
	}
}

// differentFields names the fields in which two structs differ, and so
// allFields; fields of Ready and Command are looked at one by one.
func differentFields(a, b reflect.Value, prefix string) (names []string) {
	for i := range a.NumField() {
		name := prefix + a.Type().Field(i).Name
		switch {
		case a.Field(i).Kind() == reflect.Struct:
			names = append(names, differentFields(a.Field(i), b.Field(i), name+".")...)
		case !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()):
			names = append(names, name)
		}
	}
	return names
}

func allFields(t reflect.Type, prefix string) (names []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Type.Kind() == reflect.Struct {
			names = append(names, allFields(f.Type, prefix+f.Name+".")...)
		} else if f.Name != "Shell" { // the other form of the same key, see command_test.go
			names = append(names, prefix+f.Name)
		}
	}
	return names
}

// The table itself is a definition, so that documentation can be made of it.
func TestKeysMakeADefinition(t *testing.T) {
	var text strings.Builder
	for _, k := range Keys {
		switch k.Name {
		case "container_cli", "join", "ready.pid_file": // these exclude others
		default:
			fmt.Fprintf(&text, "%s = %s\n", k.Name, k.Example)
		}
	}
	var into map[string]any
	if _, err := toml.Decode(text.String(), &into); err != nil {
		t.Fatal(err)
	}
	set := Load(tree(t, map[string]string{AdminDir + "/a.toml": text.String()}))
	if len(set.Services) != 1 {
		t.Error(set.Problems())
	}
}

func TestNearestKey(t *testing.T) {
	for name, want := range map[string]string{
		"image_nam":                       "image_name",
		"iamge_name":                      "image_name",
		"image-name":                      "image_name",
		"Image_Name":                      "image_name",
		"tripleo_systemd_wrapper_cmd":     "cmd",
		"tripleo_systemd_wrapper_comand":  "",
		"cdm":                             "cmd",
		"timeout":                         "ready.timeout",
		"ready.idle_timeout":              "idle_timeout",
		"pid_file":                        "ready.pid_file",
		"ready.pidfile":                   "ready.pid_file",
		"redy":                            "ready",
		"user":                            "",
		"":                                "",
		"x":                               "",
		strings.Repeat("image_name", 1e5): "",
	} {
		if got := nearestKey(name); got != want {
			t.Errorf("%.40q: %q, want %q", name, got, want)
		}
	}
}
