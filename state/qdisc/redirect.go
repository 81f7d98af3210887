package qdisc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

// A Redirect sends all packets that arrive at a link through the queue of
// another, after which they go on where they were.
type Redirect struct {
	NS   state.NS
	Link string
	Via  string // an ifb
}

var _ state.Resource = Redirect{}

// redirectPriority is that of the filter, which comes before all others.
const redirectPriority = 1

// Key names the redirection by its link.
func (d Redirect) Key() state.Key {
	return state.Key{NS: d.NS, Kind: kindName, Name: d.Link + " ingress"}
}

// Ensure redirects. A queueing discipline for what arrives is made if there is
// none yet, and stays with the filters of others if there was.
func (d Redirect) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(d.NS)
	if err != nil {
		return nil, err
	}
	link, err := conn.Known(d.Link)
	if err != nil {
		return nil, err
	}
	via, err := conn.Known(d.Via)
	if err != nil {
		return nil, err
	}
	filter := rtnl.Filter{
		Index: link.Index, Parent: rtnl.IngressFilters, Priority: redirectPriority, Protocol: unix.ETH_P_ALL, Redirect: via.Index,
	}
	undo := func(context.Context) error { return remove(conn, link.Index, rtnl.QIngress) }
	err = conn.AddQdiscs(rtnl.Qdisc{Index: link.Index, Parent: rtnl.QIngress, Handle: rtnl.QClass(0xffff, 0), Kind: "ingress"})
	if errors.Is(err, rtnl.ErrExists) {
		filters, err := conn.Filters(link.Index, rtnl.IngressFilters)
		if err != nil || slices.ContainsFunc(filters, func(f rtnl.Filter) bool { return f.Redirect == via.Index }) {
			return nil, err
		}
		undo = func(context.Context) error { return conn.DelFilters(filter) }
	} else if err != nil {
		return nil, err
	}
	if err := conn.AddFilters(filter); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", d.Link, err), undo(nil))
	}
	return undo, nil
}

// Diff looks for a filter that redirects every packet.
func (d Redirect) Diff(_ context.Context, r state.Reader) ([]state.Drift, error) {
	conn, link, err := find(r, d.NS, d.Link)
	if err != nil {
		return nil, err
	}
	if link == nil {
		return state.Missing(d.Key()), nil
	}
	via, err := conn.Link(d.Via)
	if errors.Is(err, rtnl.ErrNotFound) {
		return state.Missing(d.Key()), nil
	}
	if err != nil {
		return nil, err
	}
	filters, err := conn.Filters(link.Index, rtnl.IngressFilters)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(filters, func(f rtnl.Filter) bool {
		return f.Redirect == via.Index && f.Protocol == unix.ETH_P_ALL && f.Matches == nil
	}) {
		return []state.Drift{{Key: d.Key(), Field: "redirection to " + d.Via, Want: "one", Got: "none"}}, nil
	}
	return nil, nil
}
