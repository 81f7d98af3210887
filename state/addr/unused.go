package addr

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

// Unused is no link of the host's having an address that a container is about
// to get. It is asked once, with nothing to compare or to undo.
type Unused struct{ Addr netip.Addr }

var _ state.Resource = Unused{}

// Key names the address.
func (u Unused) Key() state.Key {
	return state.Key{NS: state.Host, Kind: "unused address", Name: u.Addr.String()}
}

// Ensure fails with state.CodeConflict if the address is the host's own.
func (u Unused) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(state.Host)
	if err != nil {
		return nil, err
	}
	holder, err := conn.RouteTo(u.Addr)
	if errors.Is(err, rtnl.ErrNotFound) || err == nil && !holder.Local {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, cni.Errorf(state.CodeConflict, "%s is already an address of %s on the host; exclude it from the range",
		u.Addr, nameOf(conn, holder.Index))
}

// Diff reports nothing.
func (Unused) Diff(context.Context, state.Reader) ([]state.Drift, error) { return nil, nil }

// nameOf returns the name of a link for a message.
func nameOf(conn *rtnl.Conn, index int) string {
	if l, err := conn.LinkByIndex(index); err == nil {
		return l.Name
	}
	return fmt.Sprintf("link %d", index)
}
