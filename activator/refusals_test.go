// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"fmt"
	"testing"
	"time"
)

func TestRefusals(t *testing.T) {
	var r refusals
	now := time.Now()
	count := func(caller string, n int) (logged, told int) {
		for range n {
			ok, leftOut := r.next(caller, now)
			if ok {
				logged++
			}
			told += leftOut
		}
		return logged, told
	}
	if logged, told := count("0 /one", 100000); logged != refusalLines || told != 0 {
		t.Errorf("of 100,000 refusals %d are logged, and %d told of", logged, told)
	}
	// One caller does not take another's.
	if logged, _ := count("0 /other", 1); logged != 1 {
		t.Error("the refusal of another caller is not logged")
	}
	now = now.Add(refusalPeriod)
	if logged, told := count("0 /one", 1); logged != 1 || told != 100000-refusalLines {
		t.Errorf("in the next period, %d are logged, and %d of the one before told of", logged, told)
	}
	// Whoever can have many names is not told apart for ever.
	total := 0
	for i := range 10000 {
		logged, _ := count(fmt.Sprint(i), 1)
		total += logged
	}
	if limit := refusedCallers + refusalLines; total > limit {
		t.Errorf("of 10,000 callers, %d are logged, more than %d", total, limit)
	}
	if rest := r.rest(); rest != 10000-total || r.rest() != 0 {
		t.Errorf("%d are left to tell of, want %d", rest, 10000-total)
	}
}
