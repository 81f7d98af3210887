package portmap

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/iptables"
	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

const setMarkComment = "CNI portfwd masquerade mark"
const masqComment = "CNI portfwd requiring masquerade"

// current returns the rules and the chain's existence in the table that the
// host's iptables program keeps.
func (x *foreign) current(f nftconn.Family, legacy bool) (rules []nftconn.Rule, exists func(chain string) bool) {
	if legacy {
		return x.legacy[f].Rules, func(chain string) bool { return slices.Contains(x.legacy[f].Chains, chain) }
	}
	return x.nft[f], func(chain string) bool { return slices.Contains(x.chains[f], chain) }
}

// ensureIPTables makes a container's chain be what it should, with one process
// a family.
func (p Portmap) ensureIPTables(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	ns, err := k.Namespace(state.Host)
	if err != nil {
		return nil, err
	}
	conn, err := k.NFT()
	if err != nil {
		return nil, err
	}
	chain := containerChain(p.Owner)
	undo := func(ctx context.Context) error { return removeChain(ctx, k, chain) }
	done := false
	fail := func(err error) (state.Undo, error) {
		if done {
			err = errors.Join(err, undo(context.WithoutCancel(ctx)))
		}
		return nil, err
	}
	x, err := readForeign(ctx, conn)
	if err != nil {
		return nil, err
	}
	if drifts, _ := p.diffIPTables(x); len(drifts) == 0 {
		return nil, nil
	}
	for _, f := range nftconn.Families() {
		variant, err := iptables.Chosen(f)
		if err != nil {
			return fail(err)
		}
		read := func() (string, error) {
			x, err := readForeign(ctx, conn)
			if err != nil {
				return "", err
			}
			rules, exists := x.current(f, variant == iptables.Legacy)
			return p.script(f, rules, exists), nil
		}
		changed, err := iptables.Converge(ctx, ns, f, iptables.Default, read)
		if err != nil {
			return fail(fmt.Errorf("map ports: %w", p.explain(ctx, ns, f, err)))
		}
		done = done || changed
	}
	if !done {
		return nil, nil
	}
	if err := p.flush(ctx, k); err != nil {
		return fail(err)
	}
	return undo, nil
}

// explain says of a refusal of iptables-restore which key is at fault, if that can
// be told.
func (p Portmap) explain(ctx context.Context, ns *netns.NS, f nftconn.Family, err error) error {
	if errors.Is(err, iptables.ErrMissing) {
		return err
	}
	if p.SetChain != "" {
		saved, unread := iptables.Save(ctx, ns, f, iptables.Default, natTable)
		if unread == nil && !strings.Contains(saved, "\n:"+p.SetChain+" ") {
			return cni.Errorf(cni.CodeInvalidConfig, "externalSetMarkChain: there is no chain %s in table nat of iptables for %s", p.SetChain, f).
				WithDetails("whoever marks packets in it has to make it first, such as kube-proxy its KUBE-MARK-MASQ; without the key plumb marks by itself")
		}
	}
	if conditions := p.conditions(f); len(conditions) > 0 {
		return cni.Errorf(cni.CodeInvalidConfig, "%w", err).
			WithDetails(fmt.Sprintf("look whether iptables takes the conditions %q", conditions))
	}
	return err
}

