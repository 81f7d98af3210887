// Package resolver answers containers' queries for each other's names, and sends
// all others on to the host's servers.
//
// There is one for a host. It knows what the files of package state/dnsname say,
// listens on those addresses of the host's that containers are told to ask, and
// keeps nothing else: whoever starts it after it was killed has the same
// resolver.
package resolver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/dirlock"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/dnsname"
	"github.com/plumb-cni/plumb/state/firewall"
)

// A Resolver serves a folder.
type Resolver struct {
	folder   string
	table    *table
	upstream *upstream
	listener *net.UnixListener // of the folder's socket

	mu     sync.Mutex // of what follows, and one request after the other
	ports  map[netip.Addr]*port
	opened []netip.Addr // those that the packet filter lets pass
	ended  bool
	unlock func() // of the folder, once the resolver ends
}

// idle is how long a resolver without an entry waits for one: whoever started it
// may have been killed.
const idle = 5 * time.Second

// Serve answers, and obeys what is said to a socket that listens in the folder,
// until no entry is left or the context ends.
func Serve(ctx context.Context, folder string, listener *net.UnixListener) error {
	r := &Resolver{
		folder: folder, listener: listener,
		table: newTable(), upstream: newUpstream(), ports: make(map[netip.Addr]*port),
	}
	if err := r.resume(ctx); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	defer time.AfterFunc(idle, func() { r.endIfIdle(ctx) }).Stop()
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil { // such as that there are no descriptors left: answers go on all the same
			time.Sleep(100 * time.Millisecond)
			continue
		}
		go r.obey(ctx, conn)
	}
	r.mu.Lock() // whoever has it is done
	if r.unlock != nil {
		r.unlock()
	}
	return nil
}

// resume takes up what the folder says. What can't be served now is told when it
// is asked for.
func (r *Resolver) resume(ctx context.Context) error {
	files, err := dnsname.Files(r.folder)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, file := range files {
		if e, err := dnsname.Read(r.folder, file); err == nil {
			r.table.set(file, e)
			_ = r.listen(e)
		}
	}
	_ = r.open(ctx)
	return nil
}

// obey serves a connection to the socket. Without an answer the caller looks
// for another resolver.
func (r *Resolver) obey(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	line, err := bufio.NewReader(io.LimitReader(conn, dnsname.MaxLen)).ReadBytes('\n')
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.renew()
	answer := r.handle(ctx, line)
	if r.table.empty() {
		r.end(ctx)
	}
	if line, err = json.Marshal(answer); err == nil {
		_, _ = conn.Write(append(line, '\n'))
	}
	if r.ended {
		r.listener.Close()
	}
}

// handle does what a line asks for.
func (r *Resolver) handle(ctx context.Context, line []byte) *dnsname.Answer {
	q, answer := new(dnsname.Request), new(dnsname.Answer)
	err := json.Unmarshal(line, q)
	if err == nil && filepath.Base(q.File) != q.File {
		err = fmt.Errorf("%q is no name of a file", q.File)
	}
	switch {
	case err != nil:
	case q.Verb == dnsname.Load:
		err = r.load(ctx, q.File)
	case q.Verb == dnsname.Check:
		answer.Missing, err = r.check(ctx, q.File)
	default:
		err = fmt.Errorf("the resolver knows no verb %q", q.Verb)
	}
	if err != nil {
		answer.Code, answer.Msg = cni.AsError(err).Code, err.Error()
	}
	return answer
}

// load makes the table say what a file does. If the entry can't be served, the
// table stays as it was.
func (r *Resolver) load(ctx context.Context, file string) error {
	e, err := dnsname.Read(r.folder, file)
	if errors.Is(err, fs.ErrNotExist) {
		r.table.set(file, nil)
		r.close()
		if slices.Equal(r.opened, r.service().Addresses) {
			return nil
		}
		return r.open(ctx)
	}
	if err != nil {
		return err
	}
	if err := r.listen(e); err != nil {
		r.close()
		return err
	}
	r.table.set(file, e)
	r.close()
	return r.open(ctx)
}

