package nftconn

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

var (
	own     = Own()
	sources = Map{Table: own, Name: "v4", Key: []Type{IPv4Addr}}
	ports   = Map{Table: own, Name: "ports", Key: []Type{Protocol, IPv4Addr, Service}, Data: []Type{IPv4Addr, Service}}
	members = Map{Table: own, Name: "members", Key: []Type{IPv6Addr}}

	subnet = Chain{Table: own, Name: "subnet-10.1.0.0/20", Rules: []Rule{{
		Comment: "leave the subnet",
		Exprs:   slices.Concat(OfFamily(IPv4), DestinationNotIn(netip.MustParsePrefix("10.1.0.0/20")), []Expr{Masquerade{}}),
	}}}
	base = Chain{Table: own, Name: "base", Hook: &Hook{Type: "nat", Point: Postrouting, Priority: SrcNAT}, Rules: []Rule{
		{Exprs: append(OfFamily(IPv4), SourceAddr(IPv4), Lookup{Map: "v4", Reg: Reg}, Verdict{Code: Jump, Chain: subnet.Name})},
		{Exprs: append(OfFamily(IPv6), DestinationAddr(IPv6), Cmp{Op: Equal, Reg: Reg, Data: netip.MustParseAddr("ff02::1").AsSlice()}, Verdict{Code: Return})},
	}}

	addr = netip.MustParseAddr("10.1.2.3")
	mine = Element{Key: addr.AsSlice(), Comment: "plumb:net/id/eth0"}
	port = Element{
		Key:     Concat([]byte{6}, netip.MustParseAddr("192.0.2.1").AsSlice(), binary.BigEndian.AppendUint16(nil, 8080)),
		Data:    Concat(addr.AsSlice(), binary.BigEndian.AppendUint16(nil, 80)),
		Comment: strings.Repeat("x", 127),
	}
)

func schema() *Tx {
	var tx Tx
	tx.AddTable(own)
	for _, m := range []Map{sources, ports, members} {
		tx.AddMap(m)
	}
	tx.SetChain(subnet)
	tx.SetChain(base)
	tx.AddElements(sources, mine)
	tx.AddElements(ports, port)
	tx.AddElements(members, Element{Key: netip.MustParseAddr("fd00::1").AsSlice()})
	return &tx
}

func commit(t testing.TB, c *Conn, tx *Tx) {
	t.Helper()
	if err := c.Commit(context.Background(), tx); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, c *Conn, queries ...Query) Generation {
	t.Helper()
	gen, err := c.Read(context.Background(), queries...)
	if err != nil {
		t.Fatal(err)
	}
	return gen
}

// TestNFTReads what is written here.
func TestNFTReads(t *testing.T) {
	c := dial(t)
	commit(t, c, schema())
	want := `table inet plumb {
	set v4 {
		type ipv4_addr
		elements = { 10.1.2.3 comment "plumb:net/id/eth0" }
	}

	map ports {
		type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service
		elements = { tcp . 192.0.2.1 . 8080 comment "` + port.Comment + `" : 10.1.2.3 . 80 }
	}

	set members {
		type ipv6_addr
		elements = { fd00::1 }
	}

	chain subnet-10.1.0.0/20 {
		ip daddr != 10.1.0.0/20 masquerade comment "leave the subnet"
	}

	chain base {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr @v4 jump subnet-10.1.0.0/20
		ip6 daddr ff02::1 return
	}
}
`
	if got := host.Run(t, "nft", "list", "ruleset"); got != want {
		t.Errorf("nft lists\n%s", got)
	}
	if c.RoundTrips() != 1 {
		t.Errorf("%d round trips for one transaction", c.RoundTrips())
	}
	commit(t, c, func() *Tx { // all of it but the elements may be there already
		tx := schema()
		tx.ops = slices.DeleteFunc(tx.ops, func(o op) bool { return o.op == "add element" })
		return tx
	}())
	if got := host.Run(t, "nft", "list", "ruleset"); got != want {
		t.Errorf("the second time nft lists\n%s", got)
	}
}

