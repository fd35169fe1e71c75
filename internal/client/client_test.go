// SPDX-License-Identifier: Apache-2.0

package client

import (
	"strings"
	"testing"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/mantest"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/readiness"
)

func TestManualPage(t *testing.T) {
	// What the wrapper script of a definition with everything in it says.
	service := options.Service{
		PassEnvironment: []string{"A"},
		Run:             [][]string{{"-n"}},
		Ready:           readiness.Rule{PIDFileOptions: []string{"-p"}, PIDFile: "/p"},
	}
	var wrapper []string
	for _, argument := range service.ClientArgs() {
		name, _, _ := strings.Cut(argument, "=")
		wrapper = append(wrapper, name)
	}
	mantest.Commands(t, "tripleo-wrapper.1",
		mantest.Command{Options: []string{"--help", "-h", "--version"}}, // as cmd/tripleo-wrapper has them
		mantest.Command{Name: "wrapper", Options: wrapper},
		mantest.Command{Name: "kill", Options: mantest.Flags(killFlags(new(string)))},
		mantest.Command{Name: "follow", Options: mantest.Flags(new(followOptions).flags())},
		mantest.Command{Name: "exec", Options: mantest.Flags(new(execOptions).flags())},
	)
}
