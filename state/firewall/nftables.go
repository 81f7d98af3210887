package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/iptables"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

const ownBase = "forward"

// firewalldTable is the table that firewalld makes and flushes.
const firewalldTable = "firewalld"

// A filter is a table with chains at the forward hook: plumb's own or another.
type filter struct {
	table   nftconn.Table
	bases   []nftconn.Chain // with their rules
	found   nftconn.TableQuery
	rules   nftconn.RulesQuery
	entries []*nftconn.ElementQuery
}

func (f *filter) own() bool { return f.table == nftconn.Own() }

// prefixed names an object: in a table of others, so that it is told from
// theirs.
func prefixed(t nftconn.Table, name string) string {
	if t == nftconn.Own() {
		return name
	}
	return "plumb-" + name
}

// addressSet is a set of addresses of a family.
func addressSet(t nftconn.Table, name string, f nftconn.Family) nftconn.Map {
	kind, digit := nftconn.IPv4Addr, "4"
	if f == nftconn.IPv6 {
		kind, digit = nftconn.IPv6Addr, "6"
	}
	return nftconn.Map{Table: t, Name: prefixed(t, name) + digit, Key: []nftconn.Type{kind}}
}

// Names of the sets: of addresses that rules accept, and of those that other
// means admit.
const (
	acceptSet   = "accept"
	admittedSet = "admitted"
)

func acceptChain(t nftconn.Table) string { return prefixed(t, "forward-accept") }

// familiesOf returns the families whose packets come by in a table.
func familiesOf(t nftconn.Table) []nftconn.Family {
	if t.Family == nftconn.Inet {
		return families()
	}
	return []nftconn.Family{t.Family}
}

// Bits that `ct state` and `ct status` compare (linux/netfilter/nf_conntrack_common.h).
const (
	ctEstablishedRelated = 1<<1 | 1<<2
	ctDNAT               = 1 << 5
)

// flowHas matches packets whose flow has one of some bits.
func flowHas(key, bits uint32) []nftconn.Expr {
	return []nftconn.Expr{
		nftconn.Ct{Key: key, Reg: nftconn.Reg},
		nftconn.Bitwise{Reg: nftconn.Reg, Mask: binary.NativeEndian.AppendUint32(nil, bits), Xor: make([]byte, 4)},
		nftconn.Cmp{Op: nftconn.NotEqual, Reg: nftconn.Reg, Data: make([]byte, 4)},
	}
}

// acceptRules are those that look at the sets. What is published on the host,
// that is translated to the container's address, is let in as well.
func acceptRules(t nftconn.Table) (rules []nftconn.Rule) {
	for _, f := range familiesOf(t) {
		var start []nftconn.Expr
		if t.Family == nftconn.Inet {
			start = nftconn.OfFamily(f)
		}
		lookup := nftconn.Lookup{Map: addressSet(t, acceptSet, f).Name, Reg: nftconn.Reg}
		accept := []nftconn.Expr{nftconn.Verdict{Code: nftconn.Accept}}
		to := []nftconn.Expr{nftconn.DestinationAddr(f), lookup}
		rules = append(rules,
			nftconn.Rule{Exprs: slices.Concat(start, []nftconn.Expr{nftconn.SourceAddr(f), lookup}, accept)},
			nftconn.Rule{Exprs: slices.Concat(start, to, flowHas(unix.NFT_CT_STATE, ctEstablishedRelated), accept)},
			nftconn.Rule{Exprs: slices.Concat(start, to, flowHas(unix.NFT_CT_STATUS, ctDNAT), accept)},
		)
	}
	return rules
}

func jumpTo(chain string) nftconn.Rule {
	return nftconn.Rule{Exprs: []nftconn.Expr{nftconn.Verdict{Code: nftconn.Jump, Chain: chain}}, Comment: "plumb"}
}

func ownHook() *nftconn.Hook { return &nftconn.Hook{Type: "filter", Point: nftconn.Forward} }

// An ending is how a base chain deals with what no rule of it has accepted.
type ending struct {
	drops bool
	by    *nftconn.Rule // the rule that does, nil for the policy
	jump  bool          // plumb's rules come before
}

// ending finds it: the policy, or a rule that nothing gets past.
func (f *filter) ending(c nftconn.Chain) (e ending) {
	for i, r := range c.Rules {
		if r.Equal(jumpTo(acceptChain(f.table))) {
			e.jump = true
		}
		if verdict := decides(r); verdict != goesOn {
			e.drops, e.by = verdict == drops, &c.Rules[i]
			return e
		}
	}
	e.drops = c.Hook.Drop
	return e
}

// closed returns the chains of others that have to let addresses pass.
func (f *filter) closed() (chains []nftconn.Chain) {
	for _, c := range f.bases {
		if !f.found.Dormant && f.ending(c).drops {
			chains = append(chains, c)
		}
	}
	return chains
}

// What becomes of every packet that gets to a rule.
type decision int

const (
	goesOn decision = iota
	drops
	accepts
)

