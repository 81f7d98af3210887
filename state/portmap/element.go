package portmap

import (
	"context"
	"encoding/hex"
	"net/netip"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

// An entry is an element with its map.
type entry struct {
	in nftconn.Map
	nftconn.Element
}

// id tells the element from all others.
func (e entry) id() string { return e.in.Name + string(e.Key) }

// entries returns the elements that p is.
func (p Portmap) entries() []entry {
	tag := p.Owner.Tag()
	list := make([]entry, 0, len(p.forwards)+4)
	for _, f := range p.forwards {
		for block := range f.blocks() {
			list = append(list, entry{p.mapOf(block), block.element(tag)})
		}
	}
	return append(list, p.nearby()...)
}

// mapOf returns where a block is of p's.
func (p Portmap) mapOf(block forward) nftconn.Map {
	return p.class(block.family()).ports(block.ports())
}

// nearby returns the elements of what is near.
func (p Portmap) nearby() (list []entry) {
	tag := p.Owner.Tag()
	for _, pair := range p.pairs() {
		list = append(list, entry{near(nftconn.FamilyOf(pair.to), pair.from.Bits()), nftconn.Element{
			Key: nftconn.Concat(pair.from.Addr().AsSlice(), pair.to.AsSlice()), Comment: tag,
		}})
	}
	return list
}

// describe names what an element is.
func describe(e entry) string {
	if f, ok := e.forward(); ok {
		return f.String()
	}
	return "an address of the container" // whose flows from nearby are masqueraded
}

func distinctMaps(entries []entry) (maps []nftconn.Map) {
	seen := make(map[string]bool)
	for _, e := range entries {
		if !seen[e.in.Name] {
			seen[e.in.Name] = true
			maps = append(maps, e.in)
		}
	}
	return maps
}

// occupied returns the elements that are where entries of p want to be, or that
// hold ports of theirs under other conditions or another address of the host.
// So of each size that blocks have all are looked for that p's may be in, or
// that may be in p's.
func (p Portmap) occupied(ctx context.Context, r nftconn.Reader, s shared) ([]entry, error) {
	var asked []*nftconn.ElementQuery
	ask := func(m nftconn.Map, key []byte) {
		asked = append(asked, &nftconn.ElementQuery{Map: m, Key: key})
	}
	maps := make(map[nftconn.Family][]nftconn.Map)
	for _, m := range s.maps() {
		maps[familyOfMap(m)] = append(maps[familyOfMap(m)], m)
	}
	for _, f := range p.forwards {
		for _, m := range maps[f.family()] {
			size := sizeOf(m)
			for _, host := range s.related(f.host) {
				for port := int(f.first) &^ (size - 1); port <= int(f.last); port += size {
					ask(m, key(f.protocol, host, uint16(port)))
				}
			}
		}
	}
	for _, e := range p.nearby() {
		ask(e.in, e.Key)
	}
	if err := lookUp(ctx, r, asked); err != nil {
		return nil, err
	}
	var found []entry
	seen := make(map[string]bool)
	for _, q := range asked {
		if q.Element == nil {
			continue
		}
		if e := (entry{q.Map, *q.Element}); !seen[e.id()] {
			seen[e.id()] = true
			found = append(found, e)
		}
	}
	return found, nil
}

// ensureElements makes everything be there that p needs, in one transaction,
// and returns the elements that were added.
func (p Portmap) ensureElements(ctx context.Context, k *state.Kernel) (added []entry, err error) {
	c, err := k.NFT()
	if err != nil {
		return nil, err
	}
	err = nftconn.Retry(ctx, func() error {
		t, err := readTables(ctx, c)
		if err != nil {
			return err
		}
		tx := new(nftconn.Tx)
		tx.Guard(t.gen)
		if t.defects(p) != nil {
			t.mend(tx, p)
		}
		var found []entry
		if t.table.Found {
			if found, err = p.occupied(ctx, c, readNames(t.names.Names)); err != nil {
				return err
			}
		}
		below, err := p.below(ctx, c, tx, t.names.Names)
		if err != nil {
			return err
		}
		if added, err = p.replace(tx, found, below, k.Alive); err != nil {
			return err
		}
		return c.CommitInto(ctx, &t.table, tx)
	})
	return added, err
}

// replace adds to a transaction the elements that are missing, and the deletion
// of what is in their way and belongs to nobody any more. What an earlier
// interface of the same container has in the same place is covered; what of it
// only overlaps stays.
func (p Portmap) replace(tx *nftconn.Tx, found []entry, below map[place]stack, alive func(string) (bool, error)) (added []entry, err error) {
	tag := p.Owner.Tag()
	want := p.entries()
	index := make(map[string]entry, len(found))
	byMap := make(map[string][]nftconn.Element)
	lives := make(map[string]bool)
	blocked := make(map[string]bool)
	wanted := make(map[string]bool, len(want))
	for _, e := range want {
		wanted[e.id()] = true
	}
	for _, e := range found {
		id := e.id()
		if e.Comment == tag {
			index[id] = e
			continue
		}
		if o, ok := state.ParseTag(e.Comment); ok && o.ContainerID == p.ownID() {
			blocked[id] = !wanted[id] || !p.cover(tx, e, below)
			continue
		}
		living, known := lives[e.Comment]
		if !known && alive != nil {
			if living, err = alive(e.Comment); err != nil {
				return nil, err
			}
			lives[e.Comment] = living
		}
		if living {
			return nil, heldBy(describe(e), ownerName(e.Comment))
		}
		tx.Delete(e.in, e.Element)
	}
	for _, e := range want {
		id := e.id()
		if blocked[id] {
			continue
		}
		if x, ok := index[id]; ok && string(x.Data) == string(e.Data) {
			delete(index, id)
			continue
		}
		added = append(added, e)
		byMap[e.in.Name] = append(byMap[e.in.Name], e.Element)
	}
	for _, x := range index { // its own, of an ADD before this one with other ports
		tx.Delete(x.in, x.Element)
	}
	for _, m := range distinctMaps(added) {
		tx.AddElements(m, byMap[m.Name]...)
	}
	return added, nil
}

// diffElements compares with what ensureElements makes. mine tells whether any
// element is the owner's.
func (p Portmap) diffElements(ctx context.Context, r nftconn.Reader) (drifts []state.Drift, mine bool, err error) {
	want := p.entries()
	asked := make([]*nftconn.ElementQuery, len(want))
	for i, e := range want {
		asked[i] = &nftconn.ElementQuery{Map: e.in, Key: e.Key}
	}
	t, err := readTables(ctx, r)
	if err == nil {
		err = lookUp(ctx, r, asked)
	}
	if err != nil {
		return nil, false, err
	}
	for _, d := range t.defects(p) {
		drifts = append(drifts, p.drift(d.part, d.want, d.got))
	}
	for i, q := range asked {
		part := "element " + q.Map.String() + " " + want[i].part()
		switch x := q.Element; {
		case x == nil:
			drifts = append(drifts, p.drift(part, "present", "missing"))
		case x.Comment != p.Owner.Tag():
			if o, ok := state.ParseTag(x.Comment); !ok || o.ContainerID != p.ownID() {
				drifts = append(drifts, p.drift("owner of "+part, p.Owner.Tag(), x.Comment))
			}
		case string(x.Data) != string(want[i].Data):
			mine = true
			drifts = append(drifts, p.drift("value of "+part, hex.EncodeToString(want[i].Data), hex.EncodeToString(x.Data)))
		default:
			mine = true
		}
	}
	return drifts, mine, nil
}

// part names the element within its map.
func (e entry) part() string {
	if f, ok := e.forward(); ok {
		return f.String()
	}
	half := len(e.Key) / 2
	from, _ := netip.AddrFromSlice(e.Key[:half])
	to, _ := netip.AddrFromSlice(e.Key[half:])
	return netip.PrefixFrom(from, nearBits(e.in)).String() + " . " + to.String()
}
