package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/addr"
)

// errRefused means that the server says that the address is not ours.
var errRefused = errors.New("the server refuses it")

// defaultLease is how long a lease holds whose server doesn't say.
const defaultLease = time.Hour

// maxMessage is the size of messages that the client takes in bytes: what fits
// into an Ethernet frame.
const maxMessage = 1472

// clientID returns what identifies the client to servers (RFC 2132 section
// 9.14): what the reference sends, so that a container keeps its address when
// its node is switched.
func clientID(o state.Owner) []byte {
	id := o.ContainerID + "/" + o.Network + "/" + o.IfName
	return append([]byte{0}, id[:min(len(id), 254)]...)
}

// A client4 speaks DHCPv4 (RFC 2131) for an attachment.
type client4 struct {
	*record
	broadcast bool // have servers answer by broadcast
}

// message returns a message with what each one has.
func (c client4) message(kind dhcpv4.MessageType, mac net.HardwareAddr, broadcast bool) (*dhcpv4.DHCPv4, error) {
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(kind), dhcpv4.WithBroadcast(broadcast))
	if err != nil {
		return nil, err
	}
	m.UpdateOption(dhcpv4.OptClientIdentifier(clientID(c.Owner)))
	for _, o := range c.Terms.Provide {
		// The client's identity is in every message, the rest where it asks.
		if !returns(kind) || o.Code == dhcpv4.OptionClientIdentifier.Code() {
			m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(o.Code), o.Value))
		}
	}
	if returns(kind) {
		return m, nil
	}
	m.UpdateOption(dhcpv4.OptMaxMessageSize(maxMessage))
	if len(c.Terms.Ask) > 0 {
		m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionParameterRequestList, c.Terms.Ask))
	}
	return m, nil
}

// returns tells whether a message gives an address back, and asks for nothing.
func returns(kind dhcpv4.MessageType) bool {
	return kind == dhcpv4.MessageTypeRelease || kind == dhcpv4.MessageTypeDecline
}

// A talk4 is an open port with which a client4 speaks.
type talk4 struct {
	client4
	port      *port
	packets   *packetConn
	mac       net.HardwareAddr // that servers know
	broadcast bool
}

// talk opens a port for one exchange or two.
func (c client4) talk(p *port) (*talk4, error) {
	t := &talk4{client4: c, port: p, mac: p.MAC, broadcast: c.broadcast}
	switch {
	case c.Terms.MAC != nil:
		t.mac = c.Terms.MAC
	case c.MAC != nil:
		t.mac = c.MAC // another plugin may have changed it since
	}
	// An answer to another hardware address does not reach the interface, and
	// one to that which all ipvlan devices share may reach another.
	if t.mac.String() != p.MAC.String() || p.Kind == "ipvlan" {
		t.broadcast = true
	}
	err := p.kernel.In(state.Sandbox, func() (err error) {
		t.packets, err = openPacket(p.Index, p.MAC)
		return err
	})
	return t, err
}

func (t *talk4) close() { t.packets.close() }

// ask sends a message until an answer of one of two kinds comes that take
// accepts. via is where the answer came from.
func (t *talk4) ask(ctx context.Context, m *dhcpv4.DHCPv4, src, dst netip.Addr, to net.HardwareAddr,
	take func(*dhcpv4.DHCPv4) bool) (answer *dhcpv4.DHCPv4, via net.HardwareAddr, err error) {
	start := time.Now()
	err = exchange{
		conn: t.packets.file,
		send: func() error {
			m.NumSeconds = uint16(min(time.Since(start)/time.Second, 0xffff))
			return t.packets.send(src, dst, to, m.ToBytes())
		},
		receive: func() (bool, error) {
			data, from, err := t.packets.receive()
			if err != nil {
				return false, err
			}
			got, err := dhcpv4.FromBytes(data)
			if err != nil || got.OpCode != dhcpv4.OpcodeBootReply || got.TransactionID != m.TransactionID ||
				got.ClientHWAddr.String() != m.ClientHWAddr.String() || !take(got) {
				return false, nil // not for us, or nonsense
			}
			answer, via = got, from
			return true, nil
		},
	}.run(ctx)
	return answer, via, err
}

