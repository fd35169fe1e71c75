// SPDX-License-Identifier: Apache-2.0

package arglist_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/arglist"
)

func TestEncode(t *testing.T) {
	tests := []struct {
		entries []string
		want    string
	}{
		{nil, ""},
		{[]string{""}, "\x00"},
		{[]string{"a"}, "a\x00"},
		{[]string{"", "two words", "two\nlines", ""}, "\x00two words\x00two\nlines\x00\x00"},
		{[]string{"\xff"}, "\xff\x00"},
	}
	for _, test := range tests {
		got, err := arglist.Encode(test.entries)
		if err != nil || string(got) != test.want {
			t.Errorf("Encode(%q) = %q, %v, want %q", test.entries, got, err, test.want)
		}
		back, err := arglist.Decode(got)
		if diff := cmp.Diff(test.entries, back); diff != "" || err != nil {
			t.Errorf("Decode(%q): %v (-want +got):\n%s", got, err, diff)
		}
	}
}

func TestEncodeErrors(t *testing.T) {
	tests := map[string]struct {
		entries []string
		want    string
	}{
		"NUL":             {[]string{"a", "b\x00c"}, "entry 1 holds a NUL byte"},
		"one too large":   {[]string{strings.Repeat("a", arglist.MaxSize)}, "list is larger than 2097152 bytes"},
		"many, too large": {slices.Repeat([]string{"a"}, arglist.MaxSize/2+1), "list is larger than 2097152 bytes"},
	}
	for name, test := range tests {
		if _, err := arglist.Encode(test.entries); err == nil || err.Error() != test.want {
			t.Errorf("%s: error %v, want %s", name, err, test.want)
		}
	}
	if _, err := arglist.Encode([]string{strings.Repeat("a", arglist.MaxSize-1)}); err != nil {
		t.Errorf("the largest list: %v", err)
	}
}

// A list that was cut short must not pass for a shorter one.
func TestDecodeCutShort(t *testing.T) {
	whole, err := arglist.Encode([]string{"--pid-file=/x", "-k"})
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n < len(whole); n++ {
		if _, err := arglist.Decode(whole[:n]); err == nil && whole[n-1] != 0 {
			t.Errorf("Decode(%q) gives no error", whole[:n])
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"", "\x00", "a", "a\x00", "a\x00\x00b\x00", "\xff\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, list []byte) {
		entries, err := arglist.Decode(list)
		if err != nil {
			return
		}
		again, err := arglist.Encode(entries)
		if err != nil || string(again) != string(list) {
			t.Errorf("%q is %q, which is %q again, error %v", list, entries, again, err)
		}
	})
}

func FuzzEncode(f *testing.F) {
	f.Add("", "", "")
	f.Add("two words", "two\nlines", "\xff")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		entries := []string{a, b, c}
		list, err := arglist.Encode(entries)
		if err != nil {
			if !strings.Contains(a+b+c, "\x00") {
				t.Error(err)
			}
			return
		}
		if back, err := arglist.Decode(list); err != nil || !slices.Equal(back, entries) {
			t.Errorf("%q comes back as %q, error %v", entries, back, err)
		}
	})
}
