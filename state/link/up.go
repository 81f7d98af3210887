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
	return nil, conn.SetLink(link.Index, rtnl.Change{Up: ptr(true)})
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
