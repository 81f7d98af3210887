// Package portmap is the state of ports of the host leading to ports of a
// container.
//
// # Tables
//
// With nftables, all attachments share this (and the same for IPv6):
//
//	table inet plumb {
//		map portmap4 {
//			type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service
//			elements = { tcp . 0.0.0.0 . 8080 comment "plumb:net/id/eth0" : 10.22.0.3 . 80 }
//		}
//		map portmap4-by-256 {
//			type inet_proto . ipv4_addr . inet_service : ipv4_addr
//			elements = { tcp . 0.0.0.0 . 9216 comment "plumb:net/id/eth0" : 10.22.0.3 }
//		}
//		set portmap4-near-24 {
//			type ipv4_addr . ipv4_addr
//			elements = { 10.22.0.0 . 10.22.0.3 comment "plumb:net/id/eth0" }
//		}
//		chain portmap-prerouting {
//			type nat hook prerouting priority dstnat; policy accept;
//			fib daddr type local jump portmap
//		}
//		chain portmap4 {
//			dnat ip to meta l4proto . ip daddr . th dport map @portmap4
//			dnat ip to meta l4proto . ip daddr . th dport & 0xff00 map @portmap4-by-256
//			…
//		}
//		chain portmap-postrouting {
//			type nat hook postrouting priority srcnat; policy accept;
//			ct status dnat jump portmap-near
//		}
//	}
//
// A single port is an element of a hash map, with 0.0.0.0 for every address of
// the host, so that neither a packet nor a change pays for how many there are.
// A run of ports that are the same on both sides is split into at most 30
// blocks of 2, 4, 8 … ports, elements of a map for each size that is in use. (One
// element of a map of intervals would do, but with 10,000 of these a look-up
// takes a millisecond and a change, which copies the map, 10.) What a container's
// later network takes over of an earlier one waits in a map of its own,
// portmap4-under. Mappings with conditions have maps and a chain of their own, shared by
// all attachments with the same conditions. What is near a container, itself
// included, would be answered past the host, which is why such flows are
// masqueraded, as are those from the host's loopback addresses.
//
// Everybody who finds something shared missing or damaged mends it, in the
// transaction that adds the elements. Nothing shared is removed.
//
// With iptables, what is written is what the reference writes.
package portmap

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/iptables"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

const kindName = "portmap"

// A Backend is the means.
type Backend string

// Backends. Auto is nftables where the kernel can, else iptables.
const (
	Auto     Backend = ""
	NFTables Backend = "nftables"
	IPTables Backend = "iptables"
)

// DefaultMarkBit is the bit of a packet's mark by which the rules of iptables
// tell what to masquerade.
const DefaultMarkBit = 13

// Options say how mappings are made.
type Options struct {
	Backend Backend

	SNAT    bool // masquerade what comes from near the container and from the host's loopback
	MasqAll bool // masquerade everything, where SNAT is set

	// Loopback6 says that connections to ::1 can be served.
	Loopback6 bool

	// Of iptables alone: the bit of the mark, or the chain of somebody else
	// that sets the mark.
	MarkBit  int
	SetChain string

	// Conditions that packets of a family have to meet, in the syntax of
	// the back end, a word each.
	Conditions4, Conditions6 []string
}

// Portmap is the mappings of one attachment. It is of the host's namespace.
// [New] makes one.
type Portmap struct {
	Owner state.Owner
	Options

	addrs    []netip.Prefix // of each family one at most
	forwards []forward
	classes  map[nftconn.Family]class
}

var _ state.Marked = Portmap{}

// New returns the state of mappings to a container's addresses, of which the
// first of each family is used. What can't be is an error of the configuration.
func New(o state.Owner, mappings []Mapping, addrs []netip.Prefix, options Options) (Portmap, error) {
	p := Portmap{Owner: o, Options: options, classes: make(map[nftconn.Family]class)}
	for _, f := range nftconn.Families() {
		if a, ok := firstOf(f, addrs); ok {
			p.addrs = append(p.addrs, a)
		}
	}
	var err error
	// A rule of iptables for every address leads ::1 as well; an element of nftables names one address or none.
	implied := options.SNAT && options.Loopback6 && options.Backend != IPTables
	if p.forwards, err = forwards(mappings, p.addrs, implied); err != nil {
		return p, cni.Errorf(cni.CodeInvalidConfig, "portMappings: %w", err)
	}
	if options.Backend == IPTables {
		return p, nil
	}
	for _, f := range nftconn.Families() {
		words := options.conditions(f)
		compiled, err := Compile(f, words)
		if err != nil {
			return p, err
		}
		p.classes[f] = class{family: f, name: className(words), conditions: compiled}
	}
	return p, nil
}

func (o Options) conditions(f nftconn.Family) []string {
	if f == nftconn.IPv4 {
		return o.Conditions4
	}
	return o.Conditions6
}

func (p Portmap) class(f nftconn.Family) class { return p.classes[f] }

