// Package daemon keeps the leases of containers: it asks DHCP servers on their
// networks for addresses, renews these as long as the interfaces are there, and
// gives them back. What it knows is on disk, so that it can be killed and
// started again.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/ipam/dhcp/wire"
	"github.com/plumb-cni/plumb/state"
)

// A Daemon serves the dhcp plugin. Its exported fields are what its flags say.
type Daemon struct {
	// Socket is where it listens; "" is wire.DefaultSocket. HostPrefix is
	// put before it, and before the paths of namespaces.
	Socket     string
	HostPrefix string

	// Broadcast has DHCPv4 servers answer by broadcast.
	Broadcast bool

	// Timeout bounds an attempt to get or prolong a lease, ResendMax the
	// pause between two attempts, and ResendTimeout all of them that an ADD
	// waits for.
	Timeout       time.Duration
	ResendMax     time.Duration
	ResendTimeout time.Duration

	// Logf is told what becomes of leases.
	Logf func(format string, args ...any)

	store store
	boot  string
	lock  *os.File

	mu          sync.Mutex
	attachments map[state.Owner]*attachment
	calls       sync.WaitGroup
}

// Defaults of the flags.
const (
	DefaultTimeout       = 10 * time.Second
	DefaultResendMax     = 62 * time.Second
	DefaultResendTimeout = 208 * time.Second
)

// errNoMoreTries ends an ADD that no server answers.
var errNoMoreTries = errors.New("the time for it is over (-resendtimeout)")

// Serve serves on a listener, or, if that is nil, on the socket, until the
// context ends. Leases stay on disk and are taken up by the next Serve.
func (d *Daemon) Serve(ctx context.Context, listener net.Listener) error {
	socket := d.path()
	if listener != nil {
		socket = listener.Addr().String()
	}
	if err := d.start(socket); err != nil {
		return err
	}
	defer d.lock.Close()
	if listener == nil {
		var err error
		if listener, err = d.listen(); err != nil {
			return err
		}
	}
	if err := d.resume(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil { // such as that there are no descriptors left: leases are kept all the same
			d.Logf("%v", err)
			_ = sleep(ctx, minPause)
			continue
		}
		d.calls.Go(func() { d.answer(ctx, conn) })
	}
	d.calls.Wait()
	for _, o := range d.known("") {
		a, letGo := d.hold(o)
		a.end()
		letGo()
	}
	return nil
}

// resume takes up the leases of a daemon before this one.
func (d *Daemon) resume() error {
	records, err := d.store.load(d.boot)
	if err != nil {
		return err
	}
	for _, r := range records {
		a := &attachment{daemon: d, record: r}
		if err := a.with(func(*port) error { return nil }); errors.Is(err, errGone) {
			a.logf("dropped: %v", err)
			if err := d.store.remove(r.Owner); err != nil {
				return err
			}
			continue
		}
		if what := a.lost(); (r.Terms.IPv4 && r.V4 == nil) || (r.Terms.IPv6 && r.V6 == nil) {
			// Its ADD was under way and has failed since.
			a.logf("dropped: %s", what)
			if err := a.release(context.Background()); err != nil {
				return err
			}
			continue
		}
		a.logf("taken up again: %v", r.addresses())
		d.mu.Lock() // of those before some may be dropped by now
		d.attachments[r.Owner] = a
		d.mu.Unlock()
		a.keep()
	}
	return nil
}

// hold returns the attachment of an owner, made if need be, for one verb alone,
// and what ends that. Then an attachment without leases is forgotten.
func (d *Daemon) hold(o state.Owner) (a *attachment, letGo func()) {
	for {
		d.mu.Lock()
		a := d.attachments[o]
		if a == nil {
			a = &attachment{daemon: d}
			d.attachments[o] = a
		}
		d.mu.Unlock()
		a.verb.Lock()
		d.mu.Lock()
		current := d.attachments[o] == a
		d.mu.Unlock()
		if !current { // forgotten while this waited
			a.verb.Unlock()
			continue
		}
		return a, func() {
			if a.record == nil {
				d.mu.Lock()
				delete(d.attachments, o)
				d.mu.Unlock()
			}
			a.verb.Unlock()
		}
	}
}

// known returns the owners of the attachments of a network, of all if it is
// empty.
func (d *Daemon) known(network string) []state.Owner {
	d.mu.Lock()
	defer d.mu.Unlock()
	var owners []state.Owner
	for o := range d.attachments {
		if network == "" || o.Network == network {
			owners = append(owners, o)
		}
	}
	return owners
}

