// Package route is the state of routes.
package route

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

// Scopes of IPv4 routes (linux/rtnetlink.h). 0 is everywhere.
const (
	ScopeLink = 253
	ScopeHost = 254
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
	Table    int        // optional: 0 makes it in the main table, whence a later plugin may move it
	Priority int        // optional
	MTU      int        // optional
	AdvMSS   int        // optional
	OnLink   bool       // the gateway is behind the link, whatever the routes say

	// Sole means that the destination has no other route, as befits a
	// container's address.
	Sole bool
}

var _ state.Extended = Route{}

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

// Common is the route without an MTU and MSS, which the reference passes over.
func (r Route) Common() state.Resource {
	r.MTU, r.AdvMSS = 0, 0
	return r
}

// Ensure adds the route beside others to the same destination.
//
// An attribute that the kernel has no room for fails with cni.CodeInvalidConfig.
//
// A sole route waits for one that goes with its link, because that link's
// namespace is just being freed, and fails with state.CodeConflict if it stays.
// A gateway that can't be reached fails with cni.CodeInvalidConfig.
func (r Route) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(r.NS)
	if err != nil {
		return nil, err
	}
	link, err := conn.Known(r.Link)
	if err != nil {
		return nil, err
	}
	if err := r.fits(); err != nil {
		return nil, err
	}
	spec := r.spec(link.Index)
	if r.Sole {
		err = addSole(ctx, k, conn, spec)
	} else {
		err = conn.AddRouteBeside(spec)
	}
	if errors.Is(err, rtnl.ErrExists) {
		return nil, nil
	}
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return nil, cni.Errorf(cni.CodeInvalidConfig, "%s: %w; the gateway has to be within a subnet of the interface", r.Link, err)
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

// fits fails if an attribute is more than the kernel's messages hold, which would
// be another one there.
func (r Route) fits() error {
	for _, a := range []struct {
		name        string
		value, most int64
	}{
		{"scope", int64(r.Scope), math.MaxUint8},
		{"table", int64(r.Table), math.MaxUint32},
		{"priority", int64(r.Priority), math.MaxUint32},
		{"mtu", int64(r.MTU), math.MaxUint32},
		{"advmss", int64(r.AdvMSS), math.MaxUint32},
	} {
		if a.value > a.most {
			return cni.Errorf(cni.CodeInvalidConfig, "route to %s: %s %d is more than %d, the highest that there is", r.Dst, a.name, a.value, a.most)
		}
	}
	return nil
}

// dying is how long to wait for the kernel's freeing a namespace, and the links
// to it. Many that are freed at once take it more than a second.
func dying() state.Patience {
	return state.Patience{Timeout: 10 * time.Second, Pause: 10 * time.Millisecond, Longest: 10 * time.Millisecond}
}

// doubt is how long to wait for it where nothing tells that the link is one that
// is to go.
const doubt = time.Second

// addSole adds a route to a destination that has no other.
func addSole(ctx context.Context, k *state.Kernel, conn *rtnl.Conn, spec rtnl.Route) error {
	var held *rtnl.Link // as last seen
	begun := time.Now()
	added, err := dying().Await(ctx, func() (bool, error) {
		err := conn.AddRoute(spec)
		if !errors.Is(err, rtnl.ErrExists) {
			return err == nil, err
		}
		held, err = holder(conn, spec.Dst.Addr())
		if held == nil || err != nil {
			return false, err
		}
		if held.Index == spec.Index {
			return true, nil
		}
		if k.Alive == nil || !state.Tagged(held.Alias) {
			if time.Since(begun) > doubt {
				err = taken(spec, held)
			}
			return false, err
		}
		alive, err := k.Alive(held.Alias)
		if alive {
			err = taken(spec, held)
		}
		return false, err
	})
	if err == nil && !added {
		err = taken(spec, held)
	}
	return err
}

// holder returns the link by which packets to an address leave, or nil if its
// route or itself has gone just now.
func holder(conn *rtnl.Conn, dst netip.Addr) (*rtnl.Link, error) {
	r, err := conn.RouteTo(dst)
	if err == nil {
		var l *rtnl.Link
		if l, err = conn.LinkByIndex(r.Index); err == nil {
			return l, nil
		}
	}
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil, nil
	}
	return nil, err
}

// taken is the error of a destination that another link has, unknown if nil.
func taken(spec rtnl.Route, held *rtnl.Link) error {
	where := "another link"
	if held != nil {
		where = held.Name
		if o, ok := state.ParseTag(held.Alias); ok {
			where += " (" + o.String() + ")"
		}
	}
	return cni.Errorf(state.CodeConflict, "%s is routed to %s already; choose another address, or delete what has this one",
		spec.Dst, where)
}

// Diff looks for a route with the destination, and with the gateway, table,
// priority, MTU and MSS as far as they are set.
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
	if err != nil && !errors.Is(err, rtnl.ErrNotFound) { // gone since
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
