// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strconv"
	"time"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
)

// A span is the value of an option: a time span as definitions have them.
type span time.Duration

func (s *span) Set(text string) error {
	value, err := conf.ParseDuration(text)
	if err != nil {
		return err
	}
	*s = span(value)
	return nil
}

func (s *span) String() string { return time.Duration(*s).String() }
func (s *span) Type() string   { return "time" }

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
