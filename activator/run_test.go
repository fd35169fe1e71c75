// SPDX-License-Identifier: Apache-2.0

package activator

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/protocol"
)

// What a command writes is kept byte for byte, up to what a reply can hold.
func TestOutput(t *testing.T) {
	tests := []struct {
		name    string
		content []byte
		tooMuch bool
	}{
		{"nothing", nil, false},
		{"bytes", []byte("\x00\xff\n"), false},
		{"all that fits", bytes.Repeat([]byte("x"), protocol.MaxOutput), false},
		{"one more", bytes.Repeat([]byte("x"), protocol.MaxOutput+1), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			o, err := newOutput("standard output", cancel)
			if err != nil {
				t.Fatal(err)
			}
			defer o.close()
			// As the command does, whose end of the pipe has to block.
			fd, err := unix.Dup(o.writer)
			if err != nil {
				t.Fatal(err)
			}
			command := os.NewFile(uintptr(fd), "command")
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
				t.Errorf("flags %#x, error %v", flags, err)
			}
			if _, err := command.Write(test.content); err != nil {
				t.Fatal(err)
			}
			command.Close()
			got, err := o.rest()
			if test.tooMuch {
				if !errors.Is(err, errTooMuch) || !errors.Is(context.Cause(ctx), errTooMuch) {
					t.Errorf("error %v, cause %v", err, context.Cause(ctx))
				}
				return
			}
			if err != nil || !bytes.Equal(got, test.content) || ctx.Err() != nil {
				t.Errorf("%d bytes, error %v, cause %v", len(got), err, context.Cause(ctx))
			}
		})
	}
}

// A process that outlives its command and holds its output does not hold us.
func TestOutputHeld(t *testing.T) {
	_, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	o, err := newOutput("standard error", cancel)
	if err != nil {
		t.Fatal(err)
	}
	held, err := unix.Dup(o.writer)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(held)
	o.close()
	if !errors.Is(o.err, os.ErrDeadlineExceeded) {
		t.Errorf("error %v", o.err)
	}
}
