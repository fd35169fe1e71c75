// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// A row is one fault. Short and long are how many requests it is injected
// under, for a quick run and for the whole one.
type row struct {
	name        string
	fault       string
	short, long int
	run         func(requests int) *scene
}

func main() {
	short := flag.Bool("short", false, "few requests")
	list := flag.Bool("list", false, "list the faults")
	before := flag.Bool("before-reboot", false, "prepare the row of a reboot")
	after := flag.Bool("after-reboot", false, "only the row of a reboot")
	report := flag.String("report", "", "write the table to this file, too")
	soak := flag.Duration("soak", 0, "soak for so long")
	seed := flag.Uint64("seed", uint64(time.Now().Unix()), "what the order of the soak is drawn by")
	attacks := flag.String("attacks", "/work/test/system.test", "the tests' program, whose attacks are part of the soak")
	flag.Parse()
	if *soak > 0 {
		if !runSoak(*soak, *seed, *attacks, *report) {
			os.Exit(1)
		}
		return
	}
	if *list {
		for _, r := range rows {
			fmt.Printf("%-22s %s\n", r.name, r.fault)
		}
		fmt.Printf("%-22s %s\n", rebootRow.name, rebootRow.fault)
		return
	}
	if *before {
		beforeReboot(requestsOf(&rebootRow, *short))
		return
	}
	var table strings.Builder
	failed := 0
	add := func(r *row, run func() tally) {
		began := time.Now()
		t := run()
		line := fmt.Sprintf("| %s | %d | %d | %d | %d | %d | %.1f |", r.fault, t.requests, t.running, t.refused, t.lost, t.duplicates,
			time.Since(began).Seconds())
		fmt.Println(line)
		fmt.Fprintln(&table, line)
		for i, note := range t.notes {
			if i == 10 {
				fmt.Printf("    … and %d more\n", len(t.notes)-i)
				break
			}
			fmt.Println("    " + note)
		}
		for reason, n := range t.reasons {
			fmt.Printf("    refused %d: %s\n", n, reason)
		}
		if t.lost > 0 || t.duplicates > 0 || t.requests == 0 {
			failed++
		}
	}
	if *after {
		add(&rebootRow, afterReboot)
	} else {
		fmt.Print(tableHead)
		for _, r := range rows {
			if flag.NArg() == 0 || slices.Contains(flag.Args(), r.name) {
				add(&r, func() tally { return runRow(&r, requestsOf(&r, *short)) })
			}
		}
	}
	if *report != "" {
		if err := writeReport(*report, table.String(), *after); err != nil {
			fmt.Fprintln(os.Stderr, err)
			failed++
		}
	}
	if failed > 0 {
		fmt.Printf("%d faults lost or doubled something\n", failed)
		os.Exit(1)
	}
}

func requestsOf(r *row, short bool) int {
	if short {
		return r.short
	}
	return r.long
}

const tableHead = `| fault | requests | running | refused with reason | lost | duplicates | seconds |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
`

// runRow runs one fault. A step of it that fails counts as a loss.
func runRow(r *row, requests int) (t tally) {
	var s *scene
	defer func() {
		if err := recover(); err != nil {
			t.lost++
			t.notes = append(t.notes, fmt.Sprintf("%s: %v", r.name, err))
		}
		if s != nil {
			s.end()
		}
	}()
	s = r.run(requests)
	return s.settle()
}

// writeReport writes the report, or adds the last row to it.
func writeReport(name, table string, last bool) error {
	if !last {
		return os.WriteFile(name, []byte(reportHead+tableHead+table), 0o644)
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(table)
	return err
}

const reportHead = `# Faults

Made by ` + "`test/faults`" + ` on a throwaway host, with real wrapper calls for real
sidecars. Each row is one fault under a stream of requests. Afterwards, three lists are
compared: what was asked for, what runs, and what was refused with a reason that the caller
saw.

- **running**: network namespaces whose last successful call has its sidecar: one process,
  with the arguments of that call, in that namespace, in its unit, named by its pid file.
- **lost**: calls that returned 0 and have no such sidecar, that failed without a reason, or
  that never returned. Has to be 0.
- **duplicates**: namespaces with more than one process. Has to be 0.

Several calls may be made for one namespace, and some rows stop sidecars or delete
namespaces on purpose, so running and refused need not add up to requests. Seconds are those
of the whole row on a machine with two cores, namespaces made and removed included.

`