func decides(r nftconn.Rule) decision {
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case nftconn.Counter:
		case nftconn.Other:
			if e.Name == "reject" {
				return drops
			}
			return goesOn
		case nftconn.Verdict:
			switch e.Code {
			case nftconn.Drop:
				return drops
			case nftconn.Accept:
				return accepts
			}
			return goesOn
		default:
			return goesOn
		}
	}
	return goesOn
}

// A defect is a difference in what attachments share.
type defect struct{ part, want, got string }

// defects returns what is wrong with what the table has for all addresses.
func (f *filter) defects() (list []defect) {
	if f.own() && (len(f.bases) != 1 || *f.bases[0].Hook != *ownHook()) {
		list = append(list, defect{"chain " + f.table.String() + " " + ownBase, ownHook().String(), "missing"})
	}
	for _, c := range f.bases {
		if e := f.ending(c); !e.jump && (f.own() || e.drops) {
			list = append(list, defect{"rule of chain " + c.String(), "jump " + acceptChain(f.table), "missing"})
		}
	}
	if got := f.rules.Rules; !slices.EqualFunc(got, acceptRules(f.table), nftconn.Rule.Equal) {
		list = append(list, defect{
			"rules of chain " + f.table.String() + " " + acceptChain(f.table),
			fmt.Sprintf("%d as plumb makes them", len(acceptRules(f.table))), fmt.Sprintf("%d with others", len(got)),
		})
	}
	return list
}

// mend adds to a transaction what makes good the defects.
func (f *filter) mend(tx *nftconn.Tx) {
	if f.own() {
		tx.AddTable(f.table)
	}
	for _, family := range familiesOf(f.table) {
		tx.AddMap(addressSet(f.table, acceptSet, family))
	}
	chain := acceptChain(f.table)
	tx.SetChain(nftconn.Chain{Table: f.table, Name: chain, Rules: acceptRules(f.table)})
	if f.own() {
		for _, c := range f.bases {
			if *c.Hook != *ownHook() {
				tx.DeleteChain(f.table, ownBase)
			}
		}
		tx.SetChain(nftconn.Chain{Table: f.table, Name: ownBase, Hook: ownHook(), Rules: []nftconn.Rule{jumpTo(chain)}})
		return
	}
	for _, c := range f.closed() {
		e := f.ending(c)
		r := jumpTo(chain)
		r.Table, r.Chain = c.Table, c.Name
		switch {
		case e.jump:
		case e.by != nil:
			tx.InsertBefore(*e.by, r)
		default:
			tx.AppendRule(r)
		}
	}
}

// A view is what there is in nftables, as far as it matters to addresses.
type view struct {
	gen      nftconn.Generation
	own      *filter
	others   []*filter // without iptables'
	admitted []*nftconn.ElementQuery
	xt       []*xtTable
}

// look reads it. The admin chain is that of iptables.
func look(ctx context.Context, r nftconn.Reader, addrs []netip.Addr, admin string) (*view, error) {
	v := &view{own: newFilter(nftconn.Own(), addrs)}
	queries := v.own.queries()
	for _, a := range addrs {
		q := &nftconn.ElementQuery{Map: addressSet(nftconn.Own(), admittedSet, nftconn.FamilyOf(a)), Key: a.AsSlice()}
		v.admitted, queries = append(v.admitted, q), append(queries, q)
	}
	var bases []*nftconn.BaseChainsQuery
	for _, f := range append(families(), nftconn.Inet) {
		q := &nftconn.BaseChainsQuery{Family: f, Point: nftconn.Forward}
		bases, queries = append(bases, q), append(queries, q)
	}
	var finish []func()
	for _, f := range families() {
		x := &xtTable{family: f, variant: iptables.NFT}
		more, done := x.queries(cniForward, admin)
		v.xt, queries, finish = append(v.xt, x), append(queries, more...), append(finish, done)
	}
	gen, err := r.Read(ctx, queries...)
	if err != nil {
		return nil, err
	}
	v.gen = gen
	for _, done := range finish {
		done()
	}
	for _, q := range bases {
		for _, c := range q.Chains {
			v.sort(c, addrs)
		}
	}
	return v, v.lookInto(ctx, r)
}

// sort puts a chain at the forward hook where it belongs.
func (v *view) sort(c nftconn.Chain, addrs []netip.Addr) {
	switch {
	case c.Hook.Type != "filter":
	case c.Table == nftconn.Own():
		if c.Name == ownBase {
			v.own.bases = append(v.own.bases, c)
		}
	case c.Name == forwardChain && c.Table.Family != nftconn.Inet && c.Table.Name != filterTable: // another of iptables'
	case c.Name == forwardChain && c.Table.Family != nftconn.Inet:
		for _, x := range v.xt {
			if x.family == c.Table.Family {
				x.found, x.drops = true, c.Hook.Drop
			}
		}
	default:
		i := slices.IndexFunc(v.others, func(f *filter) bool { return f.table == c.Table })
		if i < 0 {
			i = len(v.others)
			v.others = append(v.others, newFilter(c.Table, addrs))
		}
		v.others[i].bases = append(v.others[i].bases, c)
	}
}

