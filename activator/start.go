// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/arglist"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/manager"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/netns"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

const (
	// stopTimeout bounds stopping a sidecar: systemd's own limit for the
	// processes (TimeoutStopSec=10s), and the removal of the container.
	stopTimeout = 60 * time.Second
	// maxValues is how many arguments a request may have, of which a variable of the
	// environment counts for four. In memory one takes up to ten times what an empty
	// one takes in JSON. The kernel takes some 200,000 (execve(2)), and Neutron's
	// longest lists, of less than 100 KiB, have a few thousand.
	maxValues = 1 << 17
	// whyTimeout bounds finding out why a sidecar failed.
	whyTimeout = 10 * time.Second
)

// A sidecar is what a request asks for.
type sidecar struct {
	netns     string
	namespace netns.ID // which namespace that name stands for at the moment
	arguments []string
	environ   []string    // NAME=VALUE
	pidFiles  []string    // below the service's directory, relative to it
	request   string      // the request's id; "" where it has none
	peer      *unix.Ucred // who asks; nil where nobody waits for an answer
	asked     time.Time   // when the request was made, in whole microseconds
	spooled   bool
	log       *slog.Logger
}

func (a *Activator) serveStart(ctx context.Context, conn *net.UnixConn, parameters json.RawMessage) (any, error) {
	peer, request, err := asked(conn, parameters)
	if err != nil {
		return nil, err
	}
	name, id, err := a.locate(conn)
	if err != nil {
		a.refused(a.requestLog(request.ID, ""), peer, reason(err), journal.Result, journal.Refused)
		return nil, err
	}
	log := a.requestLog(request.ID, name)
	s, err := a.sidecar(name, id, request)
	if varlink.Unfit(err) {
		return nil, err // is logged with others of its kind
	}
	if err != nil {
		a.refused(log, peer, reason(err), journal.Result, journal.Refused)
		return nil, err
	}
	s.peer = peer
	log.Info(fmt.Sprintf("asked for by process %d of uid %d", peer.Pid, peer.Uid))
	started, err := a.start(ctx, s)
	if err != nil {
		return nil, err
	}
	return protocol.Started{Netns: name, Unit: a.unit(name), Started: started}, nil
}

// asked returns who makes a request, and the request.
func asked(conn *net.UnixConn, parameters json.RawMessage) (*unix.Ucred, *protocol.Start, error) {
	peer, err := caller(conn)
	if err != nil {
		return nil, nil, err
	}
	if values(parameters) > maxValues {
		return nil, nil, varlink.InvalidParameter("arguments")
	}
	request := new(protocol.Start)
	if err := varlink.ReadParameters(parameters, request); err != nil {
		return nil, nil, err
	}
	return peer, request, nil
}

// values returns how many values there are in JSON, at most, a named one counting
// for four.
func values(text []byte) (n int) {
	inside := false // a string
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inside && c == '\\':
			i++
		case c == '"':
			inside = !inside
		case inside:
		case c == ',', c == '[':
			n++
		case c == ':':
			n += 3
		}
	}
	return n
}

var validID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// requestLog returns the log of one request. The network namespace is "" where
// it is not known. A name that none can have is left to the message, since it
// would be in the journal as it is.
func (a *Activator) requestLog(id, netns string) *slog.Logger {
	if !validID.MatchString(id) {
		id = ""
	}
	log := a.log.With(journal.Request, id)
	if layout.CheckNetns(a.service.Name, netns) != nil {
		return log
	}
	return log.With(journal.Netns, netns, journal.Unit, a.unit(netns))
}

// sidecar checks a request.
func (a *Activator) sidecar(name string, id netns.ID, request *protocol.Start) (*sidecar, error) {
	arguments, err := request.ArgumentList()
	if err != nil {
		return nil, varlink.InvalidParameter("arguments")
	}
	if _, err := arglist.Encode(arguments); err != nil {
		return nil, varlink.InvalidParameter("arguments")
	}
	if _, ok := a.service.Control(arguments); ok {
		return nil, fmt.Errorf("these arguments are those of a control command of %[1]s, which starts no sidecar, and the caller's "+
			"wrapper does not know that: it is older than the definition; restart the agent's container, after: %[2]s reload",
			a.service.Name, layout.ControlProgram)
	}
	if a.service.Container != "" && !utf8.ValidString(strings.Join(arguments, "\x00")) {
		return nil, fmt.Errorf("an argument is not UTF-8, and %[1]s keeps a command as JSON, which has no other text; "+
			"call %[2]s with UTF-8 only, or let systemd run it (container_cli)", a.service.Container, a.service.Name)
	}
	s := &sidecar{
		netns: name, namespace: id, arguments: arguments, asked: time.Now().Truncate(time.Microsecond),
		log: a.requestLog(request.ID, name),
	}
	s.environ = a.environ(request)
	if validID.MatchString(request.ID) {
		s.request = request.ID
		s.environ = append(s.environ, layout.RequestVariable+"="+request.ID)
	}
	if s.pidFiles, err = a.pidFiles(arguments, name); err != nil {
		return nil, err
	}
	return s, nil
}

