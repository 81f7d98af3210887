package conformance

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// TestInUse finds in its place what somebody else has put there: ADD fails, says by what the place is taken, and changes nothing.
func TestInUse(t *testing.T) {
	bridge := bridgeConfig("net", `"isGateway":true,"ipMasq":true,`+static(2, ""))
	ptp := config("ptp", "net", `"ipMasq":true,`+static(2, ""))
	for _, tt := range []struct {
		name, config string
		before       string // IN runs in the container
		want         []string
	}{
		{"interface in the container, ptp", ptp, `IN ip link add eth0 type veth peer name eth9`, []string{"eth0", "already exists", "veth"}},
		{"interface in the container, bridge", bridge, `IN ip link add eth0 type bridge`, []string{"eth0", "already exists", "bridge"}},
		{"bridge is a veth", bridge, `ip link add br77 type veth peer name br77peer`, []string{"br77", "not a bridge", "veth"}},
		{"another IPv4 gateway", bridge, `ip link add br77 type bridge; ip addr add 10.78.0.1/24 dev br77`, []string{"br77", "10.78.0.1/24", "10.77.0.1/24", "forceAddress"}},
		{"another IPv6 gateway", bridge, `ip link add br77 type bridge; ip addr add fd00:77::5/64 dev br77 nodad`, []string{"br77", "fd00:77::5/64", "fd00:77::1/64", "forceAddress"}},
		{"gateway of another bridge", bridge, `ip link add br78 type bridge; ip link set br78 up; ip addr add 10.77.0.1/24 dev br78`, []string{"10.77.0.1", "br77", "br78"}},
		{"IPv6 gateway of another bridge", bridge, `ip link add br78 type bridge; ip link set br78 up; ip addr add fd00:77::1/64 dev br78 nodad`, []string{"fd00:77::1", "br77", "br78"}},
		{"address of the host", ptp, `ip link add br78 type bridge; ip link set br78 up; ip addr add 10.77.0.2/32 dev br78`, []string{"10.77.0.2", "br78"}},
		{"IPv6 address of the host", bridge, `ip link add br78 type bridge; ip link set br78 up; ip addr add fd00:77::2/128 dev br78 nodad`, []string{"fd00:77::2", "br78"}},
		{"address routed elsewhere", ptp, `ip link add br78 type bridge; ip link set br78 up; ip route add 10.77.0.2/32 dev br78`, []string{"10.77.0.2", "br78"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, name := range []string{bridgeName, "br78"} {
				removeAtEnd(t, name)
			}
			a := attach(t, tt.config, "late")
			host.Run(t, "sh", "-ec", strings.ReplaceAll(tt.before, "IN ", "nsenter --net="+a.netns+" "))
			before, inside := host.Snapshot(t), len(host.Links(t, a.netns))
			_, failure := a.tryAdd(t)
			if failure == nil {
				t.Fatal("ADD succeeds")
			}
			if failure.Code != state.CodeConflict {
				t.Errorf("code %d, want %d: %v", failure.Code, state.CodeConflict, failure)
			}
			for _, want := range tt.want {
				if !strings.Contains(failure.Msg, want) {
					t.Errorf("the message does not name %s: %s", want, failure.Msg)
				}
			}
			host.Unchanged(t, before, stays(bridgeName)...)
			if now := len(host.Links(t, a.netns)); now != inside {
				t.Errorf("the container has %d links, had %d", now, inside)
			}
		})
	}
}

// TestForceAddress replaces the address of a bridge that is in the way.
func TestForceAddress(t *testing.T) {
	keys.Covers(t, "bridge", "forceAddress")
	removeAtEnd(t, bridgeName)
	host.Run(t, "sh", "-ec", `ip link add br77 type bridge; ip addr add 10.78.0.1/24 dev br77; ip addr add fd00:77::5/64 dev br77 nodad; ip addr add fd00:78::5/64 dev br77 nodad`)
	a := attach(t, bridgeConfig("net", `"isGateway":true,"forceAddress":true,`+static(2, "")), "forced")
	a.add(t)
	var got []string
	for _, addr := range host.Addrs(t, "") {
		if addr.Dev == bridgeName && !addr.Prefix.Addr().IsLinkLocalUnicast() {
			got = append(got, addr.Prefix.String())
		}
	}
	if want := "10.77.0.1/24 fd00:77::1/64 fd00:78::5/64"; !sameWords(strings.Join(got, " "), want) {
		t.Errorf("the bridge has %v, want %s", got, want)
	}
}

func sameWords(a, b string) bool {
	count := make(map[string]int)
	for _, w := range strings.Fields(a) {
		count[w]++
	}
	for _, w := range strings.Fields(b) {
		count[w]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// TestPortsOfBridge fills a bridge: the container that finds no port is told so.
func TestPortsOfBridge(t *testing.T) {
	const ports = 1023 // BR_MAX_PORTS less the number 0
	removeAtEnd(t, bridgeName)
	// The other ends are in one namespace: it takes them along all at once, in a moment.
	far := host.NetNS(t)
	var batch strings.Builder
	fmt.Fprintf(&batch, "link add %s type bridge\n", bridgeName)
	for i := range ports {
		fmt.Fprintf(&batch, "link add p%d master %s type veth peer name p%d netns %s\n", i, bridgeName, i, filepath.Base(far))
	}
	host.Run(t, "sh", "-ec", `printf '%s' "$0" | ip -batch -`, batch.String())
	before := host.Snapshot(t)
	a := attach(t, bridgeConfig("net", `"isGateway":true,"ipam":`+hostLocal("46")), "late")
	_, failure := a.tryAdd(t)
	if failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Msg, "bridge "+bridgeName+" has 1023 ports") {
		t.Fatalf("ADD to a full bridge: %v", failure)
	}
	a.gone(t)
	host.Unchanged(t, before, stays(bridgeName)...)
}

// TestSecondAdd adds a container twice: the second time fails and leaves the first as it is.
func TestSecondAdd(t *testing.T) {
	for _, tt := range []struct{ name, config string }{
		{"ptp", config("ptp", "net", `"ipMasq":true,"ipam":`+hostLocal("46"))},
		{"bridge", bridgeConfig("net", `"isGateway":true,"ipMasq":true,"ipam":`+hostLocal("46"))},
		{"bridge L2", bridgeConfig("net", `"ipam":{}`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			removeAtEnd(t, bridgeName)
			a := attach(t, tt.config, "twice")
			a.add(t)
			before := host.Snapshot(t)
			again := *a
			if _, failure := again.tryAdd(t); failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Msg, "eth0") {
				t.Errorf("the second ADD: %v", failure)
			}
			host.Unchanged(t, before, stays("")...)
			a.check(t)
		})
	}
}

