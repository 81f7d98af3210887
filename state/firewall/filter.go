package firewall

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/internal/nftconn"
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
	digit := "4"
	if f == nftconn.IPv6 {
		digit = "6"
	}
	return nftconn.Map{Table: t, Name: prefixed(t, name) + digit, Key: []nftconn.Type{nftconn.AddrType(f)}}
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
		return nftconn.Families()
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

// ending finds it in a chain of the table.
func (f *filter) ending(c nftconn.Chain) ending { return endingOf(c, jumpTo(acceptChain(f.table))) }

// endingOf finds it: the policy, or a rule that nothing gets past. The jump is to
// plumb's rules.
func endingOf(c nftconn.Chain, jump nftconn.Rule) (e ending) {
	for i, r := range c.Rules {
		if r.Equal(jump) {
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
			"what is in chain " + f.table.String() + " " + acceptChain(f.table),
			fmt.Sprintf("the %d rules that plumb makes", len(acceptRules(f.table))), fmt.Sprintf("different (%d rules)", len(got)),
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
		f.ending(c).lead(tx, c, jumpTo(chain))
	}
}

// lead adds a jump where what is accepted by it is not dropped.
func (e ending) lead(tx *nftconn.Tx, c nftconn.Chain, jump nftconn.Rule) {
	jump.Table, jump.Chain = c.Table, c.Name
	switch {
	case e.jump:
	case e.by != nil:
		tx.InsertBefore(*e.by, jump)
	default:
		tx.AppendRule(jump)
	}
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

// untouchable tells whether nothing can be added to a table: firewalld's is
// made anew by it, and a process may keep one for itself.
func (f *filter) untouchable() bool { return f.table.Name == firewalldTable || f.found.Owned }
