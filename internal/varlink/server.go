// SPDX-License-Identifier: Apache-2.0

package varlink

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// How long a client may take to send a whole message and to take a whole
// reply. Both are on the same host: anything slower is not honest.
const (
	readTimeout  = 5 * time.Second
	writeTimeout = 5 * time.Second
)

// A Method serves one call. The parameters are what the caller sent, which may
// be empty or no JSON object at all; ReadParameters turns them into a value.
// What it returns is marshalled into the reply's parameters; an *Error becomes
// that error reply.
type Method func(ctx context.Context, conn *net.UnixConn, parameters json.RawMessage) (any, error)

// An Interface is a Varlink interface: its name, its definition in the Varlink
// interface definition language, and its methods without the interface's name.
type Interface struct {
	Name        string
	Description string
	Methods     map[string]Method
}

// A Service is what answers on a socket.
type Service struct {
	Vendor, Product, Version, URL string
	Interface                     Interface
	// Room bounds the messages of all connections together; nil for no bound.
	Room *Room
	// Refused is told of each call of a method that there is not, or with
	// parameters that are wrong; nil for nobody.
	Refused func(conn *net.UnixConn, err error)
	// Internal makes an error reply of an error that a method returned and
	// that is no *Error.
	Internal func(error) *Error
}

// A Room is how many bytes of messages may be held at a time, until they are
// answered. The beginning of a message, as long as most are altogether, needs
// none: connections that hold large ones keep nobody else from being served.
type Room struct {
	left atomic.Int64
}

// NewRoom returns room for so many bytes.
func NewRoom(bytes int64) *Room {
	r := &Room{}
	r.left.Store(bytes)
	return r
}

// take says whether there is room for n bytes more, and takes it.
func (r *Room) take(n int) bool {
	if r == nil {
		return true
	}
	if r.left.Add(-int64(n)) < 0 {
		r.left.Add(int64(n))
		return false
	}
	return true
}

func (r *Room) giveBack(n int) {
	if r != nil {
		r.left.Add(int64(n))
	}
}

// serviceInterface is the interface that each Varlink service has. Its
// definition is the specification's.
const serviceInterface = "org.varlink.service"

const serviceDescription = `# The Varlink Service Interface is provided by every varlink service. It
# describes the service and the interfaces it implements.
interface org.varlink.service

# Get a list of all the interfaces a service provides and information
# about the implementation.
method GetInfo() -> (
  vendor: string,
  product: string,
  version: string,
  url: string,
  interfaces: []string
)

# Get the description of an interface that is implemented by this service.
method GetInterfaceDescription(interface: string) -> (description: string)

# The requested interface was not found.
error InterfaceNotFound (interface: string)

# The requested method was not found
error MethodNotFound (method: string)

# The interface defines the requested method, but the service does not
# implement it.
error MethodNotImplemented (method: string)

# One of the passed parameters is invalid.
error InvalidParameter (parameter: string)

# Client is denied access
error PermissionDenied ()

# Method is expected to be called with 'more' set to true, but wasn't
error ExpectedMore ()
`

// Unfit says whether an error is one of that interface: the call is none that the
// service could serve.
func Unfit(err error) bool {
	var answer *Error
	return errors.As(err, &answer) && strings.HasPrefix(answer.Name, serviceInterface+".")
}

// InvalidParameter is the error for a parameter that is missing or wrong.
func InvalidParameter(name string) *Error {
	return &Error{serviceInterface + ".InvalidParameter", map[string]string{"parameter": name}}
}

// ReadParameters reads a call's parameters into the struct that v points at.
// Unknown parameters are an error, as the specification has it.
func ReadParameters(parameters json.RawMessage, v any) error {
	if len(parameters) == 0 {
		parameters = json.RawMessage("{}")
	}
	decoder := json.NewDecoder(bytes.NewReader(parameters))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		name := "parameters"
		var typeError *json.UnmarshalTypeError
		if errors.As(err, &typeError) && typeError.Field != "" {
			name = typeError.Field
		} else if _, unknown, found := strings.Cut(err.Error(), "unknown field "); found {
			name = strings.Trim(unknown, `"`)
		}
		return InvalidParameter(name)
	}
	return nil
}

// ServeConn answers the calls of one connection, one after the other, until
// the client closes it, ctx is done, or the client breaks the protocol: too
// slow, too large, no JSON. What it broke is told to the client, as far as it
// still reads, and returned. A message that there is no room for (ErrBusy) ends it
// without an answer, after which a client asks again. The caller closes the connection.
func (s *Service) ServeConn(ctx context.Context, conn *net.UnixConn) error {
	// When there is no more serving to do, a connection without a call under
	// way must not hold things up until its deadline.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) }) // fails if closed
	defer stop()
	var reader *bufio.Reader
	for ctx.Err() == nil {
		if reader == nil {
			reader = bufio.NewReader(conn)
		}
		if more, err := s.serveCall(ctx, conn, &reader); !more {
			return err
		}
	}
	return nil
}

