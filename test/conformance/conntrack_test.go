package conformance

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// flows tells whether the host tracks connections of an address, as conntrack sees them.
func flows(t *testing.T, a netip.Addr) bool {
	t.Helper()
	family := "ipv4"
	if a.Is6() {
		family = "ipv6"
	}
	return host.Run(t, "conntrack", "-L", "-f", family, "-s", a.String()) != ""
}

// talk makes every address of a container begin a flow to its gateway, and returns the addresses.
func (a *attachment) talk(t *testing.T) []netip.Addr {
	t.Helper()
	var addrs []netip.Addr
	for _, addr := range host.Addrs(t, a.netns) {
		if addr.Dev != a.ifName || addr.Prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		from := addr.Prefix.Addr()
		network, gateway := "udp4", gateway4
		if from.Is6() {
			network, gateway = "udp6", "["+gateway6+"]"
		}
		server := host.Serve(t, "", network, gateway+":0")
		if _, err := host.Ask(t, a.netns, network, server, netip.AddrPortFrom(from, 0).String()); err != nil {
			t.Fatal(err)
		}
		if !flows(t, from) {
			t.Fatalf("no flow of %s is tracked, so nothing is tried here", from)
		}
		addrs = append(addrs, from)
	}
	return addrs
}

// TestConntrack looks for the flows of containers. DEL ends those of its own, once: when a runtime calls it again, another may have the
// address.
func TestConntrack(t *testing.T) {
	host.Need(t, "conntrack", "nft-inet-nat")
	// The host tracks nothing before there is a rule that asks for it.
	host.Run(t, "nft", "add table inet tracked; add chain inet tracked c { type filter hook input priority 0; }; add rule inet tracked c ct state established")
	t.Cleanup(func() { host.Run(t, "nft", "delete", "table", "inet", "tracked") })
	allocated := func(number int) string {
		return fmt.Sprintf(`"runtimeConfig":{"ips":["10.77.0.%d","fd00:77::%d"]},"ipam":%s`, number, number, hostLocal("46"))
	}
	configured := func(number int) string { return static(number, "") }
	for _, tt := range []struct {
		name, plugin string
		ipam         func(number int) string
	}{
		{"ptp", "ptp", allocated},
		{"bridge", "bridge", allocated},
		{"ptp static", "ptp", configured},
		{"bridge static", "bridge", configured},
	} {
		t.Run(tt.name, func(t *testing.T) {
			removeAtEnd(t, bridgeName)
			container := func(id string, number int) *attachment {
				a := attach(t, config(tt.plugin, "net", `"bridge":"`+bridgeName+`","isGateway":true,"ipMasq":true,`+tt.ipam(number)), id)
				a.add(t)
				return a
			}
			first, neighbour := container("first", 7), container("neighbour", 8)
			gone, stay := first.talk(t), neighbour.talk(t)
			expect := func(when string, addrs []netip.Addr, want bool) {
				t.Helper()
				for _, a := range addrs {
					if flows(t, a) != want {
						t.Errorf("%s a flow of %s is tracked: %v, want %v", when, a, !want, want)
					}
				}
			}
			first.del(t)
			expect("after DEL", gone, false)
			expect("after another's DEL", stay, true)

			heir := container("heir", 7)
			held := heir.talk(t)
			first.del(t)
			expect("after the former holder's second DEL", held, true)
			expect("after the former holder's second DEL", stay, true)
			heir.del(t)
			expect("after the heir's DEL", held, false)
		})
	}
}
