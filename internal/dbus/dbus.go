// Package dbus calls methods of services on the system bus of D-Bus.
//
// It is the only one that imports godbus, and takes of it what touches neither
// the environment nor the connections that godbus shares within a process: the
// socket is dialled here, and what runs on it ends with it.
package dbus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// SystemBus is where the system bus listens.
const SystemBus = "/run/dbus/system_bus_socket"

// ErrNoBus means that there is no bus on this host.
var ErrNoBus = errors.New("there is no D-Bus system bus")

// An Error is a method's refusal.
type Error struct {
	Method string // with its interface
	Name   string // such as org.freedesktop.DBus.Error.ServiceUnknown
	Text   string
}

func (e *Error) Error() string {
	if e.Text == "" {
		return e.Method + ": " + e.Name
	}
	return e.Method + ": " + e.Text
}

// A Conn is a connection to a bus.
type Conn struct {
	ctx  context.Context
	end  func() // ends what waits for the context
	conn *dbus.Conn
}

// patience is how long a connection may be used where the context does not say.
const patience = 10 * time.Second

// Dial connects to the bus at a socket. When the context ends, so does the
// connection. The error matches ErrNoBus if nobody listens there.
func Dial(ctx context.Context, path string) (*Conn, error) {
	if err := unix.Access(path, unix.F_OK); errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(ErrNoBus, err) // a tenth of what package net takes to find out
	}
	cancel := func() {}
	if _, ok := ctx.Deadline(); !ok {
		ctx, cancel = context.WithTimeout(ctx, patience)
	}
	socket, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		cancel()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
			return nil, errors.Join(ErrNoBus, err)
		}
		return nil, fmt.Errorf("connect to D-Bus: %w", err)
	}
	// godbus heeds no context while it logs in or writes. Nothing outlasts the
	// socket.
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	c := &Conn{ctx: ctx, end: func() { stop(); cancel() }}
	if err := c.login(socket); err != nil {
		err = c.cause(err)
		return nil, fmt.Errorf("log in to D-Bus at %s: %w", path, errors.Join(err, c.Close()))
	}
	return c, nil
}

// login logs in as the user that the socket's other end sees. To godbus the
// socket is a plain stream, which carries no file descriptors.
func (c *Conn) login(socket net.Conn) error {
	var err error
	if c.conn, err = dbus.NewConn(socket); err != nil {
		return errors.Join(err, socket.Close())
	}
	if err := c.conn.Auth(nil); err != nil {
		return err
	}
	return c.conn.Hello()
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.end()
	if c.conn == nil {
		return nil
	}
	if err := c.conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// cause is why something failed: the context's end rather than the closed socket
// that follows from it.
func (c *Conn) cause(err error) error {
	if ended := context.Cause(c.ctx); ended != nil {
		return ended
	}
	return err
}

// An Object is what methods are called of: a service's object.
type Object struct{ Service, Path string }

// Call calls a method, which is named with its interface and takes and returns
// strings. The error holds an [Error] if the method refuses. A service that does
// not run is not started.
func (c *Conn) Call(o Object, method string, args ...string) (answer string, err error) {
	err = c.call(o, method, args, &answer)
	return answer, err
}

// HasOwner tells whether a service runs. It does not start it.
func (c *Conn) HasOwner(service string) (has bool, err error) {
	err = c.call(Object{"org.freedesktop.DBus", "/org/freedesktop/DBus"}, "org.freedesktop.DBus.NameHasOwner", []string{service}, &has)
	return has, err
}

func (c *Conn) call(o Object, method string, args []string, answer any) error {
	values := make([]any, len(args))
	for i, arg := range args {
		values[i] = arg
	}
	err := c.conn.Object(o.Service, dbus.ObjectPath(o.Path)).Call(method, dbus.FlagNoAutoStart, values...).Store(answer)
	var refusal dbus.Error
	if errors.As(err, &refusal) {
		e := &Error{Method: method, Name: refusal.Name}
		if len(refusal.Body) > 0 {
			e.Text, _ = refusal.Body[0].(string)
		}
		return e
	}
	if err != nil {
		return fmt.Errorf("call %s: %w", method, c.cause(err))
	}
	return nil
}
