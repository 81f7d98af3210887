package masquerade

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/plumb-cni/plumb/internal/iptables"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

// TestTraffic proves that the address that the world sees is the host's, with each back end, and how a container that is not
// masqueraded fares.
func TestTraffic(t *testing.T) {
	internet := host.Internet(t)
	ns := container(t)
	server4 := host.Serve(t, internet, "tcp4", host.Internet4+":0")
	server6 := host.Serve(t, internet, "udp6", "["+host.Internet6+"]:0")
	sees := func(network, server string) string {
		t.Helper()
		a, err := host.Ask(t, ns, network, server, "")
		if err != nil {
			t.Error(err)
			return ""
		}
		return netip.MustParseAddrPort(a.Client).Addr().String()
	}
	if !silent(ns) {
		t.Fatal("the world answers to the container's own address")
	}
	for _, backend := range []Backend{NFTables, IPTables} {
		t.Run(string(backend), func(t *testing.T) {
			k := kernel(t)
			m := dual("traffic", backend)
			ensure(t, k, m)
			host.Ping(t, ns, host.Internet4)
			host.Ping(t, ns, host.Internet6)
			if got := sees("tcp4", server4); got != host.Uplink4 {
				t.Errorf("the world sees %s", got)
			}
			if got := sees("udp6", server6); got != host.Uplink6 {
				t.Errorf("the world sees %s", got)
			}
			// Not what stays in the subnet.
			local := host.Serve(t, "", "udp4", "10.22.0.1:0")
			if got := sees("udp4", local); got != "10.22.0.3" {
				t.Errorf("the host sees %s", got)
			}
			if d := diff(t, k, m); d != "" {
				t.Error(d)
			}

			// With the flows forgotten, as DEL does, nothing goes on as before.
			remove(t, k, m.Key(), m.Owner)
			conn, err := k.NFT()
			if err != nil {
				t.Fatal(err)
			}
			if err := conn.FlushConntrack(context.Background(), addrs("10.22.0.3", "fd00:22::3")); err != nil {
				t.Fatal(err)
			}
			for _, family := range []string{"ipv4", "ipv6"} {
				if out, _ := host.Try("conntrack", "-L", "-f", family); strings.Contains(out, "22::3") || strings.Contains(out, "10.22.0.3") {
					t.Errorf("conntrack still knows\n%s", out)
				}
			}
			if !silent(ns) {
				t.Error("still masqueraded")
			}
			empty(t)
		})
	}
}

