package portmap

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

// A container on several networks is given the same ports on each of them. The
// one attached last has them, because its default route comes first in the
// kernel: answers of UDP leave by it, and from its address. What it covers
// lies under it, in a map that no packet is looked up in, and comes up again when
// it goes.

// under is the map of what is covered in a class: by protocol, address and
// first and last port of the host, and how many more lie below.
func (c class) under() nftconn.Map {
	addr := nftconn.AddrType(c.family)
	return nftconn.Map{
		Table: nftconn.Own(), Name: familyName(c.family) + "-under" + c.name,
		Key:  []nftconn.Type{nftconn.Protocol, addr, nftconn.Service, nftconn.Service, nftconn.Service},
		Data: []nftconn.Type{addr, nftconn.Service},
	}
}

// deepest is how many may lie under one that packets follow. The next one up
// keeps its place.
const deepest = 7

// A place is what a block takes up in its class, wherever it leads.
type place struct {
	protocol    uint8
	host        netip.Addr
	first, last uint16
}

func (f forward) place() place { return place{f.protocol, f.host, f.first, f.last} }

// places returns those of a forward's blocks.
func (f forward) places() (list []place) {
	for block := range f.blocks() {
		list = append(list, block.place())
	}
	return list
}

// A covered is a block that lies under another.
type covered struct {
	forward
	tag string
}

