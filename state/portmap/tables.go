package portmap

import (
	"context"
	"fmt"
	"slices"

	"github.com/plumb-cni/plumb/internal/nftconn"
)

// Names of chains.
const (
	dispatchChain    = "portmap"
	preroutingChain  = "portmap-prerouting"
	outputChain      = "portmap-output"
	postroutingChain = "portmap-postrouting"
	nearChain        = "portmap-near"
)

// tables is what there is of what attachments share.
type tables struct {
	gen   nftconn.Generation
	table nftconn.TableQuery
	bases []*nftconn.ChainQuery // in the order of baseChains
	rules nftconn.RulesQuery
	names nftconn.MapsQuery
}

// A base is a chain where packets come by.
type base struct {
	name string
	hook nftconn.Hook
}

func baseChains() []base {
	return []base{
		{preroutingChain, nftconn.Hook{Type: "nat", Point: nftconn.Prerouting, Priority: nftconn.DstNAT}},
		{outputChain, nftconn.Hook{Type: "nat", Point: nftconn.Output, Priority: nftconn.DstNAT}},
		{postroutingChain, nftconn.Hook{Type: "nat", Point: nftconn.Postrouting, Priority: nftconn.SrcNAT}},
	}
}

func readTables(ctx context.Context, r nftconn.Reader, others ...nftconn.Query) (*tables, error) {
	t := &tables{
		table: nftconn.TableQuery{Table: nftconn.Own()},
		rules: nftconn.RulesQuery{Table: nftconn.Own()},
		names: nftconn.MapsQuery{Table: nftconn.Own()},
	}
	queries := append(others, &t.table, &t.rules, &t.names)
	for _, b := range baseChains() {
		q := &nftconn.ChainQuery{Table: nftconn.Own(), Name: b.name}
		t.bases, queries = append(t.bases, q), append(queries, q)
	}
	var err error
	t.gen, err = r.Read(ctx, queries...)
	return t, err
}

// chains returns the chains as they should be, where those lead that others
// lead to first: for the classes and prefixes that others use, and those that an
// attachment does.
func (p Portmap) chains(s shared) []nftconn.Chain {
	var chains []nftconn.Chain
	add := func(name string, hook *nftconn.Hook, rules ...nftconn.Rule) {
		chains = append(chains, nftconn.Chain{Table: nftconn.Own(), Name: name, Hook: hook, Rules: rules})
	}
	var dispatch, sources []nftconn.Rule
	for _, f := range nftconn.Families() {
		every, own, known := class{family: f}, p.class(f), s.classes[f]
		if !slices.Contains(known, own.name) {
			known = append(slices.Clone(known), own.name)
			slices.Sort(known)
		}
		if own.name != "" {
			add(every.chain(), nil, every.rules(every.sizes(s))...)
		}
		add(own.chain(), nil, own.rules(own.sizes(s, p.sizes(f)...))...)
		for _, name := range known {
			dispatch = append(dispatch, nftconn.Rule{Exprs: append(nftconn.OfFamily(f), nftconn.Verdict{Code: nftconn.Jump, Chain: familyName(f) + name})})
		}
		for _, bits := range p.lengths(s, f) {
			sources = append(sources, nearRule(f, bits))
		}
	}
	add(dispatchChain, nil, dispatch...)
	add(nearChain, nil, sources...)
	jump := func(to string, exprs []nftconn.Expr) nftconn.Rule {
		return nftconn.Rule{Exprs: append(exprs, nftconn.Verdict{Code: nftconn.Jump, Chain: to})}
	}
	rules := []nftconn.Rule{
		jump(dispatchChain, nftconn.ToLocal()),
		jump(dispatchChain, nftconn.ToLocal()),
		jump(nearChain, nftconn.Redirected()),
	}
	for i, b := range baseChains() {
		add(b.name, &b.hook, rules[i])
	}
	return chains
}

// lengths returns the lengths of sources' prefixes that others and p use.
func (p Portmap) lengths(s shared, f nftconn.Family) []int {
	lengths := slices.Clone(s.lengths[f])
	for _, pair := range p.pairs() {
		if nftconn.FamilyOf(pair.to) == f && !slices.Contains(lengths, pair.from.Bits()) {
			lengths = append(lengths, pair.from.Bits())
		}
	}
	slices.Sort(lengths)
	return lengths
}

// sizes returns those of the blocks of p in a family.
func (p Portmap) sizes(f nftconn.Family) (sizes []int) {
	for _, fwd := range p.forwards {
		for block := range fwd.blocks() {
			if fwd.family() == f {
				sizes = append(sizes, block.ports())
			}
		}
	}
	slices.Sort(sizes)
	return slices.Compact(sizes)
}

// A defect is a difference in what attachments share.
type defect struct{ part, want, got string }

// defects returns what keeps p's mappings from working although its elements
// are there.
func (t *tables) defects(p Portmap) (found []defect) {
	own := nftconn.Own().String()
	if !t.table.Found {
		return []defect{{"table " + own, "present", "missing"}}
	}
	if t.table.Dormant {
		found = append(found, defect{"table " + own, "awake", "dormant"})
	}
	for i, b := range baseChains() {
		switch q := t.bases[i]; {
		case !q.Found:
			found = append(found, defect{"chain " + own + " " + b.name, "present", "missing"})
		case q.Hook == nil || *q.Hook != b.hook:
			found = append(found, defect{"hook of chain " + own + " " + b.name, b.hook.String(), q.Hook.String()})
		}
	}
	for _, m := range p.maps() {
		if !slices.Contains(t.names.Names, m.Name) {
			found = append(found, defect{"map " + m.String(), "present", "missing"})
		}
	}
	for _, c := range p.chains(readNames(t.names.Names)) {
		if rules := t.rules.Of(c.Name); !slices.EqualFunc(rules, c.Rules, nftconn.Rule.Equal) {
			found = append(found, defect{"what is in chain " + c.String(), fmt.Sprintf("the %d rules that plumb makes", len(c.Rules)), fmt.Sprintf("different (%d rules)", len(rules))})
		}
	}
	return found
}

// maps returns the maps and sets that p needs.
func (p Portmap) maps() []nftconn.Map {
	var maps []nftconn.Map
	for _, f := range nftconn.Families() {
		own := p.class(f)
		if own.name != "" {
			maps = append(maps, class{family: f}.ports(1))
		}
		for _, size := range own.sizes(shared{}, p.sizes(f)...) {
			maps = append(maps, own.ports(size))
		}
	}
	var names []string
	add := func(m nftconn.Map) {
		if !slices.Contains(names, m.Name) {
			names, maps = append(names, m.Name), append(maps, m)
		}
	}
	for _, fwd := range p.forwards {
		if !fwd.host.IsUnspecified() {
			add(at(fwd.host))
		}
	}
	for _, pair := range p.pairs() {
		add(near(nftconn.FamilyOf(pair.to), pair.from.Bits()))
	}
	return maps
}

// mend adds to a transaction what makes good the defects. It keeps what others
// need, so it depends on what was read.
func (t *tables) mend(tx *nftconn.Tx, p Portmap) {
	tx.AddTable(nftconn.Own())
	for _, m := range p.maps() {
		tx.AddMap(m)
	}
	for i, b := range baseChains() {
		if q := t.bases[i]; q.Found && (q.Hook == nil || *q.Hook != b.hook) {
			tx.DeleteChain(nftconn.Own(), b.name)
		}
	}
	for _, c := range p.chains(readNames(t.names.Names)) {
		tx.SetChain(c)
	}
}
