// SPDX-License-Identifier: Apache-2.0

package shell

import (
	"os/exec"
	"strings"
	"testing"
)

func TestQuote(t *testing.T) {
	if got, want := Quote("a=b", "", "it's", "$HOME"), `a=b '' 'it'\''s' '$HOME'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := Quote(); got != "" {
		t.Errorf("no words are %q", got)
	}
}

// The shell reads back what was quoted.
func TestShell(t *testing.T) {
	words := []string{"plain", "", "two words", "it's", `"\n\`, "$HOME", "`id`", "a\nb\t", "*", "~", "#", "-n", "é\xff", ";&|<>(){}[]!"}
	output, err := exec.Command("/bin/sh", "-c", "printf '%s\\0' "+Quote(words...)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(output), strings.Join(words, "\x00")+"\x00"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
