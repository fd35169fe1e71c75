// SPDX-License-Identifier: Apache-2.0

// Command benchmark measures, on a throwaway host, how long it takes to start and
// to end sidecars in all ways there are, beside what they have to be compared
// with. test/bench runs it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// Plans of the three runs.
var (
	short = plan{Rounds: 3, running: []int{0, 10}, bursts: []int{20}, definitions: []int{0, 6, 100}}
	full  = plan{Rounds: 20, running: []int{0, 10, 100}, bursts: []int{20, 100}, definitions: []int{0, 6, 100, 1000}}
	long  = plan{
		Rounds: 20, running: []int{0, 10, 100, 500, 1000}, bursts: []int{20, 100, 300, 1000},
		definitions: []int{0, 6, 100, 1000},
	}
)

func main() {
	if len(os.Args) == 5 && os.Args[1] == copyCommand {
		if err := copyUnits(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			say("%v", err)
			os.Exit(1)
		}
		return
	}
	shortRun := flag.Bool("short", false, "few rounds, few sidecars")
	longRun := flag.Bool("long", false, "up to 1,000 sidecars")
	rounds := flag.Int("rounds", 0, "rounds in place of the run's own number")
	recordFile := flag.String("record", "", "where what is measured is kept, and gone on from")
	limit := flag.Duration("time", 0, "how long to measure at most, if not all")
	directory := flag.String("output", ".", "where performance.md and performance.svg are written")
	flag.Parse()

	b := bench{plan: full, contenders: contenders(), results: results{}}
	call := "test/bench"
	switch {
	case *shortRun:
		b.plan, call = short, "test/bench --short"
	case *longRun:
		b.plan, call = long, "test/bench --long"
	}
	if *rounds > 0 {
		b.plan.Rounds = *rounds
		call += fmt.Sprintf(" --rounds=%d", *rounds)
	}
	machine, err := describeMachine()
	if *limit > 0 {
		b.until = machine.began.Add(*limit)
	}
	var digest string
	if err == nil {
		digest, err = fingerprint()
	}
	if err == nil {
		err = b.resume(*recordFile, machine, digest)
	}
	if err == nil {
		err = b.run()
		if errors.Is(err, errTimeUp) && *recordFile != "" {
			say("the time is up before all is measured; the same call goes on from here")
			return
		}
		// What has been measured is of use, whatever has not.
		b.note(err)
		err = b.keep()
	}
	if err == nil {
		err = write(*directory, &b, call)
	}
	if err != nil {
		say("%v", err)
		os.Exit(1)
	}
	if len(b.problems) > 0 {
		say("%d measurements failed", len(b.problems))
		os.Exit(1)
	}
}

func write(directory string, b *bench, call string) error {
	text := report(b, call)
	fmt.Print(text)
	if err := os.WriteFile(filepath.Join(directory, "performance.md"), []byte(text), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, "performance.svg"), chart(b), 0o644)
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "benchmark: "+format+"\n", args...) }
