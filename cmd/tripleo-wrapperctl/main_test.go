// SPDX-License-Identifier: Apache-2.0

package main

import (
	"reflect"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/inventory"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/mantest"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/scripttest"
	"github.com/tripleo-wrappers/tripleo-wrappers/man"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tripleo-wrapperctl": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": scripttest.Status,
		},
	})
}

const page = "tripleo-wrapperctl.8"

// The manual page has all commands with their options.
func TestManualPage(t *testing.T) {
	root := (&control{}).command()
	root.InitDefaultHelpFlag()
	root.InitDefaultVersionFlag()
	commands := []mantest.Command{{Options: options(root)}}
	for _, command := range root.Commands() {
		commands = append(commands, mantest.Command{Name: command.Name(), Options: options(command)})
	}
	mantest.Commands(t, page, commands...)
}

func options(command *cobra.Command) []string {
	var options []string
	command.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		options = append(options, "--"+f.Name)
		if f.Shorthand != "" {
			options = append(options, "-"+f.Shorthand)
		}
	})
	return options
}

// The manual page has the fields of all JSON forms, in the section of the
// command.
func TestManualPageJSON(t *testing.T) {
	source, err := man.Source(page)
	if err != nil {
		t.Fatal(err)
	}
	_, source, _ = strings.Cut(source, "\n## JSON OUTPUT\n")
	source, _, _ = strings.Cut(source, "\n## ")
	for heading, form := range map[string]reflect.Type{
		"list":                 reflect.TypeFor[inventory.Sidecar](),
		"status":               reflect.TypeFor[inventory.Service](),
		"monitor":              reflect.TypeFor[event](),
		"start, stop, restart": reflect.TypeFor[deed](),
		"sync":                 reflect.TypeFor[syncResult](),
		"check":                reflect.TypeFor[problem](),
		"reload":               reflect.TypeFor[reloaded](),
		"convert":              reflect.TypeFor[converted](),
		"adopt":                reflect.TypeFor[adoption](),
		// What these have besides the forms above.
		"status SERVICE":       reflect.TypeFor[serviceDetails](),
		"status SERVICE NETNS": reflect.TypeFor[sidecarDetails](),
	} {
		_, section, ok := strings.Cut(source, "\n### "+heading+"\n")
		if !ok {
			t.Errorf("there is no section %q", heading)
		}
		section, _, _ = strings.Cut(section, "\n### ")
		for _, field := range fields(form) {
			if !strings.Contains(section, "*"+field+"*") {
				t.Errorf("%s: no field %s", heading, field)
			}
		}
	}
}

// fields returns the names of a form's fields, those of other forms in it
// included, but not those of the inventory that a details form begins with.
func fields(form reflect.Type) []string {
	var names []string
	for i := range form.NumField() {
		field := form.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		inner := field.Type
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		switch {
		case field.Anonymous && strings.HasSuffix(form.Name(), "Details"):
		case field.Anonymous:
			names = append(names, fields(field.Type)...)
		default:
			names = append(names, name)
			if inner.Kind() == reflect.Struct && inner.NumField() > 0 && inner.Field(0).Tag.Get("json") != "" {
				names = append(names, fields(inner)...)
			}
		}
	}
	return names
}
