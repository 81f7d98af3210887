package firewall

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/internal/iptables"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

// A Policy is what may get to the containers of a bridge.
type Policy string

// Policies. Open is everything. SameBridge keeps out what comes from other
// bridges with a policy. Isolated also keeps out the bridge's own containers.
const (
	Open       Policy = "open"
	SameBridge Policy = "same-bridge"
	Isolated   Policy = "isolated"
)

// ParsePolicy returns the policy that a configuration names; "" is Open.
func ParsePolicy(name string) (Policy, error) {
	if name == "" {
		return Open, nil
	}
	p := Policy(name)
	if !slices.Contains([]Policy{Open, SameBridge, Isolated}, p) {
		return "", fmt.Errorf("unknown policy %q: it is %q, %q or %q", name, Open, SameBridge, Isolated)
	}
	return p, nil
}

// An Isolation closes a bridge to others. It is shared by all attachments of
// the bridge and stays, as the bridge does. Where two networks give one bridge
// two policies the stricter one holds.
//
// With iptables it is the chains that the reference makes. Otherwise it is
// elements of sets, in which no packet pays for the number of bridges:
//
//	table inet plumb {
//		set guarded { type ifname; elements = { "cni1", "cni2" } }
//		set same-bridge { type ifname . ifname; elements = { "cni1" . "cni1", "cni2" . "cni2" } }
//		set isolated { type ifname . ifname; elements = { "cni2" . "cni2" } }
//		chain isolation {
//			type filter hook forward priority filter - 1; policy accept;
//			iifname . oifname @isolated drop
//			iifname @guarded oifname @guarded iifname . oifname != @same-bridge drop
//		}
//	}
//
// What one container of a bridge sends another does not come by there unless
// the host hands it to iptables (net.bridge.bridge-nf-call-iptables). To keep
// that out is for the bridge, see link.Isolated.
type Isolation struct {
	Bridge  string
	Policy  Policy // SameBridge or Isolated
	Backend Backend

	// Addresses are those of the bridge that an attachment has. With iptables
	// the policy is for their families, without any for both.
	Addresses []netip.Addr
}

// families are those that rules of iptables are for.
func (i Isolation) families() []nftconn.Family {
	if len(i.Addresses) == 0 {
		return nftconn.Families()
	}
	return slices.DeleteFunc(nftconn.Families(), func(f nftconn.Family) bool { return ofFamily(f, i.Addresses) == nil })
}

var _ state.Resource = Isolation{}

// Key names the state by the bridge.
func (i Isolation) Key() state.Key {
	return state.Key{NS: state.Host, Kind: "ingress policy", Name: i.Bridge}
}

// What the reference makes for a policy.
const (
	stage1 = "CNI-ISOLATION-STAGE-1"
	stage2 = "CNI-ISOLATION-STAGE-2"
)

func policyComment(policies string) string {
	return "CNI firewall plugin rules (ingressPolicy: " + policies + ")"
}

func anyPolicy() string { return policyComment("same-bridge|isolated") }

// rules returns those of the bridge in iptables.
func (i Isolation) rules() []xtRule {
	comment := policyComment(string(i.Policy))
	rules := []xtRule{
		{chain: stage2, out: i.Bridge, comment: anyPolicy(), to: targetDrop},
		{chain: stage1, in: i.Bridge, notOut: i.Bridge, comment: comment, to: stage2},
	}
	if i.Policy == Isolated {
		rules = append(rules, xtRule{chain: stage1, in: i.Bridge, out: i.Bridge, comment: comment, to: targetDrop})
	}
	return rules
}

// change returns what has to be done to a table of iptables.
func (i Isolation) change(x *xtTable) (c xtChange) {
	c.base = !x.found
	c.chain(x, stage1)
	c.chain(x, stage2)
	for _, chain := range []string{stage1, stage2} {
		last := xtRule{chain: chain, comment: anyPolicy(), to: targetReturn}
		if !x.does(last) {
			c.add = append(c.add, last)
		}
	}
	// It has to come before the rules that accept.
	jump, accepts := x.index(stage1), x.index(cniForward)
	if jump >= 0 && accepts >= 0 && accepts < jump {
		c.remove = append(c.remove, x.forward(jump))
		jump = -1
	}
	if jump < 0 {
		c.insert = append(c.insert, xtRule{chain: forwardChain, comment: anyPolicy(), to: stage1})
	}
	for _, r := range i.rules() {
		if !x.does(r) {
			c.insert = append(c.insert, r)
		}
	}
	return c
}

