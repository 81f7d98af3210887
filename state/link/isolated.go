package link

import (
	"context"

	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

// Isolated is a bridge port's not exchanging frames with other such ports.
type Isolated struct{ Port string }

var _ state.Resource = Isolated{}

// Key names the state by the port.
func (i Isolated) Key() state.Key {
	return state.Key{NS: state.Host, Kind: "isolated port", Name: i.Port}
}

// Ensure isolates the port.
func (i Isolated) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(state.Host)
	if err != nil {
		return nil, err
	}
	port, err := conn.Link(i.Port)
	if err != nil || port.Isolated {
		return nil, err
	}
	set := func(on bool) error { return conn.SetLink(port.Index, rtnl.Change{Isolated: &on}) }
	return func(context.Context) error { return set(false) }, set(true)
}

// Diff reports a port that is not isolated.
func (i Isolated) Diff(_ context.Context, r state.Reader) ([]state.Drift, error) {
	port, err := look(r, state.Host, i.Port)
	if err != nil {
		return nil, err
	}
	if port == nil {
		return state.Missing(i.Key()), nil
	}
	c := comparison{key: i.Key()}
	compare(&c, "isolated", true, port.Isolated)
	return c.drifts, nil
}
