// SPDX-License-Identifier: Apache-2.0

// Package spool keeps requests that could not be made because the activation
// socket was away: a file in the service's state directory, one request to a
// line, that the path unit watches. Clients append to it, the activator takes
// it away whole.
//
// Two kinds of line are read: the client's, a JSON object, and that of the
// role's shell wrapper, "NETNS ARG ARG…", so that wrappers of the role keep
// working while agents are moved over.
package spool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/arglist"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/beneath"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
)

// MaxSize is the size of the largest spool that is read, in bytes: some ten
// thousand requests of Neutron's usual length.
const MaxSize = 16 << 20

// maxLines is how many lines of a spool are read and maxArguments how many
// arguments in them, more than requests of usual length fill it with, and maxBad
// how many lines are kept that are no requests. Each takes memory that its length
// does not tell; a variable of the environment takes what some arguments do. A
// line may be as long as the longest argument list is in JSON, in bytes.
const (
	maxLines     = 100000
	maxArguments = 1000000
	variableSize = 4
	maxLine      = 2 * arglist.MaxSize
	maxBad       = 100
)

// ErrFull is returned for a request that a spool has no room for.
var ErrFull = errors.New("the spool is full")

// lockRetry is how often a lock that somebody else holds is asked for.
const lockRetry = 10 * time.Millisecond

// A Request is a spooled request.
type Request struct {
	// Time is when it was made, in microseconds since 1970 (UTC).
	Time int64 `json:"time"`
	// Netns is the network namespace's name.
	Netns string `json:"netns"`
	protocol.Start
}

// Line returns the request as a line of the spool, with its newline.
func (r *Request) Line() ([]byte, error) {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false) // by which a byte would be six
	err := encoder.Encode(r)
	return line.Bytes(), err
}

// A BadLine is a line of the spool that is no request.
type BadLine struct {
	Number int // from 1
	Text   string
	Err    error
}

// Parse reads a spool. A line of the role's has no time of its own and gets
// that of the spool, in microseconds since 1970. Where no newline is at its end, it
// is cut short, and would be a request for something else.
func Parse(content []byte, spoolTime int64) (requests []Request, bad []BadLine) {
	number, arguments := 0, 0
	for line := range bytes.Lines(content) {
		number++
		text := strings.TrimSpace(string(line))
		if text == "" {
			continue
		}
		if number > maxLines {
			return requests, append(bad, BadLine{number, "", fmt.Errorf("more than %d lines", maxLines)})
		}
		request, err := parseLine(text, spoolTime)
		if err == nil && text[0] != '{' && !bytes.HasSuffix(line, []byte("\n")) {
			err = errors.New("it is cut short")
		}
		if err != nil {
			if len(bad) < maxBad {
				bad = append(bad, BadLine{number, text, err})
			}
			continue
		}
		arguments += len(request.Arguments) + len(request.ArgumentsBase64) + variableSize*len(request.Environment)
		if arguments > maxArguments {
			return requests, append(bad, BadLine{number, "", fmt.Errorf("more than %d arguments and variables up to it", maxArguments)})
		}
		requests = append(requests, request)
	}
	return requests, bad
}

func parseLine(text string, spoolTime int64) (Request, error) {
	request := Request{Time: spoolTime}
	if len(text) > maxLine {
		return Request{}, fmt.Errorf("longer than %d bytes", maxLine)
	}
	if strings.HasPrefix(text, "{") {
		if err := json.Unmarshal([]byte(text), &request); err != nil {
			return Request{}, err
		}
		_, err := request.ArgumentList()
		return request, err
	}
	fields := strings.Fields(text)
	request.Netns, request.Arguments = fields[0], fields[1:]
	_, err := request.ArgumentList()
	return request, err
}

// Lock takes the lock of the spool in a state directory. It waits until ctx is
// done. The caller unlocks.
func Lock(ctx context.Context, stateDir string) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(stateDir, layout.SpoolLock),
		// The state directory can be written by others: follow no link, wait
		// for no fifo.
		flock.SetFlag(os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK),
		flock.SetPermissions(0o600))
	if _, err := lock.TryLockContext(ctx, lockRetry); err != nil {
		return nil, fmt.Errorf("locking %s: %w", lock.Path(), err)
	}
	return lock, nil
}

// Append adds a request to the spool in a state directory, durably, and
// touches the time stamp that the path unit watches. It waits for the lock
// until ctx is done. After an error the spool is what it was before.
func Append(ctx context.Context, stateDir string, request *Request) (err error) {
	line, err := request.Line()
	if err != nil {
		return err
	}
	lock, err := Lock(ctx, stateDir)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := appendLine(filepath.Join(stateDir, layout.Spool), line); err != nil {
		return err
	}
	stamp := filepath.Join(stateDir, layout.SpoolTimestamp)
	// The request is in the spool, whose existence alone starts the activator;
	// the time stamp is for path units of the role.
	if f, _, err := open(stamp, os.O_WRONLY, 0o644); err == nil {
		_ = f.Truncate(0)
		_, _ = f.WriteString(time.Now().UTC().Format(time.RFC3339Nano) + "\n")
		_ = f.Close()
	}
	return nil
}

// open opens a file that an agent beside this one may have made, or makes it. It
// follows no link of either kind and waits for no fifo.
func open(name string, flags int, mode os.FileMode) (*os.File, os.FileInfo, error) {
	f, err := os.OpenFile(name, flags|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, mode) // #nosec G304 -- a fixed name in the state directory
	if err != nil {
		return nil, nil, err
	}
	info, err := beneath.CheckFile(f)
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, nil, err
	}
	return f, info, nil
}

// appendLine writes with O_APPEND: the role's wrapper, whose lock is another,
// may append at the same time.
func appendLine(name string, line []byte) error {
	f, info, err := open(name, os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	size := info.Size()
	if size+int64(len(line))+1 > MaxSize {
		return fmt.Errorf("%s: %w (%d bytes)", name, ErrFull, size)
	}
	last := []byte{'\n'}
	if size > 0 {
		if _, err := f.ReadAt(last, size-1); err != nil {
			return err
		}
	}
	if last[0] != '\n' {
		// Somebody was interrupted within a line; it must not take ours with it.
		line = append([]byte{'\n'}, line...)
	}
	n, err := f.Write(line)
	if err == nil {
		err = f.Sync()
	}
	if err != nil && n > 0 {
		// Half a line is no request. Cut it off, unless it is no longer the end.
		if info, statErr := f.Stat(); statErr == nil && info.Size() == size+int64(n) {
			err = errors.Join(err, f.Truncate(size))
		}
	}
	return err
}
