// Package ndp asks the neighbours of a link who has an IPv6 address (RFC 4861).
package ndp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/internal/packetconn"
	"golang.org/x/sys/unix"
)

// Numbers of RFC 8200 and of RFC 4861, section 4.
const (
	headerLen       = 40
	icmp6           = 58
	hopLimit        = 255 // that of a packet which no router has passed on
	solicitation    = 135
	advertisement   = 136
	solicitationLen = 24
	targetAt        = headerLen + 8
)

// Questions are repeated, since a packet may be lost.
const (
	questions = 3
	patience  = 100 * time.Millisecond // for the answer to each
)

// Holder returns the hardware address of who answers for an address on an Ethernet
// link, nil if nobody does within 300 ms. It asks as duplicate address detection
// does (RFC 4862 section 5.4.2), without an address of its own, so that nobody
// learns one; own is the link's hardware address, which is not an answer.
func Holder(ns *netns.NS, index int, own net.HardwareAddr, a netip.Addr) (holder net.HardwareAddr, err error) {
	conn, err := packetconn.Dial(ns, index, unix.ETH_P_IPV6)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	group := groupOf(a)
	everybody := [6]byte{0x33, 0x33, group[12], group[13], group[14], group[15]} // RFC 2464 section 7
	for range questions {
		if err := conn.Send(everybody, question(a, group)); err != nil {
			return nil, fmt.Errorf("ask who has %s: %w", a, err)
		}
		err := conn.Receive(time.Now().Add(patience), func(p []byte, from net.HardwareAddr) bool {
			if claims(p, a) && !bytes.Equal(from, own) {
				holder = bytes.Clone(from)
			}
			return holder != nil
		})
		if err != nil {
			return nil, fmt.Errorf("neighbour advertisements: %w", err)
		}
		if holder != nil {
			return holder, nil
		}
	}
	return nil, nil
}

// groupOf returns the solicited-node multicast address (RFC 4291 section 2.7.1).
func groupOf(a netip.Addr) [16]byte {
	b := a.As16()
	return [16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]}
}

// question is a neighbour solicitation from the unspecified address.
func question(a netip.Addr, group [16]byte) []byte {
	p := make([]byte, headerLen+solicitationLen)
	p[0] = 6 << 4
	binary.BigEndian.PutUint16(p[4:], solicitationLen)
	p[6], p[7] = icmp6, hopLimit
	copy(p[24:], group[:])
	p[headerLen] = solicitation
	copy(p[targetAt:], a.AsSlice())
	binary.BigEndian.PutUint16(p[headerLen+2:], checksum(p))
	return p
}

// checksum is that of ICMPv6 over a packet in which it is zero (RFC 4443 section
// 2.3, RFC 8200 section 8.1).
func checksum(p []byte) uint16 {
	sum := uint32(len(p)-headerLen) + icmp6
	for i := 8; i < len(p); i += 2 { // both addresses, and what follows
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// claims reports whether a packet advertises an address, or asks for it as one does
// who is about to take it.
func claims(p []byte, a netip.Addr) bool {
	if len(p) < headerLen+solicitationLen || p[6] != icmp6 || p[7] != hopLimit {
		return false
	}
	source, target := netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[targetAt:targetAt+16]))
	return target == a && (p[headerLen] == advertisement || p[headerLen] == solicitation && source.IsUnspecified())
}
