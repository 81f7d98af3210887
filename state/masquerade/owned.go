package masquerade

import (
	"context"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/internal/nftconn"
)

// An owned is the elements of addresses that carry a tag, or none, which somebody
// has taken away: nobody else's lacks it. If addrs is nil, it is those of all
// addresses whose elements carry the tag.
type owned struct {
	tag    string
	addrs  []netip.Addr
	tables *tables
	mine   []entry // those of the addresses alone
	others []entry // those of the addresses that are not mine, or not there
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
		if e := (entry{q.Map, q.Key}); q.Element != nil && o.right(q.Element.Comment) {
			o.mine = append(o.mine, e)
		} else {
			o.others = append(o.others, e)
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

// right tells whether an element with a comment is the owner's.
func (o *owned) right(comment string) bool {
	return comment == o.tag || comment == "" && o.addrs != nil
}

// remove removes them. Where others change the tables meanwhile it reads again. A
// thorough removal also looks for what addresses have whose first element is not
// the owner's any more.
func (o *owned) remove(ctx context.Context, c *nftconn.Conn, thorough bool) error {
	read := true
	return nftconn.Retry(ctx, func() (err error) {
		if !read {
			if o, err = readOwned(ctx, c, o.tag, o.addrs); err != nil {
				return err
			}
		}
		read = false
		of := o.mine
		if thorough {
			of = slices.Concat(o.mine, o.others)
		}
		if of == nil {
			return nil
		}
		more, err := o.tables.pairs(ctx, c, of, o.right)
		if err != nil || o.mine == nil && more == nil {
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
	return o.remove(ctx, c, false)
}
