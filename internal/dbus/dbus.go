// Package dbus calls methods of services on the system bus of D-Bus.
//
// Of the protocol (dbus.freedesktop.org/doc/dbus-specification.html) it is the
// part that calling needs whose arguments and answer are strings or booleans:
// two methods of one service, from processes that live for a few milliseconds.
// Logging in takes one round trip here, and no goroutines.
package dbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// SystemBus is where the system bus listens.
const SystemBus = "/run/dbus/system_bus_socket"

// ErrNoBus means that there is no bus on this host.
var ErrNoBus = errors.New("there is no D-Bus system bus")

// An Error is a method's refusal.
type Error struct {
	Method string
	Name   string // such as org.freedesktop.DBus.Error.ServiceUnknown
	Text   string
}

func (e *Error) Error() string {
	if e.Text == "" {
		return e.Method + ": " + e.Name
	}
	return e.Method + ": " + e.Text
}

// A Conn is a connection to a bus. It is not safe for concurrent use.
type Conn struct {
	conn   net.Conn
	serial uint32
}

// patience is how long to wait for answers in all where the context does not
// say.
const patience = 10 * time.Second

// Dial connects to the bus at a socket. The error matches ErrNoBus if nobody
// listens there.
func Dial(ctx context.Context, path string) (*Conn, error) {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, errors.Join(ErrNoBus, err)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to D-Bus: %w", err)
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(patience)
	}
	c := &Conn{conn: conn}
	if err := errors.Join(conn.SetDeadline(deadline), c.introduce()); err != nil {
		return nil, fmt.Errorf("log in to D-Bus at %s: %w", path, errors.Join(err, conn.Close()))
	}
	return c, nil
}

// Close closes the connection.
func (c *Conn) Close() error { return c.conn.Close() }

// introduce logs in as the user that the socket's other end sees. What the two
// sides say after that needs no answer before the next, so it is sent at once.
func (c *Conn) introduce() error {
	user := fmt.Sprintf("%x", fmt.Sprint(os.Geteuid()))
	c.serial++
	hello := message(c.serial, Call{
		Service: "org.freedesktop.DBus", Path: "/org/freedesktop/DBus", Interface: "org.freedesktop.DBus", Method: "Hello",
	})
	if _, err := c.conn.Write(append([]byte("\x00AUTH EXTERNAL "+user+"\r\nBEGIN\r\n"), hello...)); err != nil {
		return err
	}
	var line []byte
	for !strings.HasSuffix(string(line), "\r\n") {
		b := make([]byte, 1)
		if _, err := io.ReadFull(c.conn, b); err != nil {
			return err
		}
		if line = append(line, b...); len(line) > 1024 {
			return errors.New("the bus does not speak its protocol")
		}
	}
	if !strings.HasPrefix(string(line), "OK ") {
		return fmt.Errorf("the bus refuses: %s", strings.TrimSpace(string(line)))
	}
	_, err := c.answer("Hello", c.serial)
	return err
}

// A Call is a method to be called with strings as arguments.
type Call struct {
	Service, Path, Interface, Method string
	Args                             []string
}

// Call calls a method and returns its answer: a string, which may be empty, or
// whether it is true. The error holds an [Error] if the method refuses.
func (c *Conn) Call(call Call) (Answer, error) {
	c.serial++
	if _, err := c.conn.Write(message(c.serial, call)); err != nil {
		return Answer{}, fmt.Errorf("call %s: %w", call.Method, err)
	}
	return c.answer(call.Method, c.serial)
}

// An Answer is what a method returns, as far as it is a string or a boolean.
type Answer struct {
	Text string
	True bool
}

// HasOwner tells whether a service runs. It does not start it.
func (c *Conn) HasOwner(service string) (bool, error) {
	a, err := c.Call(Call{
		Service: "org.freedesktop.DBus", Path: "/org/freedesktop/DBus", Interface: "org.freedesktop.DBus",
		Method: "NameHasOwner", Args: []string{service},
	})
	return a.True, err
}

// Types of messages.
const (
	methodCall   = 1
	methodReturn = 2
	methodError  = 3
)

// Fields of a message's header.
const (
	fieldPath        = 1
	fieldInterface   = 2
	fieldMember      = 3
	fieldErrorName   = 4
	fieldReplySerial = 5
	fieldDestination = 6
	fieldSignature   = 8
)

// headLen is the length of a message's head before the fields.
const headLen = 16

// maxMessage bounds what a message may hold, which is a few names.
const maxMessage = 1 << 20

