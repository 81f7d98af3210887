package addr

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/ndp"
	"github.com/plumb-cni/plumb/state"
)

// Settled is a link's IPv6 addresses having passed duplicate address detection.
// Ensure waits for it.
type Settled struct {
	NS   state.NS
	Link string
}

var _ state.Resource = Settled{}

// detection is how long to wait. It takes a second with the default of one
// probe (RFC 4862 section 5.1); give up after a few.
func detection() state.Patience {
	return state.Patience{Timeout: 10 * time.Second, Pause: 20 * time.Millisecond, Longest: 20 * time.Millisecond}
}

// Key names the state by its link.
func (s Settled) Key() state.Key {
	return state.Key{NS: s.NS, Kind: "settled addresses", Name: s.Link}
}

// Ensure waits until no address is tentative. It fails with state.CodeConflict
// if another host has one of them, and with cni.CodeTryAgain after 10 s.
func (s Settled) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	settled, err := detection().Await(ctx, func() (bool, error) {
		found, err := find(k.Reader(), s.NS, s.Link)
		if err != nil {
			return false, err
		}
		tentative := false
		for _, a := range found {
			if a.DADFailed {
				return false, s.conflict(k, a.Prefix.Addr())
			}
			tentative = tentative || a.Tentative
		}
		return !tentative, nil
	})
	if err == nil && !settled {
		err = cni.Errorf(cni.CodeTryAgain, "addresses of %s are still tentative after %s", s.Link, detection().Timeout)
	}
	return nil, err
}

// conflict is the error of an address that another host has, which is named if it
// still answers.
func (s Settled) conflict(k *state.Kernel, a netip.Addr) error {
	who := "another host"
	if mac := s.holder(k, a); mac != nil {
		who = mac.String()
	}
	return cni.Errorf(state.CodeConflict, "%s is in use by %s on this network; exclude it from the range, or remove that host", a, who)
}

// holder asks who has an address, nil if that can't be found out.
func (s Settled) holder(k *state.Kernel, a netip.Addr) net.HardwareAddr {
	ns, err := k.Namespace(s.NS)
	if err != nil {
		return nil
	}
	conn, err := k.Route(s.NS)
	if err != nil {
		return nil
	}
	link, err := conn.Known(s.Link)
	if err != nil {
		return nil
	}
	mac, err := ndp.Holder(ns, link.Index, link.MAC, a)
	if err != nil {
		return nil
	}
	return mac
}

// Diff reports nothing: the addresses are compared by themselves.
func (s Settled) Diff(context.Context, state.Reader) ([]state.Drift, error) { return nil, nil }
