package daemon

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/sys/unix"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
)

// Ports of DHCPv6 (RFC 8415 section 7.2).
const (
	clientPort6 = 546
	serverPort6 = 547
)

// forever6 is the lifetime that means for ever (RFC 8415 section 7.7).
const forever6 = 0xffffffff * time.Second

// releaseWait is how long the answer to a release is waited for: the address is
// given back whether it comes or not.
const releaseWait = time.Second

// A client6 speaks DHCPv6 (RFC 8415) for an attachment: it asks for one address
// (IA_NA), in an exchange of four messages.
type client6 struct{ *record }

// duid identifies the client to servers, by its hardware address, which an
// administrator may know beforehand.
func (c client6) duid() dhcpv6.DUID {
	mac := c.MAC
	if c.Terms.MAC != nil {
		mac = c.Terms.MAC
	}
	return &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: mac}
}

// association identifies the address among those of the client: all
// attachments that share a hardware address, as ipvlan devices do, are one
// client.
func (c client6) association() (id [4]byte) {
	sum := sha256.Sum256([]byte(c.Owner.Hash()))
	copy(id[:], sum[:])
	return id
}

// message returns a message with what each one has. addr may be invalid.
func (c client6) message(kind dhcpv6.MessageType, server dhcpv6.DUID, addr netip.Addr) (*dhcpv6.Message, error) {
	m, err := dhcpv6.NewMessage()
	if err != nil {
		return nil, err
	}
	m.MessageType = kind
	m.AddOption(dhcpv6.OptClientID(c.duid()))
	if server != nil {
		m.AddOption(dhcpv6.OptServerID(server))
	}
	m.AddOption(dhcpv6.OptElapsedTime(0))
	if kind != dhcpv6.MessageTypeRelease {
		m.AddOption(dhcpv6.OptRequestedOption(dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList))
	}
	ia := &dhcpv6.OptIANA{IaId: c.association()}
	if addr.IsValid() {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: addr.AsSlice()})
	}
	m.AddOption(ia)
	return m, nil
}

