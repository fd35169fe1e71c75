// SPDX-License-Identifier: Apache-2.0

// Command tripleo-wrappers-generator is the systemd generator: it makes units
// of the definitions in /etc/tripleo-wrappers.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/generator"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/version"
)

const usage = `tripleo-wrappers-generator makes systemd units of the definitions of sidecars.

systemd runs it at boot and at "systemctl daemon-reload":
  tripleo-wrappers-generator NORMAL-DIR EARLY-DIR LATE-DIR
      Read /etc/tripleo-wrappers/*.toml and /usr/lib/tripleo-wrappers/*.toml,
      and write units into NORMAL-DIR. A definition that is broken gets a unit
      that fails and says why; the others are not affected.

By hand, to see what it would make:
  tripleo-wrappers-generator --dry-run
  tripleo-wrappers-generator --dry-run --root=/srv/image

Options:
  --dry-run    print the units, each with its file name, and write nothing
  --root=DIR   read the definitions below DIR
  --help, --version

Exit status: 0, 1 if a definition is broken or a unit could not be written, 2
for a call that makes no sense. Messages go to standard error if that is a
terminal or with --dry-run, else to the kernel's log (dmesg, journalctl -k).
`

const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// options are what the command line says, besides the directories.
type options struct {
	dryRun, version bool
	root            string
}

func (o *options) flags() *flag.FlagSet {
	flags := flag.NewFlagSet("tripleo-wrappers-generator", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&o.dryRun, "dry-run", false, "")
	flags.StringVar(&o.root, "root", "/", "")
	flags.BoolVar(&o.version, "version", false, "")
	return flags
}

func run(args []string, stdout io.Writer, stderr *os.File) int {
	var o options
	flags := o.flags()
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "tripleo-wrappers-generator: %v; try --help\n", err)
		return exitUsage
	case o.version:
		fmt.Fprintln(stdout, "tripleo-wrappers-generator", version.Version)
		return exitOK
	case o.dryRun && flags.NArg() > 0, !o.dryRun && flags.NArg() != 3:
		fmt.Fprintln(stderr, "tripleo-wrappers-generator: takes three directories, or --dry-run; try --help")
		return exitUsage
	}
	if os.Getenv("SYSTEMD_SCOPE") == "user" {
		return exitOK // sidecars are the system's, a user's manager has none
	}

	if _, err := os.Stat(o.root); err != nil {
		fmt.Fprintf(stderr, "tripleo-wrappers-generator: looking for --root: %v\n", err)
		return exitUsage
	}
	files, set := generator.Render(o.root)
	log := stderr
	var errs []error
	if o.dryRun {
		if err := generator.Print(stdout, files); err != nil {
			errs = []error{err}
		}
	} else {
		errs = generator.Write(flags.Arg(0), files)
		log = kernelLog(stderr)
	}
	for _, problem := range set.Problems() {
		complain(log, problem)
	}
	for _, err := range errs {
		complain(log, err)
	}
	if len(errs) > 0 || len(set.Broken) > 0 {
		return exitError
	}
	return exitOK
}

// kernelLog returns where messages go: the journal does not run yet when
// systemd runs generators at boot. A container may have no kernel log.
func kernelLog(stderr *os.File) *os.File {
	if _, err := unix.IoctlGetTermios(int(stderr.Fd()), unix.TCGETS); err == nil {
		return stderr
	}
	kmsg, err := os.OpenFile(kernelLogFile, os.O_WRONLY, 0)
	if err != nil {
		return stderr
	}
	return kmsg // closed by our end
}

// complain writes one message.
func complain(log *os.File, err error) {
	text := fmt.Sprintf("tripleo-wrappers-generator: %v\n", err)
	if log.Name() == kernelLogFile {
		text = record(text)
	}
	// There is nowhere else to say that this failed.
	_, _ = log.WriteString(text)
}

const kernelLogFile = "/dev/kmsg"

// maxRecord is what the kernel takes at once, in bytes: it refuses more than 1024
// less what it puts before it, which is at most 48 (LOG_LINE_MAX in printk.c).
const maxRecord = 1024 - 48

// record returns a message as the kernel's log takes it: one write is one record,
// whose priority stands before it (sd-daemon(3)). What is too long is cut.
func record(text string) string {
	text = "<3>" + text
	if len(text) <= maxRecord {
		return text
	}
	const rest = "…\n"
	return strings.ToValidUTF8(text[:maxRecord-len(rest)], "") + rest
}
