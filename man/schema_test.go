// SPDX-License-Identifier: Apache-2.0

package man_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/man"
)

// schema returns one of the installed schemas.
func schema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	files, err := man.Files()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(files[name]))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(name, document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// validate says what a schema has to say of a definition. An editor does the
// same: it makes JSON of the TOML.
func validate(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var tables map[string]any
	if _, err := toml.Decode(text, &tables); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(tables)
	if err != nil {
		t.Fatal(err)
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(instance)
}

func check(t *testing.T, s *jsonschema.Schema, name, text string) {
	t.Helper()
	if err := validate(t, s, text); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// The schemas accept every definition and drop-in of the tests that conf
// accepts.
func TestSchemaAccepts(t *testing.T) {
	definition, dropIn := schema(t, man.Schema), schema(t, man.DropInSchema)
	roots, err := filepath.Glob("../generator/testdata/*/in")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../conf/testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	services, parts := 0, 0
	for _, root := range append(roots, more...) {
		for _, service := range conf.Load(root).Services {
			services++
			if len(service.DropIns) == 0 {
				check(t, definition, root+service.Source, read(t, root, service.Source))
				continue
			}
			// A value of the definition may be wrong where a drop-in replaces it.
			for _, part := range service.DropIns {
				parts++
				check(t, dropIn, root+part, read(t, root, part))
			}
		}
	}
	if services < 20 || parts == 0 {
		t.Errorf("only %d services, and %d parts of some", services, parts)
	}
}

func read(t *testing.T, root, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(string(text), "\ufeff")
}

// The schema and conf agree on values, with everything else in order.
func TestSchemaValues(t *testing.T) {
	tests := map[string]struct{ good, bad []string }{
		"service_name": {
			good: []string{`"a"`, `"9.b_c-d"`, `"kill_scripts2"`},
			bad:  []string{`""`, `"-a"`, `"a@b"`, `"kill_scripts"`, `"` + strings.Repeat("a", 101) + `"`, `1`, `["a"]`},
		},
		"service_dir": {
			good: []string{`"/a"`, `"//a//"`, `"/a/./b"`, `"/..."`, `"/a..b/..c"`, `"/tmpfs"`},
			bad:  []string{`""`, `"/"`, `"//./"`, `"a"`, `"/a/../b"`, `"/.."`, `"/a b"`, `"/a:b"`, `"/a%"`, `["/a"]`, `"/tmp"`, `"/home/a"`},
		},
		"cmd": {
			good: []string{`"a -k"`, `"exec $(which a)"`, `["a"]`, `["a", ""]`},
			bad:  []string{`""`, `" \t\n"`, `[]`, `[""]`, `["a", 1]`, `true`, `{a = 1}`},
		},
		"container_cli": {
			good: []string{`"podman"`, `"docker"`, `"systemd"`},
			bad:  []string{`"lxc"`, `""`, `1.5`},
		},
		"image_name": {
			good: []string{`"a"`, `"registry:5000/a/b@sha256:0123"`},
			bad:  []string{`""`, `"-v"`, `"dir:/a+b"`, `"a b"`, `"dir:a"`, `"dir:/a/../b"`, `["a"]`},
		},
		"join": {
			good: []string{`""`, `"other"`},
			bad:  []string{`"-a"`, `"a@b"`, `"kill_scripts"`, `"` + strings.Repeat("a", 101) + `"`, `1`, `["a"]`},
		},
		"run": {
			good: []string{`[]`, `[["-n"]]`, `[["-C", "a b"], ["--é\n"]]`},
			bad:  []string{`["-n"]`, `[[]]`, `[[""]]`, `[["-n", 1]]`, `[["a\u0000"]]`, `"-n"`, `[["-n"], 2]`},
		},
		"config_bind_mount": {
			good: []string{`""`, `"/a:/b"`, `"/a b:/b:ro,z"`, `"/a:/..."`, `"/a../..b:/c"`, `"/:/a"`},
			bad: []string{`"/a"`, `"a:/b"`, `"/a:b"`, `"/a:/b:"`, `"/a:/b:ro,,z"`, `"/a:/b:ro:z"`, `"/a:/"`, `"/a:///"`,
				`"/a\u0007:/b"`, `"/a/../b:/c"`, `"/a/..:/c"`, `"/a:/b/.."`, `"/a:/b/..:ro"`, `["/a:/b"]`},
		},
		"bind_mounts": {
			good: []string{`[]`, `["/a:/b", "/c:/e:ro"]`},
			bad:  []string{`[""]`, `["/a:/b", "/c"]`, `["/a:/b/../c"]`, `["/a:/b", 2]`, `"/a:/b"`},
		},
		"docker_additional_sockets": {
			good: []string{`[]`, `["/run/a.sock"]`},
			bad:  []string{`[""]`, `["a.sock"]`, `["/run/../a"]`, `["/run/a:b"]`, `"/run/a.sock"`},
		},
		"service_kill_script": {
			good: []string{`""`, `"dnsmasq-kill"`, `"` + strings.Repeat("k", 255) + `"`},
			bad:  []string{`"../kill"`, `".kill"`, `"a/b"`, `"` + strings.Repeat("k", 256) + `"`, `false`},
		},
		"debug":      {good: []string{`true`, `false`}, bad: []string{`"true"`, `1`}},
		"privileged": {good: []string{`true`, `false`}, bad: []string{`"false"`, `0`}},
		"container_options": {
			good: []string{`[]`, `["--ulimit", "nofile=1024"]`, `["--namespace=a"]`, `["-v", "/a:/b"]`},
			bad: []string{`["x"]`, `["--name=a"]`, `["-d"]`, `["-itd"]`, `["--a", "--network", "host"]`, `["--pid="]`,
				`["-"]`, `["--a", "--"]`, `[""]`, `["--a", "b\nc"]`, `["--a\u0000"]`, `"--a"`},
		},
		"restart": {good: []string{`"no"`, `"always"`, `"on-watchdog"`}, bad: []string{`"sometimes"`, `false`}},
		"log":     {good: []string{`"journal"`, `"file"`}, bad: []string{`"syslog"`, `[]`}},
		"pass_environment": {
			good: []string{`[]`, `["LANG", "_a1"]`, `["PATHS"]`, `["PROXY"]`},
			bad: []string{`["PATH"]`, `["LD_PRELOAD"]`, `["A=b"]`, `["1a"]`, `[""]`, `["https_proxy"]`, `["A_Proxy"]`,
				`["DOCKER_HOST"]`, `"LANG"`},
		},
		"allowed_uids": {
			good: []string{`[0]`, `[42435, 4294967294]`},
			bad:  []string{`[]`, `[-1]`, `[4294967295]`, `["root"]`, `[1.5]`, `0`},
		},
		"idle_timeout": {
			good: []string{`"60s"`, `"2min"`, `"1h30min"`, `" 1h 30 min "`, `"1 30"`, `"1.5"`, `"5.m"`, `".5s"`, `"500ms"`,
				`"1us"`, `"1µs"`, `"1d"`, `90`, `0.5`, `86400`},
			bad: []string{`""`, `" "`, `"infinity"`, `"-1s"`, `"1y"`, `"s"`, `"1ss"`, `"1.5.2"`, `"soon"`, `0`, `-1`, `86401`,
				`[]`, `true`},
		},
		"ready.timeout": {good: []string{`"60s"`}, bad: []string{`"1 week"`, `{}`}},
		"ready.pid_file_option": {
			good: []string{`[]`, `["--pid-file", "-x"]`, `["-pidfile"]`},
			bad:  []string{`["pid"]`, `["--pid="]`, `["-p x"]`, `["-"]`, `["--"]`, `[""]`, `[1]`, `"-p"`},
		},
		"ready.pid_file": {
			good: []string{`""`, `"/d/{uuid}.pid"`, `"/d/{netns}/{uuid}"`},
			bad:  []string{`"d/pid"`, `"/d/{name}"`, `"/d/{uuid"`, `"/d/../pid"`, `"/d/a b"`, `1`},
		},
	}
	s := schema(t, man.Schema)
	for _, k := range conf.Keys {
		values, ok := tests[k.Name]
		if !ok || len(values.good) == 0 || len(values.bad) == 0 {
			t.Errorf("no values for %s", k.Name)
		}
		for _, value := range values.good {
			compare(t, s, definition(k.Name, value), true)
		}
		for _, value := range values.bad {
			compare(t, s, definition(k.Name, value), false)
		}
	}
}

// definition returns one that has a value for a key, and else what it needs.
func definition(key, value string) string {
	var text strings.Builder
	for _, line := range []string{`service_dir = "/d"`, `cmd = "c"`, `image_name = "i"`} {
		if !strings.HasPrefix(line, key+" ") && (value != `"other"` || !strings.HasPrefix(line, "image_name")) {
			text.WriteString(line + "\n")
		}
	}
	text.WriteString(key + " = " + value + "\n")
	return text.String()
}

// compare fails the test unless the schema and conf both accept a definition,
// or both refuse it.
func compare(t *testing.T, s *jsonschema.Schema, text string, good bool) {
	t.Helper()
	root := t.TempDir()
	write(t, filepath.Join(root, conf.AdminDir, "a.toml"), text)
	write(t, filepath.Join(root, conf.AdminDir, "other.toml"), "service_dir = \"/o\"\ncmd = \"c\"\ncontainer_cli = \"systemd\"\n") // to be joined
	if set := conf.Load(root); (len(set.Broken) == 0) != good {
		t.Errorf("conf accepts it: %v, want %v: %v\n%s", !good, good, set.Problems(), text)
	}
	if err := validate(t, s, text); (err == nil) != good {
		t.Errorf("the schema accepts it: %v, want %v: %v\n%s", !good, good, err, text)
	}
}

// The schema and conf agree on what has to be there, and what goes together.
func TestSchemaTogether(t *testing.T) {
	const podman = `service_dir = "/d"` + "\n" + `cmd = "c"` + "\n" + `image_name = "i"` + "\n"
	const systemd = `service_dir = "/d"` + "\n" + `cmd = "c"` + "\n" + `container_cli = "systemd"` + "\n"
	const join = `service_dir = "/d"` + "\n" + `cmd = "c"` + "\n" + `join = "other"` + "\n"
	s := schema(t, man.Schema)
	for _, text := range []string{
		podman,
		join,
		join + "image_name = \"\"\nbind_mounts = []\nrestart = \"no\"",
		podman + `join = ""`,
		systemd,
		systemd + `image_name = "i"`,
		systemd + `image_name = "dir:/srv/image+a"`,
		systemd + `container_options = []`,
		podman + "[ready]\n",
		podman + "ready = {pid_file = \"/d/p\", pid_file_option = []}",
		podman + "ready = {pid_file = \"\", pid_file_option = [\"-p\"]}",
	} {
		compare(t, s, text, true)
	}
	for _, text := range []string{
		``,
		`cmd = "c"` + "\n" + `image_name = "i"`,
		`service_dir = "/d"` + "\n" + `image_name = "i"`,
		`service_dir = "/d"` + "\n" + `cmd = "c"`,
		strings.Replace(podman, `"i"`, `""`, 1),
		strings.Replace(systemd, "systemd", "docker", 1),
		podman + `imagename = "i"`,
		podman + `ready = "now"`,
		podman + "[ready]\ntime_out = 1",
		podman + "ready = {pid_file = \"/d/p\", pid_file_option = [\"-p\"]}",
		podman + "[[ready]]\ntimeout = 1",
		systemd + `container_options = ["--a"]`,
		podman + `join = "other"`,
		systemd + `join = "other"`,
		join + `container_options = ["--a"]`,
		join + `privileged = true`,
		join + `bind_mounts = ["/a:/b"]`,
	} {
		if text == "" {
			text = "# nothing but a comment"
		}
		compare(t, s, text, false)
	}
}

// A drop-in needs no key, and its values need not go with each other, but each
// is checked.
func TestDropInSchema(t *testing.T) {
	s := schema(t, man.DropInSchema)
	for _, text := range []string{
		`# nothing but a comment`,
		`image_name = ""`,
		`container_cli = "systemd"` + "\n" + `container_options = ["--a"]`,
		"[ready]\ntimeout = 5",
	} {
		check(t, s, text, text)
	}
	for _, text := range []string{`imagename = "i"`, `debug = 1`, "[ready]\ntimeout = false"} {
		if validate(t, s, text) == nil {
			t.Errorf("accepts %s", text)
		}
	}
	files, err := man.Files()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(files[man.DropInSchema], []byte(`"default":`)) {
		t.Error("has a default, which a key that a drop-in leaves out does not have")
	}
}