func TestTables(t *testing.T) {
	k := kernel(t)
	uncover := cover(t, "/usr/sbin") // everything here goes by netlink
	m := dual("one", Auto)
	m.Addresses = append(m.Addresses, netip.MustParsePrefix("::ffff:10.22.0.3/112")) // said twice
	ensure(t, k, m)
	if undo := ensure(t, k, m); undo != nil {
		t.Error("the second time something was done")
	}
	ensure(t, k, Masquerade{Owner: owner("two"), Addresses: prefixes("10.22.7.7/16", "192.168.5.9/24", "192.168.6.9/32")})
	if d := diff(t, k, m); d != "" {
		t.Error(d)
	}
	uncover()
	const want = `table inet plumb {
	set masq4 {
		type ipv4_addr
	}

	set masq4-16 {
		type ipv4_addr . ipv4_addr
	}

	set masq6 {
		type ipv6_addr
	}

	set masq6-64 {
		type ipv6_addr . ipv6_addr
	}

	set masq4-24 {
		type ipv4_addr . ipv4_addr
	}

	set masq4-32 {
		type ipv4_addr . ipv4_addr
	}

	chain masq4 {
		ip saddr . ip daddr & 255.255.0.0 @masq4-16 return
		ip saddr . ip daddr & 255.255.255.0 @masq4-24 return
		ip saddr . ip daddr @masq4-32 return
		ip daddr != 224.0.0.0/4 masquerade
	}

	chain masq6 {
		ip6 saddr . ip6 daddr & ffff:ffff:ffff:ffff:: @masq6-64 return
		ip6 daddr != ff00::/8 masquerade
	}

	chain masq-postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr @masq4 jump masq4
		ip6 saddr @masq6 jump masq6
	}
}
`
	list := host.Run(t, "nft", "list", "ruleset")
	if got := host.Run(t, "nft", "-s", "-t", "list", "ruleset"); got != want {
		t.Errorf("nft lists\n%s", got)
	}
	if got, want := elements(t), []string{
		"10.22.0.3 . 10.22.0.0 plumb:mynet/one/eth0", "10.22.0.3 plumb:mynet/one/eth0",
		"10.22.7.7 . 10.22.0.0 plumb:mynet/two/eth0", "10.22.7.7 plumb:mynet/two/eth0",
		"192.168.5.9 . 192.168.5.0 plumb:mynet/two/eth0", "192.168.5.9 plumb:mynet/two/eth0",
		"192.168.6.9 . 192.168.6.9 plumb:mynet/two/eth0", "192.168.6.9 plumb:mynet/two/eth0",
		"fd00:22::3 . fd00:22:: plumb:mynet/one/eth0", "fd00:22::3 plumb:mynet/one/eth0",
	}; !slices.Equal(got, want) {
		t.Errorf("elements %q", got)
	}
	// What nft lists it can restore.
	host.Run(t, "nft", "flush", "ruleset")
	host.Run(t, "sh", "-c", "nft -f - <<'EOF'\n"+list+"EOF")
	if d := diff(t, k, m); d != "" {
		t.Error("restored:", d)
	}

	remove(t, k, Key(owner("two")), owner("two"))
	if d := diff(t, k, m); d != "" || len(elements(t)) != 4 {
		t.Errorf("%s\n%s", d, host.Run(t, "nft", "list", "ruleset"))
	}
	remove(t, k, m.Key(), m.Owner)
	remove(t, k, m.Key(), m.Owner)
	empty(t)
}

func TestDamage(t *testing.T) {
	for _, x := range []struct{ name, damage, drift string }{
		{"everything", "flush ruleset", "table inet plumb is missing, want present"},
		{"element", "delete element inet plumb masq4 { 10.22.0.3 }", "element inet plumb masq4 10.22.0.3 is missing, want present"},
		{"pair", "delete element inet plumb masq6-64 { fd00:22::3 . fd00:22:: }", "element inet plumb masq6-64 fd00:22::3 . fd00:22:: is missing, want present"},
		{"address of another", "delete element inet plumb masq6 { fd00:22::3 }; add element inet plumb masq6 { fd00:22::3 comment \"plumb:x/y/z\" }",
			"owner of element inet plumb masq6 fd00:22::3 is plumb:x/y/z, want plumb:mynet/one/eth0"},
		{"base rules", "flush chain inet plumb masq-postrouting", "what is in chain inet plumb masq-postrouting is different (0 rules), want the 2 rules that plumb makes"},
		{"base rules and more", "insert rule inet plumb masq-postrouting accept", "what is in chain inet plumb masq-postrouting is different (3 rules), want the 2 rules that plumb makes"},
		{"base chain", "flush chain inet plumb masq-postrouting; delete chain inet plumb masq-postrouting", "chain inet plumb masq-postrouting is missing, want present"},
		{"hook", "flush chain inet plumb masq-postrouting; delete chain inet plumb masq-postrouting; add chain inet plumb masq-postrouting { type nat hook postrouting priority 300; }; add rule inet plumb masq-postrouting ip saddr @masq4 jump masq4; add rule inet plumb masq-postrouting ip6 saddr @masq6 jump masq6",
			"hook of chain inet plumb masq-postrouting is type nat hook 4 priority 300 policy accept, want type nat hook 4 priority 100 policy accept"},
		{"policy", "chain inet plumb masq-postrouting { policy drop; }",
			"hook of chain inet plumb masq-postrouting is type nat hook 4 priority 100 policy drop, want type nat hook 4 priority 100 policy accept"},
		{"family rules", "flush chain inet plumb masq4", "what is in chain inet plumb masq4 is different (0 rules), want the 1 rules that plumb makes"},
		{"family rule", "insert rule inet plumb masq4 accept", "what is in chain inet plumb masq4 is different (4 rules), want the 3 rules that plumb makes"},
		{"subnets", "flush chain inet plumb masq4; add rule inet plumb masq4 ip daddr != 224.0.0.0/4 masquerade", "rule of chain inet plumb masq4 for subnets of 16 bits is missing, want return"},
		{"dormant", "add table inet plumb { flags dormant; }", "table inet plumb is dormant, want awake"},
	} {
		t.Run(x.name, func(t *testing.T) {
			k := kernel(t)
			m := dual("one", NFTables)
			ensure(t, k, m)
			ensure(t, k, Masquerade{Owner: owner("two"), Addresses: prefixes("10.23.0.3/20")})
			want := host.Run(t, "nft", "list", "ruleset")
			host.Run(t, "nft", x.damage)
			if d := diff(t, k, m); !strings.Contains(d, x.drift) {
				t.Errorf("drift: %s\nwant: %s", d, x.drift)
			}
			ensure(t, k, m)
			if got := host.Run(t, "nft", "list", "ruleset"); x.name != "everything" && sorted(got) != sorted(want) {
				t.Errorf("mended to\n%s", got)
			}
			if d := diff(t, k, m); d != "" {
				t.Error("after mending:", d)
			}
		})
	}
}