// Empty tells whether nothing is mapped.
func (p Portmap) Empty() bool { return len(p.forwards) == 0 }

// FromLoopback tells whether ports of a family are mapped under the host's
// loopback addresses, and connections from there are to be served.
func (p Portmap) FromLoopback(f nftconn.Family) bool {
	return p.SNAT && slices.ContainsFunc(p.forwards, func(fwd forward) bool {
		return fwd.family() == f && (fwd.host.IsLoopback() || fwd.host.IsUnspecified() && (f == nftconn.IPv4 || p.Loopback6))
	})
}

// Container returns the container's address of a family that is used.
func (p Portmap) Container(f nftconn.Family) (netip.Addr, bool) {
	a, ok := firstOf(f, p.addrs)
	return a.Addr(), ok
}

// A pair is where flows come from that have to be masqueraded, and a container.
type pair struct {
	from netip.Prefix
	to   netip.Addr
}

func loopback(f nftconn.Family) netip.Prefix {
	if f == nftconn.IPv4 {
		return netip.MustParsePrefix("127.0.0.0/8")
	}
	return netip.MustParsePrefix("::1/128")
}

func (p Portmap) pairs() []pair {
	if !p.SNAT {
		return nil
	}
	var pairs []pair
	for _, a := range p.addrs {
		f := nftconn.FamilyOf(a.Addr())
		if !slices.ContainsFunc(p.forwards, func(fwd forward) bool { return fwd.family() == f }) {
			continue
		}
		if p.MasqAll {
			pairs = append(pairs, pair{netip.PrefixFrom(anyOf(f), 0), a.Addr()})
			continue
		}
		pairs = append(pairs, pair{a.Masked(), a.Addr()})
		if p.FromLoopback(f) {
			pairs = append(pairs, pair{loopback(f), a.Addr()})
		}
	}
	return pairs
}

// ownID is the container's ID as tags have it.
func (p Portmap) ownID() string {
	o, _ := state.ParseTag(p.Owner.Tag())
	return o.ContainerID
}

// Key names the mappings of an owner to addresses of a container. Nothing more
// is known where nothing is recorded.
func Key(o state.Owner, addrs ...netip.Addr) state.Key { return writeKey(o.Tag(), addrs, "") }

// writeKey writes the name of a key: a tag, the addresses and the claims.
func writeKey(tag string, addrs []netip.Addr, claims string) state.Key {
	var list []string
	for _, a := range slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare) {
		list = append(list, a.Unmap().String())
	}
	name := strings.TrimRight(tag+" "+strings.Join(list, ",")+" "+claims, " ")
	return state.Key{NS: state.Host, Kind: kindName, Name: name}
}

// parseKey returns what writeKey has written.
func parseKey(name string) (o owned, err error) {
	tag, rest, _ := strings.Cut(name, " ")
	list, claims, _ := strings.Cut(rest, " ")
	o.tag = tag
	for s := range strings.SplitSeq(list, ",") {
		if s == "" {
			continue
		}
		a, err := netip.ParseAddr(s)
		if err != nil {
			return o, err
		}
		o.addrs = append(o.addrs, a)
	}
	if claims != "" {
		o.claims, err = parseClaims(claims)
	}
	return o, err
}

// Key names the state by its owner, addresses and ports.
func (p Portmap) Key() state.Key {
	var addrs []netip.Addr
	for _, a := range p.addrs {
		addrs = append(addrs, a.Addr())
	}
	return writeKey(p.Owner.Tag(), addrs, writeClaims(p.forwards))
}

// Ensure maps what is not mapped yet. It refuses ports that a mapping of
// somebody else holds, unless its owner is gone.
func (p Portmap) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	if err := p.refuseForeign(ctx, k); err != nil {
		return nil, err
	}
	if p.Backend == IPTables {
		return p.ensureIPTables(ctx, k)
	}
	added, err := p.ensureElements(ctx, k)
	if errors.Is(err, nftconn.ErrUnsupported) && p.Backend == Auto {
		undo, err2 := p.ensureIPTables(ctx, k)
		if err2 != nil {
			err2 = errors.Join(err, err2)
		}
		return undo, err2
	}
	if err != nil || len(added) == 0 {
		return nil, err
	}
	undo := func(ctx context.Context) error {
		conn, err := k.NFT()
		if err != nil {
			return err
		}
		_, err = p.owned().remove(ctx, conn)
		return err
	}
	if err := p.flush(ctx, k); err != nil {
		return nil, errors.Join(err, undo(context.WithoutCancel(ctx)))
	}
	return undo, nil
}

