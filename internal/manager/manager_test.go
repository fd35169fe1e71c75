// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	godbus "github.com/godbus/dbus/v5"
)

// Patience is that of a command with systemd, however often that is asked.
func TestPatience(t *testing.T) {
	dir := t.TempDir()
	defer func(p, b string) { private, booted = p, b }(private, booted)
	private, booted = "unix:path="+dir+"/none", dir
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", private)
	m := &Manager{Patience: time.Second}
	ask := func() time.Duration {
		began := time.Now()
		if _, err := m.State(context.Background(), "a.service"); err == nil || !strings.Contains(err.Error(), "connecting to the system bus: ") {
			t.Errorf("error %v", err)
		}
		return time.Since(began)
	}
	if took := ask(); took < m.Patience {
		t.Errorf("given up after %v", took)
	}
	if took := ask(); took >= m.Patience {
		t.Errorf("asked again, it took %v", took)
	}

	booted = dir + "/none"
	m = &Manager{}
	if _, err := m.State(context.Background(), "a.service"); err == nil || !strings.Contains(err.Error(), "systemd does not run here: there is no "+booted) {
		t.Errorf("where there is no systemd: error %v", err)
	}
}

// Of all that systemd tells, only the ends of jobs are kept until somebody reads
// them, in order, and nothing waits with a goroutine of its own.
func TestJobEnds(t *testing.T) {
	const jobs = 500
	handler := jobEnds{godbus.NewSequentialSignalHandler().(sequential)}
	ends := make(chan *godbus.Signal)
	handler.AddSignal(ends)
	before := runtime.NumGoroutine()
	for i := range uint32(jobs) {
		handler.DeliverSignal(managerName+".Manager", "JobNew", &godbus.Signal{})
		handler.DeliverSignal("org.freedesktop.DBus.Properties", "PropertiesChanged", &godbus.Signal{})
		handler.DeliverSignal(managerName+".Manager", "JobRemoved", &godbus.Signal{Body: []any{i}})
	}
	if more := runtime.NumGoroutine() - before; more > 0 {
		t.Errorf("there are %d goroutines more", more)
	}
	for i := range uint32(jobs) {
		select {
		case end := <-ends:
			if len(end.Body) != 1 || end.Body[0] != i {
				t.Fatalf("signal %d is %v", i, end.Body)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%d of %d ends of jobs came", i, jobs)
		}
	}
	handler.Terminate()
	if end, open := <-ends; open {
		t.Errorf("another signal: %v", end)
	}
}

// So does the connection to systemd, while an answer of systemd's is waited for: the
// end of the job may come before it, and is not lost.
func TestConnectionKeepsJobEnds(t *testing.T) {
	for _, way := range []string{"private", "bus"} {
		t.Run(way, func(t *testing.T) { testConnectionKeepsJobEnds(t, way) })
	}
}

// testConnectionKeepsJobEnds has systemd listen only on the private socket or only on
// the system bus.
func testConnectionKeepsJobEnds(t *testing.T, way string) {
	const jobs = 500
	dir := t.TempDir()
	defer func(p string) { private = p }(private)
	private = "unix:path=" + dir + "/private"
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+dir+"/bus")
	listener, err := net.Listen("unix", dir+"/"+way)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	more, served := 0, make(chan error, 1)
	go func() {
		systemd, err := listener.Accept()
		if err == nil {
			t.Cleanup(func() { _ = systemd.Close() }) // a client whose connection is lost reads no more
			more, err = serveStart(systemd, jobs)
		}
		served <- err
	}()

	m := &Manager{}
	defer m.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := m.connection(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan string, 1)
	_, err = conn.StartUnitContext(ctx, "a.service", "replace", ended)
	if servedErr := <-served; err != nil || servedErr != nil {
		t.Fatalf("starting a unit: error %v, systemd's %v", err, servedErr)
	}
	if more > 10 {
		t.Errorf("%d signals while systemd's answer was waited for left %d goroutines more", 3*jobs, more)
	}
	select {
	case how := <-ended:
		if how != "done" {
			t.Errorf("the job ended as %q", how)
		}
	case <-ctx.Done():
		t.Error("the end of the job did not come")
	}
}

// serveStart is systemd for one client that has a unit started. Before it answers, it
// tells of so many other jobs, and then of the end of this one. It returns how many
// goroutines there are more when the client has read all that.
func serveStart(conn net.Conn, jobs int) (more int, err error) {
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return 0, err
	}
	in := bufio.NewReader(conn)
	if err := authenticate(in, conn); err != nil {
		return 0, err
	}
	signal := func(name string, body ...any) error {
		return send(conn, godbus.TypeSignal, map[godbus.HeaderField]any{
			godbus.FieldPath: godbus.ObjectPath(managerPath), godbus.FieldInterface: managerName + ".Manager", godbus.FieldMember: name,
		}, body...)
	}
	path := func(job int) godbus.ObjectPath { return godbus.ObjectPath(fmt.Sprintf("%s/job/%d", managerPath, job)) }
	for {
		call, err := godbus.DecodeMessage(in)
		if err != nil {
			return 0, err
		}
		answer := map[godbus.HeaderField]any{godbus.FieldReplySerial: call.Serial()}
		if call.Headers[godbus.FieldMember].Value() != "StartUnit" {
			if err := send(conn, godbus.TypeMethodReply, answer, ":1.0"); err != nil { // a bus says so to Hello
				return 0, err
			}
			continue
		}
		before := runtime.NumGoroutine()
		for job := range jobs + 1 {
			for _, name := range []string{"JobNew", "UnitNew"} {
				if err := signal(name, uint32(job), path(job), "a.service"); err != nil {
					return 0, err
				}
			}
			if err := signal("JobRemoved", uint32(job), path(job), "a.service", "done"); err != nil {
				return 0, err
			}
		}
		// What answers this has read all that came before it.
		err = send(conn, godbus.TypeMethodCall, map[godbus.HeaderField]any{
			godbus.FieldPath: godbus.ObjectPath("/"), godbus.FieldInterface: "org.freedesktop.DBus.Peer", godbus.FieldMember: "Ping",
		})
		if err != nil {
			return 0, err
		}
		if _, err := godbus.DecodeMessage(in); err != nil {
			return 0, err
		}
		more = runtime.NumGoroutine() - before
		return more, send(conn, godbus.TypeMethodReply, answer, path(jobs))
	}
}

// authenticate has any client in, up to the end of that part of the protocol
// (https://dbus.freedesktop.org/doc/dbus-specification.html#auth-protocol).
func authenticate(in *bufio.Reader, out io.Writer) error {
	if _, err := in.ReadByte(); err != nil {
		return err
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		answer := "ERROR"
		switch {
		case word == "BEGIN":
			return nil
		case word == "AUTH" && rest == "":
			answer = "REJECTED EXTERNAL"
		case word == "AUTH":
			answer = "DATA"
		case word == "DATA":
			answer = "OK 0"
		}
		if _, err := io.WriteString(out, answer+"\r\n"); err != nil {
			return err
		}
	}
}

func send(out io.Writer, kind godbus.Type, headers map[godbus.HeaderField]any, body ...any) error {
	message := &godbus.Message{Type: kind, Headers: map[godbus.HeaderField]godbus.Variant{}, Body: body}
	for field, value := range headers {
		message.Headers[field] = godbus.MakeVariant(value)
	}
	if len(body) > 0 {
		message.Headers[godbus.FieldSignature] = godbus.MakeVariant(godbus.SignatureOf(body...))
	}
	return message.EncodeTo(out, binary.LittleEndian)
}