// serveCall answers one call. It says whether there may be more, and else why
// not, unless that is as it should be. A thousand calls may wait to be answered
// at a time, and what a call was read with is of no use meanwhile: the reader
// becomes nil where it holds nothing of the next one.
func (s *Service) serveCall(ctx context.Context, conn *net.UnixConn, reader **bufio.Reader) (more bool, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(readTimeout)); err != nil {
		return false, err
	}
	taken := 0
	defer func() { s.Room.giveBack(taken) }()
	message, err := readMessage(*reader, func(n int) bool {
		ok := s.Room.take(n)
		if ok {
			taken += n
		}
		return ok
	})
	if errors.Is(err, io.EOF) || gone(err) || ctx.Err() != nil {
		return false, nil
	}
	if errors.Is(err, ErrBusy) {
		return false, err
	}
	if err != nil {
		s.Refuse(conn, err)
		return false, err
	}
	var call Call
	if err := json.Unmarshal(message, &call); err != nil {
		err := errors.New("message is not a Varlink call: " + err.Error())
		s.Refuse(conn, err)
		return false, err
	}
	if (*reader).Buffered() == 0 {
		*reader = nil
	}
	oneway := call.Oneway // after which nothing holds on to the call
	result, err := s.dispatch(ctx, conn, call.Method, call.Parameters)
	if s.Refused != nil && Unfit(err) {
		s.Refused(conn, err)
	}
	if err != nil && ctx.Err() != nil {
		// Cut short, which is no answer: a client whose connection breaks
		// without one knows to ask again.
		return false, nil
	}
	if oneway {
		return true, nil
	}
	if err := s.reply(conn, result, err); err != nil {
		if gone(err) {
			err = nil
		}
		return false, err
	}
	return true, nil
}

// gone says whether an error is that of a client that has closed the connection
// before it read its reply, as one does that is killed.
func gone(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// Refuse answers whatever the client sends, or has begun to send, with an
// error. The caller closes the connection.
func (s *Service) Refuse(conn *net.UnixConn, err error) {
	// The client may be gone; there is nobody else to tell.
	_ = s.reply(conn, nil, err)
	// Closing a socket with unread input resets it, and the reply with it.
	_ = conn.CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = io.CopyN(io.Discard, conn, 4*MaxMessage)
}

func (s *Service) reply(conn *net.UnixConn, result any, err error) error {
	var reply Reply
	parameters := result
	if err != nil {
		var named *Error
		if !errors.As(err, &named) {
			named = s.Internal(err)
		}
		reply.Error, parameters = named.Name, named.Parameters
	}
	if parameters == nil {
		parameters = struct{}{}
	}
	text, err := json.Marshal(parameters)
	if err != nil {
		return err
	}
	reply.Parameters = text
	if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return WriteMessage(conn, &reply)
}

func (s *Service) dispatch(ctx context.Context, conn *net.UnixConn, method string, parameters json.RawMessage) (any, error) {
	dot := strings.LastIndexByte(method, '.')
	if dot < 0 {
		return nil, InvalidParameter("method")
	}
	switch interfaceName, name := method[:dot], method[dot+1:]; interfaceName {
	case s.Interface.Name:
		if serve, ok := s.Interface.Methods[name]; ok {
			return serve(ctx, conn, parameters)
		}
	case serviceInterface:
		switch name {
		case "GetInfo":
			return s.info(), nil
		case "GetInterfaceDescription":
			return s.describe(parameters)
		}
	default:
		return nil, &Error{serviceInterface + ".InterfaceNotFound", map[string]string{"interface": interfaceName}}
	}
	return nil, &Error{serviceInterface + ".MethodNotFound", map[string]string{"method": method}}
}

func (s *Service) info() any {
	interfaces := []string{serviceInterface, s.Interface.Name}
	slices.Sort(interfaces)
	return map[string]any{
		"vendor": s.Vendor, "product": s.Product, "version": s.Version, "url": s.URL,
		"interfaces": interfaces,
	}
}

func (s *Service) describe(parameters json.RawMessage) (any, error) {
	var request struct {
		Interface string `json:"interface"`
	}
	if err := ReadParameters(parameters, &request); err != nil {
		return nil, err
	}
	switch request.Interface {
	case serviceInterface:
		return map[string]string{"description": serviceDescription}, nil
	case s.Interface.Name:
		return map[string]string{"description": s.Interface.Description}, nil
	}
	return nil, &Error{serviceInterface + ".InterfaceNotFound", map[string]string{"interface": request.Interface}}
}
