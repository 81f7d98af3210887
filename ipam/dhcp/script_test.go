package dhcp_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"golang.org/x/sys/unix"

	"github.com/plumb-cni/plumb/test/host"
)

// A script is a server of DHCPv4 and DHCPv6 whose leases are shorter than a real server's, and that can be told to misbehave.
type script struct {
	t1, t2, whole time.Duration

	mu     sync.Mutex
	silent bool // answers nothing
	refuse bool // answers a request for what a client has by DHCPNAK, and DHCPv6's by no address
	host   byte // last byte of the address given

	broadcast bool   // the latest message asks for answers by broadcast
	seen      []seen // messages so far
}

// A seen is a message of a client.
type seen struct {
	kind string
	from string // address of the sender
	at   time.Time
}

func (s *script) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// kinds returns the messages since a moment, by what they are.
func (s *script) kinds(kind string, since time.Time) (list []seen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.seen {
		if m.kind == kind && m.at.After(since) {
			list = append(list, m)
		}
	}
	return list
}

// script starts such a server.
func (l *lan) script(t *testing.T, t1, t2, whole time.Duration) *script {
	t.Helper()
	s := &script{t1: t1, t2: t2, whole: whole, host: 60}
	for _, f := range []struct {
		network, addr string
		answer        func(data []byte, from *net.UDPAddr) ([]byte, *net.UDPAddr)
	}{
		{"udp4", "0.0.0.0:67", s.answer4}, {"udp6", "[::]:547", s.answer6},
	} {
		var conn net.PacketConn
		err := host.In(t, l.server, func() (err error) {
			lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
				_ = c.Control(func(fd uintptr) {
					err = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "srv")
					if err == nil && f.network == "udp4" {
						err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
					} else if err == nil {
						var i int
						if i, err = index("srv"); err == nil {
							err = unix.SetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
								&unix.IPv6Mreq{Multiaddr: [16]byte(dhcpv6.AllDHCPRelayAgentsAndServers.To16()), Interface: uint32(i)})
						}
					}
				})
				return err
			}}
			conn, err = lc.ListenPacket(context.Background(), f.network, f.addr)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		go func() {
			for data := make([]byte, 4096); ; {
				n, from, err := conn.ReadFrom(data)
				if err != nil {
					return
				}
				if answer, to := f.answer(data[:n], from.(*net.UDPAddr)); answer != nil {
					_, _ = conn.WriteTo(answer, to)
				}
			}
		}()
	}
	return s
}

func index(name string) (int, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	return i.Index, nil
}

// note remembers a message and tells whether it is to be answered.
func (s *script) note(kind string, from *net.UDPAddr) bool {
	s.seen = append(s.seen, seen{kind, from.IP.String(), time.Now()})
	return !s.silent
}

func (s *script) answer4(data []byte, from *net.UDPAddr) ([]byte, *net.UDPAddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := dhcpv4.FromBytes(data)
	if err != nil {
		return nil, nil
	}
	s.broadcast = m.IsBroadcast()
	known := m.MessageType() == dhcpv4.MessageTypeRequest && m.ServerIdentifier() == nil
	kind := m.MessageType().String()
	if known {
		kind = "RENEW"
	}
	if !s.note(kind, from) {
		return nil, nil
	}
	reply := dhcpv4.MessageTypeAck
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		reply = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		if known && s.refuse {
			reply = dhcpv4.MessageTypeNak
		}
	default:
		return nil, nil
	}
	seconds := func(d time.Duration) []byte { return []byte{0, 0, 0, byte(d / time.Second)} }
	a, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(reply), dhcpv4.WithServerIP(net.IPv4(10, 99, 0, 1)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 99, 0, 1))), dhcpv4.WithOption(dhcpv4.OptRouter(net.IPv4(10, 99, 0, 1))),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithLeaseTime(uint32(s.whole/time.Second)),
		dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionRenewTimeValue, seconds(s.t1))),
		dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionRebindingTimeValue, seconds(s.t2))))
	if err != nil {
		return nil, nil
	}
	if reply != dhcpv4.MessageTypeNak {
		a.YourIPAddr = net.IPv4(10, 99, 0, s.host)
	}
	to := &net.UDPAddr{IP: net.IPv4bcast, Port: 68}
	if !from.IP.IsUnspecified() {
		to = from
	}
	return a.ToBytes(), to
}

func (s *script) answer6(data []byte, from *net.UDPAddr) ([]byte, *net.UDPAddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := dhcpv6.MessageFromBytes(data)
	if err != nil || !s.note(m.MessageType.String(), from) {
		return nil, nil
	}
	ia := &dhcpv6.OptIANA{IaId: m.Options.OneIANA().IaId, T1: s.t1, T2: s.t2}
	if m.MessageType == dhcpv6.MessageTypeRelease || s.refuse && (m.MessageType == dhcpv6.MessageTypeRenew || m.MessageType == dhcpv6.MessageTypeRebind) {
		ia.Options.Add(&dhcpv6.OptStatusCode{StatusCode: 3, StatusMessage: "no binding"})
	} else {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP(fmt.Sprintf("fd00:99::%d", s.host)), PreferredLifetime: s.whole, ValidLifetime: s.whole})
	}
	server := &dhcpv6.DUIDLL{HWType: 1, LinkLayerAddr: net.HardwareAddr{2, 0, 0, 0, 0, 99}}
	var a *dhcpv6.Message
	if m.MessageType == dhcpv6.MessageTypeSolicit {
		a, err = dhcpv6.NewAdvertiseFromSolicit(m, dhcpv6.WithServerID(server), dhcpv6.WithOption(ia))
	} else {
		a, err = dhcpv6.NewReplyFromMessage(m, dhcpv6.WithServerID(server), dhcpv6.WithOption(ia))
	}
	if err != nil {
		return nil, nil
	}
	return a.ToBytes(), from
}
