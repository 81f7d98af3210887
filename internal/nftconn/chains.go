package nftconn

import (
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// BaseChainsQuery asks for the chains of a family that are at a point in the
// packet's way, in the order in which the kernel lists them.
type BaseChainsQuery struct {
	dump
	Family Family
	Point  Point

	Chains []Chain // without rules
}

func (q *BaseChainsQuery) object() string { return "chains of " + q.Family.String() }

func (q *BaseChainsQuery) fact() fact {
	return fact{of: basesOf, table: Table{Family: q.Family}, name: strconv.Itoa(int(q.Point))}
}
func (q *BaseChainsQuery) copy() Query {
	known := *q
	known.Chains = slices.Clip(q.Chains)
	return &known
}
func (q *BaseChainsQuery) recall(known Query) { *q = *known.(*BaseChainsQuery) }

func (q *BaseChainsQuery) list(e *encoder, seq uint32) bool {
	q.Chains = nil
	e.message(nftMsg(unix.NFT_MSG_GETCHAIN), unix.NLM_F_DUMP, seq, q.Family, 0, nil)
	return true
}

func (q *BaseChainsQuery) listed(m message) {
	c := Chain{Table: Table{Family: q.Family}}
	for kind, b := range m.attributes() {
		switch kind {
		case unix.NFTA_CHAIN_TABLE:
			c.Table.Name = getString(b)
		case unix.NFTA_CHAIN_NAME:
			c.Name = getString(b)
		}
	}
	var hook ChainQuery
	hook.found(m)
	c.Hook = hook.Hook
	if c.Hook != nil && c.Hook.Point == q.Point {
		q.Chains = append(q.Chains, c)
	}
}

// AddChain makes a chain that was found to be missing. Its rules are added to
// those of a chain that has come meanwhile.
func (t *Tx) AddChain(c Chain) {
	t.newChain(c)
	for _, r := range c.Rules {
		r.Table, r.Chain = c.Table, c.Name
		t.AppendRule(r)
	}
}

// AppendRule adds a rule behind the others of its chain.
func (t *Tx) AppendRule(r Rule) { t.newRule(r, unix.NLM_F_CREATE|unix.NLM_F_APPEND, 0) }

// InsertRule adds a rule before the others of its chain.
func (t *Tx) InsertRule(r Rule) { t.newRule(r, unix.NLM_F_CREATE, 0) }

// Told makes Commit tell the handle that the rule which was added last has got.
func (t *Tx) Told(handle *uint64) {
	last := &t.ops[len(t.ops)-1]
	last.flags |= unix.NLM_F_ECHO
	last.told = func(m message) { *handle = decodeRule(m, Table{}).Handle }
}

// InsertBefore adds a rule before another of its chain, which was read.
func (t *Tx) InsertBefore(next, r Rule) { t.newRule(r, unix.NLM_F_CREATE, next.Handle) }

// newRule adds a rule; position is the handle of that which it is put before,
// 0 for none.
func (t *Tx) newRule(r Rule, flags uint16, position uint64) {
	t.add("add rule", r.Table.String()+" "+r.Chain, change{someRules, r.Table, r.Chain}, unix.NFT_MSG_NEWRULE, flags, r.Table.Family, func(e *encoder) {
		e.str(unix.NFTA_RULE_TABLE, r.Table.Name)
		e.str(unix.NFTA_RULE_CHAIN, r.Chain)
		e.nest(unix.NFTA_RULE_EXPRESSIONS, func() {
			for _, x := range r.Exprs {
				e.expr(x)
			}
		})
		if position != 0 {
			e.u64(unix.NFTA_RULE_POSITION, position)
		}
		if r.Protocol != 0 {
			e.nest(unix.NFTA_RULE_COMPAT, func() {
				e.u32(unix.NFTA_RULE_COMPAT_PROTO, uint32(r.Protocol))
				e.u32(unix.NFTA_RULE_COMPAT_FLAGS, 0)
			})
		}
		if r.Comment != "" {
			e.bytes(unix.NFTA_RULE_USERDATA, encodeComment(r.Comment))
		}
	})
}
