// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/arglist"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/inventory"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/manager"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/netns"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

const (
	// maxRuns is how many control commands are run at a time. They take no
	// place of a start.
	maxRuns = 16
	// drainTime is how long the output of a command that has ended may take to
	// arrive. It is in a pipe by then.
	drainTime = 5 * time.Second
)

// A command is a control command.
type command struct {
	id        string
	netns     string
	arguments []string
	environ   []string
}

func (a *Activator) serveRun(ctx context.Context, conn *net.UnixConn, parameters json.RawMessage) (any, error) {
	peer, request, err := asked(conn, parameters)
	if err != nil {
		return nil, err
	}
	arguments, err := request.ArgumentList()
	if err != nil {
		return nil, varlink.InvalidParameter("arguments")
	}
	if _, err := arglist.Encode(arguments); err != nil {
		return nil, varlink.InvalidParameter("arguments")
	}
	c := &command{id: request.ID, arguments: arguments, environ: a.environ(request)}
	if c.netns, err = a.meant(ctx, conn, arguments); err != nil {
		a.refused(a.requestLog(request.ID, ""), peer, "a control command: "+reason(err), journal.Result, journal.Refused)
		return nil, err
	}
	log := a.requestLog(request.ID, c.netns)
	if !validID.MatchString(c.id) {
		id := make([]byte, 16)
		rand.Read(id)
		c.id = hex.EncodeToString(id)
	}
	log.Info(fmt.Sprintf("asked to run a control command by process %d of uid %d", peer.Pid, peer.Uid))
	ran, err := a.runControl(ctx, c)
	var answer *varlink.Error
	switch {
	case err == nil:
		log.Info(fmt.Sprintf("ran a control command as %s, exit status %d", ran.Unit, ran.ExitStatus), journal.Result, journal.Ran)
	case ctx.Err() != nil:
	case errors.As(err, &answer):
		a.refused(log, peer, "a control command: "+reason(err), journal.Result, journal.Refused)
	default:
		log.Error(reason(err), journal.Result, journal.Failed)
	}
	return ran, err
}

