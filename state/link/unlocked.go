package link

import (
	"context"

	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

// Unlocked is a bridge port's taking frames of its container, once that is
// configured. What the container's kernel sends while its interface comes up, to
// join multicast groups and to find duplicates, would go to all other ports, each
// of which takes some microseconds.
//
// What becomes of the port later is not compared.
type Unlocked struct{ Port string }

var _ state.Resource = Unlocked{}

// Key names the state by the port.
func (u Unlocked) Key() state.Key {
	return state.Key{NS: state.Host, Kind: "unlocked port", Name: u.Port}
}

// Ensure unlocks the port.
func (u Unlocked) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(state.Host)
	if err != nil {
		return nil, err
	}
	port, err := conn.Known(u.Port)
	if err != nil {
		return nil, err
	}
	return nil, conn.SetLink(port.Index, rtnl.Change{Locked: ptr(false)})
}

// Diff reports nothing.
func (Unlocked) Diff(context.Context, state.Reader) ([]state.Drift, error) { return nil, nil }
