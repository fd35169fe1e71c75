// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

const (
	// maxMessage is how much of a message is kept, in bytes, and maxField how much
	// of another field: hundreds of entries may be in memory at a time, for each
	// start that fails.
	maxMessage = 4 << 10
	maxField   = 512
	// maxEntry is the length of the longest entry that is read, as JSON, in bytes.
	// A line of a standard output is at most 48 KiB, of which each byte may be six.
	// Whoever talks to journald itself can write hundreds of MB.
	maxEntry = 512 << 10
)

// An Entry is an entry of the journal, as far as it is looked at here
// (systemd.journal-fields(7)). Fields that it does not have are empty, and the end
// of very long ones is left out.
type Entry struct {
	Time      time.Time
	Cursor    string // of the entry's place in the journal
	Message   string // of any bytes, several lines perhaps
	MessageID string
	Transport string
	Program   string // the path of what wrote it, as in its own mount namespace (_EXE)
	Priority  string // "0" to "7"

	Service, Netns, Request, Result, ReadyUsec string // our own, see the constants

	ExitCode, ExitStatus, UnitResult string // of systemd's messages about a unit
	Stream                           string // _STREAM_ID

	// Forged says that it pretends to be an activator's: a program of that path
	// wrote it, which others may have in a mount namespace of their own, and not in
	// the unit of the service that it names, which only root on the host can enter;
	// or a sidecar wrote how its request ended. All that there is of it is Time and
	// Cursor.
	Forged bool
}

// Warning says whether the entry is a warning or worse.
func (e *Entry) Warning() bool { return e.Priority != "" && e.Priority <= "4" }

// A Query selects entries.
type Query struct {
	Since   time.Time // not those that are older; zero for those of any time
	Boot    bool      // only those since the last boot
	After   string    // only those behind the one with this cursor; "" for all
	Lines   int       // of those that are left, only the last so many; 0 for all
	Matches []string  // FIELD=VALUE, and "+" for "or", as in journalctl(1)
}

// ProgramIs returns the match for what a program of that path wrote, see
// Entry.Forged.
func ProgramIs(path string) string { return "_EXE=" + path }

func (q *Query) args() []string {
	args := []string{"--output=json", "--all", "--no-pager", "--quiet", "--output-fields=" + fields}
	if !q.Since.IsZero() {
		args = append(args, fmt.Sprintf("--since=@%d.%06d", q.Since.Unix(), q.Since.Nanosecond()/1000))
	}
	if q.Boot {
		args = append(args, "--boot")
	}
	if q.After != "" {
		args = append(args, "--after-cursor="+q.After)
	}
	if q.Lines > 0 {
		args = append(args, "--lines="+strconv.Itoa(q.Lines))
	}
	return append(args, q.Matches...)
}

// fields is what an Entry is made of; entries have many more.
const fields = "MESSAGE,MESSAGE_ID,_EXE,_SYSTEMD_UNIT,PRIORITY,_TRANSPORT,_STREAM_ID,EXIT_CODE,EXIT_STATUS,UNIT_RESULT," +
	Service + "," + Netns + "," + Request + "," + Result + "," + ReadyUsec

// Read returns the entries that a query selects and that are not forged, the oldest
// first.
func Read(ctx context.Context, query Query) ([]Entry, error) {
	var entries []Entry
	err := Each(ctx, query, func(entry *Entry) {
		if !entry.Forged {
			entries = append(entries, *entry)
		}
	})
	return entries, err
}

// Each calls f with each entry that a query selects, the oldest first.
func Each(ctx context.Context, query Query, f func(*Entry)) error {
	command := exec.CommandContext(ctx, "journalctl", query.args()...) // #nosec G204 -- no shell; each word is made by args
	// Somebody who wants colours everywhere would get them in JSON, too.
	command.Env = append(os.Environ(), "SYSTEMD_COLORS=0")
	var stderr bytes.Buffer
	command.Stderr = &stderr
	stdout, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("reading the journal: %w", err)
	}
	readErr := each(stdout, f)
	if err := command.Wait(); err != nil {
		return fmt.Errorf("reading the journal: %w: %s", err, OneLine(stderr.String()))
	}
	return readErr
}

// each reads the output of journalctl --output=json: an object to a line. What
// is none is skipped, and so is what is very long.
func each(output io.Reader, f func(*Entry)) error {
	lines := bufio.NewReader(output)
	for {
		line, err := readLine(lines)
		if entry, ok := parse(line); ok {
			f(entry)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the journal: %w", err)
		}
	}
}

// readLine returns a line, nothing of one that is longer than maxEntry.
func readLine(lines *bufio.Reader) (line []byte, err error) {
	for long := false; ; {
		part, err := lines.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxEntry; long {
			line = nil
		} else {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

func parse(line []byte) (*Entry, bool) {
	var object map[string]text
	if json.Unmarshal(line, &object) != nil || object == nil {
		return nil, false
	}
	field := func(name string) string { return Cut(string(object[name]), maxField) }
	entry := &Entry{
		Cursor: field("__CURSOR"), Message: Cut(string(object["MESSAGE"]), maxMessage), MessageID: field("MESSAGE_ID"),
		Transport: field("_TRANSPORT"), Program: field("_EXE"), Priority: field("PRIORITY"),
		Service: field(Service), Netns: field(Netns), Request: field(Request), Result: field(Result), ReadyUsec: field(ReadyUsec),
		ExitCode: field("EXIT_CODE"), ExitStatus: field("EXIT_STATUS"), UnitResult: field("UNIT_RESULT"), Stream: field("_STREAM_ID"),
	}
	if usec, err := strconv.ParseInt(string(object["__REALTIME_TIMESTAMP"]), 10, 64); err == nil {
		entry.Time = time.UnixMicro(usec)
	}
	unit := field("_SYSTEMD_UNIT")
	_, ofSidecar := layout.SidecarNetns(entry.Service, unit)
	if entry.Program == layout.Activator() && entry.Service != "" && unit != layout.ServiceUnit(entry.Service) ||
		entry.Result != "" && ofSidecar {
		entry = &Entry{Time: entry.Time, Cursor: entry.Cursor, Forged: true}
	}
	return entry, true
}

// A text is a field's value: text, or a list of bytes where it is no text, or
// a list of values where the field occurs more than once, of which the first
// counts, or null where it is too large.
type text string

func (t *text) UnmarshalJSON(value []byte) error {
	var one string
	if json.Unmarshal(value, &one) == nil {
		*t = text(one)
		return nil
	}
	var content []byte
	if json.Unmarshal(value, &content) == nil {
		*t = text(content)
		return nil
	}
	var several []text
	if json.Unmarshal(value, &several) == nil && len(several) > 0 {
		*t = several[0]
	}
	return nil
}

// OneLine makes a message of one line, for a log or an error that may hold
// what somebody else wrote.
func OneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, unicode.IsControl), " ")
}

// Cut leaves out what is behind so many bytes of a text, and says so.
func Cut(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	return strings.ToValidUTF8(text[:bytes], "") + "…"
}