// listen opens the client's port on the interface's link-local address.
func listen6(ctx context.Context, p *port) (*net.UDPConn, error) {
	local, err := p.linkLocal(ctx)
	if err != nil {
		return nil, err
	}
	var fd int
	err = p.kernel.In(state.Sandbox, func() (err error) {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open DHCPv6 socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), "dhcpv6")
	defer file.Close() // the connection has a copy
	for _, o := range [][3]int{
		{unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, p.Index},
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}, // the container may have a client too
		{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
	} {
		if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
			return nil, fmt.Errorf("set up DHCPv6 socket: %w", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet6{Port: clientPort6, Addr: local.As16(), ZoneId: uint32(p.Index)}); err != nil {
		return nil, fmt.Errorf("bind DHCPv6 socket: %w", err)
	}
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// ask sends a message to all servers and relays until an answer comes that take
// accepts.
func (c client6) ask(ctx context.Context, p *port, m *dhcpv6.Message, take func(*dhcpv6.Message) bool) (answer *dhcpv6.Message, err error) {
	conn, err := listen6(ctx, p)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// By index, since the connection is used outside its namespace.
	all := &net.UDPAddr{IP: dhcpv6.AllDHCPRelayAgentsAndServers, Port: serverPort6, Zone: strconv.Itoa(p.Index)}
	start := time.Now()
	buffer := make([]byte, maxFrame)
	err = exchange{
		conn: conn,
		send: func() error {
			m.UpdateOption(dhcpv6.OptElapsedTime(time.Since(start)))
			_, err := conn.WriteTo(m.ToBytes(), all)
			return err
		},
		receive: func() (bool, error) {
			n, _, err := conn.ReadFrom(buffer)
			if err != nil {
				return false, err
			}
			got, err := dhcpv6.MessageFromBytes(buffer[:n])
			if err != nil || got.TransactionID != m.TransactionID || got.Options.ServerID() == nil || !take(got) {
				return false, nil // not for us, or nonsense
			}
			answer = got
			return true, nil
		},
	}.run(ctx)
	return answer, err
}

// acquire gets an address, hint if the server will give that.
func (c client6) acquire(ctx context.Context, p *port, hint netip.Addr) (*lease, error) {
	solicit, err := c.message(dhcpv6.MessageTypeSolicit, nil, hint)
	if err != nil {
		return nil, err
	}
	offer, err := c.ask(ctx, p, solicit, func(m *dhcpv6.Message) bool {
		return m.MessageType == dhcpv6.MessageTypeAdvertise && c.offered(m) != nil
	})
	if err != nil {
		return nil, fmt.Errorf("no offer of a DHCPv6 server: %w", err)
	}
	addr, _ := netip.AddrFromSlice(c.offered(offer).IPv6Addr)
	return c.request(ctx, p, dhcpv6.MessageTypeRequest, offer.Options.ServerID(), addr)
}

// reboot asks for an address that the client knows to be its own. A server that
// has the lease answers (RFC 8415 section 18.2.5).
func (c client6) reboot(ctx context.Context, p *port, addr netip.Addr) (*lease, error) {
	return c.request(ctx, p, dhcpv6.MessageTypeRebind, nil, addr)
}

// renew prolongs a lease: by asking its server, or, if rebind is set, anyone.
func (c client6) renew(ctx context.Context, p *port, l *lease, rebind bool) (*lease, error) {
	kind := dhcpv6.MessageTypeRebind
	var server dhcpv6.DUID
	if !rebind {
		var err error
		if server, err = dhcpv6.DUIDFromBytes(l.Server); err != nil {
			return nil, err
		}
		kind = dhcpv6.MessageTypeRenew
	}
	renewed, err := c.request(ctx, p, kind, server, l.Address.Addr())
	if err != nil {
		return nil, err
	}
	if renewed.Address != l.Address {
		return nil, fmt.Errorf("the server gives %s instead: %w", renewed.Address.Addr(), errRefused)
	}
	renewed.Reply = l.Reply
	return renewed, nil
}

// release gives an address back.
func (c client6) release(ctx context.Context, p *port, l *lease) error {
	server, err := dhcpv6.DUIDFromBytes(l.Server)
	if err != nil {
		return err
	}
	m, err := c.message(dhcpv6.MessageTypeRelease, server, l.Address.Addr())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, releaseWait)
	defer cancel()
	_, err = c.ask(ctx, p, m, func(m *dhcpv6.Message) bool { return m.MessageType == dhcpv6.MessageTypeReply })
	return err
}

// request sends a message that asks for an address and returns the lease of the
// reply. The error matches errRefused if there is none.
func (c client6) request(ctx context.Context, p *port, kind dhcpv6.MessageType, server dhcpv6.DUID, addr netip.Addr) (*lease, error) {
	m, err := c.message(kind, server, addr)
	if err != nil {
		return nil, err
	}
	sent := time.Now() // from when a lease counts
	reply, err := c.ask(ctx, p, m, func(m *dhcpv6.Message) bool {
		return m.MessageType == dhcpv6.MessageTypeReply && (server == nil || m.Options.ServerID().Equal(server))
	})
	if err != nil {
		return nil, err
	}
	return c.lease(reply, sent)
}

// lease returns the lease that a reply gives us.
func (c client6) lease(reply *dhcpv6.Message, got time.Time) (*lease, error) {
	given := c.offered(reply)
	if given == nil {
		return nil, fmt.Errorf("%w (%s)", errRefused, c.why(reply))
	}
	addr, _ := netip.AddrFromSlice(given.IPv6Addr)
	l := &lease{
		Address: netip.PrefixFrom(addr, 128), // subnets are for routers to tell of
		Reply:   reply.ToBytes(), Server: reply.Options.ServerID().ToBytes(),
	}
	ia, whole := c.own(reply), given.ValidLifetime
	t1, t2 := ia.T1, ia.T2
	if t1 == 0 && given.PreferredLifetime < forever6 {
		t1 = given.PreferredLifetime / 2 // RFC 8415 section 21.4
	}
	if t2 == 0 && given.PreferredLifetime < forever6 {
		t2 = given.PreferredLifetime / 5 * 4
	}
	l.times(got, t1, t2, whole)
	return l, nil
}

// own returns the association of a message that is ours, nil for none.
func (c client6) own(m *dhcpv6.Message) *dhcpv6.OptIANA {
	for _, ia := range m.Options.IANA() {
		if ia.IaId == c.association() {
			return ia
		}
	}
	return nil
}

// offered returns the first address that a message gives us, nil for none.
func (c client6) offered(m *dhcpv6.Message) *dhcpv6.OptIAAddress {
	ia := c.own(m)
	if ia == nil {
		return nil
	}
	for _, a := range ia.Options.Addresses() {
		if addr, ok := netip.AddrFromSlice(a.IPv6Addr); ok && addr.Is6() && a.ValidLifetime > 0 {
			return a
		}
	}
	return nil
}

// why says in the server's words why there is no address.
func (c client6) why(m *dhcpv6.Message) string {
	if ia := c.own(m); ia != nil && ia.Options.Status() != nil {
		return ia.Options.Status().String()
	}
	if s := m.Options.Status(); s != nil {
		return s.String()
	}
	return "no address"
}

// describe6 adds to a result what a lease says. DHCPv6 has no routes: router
// advertisements tell of them.
func (l *lease) describe6(result *cni.Result) error {
	reply, err := dhcpv6.MessageFromBytes(l.Reply)
	if err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	result.IPs = append(result.IPs, cni.IP{Address: l.Address})
	for _, ip := range reply.Options.DNS() {
		result.DNS.Nameservers = append(result.DNS.Nameservers, ip.String())
	}
	if search := reply.Options.DomainSearchList(); search != nil {
		for _, s := range search.Labels {
			result.DNS.Search = appendNew(result.DNS.Search, s)
		}
	}
	return nil
}

func appendNew(list []string, s string) []string {
	for _, have := range list {
		if have == s {
			return list
		}
	}
	return append(list, s)
}
