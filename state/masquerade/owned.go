package masquerade

import (
	"context"
	"net/netip"

	"github.com/plumb-cni/plumb/internal/nftconn"
)

// An owned is the elements of addresses that carry a tag, or, if addrs is nil,
// of all addresses whose elements do.
type owned struct {
	tag    string
	addrs  []netip.Addr
	tables *tables
	mine   []entry // those of the addresses alone
}

// readOwned looks them up, and answers other queries in the same round trip.
func readOwned(ctx context.Context, r nftconn.Reader, tag string, addrs []netip.Addr, others ...nftconn.Query) (*owned, error) {
	var want []entry
	for _, a := range addrs {
		a = a.Unmap()
		want = append(want, entry{hidden(nftconn.FamilyOf(a)), a.AsSlice()})
	}
	var all []*nftconn.ElementsQuery
	if addrs == nil {
		for _, f := range nftconn.Families() {
			q := &nftconn.ElementsQuery{Map: hidden(f)}
			all, others = append(all, q), append(others, q)
		}
	}
	t, err := readTables(ctx, r, want, others...)
	if err != nil {
		return nil, err
	}
	o := &owned{tag: tag, addrs: addrs, tables: t}
	for _, q := range t.entries {
		if q.Element != nil && q.Element.Comment == tag {
			o.mine = append(o.mine, entry{q.Map, q.Key})
		}
	}
	for _, q := range all {
		for _, e := range q.Elements {
			if e.Comment == tag {
				o.mine = append(o.mine, entry{q.Map, e.Key})
			}
		}
	}
	return o, nil
}

// remove removes them. Where others change the tables meanwhile it reads again.
func (o *owned) remove(ctx context.Context, c *nftconn.Conn) error {
	read := true
	return nftconn.Retry(ctx, func() (err error) {
		if !read {
			if o, err = readOwned(ctx, c, o.tag, o.addrs); err != nil {
				return err
			}
		}
		read = false
		if o.mine == nil {
			return nil
		}
		more, err := o.tables.pairs(ctx, c, o.mine, func(comment string) bool { return comment == o.tag })
		if err != nil {
			return err
		}
		// Guarded, because an address may get a new owner at any time.
		var tx nftconn.Tx
		tx.Guard(o.tables.gen)
		for _, e := range append(o.mine, more...) {
			tx.DeleteElements(e.in, e.key)
		}
		return c.Commit(ctx, &tx)
	})
}

// removeElements removes the elements of addresses that carry a tag, or, if
// addrs is nil, of all addresses whose elements do.
func removeElements(ctx context.Context, c *nftconn.Conn, tag string, addrs []netip.Addr) error {
	o, err := readOwned(ctx, c, tag, addrs)
	if err != nil {
		return err
	}
	return o.remove(ctx, c)
}
