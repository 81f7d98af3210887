package qdisc

import (
	"context"
	"errors"
	"strings"

	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
)

// Kind removes limits and redirections from links, which may outlive the
// attachment. It comes before the devices that are redirected to: a redirection
// without its device drops all that its link receives.
type Kind struct{}

var _ state.Kind = Kind{}

// Kind returns "qdisc".
func (Kind) Kind() string { return kindName }

// The second words of keys' names.
const (
	leaving  = "egress"
	arriving = "ingress"
)

// LimitKey names the limit of what leaves a link.
func LimitKey(ns state.NS, link string) state.Key {
	return state.Key{NS: ns, Kind: kindName, Name: link + " " + leaving}
}

// RedirectKey names the redirection of what arrives at a link.
func RedirectKey(ns state.NS, link string) state.Key {
	return state.Key{NS: ns, Kind: kindName, Name: link + " " + arriving}
}

// Remove removes a redirection to a device of the owner's or to none, and of the
// disciplines, which do not tell whose they are, those that our record names, or
// that show the plugin's hand. A link with another owner's tag is left alone.
func (Kind) Remove(_ context.Context, k *state.Kernel, obj state.Object, o state.Owner) error {
	name, direction, _ := strings.Cut(obj.Key.Name, " ")
	_, found, err := find(k.Reader(), obj.Key.NS, name)
	if err != nil || found == nil || state.Tagged(found.Alias) && found.Alias != o.Tag() {
		return err
	}
	conn, err := k.Route(obj.Key.NS)
	if err != nil {
		return err
	}
	if direction == arriving {
		return removeRedirect(conn, found.Index, obj, o)
	}
	return removeIf(conn, found.Index, rtnl.QRoot, func(q *rtnl.Qdisc) bool {
		return obj.Recorded && (q.Kind == "tbf" || q.Kind == "htb") || isLimit(q)
	})
}

// removeRedirect removes the owner's filters, and what they are in if it has no
// others: unless a record says that it was there before, or nothing that it was
// made for the owner.
func removeRedirect(conn *rtnl.Conn, index int, obj state.Object, o state.Owner) error {
	filters, err := conn.Filters(index, rtnl.IngressFilters)
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil // the link has gone meanwhile
	}
	if err != nil {
		return err
	}
	made, others := obj.Recorded, false
	for _, f := range filters {
		own := isLost(f)
		if f.Redirect > 0 {
			device, err := conn.LinkByIndex(f.Redirect)
			if err != nil && !errors.Is(err, rtnl.ErrNotFound) {
				return err
			}
			own = err == nil && link.IsIFBOf(o, device)
		}
		if !own {
			others = true
			continue
		}
		if err := removeFilter(conn, f); err != nil {
			return err
		}
		made = true
	}
	if !made || others || obj.Before != nil {
		return nil
	}
	return removeIf(conn, index, rtnl.QIngress, func(q *rtnl.Qdisc) bool { return q.Kind == "ingress" })
}

// removeIf removes what is at a place of a link if it still is what we put there.
func removeIf(conn *rtnl.Conn, index int, parent rtnl.QHandle, is func(*rtnl.Qdisc) bool) error {
	q, err := conn.Qdisc(index, parent)
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil
	}
	if err != nil || !is(q) {
		return err
	}
	return remove(conn, index, parent)
}

// Garbage lists the redirections to devices of the host that have an owner whose
// attachment is not valid, and the limits of the same links. A limit alone that no
// record tells of goes with its link.
func (Kind) Garbage(ctx context.Context, r state.Reader, network string, valid []state.Owner) ([]state.Found, error) {
	devices, err := link.IFBKind{}.Garbage(ctx, r, network, valid)
	if err != nil || len(devices) == 0 {
		return nil, err
	}
	conn, err := r.Route(state.Host)
	if err != nil {
		return nil, err
	}
	owners := make(map[int]state.Owner)
	names := make(map[int]string)
	links, err := conn.Links()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		names[l.Index] = l.Name
		for _, d := range devices {
			if d.Key.Name == l.Name {
				owners[l.Index] = d.Owner
			}
		}
	}
	qdiscs, err := conn.Qdiscs()
	if err != nil {
		return nil, err
	}
	var found []state.Found
	for _, q := range qdiscs {
		if q.Kind != "ingress" && q.Kind != "clsact" {
			continue
		}
		filters, err := conn.Filters(q.Index, rtnl.IngressFilters)
		if err != nil && !errors.Is(err, rtnl.ErrNotFound) {
			return nil, err
		}
		for _, f := range filters {
			if o, ok := owners[f.Redirect]; ok && names[q.Index] != "" {
				for _, key := range []state.Key{LimitKey(state.Host, names[q.Index]), RedirectKey(state.Host, names[q.Index])} {
					found = append(found, state.Found{Key: key, Owner: o})
				}
			}
		}
	}
	return found, nil
}