// does tells whether there is a rule that does the same: the comments were
// others before version 1.2 of the reference.
func (x *xtTable) does(r xtRule) bool {
	return slices.ContainsFunc(x.decoded(), func(d xtRule) bool {
		d.comment = r.comment
		return d == r
	})
}

// forward returns a rule of FORWARD.
func (x *xtTable) forward(index int) xtFound {
	for i, r := range x.decoded() {
		if r.chain != forwardChain {
			continue
		}
		if index == 0 {
			return xtFound{r, x.rules[i]}
		}
		index--
	}
	return xtFound{}
}

func guardedSet() nftconn.Map {
	return nftconn.Map{Table: nftconn.Own(), Name: "guarded", Key: []nftconn.Type{nftconn.IfName}}
}

func pairSet(p Policy) nftconn.Map {
	return nftconn.Map{Table: nftconn.Own(), Name: string(p), Key: []nftconn.Type{nftconn.IfName, nftconn.IfName}}
}

// pair loads both interfaces of a packet.
func pair() []nftconn.Expr {
	return []nftconn.Expr{
		nftconn.Meta{Key: unix.NFT_META_IIFNAME, Reg: nftconn.Reg},
		nftconn.Meta{Key: unix.NFT_META_OIFNAME, Reg: nftconn.RegAfter(nftconn.IPv6)},
	}
}

// beforeFilter is the priority of what is decided before anything is accepted.
const beforeFilter = -1

// chain is where bridges are closed to each other.
func isolationChain() nftconn.Chain {
	drop := []nftconn.Expr{nftconn.Verdict{Code: nftconn.Drop}}
	guarded := func(key uint32) []nftconn.Expr {
		return []nftconn.Expr{nftconn.Meta{Key: key, Reg: nftconn.Reg}, nftconn.Lookup{Map: guardedSet().Name, Reg: nftconn.Reg}}
	}
	same := nftconn.Lookup{Map: pairSet(SameBridge).Name, Reg: nftconn.Reg, Not: true}
	return nftconn.Chain{
		Table: nftconn.Own(), Name: "isolation",
		Hook: &nftconn.Hook{Type: "filter", Point: nftconn.Forward, Priority: beforeFilter},
		Rules: []nftconn.Rule{
			{Exprs: slices.Concat(pair(), []nftconn.Expr{nftconn.Lookup{Map: pairSet(Isolated).Name, Reg: nftconn.Reg}}, drop)},
			{Exprs: slices.Concat(guarded(unix.NFT_META_IIFNAME), guarded(unix.NFT_META_OIFNAME), pair(), []nftconn.Expr{same}, drop)},
		},
	}
}

// A closure is the sets that the bridge has to be in, and the chain that looks
// at them.
type closure struct {
	sets     []nftconn.Map
	chain    nftconn.Chain
	elements []*nftconn.ElementQuery
	table    nftconn.TableQuery
	found    nftconn.ChainQuery
	rules    nftconn.RulesQuery
}

// closure returns what a policy needs in nftables.
func (i Isolation) closure() *closure {
	c := &closure{sets: []nftconn.Map{guardedSet(), pairSet(SameBridge), pairSet(Isolated)}, chain: isolationChain()}
	c.want(guardedSet(), nftconn.InterfaceKey(i.Bridge))
	twice := nftconn.Concat(nftconn.InterfaceKey(i.Bridge), nftconn.InterfaceKey(i.Bridge))
	c.want(pairSet(SameBridge), twice)
	if i.Policy == Isolated {
		c.want(pairSet(Isolated), twice)
	}
	return c
}

func (c *closure) want(set nftconn.Map, key []byte) {
	c.elements = append(c.elements, &nftconn.ElementQuery{Map: set, Key: key})
}

func (c *closure) queries() []nftconn.Query {
	c.table.Table = c.chain.Table
	c.found.Table, c.found.Name = c.chain.Table, c.chain.Name
	c.rules.Table, c.rules.Chain = c.chain.Table, c.chain.Name
	queries := []nftconn.Query{&c.table, &c.found, &c.rules}
	for _, q := range c.elements {
		queries = append(queries, q)
	}
	return queries
}

// intact tells whether the chain is as it should be.
func (c *closure) intact() bool {
	return c.table.Found && !c.table.Dormant && c.found.Hook != nil && *c.found.Hook == *c.chain.Hook &&
		slices.EqualFunc(c.rules.Rules, c.chain.Rules, nftconn.Rule.Equal)
}

