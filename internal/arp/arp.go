// Package arp asks the neighbours of a link who has an IPv4 address (RFC 826),
// as RFC 5227 does before an address is used.
package arp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/internal/packetconn"
	"golang.org/x/sys/unix"
)

// A Conn is a socket for the ARP packets of one link. Closing it waits for a
// grace period of RCU, some 7 ms.
type Conn struct {
	*packetconn.Conn
	mac net.HardwareAddr
}

// Dial opens a socket on a link, which has to be an Ethernet device, in its
// namespace.
func Dial(ns *netns.NS, index int, mac net.HardwareAddr) (*Conn, error) {
	if len(mac) != macLen {
		return nil, fmt.Errorf("link %d has a hardware address of %d bytes, and ARP is for Ethernet", index, len(mac))
	}
	conn, err := packetconn.Dial(ns, index, unix.ETH_P_ARP)
	if err != nil {
		return nil, err
	}
	return &Conn{conn, mac}, nil
}

// Probe asks who has an address, without telling an address of our own, so
// that nobody learns one (RFC 5227 section 2.1.1).
func (c *Conn) Probe(a netip.Addr) error {
	p := packet{op: request, sender: c.mac, target: a}
	if err := c.Send([macLen]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, p.encode()); err != nil {
		return fmt.Errorf("send ARP probe for %s: %w", a, err)
	}
	return nil
}

// A Claim is somebody else's having an address, or being about to take it.
type Claim struct {
	Addr netip.Addr
	MAC  net.HardwareAddr
}

// Claims waits for a claim to one of the addresses, until a deadline. There is
// none if it returns nil.
func (c *Conn) Claims(addrs []netip.Addr, deadline time.Time) (claim *Claim, err error) {
	err = c.Receive(deadline, func(p []byte, _ net.HardwareAddr) bool {
		claim = c.claim(p, addrs)
		return claim != nil
	})
	if err != nil {
		return nil, fmt.Errorf("ARP: %w", err)
	}
	return claim, nil
}

// claim returns what a packet claims of the addresses: its sender's address,
// or the one that it probes for itself (RFC 5227 section 2.1.1).
func (c *Conn) claim(data []byte, addrs []netip.Addr) *Claim {
	p, ok := decode(data)
	if !ok || bytes.Equal(p.sender, c.mac) {
		return nil
	}
	for _, a := range addrs {
		probes := p.op == request && p.source.IsUnspecified() && p.target == a
		if p.source == a || probes {
			return &Claim{Addr: a, MAC: p.sender}
		}
	}
	return nil
}

// A packet is an ARP packet of IPv4 on Ethernet.
type packet struct {
	op     uint16
	sender net.HardwareAddr
	source netip.Addr // the sender's; unset is written as 0.0.0.0
	target netip.Addr
}

// Numbers of RFC 826.
const (
	ethernet  = 1
	request   = 1
	macLen    = 6
	packetLen = 28
)

func (p packet) encode() []byte {
	b := make([]byte, 0, packetLen)
	b = binary.BigEndian.AppendUint16(b, ethernet)
	b = binary.BigEndian.AppendUint16(b, unix.ETH_P_IP)
	b = append(b, macLen, 4)
	b = binary.BigEndian.AppendUint16(b, p.op)
	b = append(b, p.sender...)
	if !p.source.IsValid() {
		p.source = netip.IPv4Unspecified()
	}
	b = append(b, p.source.AsSlice()...)
	b = append(b, make([]byte, macLen)...)
	return append(b, p.target.AsSlice()...)
}

func decode(b []byte) (packet, bool) {
	if len(b) < packetLen || binary.BigEndian.Uint16(b) != ethernet ||
		binary.BigEndian.Uint16(b[2:]) != unix.ETH_P_IP || b[4] != macLen || b[5] != 4 {
		return packet{}, false
	}
	return packet{
		op:     binary.BigEndian.Uint16(b[6:]),
		sender: bytes.Clone(b[8:14]),
		source: netip.AddrFrom4([4]byte(b[14:18])),
		target: netip.AddrFrom4([4]byte(b[24:28])),
	}, true
}
