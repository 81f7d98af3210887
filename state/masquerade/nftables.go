package masquerade

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

func families() []nftconn.Family { return []nftconn.Family{nftconn.IPv4, nftconn.IPv6} }

// addressMap maps the addresses of a family to what happens to their packets.
func addressMap(f nftconn.Family) nftconn.Map {
	m := nftconn.Map{Table: nftconn.Own(), Name: "masq4", Key: []nftconn.Type{nftconn.IPv4Addr}}
	if f == nftconn.IPv6 {
		m.Name, m.Key = "masq6", []nftconn.Type{nftconn.IPv6Addr}
	}
	m.Data = []nftconn.Type{nftconn.VerdictType}
	return m
}

// multicast is never masqueraded: members of a group would take the host for
// the sender.
func multicast(f nftconn.Family) netip.Prefix {
	if f == nftconn.IPv4 {
		return netip.MustParsePrefix("224.0.0.0/4")
	}
	return netip.MustParsePrefix("ff00::/8")
}

// baseChain is where all packets come by.
func baseChain() nftconn.Chain {
	c := nftconn.Chain{
		Table: nftconn.Own(),
		Name:  "masq-postrouting",
		Hook:  &nftconn.Hook{Type: "nat", Point: nftconn.Postrouting, Priority: nftconn.SrcNAT},
	}
	for _, f := range families() {
		c.Rules = append(c.Rules, nftconn.Rule{Exprs: append(nftconn.OfFamily(f),
			nftconn.SourceAddr(f), nftconn.Lookup{Map: addressMap(f).Name, Reg: nftconn.Reg})})
	}
	return c
}

// baseObjects is how many objects the table has without any subnet's chain:
// the base chain and the two maps.
const baseObjects = 3

// subnetChain masquerades packets that leave a subnet.
func subnetChain(subnet netip.Prefix) nftconn.Chain {
	f := nftconn.FamilyOf(subnet.Addr())
	// nft's names can't hold a colon.
	name := addressMap(f).Name + "-" + strings.ReplaceAll(subnet.String(), ":", "_")
	return nftconn.Chain{Table: nftconn.Own(), Name: name, Rules: []nftconn.Rule{{Exprs: slices.Concat(
		nftconn.OfFamily(f),
		nftconn.DestinationNotIn(subnet),
		nftconn.DestinationNotIn(multicast(f)),
		[]nftconn.Expr{nftconn.Masquerade{}},
	)}}}
}

// element is what an address of an owner needs.
func element(addr netip.Prefix, tag string) nftconn.Element {
	return nftconn.Element{
		Key:     addr.Addr().AsSlice(),
		Verdict: &nftconn.Verdict{Code: nftconn.Jump, Chain: subnetChain(addr.Masked()).Name},
		Comment: tag,
	}
}

// tables is what there is of all that an attachment needs.
type tables struct {
	table    nftconn.TableQuery
	base     nftconn.ChainQuery
	subnets  []nftconn.ChainQuery
	elements []nftconn.ElementQuery // in the order of the addresses
}

// readTables reads what there is of what addresses need, and nothing else.
func readTables(ctx context.Context, r nftconn.Reader, addrs []netip.Prefix) (*tables, error) {
	t := &tables{elements: make([]nftconn.ElementQuery, len(addrs))}
	t.table.Table = nftconn.Own()
	t.base.Table, t.base.Name = nftconn.Own(), baseChain().Name
	for _, subnet := range subnets(addrs) {
		t.subnets = append(t.subnets, nftconn.ChainQuery{Table: nftconn.Own(), Name: subnetChain(subnet).Name})
	}
	queries := []nftconn.Query{&t.table, &t.base}
	for i := range t.subnets {
		queries = append(queries, &t.subnets[i])
	}
	for i, a := range addrs {
		t.elements[i] = nftconn.ElementQuery{Map: addressMap(nftconn.FamilyOf(a.Addr())), Key: a.Addr().AsSlice()}
		queries = append(queries, &t.elements[i])
	}
	_, err := r.Read(ctx, queries...)
	return t, err
}

// subnets returns the subnets of addresses, each once.
func subnets(addrs []netip.Prefix) []netip.Prefix {
	var list []netip.Prefix
	for _, a := range addrs {
		if s := a.Masked(); !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// baseIntact tells whether packets reach the maps.
func (t *tables) baseIntact() bool {
	return t.table.Found && !t.table.Dormant && t.base.Found && t.base.Chain.Equal(baseChain())
}

// attempts is how often a change is tried anew because somebody else's came in
// between. One of the contenders always succeeds, so it is only a bound.
const attempts = 100

var errContention = errors.New("nftables keeps changing")

// pause waits before the next attempt, longer and more randomly from one to
// the next.
func pause(ctx context.Context, attempt int) error {
	if attempt == 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rand.N(time.Duration(min(attempt, 20)) * 100 * time.Microsecond)):
		return nil
	}
}

