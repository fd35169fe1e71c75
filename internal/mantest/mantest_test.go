// SPDX-License-Identifier: Apache-2.0

package mantest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDescribed(t *testing.T) {
	const page = `# program(8)

## DESCRIPTION

**--nothing** is an option only where options are listed.

## OPTIONS

**--root=***DIR*
:   A directory.

**-h**, **--help**
:   Help, see **--root**.

**--no-term** has no definition.

## COMMANDS

### list [*SERVICE*...]

Text.

### run-command *SERVICE*

**-n** *N*, **--lines=***N*
:   Lines.

**--all**
:   All.

### completion **bash**|**zsh**

## EXIT STATUS

**--other**
:   Not an option.
`
	want := map[string][]string{
		"":            {"--help", "--root", "-h"},
		"list":        nil,
		"run-command": {"--all", "--lines", "-n"},
		"completion":  nil,
	}
	if diff := cmp.Diff(want, described(page)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
