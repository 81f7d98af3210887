package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/test/host"
)

// A floor is the kernel's work for a bridge's containers and nothing else: no
// plugin, no configuration, no allocation of addresses, no record, no look at
// what is there already. One rtnetlink socket of the host is kept, and one a
// verb is opened in the container; what the packet filter is told is a
// transaction of nfnetlink.
type floor struct {
	host *netns.NS
	rt   *rtnl.Conn
	nft  *nftconn.Conn
}

const floorTable = "bench-floor"

func newFloor(t testing.TB) contender {
	t.Helper()
	ns, err := netns.Current()
	var f floor
	if err == nil {
		f.host = ns
		f.rt, err = rtnl.Dial(ns)
	}
	if err == nil {
		f.nft, err = nftconn.Dial(ns)
	}
	if err != nil {
		t.Fatal(err)
	}
	var sets, rules string
	for family, kind := range map[rune]string{'4': "ipv4_addr", '6': "ipv6_addr"} {
		match := map[rune]string{'4': "ip", '6': "ip6"}[family]
		sets += fmt.Sprintf("set hidden%c { type %s; }\n set local%c { type %s . %s; }\n", family, kind, family, kind, kind)
		rules += fmt.Sprintf("%s saddr @hidden%c masquerade\n", match, family)
	}
	host.Run(t, "nft", fmt.Sprintf("table inet %s {\n %s chain post {\n type nat hook postrouting priority srcnat\n %s }\n}", floorTable, sets, rules))
	t.Cleanup(func() {
		if err := errors.Join(f.rt.Close(), f.nft.Close(), ns.Close()); err != nil {
			t.Error(err)
		}
		host.Run(t, "nft", "delete", "table", "inet", floorTable)
	})
	return contender{name: floorName, warm: f.warm, serve: func(_ testing.TB, a *attachment, verb cni.Verb) error {
		if verb == cni.VerbDel {
			return f.remove(a)
		}
		return f.add(a)
	}}
}

// warm makes the bridge, and decides the addresses.
func (f floor) warm(t testing.TB, a *attachment) {
	bridge := fmt.Sprintf("bench%d", a.number)
	err := f.rt.AddBridge(rtnl.End{Name: bridge}, 0)
	var l *rtnl.Link
	if err == nil {
		l, err = f.rt.Link(bridge)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range a.families {
		bits, net := 24, addresses(family, a.number)
		if family == '6' {
			bits = 64
		}
		gateway := netip.MustParseAddr(net + "1")
		if err := f.rt.AddAddr(l.Index, rtnl.Addr{Prefix: netip.PrefixFrom(gateway, bits), NoDAD: true}); err != nil {
			t.Fatal(err)
		}
		a.addrs = append(a.addrs, cni.IP{Address: netip.PrefixFrom(netip.MustParseAddr(net+"2"), bits), Gateway: gateway})
	}
}

func (f floor) add(a *attachment) (err error) {
	ns, err := netns.Open(a.netns)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	inside, err := rtnl.Dial(ns)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, inside.Close()) }()

	bridge, err := f.rt.Known(fmt.Sprintf("bench%d", a.number))
	if err != nil {
		return err
	}
	end, alias, up := a.hostEnd(), "bench-floor", true
	l, err := f.rt.AddVeth(rtnl.End{Name: end}, rtnl.End{Name: "eth0"}, ns, 0, bridge.Index)
	if err != nil {
		return err
	}
	if err := f.rt.SetLink(l.Index, rtnl.Change{Alias: &alias, NoIPv6Address: true}); err != nil {
		return err
	}
	eth0 := l.Peer
	for _, ip := range a.addrs {
		if err := inside.AddAddr(eth0, rtnl.Addr{Prefix: ip.Address, NoDAD: true}); err != nil {
			return err
		}
	}
	if err := inside.SetLink(eth0, rtnl.Change{Up: &up}); err != nil {
		return err
	}
	var tx nftconn.Tx
	for _, ip := range a.addrs {
		everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if ip.Address.Addr().Is6() {
			everywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if err := inside.AddRoute(rtnl.Route{Index: eth0, Dst: everywhere, Gateway: ip.Gateway}); err != nil {
			return err
		}
		for _, e := range floorElements(ip.Address) {
			tx.AddElements(e.in, nftconn.Element{Key: e.key, Comment: alias})
		}
	}
	return f.nft.Commit(context.Background(), &tx)
}

func (f floor) remove(a *attachment) error {
	var tx nftconn.Tx
	for _, ip := range a.addrs {
		for _, e := range floorElements(ip.Address) {
			tx.DeleteElements(e.in, e.key)
		}
	}
	if err := f.nft.Commit(context.Background(), &tx); err != nil {
		return err
	}
	l, err := f.rt.Link(a.hostEnd())
	if err != nil {
		return err
	}
	return f.rt.DelLink(l.Index)
}

func (a *attachment) hostEnd() string { return fmt.Sprintf("veth-floor%d", a.number) }

// A floorElement is what masquerade needs of an address: as plumb's own sets are,
// one has the address, and one the address with its subnet.
type floorElement struct {
	in  nftconn.Map
	key []byte
}

func floorElements(p netip.Prefix) []floorElement {
	family, kind := '4', nftconn.IPv4Addr
	if p.Addr().Is6() {
		family, kind = '6', nftconn.IPv6Addr
	}
	table, key := nftconn.Table{Family: nftconn.Own().Family, Name: floorTable}, p.Addr().AsSlice()
	return []floorElement{
		{nftconn.Map{Table: table, Name: fmt.Sprintf("hidden%c", family), Key: []nftconn.Type{kind}}, key},
		{nftconn.Map{Table: table, Name: fmt.Sprintf("local%c", family), Key: []nftconn.Type{kind, kind}}, nftconn.Concat(key, p.Masked().Addr().AsSlice())},
	}
}
