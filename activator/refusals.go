// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/journal"
)

// What is refused is logged, so that somebody looks who it was, and so is what
// cannot be made of a spool. But whoever is refused may come again as often as it
// likes, and a spool may be as long as its writer likes: they must not push out of
// the journal what others did. systemd's own limit (LogRateLimitBurst=) is no help:
// it counts all lines of a unit, and drops those of others with them.
const (
	// refusalPeriod is how long what a caller is refused is counted together.
	refusalPeriod = 30 * time.Second
	// refusalLines is how many lines of that go to the journal.
	refusalLines = 20
	// refusedCallers is how many callers are told apart in a period.
	refusedCallers = 20
	// longestCgroup is how much of a control group's path is logged, in bytes.
	longestCgroup = 256
	// longestReason is how much of an error is logged, in bytes. It may quote
	// arguments, and names in a spool, of some megabytes.
	longestReason = 4096
	// longestMessage is how much of an error the caller gets, in bytes, and
	// longestReason how much of each line that the sidecar wrote last: in JSON,
	// where a byte may be six, both together have to fit into a reply.
	longestMessage = 64 << 10
)

// describe says who a caller is: the kernel's word when the connection was made,
// and the control group, by which its container is found, as it is now. That is
// "" where it cannot be read any more. Of a caller that has ended since, the pid may
// be another's by now, whose control group it is then; to tell, the kernel would have
// to give a descriptor of the caller (SO_PEERPIDFD), which it does from 6.5 on only.
func describe(peer *unix.Ucred) (who, cgroup string) {
	who = fmt.Sprintf("process %d of uid %d", peer.Pid, peer.Uid)
	content, err := os.ReadFile("/proc/" + strconv.Itoa(int(peer.Pid)) + "/cgroup")
	if err != nil {
		return who, ""
	}
	for line := range strings.Lines(string(content)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			// Whoever is in a container names what is below its own.
			path = journal.OneLine(strings.ToValidUTF8(path, "?"))
			cgroup = path[:min(len(path), longestCgroup)]
		}
	}
	if cgroup == "" {
		return who, ""
	}
	return who + " in control group " + cgroup, cgroup
}

// refusals counts what is refused, by caller. Its zero value is ready for use.
type refusals struct {
	mu      sync.Mutex
	began   time.Time
	lines   map[string]int
	leftOut int
}

// next says whether a refusal of a caller is to be logged, and how many were not
// in the period before, which has ended since.
func (r *refusals) next(caller string, now time.Time) (ok bool, leftOut int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.began) >= refusalPeriod {
		leftOut = r.leftOut
		r.began, r.lines, r.leftOut = now, map[string]int{}, 0
	}
	if _, known := r.lines[caller]; !known && len(r.lines) >= refusedCallers {
		caller = "" // all others together
	}
	r.lines[caller]++
	if r.lines[caller] > refusalLines {
		r.leftOut++
		return false, leftOut
	}
	return true, leftOut
}

// rest returns how many refusals have not been logged and not been told of.
func (r *refusals) rest() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	leftOut := r.leftOut
	r.leftOut = 0
	return leftOut
}

// refused logs that a caller was refused, or something else that it can have done
// as often as it likes.
func (a *Activator) refused(log *slog.Logger, peer *unix.Ucred, message string, fields ...any) {
	who, cgroup := describe(peer)
	a.limited(log, slog.LevelWarn, fmt.Sprintf("%d %s", peer.Uid, cgroup), "refused "+who+": "+message, fields...)
}

// limited logs what a caller, or the writer of a spool, can have done as often as
// it likes. It says whether the line is logged, and not just counted.
func (a *Activator) limited(log *slog.Logger, level slog.Level, caller, message string, fields ...any) bool {
	ok, leftOut := a.refusals.next(caller, time.Now())
	a.tellLeftOut(leftOut)
	if ok {
		log.Log(context.Background(), level, message, fields...)
	}
	return ok
}

func (a *Activator) tellLeftOut(n int) {
	if n > 0 {
		a.log.Warn(fmt.Sprintf("%d more lines like those above are not in the journal", n))
	}
}
