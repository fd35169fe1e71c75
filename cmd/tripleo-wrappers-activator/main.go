// SPDX-License-Identifier: Apache-2.0

// Command tripleo-wrappers-activator serves the requests for the sidecars of a
// service. Systemd starts it.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/tripleo-wrappers/tripleo-wrappers/activator"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/version"
)

const usage = `tripleo-wrappers-activator serves the requests for the sidecars of a service.

It is started by the units that tripleo-wrappers-generator(8) makes of a
definition, which also say what its options are: systemctl cat SERVICE.service.

  tripleo-wrappers-activator serve OPTION...
      Serve the sockets that systemd passes, and the spool, until there is
      nothing to do.

  tripleo-wrappers-activator prepare OPTION...
      Lay out the service's state directory: wrapper, client, kill script.

  tripleo-wrappers-activator label OPTION...
      Give the files of the state directory, the socket among them, the SELinux
      type that containers may use. Without SELinux it does nothing.

  --help, --version
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tripleo-wrappers-activator:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	role := ""
	if len(args) > 0 {
		role = args[0]
	}
	if len(args) > 1 && (args[1] == "--help" || args[1] == "-h") {
		role = args[1]
	}
	switch role {
	case "--help", "-h":
		fmt.Print(usage)
		return nil
	case "--version":
		fmt.Println("tripleo-wrappers-activator", version.Version)
		return nil
	case "serve", "prepare", "label":
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	service, rest, err := options.Parse(args[1:])
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q", rest[0])
	}
	switch role {
	case "prepare":
		return activator.Prepare(service)
	case "label":
		return activator.Label(service)
	}
	return serve(service)
}

// garbage is how much of it may come to what is in use before it is collected,
// in percent. By it a thousand requests in flight took 31 MB in place of the 43 of
// Go's default of 100; the collector's work is 3 % of what such a burst takes.
const garbage = 25

func serve(service *options.Service) error {
	debug.SetGCPercent(garbage)
	listeners, err := sockets()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := journal.NewLogger(os.Stderr, service.Debug)
	notify := func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			log.Warn("telling systemd " + state + ": " + err.Error())
		}
	}
	return activator.New(service, version.Version, log, notify).Serve(ctx, listeners)
}

// sockets returns the listening sockets that systemd passed.
func sockets() ([]*net.UnixListener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("taking over the sockets of systemd: %w", err)
	}
	var listeners []*net.UnixListener
	for _, socket := range passed {
		listener, ok := socket.(*net.UnixListener)
		if !ok {
			return nil, errors.New("systemd passed a socket that is not a Unix stream socket")
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}