// script returns what iptables-restore has to do in a family, "" if the family
// has no mapping. The container's chain is emptied and filled by it.
func (p Portmap) script(f nftconn.Family, rules []nftconn.Rule, exists func(string) bool) string {
	own := p.ofFamily(f)
	if len(own) == 0 {
		return ""
	}
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	has := func(chain, target string) bool {
		return slices.ContainsFunc(rules, func(r nftconn.Rule) bool { return r.Chain == chain && (r.Jump() == target || r.Target() == target) })
	}
	for _, chain := range p.sharedChains() {
		if !exists(chain) {
			add("-N %s", chain) // fails if there is one by now, where ":" would empty it
		}
	}
	chain := containerChain(p.Owner)
	add(":%s - [0:0]", chain)
	for _, from := range []string{"PREROUTING", "OUTPUT"} {
		if !has(from, hostportChain) {
			add("-A %s -m addrtype --dst-type LOCAL -j %s", from, hostportChain)
		}
	}
	if p.SNAT && p.SetChain == "" {
		mark := uint64(1) << p.MarkBit
		if !has("POSTROUTING", masqChain) {
			// Before the chains of containers whose network masquerades by
			// iptables: these accept what stays in the subnet, such as
			// what a container sends to its own published port.
			add("-I POSTROUTING 1 -m comment --comment %s -j %s", iptables.Quote(masqComment), masqChain)
		}
		if !p.marks(rules, markChain, "MARK") {
			add("-A %s -m comment --comment %s -j MARK --set-xmark %#x/%#x", markChain, iptables.Quote(setMarkComment), mark, mark)
		}
		if !p.marks(rules, masqChain, "MASQUERADE") {
			add("-A %s -m mark --mark %#x/%#x -j MASQUERADE", masqChain, mark, mark)
		}
	}
	for _, fwd := range own {
		match := p.portMatch(fwd)
		for _, from := range p.sources(f) {
			source := ""
			if from.IsValid() {
				source = "-s " + from.String() + " "
			}
			add("-A %s %s%s -j %s", chain, source, match, p.setChain())
		}
		to := fwd.to.String()
		if fwd.run() {
			to = fwd.to.Addr().String()
			if f == nftconn.IPv6 {
				to = "[" + to + "]"
			}
		}
		add("-A %s %s -j DNAT --to-destination %s", chain, match, to)
	}
	add("-A %s -m comment --comment %s -j RETURN", chain, iptables.Quote(p.Owner.Tag()))
	led := make(map[string]bool) // protocols
	for _, r := range rules {
		if r.Chain == hostportChain && r.Jump() == chain {
			led[protocolOf(r)] = true
		}
	}
	conditions := ""
	for _, word := range p.conditions(f) {
		conditions += quoteWord(word) + " "
	}
	comment := iptables.Quote(containerComment(p.Owner))
	for _, group := range multiports(own) {
		if led[group.protocol] {
			continue
		}
		add("-A %s %s-p %s -m comment --comment %s -m multiport --dports %s -j %s", hostportChain, conditions, group.protocol, comment, group.ports, chain)
	}
	return "*" + natTable + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n"
}

func (p Portmap) ofFamily(f nftconn.Family) (own []forward) {
	for _, fwd := range p.forwards {
		if fwd.family() == f {
			own = append(own, fwd)
		}
	}
	return own
}

func (p Portmap) sharedChains() []string {
	if !p.SNAT || p.SetChain != "" {
		return []string{hostportChain}
	}
	return []string{hostportChain, markChain, masqChain}
}

func (p Portmap) setChain() string {
	if p.SetChain != "" {
		return p.SetChain
	}
	return markChain
}

// marks tells whether a chain has a rule with a target for the mark that p uses.
func (p Portmap) marks(rules []nftconn.Rule, chain, target string) bool {
	bit := uint32(1) << p.MarkBit
	return slices.ContainsFunc(rules, func(r nftconn.Rule) bool {
		return r.Chain == chain && r.Target() == target && mentions(r, bit)
	})
}

func (p Portmap) portMatch(f forward) string {
	host := ""
	switch {
	case !f.host.IsUnspecified():
		host = "-d " + f.host.String() + " "
	case f.family() == nftconn.IPv6 && !p.Loopback6:
		host = "! -d ::1 "
	}
	ports := strconv.Itoa(int(f.first))
	if f.run() {
		ports += ":" + strconv.Itoa(int(f.last))
	}
	name := protocolName(f.protocol)
	return fmt.Sprintf("%s-p %s -m %s --dport %s", host, name, name, ports)
}