// environ returns what a request's caller passes on, NAME=VALUE.
func (a *Activator) environ(request *protocol.Start) []string {
	var environ []string
	for _, variable := range slices.Sorted(maps.Keys(request.Environment)) {
		value := request.Environment[variable]
		if slices.Contains(a.service.PassEnvironment, variable) && strings.IndexByte(value, 0) < 0 {
			environ = append(environ, variable+"="+value)
		}
	}
	return environ
}

// pidFiles returns the pid files of a sidecar, relative to the service's
// directory.
func (a *Activator) pidFiles(arguments []string, netns string) ([]string, error) {
	files, err := a.service.Ready.PIDFiles(arguments, netns)
	if err != nil {
		return nil, err
	}
	for i, file := range files {
		// The path comes from the agent. What is outside the directory that
		// the agent may write is none of its business, and may not even be
		// the file that the sidecar sees.
		relative, ok := strings.CutPrefix(file, a.service.Dir+"/")
		if !ok {
			return nil, fmt.Errorf("pid file %s is not below service_dir %s, so nobody but the sidecar can see it; "+
				"have the agent keep it there, or change the definition", file, a.service.Dir)
		}
		files[i] = relative
	}
	return files, nil
}

func (a *Activator) unit(netns string) string { return layout.SidecarUnit(a.service.Name, netns) }

// Why a spooled request is not served any more.
var (
	errSuperseded = errors.New("a later request has been served already")
	errServed     = errors.New("it has been served already")
)

// overtaken says whether an error is one of these, which are no failures.
func overtaken(err error) bool { return errors.Is(err, errSuperseded) || errors.Is(err, errServed) }

// start has the sidecar run, and returns when it is ready. It says whether it
// had to be started. Errors are in the log, except what is no failure: that the
// request is overtaken, or that the activator is ending.
func (a *Activator) start(ctx context.Context, s *sidecar) (bool, error) {
	started, err := a.bringUp(ctx, s)
	switch {
	case err == nil, ctx.Err() != nil, overtaken(err):
	case errorName(err) == protocol.ErrorJoinedNotRunning:
		if s.peer != nil {
			a.refused(s.log, s.peer, reason(err), journal.Result, journal.Refused)
		} else {
			a.limited(s.log, slog.LevelWarn, "spool refused", "refused a spooled request: "+reason(err), journal.Result, journal.Refused)
		}
	default:
		s.log.Error(reason(err), journal.Result, journal.Failed)
	}
	return started, err
}

func (a *Activator) bringUp(ctx context.Context, s *sidecar) (bool, error) {
	unlock, err := a.locks.lock(ctx, s.netns)
	if err != nil {
		return false, err
	}
	defer unlock()
	select {
	case a.starts <- struct{}{}:
		defer func() { <-a.starts }()
	case <-ctx.Done():
		return false, ctx.Err()
	}

	// It may have taken its time to get here.
	id, err := a.names.Lookup(s.netns)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("looking for network namespace %s: %w", s.netns, err)
	}
	if err != nil || id != s.namespace {
		return false, fmt.Errorf("network namespace %s is gone, or has been made again, since %s was asked for in it; "+
			"if it is there, the agent has to ask again", s.netns, a.service.Name)
	}
	serving := ctx
	// One that was started earlier may take its time, too, before it is replaced.
	ctx, cancel := context.WithTimeout(serving, 2*a.service.ReadyTimeout+2*stopTimeout)
	defer cancel()
	unit := a.unit(s.netns)
	recorded := a.recorded(s.netns)
	if err := recorded.overtakes(s); err != nil {
		return false, err
	}
	state, err := a.systemd.Current(ctx, unit)
	if err != nil {
		return false, err
	}
	if err := a.checkJoined(ctx, s.netns); err != nil {
		return false, err
	}
	if !state.Down() {
		if recorded.matches(s) {
			main, err := a.awaitEarlier(ctx, s, state, recorded)
			if err == nil {
				a.recordAsked(s, recorded)
				s.log.Info("runs already with the same arguments", journal.PID, main, journal.Result, journal.Running)
				return false, nil
			}
			if serving.Err() != nil {
				// Nothing is replaced: the activator is ending.
				return false, serving.Err()
			}
			s.log.Info("is replaced: " + reason(err))
		} else {
			s.log.Info("is replaced: its arguments or its network namespace changed")
		}
		if err := a.stop(ctx, unit); err != nil {
			return false, err
		}
	}
	if err := a.record(s); err != nil {
		return false, fmt.Errorf("keeping the arguments of %s: %w; it cannot be started until that is mended", unit, err)
	}
	began := time.Now()
	state, err = a.startUnit(ctx, unit)
	main := 0
	if err == nil {
		main, err = a.awaitReady(ctx, s, state, began.Add(a.service.ReadyTimeout))
	}
	if serving.Err() != nil {
		// The activator is ending. The next one goes on from here.
		return false, serving.Err()
	}
	if err != nil {
		return false, a.failed(ctx, s, began, err)
	}
	a.recordReady(s)
	took := time.Since(began)
	s.log.Info(fmt.Sprintf("started in %.3f s", took.Seconds()), journal.PID, main,
		journal.Result, journal.Started, journal.ReadyUsec, took.Microseconds())
	return true, nil
}