// TestDamagedRemoval is of an attachment whose sets no rule leads to any more.
func TestDamagedRemoval(t *testing.T) {
	for _, damage := range []string{"flush table inet plumb", "flush chain inet plumb masq4", "insert rule inet plumb masq6 accept"} {
		k := kernel(t)
		m := dual("one", NFTables)
		ensure(t, k, m)
		host.Run(t, "nft", damage)
		remove(t, k, m.Key(), m.Owner)
		empty(t)
		ensure(t, k, m)
		host.Run(t, "nft", damage)
		for _, g := range garbage(t, k, m.Owner.Network) {
			remove(t, k, g.Key, g.Owner)
		}
		empty(t)
	}
}

// sorted sorts the lines of a listing: what is mended moves to the end.
func sorted(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestStale(t *testing.T) {
	k := kernel(t)
	old, fresh := owner("old"), owner("fresh")
	ensure(t, k, Masquerade{Owner: old, Addresses: prefixes("10.22.0.3/16", "10.22.0.4/16")})
	ensure(t, k, Masquerade{Owner: fresh, Addresses: prefixes("10.22.0.3/24")}) // the subnet was made smaller in between
	want := []string{
		"10.22.0.3 . 10.22.0.0 plumb:mynet/fresh/eth0", "10.22.0.3 plumb:mynet/fresh/eth0",
		"10.22.0.4 . 10.22.0.0 plumb:mynet/old/eth0", "10.22.0.4 plumb:mynet/old/eth0",
	}
	if got := elements(t); !slices.Equal(got, want) {
		t.Errorf("elements %q", got)
	}
	remove(t, k, Key(old, addrs("10.22.0.3", "10.22.0.4")...), old)
	if got := elements(t); !slices.Equal(got, want[:2]) {
		t.Errorf("elements %q", got)
	}
}

func TestUndo(t *testing.T) {
	k := kernel(t)
	for _, backend := range []Backend{NFTables, IPTables} {
		half := dual("one", backend)
		half.Addresses = half.Addresses[:1]
		ensure(t, k, half)
		before := host.Snapshot(t)
		undo := ensure(t, k, dual("one", backend))
		if err := undo(context.Background()); err != nil {
			t.Error(err)
		}
		if d := before.Diff(host.Snapshot(t), "^nft (set|rule) inet plumb", "nat"); d != "" {
			t.Error(d)
		}
		if d := diff(t, k, half); d != "" {
			t.Error(d)
		}
		remove(t, k, half.Key(), half.Owner)
		empty(t)
	}
}

func TestGarbage(t *testing.T) {
	k := kernel(t)
	ensure(t, k, dual("one", NFTables))
	ensure(t, k, Masquerade{Owner: owner("two"), Addresses: prefixes("10.22.0.4/16")})
	ensure(t, k, Masquerade{Owner: state.Owner{Network: "mynet2", ContainerID: "three", IfName: "eth0"}, Addresses: prefixes("10.23.0.4/16")})
	ensure(t, k, Masquerade{Owner: owner("four"), Addresses: prefixes("10.22.0.5/16", "fd00:22::5/64"), Backend: IPTables})
	chain := containerChain(owner("four"))
	for _, x := range []struct {
		network string
		valid   []state.Owner
		want    []string
	}{
		{"mynet", nil, []string{chain, "plumb:mynet/one/eth0 10.22.0.3,fd00:22::3", "plumb:mynet/two/eth0 10.22.0.4"}},
		{"my", nil, nil},
		{"mynet", []state.Owner{owner("one")}, []string{chain, "plumb:mynet/two/eth0 10.22.0.4"}},
		{"mynet", []state.Owner{owner("two"), owner("four")}, []string{"plumb:mynet/one/eth0 10.22.0.3,fd00:22::3"}},
		{"mynet2", nil, []string{"plumb:mynet2/three/eth0 10.23.0.4"}},
	} {
		found := garbage(t, k, x.network, x.valid...)
		var got []string
		for _, f := range found {
			got = append(got, f.Key.Name)
			if !f.Owner.On(x.network) {
				t.Errorf("%s is of %s", f.Key, f.Owner)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, x.want) {
			t.Errorf("garbage of %q: %q, want %q", x.network, got, x.want)
		}
		for _, f := range found {
			if f.Key.Name == chain {
				remove(t, k, f.Key, f.Owner)
				if out := host.Run(t, "iptables-save"); strings.Contains(out, "CNI-") {
					t.Error(out)
				}
				ensure(t, k, Masquerade{Owner: owner("four"), Addresses: prefixes("10.22.0.5/16", "fd00:22::5/64"), Backend: IPTables})
			}
		}
	}
}

// TestTogether adds and removes at once, so that tables and chains come and go under everybody's feet, and somebody flushes them.
func TestTogether(t *testing.T) {
	kernel(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			k, err := state.OpenKernel("")
			if err != nil {
				t.Error(err)
				return
			}
			defer k.Close()
			m := Masquerade{Owner: owner(fmt.Sprint("c", i)), Addresses: prefixes(fmt.Sprintf("10.%d.0.%d/16", i%3, i), fmt.Sprintf("fd00:%x::%x/64", i%3, i))}
			for round := range 60 {
				if _, err := m.Ensure(context.Background(), k); err != nil {
					t.Errorf("ADD %d: %v", i, err)
				}
				if i == 0 && round%20 == 10 {
					host.Try("nft", "flush", "ruleset")
				}
				if err := (Kind{}).Remove(context.Background(), k, state.Object{Key: m.Key()}, m.Owner); err != nil {
					t.Errorf("DEL %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	empty(t)
}

func TestErrors(t *testing.T) {
	k := kernel(t)
	if _, err := (Masquerade{Owner: owner("x"), Addresses: prefixes("10.0.0.1/8"), Backend: "ebtables"}).Ensure(context.Background(), k); err == nil || !strings.Contains(err.Error(), `"ebtables"`) {
		t.Error(err)
	}
	if _, err := ParseBackend("iptables"); err != nil {
		t.Error(err)
	}
	if err := (Kind{}).Remove(context.Background(), k, state.Object{Key: state.Key{NS: state.Host, Kind: kindName, Name: "plumb:a/b/c 10.0.0"}}, owner("x")); err == nil {
		t.Error("a key that can't be read")
	}
	ns, err := k.Namespace(state.Host)
	if err != nil {
		t.Fatal(err)
	}
	if err := iptables.Restore(context.Background(), ns, 2, "other", ""); !errors.Is(err, iptables.ErrMissing) && err != nil {
		t.Error(err)
	}
}
