package route

import (
	"context"
	"errors"

	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

// NoGroups is a bridge port's having no route to the IPv6 multicast groups, for
// which it has no use: the bridge has one. The kernel gives one to every link when
// it gets its carrier, and goes through those of all links at each change of one.
//
// It may be back, after the port was down. It is not compared.
type NoGroups struct{ Port string }

var _ state.Resource = NoGroups{}

// Key names the state by the port.
func (n NoGroups) Key() state.Key {
	return state.Key{NS: state.Host, Kind: "no multicast route", Name: n.Port}
}

// Ensure deletes the route, if the kernel knows IPv6 and has made it.
func (n NoGroups) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(state.Host)
	if err != nil {
		return nil, err
	}
	port, err := conn.Known(n.Port)
	if err != nil {
		return nil, err
	}
	err = conn.DelMulticastRoute(port.Index)
	if errors.Is(err, rtnl.ErrNotFound) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	return nil, err
}

// Diff reports nothing.
func (NoGroups) Diff(context.Context, state.Reader) ([]state.Drift, error) { return nil, nil }