// sources are where packets come from that have to be masqueraded; the zero Prefix
// is anywhere.
func (p Portmap) sources(f nftconn.Family) []netip.Prefix {
	if !p.SNAT {
		return nil
	}
	if p.MasqAll {
		return []netip.Prefix{{}}
	}
	a, _ := firstOf(f, p.addrs)
	local := netip.IPv6Loopback()
	if f == nftconn.IPv4 {
		local = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return []netip.Prefix{a.Masked(), netip.PrefixFrom(local, local.BitLen())}
}

// A multiport is what one rule of iptables can hold of the ports of a protocol:
// fifteen, where a range counts as two.
type multiport struct{ protocol, ports string }

const maxPorts = 15

func multiports(list []forward) (groups []multiport) {
	type span struct{ first, last int }
	spans := make(map[uint8][]span)
	var protocols []uint8
	for _, f := range list {
		if spans[f.protocol] == nil {
			protocols = append(protocols, f.protocol)
		}
		spans[f.protocol] = append(spans[f.protocol], span{int(f.first), int(f.last)})
	}
	for _, protocol := range protocols {
		all := spans[protocol]
		slices.SortFunc(all, func(a, b span) int { return a.first - b.first })
		var merged []span
		for _, s := range all {
			if n := len(merged); n > 0 && s.first <= merged[n-1].last+1 {
				merged[n-1].last = max(merged[n-1].last, s.last)
				continue
			}
			merged = append(merged, s)
		}
		var ports []string
		used := 0
		flush := func() {
			if used > 0 {
				groups = append(groups, multiport{protocolName(protocol), strings.Join(ports, ",")})
			}
			ports, used = nil, 0
		}
		for _, s := range merged {
			need, text := 1, strconv.Itoa(s.first)
			if s.last > s.first {
				need, text = 2, text+":"+strconv.Itoa(s.last)
			}
			if used+need > maxPorts {
				flush()
			}
			ports, used = append(ports, text), used+need
		}
		flush()
	}
	return groups
}

// quoteWord quotes a word only where it has to be.
func quoteWord(s string) string {
	if strings.ContainsAny(s, " \t\"'\\") {
		return iptables.Quote(s)
	}
	return s
}

// diffIPTables compares with what the reference makes with iptables, and so
// ours. mine tells whether there is anything of the container.
func (p Portmap) diffIPTables(x *foreign) (drifts []state.Drift, mine bool) {
	chain := containerChain(p.Owner)
	held := slices.DeleteFunc(x.iptablesHoldings(), func(h holding) bool { return h.rule.Chain != chain })
	where := "iptables table nat chain "
	for _, f := range nftconn.Families() {
		own := p.ofFamily(f)
		if len(own) == 0 {
			continue
		}
		rules := x.iptables(f)
		has := func(in, to string) bool {
			return slices.ContainsFunc(rules, func(r nftconn.Rule) bool { return r.Chain == in && (r.Jump() == to || r.Target() == to) })
		}
		need := [][2]string{{"PREROUTING", hostportChain}, {"OUTPUT", hostportChain}}
		if p.SNAT && p.SetChain == "" {
			need = append(need, [2]string{"POSTROUTING", masqChain}, [2]string{markChain, "MARK"}, [2]string{masqChain, "MASQUERADE"})
		}
		for _, n := range need {
			if !has(n[0], n[1]) {
				drifts = append(drifts, p.drift(f.String()+" "+where+n[0], "rule to "+n[1], "missing"))
			}
		}
		drifts = append(drifts, p.unmarked(f, rules, where+chain)...)
		protocols := make(map[string]bool)
		for _, fwd := range own {
			protocols[protocolName(fwd.protocol)] = true
		}
		for _, r := range rules {
			if r.Chain == hostportChain && r.Jump() == chain {
				mine = true
				delete(protocols, protocolOf(r))
			}
		}
		for name := range protocols {
			drifts = append(drifts, p.drift(f.String()+" "+where+hostportChain+" rule for "+name, "jump "+chain, "missing"))
		}
	}
	return append(drifts, p.missing(held, where+chain+" rule")...), mine || held != nil
}

// A marking is that packets for a port from somewhere are marked, to be
// masqueraded.
type marking struct {
	protocol uint8
	host     netip.Addr
	from     netip.Prefix
	port     uint16
}

// unmarked returns the ports for which the container's chain lacks a rule that
// marks. The reference has none for ::1.
func (p Portmap) unmarked(f nftconn.Family, rules []nftconn.Rule, where string) (drifts []state.Drift) {
	chain, ours := containerChain(p.Owner), false
	marks := make(map[marking]bool)
	for _, r := range rules {
		if r.Chain != chain {
			continue
		}
		ours = ours || r.Comment == p.Owner.Tag()
		if r.Jump() != p.setChain() {
			continue
		}
		fwd, _ := parseRule(f, r) // which leads nowhere
		from, _ := r.Source()
		for port := int(fwd.first); port <= int(fwd.last); port++ {
			marks[marking{fwd.protocol, fwd.host, from, uint16(port)}] = true
		}
	}
	for _, from := range p.sources(f) {
		if from.IsValid() && from.Addr() == netip.IPv6Loopback() && !ours {
			continue
		}
		for _, fwd := range p.ofFamily(f) {
			for port := int(fwd.first); port <= int(fwd.last); port++ {
				m := marking{fwd.protocol, fwd.host, from, uint16(port)}
				if everywhere := (marking{fwd.protocol, anyOf(f), from, uint16(port)}); marks[m] || marks[everywhere] {
					continue
				}
				what := fmt.Sprintf("%s rule for %s port %d from %s", where, protocolName(fwd.protocol), port, from)
				drifts = append(drifts, p.drift(f.String()+" "+what, "jump "+p.setChain(), "missing"))
			}
		}
	}
	return drifts
}

// protocolOf returns the name of the transport protocol that a rule is for.
func protocolOf(r nftconn.Rule) string {
	var f forward
	var loaded nftconn.Expr
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case nftconn.Meta, nftconn.Payload:
			loaded = e
		case nftconn.Cmp:
			f.compared(loaded, e)
		}
	}
	return protocolName(f.protocol)
}

