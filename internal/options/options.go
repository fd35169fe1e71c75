// Package options is the command line by which a definition reaches the
// activator and the client: the units and the wrapper script that are made
// from a definition carry all that a running service needs to know of it.
// Neither program reads a definition, so a broken one never stops a service
// that runs.
package options

import (
	"flag"
	"fmt"
	"io"
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
	Join            string // the service whose sidecars are joined; "" for none
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
	return append(args, "--ready-timeout="+s.ReadyTimeout.String())
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
