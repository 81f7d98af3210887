package masquerade

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

// kernel gives access to the host, whose packet filter is emptied in the end.
func kernel(t testing.TB) *state.Kernel {
	t.Helper()
	k, err := state.OpenKernel("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.Close()
		wipe(t)
	})
	return k
}

func wipe(t testing.TB) {
	t.Helper()
	host.Run(t, "nft", "flush", "ruleset")
	for _, tool := range []string{"iptables-legacy", "ip6tables-legacy"} {
		host.Run(t, tool, "-t", "nat", "-F")
		host.Run(t, tool, "-t", "nat", "-X")
	}
}

func owner(id string) state.Owner {
	return state.Owner{Network: "mynet", ContainerID: id, IfName: "eth0"}
}

func prefixes(list ...string) []netip.Prefix {
	var p []netip.Prefix
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func addrs(list ...string) []netip.Addr {
	var a []netip.Addr
	for _, s := range list {
		a = append(a, netip.MustParseAddr(s))
	}
	return a
}

// dual is an attachment with two families.
func dual(id string, backend Backend) Masquerade {
	return Masquerade{Owner: owner(id), Addresses: prefixes("10.22.0.3/16", "fd00:22::3/64"), Backend: backend}
}

func ensure(t testing.TB, k *state.Kernel, m Masquerade) state.Undo {
	t.Helper()
	undo, err := m.Ensure(context.Background(), k)
	if err != nil {
		t.Fatal(err)
	}
	return undo
}

func remove(t testing.TB, k *state.Kernel, key state.Key, o state.Owner) {
	t.Helper()
	if err := (Kind{}).Remove(context.Background(), k, state.Object{Key: key}, o); err != nil {
		t.Fatal(err)
	}
}

func garbage(t testing.TB, k *state.Kernel, network string, valid ...state.Owner) []state.Found {
	t.Helper()
	found, err := Kind{}.Garbage(context.Background(), k.Reader(), network, valid)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// silent tells whether the world does not answer.
func silent(ns string) bool {
	_, err := host.TryIn(ns, "ping", "-n", "-c", "1", "-W", "0.3", host.Internet4)
	return err != nil
}

func diff(t testing.TB, k *state.Kernel, m Masquerade) string {
	t.Helper()
	drifts, err := m.Diff(context.Background(), k.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return state.Describe(drifts)
}

// elements lists all elements of plumb's sets as "KEY TAG".
func elements(t testing.TB) []string {
	t.Helper()
	var list []string
	for _, s := range host.NFT(t).Sets {
		for _, e := range s.Elems {
			list = append(list, fmt.Sprintf("%s %s", e.Key, e.Comment))
		}
	}
	slices.Sort(list)
	return list
}

// empty fails the test if anything about a container is left.
func empty(t testing.TB) {
	t.Helper()
	if left := elements(t); left != nil {
		t.Errorf("elements %q are left", left)
	}
	for _, r := range host.NFT(t).Rules {
		if r.Table == "cni_plugins_masquerade" && r.Chain == "masq_checks" || strings.Contains(r.Comment, "name:") {
			t.Errorf("rule %+v is left", r)
		}
	}
	for _, tool := range []string{"iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"} {
		for line := range strings.Lines(host.Run(t, tool, "-t", "nat")) {
			if strings.Contains(line, "CNI-") {
				t.Errorf("%s: left is %s", tool, line)
			}
		}
	}
}

// container connects a network namespace to the host, which routes for it.
func container(t testing.TB) string {
	t.Helper()
	ns := host.NetNS(t)
	for _, args := range []string{
		"link add vhost type veth peer name eth0 netns " + ns[len("/run/netns/"):],
		"link set vhost addrgenmode none up",
		"addr add 10.22.0.1/16 dev vhost",
		"addr add fd00:22::1/64 dev vhost nodad",
		"addr add fe80::1/64 dev vhost nodad", // without one the kernel asks for no neighbour on behalf of others
	} {
		host.Run(t, "ip", strings.Fields(args)...)
	}
	t.Cleanup(func() { host.Try("ip", "link", "del", "vhost") })
	for _, args := range []string{
		"link set lo up",
		"link set eth0 addrgenmode none up",
		"addr add 10.22.0.3/16 dev eth0",
		"addr add fd00:22::3/64 dev eth0 nodad",
		"route add default via 10.22.0.1",
		"-6 route add default via fd00:22::1",
	} {
		host.RunIn(t, ns, "ip", strings.Fields(args)...)
	}
	for _, s := range []string{"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"} {
		host.Run(t, "sysctl", "-q", s)
	}
	return ns
}
