package portmap

import (
	"context"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

// What the reference's plugin (v1.9.1) leaves, with nftables
//
//	table ip cni_hostport {
//		chain hostports {
//			tcp dport 8080 dnat to 10.22.0.3:80 comment "id"
//		}
//		chain masquerading {
//			ip saddr 10.22.0.3 ip daddr 10.22.0.3 masquerade comment "id"
//		}
//	}
//
// and with iptables, which is what ours leaves too but for the last rule, that
// tells whose the chain is,
//
//	-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"net\" id: \"id\"" -m multiport --dports 8080 -j CNI-DN-HASH
//	-A CNI-DN-HASH -s 10.22.0.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
//	-A CNI-DN-HASH -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.22.0.3:80
//	-A CNI-DN-HASH -m comment --comment "plumb:net/id/eth0" -j RETURN

const referenceName = "cni_hostport"

func referenceTable(f nftconn.Family) nftconn.Table {
	return nftconn.Table{Family: f, Name: referenceName}
}

const (
	natTable      = "nat"
	hostportChain = "CNI-HOSTPORT-DNAT"
	markChain     = "CNI-HOSTPORT-SETMARK"
	masqChain     = "CNI-HOSTPORT-MASQ"
	chainPrefix   = "CNI-DN-"
	chainHash     = 21
	maxComment    = 255 // of iptables' match
)

func natOf(f nftconn.Family) nftconn.Table { return nftconn.Table{Family: f, Name: natTable} }

// containerChain is the chain of a container on a network. Several interfaces
// share it: its name has no part of the interface's.
func containerChain(o state.Owner) string {
	sum := sha512.Sum512([]byte(o.Network + o.ContainerID))
	return chainPrefix + hex.EncodeToString(sum[:])[:chainHash]
}

func containerComment(o state.Owner) string {
	c := fmt.Sprintf("dnat name: %q id: %q", o.Network, o.ContainerID)
	return c[:min(len(c), maxComment)]
}

// commentOwner returns whose a comment is, without the interface.
func commentOwner(comment string) (o state.Owner, ok bool) {
	n, err := fmt.Sscanf(comment, "dnat name: %q id: %q", &o.Network, &o.ContainerID)
	return o, err == nil && n == 2
}

// foreign is what there is of others' rules, by family.
type foreign struct {
	reference map[nftconn.Family][]nftconn.Rule // of the reference's own table
	nft       map[nftconn.Family][]nftconn.Rule // of the table that iptables-nft keeps
	legacy    map[nftconn.Family]nftconn.LegacyTable
	chains    map[nftconn.Family][]string // those of the former that attachments share
}

// readForeign reads them without starting a process. Where there is none, which
// one look tells, nothing is listed.
func readForeign(ctx context.Context, r nftconn.Reader) (*foreign, error) {
	x := &foreign{
		reference: make(map[nftconn.Family][]nftconn.Rule), nft: make(map[nftconn.Family][]nftconn.Rule),
		legacy: make(map[nftconn.Family]nftconn.LegacyTable), chains: make(map[nftconn.Family][]string),
	}
	var tables []*nftconn.TableQuery
	chains := make(map[nftconn.Family][]*nftconn.ChainQuery)
	var queries []nftconn.Query
	for _, f := range nftconn.Families() {
		t := &nftconn.TableQuery{Table: referenceTable(f)}
		tables, queries = append(tables, t), append(queries, t)
		for _, name := range []string{hostportChain, markChain, masqChain} {
			c := &nftconn.ChainQuery{Table: natOf(f), Name: name}
			chains[f], queries = append(chains[f], c), append(queries, c)
		}
	}
	if _, err := r.Read(ctx, queries...); err != nil && !errors.Is(err, nftconn.ErrUnsupported) {
		return nil, err
	}
	for i, f := range nftconn.Families() {
		for _, c := range chains[f] {
			if c.Found {
				x.chains[f] = append(x.chains[f], c.Name)
			}
		}
		for _, q := range []struct {
			found bool
			table nftconn.Table
			into  map[nftconn.Family][]nftconn.Rule
		}{{tables[i].Found, tables[i].Table, x.reference}, {x.chains[f] != nil, natOf(f), x.nft}} {
			if !q.found {
				continue
			}
			rules := nftconn.RulesQuery{Table: q.table}
			if _, err := r.Read(ctx, &rules); err != nil {
				return nil, err
			}
			q.into[f] = rules.Rules
		}
		legacy, err := r.Legacy(ctx, f, natTable)
		if err != nil {
			return nil, err
		}
		x.legacy[f] = legacy
	}
	return x, nil
}

// iptables returns the rules of a family's table nat, of both of the kernel's
// implementations.
func (x *foreign) iptables(f nftconn.Family) []nftconn.Rule {
	return slices.Concat(x.nft[f], x.legacy[f].Rules)
}

// A holding is a port that others' rules lead to a container.
type holding struct {
	forward
	rule  nftconn.Rule
	owner state.Owner // as far as known; IfName only of ours
	tag   string      // ours
}

// reference returns what the reference's own tables map.
func (x *foreign) referenceHoldings() (list []holding) {
	for _, f := range nftconn.Families() {
		for _, r := range x.reference[f] {
			if fwd, ok := parseRule(f, r); ok {
				list = append(list, holding{forward: fwd, rule: r, owner: state.Owner{ContainerID: r.Comment}})
			}
		}
	}
	return list
}

// iptablesHoldings returns what rules of iptables map.
func (x *foreign) iptablesHoldings() (list []holding) {
	for _, f := range nftconn.Families() {
		owners, tags := make(map[string]state.Owner), make(map[string]string)
		rules := x.iptables(f)
		for _, r := range rules {
			if o, ok := commentOwner(r.Comment); ok && r.Jump() != "" {
				owners[r.Jump()] = o
			}
			if o, ok := state.ParseTag(r.Comment); ok {
				owners[r.Chain], tags[r.Chain] = o, r.Comment
			}
		}
		for _, r := range rules {
			o, ok := owners[r.Chain]
			if !ok || !strings.HasPrefix(r.Chain, chainPrefix) {
				continue
			}
			if fwd, ok := parseRule(f, r); ok {
				list = append(list, holding{forward: fwd, rule: r, owner: o, tag: tags[r.Chain]})
			}
		}
	}
	return list
}

// MappedByOthers tells whether there are mappings that nftables in a table of our own
// does not hold: the reference's, or of iptables.
func MappedByOthers(ctx context.Context, k *state.Kernel) (bool, error) {
	conn, err := k.NFT()
	if err != nil {
		return false, err
	}
	x, err := readForeign(ctx, conn)
	if err != nil {
		return false, err
	}
	return len(x.referenceHoldings())+len(x.iptablesHoldings()) > 0, nil
}

// refuseForeign fails if rules of others, or of iptables, hold a port. What a
// dead attachment of ours has there is removed.
func (p Portmap) refuseForeign(ctx context.Context, k *state.Kernel) error {
	conn, err := k.NFT()
	if err != nil {
		return err
	}
	x, err := readForeign(ctx, conn)
	if err != nil {
		return err
	}
	removed := make(map[string]bool)
	for _, h := range append(x.referenceHoldings(), x.iptablesHoldings()...) {
		if h.owner.ContainerID == p.Owner.ContainerID || h.owner.ContainerID == p.ownID() || removed[h.rule.Chain] ||
			!slices.ContainsFunc(p.forwards, h.overlaps) {
			continue
		}
		alive := true // nobody has recorded the sandbox of the reference's
		if h.tag != "" && k.Alive != nil {
			if alive, err = k.Alive(h.tag); err != nil {
				return err
			}
		}
		if alive {
			name := strings.Trim(h.owner.String(), "/")
			return heldBy(h.String(), name)
		}
		if err := removeChain(ctx, k, h.rule.Chain); err != nil {
			return err
		}
		removed[h.rule.Chain] = true
	}
	if p.Backend != IPTables {
		return nil
	}
	return p.refuseElements(ctx, k)
}

// refuseElements fails if an element of nftables holds a port that is to be
// mapped with iptables, and removes those that are nobody's.
func (p Portmap) refuseElements(ctx context.Context, k *state.Kernel) error {
	c, err := k.NFT()
	if err != nil {
		return err
	}
	err = nftconn.Retry(ctx, func() error {
		names := nftconn.MapsQuery{Table: nftconn.Own()}
		gen, err := c.Read(ctx, &names)
		if err != nil || names.Names == nil {
			return err
		}
		found, err := p.occupied(ctx, c, readNames(names.Names))
		if err != nil {
			return err
		}
		found = slices.DeleteFunc(found, func(e entry) bool { return e.Comment == p.Owner.Tag() })
		var tx nftconn.Tx
		tx.Guard(gen)
		none := p
		none.forwards, none.addrs = nil, nil
		if _, err := none.replace(&tx, found, nil, k.Alive); err != nil {
			return err
		}
		return c.Commit(ctx, &tx)
	})
	if errors.Is(err, nftconn.ErrUnsupported) {
		return nil
	}
	return err
}

// parseRule returns what a rule leads where, if it is one that does: written by
// nft, by iptables-nft, or by the legacy iptables.
func parseRule(f nftconn.Family, r nftconn.Rule) (fwd forward, ok bool) {
	fwd.host = anyOf(f)
	if to, ok := r.Destination(); ok {
		fwd.host = to.Addr()
	}
	values := make(map[uint32][]byte) // by register
	var loaded nftconn.Expr
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case nftconn.Meta, nftconn.Payload:
			loaded = e
		case nftconn.Cmp:
			fwd.compared(loaded, e)
		case nftconn.Range:
			if len(e.From) == 2 && len(e.To) == 2 {
				fwd.first, fwd.last = binary.BigEndian.Uint16(e.From), binary.BigEndian.Uint16(e.To)
			}
		case nftconn.Match:
			fwd.match(e)
		case nftconn.Immediate:
			values[e.Reg] = e.Data
		case nftconn.DNAT:
			addr, _ := netip.AddrFromSlice(values[e.AddrReg])
			var port uint16
			if b := values[e.PortReg]; e.PortReg != 0 && len(b) >= 2 {
				port = binary.BigEndian.Uint16(b)
			}
			fwd.to = netip.AddrPortFrom(addr, port)
		case nftconn.Target:
			fwd.target(f, e)
		}
	}
	if fwd.to.Port() == 0 {
		fwd.to = netip.AddrPortFrom(fwd.to.Addr(), fwd.first)
	}
	return fwd, fwd.to.Addr().IsValid() && fwd.first != 0
}

