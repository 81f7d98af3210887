package qdisc

import (
	"context"
	"errors"

	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
)

// Orphans are the devices of the reference that no link sends packets through
// any more: its attachment's link went without a DEL. They carry no tag, so that
// their network is not known, but nor do they serve anybody.
type Orphans struct{}

var _ state.Kind = Orphans{}

const orphanKindName = "orphaned ifb"

// Kind returns "orphaned ifb".
func (Orphans) Kind() string { return orphanKindName }

// Remove deletes a device if it is still an orphan. It is only ever found.
func (Orphans) Remove(_ context.Context, k *state.Kernel, obj state.Object, _ state.Owner) error {
	conn, err := k.Route(state.Host)
	if err != nil {
		return err
	}
	names, err := orphans(conn)
	if err != nil {
		return err
	}
	device, ok := names[obj.Key.Name]
	if !ok {
		return nil
	}
	return k.RemoveLink(state.Host, device.Index, false)
}

// Garbage lists the orphans of the host.
func (Orphans) Garbage(_ context.Context, r state.Reader, network string, valid []state.Owner) ([]state.Found, error) {
	conn, err := r.Route(state.Host)
	if err != nil {
		return nil, err
	}
	names, err := orphans(conn)
	if err != nil {
		return nil, err
	}
	for _, o := range valid {
		delete(names, link.ReferenceIFBName(o)) // CHECK is to report it
	}
	var found []state.Found
	for name := range names {
		found = append(found, state.Found{
			Key:   state.Key{NS: state.Host, Kind: orphanKindName, Name: name},
			Owner: state.Owner{Network: network},
		})
	}
	return found, nil
}

// orphans returns by name the devices that are named as the reference does, carry
// no tag, have got their limit, which is the last step of its ADD, and that no
// filter redirects to.
func orphans(conn rtnl.Reader) (map[string]*rtnl.Link, error) {
	links, err := conn.Links()
	if err != nil {
		return nil, err
	}
	orphaned := make(map[string]*rtnl.Link)
	for _, l := range links {
		if l.Kind == "ifb" && l.Alias == "" && link.IsIFBName(l.Name) {
			orphaned[l.Name] = l
		}
	}
	if len(orphaned) == 0 {
		return nil, nil
	}
	qdiscs, err := conn.Qdiscs()
	if err != nil {
		return nil, err
	}
	complete := make(map[int]bool)
	served := make(map[int]bool)
	for _, q := range qdiscs {
		switch q.Kind {
		case "tbf":
			complete[q.Index] = true
		case "ingress", "clsact":
			filters, err := conn.Filters(q.Index, rtnl.IngressFilters)
			if err != nil && !errors.Is(err, rtnl.ErrNotFound) {
				return nil, err
			}
			for _, f := range filters {
				served[f.Redirect] = true
			}
		}
	}
	for name, l := range orphaned {
		if !complete[l.Index] || served[l.Index] {
			delete(orphaned, name)
		}
	}
	return orphaned, nil
}
