package masquerade

import (
	"context"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

// ensureElements makes everything be there that the addresses need, and
// returns those for which an element was added.
func (m Masquerade) ensureElements(ctx context.Context, c *nftconn.Conn, alive func(tag string) (bool, error)) (added []netip.Addr, err error) {
	addrs := m.addresses()
	var want []entry
	for _, a := range addrs {
		want = append(want, entries(a)...)
	}
	err = nftconn.Retry(ctx, func() error {
		t, err := readTables(ctx, c, want)
		if err != nil {
			return err
		}
		tx := new(nftconn.Tx)
		if t.defects(addrs) != nil {
			if err := t.mend(ctx, c, tx, addrs); err != nil {
				return err
			}
		}
		if err := t.evict(ctx, c, tx, m.Owner.Tag(), alive); err != nil {
			return err
		}
		added = nil
		for i, e := range want {
			if got := t.entries[i].Element; got != nil && got.Comment == m.Owner.Tag() {
				continue
			}
			tx.AddElements(e.in, nftconn.Element{Key: e.key, Comment: m.Owner.Tag()})
			if a := addrs[i/2].Addr(); !slices.Contains(added, a) {
				added = append(added, a)
			}
		}
		return c.CommitInto(ctx, &t.table, tx)
	})
	if err != nil {
		return nil, err
	}
	return added, nil
}

// evict adds to a transaction the deletion of what others left for the
// addresses who are gone without DEL. It fails with state.CodeConflict if one
// is alive.
func (t *tables) evict(ctx context.Context, c *nftconn.Conn, tx *nftconn.Tx, tag string, alive func(tag string) (bool, error)) error {
	var stale []entry
	for _, q := range t.entries {
		if q.Element == nil || q.Element.Comment == tag {
			continue
		}
		if err := refuseAlive(q.Element, alive); err != nil {
			return err
		}
		stale = append(stale, entry{q.Map, q.Key})
	}
	if stale == nil {
		return nil
	}
	more, err := t.pairs(ctx, c, stale, func(comment string) bool { return comment != tag })
	if err != nil {
		return err
	}
	for _, e := range more {
		if !slices.ContainsFunc(stale, e.same) {
			stale = append(stale, e)
		}
	}
	for _, e := range stale {
		tx.DeleteElements(e.in, e.key)
	}
	return nil
}

// refuseAlive fails if the owner of an element is alive.
func refuseAlive(e *nftconn.Element, alive func(tag string) (bool, error)) error {
	if alive == nil {
		return nil
	}
	lives, err := alive(e.Comment)
	if err != nil || !lives {
		return err
	}
	holder := e.Comment
	if o, ok := state.ParseTag(e.Comment); ok {
		holder = o.String()
	}
	return cni.Errorf(state.CodeConflict, "an address is masqueraded for %s already; choose another, or delete what has this one", holder)
}

// pairs returns the pairs that the addresses among entries have with subnets
// of all lengths in use, those whose comment is right.
func (t *tables) pairs(ctx context.Context, r nftconn.Reader, of []entry, right func(comment string) bool) ([]entry, error) {
	var found []*nftconn.ElementQuery
	var queries []nftconn.Query
	for _, e := range of {
		addr, ok := netip.AddrFromSlice(e.key)
		if !ok {
			continue // a pair itself
		}
		lengths, err := t.inUse(ctx, r, nftconn.FamilyOf(addr))
		if err != nil {
			return nil, err
		}
		for _, bits := range lengths {
			p := entries(netip.PrefixFrom(addr, bits))[1]
			q := &nftconn.ElementQuery{Map: p.in, Key: p.key}
			found, queries = append(found, q), append(queries, q)
		}
	}
	if _, err := r.Read(ctx, queries...); err != nil {
		return nil, err
	}
	var list []entry
	for _, q := range found {
		if q.Element != nil && right(q.Element.Comment) {
			list = append(list, entry{q.Map, q.Key})
		}
	}
	return list, nil
}

// diffElements compares with what ensureElements makes. mine tells whether any
// element is the owner's.
func (m Masquerade) diffElements(ctx context.Context, r nftconn.Reader) (drifts []state.Drift, mine bool, err error) {
	addrs := m.addresses()
	var want []entry
	for _, a := range addrs {
		want = append(want, entries(a)...)
	}
	t, err := readTables(ctx, r, want)
	if err != nil {
		return nil, false, err
	}
	for _, d := range t.defects(addrs) {
		drifts = append(drifts, m.drift(d.part, d.want, d.got))
	}
	for i, q := range t.entries {
		part := "element " + q.Map.String() + " " + addrs[i/2].Addr().String()
		if i%2 == 1 {
			part += " . " + addrs[i/2].Masked().Addr().String()
		}
		switch {
		case q.Element == nil:
			drifts = append(drifts, m.drift(part, "present", "missing"))
		case q.Element.Comment != m.Owner.Tag():
			drifts = append(drifts, m.drift("owner of "+part, m.Owner.Tag(), q.Element.Comment))
		default:
			mine = true
		}
	}
	return drifts, mine, nil
}