// awaitEarlier waits for a sidecar that was started earlier and with the same
// arguments, perhaps by an activator that is no more, to be ready, and returns
// the main process of its unit.
func (a *Activator) awaitEarlier(ctx context.Context, s *sidecar, state manager.State, recorded record) (main int, err error) {
	if !state.Active() {
		// It is started again, and has not been ready since.
		recorded.ready, recorded.when = false, time.Now()
		_ = os.Remove(layout.ReadyFile(a.service.Name, s.netns)) // for an activator after this one, which else starts it twice
		if state, err = a.startUnit(ctx, state.Unit); err != nil {
			return 0, err
		}
	}
	main, err = a.awaitReady(ctx, s, state, recorded.deadline(a.service.ReadyTimeout))
	switch {
	case err == nil:
		a.recordReady(s)
		return main, nil
	case recorded.ready:
		waitingFor, _, _ := a.notReady(s, 0)
		return 0, fmt.Errorf("it is not ready any more: %s", cmp.Or(waitingFor, "its process has ended"))
	}
	return 0, err
}

func (a *Activator) stop(ctx context.Context, unit string) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return a.systemd.Stop(ctx, unit)
}

// failed makes the error of a sidecar that did not start. The caller will be
// told that it does not run, so it is stopped.
func (a *Activator) failed(ctx context.Context, s *sidecar, began time.Time, cause error) error {
	unit := a.unit(s.netns)
	ctx = context.WithoutCancel(ctx)
	defer func() {
		_ = os.Remove(layout.ReadyFile(a.service.Name, s.netns)) // of an earlier start
		if err := a.stop(ctx, unit); err != nil {
			s.log.Error(fmt.Sprintf("cannot stop a sidecar that failed: %v; to stop it by hand: systemctl stop %s", err, unit))
		}
	}()
	looking, cancel := context.WithTimeout(ctx, whyTimeout)
	defer cancel()
	why, err := journal.Why(looking, unit, began)
	if err != nil {
		s.log.Warn(fmt.Sprintf("cannot tell why it failed: %v; see: journalctl -u %s", err, unit))
	}
	if why.ExitStatus == 0 {
		why.ExitStatus = 1
	}
	if why.Result == "" {
		why.Result = "unknown"
	}
	switch {
	case errors.Is(cause, manager.ErrNoUnit):
		cause = fmt.Errorf("%w; was its definition removed? Put it back, or take the wrapper out of the agent's container", cause)
	case errors.Is(cause, errEnded) && why.Result == "timeout":
		cause = fmt.Errorf("it was not up within %v, its ready.timeout", a.service.ReadyTimeout)
	case errors.Is(cause, errEnded) && why.Result == journal.Success:
		cause = fmt.Errorf("%w, with exit status 0 unless TERM or KILL stopped it; cmd has to keep it in the foreground", cause)
	case errors.Is(cause, errEnded):
		cause = fmt.Errorf("%w (result %s, exit status %d)", cause, why.Result, why.ExitStatus)
	}
	reason := fmt.Sprintf("%s did not start in network namespace %s: %v", a.service.Name, s.netns, cause)
	return failure(protocol.ErrorStartFailed, protocol.Failure{
		Message: reason, Netns: s.netns, Unit: unit,
		Result: why.Result, ExitStatus: &why.ExitStatus, Log: why.Lines,
	})
}

// A record is what a sidecar was started with.
type record struct {
	arguments []byte
	namespace []byte
	request   string    // id of the request; "" for one without
	asked     time.Time // when the request was made
	when      time.Time // when this was written, right before the start
	ready     bool      // whether it has been ready since
}

func (r *record) matches(s *sidecar) bool {
	arguments, err := arglist.Encode(s.arguments)
	return err == nil && string(r.arguments) == string(arguments) && string(r.namespace) == s.namespace.String()
}