// compared takes what is compared with what was loaded.
func (f *forward) compared(loaded nftconn.Expr, c nftconn.Cmp) {
	switch l := loaded.(type) {
	case nftconn.Meta:
		if l.Key == unix.NFT_META_L4PROTO && len(c.Data) >= 1 {
			f.protocol = c.Data[0]
		}
	case nftconn.Payload:
		switch {
		case l.Base == nftconn.NetworkHeader && l.Len == 1 && (l.Offset == 9 || l.Offset == 6) && len(c.Data) == 1:
			f.protocol = c.Data[0] // of IPv4's header, and of IPv6's
		case l.Base == nftconn.TransportHeader && l.Offset == 2 && l.Len == 2 && len(c.Data) == 2:
			port := binary.BigEndian.Uint16(c.Data)
			switch c.Op {
			case nftconn.Equal:
				f.first, f.last = port, port
			case nftconn.AtLeast:
				f.first = port
			case nftconn.AtMost:
				f.last = port
			}
		}
	}
}

// match reads the ports of the matches of iptables (struct xt_tcp, xt_udp and
// xt_sctp_info).
func (f *forward) match(m nftconn.Match) {
	at := 4
	switch m.Name {
	case "tcp", "udp":
	case "sctp":
		at = 0
	default:
		return
	}
	if len(m.Info) >= at+4 {
		f.first, f.last = binary.NativeEndian.Uint16(m.Info[at:]), binary.NativeEndian.Uint16(m.Info[at+2:])
	}
}

