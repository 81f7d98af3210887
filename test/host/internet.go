package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"
)

// Addresses of the world that Internet makes.
const (
	Internet4 = "4.2.2.2"             // a server far behind the host's uplink
	Internet6 = "2001:db8:4222::2"    //
	Uplink4   = "198.51.100.2"        // the host's own address on it
	Uplink6   = "2001:db8:ffff::2"    //
	Uplink    = "eth0"                // the interface that has it
	gateway4  = "198.51.100.1"        // the next hop
	gateway6  = "2001:db8:ffff::1"    //
	internet  = "/run/netns/internet" // the namespace that all of it is in
)

// Internet connects the host to a world of one server, and returns the path of that server's namespace. The world
// has no route to anything behind the host: an answer from Internet4 or Internet6 to a container proves that the packet was
// forwarded and masqueraded. It exists until the end of the test; two tests can't have one at the same time.
func Internet(t testing.TB) string {
	t.Helper()
	Run(t, "ip", "netns", "add", "internet")
	t.Cleanup(func() {
		Try("ip", "link", "del", Uplink) //nolint:errcheck // the peer goes with the namespace anyway, only later
		RemoveNetNS(t, internet)
	})
	for _, args := range [][]string{
		{"link", "add", Uplink, "type", "veth", "peer", "name", "eth0", "netns", "internet"},
		// Link-local addresses that are there at once: without one the kernel can't ask for a neighbour on behalf of others.
		{"link", "set", Uplink, "addrgenmode", "none", "up"},
		{"addr", "add", "fe80::2/64", "dev", Uplink, "nodad"},
		{"addr", "add", Uplink4 + "/24", "dev", Uplink},
		{"addr", "add", Uplink6 + "/64", "dev", Uplink, "nodad"},
		{"-n", "internet", "link", "set", "lo", "up"},
		{"-n", "internet", "link", "set", "eth0", "addrgenmode", "none", "up"},
		{"-n", "internet", "addr", "add", "fe80::1/64", "dev", "eth0", "nodad"},
		{"-n", "internet", "addr", "add", gateway4 + "/24", "dev", "eth0"},
		{"-n", "internet", "addr", "add", gateway6 + "/64", "dev", "eth0", "nodad"},
		{"-n", "internet", "addr", "add", Internet4 + "/32", "dev", "lo"},
		{"-n", "internet", "addr", "add", Internet6 + "/128", "dev", "lo", "nodad"},
		{"route", "add", "default", "via", gateway4},
		{"-6", "route", "add", "default", "via", gateway6},
	} {
		Run(t, "ip", args...)
	}
	return internet
}

// Ping fails the test when addr doesn't answer to the first echo request from the namespace ns ("" is the host).
func Ping(t testing.TB, ns, addr string) {
	t.Helper()
	if err := TryPing(ns, addr); err != nil {
		t.Error(err)
	}
}

// TryPing is Ping for tests that expect silence: the error holds what ping said after two seconds.
func TryPing(ns, addr string) error {
	_, err := TryIn(ns, "ping", "-n", "-c", "1", "-W", "2", addr)
	return err
}

// Answer is what a server made by Serve says to everyone.
type Answer struct {
	Server string // the namespace that the server is in, as it was given to Serve
	Client string // the address and port that the request came from, as the server sees them
	Local  string // and the one that it was sent to; for UDP the one that the server listens on
}

// Serve starts a server in the namespace ns ("" is the host) and returns the address it listens on. network is tcp, tcp4, udp6 ...;
// a port of 0 is replaced by a free one. It answers each TCP connection and each UDP datagram with an Answer, and stops with the test.
func Serve(t testing.TB, ns, network, address string) string {
	t.Helper()
	var listener net.Listener
	var packets net.PacketConn
	err := In(t, ns, func() (err error) {
		if network[:3] == "udp" {
			packets, err = net.ListenPacket(network, address)
		} else {
			listener, err = net.Listen(network, address)
		}
		return err
	})
	if err != nil {
		t.Fatalf("listen on %s %s in %q: %v", network, address, ns, err)
	}
	if packets != nil {
		t.Cleanup(func() { packets.Close() })
		go serveUDP(packets, ns)
		return packets.LocalAddr().String()
	}
	t.Cleanup(func() { listener.Close() })
	go serveTCP(listener, ns)
	return listener.Addr().String()
}

func serveTCP(l net.Listener, ns string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed by the end of the test
		}
		json.NewEncoder(c).Encode(Answer{ns, c.RemoteAddr().String(), c.LocalAddr().String()}) //nolint:errcheck // the client notices
		c.Close()
	}
}

func serveUDP(p net.PacketConn, ns string) {
	buf := make([]byte, 2048)
	for {
		_, from, err := p.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about an earlier answer
		}
		data, err := json.Marshal(Answer{ns, from.String(), p.LocalAddr().String()})
		if err == nil {
			p.WriteTo(data, from) //nolint:errcheck // the client notices
		}
	}
}

// Ask connects from the namespace ns to a server made by Serve, or to an address that should lead to one, and returns its answer.
// It gives up after two seconds. from is the local address to use, "" for any.
func Ask(t testing.TB, ns, network, address, from string) (Answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var conn net.Conn
	err := In(t, ns, func() (err error) {
		var d net.Dialer
		if from != "" {
			if d.LocalAddr, err = localAddr(network, from); err != nil {
				return err
			}
		}
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return Answer{}, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Second)) //nolint:errcheck // only a closed connection fails
	var a Answer
	if network[:3] == "udp" {
		if _, err := conn.Write([]byte("?")); err != nil {
			return a, err
		}
	}
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		return a, fmt.Errorf("answer of %s %s: %w", network, address, err)
	}
	return a, nil
}

func localAddr(network, address string) (net.Addr, error) {
	if network[:3] == "udp" {
		return net.ResolveUDPAddr(network, address)
	}
	return net.ResolveTCPAddr(network, address)
}