// removeChain removes a container's chain and the rules that lead there.
func removeChain(ctx context.Context, k *state.Kernel, chain string) error {
	conn, err := k.NFT()
	if err != nil {
		return err
	}
	ns, err := k.Namespace(state.Host)
	if err != nil {
		return err
	}
	return iptables.Removal{Table: natTable, From: hostportChain, Chain: chain}.Run(ctx, conn, ns)
}

// containers returns where the forwards of a chain lead to.
func containers(held []holding, chain string) (list []forward) {
	for _, h := range held {
		if h.rule.Chain == chain {
			list = append(list, h.forward)
		}
	}
	return list
}

// mentions tells whether a rule's match or target is about a bit of the mark:
// struct xt_mark_mtinfo1 and xt_mark_tginfo2, and nftables' own expressions.
func mentions(r nftconn.Rule, bit uint32) bool {
	value := binary.NativeEndian.AppendUint32(nil, bit)
	return slices.ContainsFunc(r.Exprs, func(e nftconn.Expr) bool {
		switch e := e.(type) {
		case nftconn.Match:
			return e.Name == "mark" && bytes.HasPrefix(e.Info, value)
		case nftconn.Target:
			return e.Name == "MARK" && bytes.HasPrefix(e.Info, value)
		case nftconn.Cmp:
			return bytes.Equal(e.Data, value)
		case nftconn.Bitwise:
			return bytes.Equal(e.Xor, value)
		}
		return false
	})
}
