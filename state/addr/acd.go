package addr

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/arp"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

// Unclaimed is no host on a link's network having one of some IPv4 addresses,
// before the link gets them (RFC 5227). It is an action, with nothing to
// compare or to undo.
type Unclaimed struct {
	NS    state.NS
	Link  string // up
	Addrs []netip.Addr

	// Port is the link's other end on the host if that is a bridge's port.
	Port string
}

var _ state.Resource = Unclaimed{}

// RFC 5227 section 1.1 waits for 4 to 9 seconds, since it is for networks of
// any size in which all hosts may start at once. A container's neighbours
// answer within milliseconds, and whoever starts it waits. So the number of
// probes is the RFC's, and the whole takes 300 ms.
const (
	probes        = 3
	probeInterval = 100 * time.Millisecond // also after the last
)

// Key names the state by its link.
func (u Unclaimed) Key() state.Key {
	return state.Key{NS: u.NS, Kind: "unclaimed addresses", Name: u.Link}
}

// Ensure asks for all addresses at a time. It fails with state.CodeConflict if
// somebody has one of them or is just asking for it himself, and with
// cni.CodeTryAgain if the link has no carrier within 10 s.
func (u Unclaimed) Ensure(ctx context.Context, k *state.Kernel) (_ state.Undo, err error) {
	link, err := u.ready(ctx, k)
	if err != nil {
		return nil, err
	}
	ns, err := k.Namespace(u.NS)
	if err != nil {
		return nil, err
	}
	conn, err := arp.Dial(ns, link.Index, link.MAC)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	for range probes {
		for _, a := range u.Addrs {
			if err := conn.Probe(a); err != nil {
				return nil, err
			}
		}
		claim, err := conn.Claims(u.Addrs, time.Now().Add(probeInterval))
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if claim != nil {
			return nil, cni.Errorf(state.CodeConflict, "%s is in use by %s on this network; exclude it from the range, or remove that host",
				claim.Addr, claim.MAC)
		}
	}
	return nil, nil
}

// ready waits until the link can send.
func (u Unclaimed) ready(ctx context.Context, k *state.Kernel) (*rtnl.Link, error) {
	conn, err := k.Route(u.NS)
	if err != nil {
		return nil, err
	}
	link, err := await(ctx, conn, u.Link, func(l *rtnl.Link) bool { return l.Running })
	if err != nil {
		return nil, err
	}
	return link, awaitPort(ctx, k, u.Port)
}

// Diff reports nothing.
func (Unclaimed) Diff(context.Context, state.Reader) ([]state.Drift, error) { return nil, nil }
