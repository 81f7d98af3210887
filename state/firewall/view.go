package firewall

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/internal/iptables"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

// A view is what there is in nftables, as far as it matters to addresses.
type view struct {
	gen      nftconn.Generation
	own      *filter
	others   []*filter // without iptables'
	admitted []*nftconn.ElementQuery
	xt       []*xtTable
}

// look reads it. The admin chain is that of iptables, "" if it does not matter.
// A thorough look finds rules for the addresses that are not noted.
func look(ctx context.Context, r nftconn.Reader, addrs []netip.Addr, admin string, thorough bool) (*view, error) {
	v := &view{own: newFilter(nftconn.Own(), addrs)}
	queries := v.own.queries()
	for _, a := range addrs {
		q := &nftconn.ElementQuery{Map: addressSet(nftconn.Own(), admittedSet, nftconn.FamilyOf(a)), Key: a.AsSlice()}
		v.admitted, queries = append(v.admitted, q), append(queries, q)
	}
	var bases []*nftconn.BaseChainsQuery
	for _, f := range append(nftconn.Families(), nftconn.Inet) {
		q := &nftconn.BaseChainsQuery{Family: f, Point: nftconn.Forward}
		bases, queries = append(bases, q), append(queries, q)
	}
	var finish []func()
	for _, f := range nftconn.Families() {
		x := &xtTable{family: f, variant: iptables.NFT}
		more, done := x.queries(cniForward, cmp.Or(admin, DefaultAdminChain))
		x.note(addrs, admin)
		for _, n := range x.notes {
			more = append(more, &n.element)
		}
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
	if err := v.complete(ctx, r, thorough); err != nil {
		return nil, err
	}
	return v, v.lookInto(ctx, r)
}

// marked tells whether plumb has admitted any of the addresses for an owner.
func (v *view) marked(o state.Owner) bool {
	return slices.ContainsFunc(slices.Concat(v.own.entries, v.admitted), func(q *nftconn.ElementQuery) bool {
		return q.Element != nil && q.Element.Comment == o.Tag()
	})
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

// queries returns what reads chains of the table where iptables-nft keeps it,
// besides FORWARD, and what takes the answers. The rules of CNI-FORWARD are
// left to complete.
func (x *xtTable) queries(chains ...string) (queries []nftconn.Query, done func()) {
	var found []*nftconn.ChainQuery
	var rules []*nftconn.RulesQuery
	for _, name := range append([]string{forwardChain}, chains...) {
		c := &nftconn.ChainQuery{Table: filterOf(x.family), Name: name}
		found, queries = append(found, c), append(queries, c)
	}
	for _, name := range []string{forwardChain, stage1, stage2} {
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
