package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/dnsname"
)

// A port is an address of the host's at which containers ask, over UDP and TCP.
type port struct {
	udp net.PacketConn
	tcp net.Listener
}

// listen listens on an address, also if the address is not there at the moment,
// such as of a bridge that is made anew.
func listen(addr netip.Addr, r *Resolver) (*port, error) {
	config := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		var err error
		control := c.Control(func(fd uintptr) {
			if addr.Is4() {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
			} else {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
			}
		})
		return errors.Join(control, err)
	}}
	at := netip.AddrPortFrom(addr, dnsname.Port).String()
	p := new(port)
	var err error
	if p.udp, err = config.ListenPacket(context.Background(), "udp", at); err != nil {
		return nil, taken(at, err)
	}
	if p.tcp, err = config.Listen(context.Background(), "tcp", at); err != nil {
		p.udp.Close()
		return nil, taken(at, err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { r.answer(addr, w, q) })
	for _, s := range []*dns.Server{{PacketConn: p.udp, Handler: handler, UDPSize: dns.MaxMsgSize}, {Listener: p.tcp, Handler: handler}} {
		go s.ActivateAndServe() //nolint:errcheck // it ends when the port is closed
	}
	return p, nil
}

// taken says who may be at a port.
func taken(at string, err error) error {
	if !errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("listen for containers' queries: %w", err)
	}
	return cni.Errorf(state.CodeConflict, "%s is taken by another resolver of the host, which listens there or on all addresses: %w; `ss -lnp sport = 53` names it; have it leave out that address, such as dnsmasq by bind-interfaces", at, err)
}

func (p *port) close() {
	p.udp.Close()
	p.tcp.Close()
}

// probeTimeout is for an answer from this very process.
const probeTimeout = 2 * time.Second

// probe asks an address for the first name of an entry.
func probe(ctx context.Context, network string, addr netip.Addr, e *dnsname.Entry) error {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(e.Names[0]+"."+e.Domain), dns.TypeANY).SetEdns0(dns.MaxMsgSize-1, false)
	c := &dns.Client{Net: network, Timeout: probeTimeout}
	m, _, err := c.ExchangeContext(ctx, q, netip.AddrPortFrom(addr, dnsname.Port).String())
	if err != nil {
		return err
	}
	for _, want := range e.Addresses {
		found := false
		for _, rr := range m.Answer {
			switch rr := rr.(type) {
			case *dns.A:
				found = found || rr.A.Equal(want.Addr().AsSlice())
			case *dns.AAAA:
				found = found || rr.AAAA.Equal(want.Addr().AsSlice())
			}
		}
		if !found {
			return fmt.Errorf("%s is not in it", want.Addr())
		}
	}
	return nil
}