// deadline returns until when a sidecar that runs has to be ready: so long after its
// start or, where the clock was set back since, after now. One that has been ready
// gets no time.
func (r *record) deadline(limit time.Duration) time.Time {
	now := time.Now()
	if r.ready {
		return now
	}
	return now.Add(min(r.when.Sub(now), 0) + limit)
}

// overtakes says why a spooled request is not to be served, nil if it is. One
// that was made later has been served, or this very one: it was tried before
// then, by an activator that is no more perhaps, and if that worked the sidecar
// may have been stopped on purpose since.
func (r *record) overtakes(s *sidecar) error {
	same := r.request == s.request && (s.request != "" || r.asked.Equal(s.asked) && r.matches(s))
	switch {
	case !s.spooled:
		return nil
	case same && r.ready:
		return errServed
	case !same && r.asked.After(s.asked) && !r.asked.After(time.Now()): // unless the clock was set back
		return errSuperseded
	}
	return nil
}

// recorded returns what the sidecar in a network namespace was started with;
// nothing where that is not known.
func (a *Activator) recorded(netns string) record {
	var r record
	name := layout.ArgsFile(a.service.Name, netns)
	info, err := os.Stat(name)
	if err != nil {
		return record{}
	}
	r.when = info.ModTime()
	if r.arguments, err = os.ReadFile(name); err != nil { // #nosec G304 -- below layout.RuntimeDir, which is root's alone
		return record{}
	}
	if r.namespace, err = os.ReadFile(layout.NetnsFile(a.service.Name, netns)); err != nil {
		return record{}
	}
	// Of no use but to order requests.
	if asked, err := os.ReadFile(layout.AskedFile(a.service.Name, netns)); err == nil {
		r.asked, r.request = parseAsked(string(asked))
	}
	_, err = os.Stat(layout.ReadyFile(a.service.Name, netns))
	r.ready = err == nil
	return r
}

// formatAsked makes a line of when a request was made and of its id.
func formatAsked(asked time.Time, request string) string {
	return fmt.Sprintf("%d %s\n", asked.UnixMicro(), request)
}

// parseAsked reads what formatAsked made.
func parseAsked(line string) (asked time.Time, request string) {
	microseconds, request, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	usec, err := strconv.ParseInt(microseconds, 10, 64)
	if err != nil {
		return time.Time{}, ""
	}
	return time.UnixMicro(usec), request
}

// record keeps what a sidecar is about to be started with. Its unit is down.
func (a *Activator) record(s *sidecar) error {
	arguments, err := arglist.Encode(s.arguments)
	if err != nil {
		return err
	}
	environ, err := arglist.Encode(s.environ)
	if err != nil {
		return err
	}
	dir, err := beneath.Open(layout.ServiceRuntimeDir(a.service.Name))
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, old := range []string{layout.ReadyFile(a.service.Name, s.netns), layout.DefinitionFile(a.service.Name, s.netns)} {
		if err := dir.Remove(filepath.Base(old)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for _, file := range []struct {
		name    string
		content []byte
	}{
		{layout.NetnsFile(a.service.Name, s.netns), []byte(s.namespace.String())},
		{layout.EnvFile(a.service.Name, s.netns), environ},
		{layout.AskedFile(a.service.Name, s.netns), []byte(formatAsked(s.asked, s.request))},
		{layout.ArgsFile(a.service.Name, s.netns), arguments},
	} {
		if err := dir.WriteFile(filepath.Base(file.name), file.content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// recordAsked keeps when a request was made that needed no start, so that none
// that was made earlier, and is still in the spool, has its sidecar replaced.
func (a *Activator) recordAsked(s *sidecar, recorded record) {
	if !s.asked.After(recorded.asked) {
		return
	}
	dir, err := beneath.Open(layout.ServiceRuntimeDir(a.service.Name))
	if err == nil {
		defer dir.Close()
		err = dir.WriteFile(filepath.Base(layout.AskedFile(a.service.Name, s.netns)), []byte(formatAsked(s.asked, s.request)), 0o600)
	}
	if err != nil {
		s.log.Warn(fmt.Sprintf("cannot keep when the sidecar was asked for: %v; until that is mended, an earlier request that is spooled may replace it", err))
	}
}

// recordReady keeps that a sidecar has been ready. Without that it is only
// waited for in vain when its pid file is removed.
func (a *Activator) recordReady(s *sidecar) {
	if err := os.WriteFile(layout.ReadyFile(a.service.Name, s.netns), nil, 0o600); err != nil {
		s.log.Warn(fmt.Sprintf("cannot keep that the sidecar was ready: %v; until that is mended, a call may wait for it in vain", err))
	}
}
