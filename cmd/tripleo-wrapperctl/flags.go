// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strconv"
)

// A lineCount is the value of an option: how many lines of the journal are
// shown.
type lineCount int

func (n *lineCount) Set(text string) error {
	value, err := strconv.ParseUint(text, 10, 31) // more is too much for journalctl, too
	if err != nil {
		return errors.New("has to be a number of lines, 0 or more")
	}
	*n = lineCount(value) // #nosec G115 -- of 31 bits
	return nil
}

func (n *lineCount) String() string { return strconv.Itoa(int(*n)) }
func (n *lineCount) Type() string   { return "number" }
