// SPDX-License-Identifier: Apache-2.0

package varlink_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/tripleo-wrappers/tripleo-wrappers/internal/varlink"
)

// readAll reads messages to the end of a stream.
func readAll(r io.Reader) (messages []string, err error) {
	reader := bufio.NewReader(r)
	for {
		message, err := varlink.ReadMessage(reader)
		if err != nil {
			return messages, err
		}
		messages = append(messages, string(message))
	}
}

func TestReadMessage(t *testing.T) {
	largest := strings.Repeat("m", varlink.MaxMessage)
	broken := errors.New("broken")
	tests := []struct {
		name   string
		stream io.Reader
		want   []string
		err    error
	}{
		{"nothing", strings.NewReader(""), nil, io.EOF},
		{"one", strings.NewReader("{}\x00"), []string{"{}"}, io.EOF},
		{"empty", strings.NewReader("\x00"), []string{""}, io.EOF},
		{"several at once", strings.NewReader("a\x00\x00bc\x00"), []string{"a", "", "bc"}, io.EOF},
		{"end within a message", strings.NewReader("a\x00b"), []string{"a"}, io.ErrUnexpectedEOF},
		{"byte by byte", iotest.OneByteReader(strings.NewReader("ab\x00cd\x00")), []string{"ab", "cd"}, io.EOF},
		{"end told with the last bytes", iotest.DataErrReader(strings.NewReader("ab\x00c")), []string{"ab"}, io.ErrUnexpectedEOF},
		{"error between messages", io.MultiReader(strings.NewReader("a\x00"), iotest.ErrReader(broken)), []string{"a"}, broken},
		{"error within a message", io.MultiReader(strings.NewReader("a\x00b"), iotest.ErrReader(broken)), []string{"a"}, broken},
		{"longer than a buffer", strings.NewReader(largest[:5000] + "\x00a\x00"), []string{largest[:5000], "a"}, io.EOF},
		{"the largest", strings.NewReader(largest + "\x00a\x00"), []string{largest, "a"}, io.EOF},
		{"too large", strings.NewReader(largest + "m\x00a\x00"), nil, varlink.ErrTooLarge},
		{"too large and without end", iotest.HalfReader(zeroless{}), nil, varlink.ErrTooLarge},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := readAll(test.stream)
			if !errors.Is(err, test.err) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			if !cmp.Equal(test.want, got) {
				t.Errorf("got %.100q, want %.100q", got, test.want)
			}
		})
	}
}

// zeroless is a stream that never ends a message.
type zeroless struct{}

func (zeroless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'm'
	}
	return len(p), nil
}

// However a stream is cut into pieces, the messages in it are the same.
func FuzzReadMessage(f *testing.F) {
	f.Add([]byte("a\x00bc\x00"), []byte{1, 2})
	f.Add([]byte("\x00\x00{}"), []byte{0, 1})
	f.Add(bytes.Repeat([]byte("long"), 2000), []byte{255})
	f.Fuzz(func(t *testing.T, stream, sizes []byte) {
		want := strings.Split(string(stream), "\x00")
		rest := want[len(want)-1]
		want = want[:len(want)-1]
		wantErr := io.EOF
		if rest != "" {
			wantErr = io.ErrUnexpectedEOF
		}
		got, err := readAll(&pieces{stream, sizes})
		if err != wantErr || strings.Join(got, "\x00") != strings.Join(want, "\x00") || len(got) != len(want) {
			t.Errorf("%q in pieces of %v: got %q, %v, want %q, %v", stream, sizes, got, err, want, wantErr)
		}
	})
}

// pieces reads a stream in pieces of given sizes, then in one.
type pieces struct{ stream, sizes []byte }

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.stream) == 0 {
		return 0, io.EOF
	}
	if len(p.sizes) > 0 {
		b = b[:min(len(b), 1+int(p.sizes[0]))]
		p.sizes = p.sizes[1:]
	}
	n := copy(b, p.stream)
	p.stream = p.stream[n:]
	return n, nil
}

