// SPDX-License-Identifier: Apache-2.0

// Package options is the command line by which a definition reaches the
// activator and the client: the units and the wrapper script that are made
// from a definition carry all that a running service needs to know of it.
// Neither program reads a definition, so a broken one never stops a service
// that runs.
package options

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/readiness"
)

// What sidecars are containers of.
const (
	Podman = "podman"
	Docker = "docker"
)

// Service is what a running service knows of its definition. Values are those
// of a checked definition (package conf).
type Service struct {
	Name            string
	Dir             string // service_dir
	KillScript      string // name of the kill script; "" for none
	Container       string // Podman or Docker; "" where sidecars are no containers
	AllowedUIDs     []uint32
	PassEnvironment []string
	Ready           readiness.Rule
	ReadyTimeout    time.Duration
	IdleTimeout     time.Duration
	Debug           bool
	// Run lists what makes a call a control command: words that its arguments
	// have in them, one behind the other.
	Run [][]string
	// Command is the sidecar's command, where there are control commands.
	Command []string
	// NoDevices is set where sidecars are containers that are not privileged: a control
	// command gets no more of the host's devices than they have.
	NoDevices bool
	Join      string // the service whose sidecars are joined; "" for none
}

// Args returns the command line of the activator.
func (s *Service) Args() []string {
	args := s.ClientArgs()
	if s.KillScript != "" {
		args = append(args, "--kill-script="+s.KillScript)
	}
	if s.Container != "" {
		args = append(args, "--container="+s.Container)
	}
	for _, uid := range s.AllowedUIDs {
		args = append(args, fmt.Sprintf("--allowed-uid=%d", uid))
	}
	args = append(args, "--idle-timeout="+s.IdleTimeout.String())
	if s.Debug {
		args = append(args, "--debug")
	}
	if s.Join != "" {
		args = append(args, "--join="+s.Join)
	}
	for _, word := range s.Command {
		args = append(args, "--command="+word)
	}
	if s.NoDevices {
		args = append(args, "--no-devices")
	}
	return args
}

// ClientArgs returns the part of the command line that the client in the
// wrapper script needs.
func (s *Service) ClientArgs() []string {
	args := []string{"--service=" + s.Name, "--service-dir=" + s.Dir}
	for _, name := range s.PassEnvironment {
		args = append(args, "--pass-environment="+name)
	}
	for _, option := range s.Ready.PIDFileOptions {
		args = append(args, "--pid-file-option="+option)
	}
	if s.Ready.PIDFile != "" {
		args = append(args, "--pid-file="+s.Ready.PIDFile)
	}
	for _, words := range s.Run {
		list, _ := json.Marshal(words) // does not fail for strings
		args = append(args, "--run="+string(list))
	}
	return append(args, "--ready-timeout="+s.ReadyTimeout.String())
}

// Control says whether arguments are those of a control command, and returns
// those that are left without the words that say so.
func (s *Service) Control(arguments []string) (rest []string, ok bool) {
	for _, words := range s.Run {
		if i := Find(arguments, words); i >= 0 {
			return slices.Concat(arguments[:i], arguments[i+len(words):]), true
		}
	}
	return nil, false
}

// Find returns where words stand in a list, one behind the other, -1 if they do
// not.
func Find(list, words []string) int {
	for i := range len(list) - len(words) + 1 {
		if slices.Equal(list[i:i+len(words)], words) {
			return i
		}
	}
	return -1
}

// Parse reads what Args or ClientArgs returned. Arguments behind the options
// are returned as they are.
func Parse(args []string) (*Service, []string, error) {
	s := &Service{ReadyTimeout: time.Minute, IdleTimeout: 30 * time.Second}
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&s.Name, "service", "", "")
	flags.StringVar(&s.Dir, "service-dir", "", "")
	flags.StringVar(&s.KillScript, "kill-script", "", "")
	flags.Func("container", "", func(text string) error {
		if text != Podman && text != Docker {
			return fmt.Errorf("is neither %s nor %s", Podman, Docker)
		}
		s.Container = text
		return nil
	})
	flags.BoolVar(&s.Debug, "debug", false, "")
	flags.Func("run", "", func(text string) error {
		var words []string
		err := json.Unmarshal([]byte(text), &words)
		if err == nil && len(words) == 0 {
			err = errors.New("is empty")
		}
		s.Run = append(s.Run, words)
		return err
	})
	flags.Func("command", "", appendTo(&s.Command))
	flags.BoolVar(&s.NoDevices, "no-devices", false, "")
	flags.StringVar(&s.Join, "join", "", "")
	flags.StringVar(&s.Ready.PIDFile, "pid-file", "", "")
	flags.DurationVar(&s.ReadyTimeout, "ready-timeout", s.ReadyTimeout, "")
	flags.DurationVar(&s.IdleTimeout, "idle-timeout", s.IdleTimeout, "")
	flags.Func("pid-file-option", "", appendTo(&s.Ready.PIDFileOptions))
	flags.Func("pass-environment", "", appendTo(&s.PassEnvironment))
	flags.Func("allowed-uid", "", func(text string) error {
		uid, err := strconv.ParseUint(text, 10, 32)
		s.AllowedUIDs = append(s.AllowedUIDs, uint32(uid))
		return err
	})
	if err := flags.Parse(args); err != nil {
		return nil, nil, err
	}
	switch {
	case s.Name == "":
		return nil, nil, fmt.Errorf("--service is missing")
	case !strings.HasPrefix(s.Dir, "/"):
		return nil, nil, fmt.Errorf("--service-dir has to be an absolute path")
	}
	return s, flags.Args(), nil
}

func appendTo(list *[]string) func(string) error {
	return func(text string) error {
		*list = append(*list, text)
		return nil
	}
}
