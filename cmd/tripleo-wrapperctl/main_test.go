package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/scripttest"
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
