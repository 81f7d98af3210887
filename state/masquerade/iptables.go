package masquerade

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/internal/iptables"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

// What the reference writes with iptables, and so does plumb, since others
// read it: for each container a chain in table nat
//
//	-A CNI-HASH -d 10.22.0.0/16 -m comment --comment "name: \"net\" id: \"id\"" -j ACCEPT
//	-A CNI-HASH ! -d 224.0.0.0/4 -m comment --comment "…" -j MASQUERADE
//	-A POSTROUTING -s 10.22.0.3/32 -m comment --comment "…" -j CNI-HASH
//
// Several interfaces of a container on one network share the chain: its name
// has no part of the interface's.

const (
	natTable    = "nat"
	postrouting = "POSTROUTING"
	chainPrefix = "CNI-"
	chainHash   = 24
	maxComment  = 255 // of iptables' match
)

func containerChain(o state.Owner) string {
	return chainPrefix + hash(o.Network+o.ContainerID, chainHash)
}

func containerComment(o state.Owner) string {
	c := fmt.Sprintf("name: %q id: %q", o.Network, o.ContainerID)
	return c[:min(len(c), maxComment)]
}

// commentOwner returns whose a comment is, without the interface.
func commentOwner(comment string) (o state.Owner, ok bool) {
	n, err := fmt.Sscanf(comment, "name: %q id: %q", &o.Network, &o.ContainerID)
	return o, err == nil && n == 2
}

// chainState is what there is of a container's chain in one family.
type chainState struct {
	inNFT    bool // in the table that iptables-nft keeps
	inLegacy bool
	rules    []nftconn.Rule // of the chain
	jumps    []nftconn.Rule // of POSTROUTING to the chain
}

func (s chainState) exists() bool { return s.inNFT || s.inLegacy }

func natOf(f nftconn.Family) nftconn.Table { return nftconn.Table{Family: f, Name: natTable} }

// readChains reads what there is of a container's chain, by family, without
// starting a process.
func readChains(ctx context.Context, r nftconn.Reader, chain string) (map[nftconn.Family]chainState, error) {
	states := make(map[nftconn.Family]chainState)
	for _, f := range nftconn.Families() {
		var s chainState
		q := nftconn.ChainQuery{Table: natOf(f), Name: chain}
		_, err := r.Read(ctx, &q)
		if err != nil && !errors.Is(err, nftconn.ErrUnsupported) {
			return nil, err
		}
		if s.inNFT = q.Found; s.inNFT {
			jumps, rules := nftconn.RulesQuery{Table: natOf(f), Chain: postrouting}, nftconn.RulesQuery{Table: natOf(f), Chain: chain}
			if _, err := r.Read(ctx, &jumps, &rules); err != nil {
				return nil, err
			}
			s.add(append(jumps.Rules, rules.Rules...), chain)
		}
		legacy, err := r.Legacy(ctx, f, natTable)
		if err != nil {
			return nil, err
		}
		if s.inLegacy = slices.Contains(legacy.Chains, chain); s.inLegacy {
			s.add(legacy.Rules, chain)
		}
		states[f] = s
	}
	return states, nil
}

func (s *chainState) add(rules []nftconn.Rule, chain string) {
	for _, r := range rules {
		switch {
		case r.Chain == chain:
			s.rules = append(s.rules, r)
		case r.Chain == postrouting && r.Jump() == chain:
			s.jumps = append(s.jumps, r)
		}
	}
}

// accepts tells whether packets into a subnet leave the chain.
func (s chainState) accepts(subnet netip.Prefix) bool {
	return slices.ContainsFunc(s.rules, func(r nftconn.Rule) bool {
		to, ok := r.Destination()
		return ok && to == subnet && r.Target() == "ACCEPT"
	})
}

// masquerades tells whether the chain masquerades what it has not accepted.
func (s chainState) masquerades() bool {
	return slices.ContainsFunc(s.rules, func(r nftconn.Rule) bool { return r.Target() == "MASQUERADE" })
}

// covers tells whether packets from an address get to the chain.
func (s chainState) covers(addr netip.Addr) bool {
	return slices.ContainsFunc(s.jumps, func(r nftconn.Rule) bool {
		from, ok := r.Source()
		return ok && from.Addr() == addr
	})
}

// ofFamily returns the addresses of a family.
func (m Masquerade) ofFamily(f nftconn.Family) []netip.Prefix {
	return slices.DeleteFunc(m.addresses(), func(p netip.Prefix) bool { return nftconn.FamilyOf(p.Addr()) != f })
}

