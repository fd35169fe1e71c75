// SPDX-License-Identifier: Apache-2.0

package conf

import "testing"

func TestProblemError(t *testing.T) {
	for want, p := range map[string]Problem{
		"f:1:2: k: m": {"f", 1, 2, "k", "m"},
		"f:1:2: m":    {"f", 1, 2, "", "m"},
		"f: m":        {"f", 0, 0, "", "m"},
		"f: k: m":     {"f", 0, 0, "k", "m"},
	} {
		if got := p.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