// Marked reports whether any element or chain of the mappings has the owner's tag.
func (p Portmap) Marked(ctx context.Context, r state.Reader) (bool, error) {
	conn, err := r.NFT()
	if err != nil {
		return false, err
	}
	names := nftconn.MapsQuery{Table: nftconn.Own()}
	if _, err := conn.Read(ctx, &names); err != nil && !errors.Is(err, nftconn.ErrUnsupported) {
		return false, err
	}
	if names.Names != nil {
		if mine, err := p.owned().find(ctx, conn, names.Names); err != nil || mine != nil {
			return mine != nil, err
		}
	}
	x, err := readForeign(ctx, conn)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(nftconn.Families(), func(f nftconn.Family) bool {
		return slices.ContainsFunc(x.iptables(f), func(r nftconn.Rule) bool {
			return r.Chain == containerChain(p.Owner) && r.Comment == p.Owner.Tag()
		})
	}), nil
}

// owned is what p's removal removes.
func (p Portmap) owned() owned {
	o := owned{tag: p.Owner.Tag(), claims: p.forwards}
	for _, a := range p.addrs {
		o.addrs = append(o.addrs, a.Addr())
	}
	return o
}

// flush ends the flows of UDP that began before the mapping and do not follow
// it: their packets go on to where the first one went.
func (p Portmap) flush(ctx context.Context, k *state.Kernel) error {
	conn, err := k.NFT()
	if err != nil {
		return err
	}
	local := make(map[netip.Addr]bool)
	ours := func(a netip.Addr) bool {
		is, known := local[a]
		if !known {
			is = isLocal(k, a)
			local[a] = is
		}
		return is
	}
	return flushUDP(ctx, conn, p.forwards, func(f forward, flow nftconn.Flow) bool {
		to := netip.AddrPortFrom(f.to.Addr(), f.to.Port()+flow.To.Port()-f.first)
		return flow.Answerer != to && ours(flow.To.Addr())
	})
}

func isLocal(k *state.Kernel, a netip.Addr) bool {
	conn, err := k.Route(state.Host)
	if err != nil {
		return false
	}
	r, err := conn.RouteTo(a)
	return err == nil && r.Local
}

// flushUDP ends the flows of UDP to ports of forwards that a function chooses.
func flushUDP(ctx context.Context, c *nftconn.Conn, list []forward, choose func(forward, nftconn.Flow) bool) error {
	ports := make(map[uint16][]forward)
	var of []nftconn.Family
	for _, fwd := range list {
		if fwd.protocol != nftconn.UDP {
			continue
		}
		if f := fwd.family(); !slices.Contains(of, f) {
			of = append(of, f)
		}
		for port := int(fwd.first); port <= int(fwd.last); port++ {
			ports[uint16(port)] = append(ports[uint16(port)], fwd)
		}
	}
	if len(of) == 0 {
		return nil
	}
	return c.FlushFlows(ctx, of, nftconn.UDP, func(flow nftconn.Flow) bool {
		return slices.ContainsFunc(ports[flow.To.Port()], func(fwd forward) bool {
			return fwd.family() == nftconn.FamilyOf(flow.To.Addr()) && (fwd.host.IsUnspecified() || fwd.host == flow.To.Addr()) && choose(fwd, flow)
		})
	})
}

// Diff reports what is missing or different. An attachment that the reference
// made, or that was made with another back end than the configuration names
// now, is compared with the rules that it got.
func (p Portmap) Diff(ctx context.Context, r state.Reader) ([]state.Drift, error) {
	conn, err := r.NFT()
	if err != nil {
		return nil, err
	}
	var drifts []state.Drift
	nft := p.Backend != IPTables
	if nft {
		var mine bool
		drifts, mine, err = p.diffElements(ctx, conn)
		if err != nil && !errors.Is(err, nftconn.ErrUnsupported) || err == nil && (len(drifts) == 0 || mine) {
			return drifts, err
		}
		nft = err == nil
	}
	foreign, err := readForeign(ctx, conn)
	if err != nil {
		return nil, err
	}
	other, mine := p.diffReference(foreign)
	if mine {
		return other, nil
	}
	other, mine = p.diffIPTables(foreign)
	if mine || !nft {
		return other, nil
	}
	return drifts, nil
}

// drift is a difference in one part.
func (p Portmap) drift(field, want, got string) state.Drift {
	return state.Drift{Key: Key(p.Owner), Field: field, Want: want, Got: got}
}

// Available fails if a back end can't be used on this host: with
// nftconn.ErrUnsupported or iptables.ErrMissing.
func Available(ctx context.Context, r state.Reader, o Options) error {
	conn, err := r.NFT()
	if err != nil {
		return err
	}
	if o.Backend != IPTables {
		_, err = conn.Read(ctx, &nftconn.TableQuery{Table: nftconn.Own()})
		if o.Backend == NFTables || !errors.Is(err, nftconn.ErrUnsupported) {
			return err
		}
	}
	for _, f := range nftconn.Families() {
		if err := iptables.Installed(f); err != nil {
			return err
		}
	}
	return nil
}

func ownerName(tag string) string {
	if o, ok := state.ParseTag(tag); ok {
		return o.String()
	}
	return tag
}

func heldBy(what, owner string) error {
	return cni.Errorf(state.CodeConflict, "%s is mapped for %s already; choose another port, or delete what has this one", what, owner)
}
