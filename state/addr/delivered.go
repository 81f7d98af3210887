package addr

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

// Delivered is the kernel's delivering what is sent to an IPv6 address of a link.
// A worker of the kernel's makes the route for that some time after the address,
// even if that is not tentative. Without it the first packet is lost.
type Delivered struct {
	NS   state.NS
	Link string
	Addr netip.Addr
}

var _ state.Resource = Delivered{}

// worker is how long to wait for the kernel's worker, usually a moment.
func worker() state.Patience {
	return state.Patience{Timeout: 10 * time.Second, Pause: 100 * time.Microsecond, Longest: 10 * time.Millisecond}
}

// Key names the state by the address and its link.
func (d Delivered) Key() state.Key {
	return state.Key{NS: d.NS, Kind: "delivered address", Name: d.Link + " " + d.Addr.String()}
}

// Ensure waits for the route, unless the link has no carrier: then there is none.
// It fails with cni.CodeTryAgain after 10 s.
func (d Delivered) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(d.NS)
	if err != nil {
		return nil, err
	}
	delivered, err := worker().Await(ctx, func() (bool, error) {
		if r, err := conn.RouteTo(d.Addr); err == nil && r.Local || err != nil && !errors.Is(err, rtnl.ErrNotFound) {
			return true, err
		}
		link, err := conn.Link(d.Link)
		return err == nil && !link.Carrier, err
	})
	if err == nil && !delivered {
		err = cni.Errorf(cni.CodeTryAgain, "the kernel has no local route to %s after %s", d.Addr, worker().Timeout)
	}
	return nil, err
}

// Diff reports nothing: the addresses are compared by themselves.
func (Delivered) Diff(context.Context, state.Reader) ([]state.Drift, error) { return nil, nil }
