package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/internal/iptables"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

// A Service is a port, of UDP and TCP, of addresses of the host's, which packets
// reach whatever the host's packet filter drops otherwise. It belongs to no
// attachment: who serves there opens it, and closes it by opening it for no
// address.
//
// Nothing is written where nothing is dropped. Elsewhere it is one of these, for
// what has come in and is for the host:
//
//   - in the filter table of iptables, of either variant, two rules for each
//     address before all others of INPUT, with the comment "plumb NAME";
//   - in tables of others in nftables, two sets of addresses, plumb-NAME4 and
//     plumb-NAME6, and a jump to a chain that looks at them, behind the others'
//     own rules.
//
// Tables whose owner lets nobody add rules are left alone, firewalld's among
// them: there it is for the admin to let containers in.
type Service struct {
	Name      string // of the service, short
	Port      uint16
	Addresses []netip.Addr
}

func (s Service) comment() string { return nftconn.Own().Name + " " + s.Name }

func (s Service) chain(t nftconn.Table) string { return prefixed(t, s.Name+"-accept") }

func (s Service) set(t nftconn.Table, f nftconn.Family) nftconn.Map { return addressSet(t, s.Name, f) }

func (s Service) protocols() []uint8 { return []uint8{unix.IPPROTO_UDP, unix.IPPROTO_TCP} }

// Open makes the port of these addresses, and of no others, be open.
func (s Service) Open(ctx context.Context, k *state.Kernel) error {
	conn, err := k.NFT()
	if err != nil {
		return err
	}
	err = nftconn.Retry(ctx, func() error {
		tx, _, err := s.plan(ctx, conn)
		if err != nil {
			return err
		}
		return conn.Commit(ctx, tx)
	})
	if err != nil && !errors.Is(err, nftconn.ErrUnsupported) {
		return fmt.Errorf("let %s pass the packet filter: %w", s.Name, err)
	}
	for _, f := range families() {
		if err := changeLegacy(ctx, k, f, s.change); err != nil {
			return fmt.Errorf("let %s pass the packet filter: %w", s.Name, err)
		}
	}
	return nil
}

// Missing returns what Open would do, in words.
func (s Service) Missing(ctx context.Context, r state.Reader) ([]string, error) {
	conn, err := r.NFT()
	if err != nil {
		return nil, err
	}
	_, missing, err := s.plan(ctx, conn)
	if err != nil && !errors.Is(err, nftconn.ErrUnsupported) {
		return nil, err
	}
	for _, f := range families() {
		x, err := readLegacy(ctx, conn, f)
		if err != nil {
			return nil, err
		}
		missing = append(missing, x.undone(s.change(x))...)
	}
	return missing, nil
}

// undone describes a change by the rules that it adds.
func (x *xtTable) undone(c xtChange) (list []string) {
	for _, r := range c.insert {
		list = append(list, x.String()+" chain "+r.chain+" rule "+r.words())
	}
	return list
}

// A doorway is a table of others, with chains that see what comes in.
type doorway struct {
	nftconn.TableQuery
	bases    []nftconn.Chain // with their rules
	accept   nftconn.RulesQuery
	chain    nftconn.ChainQuery
	sets     nftconn.MapsQuery
	elements []*nftconn.ElementsQuery // in the order of familiesOf
}

// plan returns the transaction that makes it so, and what it adds in words.
func (s Service) plan(ctx context.Context, r nftconn.Reader) (tx *nftconn.Tx, missing []string, err error) {
	doors, tables, gen, err := s.read(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	tx = new(nftconn.Tx)
	tx.Guard(gen)
	for _, d := range doors {
		missing = append(missing, s.through(d, tx)...)
	}
	for _, x := range tables {
		c := s.change(x)
		missing = append(missing, x.undone(c)...)
		c.into(tx, x.family)
	}
	return tx, missing, nil
}

// read reads what there is in nftables.
func (s Service) read(ctx context.Context, r nftconn.Reader) (doors []*doorway, tables []*xtTable, gen nftconn.Generation, err error) {
	var queries []nftconn.Query
	var bases []*nftconn.BaseChainsQuery
	for _, f := range append(families(), nftconn.Inet) {
		q := &nftconn.BaseChainsQuery{Family: f, Point: nftconn.Input}
		bases, queries = append(bases, q), append(queries, q)
	}
	if gen, err = r.Read(ctx, queries...); err != nil {
		return nil, nil, 0, err
	}
	queries = nil
	var finish []func()
	for _, q := range bases {
		for _, c := range q.Chains {
			switch {
			case c.Hook.Type != "filter" || c.Table == nftconn.Own():
				continue
			case c.Name == inputChain && c.Table.Family != nftconn.Inet: // iptables'
				if c.Table.Name != filterTable {
					continue
				}
				x := &xtTable{family: c.Table.Family, variant: iptables.NFT, found: true, dropsInput: c.Hook.Drop}
				rules := &nftconn.RulesQuery{Table: c.Table, Chain: inputChain}
				tables, queries = append(tables, x), append(queries, rules)
				finish = append(finish, func() { x.rules = rules.Rules })
				continue
			}
			d := doorOf(&doors, c.Table, s)
			rules := &nftconn.RulesQuery{Table: c.Table, Chain: c.Name}
			queries = append(queries, rules)
			finish = append(finish, func() { c.Rules = rules.Rules; d.bases = append(d.bases, c) })
		}
	}
	for _, d := range doors {
		queries = append(queries, &d.TableQuery, &d.accept, &d.chain, &d.sets)
		for _, q := range d.elements {
			queries = append(queries, q)
		}
	}
	if queries == nil {
		return nil, nil, gen, nil
	}
	second, err := r.Read(ctx, queries...)
	if err == nil && second != gen {
		err = nftconn.ErrChanged
	}
	for _, done := range finish {
		done()
	}
	return doors, tables, gen, err
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

// change returns what has to be done to a table of iptables.
func (s Service) change(x *xtTable) (c xtChange) {
	ours := func(r xtRule) bool { return r.comment == s.comment() && r.to == targetAccept }
	var want []xtRule
	if x.dropsInput || slices.ContainsFunc(x.of(inputChain), func(r xtRule) bool { return !ours(r) }) {
		for _, a := range ofFamily(x.family, s.Addresses) {
			for _, protocol := range s.protocols() {
				want = append(want, xtRule{chain: inputChain, dst: a, service: xtService{protocol, s.Port}, comment: s.comment(), to: targetAccept})
			}
		}
	}
	for i, r := range x.decoded() {
		if r.chain == inputChain && ours(r) && !slices.Contains(want, r) {
			c.remove = append(c.remove, xtFound{r, x.rules[i]})
		}
	}
	for _, r := range want {
		if !x.has(r) {
			c.insert = append(c.insert, r)
		}
	}
	return c
}
