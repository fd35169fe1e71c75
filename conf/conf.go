// SPDX-License-Identifier: Apache-2.0

// Package conf finds, reads and checks definitions.
//
// A definition is a TOML file that says which helper process runs where: one
// file, one service. [Load] reads all of them and sorts them into two lists,
// and each file ends in exactly one of the two:
//
//	set := conf.Load("/")
//	for _, s := range set.Services { … }        // checked, complete, ready for use
//	for _, p := range set.Problems() { log(p) } // everything that is wrong, anywhere
//
// A [Service] that exists has been checked, and nothing downstream checks it
// again: its paths are absolute and clean, its engine has what it needs, no
// other service has its name or its files. A file that has a problem becomes a
// [Broken] instead, and never keeps another file from being used.
//
// # Where definitions are
//
// In /etc/tripleo-wrappers/*.toml, and for vendors in
// /usr/lib/tripleo-wrappers/*.toml. Of two files of the same name the one in
// /etc is read and the other is not. An empty file, or a link to /dev/null, in
// /etc makes the vendor's file of that name as if it were not there.
//
// Drop-ins are in NAME.toml.d/*.toml beside the definition NAME.toml, in either
// directory or in both. They are found by the same rule, and applied in the
// order of their file names. A key in a drop-in replaces the value before it
// whole: lists are not appended to. The keys of [ready] are replaced one by one.
// An empty string or list takes away a value whose default is none; with
// pass_environment, it passes nothing.
//
// # What a definition says
//
// [Keys] lists every key with its type, default and meaning.
package conf

import "time"

// Engine is what runs a sidecar.
type Engine string

// The engines.
const (
	Podman  Engine = "podman"
	Docker  Engine = "docker"
	Systemd Engine = "systemd" // systemd itself, in the image's root file system or in the host's
)

// Log is where a sidecar's output goes.
type Log string

// The places for a sidecar's output.
const (
	LogJournal Log = "journal"
	LogFile    Log = "file"
)

// A Command is what a sidecar runs; the arguments of the wrapper's caller are
// appended to it. Exactly one of the two fields is set.
type Command struct {
	// Shell is text for sh -c, made so that ` "$@"` can be appended to it: it
	// has an exec where one is needed, and no comment or newline at its end.
	Shell string `json:",omitempty"`
	// Argv is a list of arguments, run without a shell.
	Argv []string `json:",omitempty"`
}

// A BindMount is a directory or file of the host that a sidecar sees.
type BindMount struct {
	Source, Destination string
	Options             string // as in "ro,z"; may be empty
}

// Ready says when a sidecar counts as started: when its pid file is there.
// Where the pid file is, is told by PIDFileOptions or by PIDFile or by neither,
// never by both.
type Ready struct {
	// PIDFileOptions are the options of the command that name its pid file,
	// such as "--pid-file" and "-x".
	PIDFileOptions []string
	// PIDFile is an absolute path below Service.Dir, with the placeholders
	// {netns} and {uuid}.
	PIDFile string
	// Timeout is how long a start may take.
	Timeout time.Duration
}

// A Service is a checked definition.
type Service struct {
	Name    string
	Source  string   // the definition's path as seen inside root
	DropIns []string // the drop-ins that were applied, in order, as seen inside root

	Dir     string // absolute and clean; the state directory is <Dir>/<Name>
	Command Command
	Engine  Engine
	Image   string // empty only with Systemd
	// Join is the service in whose sidecars those of this one run; empty for
	// none. Engine is Systemd then, and JoinEngine and JoinPrivileged are those
	// of the other service.
	Join             string     `json:",omitempty"`
	JoinEngine       Engine     `json:",omitempty"`
	JoinPrivileged   bool       `json:",omitempty"`
	Run              [][]string `json:",omitempty"` // what makes a call a control command, see Keys
	ConfigBindMount  *BindMount
	BindMounts       []BindMount
	DockerSockets    []string
	KillScript       string // a file name; empty for none
	Debug            bool
	ContainerOptions []string // empty with Systemd
	Privileged       bool
	Restart          string
	Log              Log
	PassEnvironment  []string
	AllowedUIDs      []uint32
	IdleTimeout      time.Duration
	Ready            Ready
}

// A Broken stands for a definition that cannot be used, or for a directory of
// definitions that cannot be read.
type Broken struct {
	// Name is the service's name where that is known, valid and free, and
	// otherwise one made from the file's name. It is valid, and no other
	// Service or Broken of the Set has it.
	Name string
	// Service is the name that the service has, or had last, where that is known
	// and no other Service or Broken of the Set has it; else it is empty. It differs
	// from Name where a package has a unit of it: a template of sidecars, a socket
	// and a path unit by this name are the service's all the same.
	Service  string
	Source   string // the path as seen inside root
	Problems []Problem
}

// A Set is all definitions of a host, both lists sorted by name.
type Set struct {
	Services []Service
	Broken   []Broken
}
