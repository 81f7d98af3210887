package addr

import (
	"context"
	"time"

	"github.com/plumb-cni/plumb/cni"
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
	return state.Patience{Timeout: 5 * time.Second, Pause: 20 * time.Millisecond, Longest: 20 * time.Millisecond}
}

// Key names the state by its link.
func (s Settled) Key() state.Key {
	return state.Key{NS: s.NS, Kind: "settled addresses", Name: s.Link}
}

// Ensure waits until no address is tentative. It fails with state.CodeConflict
// if another host has one of them, and with cni.CodeTryAgain after 5 s.
func (s Settled) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	settled, err := detection().Await(ctx, func() (bool, error) {
		found, err := find(k.Reader(), s.NS, s.Link)
		if err != nil {
			return false, err
		}
		tentative := false
		for _, a := range found {
			if a.DADFailed {
				return false, cni.Errorf(state.CodeConflict, "another host has address %s already", a.Prefix)
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

// Diff reports nothing: the addresses are compared by themselves.
func (s Settled) Diff(context.Context, state.Reader) ([]state.Drift, error) { return nil, nil }
