package addr

import (
	"context"
	"net/netip"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

// Announced is the neighbours' knowing the addresses of a link: whoever had one
// of them before may have had another hardware address. It is an action, with
// nothing to compare or to undo.
//
// The kernel sends the announcements (RFC 5227 section 3, RFC 4861 section
// 7.2.6): it does whenever a link is given a hardware address, be it the one
// that it has, if the sysctls arp_notify and ndisc_notify are set. A packet
// socket of our own would cost a grace period of RCU to close.
type Announced struct {
	NS   state.NS
	Link string

	// Port is the link's other end on the host if that is a bridge's port,
	// which drops what it is sent until it has noticed the carrier.
	Port string

	// Stacked tells that the link has its carrier from another, which may
	// have none: then there is nobody to tell.
	Stacked bool

	// Fresh are the addresses, if nobody has had any of them before. Then
	// there is nobody to tell, unless the host remembers one as a neighbour's
	// on its link Router. That spares a bridge from sending every
	// announcement to each of its ports.
	Fresh  []netip.Addr
	Router string
}

var _ state.Resource = Announced{}

// carrier is how long to wait for the kernel's noticing a carrier after both
// ends have come up, usually a moment.
func carrier() state.Patience {
	return state.Patience{Timeout: 10 * time.Second, Pause: 100 * time.Microsecond, Longest: 10 * time.Millisecond}
}

// Key names the state by its link.
func (a Announced) Key() state.Key {
	return state.Key{NS: a.NS, Kind: "announced addresses", Name: a.Link}
}

// Ensure waits for the carrier and has the kernel announce the addresses. It
// fails with cni.CodeTryAgain if there is none within 10 s.
func (a Announced) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(a.NS)
	if err != nil {
		return nil, err
	}
	if a.Stacked {
		below, err := conn.Link(a.Link)
		if err != nil || !below.Carrier {
			return nil, err
		}
	}
	// Only with the carrier the kernel gives the link the route by which
	// IPv6 announcements leave.
	link, err := await(ctx, conn, a.Link, func(l *rtnl.Link) bool { return l.Running })
	if err != nil {
		return nil, err
	}
	if err := awaitPort(ctx, k, a.Port); err != nil {
		return nil, err
	}
	if needless, err := a.needless(k); needless || err != nil {
		return nil, err
	}
	return nil, conn.SetLink(link.Index, rtnl.Change{MAC: link.MAC})
}

// needless reports whether there is nobody to tell.
func (a Announced) needless(k *state.Kernel) (bool, error) {
	if len(a.Fresh) == 0 {
		return false, nil
	}
	host, err := k.Route(state.Host)
	if err != nil {
		return false, err
	}
	router, err := host.Known(a.Router)
	if err != nil {
		return false, err
	}
	for _, ip := range a.Fresh {
		if known, err := host.HasNeighbour(router.Index, ip); known || err != nil {
			return false, err
		}
	}
	return true, nil
}

// awaitPort looks at a bridge's port, if there is one, until it has noticed its
// carrier. It forwards then, or spanning tree has its say first, for some 30 s.
func awaitPort(ctx context.Context, k *state.Kernel, port string) error {
	if port == "" {
		return nil
	}
	host, err := k.Route(state.Host)
	if err != nil {
		return err
	}
	_, err = await(ctx, host, port, func(l *rtnl.Link) bool { return l.PortState != rtnl.PortDisabled })
	return err
}

// await looks at a link until it is as wanted.
func await(ctx context.Context, conn *rtnl.Conn, name string, wanted func(*rtnl.Link) bool) (l *rtnl.Link, err error) {
	so, err := carrier().Await(ctx, func() (bool, error) {
		l, err = conn.Link(name)
		return err == nil && wanted(l), err
	})
	if err == nil && !so {
		err = cni.Errorf(cni.CodeTryAgain, "%s has no carrier after %s", name, carrier().Timeout)
	}
	return l, err
}

// Diff reports nothing.
func (Announced) Diff(context.Context, state.Reader) ([]state.Drift, error) { return nil, nil }
