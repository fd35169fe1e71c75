// SPDX-License-Identifier: Apache-2.0

// Command tripleo-wrapper is the client of the activator.
package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/client"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/version"
)

const usage = `tripleo-wrapper asks the host for the sidecars of a network agent.

It is called by scripts and units that tripleo-wrappers writes, rarely by hand:

  tripleo-wrapper wrapper --service=NAME --service-dir=DIR [OPTION]... -- [ARGUMENT]...
      Start the sidecar of the service in the network namespace that this is
      called in, and return when it is ready. <DIR>/<NAME>/wrapper does this;
      mount it over the helper's binary in the agent's container.

  tripleo-wrapper kill --service-dir=DIR -- SIGNAL PID
      Signal a process of a sidecar. The scripts in <DIR>/kill_scripts do this;
      Neutron calls them where it finds them in its kill_scripts_path.

  tripleo-wrapper exec --args=FILE [--env=FILE] [--netns=FILE [--netns-record=FILE]] [--log=FILE]
          [--image=NAME --service=NAME --instance=NETNS [--bind=SRC:DST[:ro]]... [--unprivileged]]
          [--join=NAME [--container=podman|docker] --instance=NETNS] -- COMMAND...
      Become COMMAND with the arguments in FILE, in the root file system of an
      image, or in another service's sidecar. The units of sidecars do this.

  tripleo-wrapper follow --name=NAME --cidfile=FILE -- docker run ARGUMENT...
      Run a container of Docker and stay with it when the daemon restarts. The
      units of sidecars do this.

Options of wrapper:
  --ready-timeout=DURATION     how long the sidecar may take to be ready
  --pid-file-option=OPTION     option of the command that names a pid file
  --pid-file=PATH              pid file, with {netns} and {uuid} in it
  --pass-environment=NAME      variable to pass on to the sidecar
  --run=WORDS                  words of a control command, as a JSON list

  --help, --version

Exit status: 0 when it is done, 2 for a call that makes no sense; a start that
failed has the sidecar's status, anything else that went wrong 1.

Example, as an agent does it:
  ip netns exec qdhcp-1 /var/lib/neutron/neutron-dnsmasq/wrapper --pid-file=…
`

// A sidecar is this process after it has become another program. If a thread
// other than the first did that, the kernel would let the process look dead for
// a moment while the one takes the other's place (execve(2)), and the activator
// might see that. And a client drops the privileges of one thread.
func init() { runtime.LockOSThread() }

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	role := ""
	if len(args) > 0 {
		role = args[0]
	}
	if len(args) > 1 && (args[1] == "--help" || args[1] == "-h") {
		role = args[1] // of all roles: the helper's own stands behind "--"
	}
	switch role {
	case "wrapper":
		client.DropPrivileges()
		return client.Wrapper(args[1:], os.Stdout, os.Stderr)
	case "kill":
		client.DropPrivileges()
		return client.Kill(args[1:], os.Stderr)
	case "exec":
		return client.Exec(args[1:], os.Stderr)
	case "follow":
		return client.Follow(args[1:], os.Stderr)
	case "--help", "-h":
		fmt.Print(usage)
		return 0
	case "--version":
		fmt.Println("tripleo-wrapper", version.Version)
		return 0
	}
	fmt.Fprint(os.Stderr, usage)
	return 2
}