// writes records what each write had.
type writes []string

func (w *writes) Write(p []byte) (int, error) {
	*w = append(*w, string(p))
	return len(p), nil
}

func TestWriteMessage(t *testing.T) {
	quoted := func(n int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat("m", n-2) + `"`) }
	var w writes
	err := varlink.WriteMessage(&w, &varlink.Call{Method: "a.b", Parameters: json.RawMessage(`{"x":1}`)})
	if want := (writes{"{\"method\":\"a.b\",\"parameters\":{\"x\":1}}\x00"}); err != nil || !cmp.Equal(want, w) {
		t.Errorf("wrote %q, want %q, error %v", w, want, err)
	}
	w = nil
	if err := varlink.WriteMessage(&w, quoted(varlink.MaxMessage)); err != nil || len(w) != 1 || len(w[0]) != varlink.MaxMessage+1 {
		t.Errorf("the largest message: %d writes, error %v", len(w), err)
	}
	w = nil
	if err := varlink.WriteMessage(&w, quoted(varlink.MaxMessage+1)); !errors.Is(err, varlink.ErrTooLarge) || len(w) > 0 {
		t.Errorf("a message too large: %d writes, error %v", len(w), err)
	}
}

// conn is a connection on which the reply is there already.
type conn struct {
	io.Reader
	writes
}

func TestDoCall(t *testing.T) {
	type result struct{ X int }
	tests := []struct {
		name, reply string
		want        result
		err         string
	}{
		{"parameters", `{"parameters":{"x":42}}` + "\x00", result{42}, ""},
		{"no parameters", "{}\x00", result{}, ""},
		{"error", `{"error":"a.b.Wrong","parameters":{"why":"so"}}` + "\x00", result{}, `a.b.Wrong {"why":"so"}`},
		{"no reply", "", result{}, "waiting for the reply: EOF"},
		{"half a reply", `{"par`, result{}, "waiting for the reply: unexpected EOF"},
		{"no JSON", "hello\x00", result{}, "reading the reply: invalid character 'h' looking for beginning of value"},
		{"other parameters", `{"parameters":{"x":"y"}}` + "\x00", result{}, "reading the reply: json: cannot unmarshal string into Go struct field result.X of type int"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := &conn{Reader: strings.NewReader(test.reply)}
			var got result
			err := varlink.DoCall(c, "a.b.Do", map[string]int{"y": 1}, &got)
			if test.err == "" && err != nil || test.err != "" && (err == nil || err.Error() != test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if want := (writes{`{"method":"a.b.Do","parameters":{"y":1}}` + "\x00"}); !cmp.Equal(want, c.writes) {
				t.Errorf("wrote %q, want %q", c.writes, want)
			}
			var remote *varlink.RemoteError
			if errors.As(err, &remote) != (test.name == "error") {
				t.Errorf("error is of type %T", err)
			}
		})
	}
}

func TestReadParameters(t *testing.T) {
	tests := []struct{ parameters, want string }{
		{"", ""},
		{"{}", ""},
		{`{"x":1,"y":{"z":["a"]}}`, ""},
		{`{"x":"1"}`, "x"},
		{`{"y":{"z":1}}`, "y.z"},
		{`{"w":1}`, "w"},
		{`[]`, "parameters"},
		{`{"x":`, "parameters"},
	}
	for _, test := range tests {
		var v struct {
			X int `json:"x"`
			Y struct {
				Z []string `json:"z"`
			} `json:"y"`
		}
		err := varlink.ReadParameters(json.RawMessage(test.parameters), &v)
		want := "<nil>"
		if test.want != "" {
			want = `org.varlink.service.InvalidParameter {"parameter":"` + test.want + `"}`
		}
		if got := errorText(err); got != want {
			t.Errorf("ReadParameters(%s): error %s, want %s", test.parameters, got, want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return "<nil>"
	}
	return err.Error()
}
