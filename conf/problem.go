// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Problem is one thing that is wrong with a file. Its message says what is
// wrong, and what would be right.
type Problem struct {
	File         string // the path including root
	Line, Column int    // from 1, the column in bytes; 0 where the whole file is meant
	Key          string // dotted for the keys of tables; may be empty
	Message      string
}

// Error returns "FILE:LINE:COL: KEY: message", without the parts that do not
// apply.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems returns the problems of all files, sorted by file, line and column.
func (s Set) Problems() []Problem {
	var all []Problem
	for _, b := range s.Broken {
		all = append(all, b.Problems...)
	}
	sortProblems(all)
	return all
}

func sortProblems(ps []Problem) {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Key, b.Key),
			cmp.Compare(a.Message, b.Message),
		)
	})
}

// maxProblems is how many problems of one definition are told. Each is a line in
// the kernel's log.
const maxProblems = 200

// firstProblems returns the problems of a definition, sorted, or the first of very
// many and how many more there are.
func firstProblems(ps []Problem) []Problem {
	sortProblems(ps)
	if len(ps) > maxProblems {
		rest := ps[maxProblems]
		ps = append(ps[:maxProblems:maxProblems],
			Problem{File: rest.File, Line: rest.Line, Column: rest.Column, Key: rest.Key, Message: fmt.Sprintf("from here on there are %d more problems", len(ps)-maxProblems)})
	}
	return ps
}

// quote quotes what came from a definition, shortened so that a message stays
// one readable line.
func quote(s string) string {
	const most = 80
	if len(s) <= most {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q…", strings.ToValidUTF8(s[:most], ""))
}
