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
	"golang.org/x/sys/unix"
)

// A Conn is a socket for the ARP packets of one link. Closing it waits for a
// grace period of RCU, some 7 ms.
type Conn struct {
	fd  int
	to  unix.SockaddrLinklayer // everybody on the link
	mac net.HardwareAddr
}

// Dial opens a socket on a link, which has to be an Ethernet device, in its
// namespace.
func Dial(ns *netns.NS, index int, mac net.HardwareAddr) (*Conn, error) {
	if len(mac) != macLen {
		return nil, fmt.Errorf("link %d has a hardware address of %d bytes, and ARP is for Ethernet", index, len(mac))
	}
	c := &Conn{fd: -1, mac: mac, to: unix.SockaddrLinklayer{
		Protocol: bigEndian(unix.ETH_P_ARP), Ifindex: index, Halen: macLen,
		Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	}}
	err := ns.Do(func() (err error) {
		// Without a protocol until it is bound, so that it receives nothing of other links.
		c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open packet socket in %s: %w", ns.Path(), err)
	}
	if err := unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: c.to.Protocol, Ifindex: index}); err != nil {
		unix.Close(c.fd)
		return nil, fmt.Errorf("bind packet socket to link %d: %w", index, err)
	}
	return c, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// Probe asks who has an address, without telling an address of our own, so
// that nobody learns one (RFC 5227 section 2.1.1).
func (c *Conn) Probe(a netip.Addr) error {
	p := packet{op: request, sender: c.mac, target: a}
	if err := unix.Sendto(c.fd, p.encode(), 0, &c.to); err != nil {
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
func (c *Conn) Claims(addrs []netip.Addr, deadline time.Time) (*Claim, error) {
	buf := make([]byte, 128)
	for {
		n, _, err := unix.Recvfrom(c.fd, buf, 0)
		switch err {
		case nil:
			if claim := c.claim(buf[:n], addrs); claim != nil {
				return claim, nil
			}
		case unix.EINTR, unix.EAGAIN:
		default:
			return nil, fmt.Errorf("receive ARP: %w", err)
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil, nil
		}
		wait := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(wait, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			return nil, fmt.Errorf("wait for ARP: %w", err)
		}
	}
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

// bigEndian returns a number whose bytes are in the network's order.
func bigEndian(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