// ensureIPTables adds the rules that are missing, with one process a family.
func (m Masquerade) ensureIPTables(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	ns, err := k.Namespace(state.Host)
	if err != nil {
		return nil, err
	}
	conn, err := k.NFT()
	if err != nil {
		return nil, err
	}
	chain := containerChain(m.Owner)
	states, err := readChains(ctx, conn, chain)
	if err != nil {
		return nil, err
	}
	var added []netip.Addr
	undo := func(ctx context.Context) error { return removeChain(ctx, k, chain, added) }
	for _, f := range nftconn.Families() {
		script, addrs := m.script(f, states[f])
		if script == "" {
			continue
		}
		if err := iptables.Restore(ctx, ns, f, iptables.Default, script); err != nil {
			err = fmt.Errorf("masquerade %v: %w", addrs, err)
			if added != nil {
				err = errors.Join(err, undo(context.WithoutCancel(ctx)))
			}
			return nil, err
		}
		added = append(added, addrs...)
	}
	if added == nil {
		return nil, nil
	}
	return undo, nil
}

// script returns what iptables-restore has to do in a family, "" if nothing,
// and the addresses for which it does.
func (m Masquerade) script(f nftconn.Family, s chainState) (string, []netip.Addr) {
	addrs := m.ofFamily(f)
	if len(addrs) == 0 {
		return "", nil
	}
	chain := containerChain(m.Owner)
	comment := "-m comment --comment " + iptables.Quote(containerComment(m.Owner))
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if !s.exists() {
		add(":%s - [0:0]", chain)
	}
	for _, subnet := range subnetsOf(addrs) {
		if !s.accepts(subnet) {
			add("-I %s 1 -d %s %s -j ACCEPT", chain, subnet, comment)
		}
	}
	if !s.masquerades() {
		add("-A %s ! -d %s %s -j MASQUERADE", chain, multicast(f), comment)
	}
	var added []netip.Addr
	for _, a := range addrs {
		if !s.covers(a.Addr()) {
			add("-A %s -s %s %s -j %s", postrouting, a.Addr(), comment, chain)
			added = append(added, a.Addr())
		}
	}
	if lines == nil {
		return "", nil
	}
	return "*" + natTable + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n", added
}

// subnetsOf returns the subnets of addresses, each once.
func subnetsOf(addrs []netip.Prefix) []netip.Prefix {
	var list []netip.Prefix
	for _, a := range addrs {
		if s := a.Masked(); !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// diffIPTables compares with what ensureIPTables makes. mine tells whether
// there is anything of the container.
func (m Masquerade) diffIPTables(ctx context.Context, r nftconn.Reader) (drifts []state.Drift, mine bool, err error) {
	chain := containerChain(m.Owner)
	states, err := readChains(ctx, r, chain)
	if err != nil {
		return nil, false, err
	}
	for _, f := range nftconn.Families() {
		s := states[f]
		mine = mine || s.exists()
		addrs := m.ofFamily(f)
		if len(addrs) == 0 {
			continue
		}
		where := "iptables " + natOf(f).String() + " chain "
		if !s.exists() {
			drifts = append(drifts, m.drift(where+chain, "present", "missing"))
			continue
		}
		for _, a := range addrs {
			if !s.covers(a.Addr()) {
				drifts = append(drifts, m.drift(where+postrouting+" rule for "+a.Addr().String(), "jump "+chain, "missing"))
			}
		}
		for _, subnet := range subnetsOf(addrs) {
			if !s.accepts(subnet) {
				drifts = append(drifts, m.drift(where+chain+" rule for "+subnet.String(), "accept", "missing"))
			}
		}
		if !s.masquerades() {
			drifts = append(drifts, m.drift(where+chain+" last rule", "masquerade", "missing"))
		}
	}
	return drifts, mine, nil
}

// removeChain removes the rules that lead from addresses to a container's
// chain, or, if addrs is nil, all of them, and with the last one the chain.
func removeChain(ctx context.Context, k *state.Kernel, chain string, addrs []netip.Addr) error {
	conn, err := k.NFT()
	if err != nil {
		return err
	}
	ns, err := k.Namespace(state.Host)
	if err != nil {
		return err
	}
	return removal(chain, addrs).Run(ctx, conn, ns)
}

func removal(chain string, addrs []netip.Addr) iptables.Removal {
	return iptables.Removal{Table: natTable, From: postrouting, Chain: chain, Addrs: addrs}
}
