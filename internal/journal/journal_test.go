// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/layout"
)

// Entries as `journalctl --output=json` prints them, less what nobody looks at.
const (
	systemdExited = `{"_TRANSPORT":"journal","SYSLOG_IDENTIFIER":"systemd","MESSAGE_ID":"98e322203f7a4ed290d09fe03c09fe15","UNIT":"d@n.service","COMMAND":"ExecStart","EXIT_CODE":"exited","EXIT_STATUS":"3","MESSAGE":"d@n.service: Main process exited, code=exited, status=3/NOTIMPLEMENTED"}`
	systemdKilled = `{"_TRANSPORT":"journal","MESSAGE_ID":"98e322203f7a4ed290d09fe03c09fe15","EXIT_CODE":"killed","EXIT_STATUS":"9","MESSAGE":"d@n.service: Main process exited, code=killed, status=9/KILL"}`
	systemdDumped = `{"_TRANSPORT":"journal","MESSAGE_ID":"98e322203f7a4ed290d09fe03c09fe15","EXIT_CODE":"dumped","EXIT_STATUS":"11","MESSAGE":"d@n.service: Main process exited, code=dumped, status=11/SEGV"}`
	systemdPost   = `{"_TRANSPORT":"journal","MESSAGE_ID":"98e322203f7a4ed290d09fe03c09fe15","COMMAND":"ExecStopPost","EXIT_CODE":"exited","EXIT_STATUS":"125","MESSAGE":"d@n.service: Control process exited, code=exited, status=125/n/a"}`
	systemdWell   = `{"_TRANSPORT":"journal","MESSAGE_ID":"98e322203f7a4ed290d09fe03c09fe15","EXIT_CODE":"exited","EXIT_STATUS":"0","MESSAGE":"d@n.service: Main process exited, code=exited, status=0/SUCCESS"}`
	systemdFailed = `{"_TRANSPORT":"journal","MESSAGE_ID":"d9b373ed55a64feb8242e02dbe79a49c","UNIT_RESULT":"exit-code","MESSAGE":"d@n.service: Failed with result 'exit-code'."}`
	systemdEnded  = `{"_TRANSPORT":"journal","MESSAGE_ID":"7ad2d189f7e94e70a38c781354912448","MESSAGE":"d@n.service: Deactivated successfully."}`
	systemdSkips  = `{"_TRANSPORT":"journal","PRIORITY":"6","MESSAGE_ID":"641257651c1b4ec9a8624d7a40a9e1e7","MESSAGE":"d@n.service: Executable p missing, skipping: No such file or directory"}`
	systemdStart  = `{"_TRANSPORT":"journal","MESSAGE_ID":"7d4958e842da4a758f6c1cdc7b36dcc5","MESSAGE":"Starting d sidecar in network namespace n..."}`
	systemdSpawn  = `{"_TRANSPORT":"journal","PRIORITY":"3","SYSLOG_IDENTIFIER":"(d)","MESSAGE_ID":"641257651c1b4ec9a8624d7a40a9e1e7","MESSAGE":"d@n.service: Failed at step EXEC spawning /bin/d: No such file or directory"}`
	activator     = `{"_TRANSPORT":"journal","OBJECT_SYSTEMD_UNIT":"d@n.service","MESSAGE":"d@n.service: started"}`
)

func stdout(message string) string { return `{"_TRANSPORT":"stdout","MESSAGE":` + message + `}` }

