// Command tripleo-wrapperctl is for the operator of a host.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/generator"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/version"
)

const usage = `tripleo-wrapperctl shows the sidecars of a host and checks their definitions.

  tripleo-wrapperctl [list] [--json] [--root=DIR]
      List the sidecars of all services.

  tripleo-wrapperctl check [--root=DIR] [FILE]...
      Print what is wrong with definitions: all of them, or those named.

Options:
  --root=DIR   read the definitions below DIR
  --json       print for programs
  --help, --version

Exit status: 0, 1 if something is wrong, 2 for a call that makes no sense.

Examples:
  tripleo-wrapperctl check
  tripleo-wrapperctl check /etc/tripleo-wrappers/neutron-dnsmasq.toml
  tripleo-wrapperctl list --json
`

const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// callTimeout bounds asking one service for its sidecars.
const callTimeout = 30 * time.Second

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	command := "list"
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		command, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("tripleo-wrapperctl", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	root := flags.String("root", "/", "")
	asJSON := flags.Bool("json", false, "")
	showVersion := flags.Bool("version", false, "")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "tripleo-wrapperctl: %v; try --help\n", err)
		return exitUsage
	case *showVersion:
		fmt.Fprintln(stdout, "tripleo-wrapperctl", version.Version)
		return exitOK
	case command == "list" && flags.NArg() == 0:
		return list(*root, *asJSON, stdout, stderr)
	case command == "check":
		return check(*root, flags.Args(), stdout, stderr)
	}
	fmt.Fprintf(stderr, "tripleo-wrapperctl: unknown call; try --help\n")
	return exitUsage
}

// check prints the problems of definitions.
func check(root string, files []string, stdout, stderr io.Writer) int {
	_, set := generator.Render(root)
	sources := map[string]bool{}
	for _, service := range set.Services {
		sources[service.Source] = true
	}
	status := exitOK
	for _, definition := range set.Broken {
		sources[definition.Source] = true
		if len(files) > 0 && !slices.Contains(files, definition.Source) {
			continue
		}
		status = exitError
		for _, problem := range definition.Problems {
			fmt.Fprintln(stderr, problem)
		}
	}
	for _, file := range files {
		if !sources[file] {
			fmt.Fprintf(stderr, "tripleo-wrapperctl: %s is no definition of this host\n", file)
			return exitUsage
		}
	}
	if status == exitOK {
		fmt.Fprintln(stdout, "No problems. Definitions take effect with: systemctl daemon-reload")
	}
	return status
}

// A row is a sidecar in the list.
type row struct {
	Service string `json:"service"`
	Engine  string `json:"engine"`
	protocol.Sidecar
}

// list prints the sidecars of all services. A service that cannot be asked is
// reported, and the others are listed.
func list(root string, asJSON bool, stdout, stderr io.Writer) int {
	status := exitOK
	rows := []row{}
	for _, service := range conf.Load(root).Services {
		listing, err := ask(&service)
		if err != nil {
			fmt.Fprintf(stderr, "tripleo-wrapperctl: asking %s for its sidecars: %v\n", service.Name, err)
			status = exitError
			continue
		}
		for _, sidecar := range listing.Sidecars {
			rows = append(rows, row{service.Name, string(service.Engine), sidecar})
		}
	}
	if asJSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(rows); err != nil {
			fmt.Fprintln(stderr, "tripleo-wrapperctl:", err)
			return exitError
		}
		return status
	}
	table := tabwriter.NewWriter(stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "SERVICE\tNETNS\tSTATE\tSINCE\tPID\tENGINE\tRESTARTS")
	for _, r := range rows {
		state := r.ActiveState + "/" + r.SubState
		if r.Orphan {
			state += ", orphan"
		}
		since := "-"
		if r.Since > 0 {
			since = time.UnixMicro(r.Since).Format(time.DateTime)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\t%d\n", r.Service, r.Netns, state, since, r.PID, r.Engine, r.Restarts)
	}
	if err := table.Flush(); err != nil {
		return exitError
	}
	return status
}

func ask(service *conf.Service) (*protocol.Listing, error) {
	socket := path.Join(layout.StateDir(service.Dir, service.Name), layout.Socket)
	conn, err := net.DialTimeout("unix", socket, callTimeout)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return nil, err
	}
	var listing protocol.Listing
	if err := varlink.DoCall(conn, protocol.MethodList, struct{}{}, &listing); err != nil {
		return nil, err
	}
	return &listing, nil
}