// drop forgets an attachment whose interface is gone.
func (d *Daemon) drop(owner state.Owner) {
	a, letGo := d.hold(owner)
	defer letGo()
	if a.record == nil || a.alive() {
		return
	}
	if err := a.release(context.Background()); err != nil {
		d.Logf("%s: %v", owner, err)
	}
}

// persist makes attempts until one succeeds, at most for as long as
// ResendTimeout.
func (d *Daemon) persist(ctx context.Context, logf func(string, ...any), attempt func(context.Context) error) error {
	whole, cancel := context.WithTimeoutCause(ctx, d.ResendTimeout, errNoMoreTries)
	defer cancel()
	for pause := minPause; ; pause = min(2*pause, d.ResendMax) {
		once, cancel := context.WithTimeout(whole, d.Timeout)
		err := attempt(once)
		cancel()
		if err == nil || errors.Is(err, errGone) {
			return err
		}
		if whole.Err() == nil {
			logf("%v; trying again", err)
			if sleep(whole, jitter(pause)) == nil {
				continue
			}
		}
		if cause := context.Cause(whole); !errors.Is(err, cause) { // it ended in a pause
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return cni.Errorf(cni.CodeTryAgain, "%w", err).WithDetails("is there a server on that network, with an address to give?")
	}
}

// add is the verb ADD.
func (d *Daemon) add(ctx context.Context, q *wire.Request) (*wire.Answer, error) {
	a, letGo := d.hold(q.Owner)
	defer letGo()
	same := a.record != nil && a.record.Sandbox == q.Sandbox && reflect.DeepEqual(a.record.Terms, q.Terms)
	if !same || !a.alive() || a.lost() != "" {
		if err := a.release(ctx); err != nil {
			return nil, err
		}
		if err := a.begin(d.newRecord(q)); err != nil {
			return nil, err
		}
		if err := a.acquire(ctx); err != nil {
			return nil, err
		}
		a.keep()
	}
	result, err := a.result()
	if err != nil {
		return nil, errors.Join(err, a.release(ctx))
	}
	return &wire.Answer{Result: result}, nil
}

func (d *Daemon) newRecord(q *wire.Request) *record {
	return &record{Boot: d.boot, Owner: q.Owner, NetNS: q.NetNS, Sandbox: q.Sandbox, Terms: q.Terms}
}

// check is the verb CHECK.
func (d *Daemon) check(ctx context.Context, q *wire.Request) (*wire.Answer, error) {
	a, letGo := d.hold(q.Owner)
	defer letGo()
	if a.record == nil {
		err := a.begin(d.newRecord(q))
		if err == nil {
			err = a.adopt(ctx, q.Previous)
		}
		if err != nil {
			a.setRecord(nil)
			return nil, cni.Errorf(state.CodeDrift, "no lease is held, and none could be taken up: %w", errors.Join(err, d.store.remove(q.Owner)))
		}
		a.keep()
	}
	if !a.alive() {
		return nil, cni.Errorf(state.CodeDrift, "the leases are of another interface than there is now")
	}
	if why := a.lost(); why != "" {
		return nil, cni.Errorf(state.CodeDrift, "the lease is lost: %s", why)
	}
	held := a.addresses()
	for _, p := range q.Previous {
		found := false
		for _, h := range held {
			found = found || h == p.Addr()
		}
		if !found {
			return nil, cni.Errorf(state.CodeDrift, "%s of prevResult is not leased; leased are %v", p.Addr(), held)
		}
	}
	return &wire.Answer{}, nil
}

// del is the verb DEL.
func (d *Daemon) del(ctx context.Context, o state.Owner) (*wire.Answer, error) {
	a, letGo := d.hold(o)
	defer letGo()
	answer := &wire.Answer{Addresses: a.addresses()}
	if err := a.release(ctx); err != nil {
		return nil, err
	}
	return answer, nil
}

// gc is the verb GC.
func (d *Daemon) gc(ctx context.Context, q *wire.Request) (*wire.Answer, error) {
	valid := make(map[state.Owner]bool)
	for _, v := range q.Valid {
		valid[state.Owner{Network: q.Owner.Network, ContainerID: v.ContainerID, IfName: v.IfName}] = true
	}
	answer := new(wire.Answer)
	var errs []error
	for _, o := range d.known(q.Owner.Network) {
		if valid[o] {
			continue
		}
		released, err := d.del(ctx, o)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", o, err))
			continue
		}
		answer.Addresses = append(answer.Addresses, released.Addresses...)
	}
	return answer, errors.Join(errs...)
}