// listen listens on an entry's addresses.
func (r *Resolver) listen(e *dnsname.Entry) error {
	for _, addr := range e.Servers {
		if r.ports[addr] != nil {
			continue
		}
		p, err := listen(addr, r)
		if err != nil {
			return err
		}
		r.ports[addr] = p
	}
	return nil
}

// close closes the ports that no entry needs.
func (r *Resolver) close() {
	for addr, p := range r.ports {
		if !r.table.serves(addr) {
			p.close()
			delete(r.ports, addr)
		}
	}
}

// check tells what an entry lacks to be answered by: it asks for the entry's
// first name as a container does.
func (r *Resolver) check(ctx context.Context, file string) (missing []string, err error) {
	e := r.table.entry(file)
	if e == nil {
		return []string{"entry of the resolver"}, nil
	}
	if err := r.listen(e); err != nil { // what failed when the resolver started may do by now
		missing = append(missing, err.Error())
	}
	for _, addr := range e.Servers {
		for _, network := range []string{"udp", "tcp"} {
			if err := probe(ctx, network, addr, e); err != nil {
				missing = append(missing, fmt.Sprintf("answer of %s over %s (%v)", addr, network, err))
			}
		}
	}
	closed, err := r.closed(ctx)
	return append(missing, closed...), err
}

// end ends the resolver, unless an entry has come that it was not told of yet.
// It holds the lock of the folder from then on, so that the next one starts when
// everything is gone.
func (r *Resolver) end(ctx context.Context) {
	unlock, err := dirlock.Try(r.folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// Somebody starts a resolver, and will find this one.
		time.AfterFunc(idle, func() { r.endIfIdle(ctx) })
		return
	}
	files, err := dnsname.Files(r.folder)
	if err != nil || len(files) > 0 {
		if unlock != nil {
			unlock()
		}
		for _, file := range files {
			_ = r.load(ctx, file) // its ADD is told when it asks
		}
		return
	}
	r.ended, r.unlock = true, unlock
	entries, _ := os.ReadDir(r.folder)
	for _, e := range entries {
		// The socket, the link, and what ADDs have left that were killed. One
		// that is still writing writes again.
		if strings.HasPrefix(e.Name(), ".") || e.Type()&(fs.ModeSocket|fs.ModeSymlink) != 0 {
			_ = os.Remove(filepath.Join(r.folder, e.Name()))
		}
	}
	for _, dir := range []string{r.folder, filepath.Dir(r.folder)} {
		_ = os.Remove(dir) // unless something else is in it
	}
}

func (r *Resolver) endIfIdle(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || !r.table.empty() {
		return
	}
	r.end(ctx)
	if r.ended {
		r.listener.Close()
	}
}

// service is what the host's packet filter has to let pass.
func (r *Resolver) service() firewall.Service {
	return firewall.Service{
		Name: "dns", Port: dnsname.Port,
		Addresses: slices.SortedFunc(maps.Keys(r.ports), netip.Addr.Compare),
	}
}

// open lets queries to the ports pass the host's packet filter, and no others.
func (r *Resolver) open(ctx context.Context) error {
	return r.withKernel(func(k *state.Kernel) error {
		s := r.service()
		err := s.Open(ctx, k)
		if err == nil {
			r.opened = s.Addresses
		}
		return err
	})
}

// closed tells what keeps queries from them.
func (r *Resolver) closed(ctx context.Context) (missing []string, err error) {
	err = r.withKernel(func(k *state.Kernel) (err error) {
		missing, err = r.service().Missing(ctx, k.Reader())
		return err
	})
	return missing, err
}

func (r *Resolver) withKernel(f func(*state.Kernel) error) error {
	k, err := state.OpenKernel("")
	if err != nil {
		return err
	}
	return errors.Join(f(k), k.Close())
}
