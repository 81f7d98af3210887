package dhcp_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// TestDecline has somebody on the network have the first address that the server
// gives: it is declined, and another one asked for.
func TestDecline(t *testing.T) {
	l := newLAN(t)
	server := l.dnsmasq(t, "--dhcp-sequential-ip")
	l.neighbour(t, "10.99.0.50/24", "n")
	d := newDaemon(t)
	careful := l.attach(t, d, "", `"acd":true`)
	result := careful.add(t)
	if got := result.IPs[0].Address.String(); got == "10.99.0.50/24" {
		t.Errorf("the container has %s, which is in use", got)
	}
	if server.count("DHCPDECLINE(srv)") != 1 {
		t.Errorf("the server has seen no decline:\n%s", server)
	}
	matches(t, d.String(), `10\.99\.0\.50 is in use by .*trying again`)
	if failure := careful.check(t); failure != nil {
		t.Error(failure)
	}
	careful.del(t)
	until(t, "a release", func() bool { return !server.has(t, strings.TrimSuffix(result.IPs[0].Address.String(), "/24")) })
}

// neighbour adds a host to the network and returns its namespace.
func (l *lan) neighbour(t testing.TB, addr, suffix string) string {
	t.Helper()
	ns, port := host.NetNS(t), l.bridge+suffix
	host.Run(t, "ip", "link", "add", port, "type", "veth", "peer", "name", "srv", "netns", filepath.Base(ns))
	t.Cleanup(func() { host.Run(t, "ip", "link", "del", port) })
	host.Run(t, "ip", "link", "set", port, "master", l.bridge, "addrgenmode", "none", "up")
	host.RunIn(t, ns, "ip", "addr", "add", addr, "dev", "srv")
	host.RunIn(t, ns, "ip", "link", "set", "srv", "up")
	return ns
}

// TestOffers has two servers on a network, of which one knows what the
// configuration asks for: its offer is taken whichever comes first. Without a
// wish the first one is, and a wish that none fulfils costs no address.
func TestOffers(t *testing.T) {
	l := newLAN(t)
	first := l.dnsmasq(t)
	other := *l
	other.server = l.neighbour(t, "10.99.0.9/24", "o")
	knowing := other.dnsmasq(t, "--dhcp-range=10.99.0.160,10.99.0.170,255.255.255.0,2m", "--dhcp-option=42,10.99.0.7")
	d := newDaemon(t)
	for range 4 {
		a := l.attach(t, d, `"request":[{"option":"ntp-servers"}]`)
		addr := a.add(t).IPs[0].Address.Addr().String()
		if !knowing.has(t, addr) {
			t.Errorf("%s is of the server that knows no ntp-servers:\n%s", addr, first)
		}
	}
	a := l.attach(t, d, `"request":[{"option":"ntp-servers"},{"option":"66"}]`)
	if addr := a.add(t).IPs[0].Address.Addr().String(); !knowing.has(t, addr) {
		t.Errorf("%s is not of the server that knows the most", addr)
	}
}
