package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/internal/smallfile"
	"github.com/plumb-cni/plumb/state"
)

// errGone means that the interface of an attachment is not there any more.
var errGone = errors.New("the interface is gone")

// A port is the interface of an attachment, open for as long as messages are
// exchanged: no namespace is kept alive by the daemon.
type port struct {
	*rtnl.Link
	kernel *state.Kernel
	conn   *rtnl.Conn
}

func (p *port) close() { p.kernel.Close() }

// open opens the interface of a record. The error matches errGone if the
// namespace is not the one that it was, or has no such interface.
func (d *Daemon) open(r *record) (*port, error) {
	k, err := state.OpenKernel(d.HostPrefix + r.NetNS)
	if err != nil {
		return nil, err
	}
	p := &port{kernel: k}
	if err := p.find(r); err != nil {
		k.Close()
		return nil, err
	}
	return p, nil
}

func (p *port) find(r *record) error {
	id, err := p.kernel.SandboxID()
	if errors.Is(err, state.ErrNoSandbox) {
		return fmt.Errorf("namespace %s: %w: %w", r.NetNS, errGone, err)
	}
	if err != nil {
		return err
	}
	if id != r.Sandbox {
		return fmt.Errorf("namespace %s is another one by now: %w", r.NetNS, errGone)
	}
	if p.conn, err = p.kernel.Route(state.Sandbox); err != nil {
		return err
	}
	p.Link, err = p.conn.LinkByIndex(r.Index)
	if errors.Is(err, rtnl.ErrNotFound) {
		return fmt.Errorf("%s: %w", r.Owner.IfName, errGone)
	}
	if err != nil {
		return err
	}
	// Indexes are not used again in a namespace. Where the kernel has no
	// cookie, which tells that it is the same one, the hardware address does.
	if id.Cookie == 0 && p.MAC.String() != r.MAC.String() {
		return fmt.Errorf("%s has another hardware address: %w", r.Owner.IfName, errGone)
	}
	return nil
}

// raise sets the interface up, over which a server is to be asked. That
// happens before the plugin has set what holds for IPv6, so duplicate address
// detection is off for the first link-local address: it would delay the
// question by more than a second.
func (p *port) raise(ipv6 bool) error {
	if p.Up {
		return nil
	}
	if ipv6 {
		err := p.kernel.In(state.Sandbox, func() error {
			conf := "/proc/sys/net/ipv6/conf/" + p.Name + "/"
			for _, s := range [][2]string{{"disable_ipv6", "0"}, {"accept_dad", "0"}} {
				if err := smallfile.Write(conf+s[0], []byte(s[1])); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := p.conn.SetLink(p.Index, rtnl.Change{Up: new(true)}); err != nil {
		return err
	}
	p.Up = true
	return nil
}

// linkLocal waits for the interface's link-local address to be usable.
func (p *port) linkLocal(ctx context.Context) (netip.Addr, error) {
	for {
		addrs, err := p.conn.Addrs(p.Index)
		if err != nil {
			return netip.Addr{}, err
		}
		for _, a := range addrs {
			if ip := a.Prefix.Addr(); ip.Is6() && ip.IsLinkLocalUnicast() && !a.Tentative && !a.DADFailed {
				return ip, nil
			}
		}
		select {
		case <-ctx.Done():
			return netip.Addr{}, fmt.Errorf("%s has no usable link-local address: %w", p.Name, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// withdrawn is what withdraw took away.
type withdrawn struct {
	addr   rtnl.Addr
	routes []rtnl.Route
}

// withdraw takes an address from the interface that is not the container's any
// more, nil if it isn't there. The kernel removes routes with it.
func (p *port) withdraw(addr netip.Addr) (*withdrawn, error) {
	addrs, err := p.conn.Addrs(p.Index)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(addrs, func(a rtnl.Addr) bool { return a.Prefix.Addr() == addr })
	if i < 0 {
		return nil, nil
	}
	w := &withdrawn{addr: addrs[i]}
	routes, err := p.conn.Routes(p.Index)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if r.Dst.Addr().Is4() == addr.Is4() && !r.Local {
			w.routes = append(w.routes, r)
		}
	}
	return w, p.conn.DelAddr(p.Index, addrs[i].Prefix)
}

// restore gives back what withdraw took.
func (p *port) restore(w *withdrawn) error {
	if w == nil {
		return nil
	}
	if err := p.conn.AddAddr(p.Index, w.addr); err != nil && !errors.Is(err, rtnl.ErrExists) {
		return err
	}
	// A gateway has to be reachable before a route leads to it.
	slices.SortStableFunc(w.routes, func(a, b rtnl.Route) int {
		switch {
		case a.Gateway.IsValid() == b.Gateway.IsValid():
			return 0
		case b.Gateway.IsValid():
			return -1
		}
		return 1
	})
	var errs []error
	for _, r := range w.routes {
		if err := p.conn.AddRoute(r); err != nil && !errors.Is(err, rtnl.ErrExists) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