// target reads where the target DNAT of iptables leads to: struct
// nf_nat_ipv4_multi_range_compat (revision 0), nf_nat_range (1) and
// nf_nat_range2 (2).
func (f *forward) target(family nftconn.Family, t nftconn.Target) {
	if t.Name != "DNAT" {
		return
	}
	addrAt, portAt := 4, 36
	if t.Rev == 0 {
		addrAt, portAt = 8, 16
	}
	if len(t.Info) < portAt+2 {
		return
	}
	addr, _ := netip.AddrFromSlice(t.Info[addrAt : addrAt+len(anyOf(family).AsSlice())])
	f.to = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(t.Info[portAt:]))
}

// diffReference compares with what the reference makes with nftables.
func (p Portmap) diffReference(x *foreign) (drifts []state.Drift, mine bool) {
	var held []holding
	for _, h := range x.referenceHoldings() {
		if h.owner.ContainerID == p.Owner.ContainerID {
			held = append(held, h)
		}
	}
	if held == nil {
		return nil, false
	}
	drifts = p.missing(held, "rule of table "+referenceName)
	for _, f := range nftconn.Families() {
		if _, ok := p.Container(f); !ok || !slices.ContainsFunc(held, func(h holding) bool { return h.family() == f }) {
			continue
		}
		for _, chain := range []string{"prerouting", "output"} {
			if !slices.ContainsFunc(x.reference[f], func(r nftconn.Rule) bool { return r.Chain == chain && r.Jump() != "" }) {
				drifts = append(drifts, p.drift("rule of chain "+referenceTable(f).String()+" "+chain, "jump", "missing"))
			}
		}
	}
	return drifts, true
}

