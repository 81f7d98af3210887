package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
)

// A client gets and keeps the address of one family.
type client interface {
	acquire(ctx context.Context, p *port, hint netip.Addr) (*lease, error)
	reboot(ctx context.Context, p *port, addr netip.Addr) (*lease, error)
	renew(ctx context.Context, p *port, l *lease, rebind bool) (*lease, error)
	release(ctx context.Context, p *port, l *lease) error
}

var (
	_ client = client4{}
	_ client = client6{}
)

// An attachment is an interface whose leases are kept.
type attachment struct {
	daemon *Daemon

	// verb is held by the verb that is at work for the attachment.
	verb sync.Mutex

	mu     sync.Mutex // guards the leases of the record, and saving it
	record *record    // nil while there is none

	stop    context.CancelFunc // ends keeping; nil if nothing is kept
	keepers sync.WaitGroup
}

// A family is one of the addresses of an attachment, with how it is got.
type family struct {
	name  string
	lease **lease // in the record
	client
}

func (a *attachment) families() []family {
	var list []family
	r := a.record
	if r.Terms.IPv4 {
		list = append(list, family{"IPv4", &r.V4, client4{r, a.daemon.Broadcast}})
	}
	if r.Terms.IPv6 {
		list = append(list, family{"IPv6", &r.V6, client6{r}})
	}
	return list
}

// each calls f for all families at once and joins the errors.
func (a *attachment) each(f func(family) error) error {
	families := a.families()
	errs := make([]error, len(families))
	var wg sync.WaitGroup
	for i, family := range families {
		wg.Go(func() { errs[i] = f(family) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (a *attachment) logf(format string, args ...any) {
	a.daemon.Logf("%s: %s", a.record.Owner, fmt.Sprintf(format, args...))
}

// set puts a lease into the record.
func (a *attachment) set(f family, l *lease) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	*f.lease = l
	return a.daemon.store.save(a.record)
}

func (a *attachment) get(f family) *lease {
	a.mu.Lock()
	defer a.mu.Unlock()
	return *f.lease
}

func (a *attachment) setRecord(r *record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.record = r
}

// addresses are those that are leased.
func (a *attachment) addresses() []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.record == nil {
		return nil
	}
	return a.record.addresses()
}

// result returns what the leases say, in the form that the plugin is told.
func (a *attachment) result() (json.RawMessage, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.record.result()
}

// begin makes the record of an interface, and sets that up.
func (a *attachment) begin(r *record) error {
	k, err := state.OpenKernel(a.daemon.HostPrefix + r.NetNS)
	if err != nil {
		return err
	}
	defer k.Close()
	if _, err := k.Namespace(state.Sandbox); err != nil {
		return cni.Errorf(cni.CodeInvalidEnvironment, "the DHCP daemon finds no namespace at %s%s; if it has mounts of its own, it needs -hostprefix", a.daemon.HostPrefix, r.NetNS)
	}
	id, err := k.SandboxID()
	if err != nil {
		return err
	}
	if id != r.Sandbox {
		return cni.Errorf(cni.CodeInvalidEnvironment, "the DHCP daemon finds another namespace at %s%s than the plugin; if it has mounts of its own, it needs -hostprefix", a.daemon.HostPrefix, r.NetNS)
	}
	conn, err := k.Route(state.Sandbox)
	if err != nil {
		return err
	}
	link, err := conn.Link(r.Owner.IfName)
	if err != nil {
		return err
	}
	r.Index, r.MAC = link.Index, link.MAC
	if len(r.MAC) != 6 {
		return cni.Errorf(cni.CodeInvalidConfig, "%s is no Ethernet device, and DHCP needs one", r.Owner.IfName)
	}
	a.setRecord(r)
	p := &port{Link: link, kernel: k, conn: conn}
	return p.raise(r.Terms.IPv6)
}

// with calls f with the interface open.
func (a *attachment) with(f func(*port) error) error {
	p, err := a.daemon.open(a.record)
	if err != nil {
		return err
	}
	defer p.close()
	return f(p)
}

// acquire gets an address of each family. When one fails, all are given back.
func (a *attachment) acquire(ctx context.Context) error {
	err := a.each(func(f family) error {
		return a.daemon.persist(ctx, a.logf, func(ctx context.Context) error {
			return a.with(func(p *port) error {
				l, err := f.acquire(ctx, p, netip.Addr{})
				if err != nil {
					return err
				}
				return a.set(f, l)
			})
		})
	})
	if err != nil {
		return errors.Join(err, a.release(context.WithoutCancel(ctx)))
	}
	for _, f := range a.families() {
		l := a.get(f)
		a.logf("%s leased until %s", l.Address, l.Expire.Format(time.RFC3339))
	}
	return nil
}

// adopt takes up leases that another daemon has got.
func (a *attachment) adopt(ctx context.Context, previous []netip.Prefix) error {
	err := a.each(func(f family) error {
		for _, prefix := range previous {
			if prefix.Addr().Is4() != (f.name == "IPv4") {
				continue
			}
			ctx, cancel := context.WithTimeout(ctx, a.daemon.Timeout)
			defer cancel()
			return a.with(func(p *port) error {
				l, err := f.reboot(ctx, p, prefix.Addr())
				if err != nil {
					return err
				}
				if l.Address.Addr() != prefix.Addr() {
					return fmt.Errorf("the server gives %s instead", l.Address.Addr())
				}
				return a.set(f, l)
			})
		}
		return fmt.Errorf("prevResult has no address of %s", f.name)
	})
	if err == nil {
		a.logf("taken up")
	}
	return err
}

// release gives back what is leased, as far as the interface is still there,
// and forgets it. Only what is in the way of forgetting is an error.
func (a *attachment) release(ctx context.Context) error {
	a.end()
	if a.record == nil {
		return nil
	}
	err := a.each(func(f family) error {
		l := a.get(f)
		if l == nil || l.Lost != "" {
			return nil
		}
		return a.with(func(p *port) error {
			if err := f.release(ctx, p, l); err != nil {
				return fmt.Errorf("%s: %w", l.Address, err)
			}
			a.logf("%s released", l.Address)
			return nil
		})
	})
	if err != nil {
		a.logf("not released, the server will find out: %v", err)
	}
	owner := a.record.Owner
	a.setRecord(nil)
	return a.daemon.store.remove(owner)
}

// alive reports whether the interface is still the one that has the leases.
func (a *attachment) alive() bool {
	return a.record != nil && a.with(func(*port) error { return nil }) == nil
}

// lost says why an address is not the attachment's any more, "" if all are.
func (a *attachment) lost() string {
	for _, f := range a.families() {
		l := a.get(f)
		if l == nil {
			return "there is no lease of " + f.name
		}
		if l.Lost != "" {
			return fmt.Sprintf("%s: %s", l.Address, l.Lost)
		}
	}
	return ""
}

// keep keeps the leases in the background.
func (a *attachment) keep() {
	ctx, cancel := context.WithCancel(context.Background())
	a.stop = cancel
	for _, f := range a.families() {
		a.keepers.Go(func() {
			if err := a.maintain(ctx, f); err != nil && ctx.Err() == nil {
				a.logf("%s is not kept any longer: %v", a.get(f).Address, err)
				if errors.Is(err, errGone) {
					go a.daemon.drop(a.record.Owner) // which waits for this
				}
			}
		})
	}
}

// end stops keeping and waits for that.
func (a *attachment) end() {
	if a.stop != nil {
		a.stop()
		a.keepers.Wait()
		a.stop = nil
	}
}
