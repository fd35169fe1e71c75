// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/netns"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/proc"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/readiness"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/spool"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

const (
	// queueTime is how long a request may wait behind others on a host where
	// many are made at once, on top of the time to get ready.
	queueTime = 10 * time.Minute
	// retry is how long to wait before the next look at a socket that was away, at
	// first: many callers that wait must not take the time of what they wait for.
	retry    = 50 * time.Millisecond
	maxRetry = 500 * time.Millisecond
	// breaksBeforeSpool is how often a connection may break before the request
	// is spooled as well.
	breaksBeforeSpool = 20
	// spoolTimeout bounds waiting for the spool's lock.
	spoolTimeout = 10 * time.Second
	// clockStep is by how much the time stamp of a file may lag behind the
	// clock: a tick of the kernel.
	clockStep = 10 * time.Millisecond
)

// Exit statuses.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// A wrapper is one call of a wrapper.
type wrapper struct {
	service   *options.Service
	arguments []string
	request   protocol.Start
	stderr    io.Writer
	netns     string // the name of the network namespace, once it has been spooled

	// What of the sidecar of a spooled request was seen at the last look: the
	// processes that its pid files name, and since when they are the same.
	named []int
	since time.Time
}

// Wrapper has the host start a sidecar, as the wrapper script of a service
// calls it, and returns the exit status: 0 when the sidecar is ready, else that
// of the sidecar or 1, with the reason on stderr.
//
// A control command is run instead: the exit status is the command's, and what
// it wrote goes to stdout and stderr.
func Wrapper(args []string, stdout, stderr io.Writer) int {
	service, arguments, err := options.Parse(args)
	if err != nil {
		complain(stderr, "wrapper: %v", err)
		return exitUsage
	}
	environment := map[string]string{}
	for _, name := range service.PassEnvironment {
		if value, ok := os.LookupEnv(name); ok {
			environment[name] = value
		}
	}
	id := fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()) // #nosec G404 -- only has to be another each time
	w := &wrapper{service: service, arguments: arguments, request: protocol.NewStart(id, arguments, environment), stderr: stderr}
	if _, ok := service.Control(arguments); ok {
		return w.control(stdout)
	}
	return w.run()
}

// control has a control command run. It is asked for until somebody has read
// that. When the connection breaks later, it may have been run.
func (w *wrapper) control(stdout io.Writer) int {
	socket := path.Join(layout.StateDir(w.service.Dir, w.service.Name), layout.Socket)
	deadline := time.Now().Add(w.service.ReadyTimeout)
	for {
		var ran protocol.Ran
		err := call(socket, protocol.MethodRun, &w.request, &ran, time.Now().Add(w.service.ReadyTimeout+queueTime))
		failure, _, refused := refusal(err)
		switch {
		case err == nil:
			_, outErr := stdout.Write(ran.Stdout)
			_, errErr := w.stderr.Write(ran.Stderr)
			if err := errors.Join(outErr, errErr); err != nil {
				complain(w.stderr, "passing on what the command wrote: %v", err)
				return exitError
			}
			if ran.ExitStatus < 0 || ran.ExitStatus > 255 {
				complain(w.stderr, "the activator of %s says that the control command had exit status %d, which there is not; %s",
					w.service.Name, ran.ExitStatus, lookOnHost(w.service.Name))
				return exitError
			}
			return ran.ExitStatus
		case refused:
			return w.refused(failure)
		case errors.Is(err, varlink.ErrTooLarge):
			return w.tooLarge(err)
		case errors.Is(err, os.ErrPermission):
			complain(w.stderr, "%s", denied(err, w.service.Name))
			return exitError
		case unread(err) && time.Now().Before(deadline):
			time.Sleep(retry)
			continue
		case unread(err):
			complain(w.stderr, "%v, for %v; a control command is not spooled; %s", err, w.service.ReadyTimeout, lookOnHost(w.service.Name))
			return exitError
		}
		complain(w.stderr, "%v; it is not known whether the control command of %s was run; %s", err, w.service.Name, lookOnHost(w.service.Name))
		return exitError
	}
}

// run asks until there is an answer. Asking twice does no harm: a sidecar that
// runs already with these arguments is an answer too.
func (w *wrapper) run() int {
	socket := path.Join(layout.StateDir(w.service.Dir, w.service.Name), layout.Socket)
	limit := time.Now().Add(w.service.ReadyTimeout + queueTime) // of each call: once somebody has taken it, it is served
	deadline := limit
	var spooled time.Time // when the request was spooled; zero when it was not
	for breaks := 0; ; {
		err := call(socket, protocol.MethodStart, &w.request, nil, limit)
		if err == nil {
			return exitOK
		}
		if failure, name, ok := refusal(err); ok && name == protocol.ErrorJoinedNotRunning {
			return w.deferred(failure, !spooled.IsZero())
		} else if ok {
			if !spooled.IsZero() {
				complain(w.stderr, "the request is still spooled, and may be served later all the same")
			}
			return w.refused(failure)
		}
		if errors.Is(err, varlink.ErrTooLarge) {
			return w.tooLarge(err)
		}
		switch {
		case !spooled.IsZero() && w.readySince(spooled):
			return exitOK
		case !time.Now().Before(deadline):
			return w.gaveUp(err, !spooled.IsZero())
		case !away(err) && !errors.Is(err, os.ErrPermission):
			// The activator is gone in the middle of the call; systemd starts
			// another as soon as it is asked again.
			breaks++
		case errors.Is(err, os.ErrPermission):
			complain(w.stderr, "%s", denied(err, w.service.Name))
			return exitError
		}
		if spooled.IsZero() && (away(err) || breaks >= breaksBeforeSpool) {
			spooled = time.Now()
			if spoolErr := w.spool(); spoolErr != nil {
				complain(w.stderr, "%v, and the request cannot be spooled: %v; %s", err, spoolErr, lookOnHost(w.service.Name))
				return exitError
			}
			complain(w.stderr, "%v; the request is spooled in %s and will be served from there; %s", err,
				layout.StateDir(w.service.Dir, w.service.Name), lookOnHost(w.service.Name))
			deadline = time.Now().Add(w.service.ReadyTimeout)
		}
		time.Sleep(pause(spooled))
	}
}

