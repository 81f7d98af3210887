// Package route is the state of routes.
package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
)

// Scopes of IPv4 routes (linux/rtnetlink.h).
const (
	ScopeUniverse = 0
	ScopeLink     = 253
	ScopeHost     = 254
)

// A Route is an entry of a routing table by which packets leave over a link.
// The zero value of an optional field is the kernel's default and is not
// compared.
type Route struct {
	NS       state.NS
	Link     string
	Dst      netip.Prefix
	Gateway  netip.Addr // optional
	Src      netip.Addr // optional: preferred source
	Scope    int        // of IPv4
	Table    int        // optional: 0 is the main table
	Priority int        // optional
	MTU      int        // optional
	AdvMSS   int        // optional
	OnLink   bool       // the gateway is behind the link, whatever the routes say

	// TakeOver replaces a route to the same destination that the veth of
	// another attachment holds: an allocator that hands out an address vouches for
	// the former holder's being gone.
	TakeOver bool
}

var _ state.Resource = Route{}

// From returns the route that a result describes, in the sandbox. A route
// without a gateway of its own uses the given one, which may be none.
func From(r cni.Route, link string, gateway netip.Addr) Route {
	if r.GW.IsValid() {
		gateway = r.GW
	}
	out := Route{
		NS: state.Sandbox, Link: link, Dst: r.Dst, Gateway: gateway,
		Priority: r.Priority, MTU: r.MTU, AdvMSS: r.AdvMSS,
	}
	if r.Table != nil {
		out.Table = *r.Table
	}
	if r.Scope != nil {
		out.Scope = *r.Scope
	}
	return out
}

// Key names the route by destination, table and priority.
func (r Route) Key() state.Key {
	return state.Key{NS: r.NS, Kind: "route", Name: r.spec(0).String() + " dev " + r.Link}
}

func (r Route) spec(index int) rtnl.Route {
	return rtnl.Route{
		Index: index, Dst: r.Dst, Gateway: r.Gateway, Src: r.Src, Scope: r.Scope,
		Table: r.Table, Priority: r.Priority, MTU: r.MTU, AdvMSS: r.AdvMSS, OnLink: r.OnLink,
	}
}

// Ensure adds the route beside others to the same destination.
//
// With TakeOver it fails with plugin code 100 if the destination is routed to
// a link that is not an attachment's.
func (r Route) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(r.NS)
	if err != nil {
		return nil, err
	}
	link, err := conn.Known(r.Link)
	if err != nil {
		return nil, err
	}
	spec := r.spec(link.Index)
	if r.TakeOver {
		err = takeOver(conn, spec)
	} else {
		err = conn.AddRouteBeside(spec)
	}
	if errors.Is(err, rtnl.ErrExists) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Link, err)
	}
	return func(context.Context) error {
		if err := conn.DelRoute(spec); err != nil && !errors.Is(err, rtnl.ErrNotFound) {
			return err
		}
		return nil
	}, nil
}

// takeOver adds a route, or puts it in the place of an attachment's.
func takeOver(conn *rtnl.Conn, spec rtnl.Route) error {
	err := conn.AddRoute(spec)
	if !errors.Is(err, rtnl.ErrExists) {
		return err
	}
	holder, err := conn.RouteTo(spec.Dst.Addr())
	if err != nil && !errors.Is(err, rtnl.ErrNotFound) {
		return err
	}
	if err == nil && holder.Index != spec.Index {
		held, err := conn.LinkByIndex(holder.Index)
		if err == nil && !state.Tagged(held.Alias) && !link.ReferenceName(held.Name) {
			return cni.Errorf(state.CodeConflict, "%s is routed to %s already; remove that route or exclude the address from the range",
				spec.Dst, held.Name)
		}
	}
	return conn.ReplaceRoute(spec)
}

// Diff looks for a route with the destination, table and priority, and with
// those of the other fields that are set.
func (r Route) Diff(_ context.Context, rd state.Reader) ([]state.Drift, error) {
	conn, err := rd.Route(r.NS)
	if errors.Is(err, state.ErrNoSandbox) {
		return state.Missing(r.Key()), nil
	}
	if err != nil {
		return nil, err
	}
	link, err := conn.Known(r.Link)
	if errors.Is(err, rtnl.ErrNotFound) {
		return state.Missing(r.Key()), nil
	}
	if err != nil {
		return nil, err
	}
	routes, err := conn.Routes(link.Index)
	if err != nil {
		return nil, err
	}
	for _, got := range routes {
		if r.matches(got) {
			return nil, nil
		}
	}
	return state.Missing(r.Key()), nil
}

func (r Route) matches(got rtnl.Route) bool {
	return got.Dst == r.Dst.Masked() && set(r.Table, got.Table) &&
		set(r.Gateway, got.Gateway) && set(r.Priority, got.Priority) &&
		set(r.MTU, got.MTU) && set(r.AdvMSS, got.AdvMSS)
}

// set reports whether a field is unmanaged or as wanted.
func set[T comparable](want, got T) bool {
	var unset T
	return want == unset || want == got
}
