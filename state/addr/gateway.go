package addr

import (
	"context"
	"errors"
	"net/netip"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

// A Gateway is the address of a subnet's router on a bridge of the host. The
// bridge has one address of IPv4, and of IPv6 one in each subnet.
type Gateway struct {
	Link   string
	Prefix netip.Prefix // the address with its subnet's length

	// Force takes away an address that is in the way, which is an error
	// otherwise.
	Force bool

	// DAD makes the address wait for duplicate address detection.
	DAD bool
}

var _ state.Resource = Gateway{}

// Key names the address and its link.
func (g Gateway) Key() state.Key {
	return Address{NS: state.Host, Link: g.Link, Prefix: g.Prefix}.Key()
}

// Ensure adds the address unless it is there. When it adds one, it fixes the
// bridge's hardware address as well: hosts are about to learn it, and one that
// was never set changes with the ports.
//
// It fails with state.CodeConflict if the bridge has another address in the
// subnet, or another link this address.
func (g Gateway) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(state.Host)
	if err != nil {
		return nil, err
	}
	bridge, err := conn.Known(g.Link)
	if err != nil {
		return nil, err
	}
	holder, err := conn.RouteTo(g.Prefix.Addr())
	if err != nil && !errors.Is(err, rtnl.ErrNotFound) {
		return nil, err
	}
	if err == nil && holder.Local && holder.Index != bridge.Index {
		return nil, cni.Errorf(state.CodeConflict, "gateway %s of bridge %s is already an address of %s; choose another gateway or subnet",
			g.Prefix.Addr(), g.Link, nameOf(conn, holder.Index))
	}
	addrs, err := conn.AddrsOf(bridge.Index, g.Prefix.Addr().Is4())
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if a.Prefix == g.Prefix {
			return nil, nil
		}
		if !g.collides(a.Prefix) {
			continue
		}
		if !g.Force {
			return nil, cni.Errorf(state.CodeConflict, `bridge %s already has the address %s, not the gateway %s; `+
				`use another bridge or subnet, or "forceAddress" to replace it`, g.Link, a.Prefix, g.Prefix)
		}
		if err := remove(conn, bridge.Index, a.Prefix); err != nil {
			return nil, err
		}
	}
	err = conn.AddAddr(bridge.Index, rtnl.Addr{Prefix: g.Prefix, NoDAD: !g.DAD})
	if err != nil && !errors.Is(err, rtnl.ErrExists) {
		return nil, refused(err, bridge, g.Prefix)
	}
	return nil, conn.SetLink(bridge.Index, rtnl.Change{MAC: bridge.MAC})
}

// collides reports whether an address of the bridge, of the gateway's family,
// excludes that.
func (g Gateway) collides(other netip.Prefix) bool {
	return other.Addr().Is4() || other.Overlaps(g.Prefix)
}

// Diff reports the address if it is missing.
func (g Gateway) Diff(ctx context.Context, r state.Reader) ([]state.Drift, error) {
	return Address{NS: state.Host, Link: g.Link, Prefix: g.Prefix}.Diff(ctx, r)
}
