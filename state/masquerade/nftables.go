package masquerade

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

const baseChain = "masq-postrouting"

func families() []nftconn.Family { return []nftconn.Family{nftconn.IPv4, nftconn.IPv6} }

// familyName is the name of a family's set, and of its chain.
func familyName(f nftconn.Family) string {
	if f == nftconn.IPv4 {
		return "masq4"
	}
	return "masq6"
}

// hidden is the set of the addresses of a family that are masqueraded.
func hidden(f nftconn.Family) nftconn.Map {
	kind := nftconn.IPv4Addr
	if f == nftconn.IPv6 {
		kind = nftconn.IPv6Addr
	}
	return nftconn.Map{Table: nftconn.Own(), Name: familyName(f), Key: []nftconn.Type{kind}}
}

// local is the set of the pairs of an address that is masqueraded and its
// subnet, for the subnets of a family whose prefix has so many bits.
func local(f nftconn.Family, bits int) nftconn.Map {
	m := hidden(f)
	m.Name += "-" + strconv.Itoa(bits)
	m.Key = append(m.Key, m.Key[0])
	return m
}

// localBits returns the number of bits of a set of pairs, by its name.
func localBits(f nftconn.Family, name string) (bits int, ok bool) {
	digits, ok := strings.CutPrefix(name, familyName(f)+"-")
	bits, err := strconv.Atoi(digits)
	return bits, ok && err == nil && bits >= 0 && bits <= addrBits(f) && digits == strconv.Itoa(bits)
}

func addrBits(f nftconn.Family) int {
	if f == nftconn.IPv4 {
		return 32
	}
	return 128
}

// multicast is never masqueraded: members of a group would take the host for
// the sender.
func multicast(f nftconn.Family) netip.Prefix {
	if f == nftconn.IPv4 {
		return netip.MustParsePrefix("224.0.0.0/4")
	}
	return netip.MustParsePrefix("ff00::/8")
}

func baseHook() nftconn.Hook {
	return nftconn.Hook{Type: "nat", Point: nftconn.Postrouting, Priority: nftconn.SrcNAT}
}

// baseRules are those of the chain where all packets come by.
func baseRules() []nftconn.Rule {
	var rules []nftconn.Rule
	for _, f := range families() {
		rules = append(rules, nftconn.Rule{Exprs: append(nftconn.OfFamily(f),
			nftconn.SourceAddr(f),
			nftconn.Lookup{Map: hidden(f).Name, Reg: nftconn.Reg},
			nftconn.Verdict{Code: nftconn.Jump, Chain: familyName(f)},
		)})
	}
	return rules
}

// localRule lets packets alone that stay in the subnet of their source, whose
// prefix has so many bits.
func localRule(f nftconn.Family, bits int) nftconn.Rule {
	to := nftconn.DestinationAddr(f)
	to.Reg = nftconn.RegAfter(f)
	exprs := append(nftconn.OfFamily(f), nftconn.SourceAddr(f), to)
	if length := addrBits(f); bits < length {
		mask := nftconn.Mask(length, bits)
		exprs = append(exprs, nftconn.Bitwise{Reg: to.Reg, Mask: mask, Xor: make([]byte, len(mask))})
	}
	return nftconn.Rule{Exprs: append(exprs, nftconn.Lookup{Map: local(f, bits).Name, Reg: nftconn.Reg}, nftconn.Verdict{Code: nftconn.Return})}
}

// lastRule masquerades what no rule has let alone.
func lastRule(f nftconn.Family) nftconn.Rule {
	return nftconn.Rule{Exprs: slices.Concat(nftconn.OfFamily(f), nftconn.DestinationNotIn(multicast(f)), []nftconn.Expr{nftconn.Masquerade{}})}
}

// familyRules are those of a family's chain, with subnets of these lengths.
func familyRules(f nftconn.Family, lengths []int) []nftconn.Rule {
	var rules []nftconn.Rule
	for _, bits := range lengths {
		rules = append(rules, localRule(f, bits))
	}
	return append(rules, lastRule(f))
}

// An entry is what an address needs of the sets.
type entry struct {
	in  nftconn.Map
	key []byte
}

// entries returns what an address needs.
func entries(a netip.Prefix) []entry {
	f := nftconn.FamilyOf(a.Addr())
	key := a.Addr().AsSlice()
	return []entry{
		{hidden(f), key},
		{local(f, a.Bits()), nftconn.Concat(key, a.Masked().Addr().AsSlice())},
	}
}

// tables is what there is of all that attachments share, and of what some
// addresses need.
type tables struct {
	gen     nftconn.Generation
	table   nftconn.TableQuery
	base    nftconn.ChainQuery
	rules   nftconn.RulesQuery // of the whole table, which has few
	entries []nftconn.ElementQuery
}

// readTables reads it, with as many round trips for any number of attachments
// and addresses. It also answers other queries.
func readTables(ctx context.Context, r nftconn.Reader, want []entry, others ...nftconn.Query) (*tables, error) {
	t := &tables{entries: make([]nftconn.ElementQuery, len(want))}
	t.table.Table = nftconn.Own()
	t.base.Table, t.base.Name = nftconn.Own(), baseChain
	t.rules.Table = nftconn.Own()
	queries := append(others, &t.table, &t.base, &t.rules)
	for i, e := range want {
		t.entries[i] = nftconn.ElementQuery{Map: e.in, Key: e.key}
		queries = append(queries, &t.entries[i])
	}
	var err error
	t.gen, err = r.Read(ctx, queries...)
	return t, err
}

