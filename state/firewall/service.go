package firewall

import (
	"context"
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
	for _, f := range nftconn.Families() {
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
	for _, f := range nftconn.Families() {
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
		c.into(tx, x)
	}
	return tx, missing, nil
}

// read reads what there is in nftables.
func (s Service) read(ctx context.Context, r nftconn.Reader) (doors []*doorway, tables []*xtTable, gen nftconn.Generation, err error) {
	var queries []nftconn.Query
	var bases []*nftconn.BaseChainsQuery
	for _, f := range append(nftconn.Families(), nftconn.Inet) {
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
