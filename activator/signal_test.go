// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"os"
	"strconv"
	"testing"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/options"
	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
)

// A pid that was a helper's may be the id of a thread by now. Kernels differ in what
// they say of one to pidfd_open(2), and Neutron has to be told that there is no such
// process.
func TestSignalThread(t *testing.T) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	a := &Activator{service: &options.Service{Name: "test"}}
	tried := 0
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			t.Fatal(err)
		}
		if id == os.Getpid() {
			continue
		}
		tried++
		if _, err := a.signal(t.Context(), &protocol.Signal{PID: id}); errorName(err) != protocol.ErrorNoSuchProcess {
			t.Errorf("thread %d: %v", id, err)
		}
	}
	if tried == 0 {
		t.Error("this process has one thread only")
	}
}