// message encodes a call. Little-endian, version 1 of the protocol.
func message(serial uint32, call Call) []byte {
	var body []byte
	for _, arg := range call.Args {
		body = appendString(pad(body, 4), arg)
	}
	buf := []byte{'l', methodCall, 0, 1}
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(body)))
	buf = binary.LittleEndian.AppendUint32(buf, serial)
	buf = binary.LittleEndian.AppendUint32(buf, 0) // the length of the fields
	for _, f := range []struct {
		code      byte
		signature string
		value     string
	}{
		{fieldPath, "o", call.Path}, {fieldInterface, "s", call.Interface}, {fieldMember, "s", call.Method},
		{fieldDestination, "s", call.Service},
	} {
		buf = append(pad(buf, 8), f.code, 1, f.signature[0], 0)
		buf = appendString(buf, f.value)
	}
	if n := len(call.Args); n > 0 {
		buf = append(pad(buf, 8), fieldSignature, 1, 'g', 0, byte(n))
		buf = append(append(buf, strings.Repeat("s", n)...), 0)
	}
	binary.LittleEndian.PutUint32(buf[headLen-4:], uint32(len(buf)-headLen))
	return append(pad(buf, 8), body...)
}

func pad(b []byte, to int) []byte {
	for len(b)%to != 0 {
		b = append(b, 0)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
	return append(append(b, s...), 0)
}

// answer reads messages up to the answer to a call. Signals are none of ours.
func (c *Conn) answer(method string, serial uint32) (Answer, error) {
	for {
		r, err := c.read()
		if err != nil {
			return Answer{}, fmt.Errorf("answer to %s: %w", method, err)
		}
		if r.replyTo != serial {
			continue
		}
		switch r.kind {
		case methodReturn:
			return r.answer(), nil
		case methodError:
			return Answer{}, &Error{Method: method, Name: r.errorName, Text: r.answer().Text}
		}
	}
}

// A reply is a message that was received.
type reply struct {
	order     binary.ByteOrder
	kind      byte
	replyTo   uint32
	errorName string
	signature string
	body      []byte
}

func (c *Conn) read() (*reply, error) {
	head := make([]byte, headLen)
	if _, err := io.ReadFull(c.conn, head); err != nil {
		return nil, err
	}
	r := &reply{order: binary.LittleEndian, kind: head[1]}
	if head[0] == 'B' {
		r.order = binary.BigEndian
	}
	bodyLen, fieldsLen := r.order.Uint32(head[4:]), r.order.Uint32(head[12:])
	if bodyLen > maxMessage || fieldsLen > maxMessage {
		return nil, errors.New("message too long")
	}
	fields := make([]byte, (fieldsLen+7)&^7)
	r.body = make([]byte, bodyLen)
	if _, err := io.ReadFull(c.conn, fields); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c.conn, r.body); err != nil {
		return nil, err
	}
	r.fields(fields[:fieldsLen])
	return r, nil
}

// fields decodes those fields that matter. Each is a code and a variant, and
// starts at a multiple of eight.
func (r *reply) fields(b []byte) {
	for at := 0; at+4 <= len(b); at = (at + 7) &^ 7 {
		code, kind := b[at], b[at+2]
		at += 4
		switch kind {
		case 'u':
			if at+4 > len(b) {
				return
			}
			if code == fieldReplySerial {
				r.replyTo = r.order.Uint32(b[at:])
			}
			at += 4
		case 's', 'o':
			s, n, ok := r.text(b, at)
			if !ok {
				return
			}
			if code == fieldErrorName {
				r.errorName = s
			}
			at = n
		case 'g':
			if at >= len(b) || at+1+int(b[at]) > len(b) {
				return
			}
			if code == fieldSignature {
				r.signature = string(b[at+1 : at+1+int(b[at])])
			}
			at += int(b[at]) + 2
		default:
			return
		}
	}
}

// text returns the string at an offset, and the offset behind it.
func (r *reply) text(b []byte, at int) (s string, next int, ok bool) {
	if at+4 > len(b) {
		return "", 0, false
	}
	n := int(r.order.Uint32(b[at:]))
	if n < 0 || at+4+n > len(b) {
		return "", 0, false
	}
	return string(b[at+4 : at+4+n]), at + 4 + n + 1, true
}

// answer decodes the first value of the body.
func (r *reply) answer() (a Answer) {
	switch {
	case strings.HasPrefix(r.signature, "s"):
		a.Text, _, _ = r.text(r.body, 0)
	case strings.HasPrefix(r.signature, "b") && len(r.body) >= 4:
		a.True = r.order.Uint32(r.body) != 0
	}
	return a
}
