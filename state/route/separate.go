package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

// Separate is the routes of a link of the sandbox being in tables of its own, one
// for each of its addresses, in the place of the main table.
type Separate struct {
	Link    string
	Sources []Source

	// Hints leaves the routes but the default ones in the main table as well,
	// with the address as the source of what has none yet.
	Hints bool
}

// A Source is an address, with its subnet's length, and the table for what it
// sends.
type Source struct {
	Address netip.Prefix
	Gateway netip.Addr // optional: of a default route that there is to be
	Table   int
}

var _ state.Resource = Separate{}

// Key names the routes by the link.
func (s Separate) Key() state.Key {
	tables := make([]string, len(s.Sources))
	for i, source := range s.Sources {
		tables[i] = fmt.Sprint(source.Table)
	}
	return state.Key{NS: state.Sandbox, Kind: "routes", Name: s.Link + " in tables " + strings.Join(tables, ",")}
}

// Ensure copies every route of the link in the main table to the tables of the
// addresses that it serves, adds the default ones, and only then takes them out
// of the main table, but for those of IPv6 between link-local addresses.
//
// It fails with cni.CodeInvalidConfig if a gateway can't be reached.
func (s Separate) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(state.Sandbox)
	if err != nil {
		return nil, err
	}
	link, err := conn.Known(s.Link)
	if err != nil {
		return nil, err
	}
	all, err := conn.SaveRoutes(link.Index)
	if err != nil {
		return nil, err
	}
	var undos []func() error
	undo := func(context.Context) error {
		var errs []error
		for _, u := range slices.Backward(undos) {
			errs = append(errs, u())
		}
		return errors.Join(errs...)
	}
	undos, err = s.separate(conn, link.Index, inOrder(all))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", s.Link, err), undo(nil))
	}
	return undo, nil
}

// inOrder returns the routes of the main table, those first by which the gateways
// of others are reached.
func inOrder(all []rtnl.SavedRoute) []rtnl.SavedRoute {
	var routes []rtnl.SavedRoute
	for _, direct := range []bool{true, false} {
		for _, r := range all {
			if r.Table == unix.RT_TABLE_MAIN && direct != r.Gateway.IsValid() {
				routes = append(routes, r)
			}
		}
	}
	return routes
}

// separate does it, and returns how to take back what it did also when it fails.
func (s Separate) separate(conn *rtnl.Conn, index int, routes []rtnl.SavedRoute) (undos []func() error, err error) {
	add := func(r rtnl.SavedRoute) error {
		err := conn.RestoreRoute(r)
		if err == nil {
			undos = append(undos, func() error { return ignore(conn.DropRoute(r), rtnl.ErrNotFound) })
		}
		return ignore(err, rtnl.ErrExists)
	}
	for _, source := range s.Sources {
		for _, r := range routes {
			if s.serves(r, source) {
				r.Table = source.Table
				if err := add(r); err != nil {
					return undos, err
				}
			}
		}
		if source.Gateway.IsValid() {
			if err := add(rtnl.SavedRoute{Route: source.defaultRoute(index)}); err != nil {
				return undos, reachable(err)
			}
		}
	}
	for _, r := range routes {
		if r.Dst.Addr().IsLinkLocalUnicast() && r.Dst.Addr().Is6() {
			continue
		}
		if err := ignore(conn.DropRoute(r), rtnl.ErrNotFound); err != nil {
			return undos, err
		}
		undos = append(undos, func() error { return ignore(conn.RestoreRoute(r), rtnl.ErrExists) })
		if hinted, ok := s.hinted(r); ok {
			if err := add(hinted); err != nil {
				return undos, err
			}
		}
	}
	return undos, nil
}

// reachable says what to do about a gateway that isn't.
func reachable(err error) error {
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return cni.Errorf(cni.CodeInvalidConfig, "%w; the gateway has to be within a subnet of the interface", err)
	}
	return err
}

func (s Source) defaultRoute(index int) rtnl.Route {
	dst := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	if s.Address.Addr().Is4() {
		dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return rtnl.Route{Index: index, Dst: dst, Gateway: s.Gateway, Table: s.Table}
}

// serves reports whether a route is one for packets from a source. What names an
// address or a gateway within the subnet of one source is for those alone whose
// subnet that is.
func (s Separate) serves(r rtnl.SavedRoute, source Source) bool {
	if r.Dst.Addr().Is4() != source.Address.Addr().Is4() {
		return false
	}
	for _, a := range []netip.Addr{r.Src, r.Gateway} {
		if within := source.Address.Contains(a); within {
			return true
		}
		if slices.ContainsFunc(s.Sources, func(other Source) bool { return other.Address.Contains(a) }) {
			return false
		}
	}
	return true
}

// hinted returns the route that stays in the main table, if one does.
func (s Separate) hinted(r rtnl.SavedRoute) (rtnl.SavedRoute, bool) {
	if !s.Hints || r.Dst.Bits() == 0 {
		return r, false
	}
	for _, source := range s.Sources {
		if s.serves(r, source) {
			if !r.Src.IsValid() {
				r.Src = source.Address.Addr()
			}
			return r, true
		}
	}
	return r, false
}

// ignore returns an error unless it matches one that does no harm.
func ignore(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

// Diff looks for the route to the subnet of each source, for its default route,
// and for the one to a gateway that a subnet is behind, in its table.
func (s Separate) Diff(_ context.Context, r state.Reader) ([]state.Drift, error) {
	conn, err := r.Route(state.Sandbox)
	if errors.Is(err, state.ErrNoSandbox) {
		return state.Missing(s.Key()), nil
	}
	if err != nil {
		return nil, err
	}
	link, err := conn.Link(s.Link)
	if errors.Is(err, rtnl.ErrNotFound) {
		return state.Missing(s.Key()), nil
	}
	if err != nil {
		return nil, err
	}
	routes, err := conn.Routes(link.Index)
	if err != nil {
		return nil, err
	}
	var drifts []state.Drift
	for _, source := range s.Sources {
		var wanted []Route
		if subnet := source.Address.Masked(); source.Address.Bits() < source.Address.Addr().BitLen() {
			wanted = append(wanted, Route{Dst: subnet})
			for _, got := range routes {
				if got.Table == source.Table && got.Dst == subnet && subnet.Contains(got.Gateway) && !got.OnLink {
					wanted = append(wanted, Route{Dst: netip.PrefixFrom(got.Gateway, got.Gateway.BitLen())})
				}
			}
		}
		if source.Gateway.IsValid() {
			wanted = append(wanted, Route{Dst: source.defaultRoute(0).Dst, Gateway: source.Gateway})
		}
		for _, want := range wanted {
			want.NS, want.Link, want.Table = state.Sandbox, s.Link, source.Table
			if !slices.ContainsFunc(routes, want.matches) {
				drifts = append(drifts, state.Missing(want.Key())...)
			}
		}
	}
	return drifts, nil
}
