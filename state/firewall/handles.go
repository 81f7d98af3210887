package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/internal/nftconn"
)

// Rules of iptables are found by listing their chain, which has three for each
// address. So where the kernel keeps the chain in nftables, its handles of the
// rules of an address are on record too, under the owner's tag:
//
//	table inet plumb {
//		map forward-handles4 {
//			type ipv4_addr : mark . mark . mark
//			elements = { 0.0.0.0 comment "plumb" : 0x00000004 . 0x00000000 . 0x00000000,
//				10.22.0.3 comment "plumb:net/id/eth0" : 0x00000007 . 0x00000008 . 0x00000009 }
//		}
//	}
//
// The unspecified address has the rule that leads to the user's chain. (The type
// is nft's for a number.) What a handle leads to is compared with what it should
// be; where it is another rule, or none, because the chain was written anew, the
// chain is listed.

func handleMap(f nftconn.Family) nftconn.Map {
	m := addressSet(nftconn.Own(), "forward-handles", f)
	m.Data = []nftconn.Type{nftconn.PacketMark, nftconn.PacketMark, nftconn.PacketMark}
	return m
}

// handlesLen is the size of the three handles of an element.
const handlesLen = 3 * 4

// A noted is rules of CNI-FORWARD that go together, and what is noted of them.
type noted struct {
	addr    netip.Addr // unspecified for that of the admin chain
	rules   []xtRule
	element nftconn.ElementQuery
	found   []*nftconn.RuleQuery
}

// note makes the table know of rules whose handles may be noted.
func (x *xtTable) note(addrs []netip.Addr, admin string) {
	add := func(a netip.Addr, rules []xtRule) {
		q := nftconn.ElementQuery{Map: handleMap(x.family), Key: a.AsSlice()}
		x.notes = append(x.notes, &noted{addr: a, rules: rules, element: q})
	}
	if admin != "" {
		add(anyAddr(x.family), []xtRule{adminRule(admin)})
	}
	for _, a := range ofFamily(x.family, addrs) {
		add(a, addressRules(a))
	}
}

func anyAddr(f nftconn.Family) netip.Addr {
	if f == nftconn.IPv4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// queries asks for the rules of the handles that an element has.
func (n *noted) queries(f nftconn.Family) (queries []nftconn.Query) {
	if n.element.Element == nil {
		return nil
	}
	for i := range n.rules {
		q := &nftconn.RuleQuery{Table: filterOf(f), Chain: cniForward}
		if data := n.element.Element.Data; len(data) >= 4*(i+1) {
			q.Handle = uint64(binary.NativeEndian.Uint32(data[4*i:]))
		}
		n.found, queries = append(n.found, q), append(queries, q)
	}
	return queries
}

// verified returns the rules, if all handles lead to what they should.
func (n *noted) verified(states map[xtState][]byte) (rules []nftconn.Rule) {
	if n.found == nil {
		return nil
	}
	for i, q := range n.found {
		if q.Rule == nil || readXT(*q.Rule, states) != n.rules[i] {
			return nil
		}
		rules = append(rules, *q.Rule)
	}
	return rules
}

// complete reads of CNI-FORWARD what matters: by handles, or all of it if a
// handle leads nowhere, or if rules that nothing is noted of have to be found.
// A new address is known to have none.
func (v *view) complete(ctx context.Context, r nftconn.Reader, thorough bool) error {
	var queries []nftconn.Query
	for _, x := range v.xt {
		for _, n := range x.notes {
			queries = append(queries, n.queries(x.family)...)
		}
	}
	if _, err := r.Read(ctx, queries...); err != nil {
		return err
	}
	states := stateMatches()
	for _, x := range v.xt {
		if !slices.Contains(x.chains, cniForward) {
			continue
		}
		var rules []nftconn.Rule
		known := true
		for _, n := range x.notes {
			verified := n.verified(states)
			fresh := n.element.Element == nil && !n.addr.IsUnspecified() && !thorough
			rules = append(rules, verified...)
			known = known && (verified != nil || fresh)
		}
		if !known {
			all := nftconn.RulesQuery{Table: filterOf(x.family), Chain: cniForward}
			if _, err := r.Read(ctx, &all); err != nil {
				return err
			}
			rules = all.Rules
		}
		x.rules, x.read = append(x.rules, rules...), nil
	}
	return nil
}

// handle returns that of a rule that was read or made, 0 if it is not known.
func (x *xtTable) handle(rule xtRule) uint64 {
	if i := slices.Index(x.decoded(), rule); i >= 0 {
		return x.rules[i].Handle
	}
	for _, m := range x.made {
		if m.rule == rule {
			return m.handle
		}
	}
	return 0
}

// A madeRule is a rule that was added, with the handle that it has got.
type madeRule struct {
	rule   xtRule
	handle uint64
}

// remember notes the handles, under an owner's tag, once the rules are made. Who
// finds nothing noted lists the chain, so it does no harm if somebody else comes
// in between.
func (v *view) remember(ctx context.Context, c *nftconn.Conn, tag string) error {
	var tx nftconn.Tx
	for _, x := range v.xt {
		for _, n := range x.notes {
			element := nftconn.Element{Key: n.addr.AsSlice(), Comment: tag}
			if n.addr.IsUnspecified() {
				element.Comment = "plumb"
			}
			known := true
			for _, r := range n.rules {
				h := x.handle(r)
				known = known && h != 0 && h <= math.MaxUint32
				element.Data = binary.NativeEndian.AppendUint32(element.Data, uint32(h))
			}
			element.Data = append(element.Data, make([]byte, handlesLen-len(element.Data))...)
			old := n.element.Element
			if !known || old != nil && string(old.Data) == string(element.Data) && old.Comment == element.Comment {
				continue
			}
			tx.AddTable(nftconn.Own())
			tx.AddMap(handleMap(x.family))
			if old != nil {
				tx.DeleteElements(handleMap(x.family), old.Key)
			}
			tx.AddElements(handleMap(x.family), element)
		}
	}
	err := c.Commit(ctx, &tx)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
