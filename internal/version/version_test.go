// SPDX-License-Identifier: Apache-2.0

package version

import (
	"runtime/debug"
	"testing"
)

func TestOfModule(t *testing.T) {
	for of, want := range map[string]string{"v0.1.0": "0.1.0", "v0.1.1-0.20261124100000-0123456789ab": "0.1.1-0.20261124100000-0123456789ab", "(devel)": unknown, "": unknown} {
		if got := ofModule(&debug.BuildInfo{Main: debug.Module{Version: of}}, true); got != want {
			t.Errorf("%q gives %q, want %q", of, got, want)
		}
	}
	if got := ofModule(nil, false); got != unknown {
		t.Errorf("without build information: %q", got)
	}
}
