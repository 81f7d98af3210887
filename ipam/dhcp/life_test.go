package dhcp_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// TestLife drives an attachment through the verbs, IPv4 alone and beside IPv6,
// and looks at what the server saw.
func TestLife(t *testing.T) {
	keys.Covers(t, "dhcp", "ipam.daemonSocketPath", "ipam.ipv6")
	for _, c := range []struct {
		name, ipam string
		more       []string
		options    []string
	}{
		{name: "v4"},
		{name: "dual", ipam: `"ipv6":true`, more: []string{`"acceptRA":true`}, options: v6()},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLAN(t)
			server := l.dnsmasq(t, append(c.options, "--dhcp-option=3,10.99.0.1", "--dhcp-option=6,10.99.0.9", "--dhcp-option=15,example.org",
				"--dhcp-option=119,a.example.org,b.example.org")...)
			d := newDaemon(t)
			a := l.attach(t, d, c.ipam, c.more...)
			result := a.add(t)

			if len(result.IPs) == 0 || result.IPs[0].Gateway != netip.MustParseAddr("10.99.0.1") ||
				!netip.MustParsePrefix("10.99.0.0/24").Contains(result.IPs[0].Address.Addr()) || result.IPs[0].Address.Bits() != 24 {
				t.Fatalf("result: %+v", result.IPs)
			}
			if got := result.DNS; strings.Join(got.Nameservers, " ") != "10.99.0.9" || got.Domain != "example.org" ||
				strings.Join(got.Search, " ") != "a.example.org b.example.org" {
				t.Errorf("DNS: %+v", got)
			}
			if on := a.onLink(t); len(on) < len(result.IPs) || on[0] != result.IPs[0].Address.String() {
				t.Errorf("addresses %v, result %v", on, result.IPs)
			}
			for _, ip := range result.IPs {
				if !strings.Contains(server.leased(t), " "+ip.Address.Addr().String()+" ") {
					t.Errorf("the server has not leased %s:\n%s", ip.Address, server.leased(t))
				}
			}
			host.RunIn(t, a.netns, "ping", "-c1", "-W3", "10.99.0.1")
			if c.name == "dual" {
				if len(result.IPs) != 2 || !netip.MustParsePrefix("fd00:99::/64").Contains(result.IPs[1].Address.Addr()) {
					t.Fatalf("result: %+v", result.IPs)
				}
				until(t, "a route by router advertisement", func() bool {
					_, err := host.TryIn(a.netns, "ping", "-c1", "-W1", "-I", result.IPs[1].Address.Addr().String(), "fd00:99::1")
					return err == nil
				})
			}
			if failure := a.check(t); failure != nil {
				t.Errorf("CHECK: %v", failure)
			}
			a.del(t)
			until(t, "the server's leases gone", func() bool { return !server.has(t, "10.99.0.") && !server.has(t, "fd00:99::") })
			if server.count("DHCPRELEASE(srv)") == 0 {
				t.Error("the server saw no release")
			}
			if left := d.leases(t); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			a.del(t)
			if failure := a.check(t); failure == nil || failure.Code != state.CodeDrift {
				t.Errorf("CHECK after DEL: %v", failure)
			}
		})
	}
}
