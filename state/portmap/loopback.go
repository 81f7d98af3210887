package portmap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/internal/smallfile"
	"github.com/plumb-cni/plumb/state"
)

// A Loopback lets connections from the host's IPv6 loopback address come back
// from a container: the kernel looks for a route to ::1 only at the interface
// that an answer came in by. Packets that carry ::1 on the wire it drops before that.
type Loopback struct {
	Link string
	For  Portmap // whose mappings need it
}

var _ state.Resource = Loopback{}

// Key names the route by its link.
func (l Loopback) Key() state.Key {
	return state.Key{NS: state.Host, Kind: "route", Name: "local ::1 dev " + l.Link}
}

// Ensure adds the route.
func (l Loopback) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(state.Host)
	if err != nil {
		return nil, err
	}
	link, err := conn.Known(l.Link)
	if err != nil {
		return nil, err
	}
	err = conn.AddLoopback(link.Index)
	if errors.Is(err, rtnl.ErrExists) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.Key(), err)
	}
	return nil, nil
}

// Diff looks for the route, which mappings of the reference's do without.
func (l Loopback) Diff(ctx context.Context, r state.Reader) ([]state.Drift, error) {
	conn, err := r.Route(state.Host)
	if err != nil {
		return nil, err
	}
	link, err := conn.Known(l.Link)
	if err != nil {
		return nil, err
	}
	routes, err := conn.Routes(link.Index)
	if err != nil || slices.ContainsFunc(routes, func(r rtnl.Route) bool { return r.Dst == loopback(nftconn.IPv6) }) {
		return nil, err
	}
	theirs, err := l.For.byReference(ctx, r)
	if err != nil || theirs {
		return nil, err
	}
	return state.Missing(l.Key()), nil
}

// bridgeFilter6 is whether what bridges receive passes the packet filter before
// it is routed. It is absent where the kernel has no such filter.
const bridgeFilter6 = "/proc/sys/net/bridge/bridge-nf-call-ip6tables"

// BridgeFilter6 tells whether what the host's bridges receive of IPv6 passes the
// packet filter before it is routed. Then translation has put ::1 into an answer
// before the kernel looks whether the address may come from outside.
func BridgeFilter6(r state.Reader) (on bool, err error) {
	err = r.In(state.Host, func() error {
		data, err := smallfile.Read(bridgeFilter6)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		on = strings.TrimSpace(string(data)) == "1"
		return err
	})
	return on, err
}
