// SPDX-License-Identifier: Apache-2.0

// Package protocol is the Varlink interface between the client and the
// activator, org.openstack.tripleo.Wrapper, as Go types. The interface's
// definition beside it says what each means.
package protocol

import (
	_ "embed"
	"errors"
	"strings"
	"unicode/utf8"
)

// Interface is the interface's name.
const Interface = "org.openstack.tripleo.Wrapper"

// Description is the interface's definition.
//
//go:embed org.openstack.tripleo.Wrapper.varlink
var Description string

// Names of the methods, as in a call.
const (
	MethodStart  = Interface + ".Start"
	MethodRun    = Interface + ".Run"
	MethodSignal = Interface + ".Signal"
	MethodSync   = Interface + ".Sync"
	MethodList   = Interface + ".List"
)

// Names of the errors.
const (
	ErrorNotInNamespace   = Interface + ".NotInNamespace"
	ErrorNotRunning       = Interface + ".NotRunning"
	ErrorNotAllowed       = Interface + ".NotAllowed"
	ErrorStartFailed      = Interface + ".StartFailed"
	ErrorJoinedNotRunning = Interface + ".JoinedNotRunning"
	ErrorNoSuchProcess    = Interface + ".NoSuchProcess"
	ErrorNotASidecar      = Interface + ".NotASidecar"
	ErrorFailed           = Interface + ".Failed"
)

// Start is a request for a sidecar.
type Start struct {
	ID              string            `json:"id,omitempty"`
	Arguments       []string          `json:"arguments,omitempty"`
	ArgumentsBase64 [][]byte          `json:"arguments_base64,omitempty"`
	Environment     map[string]string `json:"environment,omitempty"`
}

// NewStart makes a request. Arguments may be any bytes but NUL; of the
// environment, variables whose value is not UTF-8 cannot be passed and are
// left out.
func NewStart(id string, arguments []string, environment map[string]string) Start {
	start := Start{ID: id}
	for name, value := range environment {
		if !utf8.ValidString(value) {
			continue
		}
		if start.Environment == nil {
			start.Environment = map[string]string{}
		}
		start.Environment[name] = value
	}
	if utf8.ValidString(strings.Join(arguments, "\x00")) {
		start.Arguments = arguments
		return start
	}
	for _, argument := range arguments {
		start.ArgumentsBase64 = append(start.ArgumentsBase64, []byte(argument))
	}
	return start
}

// ArgumentList returns the arguments as the caller's kernel had them. It fails
// for a request that has both forms, or that holds a NUL byte, which no
// argument of a process can.
func (s *Start) ArgumentList() ([]string, error) {
	arguments := s.Arguments
	if len(s.ArgumentsBase64) > 0 {
		if len(s.Arguments) > 0 {
			return nil, errors.New("both arguments and arguments_base64 are given")
		}
		for _, argument := range s.ArgumentsBase64 {
			arguments = append(arguments, string(argument))
		}
	}
	for _, argument := range arguments {
		if strings.IndexByte(argument, 0) >= 0 {
			return nil, errors.New("an argument holds a NUL byte")
		}
	}
	return arguments, nil
}

// Started is the reply to Start.
type Started struct {
	Netns   string `json:"netns"`
	Unit    string `json:"unit"`
	Started bool   `json:"started"`
}

// MaxOutput is how much a control command may write to its standard output, and
// to its standard error, in bytes: what fits into a reply.
const MaxOutput = 256 << 10

// Ran is the reply to Run, whose parameters are those of Start.
type Ran struct {
	Netns      string `json:"netns"`
	Unit       string `json:"unit"`
	ExitStatus int    `json:"exit_status"`
	Stdout     []byte `json:"stdout"` // as base64
	Stderr     []byte `json:"stderr"`
}

// Signal is a request to send a signal.
type Signal struct {
	ID     string `json:"id,omitempty"`
	PID    int    `json:"pid"`
	Signal int    `json:"signal"`
}

// Signaled is the reply to Signal.
type Signaled struct {
	Netns string `json:"netns"`
	Unit  string `json:"unit"`
	Gone  bool   `json:"gone"`
}

// Synced is the reply to Sync.
type Synced struct {
	Spooled int `json:"spooled"`
	Orphans int `json:"orphans"`
}

// Sidecar describes a sidecar.
type Sidecar struct {
	Netns       string  `json:"netns"`
	Unit        string  `json:"unit"`
	Container   *string `json:"container"`
	ActiveState string  `json:"active_state"`
	SubState    string  `json:"sub_state"`
	PID         int     `json:"pid"`
	Since       int64   `json:"since"`
	Restarts    int     `json:"restarts"`
	Orphan      bool    `json:"orphan"`
}

// Listing is the reply to List.
type Listing struct {
	Sidecars []Sidecar `json:"sidecars"`
}

// Failure holds the parameters of all errors of the interface; each error has
// a message and those of the others that its definition names.
type Failure struct {
	Message    string   `json:"message"`
	UID        *uint32  `json:"uid,omitempty"`
	PID        *int     `json:"pid,omitempty"`
	Netns      string   `json:"netns,omitempty"`
	Unit       string   `json:"unit,omitempty"`
	Result     string   `json:"result,omitempty"`
	ExitStatus *int     `json:"exit_status,omitempty"`
	Log        []string `json:"log,omitempty"`
}