// TestPredecessor adds a container anew whose former namespace has died without DEL. As long as that lives it keeps its interface.
func TestPredecessor(t *testing.T) {
	for _, tt := range []struct{ name, config string }{
		{"ptp", config("ptp", "net", `"ipMasq":true,`+static(2, ""))},
		{"ptp iptables", config("ptp", "net", masquerades[2].keys+static(2, ""))},
		{"bridge", bridgeConfig("net", `"isGateway":true,"ipMasq":true,`+static(2, ""))},
		{"bridge L2", bridgeConfig("net", `"ipam":{}`)},
	} {
		for _, former := range []string{"dead", "alive", "dead without a record"} {
			t.Run(tt.name+" "+former, func(t *testing.T) {
				host.Need(t, "nft-inet-nat", "iptables-nft")
				removeAtEnd(t, bridgeName)
				before := host.Snapshot(t)
				old := attach(t, tt.config, "again")
				old.add(t)
				a := attach(t, tt.config, "again")
				if former == "alive" {
					while := host.Snapshot(t)
					if _, failure := a.tryAdd(t); failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Msg, old.netns) {
						t.Fatalf("ADD in a second namespace: %v, want it to name %s", failure, old.netns)
					}
					a.gone(t)
					host.Unchanged(t, while, stays("")...)
					old.check(t)
				}
				host.RemoveNetNS(t, old.netns)
				if strings.HasSuffix(former, "record") {
					forget(t, old)
				}
				a.add(t)
				a.check(t)
				if strings.Contains(tt.config, "static") {
					host.Ping(t, a.netns, gateway4)
					host.Ping(t, a.netns, gateway6)
				}
				if host.Links(t, "")[a.hostEnd(t)].Name == "" {
					t.Error("the host's end is gone")
				}
				a.del(t)
				a.gone(t)
				host.Unchanged(t, before, stays(bridgeName)...)
			})
		}
	}
}

// TestHolder gives a second container an address that a first one has: the first keeps it.
func TestHolder(t *testing.T) {
	host.Need(t, "nft-inet-nat", "iptables-nft")
	host.Internet(t)
	for _, tt := range []struct{ name, config string }{
		{"ptp", config("ptp", "net", static(2, ""))},
		{"ptp nftables", config("ptp", "net", masquerades[1].keys+static(2, toAnywhere))},
		{"ptp iptables", config("ptp", "net", masquerades[2].keys+static(2, toAnywhere))},
		{"bridge", bridgeConfig("net", `"isGateway":true,`+masquerades[1].keys+static(2, toAnywhere))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			removeAtEnd(t, bridgeName)
			first, second := attach(t, tt.config, "first"), attach(t, tt.config, "second")
			first.add(t)
			works := func() {
				t.Helper()
				first.check(t)
				for _, a := range [][2]string{{gateway4, "10.77.0.2"}, {gateway6, "fd00:77::2"}} {
					host.Ping(t, first.netns, a[0])
					host.Ping(t, "", a[1])
				}
				if strings.Contains(tt.config, "ipMasq") {
					host.Ping(t, first.netns, host.Internet4)
					host.Ping(t, first.netns, host.Internet6)
				}
			}
			works()
			before := host.Snapshot(t)
			_, failure := second.tryAdd(t)
			if failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Msg, "first") {
				t.Errorf("ADD with an address that another container has: %v", failure)
			}
			second.gone(t)
			works()
			second.del(t)
			works()
			host.Unchanged(t, before, stays("")...)
			// Whoever is dead has no claim, though its DEL is not seen.
			host.RemoveNetNS(t, first.netns)
			second.add(t)
			second.check(t)
			host.Ping(t, second.netns, gateway4)
			host.Ping(t, "", "fd00:77::2")
		})
	}
}

// toAnywhere are the default routes.
const toAnywhere = `{"dst":"0.0.0.0/0"},{"dst":"::/0"}`

// TestPredecessorHoldsAddress: an address is given to an attachment once, and the refusal names it. DEL makes room.
func TestPredecessorHoldsAddress(t *testing.T) {
	network := config("ptp", "net", `"ipam":`+hostLocal("4"))
	old := attach(t, network, "again")
	addr := old.add(t).IPs[0].Address.Addr().String()
	host.RemoveNetNS(t, old.netns)
	a := attach(t, network, "again")
	_, failure := a.tryAdd(t)
	if failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Msg, addr) {
		t.Fatalf("the second ADD: %v, want it to name %s", failure, addr)
	}
	a.gone(t)
	if _, failure := invoke(t, cni.VerbDel, "ptp", network, a); failure != nil {
		t.Fatal(failure)
	}
	a.add(t)
	a.check(t)
}