func TestRead(t *testing.T) {
	c := dial(t)
	absent := []Query{
		&TableQuery{Table: own}, &ChainQuery{Table: own, Name: "base"}, &MapsQuery{Table: own}, &RulesQuery{Table: own},
		&ElementQuery{Map: sources, Key: mine.Key}, &ElementsQuery{Map: sources},
		&ChainQuery{Table: own, Name: strings.Repeat("x", 300)}, // which no chain can be called
	}
	read(t, c, absent...)
	if absent[0].(*TableQuery).Found || absent[1].(*ChainQuery).Found || absent[2].(*MapsQuery).Names != nil || absent[4].(*ElementQuery).Element != nil ||
		absent[6].(*ChainQuery).Found {
		t.Error("found what isn't there")
	}

	commit(t, c, schema())
	trips := c.RoundTrips()
	table := &TableQuery{Table: own}
	chain := &ChainQuery{Table: own, Name: base.Name}
	sub := &ChainQuery{Table: own, Name: subnet.Name}
	baseRules, subRules, maps := &RulesQuery{Table: own, Chain: base.Name}, &RulesQuery{Table: own, Chain: subnet.Name}, &MapsQuery{Table: own}
	one, other, none := &ElementQuery{Map: sources, Key: mine.Key}, &ElementQuery{Map: ports, Key: port.Key}, &ElementQuery{Map: sources, Key: []byte{1, 2, 3, 4}}
	read(t, c, table, one, other, none)
	if got := c.RoundTrips() - trips; got != 1 {
		t.Errorf("%d round trips to get four objects", got)
	}
	all, rules := &ElementsQuery{Map: sources}, &RulesQuery{Table: own}
	read(t, c, chain, sub, all, rules, baseRules, subRules, maps)
	if !table.Found || table.Dormant {
		t.Errorf("table: %+v", table)
	}
	if !chain.Found || *chain.Hook != *base.Hook || !slices.EqualFunc(baseRules.Rules, base.Rules, Rule.Equal) {
		t.Errorf("base chain: %+v %+v", chain, baseRules)
	}
	if !sub.Found || sub.Hook != nil || !slices.EqualFunc(subRules.Rules, subnet.Rules, Rule.Equal) {
		t.Errorf("chain: %+v %+v", sub, subRules)
	}
	slices.Sort(maps.Names)
	if !slices.Equal(maps.Names, []string{"members", "ports", "v4"}) {
		t.Errorf("maps %q", maps.Names)
	}
	for _, e := range []struct{ got, want *Element }{{one.Element, &mine}, {other.Element, &port}, {&all.Elements[0], &mine}} {
		if e.got == nil || !bytes.Equal(e.got.Key, e.want.Key) || !bytes.Equal(e.got.Data, e.want.Data) || e.got.Comment != e.want.Comment {
			t.Errorf("element: %+v, want %+v", e.got, e.want)
		}
	}
	if none.Element != nil || len(all.Elements) != 1 || len(rules.Rules) != 3 {
		t.Errorf("%v %v %v", none, all, rules)
	}
	if p, ok := subRules.Rules[0].matched(destinationOffset4, destinationOffset6, NotEqual); !ok || p != netip.MustParsePrefix("10.1.0.0/20") || subRules.Rules[0].Target() != "MASQUERADE" {
		t.Errorf("rule leaves %v with %s", p, subRules.Rules[0].Target())
	}
}

// TestReadOthers reads what other programs write.
func TestReadOthers(t *testing.T) {
	c := dial(t)
	host.Run(t, "nft", "add table inet plumb { flags dormant; }")
	host.Run(t, "nft", "add chain inet plumb base { type filter hook forward priority -5; policy drop; }")
	host.Run(t, "nft", "add chain inet plumb to")
	host.Run(t, "nft", `add rule inet plumb base ip saddr 10.0.0.0/8 ip daddr != 10.1.2.0/24 counter goto to comment "mine"`)
	host.Run(t, "iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-s", "10.9.8.7", "!", "-d", "10.9.0.0/17", "-m", "comment", "--comment", "hi", "-j", "MASQUERADE")
	table, chain := &TableQuery{Table: own}, &ChainQuery{Table: own, Name: "base"}
	nat, mine := &RulesQuery{Table: Table{IPv4, "nat"}, Chain: "POSTROUTING"}, &RulesQuery{Table: own, Chain: "base"}
	read(t, c, table, chain, nat, mine)
	if !table.Dormant {
		t.Error("table is not dormant")
	}
	if want := (Hook{Type: "filter", Point: Forward, Priority: -5, Drop: true}); *chain.Hook != want {
		t.Errorf("hook %v", chain.Hook)
	}
	for _, x := range []struct {
		rule                            Rule
		from, to, jump, target, comment string
	}{
		{mine.Rules[0], "10.0.0.0/8", "10.1.2.0/24", "to", "", "mine"},
		{nat.Rules[0], "10.9.8.7/32", "10.9.0.0/17", "", "MASQUERADE", "hi"},
	} {
		from, _ := x.rule.Source()
		to, _ := x.rule.matched(destinationOffset4, destinationOffset6, NotEqual)
		if from.String() != x.from || to.String() != x.to || x.rule.Jump() != x.jump || x.rule.Target() != x.target || x.rule.Comment != x.comment {
			t.Errorf("rule %+v", x.rule)
		}
		if _, ok := x.rule.Destination(); ok {
			t.Errorf("rule has a destination: %+v", x.rule)
		}
	}
}

