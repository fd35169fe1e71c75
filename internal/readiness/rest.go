// SPDX-License-Identifier: Apache-2.0

package readiness

import (
	"slices"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/proc"
)

const (
	// RestTime is how long a helper that has written its pid files has to be asleep
	// to count as ready. One may still fail on what it does after that. dnsmasq opens
	// its log, gives up its privileges and looks for the TFTP directory (main in
	// dnsmasq.c); keepalived's VRRP process reads the configuration. That is work,
	// and a longer time, which is part of each call, would tell no more of it.
	RestTime = time.Millisecond
	// SettleTime is how long a sidecar has to live to count as ready where nothing
	// else tells: longer than a program takes that does not like its arguments.
	SettleTime = 500 * time.Millisecond
)

// A Rest watches processes that have written their pid files come to rest.
type Rest struct {
	pids  []int
	began time.Time
	ran   time.Duration // on a processor, together, when it began
	slept uint64        // as proc.Asleep tells, together; 0 where one was not asleep
}

// Reached says whether all of the processes have been asleep since it was asked
// last, which is to be RestTime ago or more, or have run for more than SettleTime
// since it was asked first: a helper that is busy from the start never rests. That
// is time on a processor, of which one that has something left to do gets little
// where the host has much to do. With other processes it begins anew. Who asks knows
// that they live. Of a process with several threads the first one is to sleep.
func (r *Rest) Reached(pids ...int) bool {
	if !slices.Equal(pids, r.pids) {
		*r = Rest{pids: slices.Clone(pids)}
	}
	before := r.slept
	r.slept = 0
	for _, pid := range pids {
		slept := proc.Asleep(pid)
		if slept == 0 {
			r.slept = 0
			break
		}
		r.slept += slept
	}
	if r.slept != 0 && r.slept == before {
		return true
	}
	var ran time.Duration
	for _, pid := range pids {
		ran += proc.Ran(pid)
	}
	if r.began.IsZero() {
		r.began, r.ran = time.Now(), ran
	}
	return ran-r.ran > SettleTime
}

// Watched returns how long it has been asked for.
func (r *Rest) Watched() time.Duration {
	if r.began.IsZero() {
		return 0
	}
	return time.Since(r.began)
}