// byReference tells whether it was the reference that made the mappings.
func (p Portmap) byReference(ctx context.Context, r state.Reader) (bool, error) {
	conn, err := r.NFT()
	if err != nil {
		return false, err
	}
	x, err := readForeign(ctx, conn)
	if err != nil {
		return false, err
	}
	_, nft := p.diffReference(x)
	return nft || slices.ContainsFunc(x.iptablesHoldings(), func(h holding) bool {
		return h.rule.Chain == containerChain(p.Owner) && h.tag == ""
	}), nil
}

// missing returns the forwards that holdings do not have.
func (p Portmap) missing(held []holding, where string) (drifts []state.Drift) {
	for _, f := range p.forwards {
		for port := int(f.first); port <= int(f.last); port++ {
			one := f
			one.first, one.last = uint16(port), uint16(port)
			one.to = netip.AddrPortFrom(f.to.Addr(), f.to.Port()+uint16(port)-f.first)
			if !slices.ContainsFunc(held, func(h holding) bool { return h.does(one) }) {
				drifts = append(drifts, p.drift(where+" for "+one.String(), one.to.String(), "missing"))
			}
		}
	}
	return drifts
}

// does tells whether a holding leads one port as a forward of ours would.
func (h holding) does(one forward) bool {
	return h.protocol == one.protocol && (h.host == one.host || h.host == anyOf(one.family())) && h.first <= one.first && one.first <= h.last &&
		h.to.Addr() == one.to.Addr() && (h.to.Port() == one.to.Port() || h.run() && h.to.Port() == h.first)
}

// removeReference removes a container's rules from the reference's tables: those
// that lead to its addresses, or all if none are known. It returns what they
// were.
func removeReference(ctx context.Context, c *nftconn.Conn, id string, addrs []netip.Addr) (removed []forward, err error) {
	err = nftconn.Retry(ctx, func() error {
		removed = nil
		var tables []nftconn.Query
		for _, f := range nftconn.Families() {
			tables = append(tables, &nftconn.TableQuery{Table: referenceTable(f)})
		}
		gen, err := c.Read(ctx, tables...)
		if err != nil {
			return err
		}
		var tx nftconn.Tx
		tx.Guard(gen)
		for i, f := range nftconn.Families() {
			if !tables[i].(*nftconn.TableQuery).Found {
				continue
			}
			rules := nftconn.RulesQuery{Table: referenceTable(f)}
			if _, err := c.Read(ctx, &rules); err != nil {
				return err
			}
			for _, r := range rules.Rules {
				fwd, leads := parseRule(f, r)
				to := fwd.to.Addr()
				if near, ok := r.Destination(); !leads && ok {
					to = near.Addr()
				}
				if r.Comment != id || addrs != nil && !slices.Contains(addrs, to) {
					continue
				}
				tx.DeleteRule(r)
				if leads {
					removed = append(removed, fwd)
				}
			}
		}
		return c.Commit(ctx, &tx)
	})
	if errors.Is(err, nftconn.ErrUnsupported) {
		err = nil
	}
	return removed, err
}
