package firewall

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/internal/iptables"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

// What the reference writes in the filter table, and so does plumb:
//
//	-A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD
//	-A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN
//	-A CNI-FORWARD -d 10.22.0.3/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
//	-A CNI-FORWARD -s 10.22.0.3/32 -j ACCEPT
//
// These keep out who comes to a published port where the host drops what it
// forwards. So plumb adds one:
//
//	-A CNI-FORWARD -d 10.22.0.3/32 -m conntrack --ctstate DNAT -j ACCEPT

const cniForward = "CNI-FORWARD"

func jumpRule() xtRule {
	return xtRule{chain: forwardChain, comment: "CNI firewall plugin rules", to: cniForward}
}

func adminRule(chain string) xtRule {
	return xtRule{chain: cniForward, comment: "CNI firewall plugin admin overrides", to: chain}
}

// addressRules are those of an address.
func addressRules(a netip.Addr) []xtRule {
	return []xtRule{
		{chain: cniForward, dst: a, state: established, to: targetAccept},
		{chain: cniForward, src: a, to: targetAccept},
		publishedRule(a),
	}
}

// publishedRule lets published ports through to an address.
func publishedRule(a netip.Addr) xtRule {
	return xtRule{chain: cniForward, dst: a, state: published, to: targetAccept}
}

// DeleteOwn adds to a transaction the deletion of rules that let addresses pass
// whose elements carry tags of owners that are gone, and that the DEL of another
// implementation leaves: those for published ports, and in tables of the variant
// that the host has not chosen all, since nobody else writes there for containers.
func DeleteOwn(ctx context.Context, r nftconn.Reader, tx *nftconn.Tx, gone func(tag string) bool) error {
	addrs, err := tagged(ctx, r, gone)
	if err != nil || len(addrs) == 0 {
		return err
	}
	for _, f := range nftconn.Families() {
		all := nftconn.RulesQuery{Table: filterOf(f), Chain: cniForward}
		if _, err := r.Read(ctx, &all); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		x := &xtTable{family: f, variant: iptables.NFT, rules: all.Rules}
		for _, found := range x.own(addrs).remove {
			tx.DeleteRule(found.rule)
		}
	}
	return nil
}

// DeleteOwnLegacy deletes such rules from the tables of the legacy iptables. It has
// to come before the elements go.
func DeleteOwnLegacy(ctx context.Context, k *state.Kernel, gone func(tag string) bool) error {
	conn, err := k.NFT()
	if err != nil {
		return err
	}
	addrs, err := tagged(ctx, conn, gone)
	if err != nil || len(addrs) == 0 {
		return err
	}
	var errs []error
	for _, f := range nftconn.Families() {
		errs = append(errs, changeLegacy(ctx, k, f, func(x *xtTable) xtChange { return x.own(addrs) }))
	}
	return errors.Join(errs...)
}

// own returns the removal of the rules of addresses that are nobody else's.
func (x *xtTable) own(addrs []netip.Addr) (c xtChange) {
	all := x.expel(addrs)
	if chosen(x.family, x.variant) {
		all.remove = slices.DeleteFunc(all.remove, func(r xtFound) bool { return r.state != published })
	}
	return all
}

// uses tells whether a back end writes into a table of iptables: the back end
// of that name into the variant that the host has chosen, and any into one that
// would drop the packets otherwise. What firewalld itself writes there with
// iptables as its own means is rules, so there only a policy counts.
func (x *xtTable) uses(b Backend) bool {
	switch b {
	case Firewalld:
		return x.drops
	case IPTables:
		if chosen(x.family, x.variant) {
			return true
		}
	}
	return x.filters()
}

// demands tells whether CHECK has to find addresses admitted here: where packets
// are certain to be dropped otherwise, or some of the rules are there. What only
// may drop some, as rules of kube-proxy that came after the ADD, is not enough.
func (x *xtTable) demands(b Backend, addrs []netip.Addr) bool {
	if !x.uses(b) {
		return false
	}
	return b == IPTables && chosen(x.family, x.variant) || x.closes() ||
		slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.ContainsFunc(addressRules(a), x.has) })
}

