package portmap_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/test/host"
)

// A port of 127.0.0.1 opens the way back from the container to the host's
// loopback addresses, but not the one there: neither the container, nor a
// neighbour without ports, reaches what listens on 127.0.0.1, nor seems to come
// from there (CVE-2020-8558).
func TestLoopbackStaysClosed(t *testing.T) {
	host.Serve(t, "", "tcp", "127.0.0.1:7777")
	host.Serve(t, "", "udp", "127.0.0.1:7777")
	for _, file := range []string{"all", "default"} { // the kernel's, which checks least
		host.Run(t, "sysctl", "-q", "-w", "net.ipv4.conf."+file+".rp_filter=0")
	}
	inbox := listen(t, "0.0.0.0:7778")
	for name, network := range map[string]string{"bridge": bridged, "ptp": routed} {
		for _, backend := range []string{"nftables", "iptables"} {
			t.Run(name+"/"+backend, func(t *testing.T) {
				host.Run(t, "sh", "-c", "nft delete table inet plumb 2>/dev/null || true")
				p := newPod(t, "c1", network, with(t, plain, "backend", backend), port{8080, 80, "tcp", "127.0.0.1"})
				neighbour := newPod(t, "c2", network, plain)
				host.Serve(t, p.netns, "tcp", ":80")
				p.add(t)
				p.check(t)
				p.reaches(t, "", "tcp4", "127.0.0.1:8080")
				for _, from := range []*pod{p, neighbour} {
					from.routesLoopback(t)
					for _, network := range []string{"tcp", "udp"} {
						unreachable(t, from.netns, network, "127.0.0.1:7777")
					}
					from.sends(t, "127.0.0.2:7779", from.gateway(t)+":7778")
					from.sends(t, from.addr(t, true)+":7779", from.gateway(t)+":7778")
					if got := inbox(t); got.String() != from.addr(t, true) {
						t.Errorf("the host takes a container for %s", got)
					}
				}
				p.reaches(t, "", "tcp4", "127.0.0.1:8080")
				p.del(t, p.after(t))
				for _, from := range []*pod{p, neighbour} {
					unreachable(t, from.netns, "tcp", "127.0.0.1:7777")
				}
				empty(t)
			})
		}
	}
}

// listen returns what returns the sources of datagrams to the host, one by one.
func listen(t testing.TB, address string) (next func(testing.TB) netip.Addr) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return func(t testing.TB) netip.Addr {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, from, err := conn.ReadFrom(make([]byte, 16))
		if err != nil {
			t.Fatal(err)
		}
		return from.(*net.UDPAddr).AddrPort().Addr().Unmap()
	}
}

// sends sends a datagram from a container.
func (p *pod) sends(t testing.TB, from, to string) {
	t.Helper()
	err := host.In(t, p.netns, func() error {
		d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from))}
		conn, err := d.Dial("udp4", to)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("?"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// routesLoopback makes a container send what is for 127.0.0.1 to the host.
func (p *pod) routesLoopback(t testing.TB) {
	t.Helper()
	host.RunIn(t, p.netns, "sh", "-ec", strings.NewReplacer("@GATEWAY", p.gateway(t)).Replace(`
		ip addr del 127.0.0.1/8 dev lo
		ip addr add 127.0.0.2/32 dev eth0
		sysctl -q -w net.ipv4.conf.eth0.route_localnet=1
		ip route add 127.0.0.1 via @GATEWAY dev eth0`))
}

// gateway is the host's IPv4 address that a container is behind.
func (p *pod) gateway(t testing.TB) string {
	t.Helper()
	for _, r := range host.Routes(t, p.netns, 4) {
		if r.Gateway != "" {
			return r.Gateway
		}
	}
	t.Fatalf("%s has no gateway", p.id)
	return ""
}
