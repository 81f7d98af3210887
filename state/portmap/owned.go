package portmap

import (
	"context"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/internal/nftconn"
)

// An owned says whose elements to remove: those with a tag, or none, that hold
// certain ports, or, if claims is nil, all with the tag.
type owned struct {
	tag    string
	claims []forward
	addrs  []netip.Addr // the container's, as far as known
}

// find returns the elements.
func (o owned) find(ctx context.Context, r nftconn.Reader, names []string) (mine []entry, err error) {
	s := readNames(names)
	if o.claims == nil {
		return elements(ctx, r, append(s.maps(), s.sources()...), func(e entry) bool { return e.Comment == o.tag })
	}
	var asked []*nftconn.ElementQuery
	for _, f := range o.claims {
		for _, name := range s.classes[f.family()] {
			c := class{family: f.family(), name: name}
			for block := range f.blocks() {
				asked = append(asked, &nftconn.ElementQuery{Map: c.ports(block.ports()), Key: key(f.protocol, f.host, block.first)})
			}
		}
	}
	for _, set := range s.sources() {
		for _, pair := range o.pairs(set) {
			asked = append(asked, &nftconn.ElementQuery{Map: set, Key: pair})
		}
	}
	if err := lookUp(ctx, r, asked); err != nil {
		return nil, err
	}
	for _, q := range asked {
		if q.Element == nil {
			continue
		}
		if e := (entry{q.Map, *q.Element}); e.Comment == o.tag || e.Comment == "" && o.leadsTo(e) {
			mine = append(mine, e)
		}
	}
	return mine, nil
}

// leadsTo tells whether an element is of one of the container's addresses, which
// tells whose it is where somebody has taken its tag away.
func (o owned) leadsTo(e entry) bool {
	f, ok := e.forward()
	return !ok || slices.Contains(o.addrs, f.to.Addr()) // pairs are looked up by the address
}

// remove removes the elements and returns them. It is guarded, because a port
// may get a new owner at any time.
func (o owned) remove(ctx context.Context, c *nftconn.Conn) (removed []entry, err error) {
	err = nftconn.Retry(ctx, func() error {
		names := nftconn.MapsQuery{Table: nftconn.Own()}
		gen, err := c.Read(ctx, &names)
		if err != nil {
			return err
		}
		if removed, err = o.find(ctx, c, names.Names); err != nil {
			return err
		}
		var tx nftconn.Tx
		tx.Guard(gen)
		for _, m := range distinctMaps(removed) {
			var mine []nftconn.Element
			for _, e := range removed {
				if e.in.Name == m.Name {
					mine = append(mine, e.Element)
				}
			}
			tx.Delete(m, mine...)
		}
		uncovered, err := o.uncover(ctx, c, &tx, names.Names, removed)
		if err != nil || removed == nil && !uncovered {
			return err
		}
		return c.Commit(ctx, &tx)
	})
	return removed, err
}