func entriesOf(t *testing.T, output string) []Entry {
	t.Helper()
	var entries []Entry
	if err := each(strings.NewReader(output), func(entry *Entry) { entries = append(entries, *entry) }); err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestEntry(t *testing.T) {
	output := `{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1700000000000001","PRIORITY":"4","_EXE":"/a",
"SERVICE":"d","NETNS":["n","second"],"REQUEST_ID":"0123","RESULT":"started","READY_USEC":"1500","MESSAGE":[255,10]}`
	want := []Entry{{
		Time: time.UnixMicro(1700000000000001), Cursor: "s=1;i=2", Priority: "4", Program: "/a", Service: "d", Netns: "n",
		Request: "0123", Result: Started, ReadyUsec: "1500", Message: "\xff\n",
	}}
	if diff := cmp.Diff(want, entriesOf(t, strings.ReplaceAll(output, "\n", ""))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A program in a container can have the activator's path, and write to the journal
// what the activator does. Where it runs is what counts.
func TestForgedEntry(t *testing.T) {
	for _, test := range []struct {
		name, fields string
		forged       bool
	}{
		{"an activator's", `"_SYSTEMD_UNIT":"d.service","SERVICE":"d"`, false},
		{"a sidecar's", `"_SYSTEMD_UNIT":"d@n.service","SERVICE":"d"`, true},
		{"another activator's", `"_SYSTEMD_UNIT":"e.service","SERVICE":"d"`, true},
		{"nobody's", `"SERVICE":"d"`, true},
		{"of what the socket runs", `"_SYSTEMD_UNIT":"d.socket"`, false},
	} {
		got := entriesOf(t, `{"__CURSOR":"s=1","_EXE":"`+layout.Activator()+`","RESULT":"started","MESSAGE":"started",`+test.fields+`}`)
		if len(got) != 1 || got[0].Forged != test.forged || got[0].Cursor != "s=1" {
			t.Errorf("%s: %+v", test.name, got)
		} else if said := got[0].Message != "" || got[0].Result != "" || got[0].Service != ""; said == test.forged {
			t.Errorf("%s: what it says counts: %v", test.name, said)
		}
	}
	for result, forged := range map[string]bool{"started": true, "": false} {
		got := entriesOf(t, `{"_EXE":"/usr/bin/x","_SYSTEMD_UNIT":"d@n.service","SERVICE":"d","RESULT":"`+result+`"}`)
		if len(got) != 1 || got[0].Forged != forged {
			t.Errorf("a sidecar's own with result %q: %+v", result, got)
		}
	}
}

// Whoever writes to the journal itself can make a field, and the entry, as long as
// it likes. The next one is read all the same.
func TestLongEntry(t *testing.T) {
	long := strings.Repeat("y", maxEntry/2)
	output := `{"MESSAGE":"a","SERVICE":"` + long + `"}` + "\n" + `{"MESSAGE":"` + long + long + `"}` + "\n" + `{"MESSAGE":"c"}`
	want := []Entry{{Message: "a", Service: long[:maxField] + "…"}, {Message: "c"}}
	if diff := cmp.Diff(want, entriesOf(t, output)); diff != "" {
		t.Errorf("(-want +got):\n%.2000s", diff)
	}
}

func TestMerge(t *testing.T) {
	at := func(second int64, cursor string) Entry { return Entry{Time: time.Unix(second, 0), Cursor: cursor} }
	got := merge([]Entry{at(1, "a"), at(3, "b"), at(3, "c")}, []Entry{at(2, "d"), at(3, "b"), at(4, "e")})
	want := []Entry{at(1, "a"), at(2, "d"), at(3, "b"), at(3, "c"), at(4, "e")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestQuery(t *testing.T) {
	query := Query{Since: time.Unix(5, 7000), Boot: true, After: "s=1", Lines: 3, Matches: []string{"A=b", "+", "C=d"}}
	got := strings.Join(query.args(), " ")
	if want := " --since=@5.000007 --boot --after-cursor=s=1 --lines=3 A=b + C=d"; !strings.HasSuffix(got, want) {
		t.Errorf("arguments %q, want %q at the end", got, want)
	}
}

func TestWhy(t *testing.T) {
	long, tooLong := strings.Repeat("x", 48<<10), strings.Repeat("x", maxEntry)
	var many []string
	for i := range 12 {
		many = append(many, stdout(fmt.Sprintf(`"line %d"`, i)))
	}
	tests := []struct {
		name    string
		entries []string
		want    Failure
	}{
		{name: "nothing"},
		{
			name:    "a sidecar that ends",
			entries: []string{systemdStart, stdout(`"dnsmasq: bad option"`), activator, systemdExited, systemdFailed},
			want:    Failure{Result: "exit-code", ExitStatus: 3, Lines: []string{"dnsmasq: bad option"}},
		},
		{
			name:    "one that systemd cannot run",
			entries: []string{systemdStart, systemdSpawn, systemdSkips, strings.Replace(systemdExited, `"3"`, `"203"`, 1), systemdFailed},
			want: Failure{
				Result: "exit-code", ExitStatus: 203, Lines: []string{"Failed at step EXEC spawning /bin/d: No such file or directory"},
			},
		},
		{name: "one that is killed", entries: []string{systemdKilled}, want: Failure{ExitStatus: 137}},
		{name: "one that crashes", entries: []string{systemdDumped}, want: Failure{ExitStatus: 139}},
		{
			name:    "clearing up fails as well, which is not the cause",
			entries: []string{systemdExited, systemdPost, systemdFailed},
			want:    Failure{Result: "exit-code", ExitStatus: 3},
		},
		{
			name:    "a process that ended well is no cause",
			entries: []string{systemdWell, systemdPost},
			want:    Failure{ExitStatus: 125},
		},
		{
			name:    "one that ends well, which systemd tells of the unit only",
			entries: []string{systemdStart, stdout(`"bye"`), systemdEnded},
			want:    Failure{Result: Success, Lines: []string{"bye"}},
		},
		{
			name: "messages that are text, bytes, nothing, too large to print, long or too long",
			entries: []string{
				stdout(`"Grüße"`), stdout(`[98,255,99]`), stdout(`""`), stdout(`null`), stdout(`{"no":"text"}`),
				stdout(`"` + long + `"`), stdout(`"` + tooLong + `"`), stdout(`"last"`),
			},
			want: Failure{Lines: []string{"Grüße", "b\xffc", long[:maxMessage] + "…", "last"}},
		},
		{
			name:    "control characters and bytes",
			entries: []string{stdout(`"a\u001b[31mb\nc\td"`), stdout(`[27,91,65]`), stdout(`"e\u009bf"`)},
			want:    Failure{Lines: []string{"a [31mb c d", "[A", "e f"}},
		},
		{
			name:    "the system log counts, systemd's own entries and the kernel's do not",
			entries: []string{`{"_TRANSPORT":"syslog","MESSAGE":"to syslog"}`, `{"_TRANSPORT":"kernel","MESSAGE":"oom"}`, systemdStart},
			want:    Failure{Lines: []string{"to syslog"}},
		},
		{
			name: "said twice, once with the program's name",
			entries: []string{
				stdout(`"dnsmasq: bad option"`), `{"_TRANSPORT":"syslog","MESSAGE":"bad option"}`,
				stdout(`"other"`), stdout(`"other"`),
			},
			want: Failure{Lines: []string{"dnsmasq: bad option", "other"}},
		},
		{
			name:    "only the last lines",
			entries: many,
			want: Failure{Lines: []string{
				"line 2", "line 3", "line 4", "line 5", "line 6", "line 7", "line 8", "line 9", "line 10", "line 11",
			}},
		},
		{
			name:    "what is no JSON is passed over",
			entries: []string{"-- No entries --", "", `{"MESSAGE":`, stdout(`"a"`)},
			want:    Failure{Lines: []string{"a"}},
		},
		{
			name:    "an exit status that is none",
			entries: []string{strings.ReplaceAll(systemdExited, `"3"`, `"three"`), systemdFailed},
			want:    Failure{Result: "exit-code"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			output := strings.Join(test.entries, "\n")
			if diff := cmp.Diff(test.want, why("d@n.service", entriesOf(t, output))); diff != "" {
				t.Errorf("(-want +got):\n%.2000s", diff)
			}
		})
	}
}

func FuzzWhy(f *testing.F) {
	f.Add([]byte(systemdExited + "\n" + systemdFailed + "\n" + stdout(`[1,2,256,-1]`)))
	f.Add([]byte(stdout(`"a"`) + "\n" + stdout(`null`)))
	f.Fuzz(func(t *testing.T, output []byte) {
		failure := why("d@n.service", entriesOf(t, string(output)))
		if len(failure.Lines) > maxLines {
			t.Errorf("%d lines", len(failure.Lines))
		}
		for _, line := range failure.Lines {
			if line == "" || strings.ContainsFunc(line, unicode.IsControl) {
				t.Errorf("line %q", line)
			}
		}
	})
}

func TestOneLine(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", ""},
		{"as it is", "as it is"},
		{"two\r\nlines\n", "two lines"},
		{"\x1b[0m\x7f\u0085", "[0m"},
		{"Grüße \xff", "Grüße \xff"},
	}
	for _, test := range tests {
		if got := OneLine(test.text); got != test.want {
			t.Errorf("OneLine(%q) = %q, want %q", test.text, got, test.want)
		}
	}
}

// Where standard error is no journal, the fields are on the line.
func TestNewLoggerWithoutJournal(t *testing.T) {
	// As under a service manager whose journal is another one.
	t.Setenv("JOURNAL_STREAM", "")
	for _, debug := range []bool{false, true} {
		var out bytes.Buffer
		log := NewLogger(&out, debug).With(slog.String(Service, "d"))
		log.Debug("details")
		log.Warn("trouble", Netns, "qdhcp-1")
		if got := out.String(); !strings.Contains(got, "level=WARN msg=trouble SERVICE=d NETNS=qdhcp-1\n") {
			t.Errorf("debug %v: logged %q", debug, got)
		}
		if got := strings.Contains(out.String(), "msg=details"); got != debug {
			t.Errorf("debug %v: details logged: %v", debug, got)
		}
	}
}

func TestStreams(t *testing.T) {
	output := `{"MESSAGE":"a","_STREAM_ID":"1f"}
{"MESSAGE":"b"}
not JSON
{"MESSAGE":"c","_STREAM_ID":"2e"}
{"MESSAGE":"d","_STREAM_ID":"1f"}
`
	want := []string{"_STREAM_ID=1f", "_STREAM_ID=2e"}
	if diff := cmp.Diff(want, streams(entriesOf(t, output))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
