// SPDX-License-Identifier: Apache-2.0

// Package arglist is the form in which argument lists and environments lie in
// files: each entry followed by a NUL byte, as in /proc/PID/cmdline. No entry
// can hold a NUL byte, so nothing is ever quoted.
package arglist

import (
	"errors"
	"fmt"
	"strings"
)

// MaxSize is the size of the largest list, in bytes. The kernel takes no more
// than a quarter of the stack's limit, 2 MiB by default (execve(2)).
const MaxSize = 2 << 20

// Encode returns the list's bytes. An entry that holds a NUL byte is an error,
// and so is a list of more than MaxSize bytes.
func Encode(entries []string) ([]byte, error) {
	var b strings.Builder
	for i, entry := range entries {
		if strings.IndexByte(entry, 0) >= 0 {
			return nil, fmt.Errorf("entry %d holds a NUL byte", i)
		}
		b.WriteString(entry)
		b.WriteByte(0)
	}
	if b.Len() > MaxSize {
		return nil, fmt.Errorf("list is larger than %d bytes", MaxSize)
	}
	return []byte(b.String()), nil
}

// Decode returns the entries of a list. Bytes that do not end in NUL are an
// error: the list was cut short.
func Decode(list []byte) ([]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	text, ok := strings.CutSuffix(string(list), "\x00")
	if !ok {
		return nil, errors.New("list does not end in a NUL byte")
	}
	return strings.Split(text, "\x00"), nil
}