// meant returns the network namespace whose sidecar a control command is for:
// the caller's. A caller in none with a name, where the agent itself is, means
// the sidecar that was started with the same words: one could as well be
// signaled by its pid.
func (a *Activator) meant(ctx context.Context, conn *net.UnixConn, arguments []string) (string, error) {
	rest, ok := a.service.Control(arguments)
	if !ok {
		return "", fmt.Errorf("these arguments are not those of a control command of %s; the caller's wrapper is not that of its definition: "+
			"restart the agent's container, after: %s reload", a.service.Name, layout.ControlProgram)
	}
	name, _, err := a.locate(conn)
	if errorName(err) != protocol.ErrorNotInNamespace || len(rest) == 0 {
		return name, err
	}
	var found []string
	for _, namespace := range inventory.Recorded(a.service.Name) {
		recorded, decodeErr := arglist.Decode(a.recorded(namespace).arguments)
		if decodeErr != nil || options.Find(recorded, rest) < 0 {
			continue
		}
		state, err := a.systemd.Current(ctx, a.unit(namespace))
		if err != nil {
			return "", err
		}
		if state.Active() {
			found = append(found, namespace)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return "", failure(protocol.ErrorNotInNamespace, protocol.Failure{
		Message: fmt.Sprintf("the caller is in no network namespace that has a name in %s, and %d running sidecars of %s were started "+
			"with the other arguments of this call, by which the one that is meant could be told; call it with `ip netns exec NAMESPACE`",
			layout.NetnsDir, len(found), a.service.Name),
	})
}

// runControl runs a control command in a sidecar that runs.
func (a *Activator) runControl(serving context.Context, c *command) (*protocol.Ran, error) {
	ctx, cancel := context.WithCancelCause(serving)
	defer cancel(nil)
	select {
	case a.runs <- struct{}{}:
		defer func() { <-a.runs }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := a.checkUp(ctx, c.netns); err != nil {
		return nil, err
	}
	files, err := a.leave(c)
	defer files.remove()
	if err != nil {
		return nil, fmt.Errorf("keeping the arguments of a control command of %s: %w", a.service.Name, err)
	}
	stdout, err := newOutput("standard output", cancel)
	if err != nil {
		return nil, err
	}
	defer stdout.close()
	stderr, err := newOutput("standard error", cancel)
	if err != nil {
		return nil, err
	}
	defer stderr.close()

	run := &manager.Run{
		Unit:        layout.RunUnit(a.service.Name, c.netns, c.id),
		Description: fmt.Sprintf("%s control command in network namespace %s", a.service.Name, c.netns),
		Words: []string{layout.ClientBinary(), "exec", "--args=" + files.args, "--env=" + files.env,
			"--netns=" + netns.Own, "--netns-record=" + layout.NetnsFile(a.service.Name, c.netns),
			"--join=" + a.service.Name, "--instance=" + c.netns},
		Netns:     filepath.Join(layout.NetnsDir, c.netns),
		Timeout:   a.service.ReadyTimeout,
		LogFields: []string{journal.Service + "=" + a.service.Name, journal.Netns + "=" + c.netns, journal.Request + "=" + c.id},
		NoDevices: a.service.NoDevices,
		Stdout:    stdout.writer,
		Stderr:    stderr.writer,
	}
	if a.service.Container != "" {
		run.Words = append(run.Words, "--container="+a.service.Container)
	}
	outcome, err := a.systemd.Run(ctx, run)
	if cause := context.Cause(ctx); errors.Is(cause, errTooMuch) {
		err = cause
	}
	if err != nil {
		return nil, fmt.Errorf("a control command of %s in network namespace %s: %w", a.service.Name, c.netns, err)
	}
	ran := &protocol.Ran{Netns: c.netns, Unit: run.Unit, ExitStatus: outcome.ExitStatus}
	ran.Stdout, err = stdout.rest()
	if err == nil {
		ran.Stderr, err = stderr.rest()
	}
	switch outcome.Result {
	case "success", "exit-code", "signal", "core-dump":
	case "timeout":
		err = fmt.Errorf("it had not ended after %v, ready.timeout", a.service.ReadyTimeout)
	default:
		err = fmt.Errorf("systemd could not run it (result %s); see: journalctl -u %s", outcome.Result, run.Unit)
	}
	if err != nil {
		return nil, fmt.Errorf("a control command of %s in network namespace %s: %w", a.service.Name, c.netns, err)
	}
	return ran, nil
}

// checkUp refuses a control command for a sidecar that does not run. A start
// that is under way is waited for.
func (a *Activator) checkUp(ctx context.Context, netns string) error {
	unlock, err := a.locks.lock(ctx, netns)
	if err != nil {
		return err
	}
	defer unlock()
	state, err := a.systemd.Current(ctx, a.unit(netns))
	if err != nil || state.Active() && !a.orphan(netns) {
		return err
	}
	message := fmt.Sprintf("no sidecar of %s runs in network namespace %s that the control command could be run in", a.service.Name, netns)
	if state.Active() {
		message = fmt.Sprintf("the sidecar of %s runs in a network namespace that is gone, which was %s, so that no control command can be run in it",
			a.service.Name, netns)
	}
	return failure(protocol.ErrorNotRunning, protocol.Failure{
		Message: message,
		Netns:   netns, Unit: a.unit(netns),
	})
}

// runFiles are what is left for a control command.
type runFiles struct{ args, env string }

// leave keeps the words and the environment of a control command for the client
// that becomes it.
func (a *Activator) leave(c *command) (runFiles, error) {
	files := runFiles{
		args: layout.RunFile(a.service.Name, c.id, layout.RunArgs),
		env:  layout.RunFile(a.service.Name, c.id, layout.RunEnv),
	}
	words, err := arglist.Encode(slices.Concat(a.service.Command, c.arguments))
	if err != nil {
		return files, err
	}
	environ, err := arglist.Encode(c.environ)
	if err != nil {
		return files, err
	}
	dir, err := beneath.Open(layout.ServiceRuntimeDir(a.service.Name))
	if err != nil {
		return files, err
	}
	defer dir.Close()
	if err := dir.WriteFile(filepath.Base(files.args), words, 0o600); err != nil {
		return files, err
	}
	return files, dir.WriteFile(filepath.Base(files.env), environ, 0o600)
}

func (f runFiles) remove() {
	// One that is left is removed by the next activator.
	_ = os.Remove(f.args)
	_ = os.Remove(f.env)
}

// forgetRuns removes what an activator that died has left for control commands.
// Nobody waits for these.
func (a *Activator) forgetRuns() {
	dir := layout.ServiceRuntimeDir(a.service.Name)
	files, _ := os.ReadDir(dir) // callers wait: once for both kinds
	for _, file := range files {
		if name := file.Name(); strings.HasSuffix(name, layout.RunArgs) || strings.HasSuffix(name, layout.RunEnv) {
			_ = os.Remove(filepath.Join(dir, name))
		}
	}
}

// An output is what a command writes to a pipe.
type output struct {
	name    string
	reader  *os.File
	writer  int           // -1 when closed
	done    chan struct{} // closed when content and err are set
	content []byte
	err     error
}

var errTooMuch = errors.New("it wrote too much")

// newOutput makes a pipe and reads from it, as much as a reply can hold. When
// more comes, the command is cancelled.
func newOutput(name string, cancel context.CancelCauseFunc) (*output, error) {
	// Only our end must not block: a helper may not be made for that.
	var ends [2]int
	err := unix.Pipe2(ends[:], unix.O_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(ends[0], true)
	}
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	o := &output{name: name, reader: os.NewFile(uintptr(ends[0]), name), writer: ends[1], done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.content, o.err = io.ReadAll(io.LimitReader(o.reader, protocol.MaxOutput+1))
		if len(o.content) > protocol.MaxOutput {
			o.err = fmt.Errorf("%w: more than %d KiB to its %s", errTooMuch, protocol.MaxOutput>>10, name)
			cancel(o.err)
		}
	}()
	return o, nil
}

// rest waits for the end of the output of a command that has ended, and returns
// all of it.
func (o *output) rest() ([]byte, error) {
	o.end(drainTime)
	if o.err != nil && !errors.Is(o.err, errTooMuch) {
		return nil, fmt.Errorf("reading its %s: %w", o.name, o.err)
	}
	return o.content, o.err
}

// end waits for the end of the output, at most so long.
func (o *output) end(limit time.Duration) {
	if o.writer >= 0 {
		_ = unix.Close(o.writer) // closed even if it fails (close(2))
		o.writer = -1
	}
	_ = o.reader.SetReadDeadline(time.Now().Add(limit)) // it is a pipe, which can
	<-o.done
}

// close ends the reading, if it has not ended.
func (o *output) close() {
	o.end(0)
	_ = o.reader.Close() // nothing more is read
}
