// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/proc"
)

const (
	// callLimit is when a command, or what it was to bring about, is given up.
	callLimit = 5 * time.Minute
	// quiet is how long nothing new may come up until what is missing is given
	// up. A sidecar that was asked for is up long before.
	quiet = 6 * time.Second
	// goneLimit is when a process that was killed is given up.
	goneLimit = 15 * time.Second
	// settle is left between two measurements, for what the one before it left
	// to be cleared up.
	settle = 30 * time.Millisecond
)

// run runs a command that has to succeed, and returns the CPU time that it and
// its children took.
func run(command ...string) (time.Duration, error) {
	return runPrinting(nil, command...)
}

// output runs a command and returns what it prints.
func output(command ...string) (string, error) {
	var stdout bytes.Buffer
	_, err := runPrinting(&stdout, command...)
	return strings.TrimSpace(stdout.String()), err
}

func runPrinting(stdout io.Writer, command ...string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	// A file and no pipe: a container's monitor keeps it open.
	stderr, err := os.CreateTemp("", "stderr")
	if err != nil {
		return 0, err
	}
	defer stderr.Close()
	if err := os.Remove(stderr.Name()); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Run(); err != nil {
		said, _ := io.ReadAll(io.NewSectionReader(stderr, 0, 4096))
		return 0, fmt.Errorf("running %q: %w: %s", command, err, bytes.TrimSpace(said))
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// shell runs a line of shell that prepares or clears something up.
func shell(format string, args ...any) error {
	_, err := run("sh", "-c", fmt.Sprintf(format, args...))
	return err
}

// A clock measures a piece of work: the time it takes, and the CPU time that
// the whole throwaway host takes meanwhile, less this program's own.
type clock struct {
	began time.Time
	cpu   time.Duration
}

func startClock() (clock, error) {
	time.Sleep(settle)
	cpu, err := hostCPU()
	return clock{time.Now(), cpu}, err
}

// stop returns what has been measured. What came about earlier than now ended
// at a time of its own.
func (c clock) stop(ended time.Time) (measurement, error) {
	cpu, err := hostCPU()
	return measurement{wall: ended.Sub(c.began), cpu: cpu - c.cpu}, err
}

// hostCPU returns the CPU time that the host has taken without this program.
// Its control group has it whether controllers are enabled or not.
func hostCPU() (time.Duration, error) {
	const file = "/sys/fs/cgroup/cpu.stat"
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		value, found := strings.CutPrefix(strings.TrimSpace(line), "usage_usec ")
		if !found {
			continue
		}
		usec, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading %s: %w", file, err)
		}
		var own unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
			return 0, fmt.Errorf("asking for the CPU time of this program: %w", err)
		}
		return time.Duration(usec)*time.Microsecond - time.Duration(own.Utime.Nano()+own.Stime.Nano()), nil
	}
	return 0, fmt.Errorf("there is no usage_usec in %s", file)
}

// pidIn returns the process that a pid file names, 0 if it does not run. As for
// Neutron, it has to be one that was called with that pid file.
func pidIn(file string) int {
	content, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil || !proc.Alive(pid) {
		return 0
	}
	cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil || !bytes.Contains(cmdline, []byte(file)) {
		return 0
	}
	return pid
}

// await waits until pid files name running processes. It returns how many do,
// and when the last of them came. It gives up when no further one comes.
func await(files []string) (up int, last time.Time) {
	last = time.Now()
	for {
		var missing []string
		for _, file := range files {
			if pidIn(file) == 0 {
				missing = append(missing, file)
			}
		}
		if len(missing) < len(files) {
			up += len(files) - len(missing)
			last = time.Now()
		}
		if len(missing) == 0 || time.Since(last) > quiet {
			return up, last
		}
		files = missing
		// To look takes the time of what is looked for.
		time.Sleep(max(200*time.Microsecond, time.Duration(len(files))*100*time.Microsecond))
	}
}

// awaitGone waits until a process is gone, its zombie included.
func awaitGone(pid int) error {
	deadline := time.Now().Add(goneLimit)
	for {
		_, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid)))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d is still there after %v", pid, goneLimit)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// memory returns the bytes that all processes have in memory, pages that are
// shared only once. Not counted are this program and the activators, which
// leave when there is nothing to do.
func memory() (int64, error) {
	var sum int64
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range processes {
		program, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil || filepath.Base(program) == activatorProgram || filepath.Base(dir) == strconv.Itoa(os.Getpid()) {
			continue
		}
		if kB, ok := field(filepath.Join(dir, "smaps_rollup"), "Pss"); ok {
			sum += kB << 10
		}
	}
	return sum, nil
}

// field returns a number of a file of lines such as "Pss:  12 kB".
func field(file, name string) (int64, bool) {
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, false // a process that has ended meanwhile
	}
	for line := range strings.Lines(string(content)) {
		value, found := strings.CutPrefix(line, name+":")
		if !found {
			continue
		}
		number, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		return number, err == nil
	}
	return 0, false
}

// parallel calls f for each number below n, so many at a time, and returns all
// errors.
func parallel(workers, n int, f func(i int) error) error {
	errs := make([]error, n)
	numbers := make(chan int)
	var group sync.WaitGroup
	for range min(workers, n) {
		group.Go(func() {
			for i := range numbers {
				errs[i] = f(i)
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	group.Wait()
	return errors.Join(errs...)
}
