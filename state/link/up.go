package link

import (
	"context"

	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

// Up is a link's being up.
type Up struct {
	NS   state.NS
	Link string

	// Announces makes the kernel announce the link's IPv4 addresses whenever
	// it is given a hardware address or comes up, AtOnce also this time. It is
	// not compared: what becomes of it is the sandbox's business.
	Announces, AtOnce bool
}

var _ state.Resource = Up{}

// Key names the state by its link.
func (u Up) Key() state.Key { return state.Key{NS: u.NS, Kind: "up", Name: u.Link} }

// Ensure sets the link up. There is nothing to undo that the link's own
// removal does not.
func (u Up) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(u.NS)
	if err != nil {
		return nil, err
	}
	link, err := conn.Known(u.Link)
	if err != nil {
		return nil, err
	}
	change := rtnl.Change{Up: ptr(true)}
	if u.Announces {
		change.ARPNotify = ptr(true)
	}
	if u.AtOnce {
		if err := conn.SetLink(link.Index, rtnl.Change{ARPNotify: change.ARPNotify}); err != nil {
			return nil, err
		}
	}
	return nil, conn.SetLink(link.Index, change)
}

// Diff reports a link that is down.
func (u Up) Diff(_ context.Context, r state.Reader) ([]state.Drift, error) {
	l, err := look(r, u.NS, u.Link)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return state.Missing(u.Key()), nil
	}
	c := comparison{key: u.Key()}
	compare(&c, "up", true, l.Up)
	return c.drifts, nil
}