// lookInto reads the base chains' rules, and what plumb has in tables of others.
func (v *view) lookInto(ctx context.Context, r nftconn.Reader) error {
	var queries []nftconn.Query
	var finish []func()
	for _, f := range append(v.others, v.own) {
		if !f.own() {
			queries = append(queries, f.queries()...)
		}
		for i, c := range f.bases {
			q := &nftconn.RulesQuery{Table: c.Table, Chain: c.Name}
			queries = append(queries, q)
			finish = append(finish, func() { f.bases[i].Rules = q.Rules })
		}
	}
	if queries == nil {
		return nil
	}
	_, err := r.Read(ctx, queries...)
	for _, done := range finish {
		done()
	}
	return err
}

func newFilter(t nftconn.Table, addrs []netip.Addr) *filter {
	f := &filter{table: t, found: nftconn.TableQuery{Table: t}, rules: nftconn.RulesQuery{Table: t, Chain: acceptChain(t)}}
	for _, a := range addrs {
		if family := nftconn.FamilyOf(a); slices.Contains(familiesOf(t), family) {
			f.entries = append(f.entries, &nftconn.ElementQuery{Map: addressSet(t, acceptSet, family), Key: a.AsSlice()})
		}
	}
	return f
}

func (f *filter) queries() []nftconn.Query {
	queries := []nftconn.Query{&f.found, &f.rules}
	for _, q := range f.entries {
		queries = append(queries, q)
	}
	return queries
}

// queries returns what reads chains of the table where iptables-nft keeps it,
// besides FORWARD, and what takes the answers.
func (x *xtTable) queries(chains ...string) (queries []nftconn.Query, done func()) {
	var found []*nftconn.ChainQuery
	var rules []*nftconn.RulesQuery
	for _, name := range append([]string{forwardChain}, chains...) {
		c := &nftconn.ChainQuery{Table: filterOf(x.family), Name: name}
		found, queries = append(found, c), append(queries, c)
	}
	for _, name := range []string{forwardChain, cniForward, stage1, stage2} {
		if name == forwardChain || slices.Contains(chains, name) {
			r := &nftconn.RulesQuery{Table: filterOf(x.family), Chain: name}
			rules, queries = append(rules, r), append(queries, r)
		}
	}
	return queries, func() {
		for _, c := range found {
			if c.Found {
				x.chains = append(x.chains, c.Name)
			}
		}
		x.found = slices.Contains(x.chains, forwardChain)
		for _, r := range rules {
			x.rules = append(x.rules, r.Rules...)
		}
	}
}

// untouchable tells whether nothing can be added to a table: firewalld's is
// made anew by it, and a process may keep one for itself.
func (f *filter) untouchable() bool { return f.table.Name == firewalldTable || f.found.Owned }

// serves tells whether an admission is made in a table of others: where packets
// are dropped, but not where iptables is asked for by name.
func (a Admission) serves(f *filter) bool {
	return a.Backend != IPTables && !f.untouchable() && f.closed() != nil
}

// ensureNFT makes everything be there in nftables that the addresses need, in
// one transaction, and returns those for which something was missing.
func (a Admission) ensureNFT(ctx context.Context, c *nftconn.Conn, b Backend, alive func(tag string) (bool, error)) (added []netip.Addr, err error) {
	err = nftconn.Retry(ctx, func() error {
		v, err := look(ctx, c, a.addresses(), a.adminChain())
		if err != nil {
			return err
		}
		var tx *nftconn.Tx
		if tx, added, err = a.plan(v, b, alive); err != nil {
			return err
		}
		return c.CommitInto(ctx, &v.own.found, tx)
	})
	if err != nil {
		return nil, err
	}
	return added, nil
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
		for _, f := range families() {
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
		change, missing := x.admit(addrs, a.adminChain())
		if change.guarded() {
			tx.Guard(v.gen)
		}
		change.into(tx, x.family)
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

// diffNFT compares with what ensureNFT makes.
func (a Admission) diffNFT(ctx context.Context, r nftconn.Reader, b Backend) (drifts []state.Drift, err error) {
	v, err := look(ctx, r, a.addresses(), a.adminChain())
	if err != nil {
		return nil, err
	}
	if b == NFTables {
		switch {
		case !v.own.found.Found:
			return []state.Drift{a.drift("table "+nftconn.Own().String(), "present", "missing")}, nil
		case v.own.found.Dormant:
			drifts = append(drifts, a.drift("table "+nftconn.Own().String(), "awake", "dormant"))
		}
		drifts = append(drifts, a.diffFilter(v.own)...)
	}
	mine := false
	for _, q := range append(v.own.entries, v.admitted...) {
		mine = mine || q.Element != nil && q.Element.Comment == a.Owner.Tag()
	}
	for _, f := range v.others {
		if mine && a.serves(f) {
			drifts = append(drifts, a.diffFilter(f)...)
		}
	}
	for _, x := range v.xt {
		if addrs := ofFamily(x.family, a.addresses()); addrs != nil && x.uses(b) {
			change, _ := x.admit(addrs, a.adminChain())
			drifts = append(drifts, a.drifts(x, change)...)
		}
	}
	return drifts, nil
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
	v, err := look(ctx, conn, nil, DefaultAdminChain)
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
