// SPDX-License-Identifier: Apache-2.0

package protocol_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
)

// throughJSON is what the other end gets.
func throughJSON(t *testing.T, start protocol.Start) protocol.Start {
	t.Helper()
	text, err := json.Marshal(start)
	if err != nil {
		t.Fatal(err)
	}
	var got protocol.Start
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestStart(t *testing.T) {
	tests := []struct {
		name      string
		arguments []string
		json      string
	}{
		{"none", nil, `{"id":"1"}`},
		{"plain", []string{"-k", "--pid-file=/x"}, `{"id":"1","arguments":["-k","--pid-file=/x"]}`},
		{"odd", []string{"", "two\nlines", "é", `"\`}, `{"id":"1","arguments":["","two\nlines","é","\"\\"]}`},
		{"not UTF-8", []string{"\xff", "", "é"}, `{"id":"1","arguments_base64":["/w==","","w6k="]}`},
		// Together they would be a character, if nothing stood between them.
		{"half characters", []string{"\xc3", "\xa9"}, `{"id":"1","arguments_base64":["ww==","qQ=="]}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			start := protocol.NewStart("1", test.arguments, nil)
			if text, err := json.Marshal(start); err != nil || string(text) != test.json {
				t.Errorf("JSON %s, want %s, error %v", text, test.json, err)
			}
			other := throughJSON(t, start)
			got, err := other.ArgumentList()
			if diff := cmp.Diff(test.arguments, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestStartEnvironment(t *testing.T) {
	start := throughJSON(t, protocol.NewStart("", nil, map[string]string{"A": "two\nlines", "B": "\xff", "C": ""}))
	if diff := cmp.Diff(map[string]string{"A": "two\nlines", "C": ""}, start.Environment); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestArgumentListErrors(t *testing.T) {
	tests := []struct{ json, want string }{
		{`{"arguments":["a"],"arguments_base64":["YQ=="]}`, "both arguments and arguments_base64 are given"},
		{`{"arguments":["a\u0000b"]}`, "an argument holds a NUL byte"},
		{`{"arguments_base64":["AA=="]}`, "an argument holds a NUL byte"},
	}
	for _, test := range tests {
		var start protocol.Start
		if err := json.Unmarshal([]byte(test.json), &start); err != nil {
			t.Fatal(err)
		}
		if _, err := start.ArgumentList(); err == nil || err.Error() != test.want {
			t.Errorf("%s: error %v, want %s", test.json, err, test.want)
		}
	}
}

// Whatever an agent calls the wrapper with, the sidecar is called with.
func FuzzStart(f *testing.F) {
	f.Add("", "", "", "")
	f.Add("--pid-file=/x", "two\nlines", "\xff\xfe", "tag")
	f.Add("\xc3", "\xa9", "\ufffd", "\xff")
	f.Add("\u2028", "<&>", "\x01\x7f", "\ufffe")
	f.Fuzz(func(t *testing.T, a, b, c, value string) {
		want := []string{a, b, c}
		start := throughJSON(t, protocol.NewStart("id", want, map[string]string{"NAME": value}))
		got, err := start.ArgumentList()
		if strings.Contains(a+b+c, "\x00") {
			if err == nil {
				t.Errorf("%q holds a NUL byte, and there is no error", want)
			}
			return
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q arrives as %q, error %v", want, got, err)
		}
		if arrived, ok := start.Environment["NAME"]; ok != utf8.ValidString(value) || ok && arrived != value {
			t.Errorf("environment: %q arrives as %q", value, arrived)
		}
	})
}

// definition is what a .varlink file says: the fields of each type, error and
// method, as "Start in" and "Start out", with their types.
func definition(t *testing.T, text string) map[string]map[string]string {
	t.Helper()
	comments := regexp.MustCompile(`(?m)#.*$`)
	blanks := regexp.MustCompile(`\s+`)
	text = blanks.ReplaceAllString(comments.ReplaceAllString(text, ""), " ")
	all := map[string]map[string]string{}
	fields := func(list string) map[string]string {
		m := map[string]string{}
		for field := range strings.SplitSeq(list, ",") {
			name, kind, ok := strings.Cut(field, ":")
			if ok {
				m[strings.TrimSpace(name)] = strings.TrimSpace(kind)
			} else if strings.TrimSpace(field) != "" {
				t.Errorf("cannot read field %q", field)
			}
		}
		return m
	}
	for _, match := range regexp.MustCompile(`(?:type|error) (\w+) ?\(([^()]*)\)`).FindAllStringSubmatch(text, -1) {
		all[match[1]] = fields(match[2])
	}
	for _, match := range regexp.MustCompile(`method (\w+) ?\(([^()]*)\) -> \(([^()]*)\)`).FindAllStringSubmatch(text, -1) {
		all[match[1]+" in"], all[match[1]+" out"] = fields(match[2]), fields(match[3])
	}
	return all
}

// inVarlink is a Go type in the words of a definition.
func inVarlink(t *testing.T, kind reflect.Type) string {
	t.Helper()
	switch {
	case kind == reflect.TypeFor[[]byte]():
		return "string" // base64
	case kind.Kind() == reflect.Pointer:
		return "?" + inVarlink(t, kind.Elem())
	case kind.Kind() == reflect.Slice:
		return "[]" + inVarlink(t, kind.Elem())
	case kind.Kind() == reflect.Map:
		return "[string]" + inVarlink(t, kind.Elem())
	case kind.Kind() == reflect.Struct:
		return kind.Name()
	}
	switch kind.Kind() {
	case reflect.Int, reflect.Int64, reflect.Uint32:
		return "int"
	case reflect.Bool, reflect.String:
		return kind.Kind().String()
	}
	t.Errorf("no word for %v", kind)
	return ""
}

// ofType is what a Go struct says, in the words of a definition. Fields that
// may be left out are optional.
func ofType(t *testing.T, kind reflect.Type) map[string]string {
	t.Helper()
	m := map[string]string{}
	for i := range kind.NumField() {
		field := kind.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		word := inVarlink(t, field.Type)
		if options == "omitempty" && !strings.HasPrefix(word, "?") {
			word = "?" + word
		}
		m[name] = word
	}
	return m
}

// The definition is what other programs go by: every field of it is in the Go
// types, by the same name and of the same type, and the other way round.
func TestDefinition(t *testing.T) {
	all := definition(t, protocol.Description)
	types := map[string]reflect.Type{
		"Sidecar":    reflect.TypeFor[protocol.Sidecar](),
		"Start in":   reflect.TypeFor[protocol.Start](),
		"Start out":  reflect.TypeFor[protocol.Started](),
		"Run in":     reflect.TypeFor[protocol.Start](),
		"Run out":    reflect.TypeFor[protocol.Ran](),
		"Signal in":  reflect.TypeFor[protocol.Signal](),
		"Signal out": reflect.TypeFor[protocol.Signaled](),
		"Sync in":    reflect.TypeFor[struct{}](),
		"Sync out":   reflect.TypeFor[protocol.Synced](),
		"List in":    reflect.TypeFor[struct{}](),
		"List out":   reflect.TypeFor[protocol.Listing](),
	}
	for name, kind := range types {
		fields, ok := all[name]
		if !ok {
			t.Errorf("%s is not in the definition", name)
		}
		if diff := cmp.Diff(fields, ofType(t, kind), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s and %v differ (-definition +Go):\n%s", name, kind, diff)
		}
		delete(all, name)
	}

	// What is left are the errors, of which one Go type has all parameters.
	failure := ofType(t, reflect.TypeFor[protocol.Failure]())
	used := map[string]bool{}
	for name, fields := range all {
		if fields["message"] != "string" {
			t.Errorf("error %s has no message", name)
		}
		for field, kind := range fields {
			used[field] = true
			if got := strings.TrimPrefix(failure[field], "?"); got != kind {
				t.Errorf("%s of error %s is of type %q in Go, want %q", field, name, got, kind)
			}
		}
	}
	for field := range failure {
		if !used[field] {
			t.Errorf("no error of the definition has %s", field)
		}
	}
	want := []string{
		protocol.ErrorFailed, protocol.ErrorJoinedNotRunning, protocol.ErrorNoSuchProcess, protocol.ErrorNotASidecar,
		protocol.ErrorNotAllowed, protocol.ErrorNotInNamespace, protocol.ErrorNotRunning, protocol.ErrorStartFailed,
	}
	var got []string
	for name := range maps.Keys(all) {
		got = append(got, protocol.Interface+"."+name)
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names of errors (-Go +definition):\n%s", diff)
	}
	for _, method := range []string{protocol.MethodStart, protocol.MethodRun, protocol.MethodSignal, protocol.MethodSync, protocol.MethodList} {
		if !strings.Contains(protocol.Description, "\nmethod "+strings.TrimPrefix(method, protocol.Interface+".")+"(") {
			t.Errorf("method %s is not in the definition", method)
		}
	}
	if !strings.Contains(protocol.Description, "\ninterface "+protocol.Interface+"\n") {
		t.Error("the definition is that of another interface")
	}
}