// chain returns the rules of a chain.
func (t *tables) chain(name string) []nftconn.Rule {
	var rules []nftconn.Rule
	for _, r := range t.rules.Rules {
		if r.Chain == name {
			rules = append(rules, r)
		}
	}
	return rules
}

// lengths returns the lengths of the subnets that a family's chain knows, and
// whether the chain is as it should be with these.
func (t *tables) lengths(f nftconn.Family) (lengths []int, intact bool) {
	rules := t.chain(familyName(f))
	for _, r := range rules {
		for _, e := range r.Exprs {
			lookup, ok := e.(nftconn.Lookup)
			if !ok {
				continue
			}
			bits, ok := localBits(f, lookup.Map)
			if ok && !slices.Contains(lengths, bits) && r.Equal(localRule(f, bits)) {
				lengths = append(lengths, bits)
			}
		}
	}
	return lengths, slices.EqualFunc(rules, familyRules(f, lengths), nftconn.Rule.Equal)
}

// A defect is a difference in what attachments share.
type defect struct{ part, want, got string }

// defects returns what keeps packets from addresses from being masqueraded as
// they should.
func (t *tables) defects(addrs []netip.Prefix) []defect {
	base := nftconn.Own().String() + " " + baseChain
	hook := baseHook()
	switch {
	case !t.table.Found:
		return []defect{{"table " + nftconn.Own().String(), "present", "missing"}}
	case t.table.Dormant:
		return []defect{{"table " + nftconn.Own().String(), "awake", "dormant"}}
	case !t.base.Found:
		return []defect{{"chain " + base, "present", "missing"}}
	case t.base.Hook == nil || *t.base.Hook != hook:
		return []defect{{"hook of chain " + base, hook.String(), t.base.Hook.String()}}
	}
	var found []defect
	if rules := t.chain(baseChain); !slices.EqualFunc(rules, baseRules(), nftconn.Rule.Equal) {
		found = append(found, rulesDefect(base, len(baseRules()), len(rules)))
	}
	for _, f := range families() {
		want := lengthsOf(f, addrs)
		if want == nil {
			continue
		}
		name := nftconn.Own().String() + " " + familyName(f)
		lengths, intact := t.lengths(f)
		if !intact {
			found = append(found, rulesDefect(name, len(lengths)+1, len(t.chain(familyName(f)))))
			continue
		}
		for _, bits := range want {
			if !slices.Contains(lengths, bits) {
				found = append(found, defect{fmt.Sprintf("rule of chain %s for subnets of %d bits", name, bits), "return", "missing"})
			}
		}
	}
	return found
}

func rulesDefect(chain string, want, got int) defect {
	return defect{"rules of chain " + chain, fmt.Sprintf("%d as plumb makes them", want), fmt.Sprintf("%d with others", got)}
}

// lengthsOf returns the lengths of the subnets that addresses are in.
func lengthsOf(f nftconn.Family, addrs []netip.Prefix) (lengths []int) {
	for _, a := range addrs {
		if nftconn.FamilyOf(a.Addr()) == f && !slices.Contains(lengths, a.Bits()) {
			lengths = append(lengths, a.Bits())
		}
	}
	return lengths
}

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

// mend adds to a transaction what makes good the defects. It keeps the lengths
// of subnets that others need, so it depends on what was read.
func (t *tables) mend(ctx context.Context, c *nftconn.Conn, tx *nftconn.Tx, addrs []netip.Prefix) error {
	maps := nftconn.MapsQuery{Table: nftconn.Own()}
	if t.table.Found {
		if _, err := c.Read(ctx, &maps); err != nil {
			return err
		}
	}
	tx.Guard(t.gen)
	tx.AddTable(nftconn.Own())
	for _, f := range families() {
		lengths := lengthsOf(f, addrs)
		for _, name := range maps.Names {
			if bits, ok := localBits(f, name); ok && !slices.Contains(lengths, bits) {
				lengths = append(lengths, bits)
			}
		}
		slices.Sort(lengths)
		tx.AddMap(hidden(f))
		for _, bits := range lengths {
			tx.AddMap(local(f, bits))
		}
		tx.SetChain(nftconn.Chain{Table: nftconn.Own(), Name: familyName(f), Rules: familyRules(f, lengths)})
	}
	hook := baseHook()
	if t.base.Found && (t.base.Hook == nil || *t.base.Hook != hook) {
		tx.DeleteChain(nftconn.Own(), baseChain)
	}
	tx.SetChain(nftconn.Chain{Table: nftconn.Own(), Name: baseChain, Hook: &hook, Rules: baseRules()})
	return nil
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

func (e entry) same(o entry) bool { return e.in.Name == o.in.Name && string(e.key) == string(o.key) }

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
		f := nftconn.FamilyOf(addr)
		lengths, _ := t.lengths(f)
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
		for _, f := range families() {
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