// mend adds to a transaction what is missing.
func (c *closure) mend(tx *nftconn.Tx, gen nftconn.Generation) {
	if !c.intact() {
		tx.Guard(gen)
		tx.AddTable(c.chain.Table)
		for _, set := range c.sets {
			tx.AddMap(set)
		}
		if c.found.Found && (c.found.Hook == nil || *c.found.Hook != *c.chain.Hook) {
			tx.DeleteChain(c.chain.Table, c.chain.Name)
		}
		tx.SetChain(c.chain)
	}
	for _, q := range c.elements {
		if q.Element == nil {
			tx.AddElements(q.Map, nftconn.Element{Key: q.Key, Comment: "plumb"})
		}
	}
}

// backend returns what a policy is made with: the reference's chains where
// addresses are admitted with iptables, else nftables.
func (i Isolation) backend(ctx context.Context) (Backend, error) {
	b, z, err := choose(ctx, i.Backend)
	z.close()
	if b != IPTables {
		b = NFTables
	}
	return b, err
}

// Ensure closes the bridge. There is nothing to undo: the bridge's other
// containers rely on it.
func (i Isolation) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	b, err := i.backend(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := k.NFT()
	if err != nil {
		return nil, err
	}
	if b == IPTables {
		if err := i.ensureLegacy(ctx, k); err != nil {
			return nil, err
		}
	}
	return nil, nftconn.Retry(ctx, func() error {
		closures, tables, gen, err := i.read(ctx, conn, b)
		if err != nil {
			return err
		}
		var tx nftconn.Tx
		for _, c := range closures {
			c.mend(&tx, gen)
		}
		for _, x := range tables {
			c := i.change(x)
			if !c.empty() {
				tx.Guard(gen)
			}
			c.into(&tx, x)
		}
		return conn.Commit(ctx, &tx)
	})
}

// read reads what there is in nftables.
func (i Isolation) read(ctx context.Context, r nftconn.Reader, b Backend) ([]*closure, []*xtTable, nftconn.Generation, error) {
	var closures []*closure
	var queries []nftconn.Query
	if b != IPTables {
		c := i.closure()
		closures, queries = append(closures, c), c.queries()
	}
	var tables []*xtTable
	var finish []func()
	for _, f := range i.families() {
		if b != IPTables || !chosen(f, iptables.NFT) {
			continue
		}
		x := &xtTable{family: f, variant: iptables.NFT}
		more, done := x.queries(stage1, stage2)
		tables, queries, finish = append(tables, x), append(queries, more...), append(finish, done)
	}
	gen, err := r.Read(ctx, queries...)
	for _, done := range finish {
		done()
	}
	return closures, tables, gen, err
}

// chosen tells whether the host has chosen a variant of iptables. Without any,
// it is that of nftables, which needs no program.
func chosen(f nftconn.Family, v iptables.Variant) bool {
	c, err := iptables.Chosen(f)
	if err != nil {
		c = iptables.NFT
	}
	return c == v
}

func (i Isolation) ensureLegacy(ctx context.Context, k *state.Kernel) error {
	for _, f := range i.families() {
		if !chosen(f, iptables.Legacy) {
			continue
		}
		if err := changeLegacy(ctx, k, f, i.change); err != nil {
			return err
		}
	}
	return nil
}

// Diff reports what is missing.
func (i Isolation) Diff(ctx context.Context, r state.Reader) ([]state.Drift, error) {
	b, err := i.backend(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := r.NFT()
	if err != nil {
		return nil, err
	}
	closures, tables, _, err := i.read(ctx, conn, b)
	if err != nil {
		return nil, err
	}
	var drifts []state.Drift
	missing := func(field, want string) {
		drifts = append(drifts, state.Drift{Key: i.Key(), Field: field, Want: want, Got: "missing"})
	}
	for _, c := range closures {
		if !c.intact() {
			missing("chain "+c.chain.String(), "as plumb makes it")
		}
		for _, q := range c.elements {
			if q.Element == nil {
				missing("element "+q.Map.String()+" "+i.Bridge, "present")
			}
		}
	}
	for _, f := range i.families() {
		if b == IPTables && chosen(f, iptables.Legacy) {
			x, err := readLegacy(ctx, conn, f)
			if err != nil {
				return nil, err
			}
			tables = append(tables, x)
		}
	}
	for _, x := range tables {
		c := i.change(x)
		for _, name := range c.chains {
			missing(x.String()+" chain "+name, "present")
		}
		for _, rule := range append(c.insert, c.add...) {
			missing(x.String()+" chain "+rule.chain+" rule", rule.words())
		}
	}
	return drifts, nil
}
