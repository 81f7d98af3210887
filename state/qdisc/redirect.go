package qdisc

import (
	"context"
	"encoding/json"
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

var _ state.Restorer = Redirect{}

// redirectPriority is that of the filter, which comes before all others.
const redirectPriority = 1

// Key names the redirection by its link.
func (d Redirect) Key() state.Key { return RedirectKey(d.NS, d.Link) }

// Before tells whether there is a queueing discipline for what arrives already,
// which then stays.
func (d Redirect) Before(_ context.Context, r state.Reader) (json.RawMessage, error) {
	conn, link, err := find(r, d.NS, d.Link)
	if err != nil || link == nil {
		return nil, err
	}
	_, err = conn.Qdisc(link.Index, rtnl.QIngress)
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil, nil
	}
	return json.RawMessage("true"), err
}

// Ensure redirects. A queueing discipline for what arrives is made if there is
// none yet, and stays with the filters of others if there was. A redirection that
// has lost its device drops everything, and is replaced.
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
		if err != nil {
			return nil, err
		}
		for _, f := range filters {
			if isLost(f) {
				if err := removeFilter(conn, f); err != nil {
					return nil, err
				}
			}
		}
		if slices.ContainsFunc(filters, func(f rtnl.Filter) bool { return f.Redirect == via.Index }) {
			return nil, nil
		}
		undo = func(context.Context) error { return unredirect(conn, link.Index, via.Index) }
	} else if err != nil {
		return nil, err
	}
	if err := conn.AddFilters(filter); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", d.Link, err), undo(nil))
	}
	return undo, nil
}

// isLost reports whether a filter is like ours, and its device is gone.
func isLost(f rtnl.Filter) bool {
	return f.Redirect == rtnl.Nowhere && f.Priority == redirectPriority && takesAll(f)
}

// takesAll reports whether no packet gets past a filter. Of kinds that are not ours
// that is not known.
func takesAll(f rtnl.Filter) bool {
	return f.Kind == "u32" && f.Protocol == unix.ETH_P_ALL && f.Matches == nil
}

// unredirect removes the filters that redirect from one link to another.
func unredirect(conn *rtnl.Conn, from, to int) error {
	filters, err := conn.Filters(from, rtnl.IngressFilters)
	if err != nil {
		return err
	}
	for _, f := range filters {
		if f.Redirect == to {
			if err := removeFilter(conn, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeFilter removes a filter, which may be gone by now.
func removeFilter(conn *rtnl.Conn, f rtnl.Filter) error {
	if err := conn.DelFilter(f); err != nil && !errors.Is(err, rtnl.ErrNotFound) {
		return err
	}
	return nil
}

// Diff looks for a filter that redirects every packet, and for one before it that
// leaves it none, or sends some somewhere else.
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
	ours := slices.IndexFunc(filters, func(f rtnl.Filter) bool { return f.Redirect == via.Index && takesAll(f) })
	if ours < 0 {
		return []state.Drift{{Key: d.Key(), Field: "redirection to " + d.Via, Want: "one", Got: "none"}}, nil
	}
	for _, f := range filters[:ours] {
		got := fmt.Sprintf("behind a filter that sends packets to link %d", f.Redirect)
		switch {
		case f.Redirect == rtnl.Nowhere:
			got = "behind a filter that sends packets to a link that is gone"
		case f.Redirect == 0 && takesAll(f):
			got = "behind a filter that takes all packets"
		case f.Redirect == 0 || f.Redirect == via.Index:
			continue
		}
		return []state.Drift{{Key: d.Key(), Field: "redirection to " + d.Via, Want: "first", Got: got}}, nil
	}
	return nil, nil
}
