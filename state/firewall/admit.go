package firewall

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/iptables"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

// serves tells whether an admission is made in a table of others: where packets
// are dropped, but not where iptables is asked for by name.
func (a Admission) serves(f *filter) bool {
	return a.Backend != IPTables && !f.untouchable() && f.closed() != nil
}

// ensureNFT makes everything be there in nftables that the addresses need, in
// one transaction, and returns those for which something was missing, also when it
// fails after that.
func (a Admission) ensureNFT(ctx context.Context, c *nftconn.Conn, b Backend, alive func(tag string) (bool, error)) (added []netip.Addr, err error) {
	err = nftconn.Retry(ctx, func() error {
		v, err := look(ctx, c, a.addresses(), a.adminChain(), false)
		if err != nil {
			return err
		}
		tx, missing, err := a.plan(v, b, alive)
		if err != nil {
			return err
		}
		if err := c.CommitInto(ctx, &v.own.found, tx); err != nil {
			return err
		}
		added = append(added, missing...)
		return v.remember(ctx, c, a.Owner.Tag())
	})
	return added, err
}

// plan returns the transaction that admits addresses.
func (a Admission) plan(v *view, b Backend, alive func(tag string) (bool, error)) (*nftconn.Tx, []netip.Addr, error) {
	tx, tag := new(nftconn.Tx), a.Owner.Tag()
	var added []netip.Addr
	add := func(addr netip.Addr) {
		if !slices.Contains(added, addr) {
			added = append(added, addr)
		}
	}
	for _, q := range append(v.own.entries, v.admitted...) {
		if err := refuseAlive(q.Element, tag, alive); err != nil {
			return nil, nil, err
		}
	}
	if !v.own.found.Found {
		tx.Guard(v.gen)
	}
	elements := v.admitted
	switch {
	case b != NFTables:
		tx.AddTable(nftconn.Own())
		for _, f := range nftconn.Families() {
			tx.AddMap(addressSet(nftconn.Own(), admittedSet, f))
		}
	case !v.own.found.Found || v.own.found.Dormant || v.own.defects() != nil:
		tx.Guard(v.gen)
		v.own.mend(tx)
		fallthrough
	default:
		elements = v.own.entries
	}
	for _, f := range v.others {
		if !a.serves(f) {
			continue
		}
		if f.defects() != nil {
			tx.Guard(v.gen)
			f.mend(tx)
		}
		elements = append(elements, f.entries...)
	}
	for _, q := range elements {
		if q.Element != nil && q.Element.Comment == tag {
			continue
		}
		if q.Element != nil {
			tx.Guard(v.gen) // it may be the next one's by now
			tx.DeleteElements(q.Map, q.Key)
		}
		tx.AddElements(q.Map, nftconn.Element{Key: q.Key, Comment: tag})
		addr, _ := netip.AddrFromSlice(q.Key)
		add(addr)
	}
	for _, x := range v.xt {
		addrs := ofFamily(x.family, a.addresses())
		if addrs == nil || !x.uses(b) {
			continue
		}
		change, missing := x.admit(addrs, a.adminChain(), true)
		if change.guarded() {
			tx.Guard(v.gen)
		}
		change.into(tx, x)
		for _, addr := range missing {
			add(addr)
		}
	}
	return tx, added, nil
}

// refuseAlive fails if an element is of another attachment that is alive.
func refuseAlive(e *nftconn.Element, tag string, alive func(tag string) (bool, error)) error {
	if e == nil || e.Comment == tag || alive == nil {
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
	addr, _ := netip.AddrFromSlice(e.Key)
	return cni.Errorf(state.CodeConflict, "%s is admitted for %s already; choose another address, or delete what has this one", addr, holder)
}

// diffNFT compares with what ensureNFT makes, and tells whether plumb has
// admitted any of the addresses for the attachment.
func (a Admission) diffNFT(ctx context.Context, r nftconn.Reader, b Backend) (drifts []state.Drift, mine bool, err error) {
	v, err := look(ctx, r, a.addresses(), a.adminChain(), true)
	if err != nil {
		return nil, false, err
	}
	mine = v.marked(a.Owner)
	if b == NFTables {
		switch {
		case !v.own.found.Found:
			return []state.Drift{a.drift("table "+nftconn.Own().String(), "present", "missing")}, mine, nil
		case v.own.found.Dormant:
			drifts = append(drifts, a.drift("table "+nftconn.Own().String(), "awake", "dormant"))
		}
		drifts = append(drifts, a.diffFilter(v.own)...)
	}
	for _, f := range v.others {
		if mine && a.serves(f) {
			drifts = append(drifts, a.diffFilter(f)...)
		}
	}
	for _, x := range v.xt {
		if addrs := ofFamily(x.family, a.addresses()); addrs != nil && x.demands(b, addrs) {
			change, _ := x.admit(addrs, a.adminChain(), mine)
			drifts = append(drifts, a.drifts(x, change)...)
		}
	}
	return drifts, mine, nil
}

// Marked reports whether plumb has admitted any of the addresses for the owner,
// by whatever back end.
func (a Admission) Marked(ctx context.Context, r state.Reader) (bool, error) {
	conn, err := r.NFT()
	if err != nil {
		return false, err
	}
	v, err := look(ctx, conn, a.addresses(), "", false)
	if errors.Is(err, nftconn.ErrUnsupported) {
		return false, nil
	}
	return err == nil && v.marked(a.Owner), err
}

func (a Admission) diffFilter(f *filter) (drifts []state.Drift) {
	for _, d := range f.defects() {
		drifts = append(drifts, a.drift(d.part, d.want, d.got))
	}
	for _, q := range f.entries {
		addr, _ := netip.AddrFromSlice(q.Key)
		part := "element " + q.Map.String() + " " + addr.String()
		switch {
		case q.Element == nil:
			drifts = append(drifts, a.drift(part, "present", "missing"))
		case q.Element.Comment != a.Owner.Tag():
			drifts = append(drifts, a.drift("owner of "+part, a.Owner.Tag(), q.Element.Comment))
		}
	}
	return drifts
}

// Available fails with cni.CodeUnavailable if addresses can't be admitted
// with a back end on this host, because it is missing, or because somebody
// drops everything where nothing can be added.
func Available(ctx context.Context, r state.Reader, backend Backend) error {
	b, z, err := choose(ctx, backend)
	if err != nil {
		return unavailable(err)
	}
	z.close()
	conn, err := r.NFT()
	if err != nil {
		return err
	}
	v, err := look(ctx, conn, nil, "", false)
	if errors.Is(err, nftconn.ErrUnsupported) {
		if b == IPTables {
			err = iptables.Installed(nftconn.IPv4)
		}
		if err != nil && b != Firewalld {
			return cni.Errorf(cni.CodeUnavailable, "backend %s: %w", b, err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range v.others {
		closed := f.closed()
		if closed == nil || b == Firewalld && f.table.Name == firewalldTable {
			continue
		}
		if f.untouchable() {
			return cni.Errorf(cni.CodeUnavailable, "chain %s of nftables drops what is forwarded, and its owner lets nobody add rules; let the containers' addresses pass there, or choose the owner's backend", closed[0])
		}
		if backend == IPTables {
			return cni.Errorf(cni.CodeUnavailable, "chain %s of nftables drops what is forwarded, which iptables can't undo; let the containers' addresses pass there, or don't ask for backend %s", closed[0], IPTables)
		}
	}
	return nil
}
