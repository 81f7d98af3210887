package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/ipam/dhcp/wire"
	"github.com/plumb-cni/plumb/state"
)

// path is the socket's, as this process sees it.
func (d *Daemon) path() string {
	if d.Socket == "" {
		d.Socket = wire.DefaultSocket
	}
	return d.HostPrefix + d.Socket
}

// start takes possession of the leases of a socket.
func (d *Daemon) start(socket string) error {
	d.attachments = make(map[state.Owner]*attachment)
	d.store = store{wire.LeasesDir(socket)}
	if err := os.MkdirAll(d.store.dir, 0o700); err != nil {
		return err
	}
	var err error
	if d.boot, err = bootID(); err != nil {
		return err
	}
	d.lock, err = os.OpenFile(filepath.Join(d.store.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		d.lock.Close()
		return fmt.Errorf("another daemon serves %s: lock %s: %w", socket, d.lock.Name(), err)
	}
	return nil
}

// listen listens on the socket, also where one that was killed has left its.
func (d *Daemon) listen() (net.Listener, error) {
	path := d.path()
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("another daemon serves %s; is it the reference's, or systemd's socket? Stop it first", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o600)
}

// answer serves a connection. ADD is undone if there is nobody any more who
// would hear of it.
func (d *Daemon) answer(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A caller that says nothing does not keep the daemon from ending.
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	r := bufio.NewReader(io.LimitReader(conn, wire.MaxLen))
	line, err := r.ReadBytes('\n')
	if err != nil {
		return
	}
	go func() {
		_, _ = r.ReadByte() // nothing more comes: it returns when the caller has gone
		cancel()
	}()
	q := new(wire.Request)
	answer, err := (*wire.Answer)(nil), json.Unmarshal(line, q)
	if err == nil {
		answer, err = d.handle(ctx, q)
	}
	if err != nil {
		e := cni.AsError(err)
		answer = &wire.Answer{Code: e.Code, Msg: err.Error()}
	}
	line, err = json.Marshal(answer)
	if err == nil {
		_, err = conn.Write(append(line, '\n'))
	}
	if err != nil && q.Verb == cni.VerbAdd && answer.Code == 0 {
		d.Logf("%s: the caller has gone: %v", q.Owner, err)
		if _, err := d.del(context.Background(), q.Owner); err != nil {
			d.Logf("%s: %v", q.Owner, err)
		}
	}
}

// handle serves a request.
func (d *Daemon) handle(ctx context.Context, q *wire.Request) (*wire.Answer, error) {
	if (q.Verb == cni.VerbAdd || q.Verb == cni.VerbCheck) && !filepath.IsAbs(q.NetNS) {
		return nil, cni.Errorf(cni.CodeInvalidEnvironment, "CNI_NETNS %q is not an absolute path, which the DHCP daemon needs", q.NetNS)
	}
	switch q.Verb {
	case cni.VerbAdd:
		return d.add(ctx, q)
	case cni.VerbCheck:
		return d.check(ctx, q)
	case cni.VerbDel:
		// What was begun is finished, whoever waits for it.
		return d.del(context.WithoutCancel(ctx), q.Owner)
	case cni.VerbGC:
		return d.gc(context.WithoutCancel(ctx), q)
	case cni.VerbStatus:
		return &wire.Answer{}, nil
	case wire.VerbHeld:
		return d.held(q.Owner), nil
	}
	return nil, cni.Errorf(cni.CodeInternal, "the DHCP daemon knows no verb %q", q.Verb)
}

// held is the verb wire.VerbHeld.
func (d *Daemon) held(o state.Owner) *wire.Answer {
	d.mu.Lock()
	a := d.attachments[o]
	d.mu.Unlock()
	if a == nil {
		return &wire.Answer{}
	}
	return &wire.Answer{Addresses: a.addresses()}
}