// pause returns how long to wait before the next try: a tenth of the time since
// the request was spooled, within limits.
func pause(spooled time.Time) time.Duration {
	if spooled.IsZero() {
		return retry
	}
	return min(max(time.Since(spooled)/10, retry), maxRetry)
}

func (w *wrapper) tooLarge(err error) int {
	complain(w.stderr, "the request for %s is too large: %v; its arguments have to be shorter, or in a file", w.service.Name, err)
	return exitError
}

// deferred leaves a request for the host that cannot be served yet, unless that
// has been done. The agent is not to wait: it may be about to start what is
// missing, and would not get to it, nor after an error.
func (w *wrapper) deferred(failure *protocol.Failure, spooled bool) int {
	if !spooled {
		if err := w.spool(); err != nil {
			complain(w.stderr, "%s, and the request cannot be spooled: %v; %s", failure.Message, err, lookOnHost(w.service.Name))
			return exitError
		}
	}
	complain(w.stderr, "%s; the request is spooled in %s and will be served from there if that comes up within half a minute",
		failure.Message, layout.StateDir(w.service.Dir, w.service.Name))
	return exitOK
}

// refused prints why there is no sidecar, for the agent's log.
func (w *wrapper) refused(failure *protocol.Failure) int {
	complain(w.stderr, "%s", failure.Message)
	for _, line := range failure.Log {
		fmt.Fprintln(w.stderr, "  "+printable(line))
	}
	if failure.Unit != "" {
		fmt.Fprintf(w.stderr, "  on the host: journalctl -u %s; journalctl REQUEST_ID=%s\n", printable(failure.Unit), w.request.ID)
	}
	if failure.ExitStatus != nil && *failure.ExitStatus > 0 && *failure.ExitStatus < 256 {
		return *failure.ExitStatus
	}
	return exitError
}

func (w *wrapper) gaveUp(err error, spooled bool) int {
	if spooled {
		complain(w.stderr, "%s is not up after %v; it is still spooled and may be served later: %v; %s",
			w.service.Name, w.service.ReadyTimeout, err, lookOnHost(w.service.Name))
	} else {
		complain(w.stderr, "the activator of %s does not answer: %v; %s", w.service.Name, err, lookOnHost(w.service.Name))
	}
	return exitError
}

// spool leaves the request where the host finds it. The socket tells the host
// where a call comes from; a spooled one has to say it itself.
func (w *wrapper) spool() error {
	name, err := ownNetns()
	if err != nil {
		return err
	}
	w.netns = name
	ctx, cancel := context.WithTimeout(context.Background(), spoolTimeout)
	defer cancel()
	return spool.Append(ctx, layout.StateDir(w.service.Dir, w.service.Name), &spool.Request{
		Time:  time.Now().UnixMicro(),
		Netns: name,
		Start: w.request,
	})
}

// ownNetns returns the name of the network namespace that this is called in.
func ownNetns() (string, error) {
	self, err := netns.OfPath(netns.Own)
	if err != nil {
		return "", err
	}
	name, err := netns.NewNames(layout.NetnsDir).Find(self)
	if errors.Is(err, netns.ErrNoName) {
		err = fmt.Errorf("%w; call it with `ip netns exec NAMESPACE`, and mount %s into the caller's container with shared propagation",
			err, layout.NetnsDir)
	}
	return name, err
}

// readySince says whether the sidecar of a spooled request has written its pid
// files since then, has been there for as long as one that nothing else tells of,
// and has the arguments of this call, as far as this process can see: another call's
// may have come up meanwhile. It is asked again and again. The host looks more
// closely, and is quicker.
func (w *wrapper) readySince(then time.Time) bool {
	files, err := w.service.Ready.PIDFiles(w.arguments, w.netns)
	if err != nil || len(files) == 0 {
		return false
	}
	var named []int
	hasArguments := false
	for _, file := range files {
		pid, changed, err := readPID(file)
		// One from before was left over by an earlier sidecar.
		if err != nil || changed.Before(then.Add(-clockStep)) || !proc.Alive(pid) {
			w.named = nil
			return false
		}
		named = append(named, pid)
		words, err := proc.Arguments(pid)
		n := len(words) - len(w.arguments)
		hasArguments = hasArguments || err == nil && n > 0 && slices.Equal(words[n:], w.arguments)
	}
	if !hasArguments || !slices.Equal(named, w.named) {
		w.named, w.since = named, time.Now()
		return false
	}
	return time.Since(w.since) > readiness.SettleTime
}

// readPID reads a pid file, and when it was written. It waits for no fifo's
// other end and reads no more than a pid file has.
func readPID(file string) (pid int, changed time.Time, err error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0) // #nosec G304 -- the caller's pid file, with the caller's rights
	if err != nil {
		return 0, time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, time.Time{}, err
	}
	if !info.Mode().IsRegular() {
		return 0, time.Time{}, fmt.Errorf("%s is not a regular file", file)
	}
	content, err := io.ReadAll(io.LimitReader(f, readiness.MaxPIDFile))
	if err != nil {
		return 0, time.Time{}, err
	}
	pid, err = readiness.ParsePID(content)
	return pid, info.ModTime(), err
}