// ensureElements makes everything be there that the addresses need, and
// returns those whose element was added.
func (m Masquerade) ensureElements(ctx context.Context, c *nftconn.Conn) ([]netip.Addr, error) {
	addrs := m.addresses()
	var err error
	for attempt := range attempts {
		if err := pause(ctx, attempt); err != nil {
			return nil, err
		}
		t, readErr := readTables(ctx, c, addrs)
		if readErr != nil {
			return nil, readErr
		}
		tx, added, fresh := t.mend(addrs, m.Owner.Tag())
		err = c.Commit(ctx, tx)
		switch {
		case err == nil:
			return added, nil
		case fresh && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP)):
			// Nothing but a part of the kernel can be missing in a transaction
			// that makes all that it needs.
			return nil, errors.Join(nftconn.ErrUnsupported, err)
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrExist), errors.Is(err, unix.EBUSY):
			// What was there went away, or what was missing came.
		default:
			return nil, err
		}
	}
	return nil, errors.Join(errContention, err)
}

// mend returns the transaction that adds what is missing, and the addresses
// whose element it adds. It is fresh if it makes everything that it needs.
func (t *tables) mend(addrs []netip.Prefix, tag string) (tx *nftconn.Tx, added []netip.Addr, fresh bool) {
	tx = new(nftconn.Tx)
	own := nftconn.Own()
	fresh = !t.table.Found
	if !t.baseIntact() {
		tx.AddTable(own)
		for _, f := range families() {
			tx.AddMap(addressMap(f))
		}
		base := baseChain()
		if t.base.Found && (t.base.Chain.Hook == nil || *t.base.Chain.Hook != *base.Hook) {
			tx.DeleteChain(own, base.Name)
		}
		tx.SetChain(base)
	}
	for i, subnet := range subnets(addrs) {
		if want := subnetChain(subnet); !t.subnets[i].Found || !t.subnets[i].Chain.Equal(want) {
			tx.SetChain(want)
		}
	}
	for i, a := range addrs {
		q, want := t.elements[i], element(a, tag)
		if got := q.Element; got != nil {
			if got.Comment == want.Comment && got.Verdict != nil && *got.Verdict == *want.Verdict {
				continue
			}
			// The address is ours now: whoever had it is gone without DEL.
			tx.DeleteElements(q.Map, q.Key)
		}
		tx.AddElements(q.Map, want)
		added = append(added, a.Addr())
	}
	return tx, added, fresh
}

// diffElements compares with what ensureElements makes. mine tells whether any
// element is the owner's.
func (m Masquerade) diffElements(ctx context.Context, r nftconn.Reader) (drifts []state.Drift, mine bool, err error) {
	addrs := m.addresses()
	t, err := readTables(ctx, r, addrs)
	if err != nil {
		return nil, false, err
	}
	for i, a := range addrs {
		want, got := element(a, m.Owner.Tag()), t.elements[i].Element
		field := "element " + t.elements[i].Map.String() + " " + a.Addr().String()
		switch {
		case got == nil:
			drifts = append(drifts, m.drift(field, want.Verdict.String(), "missing"))
		case got.Comment != want.Comment:
			drifts = append(drifts, m.drift("owner of "+field, want.Comment, got.Comment))
		case got.Verdict == nil || *got.Verdict != *want.Verdict:
			mine = true
			drifts = append(drifts, m.drift(field, want.Verdict.String(), fmt.Sprint(got.Verdict)))
		default:
			mine = true
		}
	}
	base := baseChain()
	switch field := "chain " + base.String(); {
	case !t.table.Found:
		drifts = append(drifts, m.drift("table "+base.Table.String(), "present", "missing"))
	case t.table.Dormant:
		drifts = append(drifts, m.drift("table "+base.Table.String(), "awake", "dormant"))
	case !t.base.Found:
		drifts = append(drifts, m.drift(field, "present", "missing"))
	case t.base.Chain.Hook == nil || *t.base.Chain.Hook != *base.Hook:
		drifts = append(drifts, m.drift("hook of "+field, base.Hook.String(), t.base.Chain.Hook.String()))
	default:
		drifts = append(drifts, m.diffRules(base, t.base.Chain)...)
	}
	if !t.table.Found {
		return drifts, mine, nil
	}
	for i, subnet := range subnets(addrs) {
		want := subnetChain(subnet)
		if !t.subnets[i].Found {
			drifts = append(drifts, m.drift("chain "+want.String(), "present", "missing"))
			continue
		}
		drifts = append(drifts, m.diffRules(want, t.subnets[i].Chain)...)
	}
	return drifts, mine, nil
}

