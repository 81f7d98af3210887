package masquerade

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/internal/nftconn"
)

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

// lengths returns the lengths of the subnets that a family's chain knows, and
// whether the chain is as it should be with these.
func (t *tables) lengths(f nftconn.Family) (lengths []int, intact bool) {
	rules := t.rules.Of(familyName(f))
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

// inUse returns the lengths of the subnets that a family has sets for: those that
// its chain knows or, where somebody has changed that, those of the sets there are.
func (t *tables) inUse(ctx context.Context, r nftconn.Reader, f nftconn.Family) ([]int, error) {
	lengths, intact := t.lengths(f)
	if intact {
		return lengths, nil
	}
	maps := nftconn.MapsQuery{Table: nftconn.Own()}
	_, err := r.Read(ctx, &maps)
	return withSets(lengths, f, maps.Names), err
}

// withSets adds to lengths those of a family's sets, by the names of all sets.
func withSets(lengths []int, f nftconn.Family, names []string) []int {
	for _, name := range names {
		if bits, ok := localBits(f, name); ok && !slices.Contains(lengths, bits) {
			lengths = append(lengths, bits)
		}
	}
	return lengths
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
	if rules := t.rules.Of(baseChain); !slices.EqualFunc(rules, baseRules(), nftconn.Rule.Equal) {
		found = append(found, rulesDefect(base, len(baseRules()), len(rules)))
	}
	for _, f := range nftconn.Families() {
		want := lengthsOf(f, addrs)
		if want == nil {
			continue
		}
		name := nftconn.Own().String() + " " + familyName(f)
		lengths, intact := t.lengths(f)
		if !intact {
			found = append(found, rulesDefect(name, len(lengths)+1, len(t.rules.Of(familyName(f)))))
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
	return defect{"what is in chain " + chain, fmt.Sprintf("the %d rules that plumb makes", want), fmt.Sprintf("different (%d rules)", got)}
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
	for _, f := range nftconn.Families() {
		lengths := withSets(lengthsOf(f, addrs), f, maps.Names)
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