func TestRefusals(t *testing.T) {
	ctx := context.Background()
	for _, x := range []struct {
		name string
		add  func(*Tx)
		want error
		op   string
	}{
		{"element twice", func(tx *Tx) { tx.AddElements(sources, mine) }, fs.ErrExist, "add element inet plumb v4 10.1.2.3"},
		{"element not there", func(tx *Tx) { tx.DeleteElements(sources, []byte{9, 9, 9, 9}) }, fs.ErrNotExist, "delete element inet plumb v4 9.9.9.9"},
		{"chain in use", func(tx *Tx) { tx.DeleteChain(own, subnet.Name) }, nil, "delete chain inet plumb subnet-10.1.0.0/20: device or resource busy"},
		{"jump to nowhere", func(tx *Tx) {
			tx.SetChain(Chain{Table: own, Name: "other", Rules: []Rule{{Exprs: []Expr{Verdict{Code: Jump, Chain: "nowhere"}}}}})
		}, fs.ErrNotExist, "add rule inet plumb other"},
		{"other hook", func(tx *Tx) {
			c := base
			c.Hook = &Hook{Type: "nat", Point: Postrouting, Priority: 7}
			tx.SetChain(c)
		}, nil, "add chain inet plumb base: "},
		{"rule not there", func(tx *Tx) { tx.DeleteRule(Rule{Table: own, Chain: "base", Handle: 999}) }, fs.ErrNotExist, "delete rule inet plumb base handle 999"},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := dial(t)
			commit(t, c, schema())
			before := host.Run(t, "nft", "list", "ruleset")
			var tx Tx
			tx.AddElements(members, Element{Key: netip.MustParseAddr("fd00::2").AsSlice()})
			x.add(&tx)
			tx.AddElements(members, Element{Key: netip.MustParseAddr("fd00::3").AsSlice()})
			err := c.Commit(ctx, &tx)
			if err == nil || x.want != nil && !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.op) {
				t.Errorf("error %v, want %v and %q", err, x.want, x.op)
			}
			if after := host.Run(t, "nft", "list", "ruleset"); after != before {
				t.Errorf("a part of the transaction took effect:\n%s", after)
			}
			read(t, c, &TableQuery{Table: own}) // the socket is still in step
		})
	}
}

func TestGuard(t *testing.T) {
	c := dial(t)
	commit(t, c, schema())
	gen := read(t, c)
	guarded := func() error {
		var tx Tx
		tx.Guard(gen)
		tx.DeleteElements(sources, mine.Key)
		return c.Commit(context.Background(), &tx)
	}
	host.Run(t, "nft", "add table ip somebodys")
	if err := guarded(); !errors.Is(err, ErrChanged) {
		t.Errorf("after a change: %v", err)
	}
	gen = read(t, c)
	if err := guarded(); err != nil {
		t.Error(err)
	}
}

// TestMany elements in one transaction, more than a socket takes by default, and their listing while others write.
func TestMany(t *testing.T) {
	c := dial(t)
	commit(t, c, schema())
	const n = 10000
	var tx Tx
	var elements []Element
	for i := range n {
		e := mine
		e.Key = []byte{10, 2, byte(i >> 8), byte(i)}
		elements = append(elements, e)
	}
	tx.AddElements(sources, elements...)
	commit(t, c, &tx)

	stop := make(chan bool)
	var wg sync.WaitGroup
	wg.Go(func() {
		other := dial(t)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			var add, del Tx
			add.AddElements(members, Element{Key: netip.MustParseAddr("fd00::2").AsSlice()})
			del.DeleteElements(members, netip.MustParseAddr("fd00::2").AsSlice())
			commit(t, other, &add)
			if i%50 == 49 { // leave the listing a chance
				host.Run(t, "sleep", "0.05")
			}
			commit(t, other, &del)
		}
	})
	all := &ElementsQuery{Map: sources}
	_, err := c.Read(context.Background(), all)
	close(stop)
	wg.Wait()
	if err != nil || len(all.Elements) != n+1 {
		t.Errorf("%d elements, %v", len(all.Elements), err)
	}
	var some []Query // more than the answers' buffer holds
	for i := range 1000 {
		some = append(some, &ElementQuery{Map: sources, Key: elements[i].Key})
	}
	read(t, c, some...)
	for _, q := range some {
		if q.(*ElementQuery).Element == nil {
			t.Fatal("an element was not found")
		}
	}
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = elements[i].Key
	}
	tx = Tx{}
	tx.DeleteElements(sources, keys...)
	commit(t, c, &tx)
	read(t, c, all)
	if len(all.Elements) != 1 {
		t.Errorf("%d elements left", len(all.Elements))
	}
}

func TestContext(t *testing.T) {
	c := dial(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Read(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := c.Commit(ctx, schema()); !errors.Is(err, context.Canceled) || len(host.NFT(t).Tables) != 0 {
		t.Error(err)
	}
}