// diffRules compares the rules of a chain.
func (m Masquerade) diffRules(want, got nftconn.Chain) []state.Drift {
	if slices.EqualFunc(want.Rules, got.Rules, nftconn.Rule.Equal) {
		return nil
	}
	return []state.Drift{m.drift("rules of chain "+want.String(), fmt.Sprintf("the %d of plumb", len(want.Rules)), fmt.Sprintf("%d others", len(got.Rules)))}
}

// removeElements removes the elements of addresses that carry a tag, or, if
// addrs is nil, all that carry it, and with the last of a subnet its chain, and
// with the last of all the table. It also answers other queries, which saves
// their round trip.
func removeElements(ctx context.Context, c *nftconn.Conn, tag string, addrs []netip.Addr, others ...nftconn.Query) error {
	for attempt := range attempts {
		if err := pause(ctx, attempt); err != nil {
			return err
		}
		own := nftconn.TableQuery{Table: nftconn.Own()}
		found, gen, err := findElements(ctx, c, tag, addrs, append(others, &own)...)
		if err != nil || len(found) == 0 {
			return err
		}
		others = nil
		tx, err := removal(ctx, c, own, found)
		if err != nil {
			return err
		}
		tx.Guard(gen)
		if err := c.Commit(ctx, tx); !errors.Is(err, nftconn.ErrChanged) {
			return err
		}
	}
	return errContention
}

// located is an element and the map that it is in.
type located struct {
	nftconn.Element
	in nftconn.Map
}

// findElements returns the elements of addresses that carry a tag, or, if
// addrs is nil, all that carry it. The generation is that of the ruleset that
// it looked at.
func findElements(ctx context.Context, r nftconn.Reader, tag string, addrs []netip.Addr, others ...nftconn.Query) ([]located, nftconn.Generation, error) {
	queries := others
	var one []*nftconn.ElementQuery
	var all []*nftconn.ElementsQuery
	if addrs == nil {
		for _, f := range families() {
			q := &nftconn.ElementsQuery{Map: addressMap(f)}
			all, queries = append(all, q), append(queries, q)
		}
	}
	for _, a := range addrs {
		a = a.Unmap()
		q := &nftconn.ElementQuery{Map: addressMap(nftconn.FamilyOf(a)), Key: a.AsSlice()}
		one, queries = append(one, q), append(queries, q)
	}
	gen, err := r.Read(ctx, queries...)
	if err != nil {
		return nil, 0, err
	}
	var found []located
	for _, q := range one {
		if q.Element != nil && q.Element.Comment == tag {
			found = append(found, located{*q.Element, q.Map})
		}
	}
	for _, q := range all {
		for _, e := range q.Elements {
			if e.Comment == tag {
				found = append(found, located{e, q.Map})
			}
		}
	}
	return found, gen, nil
}

// removal returns the transaction that deletes elements and what only they
// used.
func removal(ctx context.Context, r nftconn.Reader, own nftconn.TableQuery, found []located) (*nftconn.Tx, error) {
	uses := make(map[string]int)
	var chains []*nftconn.ChainQuery
	var queries []nftconn.Query
	for _, e := range found {
		if e.Verdict == nil || e.Verdict.Chain == "" {
			continue
		}
		if uses[e.Verdict.Chain]++; uses[e.Verdict.Chain] == 1 {
			q := &nftconn.ChainQuery{Table: own.Table, Name: e.Verdict.Chain}
			chains, queries = append(chains, q), append(queries, q)
		}
	}
	if _, err := r.Read(ctx, queries...); err != nil {
		return nil, err
	}
	chains = slices.DeleteFunc(chains, func(q *nftconn.ChainQuery) bool {
		return !q.Found || q.Use > len(q.Chain.Rules)+uses[q.Name] // others lead there
	})
	tx := new(nftconn.Tx)
	if own.Use <= baseObjects+len(chains) && len(chains) > 0 {
		tx.DeleteTable(own.Table)
		return tx, nil
	}
	for _, e := range found {
		tx.DeleteElements(e.in, e.Key)
	}
	for _, q := range chains {
		tx.DeleteChain(q.Table, q.Name)
	}
	return tx, nil
}