// element is what it is in its map, above so many.
func (c covered) element(below int) nftconn.Element {
	port := func(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
	return nftconn.Element{
		Key:     nftconn.Concat([]byte{c.protocol}, c.host.AsSlice(), port(c.first), port(c.last), port(uint16(below))),
		Data:    nftconn.Concat(c.to.Addr().AsSlice(), port(c.to.Port())),
		Comment: c.tag,
	}
}

// ofCovered returns what an element of the map is.
func ofCovered(f nftconn.Family, x nftconn.Element) (c covered, below int, ok bool) {
	size := len(anyOf(f).AsSlice())
	if len(x.Key) < 4+size+12 || len(x.Data) < size+2 {
		return covered{}, 0, false
	}
	port := func(at int) uint16 { return binary.BigEndian.Uint16(x.Key[4+size+at:]) }
	host, _ := netip.AddrFromSlice(x.Key[4 : 4+size])
	to, _ := netip.AddrFromSlice(x.Data[:size])
	c = covered{forward{x.Key[0], host, port(0), port(4), netip.AddrPortFrom(to, binary.BigEndian.Uint16(x.Data[size:]))}, x.Comment}
	return c, int(port(8)), true
}

// A stack is what lies in one place, the lowest first.
type stack []covered

// stacks reads what lies in places of a class; in all of them, if there are
// none given. names are those of the table's maps.
func (c class) stacks(ctx context.Context, r nftconn.Reader, names []string, places []place) (map[place]stack, error) {
	m := c.under()
	if !slices.Contains(names, m.Name) {
		return nil, nil
	}
	found := make(map[place][deepest + 1]*covered)
	add := func(x nftconn.Element) {
		if under, below, ok := ofCovered(c.family, x); ok && below <= deepest {
			list := found[under.place()]
			list[below] = &under
			found[under.place()] = list
		}
	}
	if places == nil {
		list := nftconn.ElementsQuery{Map: m}
		if _, err := r.Read(ctx, &list); err != nil {
			return nil, err
		}
		for _, x := range list.Elements {
			add(x)
		}
	}
	var asked []*nftconn.ElementQuery
	for _, p := range places {
		for below := range deepest + 1 {
			at := covered{forward: forward{protocol: p.protocol, host: p.host, first: p.first, last: p.last, to: netip.AddrPortFrom(p.host, 0)}}
			asked = append(asked, &nftconn.ElementQuery{Map: m, Key: at.element(below).Key})
		}
	}
	if err := lookUp(ctx, r, asked); err != nil {
		return nil, err
	}
	for _, q := range asked {
		if q.Element != nil {
			add(*q.Element)
		}
	}
	stacks := make(map[place]stack, len(found))
	for p, list := range found {
		for _, x := range list {
			if x != nil {
				stacks[p] = append(stacks[p], *x)
			}
		}
	}
	return stacks, nil
}

// unders returns the maps of what is covered that there are.
func (s shared) unders(names []string) (maps []nftconn.Map) {
	for _, f := range nftconn.Families() {
		for _, name := range s.classes[f] {
			if m := (class{family: f, name: name}).under(); slices.Contains(names, m.Name) {
				maps = append(maps, m)
			}
		}
	}
	return maps
}

// has tells whether something of an owner lies in the stack.
func (s stack) has(tag string) bool {
	return slices.ContainsFunc(s, func(c covered) bool { return c.tag == tag })
}

// set adds to a transaction what turns one stack in a place into another.
func (c class) set(tx *nftconn.Tx, was, is stack) {
	m := c.under()
	same := 0
	for same < len(was) && same < len(is) && was[same] == is[same] {
		same++
	}
	for i := same; i < len(was); i++ {
		tx.Delete(m, was[i].element(i))
	}
	if same == len(is) {
		return
	}
	tx.AddMap(m)
	for i := same; i < len(is); i++ {
		tx.AddElements(m, is[i].element(i))
	}
}

// cover adds to a transaction that a block of the same container's makes room
// for p's in its place, and tells whether it does. It does not where p's lies
// under it already.
func (p Portmap) cover(tx *nftconn.Tx, e entry, below map[place]stack) bool {
	f, ok := e.forward()
	if !ok {
		return false
	}
	was := below[f.place()]
	if was.has(p.Owner.Tag()) || len(was) > deepest {
		return false
	}
	tx.Delete(e.in, e.Element)
	p.class(f.family()).set(tx, was, append(slices.Clip(was), covered{f, e.Comment}))
	return true
}

// uncover adds to a transaction what follows from the removal of an owner's
// elements: what lay under them comes up, and what of the owner lay under others'
// is no more. It tells whether there is any of that.
func (o owned) uncover(ctx context.Context, r nftconn.Reader, tx *nftconn.Tx, names []string, removed []entry) (bool, error) {
	s := readNames(names)
	found := false
	for _, f := range nftconn.Families() {
		for _, name := range s.classes[f] {
			c := class{family: f, name: name}
			var places []place
			for _, claim := range o.claims {
				if claim.family() == f {
					places = append(places, claim.places()...)
				}
			}
			if o.claims != nil && places == nil {
				continue
			}
			stacks, err := c.stacks(ctx, r, names, places)
			if err != nil {
				return found, err
			}
			bare := make(map[place]bool)
			for _, e := range removed {
				if block, ok := e.forward(); ok && e.in.Name == c.ports(block.ports()).Name {
					bare[block.place()] = true
				}
			}
			for at, was := range stacks {
				is := slices.DeleteFunc(slices.Clone(was), func(x covered) bool { return x.tag == o.tag })
				var up *covered
				if n := len(is); bare[at] && n > 0 {
					up, is = &is[n-1], is[:n-1]
				}
				if len(is) == len(was) {
					continue
				}
				found = true
				c.set(tx, was, is)
				if up != nil {
					tx.AddElements(c.ports(up.ports()), up.forward.element(up.tag))
				}
			}
		}
	}
	return found, nil
}

// below returns what lies in the places of p, and adds to a transaction the
// removal of what is not of p's container: it belonged to one that the place was taken from.
func (p Portmap) below(ctx context.Context, r nftconn.Reader, tx *nftconn.Tx, names []string) (map[place]stack, error) {
	all := make(map[place]stack)
	for _, f := range nftconn.Families() {
		var places []place
		for _, fwd := range p.forwards {
			if fwd.family() == f {
				places = append(places, fwd.places()...)
			}
		}
		if places == nil {
			continue
		}
		c := p.class(f)
		stacks, err := c.stacks(ctx, r, names, places)
		if err != nil {
			return nil, err
		}
		for at, was := range stacks {
			is := slices.DeleteFunc(slices.Clone(was), func(x covered) bool {
				o, ok := state.ParseTag(x.tag)
				return !ok || o.ContainerID != p.ownID()
			})
			c.set(tx, was, is)
			all[at] = is
		}
	}
	return all, nil
}