// admit returns what has to be done to admit addresses, and those for which
// something is missing. The reference's rules are enough where whole is false.
func (x *xtTable) admit(addrs []netip.Addr, admin string, whole bool) (c xtChange, missing []netip.Addr) {
	c.base = !x.found
	c.chain(x, cniForward)
	c.chain(x, admin)
	if x.index(cniForward) < 0 {
		c.insert = append(c.insert, jumpRule())
		if jump := x.index(stage1); jump >= 0 { // which has to stay the first
			r := x.forward(jump)
			c.remove, c.insert = append(c.remove, r), append(c.insert, r.xtRule)
		}
	}
	if !slices.ContainsFunc(x.of(cniForward), func(r xtRule) bool { return r.to == admin && !r.foreign && r.service == xtService{} }) {
		c.insert = append(c.insert, adminRule(admin))
	}
	for _, a := range addrs {
		for _, r := range addressRules(a) {
			if x.has(r) || !whole && r.state == published {
				continue
			}
			c.add = append(c.add, r)
			if !slices.Contains(missing, a) {
				missing = append(missing, a)
			}
		}
	}
	return c, missing
}

// expel returns the removal of the rules of addresses.
func (x *xtTable) expel(addrs []netip.Addr) (c xtChange) {
	var expelled []xtRule
	for _, a := range addrs {
		expelled = append(expelled, addressRules(a)...)
	}
	for i, r := range x.decoded() {
		if slices.Contains(expelled, r) {
			c.remove = append(c.remove, xtFound{r, x.rules[i]})
		}
	}
	return c
}

// drifts describes what is to be done as what is missing.
func (a Admission) drifts(x *xtTable, c xtChange) (list []state.Drift) {
	if c.base {
		list = append(list, a.drift(x.String()+" chain "+forwardChain, "present", "missing"))
	}
	for _, name := range c.chains {
		list = append(list, a.drift(x.String()+" chain "+name, "present", "missing"))
	}
	for _, r := range append(c.insert, c.add...) {
		list = append(list, a.drift(x.String()+" chain "+r.chain+" rule", r.words(), "missing"))
	}
	return list
}

// readLegacy reads the filter table of the legacy iptables.
func readLegacy(ctx context.Context, r nftconn.Reader, f nftconn.Family) (*xtTable, error) {
	legacy, err := r.Legacy(ctx, f, filterTable)
	if err != nil {
		return nil, err
	}
	return &xtTable{
		family: f, variant: iptables.Legacy,
		found: true, // the program and the kernel make it
		drops: legacy.Policies != nil && legacy.Policies[forwardChain].Code == nftconn.Drop,

		dropsInput: legacy.Policies != nil && legacy.Policies[inputChain].Code == nftconn.Drop,
		chains:     legacy.Chains, rules: legacy.Rules,
	}, nil
}

// ensureLegacy admits the addresses in the legacy tables, with one process for
// each family where there is something to do.
func (a Admission) ensureLegacy(ctx context.Context, k *state.Kernel, b Backend) (added []netip.Addr, err error) {
	for _, f := range nftconn.Families() {
		addrs := ofFamily(f, a.addresses())
		if addrs == nil {
			continue
		}
		var missing []netip.Addr
		err := changeLegacy(ctx, k, f, func(x *xtTable) (c xtChange) {
			if x.uses(b) {
				c, missing = x.admit(addrs, a.adminChain(), true)
			}
			return c
		})
		if err != nil {
			return added, err
		}
		added = append(added, missing...)
	}
	return added, nil
}

// changeLegacy does what a function says is to be done to a family's legacy
// table.
func changeLegacy(ctx context.Context, k *state.Kernel, f nftconn.Family, plan func(*xtTable) xtChange) error {
	conn, err := k.NFT()
	if err != nil {
		return err
	}
	ns, err := k.Namespace(state.Host)
	if err != nil {
		return err
	}
	_, err = iptables.Converge(ctx, ns, f, iptables.Legacy, func() (string, error) {
		x, err := readLegacy(ctx, conn, f)
		if err != nil {
			return "", err
		}
		c := plan(x)
		return c.script(), nil
	})
	return err
}

func (a Admission) diffLegacy(ctx context.Context, r nftconn.Reader, b Backend, mine bool) (drifts []state.Drift, err error) {
	for _, f := range nftconn.Families() {
		addrs := ofFamily(f, a.addresses())
		if addrs == nil {
			continue
		}
		x, err := readLegacy(ctx, r, f)
		if err != nil {
			return nil, err
		}
		if x.demands(b, addrs) {
			c, _ := x.admit(addrs, a.adminChain(), mine)
			drifts = append(drifts, a.drifts(x, c)...)
		}
	}
	return drifts, nil
}

// removeLegacy removes the rules of addresses.
func removeLegacy(ctx context.Context, k *state.Kernel, addrs []netip.Addr) error {
	var errs []error
	for _, f := range nftconn.Families() {
		mine := ofFamily(f, addrs)
		if mine == nil {
			continue
		}
		errs = append(errs, changeLegacy(ctx, k, f, func(x *xtTable) xtChange { return x.expel(mine) }))
	}
	return errors.Join(errs...)
}
