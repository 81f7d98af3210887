package firewall

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/internal/nftconn"
)

// A doorway is a table of others, with chains that see what comes in.
type doorway struct {
	nftconn.TableQuery
	bases    []nftconn.Chain // with their rules
	accept   nftconn.RulesQuery
	chain    nftconn.ChainQuery
	sets     nftconn.MapsQuery
	elements []*nftconn.ElementsQuery // in the order of familiesOf
}

// doorOf returns the one of a table, which is added if it is missing.
func doorOf(doors *[]*doorway, t nftconn.Table, s Service) *doorway {
	for _, d := range *doors {
		if d.Table == t {
			return d
		}
	}
	d := &doorway{TableQuery: nftconn.TableQuery{Table: t}}
	d.accept = nftconn.RulesQuery{Table: t, Chain: s.chain(t)}
	d.chain = nftconn.ChainQuery{Table: t, Name: s.chain(t)}
	d.sets = nftconn.MapsQuery{Table: t}
	for _, f := range familiesOf(t) {
		d.elements = append(d.elements, &nftconn.ElementsQuery{Map: s.set(t, f)})
	}
	*doors = append(*doors, d)
	return d
}

// through adds to a transaction what has to change in a table, and returns what
// is added in words.
func (s Service) through(d *doorway, tx *nftconn.Tx) (missing []string) {
	if d.Owned || d.Table.Name == firewalldTable {
		return nil
	}
	jump := jumpTo(s.chain(d.Table))
	var closed []nftconn.Chain
	for _, c := range d.bases {
		if !d.Dormant && endingOf(c, jump).drops {
			closed = append(closed, c)
		}
	}
	wanted := false
	for _, f := range familiesOf(d.Table) {
		wanted = wanted || closed != nil && ofFamily(f, s.Addresses) != nil
	}
	if !wanted {
		s.remove(d, jump, tx)
		return nil
	}
	for _, f := range familiesOf(d.Table) {
		if set := s.set(d.Table, f); !d.has(set) {
			tx.AddMap(set)
		}
	}
	if !slices.EqualFunc(d.accept.Rules, s.rules(d.Table), nftconn.Rule.Equal) {
		missing = append(missing, "chain "+d.chain.Table.String()+" "+d.chain.Name)
		tx.SetChain(nftconn.Chain{Table: d.Table, Name: s.chain(d.Table), Rules: s.rules(d.Table)})
	}
	for _, c := range closed {
		if e := endingOf(c, jump); !e.jump {
			missing = append(missing, "rule of chain "+c.String()+" jump "+s.chain(d.Table))
			e.lead(tx, c, jump)
		}
	}
	for i, f := range familiesOf(d.Table) {
		q, want := d.elements[i], ofFamily(f, s.Addresses)
		for _, e := range q.Elements {
			if a, _ := netip.AddrFromSlice(e.Key); !slices.Contains(want, a) {
				tx.DeleteElements(q.Map, e.Key)
			}
		}
		for _, a := range want {
			if !slices.ContainsFunc(q.Elements, func(e nftconn.Element) bool { return slices.Equal(e.Key, a.AsSlice()) }) {
				missing = append(missing, "element "+q.Map.String()+" "+a.String())
				tx.AddElements(q.Map, nftconn.Element{Key: a.AsSlice(), Comment: s.comment()})
			}
		}
	}
	return missing
}

// rules are those that look at the sets.
func (s Service) rules(t nftconn.Table) (rules []nftconn.Rule) {
	port := binary.BigEndian.AppendUint16(nil, s.Port)
	for _, f := range familiesOf(t) {
		for _, protocol := range s.protocols() {
			var exprs []nftconn.Expr
			if t.Family == nftconn.Inet {
				exprs = nftconn.OfFamily(f)
			}
			rules = append(rules, nftconn.Rule{Exprs: append(exprs,
				nftconn.DestinationAddr(f), nftconn.Lookup{Map: s.set(t, f).Name, Reg: nftconn.Reg},
				nftconn.TransportProtocol(nftconn.Reg), nftconn.Cmp{Op: nftconn.Equal, Reg: nftconn.Reg, Data: []byte{protocol}},
				nftconn.DestinationPort(nftconn.Reg), nftconn.Cmp{Op: nftconn.Equal, Reg: nftconn.Reg, Data: port},
				nftconn.Verdict{Code: nftconn.Accept},
			)})
		}
	}
	return rules
}

// remove adds to a transaction the removal of what there is in a table.
func (s Service) remove(d *doorway, jump nftconn.Rule, tx *nftconn.Tx) {
	for _, c := range d.bases {
		for _, r := range c.Rules {
			if r.Equal(jump) {
				tx.DeleteRule(r)
			}
		}
	}
	if d.chain.Found {
		tx.DeleteChain(d.Table, s.chain(d.Table))
	}
	for _, f := range familiesOf(d.Table) {
		if set := s.set(d.Table, f); d.has(set) {
			tx.DeleteMap(set)
		}
	}
}

// has tells whether a set is in the table.
func (d *doorway) has(set nftconn.Map) bool { return slices.Contains(d.sets.Names, set.Name) }