func everyone() net.HardwareAddr { return net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

func broadcast4() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// shout asks all servers.
func (t *talk4) shout(ctx context.Context, m *dhcpv4.DHCPv4, src netip.Addr, take func(*dhcpv4.DHCPv4) bool) (*dhcpv4.DHCPv4, net.HardwareAddr, error) {
	return t.ask(ctx, m, src, broadcast4(), everyone(), take)
}

// acquire gets an address, hint if the server will give that.
func (c client4) acquire(ctx context.Context, p *port, hint netip.Addr) (*lease, error) {
	t, err := c.talk(p)
	if err != nil {
		return nil, err
	}
	defer t.close()
	discover, err := c.message(dhcpv4.MessageTypeDiscover, t.mac, t.broadcast)
	if err != nil {
		return nil, err
	}
	if hint.IsValid() {
		discover.UpdateOption(dhcpv4.OptRequestedIPAddress(hint.AsSlice()))
	}
	offer, err := t.offer(ctx, discover)
	if err != nil {
		return nil, fmt.Errorf("no offer of a DHCP server: %w", err)
	}
	request, err := c.message(dhcpv4.MessageTypeRequest, t.mac, t.broadcast)
	if err != nil {
		return nil, err
	}
	request.TransactionID = offer.TransactionID
	request.UpdateOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr))
	request.UpdateOption(dhcpv4.OptServerIdentifier(offer.ServerIdentifier()))
	l, err := t.request(ctx, request, netip.IPv4Unspecified(), broadcast4(), everyone(), func(m *dhcpv4.DHCPv4) bool {
		return m.ServerIdentifier().Equal(offer.ServerIdentifier())
	})
	if err != nil {
		return nil, fmt.Errorf("the DHCP server %s does not confirm %s: %w", offer.ServerIdentifier(), offer.YourIPAddr, err)
	}
	if c.Terms.Probe {
		if err := t.probe(ctx, l); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// better is how long an offer is waited for that has more of the options that
// the configuration names than the first one. Servers of one network answer
// within milliseconds, but for one that is busy.
const better = time.Second

// offer sends a DHCPDISCOVER and returns the first DHCPOFFER that has all options
// which the configuration names, or else the best.
func (t *talk4) offer(ctx context.Context, discover *dhcpv4.DHCPv4) (best *dhcpv4.DHCPv4, err error) {
	whole, cancel := context.WithCancel(ctx)
	defer cancel()
	most := -1
	_, _, err = t.shout(whole, discover, netip.IPv4Unspecified(), func(m *dhcpv4.DHCPv4) bool {
		if m.MessageType() != dhcpv4.MessageTypeOffer || m.ServerIdentifier() == nil || !usable(m.YourIPAddr) {
			return false
		}
		has := 0
		for _, code := range t.Terms.Want {
			if m.Options.Has(dhcpv4.GenericOptionCode(code)) {
				has++
			}
		}
		if best == nil {
			time.AfterFunc(better, cancel)
		}
		if has > most {
			best, most = m, has
		}
		return has == len(t.Terms.Want)
	})
	if best != nil && ctx.Err() == nil {
		return best, nil
	}
	return nil, err
}

// probe declines an address that somebody on the network has (RFC 2131 section
// 3.1 step 5). Its server gives it to nobody then for a while.
func (t *talk4) probe(ctx context.Context, l *lease) error {
	address := l.Address.Addr()
	taken := addr.Unclaimed{NS: state.Sandbox, Link: t.port.Name, Addrs: []netip.Addr{address}}
	_, err := taken.Ensure(ctx, t.port.kernel)
	var failure *cni.Error
	if !errors.As(err, &failure) || failure.Code != state.CodeConflict {
		return err
	}
	decline, declineErr := t.message(dhcpv4.MessageTypeDecline, t.mac, false)
	if declineErr != nil {
		return errors.Join(err, declineErr)
	}
	decline.UpdateOption(dhcpv4.OptRequestedIPAddress(address.AsSlice()))
	decline.UpdateOption(dhcpv4.OptServerIdentifier(l.Server))
	return errors.Join(err, t.packets.send(netip.IPv4Unspecified(), broadcast4(), everyone(), decline.ToBytes()))
}

// reboot asks for an address that the client knows to be its own, of which it
// knows no more (RFC 2131 section 4.4.2, INIT-REBOOT).
func (c client4) reboot(ctx context.Context, p *port, addr netip.Addr) (*lease, error) {
	t, err := c.talk(p)
	if err != nil {
		return nil, err
	}
	defer t.close()
	m, err := c.message(dhcpv4.MessageTypeRequest, t.mac, t.broadcast)
	if err != nil {
		return nil, err
	}
	m.UpdateOption(dhcpv4.OptRequestedIPAddress(addr.AsSlice()))
	return t.request(ctx, m, netip.IPv4Unspecified(), broadcast4(), everyone(), anyServer)
}

// renew prolongs a lease: by asking its server, or, if rebind is set, anyone.
func (c client4) renew(ctx context.Context, p *port, l *lease, rebind bool) (*lease, error) {
	t, err := c.talk(p)
	if err != nil {
		return nil, err
	}
	defer t.close()
	m, err := c.message(dhcpv4.MessageTypeRequest, t.mac, false)
	if err != nil {
		return nil, err
	}
	addr := l.Address.Addr()
	m.ClientIPAddr = addr.AsSlice()
	dst, to := broadcast4(), everyone()
	if server, ok := netip.AddrFromSlice(l.Server); ok && !rebind && len(l.Via) == 6 {
		dst, to = server, l.Via
	}
	// The server answers to the address, which is the kernel's business too.
	var stop func()
	err = p.kernel.In(state.Sandbox, func() error { stop = absorb(p.Index, addr); return nil })
	if err != nil {
		return nil, err
	}
	defer stop()
	renewed, err := t.request(ctx, m, addr, dst, to, anyServer)
	if err != nil {
		return nil, err
	}
	if renewed.Address.Addr() != addr {
		return nil, fmt.Errorf("the server gives %s instead: %w", renewed.Address.Addr(), errRefused)
	}
	// What ADD was told stays what it is; some servers say less here.
	renewed.Reply, renewed.Address = l.Reply, l.Address
	if rebind && len(renewed.Server) == 0 {
		renewed.Server = l.Server
	}
	return renewed, nil
}

func anyServer(*dhcpv4.DHCPv4) bool { return true }

func usable(ip net.IP) bool { return ip.To4() != nil && !ip.IsUnspecified() && !ip.IsMulticast() }

// request sends a DHCPREQUEST and returns the lease of the DHCPACK. The error
// matches errRefused after a DHCPNAK.
func (t *talk4) request(ctx context.Context, m *dhcpv4.DHCPv4, src, dst netip.Addr, to net.HardwareAddr, from func(*dhcpv4.DHCPv4) bool) (*lease, error) {
	sent := time.Now() // from when a lease counts
	ack, via, err := t.ask(ctx, m, src, dst, to, func(m *dhcpv4.DHCPv4) bool {
		kind := m.MessageType()
		return (kind == dhcpv4.MessageTypeAck && usable(m.YourIPAddr) || kind == dhcpv4.MessageTypeNak) && from(m)
	})
	if err != nil {
		return nil, err
	}
	if ack.MessageType() == dhcpv4.MessageTypeNak {
		return nil, fmt.Errorf("%w (%s)", errRefused, ack.Message())
	}
	return newLease4(ack, via, sent)
}

func newLease4(ack *dhcpv4.DHCPv4, via net.HardwareAddr, got time.Time) (*lease, error) {
	prefix, err := prefix4(ack)
	if err != nil {
		return nil, err
	}
	l := &lease{Address: prefix, Reply: ack.ToBytes(), Server: ack.ServerIdentifier().To4(), Via: via}
	whole := ack.IPAddressLeaseTime(defaultLease)
	l.times(got, ack.IPAddressRenewalTime(0), ack.IPAddressRebindingTime(0), whole)
	return l, nil
}

// prefix4 returns the address of a DHCPACK with its subnet, which by default is
// that of its class.
func prefix4(ack *dhcpv4.DHCPv4) (netip.Prefix, error) {
	addr, _ := netip.AddrFromSlice(ack.YourIPAddr.To4())
	mask := ack.SubnetMask()
	if mask == nil {
		mask = ack.YourIPAddr.DefaultMask()
	}
	ones, bits := mask.Size()
	if bits != 32 || ones == 0 {
		return netip.Prefix{}, fmt.Errorf("the server gives %s the subnet mask %s, which is none", addr, mask)
	}
	return netip.PrefixFrom(addr, ones), nil
}

// release gives an address back: from that address, to its server alone (RFC
// 2131 section 4.4.6). There is no answer.
func (c client4) release(_ context.Context, p *port, l *lease) error {
	t, err := c.talk(p)
	if err != nil {
		return err
	}
	defer t.close()
	m, err := c.message(dhcpv4.MessageTypeRelease, t.mac, false)
	if err != nil {
		return err
	}
	m.ClientIPAddr = l.Address.Addr().AsSlice()
	server, ok := netip.AddrFromSlice(l.Server)
	if !ok {
		return errors.New("the server never said who it is")
	}
	m.UpdateOption(dhcpv4.OptServerIdentifier(l.Server))
	return t.packets.send(l.Address.Addr(), server, l.Via, m.ToBytes())
}

// describe4 adds to a result what a lease says.
func (l *lease) describe4(result *cni.Result) error {
	ack, err := dhcpv4.FromBytes(l.Reply)
	if err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	var gateway netip.Addr
	if routers := ack.Router(); len(routers) > 0 {
		gateway, _ = netip.AddrFromSlice(routers[0].To4())
	}
	result.IPs = append(result.IPs, cni.IP{Address: l.Address, Gateway: gateway})
	result.Routes = append(result.Routes, routes4(ack, gateway)...)
	for _, ip := range ack.DNS() {
		result.DNS.Nameservers = append(result.DNS.Nameservers, ip.String())
	}
	result.DNS.Domain = ack.DomainName()
	if search := ack.DomainSearch(); search != nil {
		result.DNS.Search = search.Labels
	}
	return nil
}

// routes4 returns the routes of a DHCPACK. Classless ones stand in for all
// others (RFC 3442).
func routes4(ack *dhcpv4.DHCPv4, gateway netip.Addr) []cni.Route {
	var routes []cni.Route
	for _, r := range ack.ClasslessStaticRoute() {
		dst, _ := netip.AddrFromSlice(r.Dest.IP.To4())
		ones, _ := r.Dest.Mask.Size()
		route := cni.Route{Dst: netip.PrefixFrom(dst, ones).Masked()}
		if router, ok := netip.AddrFromSlice(r.Router.To4()); ok && !router.IsUnspecified() {
			route.GW = router
		} else {
			route.Scope = new(int(unix.RT_SCOPE_LINK)) // on the link itself
		}
		routes = append(routes, route)
	}
	if routes != nil {
		return routes
	}
	for pairs := ack.Options.Get(dhcpv4.OptionStaticRoutingTable); len(pairs) >= 8; pairs = pairs[8:] {
		dst, router := netip.AddrFrom4([4]byte(pairs)), netip.AddrFrom4([4]byte(pairs[4:]))
		ones, _ := net.IP(dst.AsSlice()).DefaultMask().Size()
		if ones == 0 {
			continue // neither a class's network nor a default route, which option 33 can't have
		}
		routes = append(routes, cni.Route{Dst: netip.PrefixFrom(dst, ones).Masked(), GW: router})
	}
	if gateway.IsValid() {
		routes = append(routes, cni.Route{Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), GW: gateway})
	}
	return routes
}
