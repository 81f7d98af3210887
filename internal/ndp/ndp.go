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
func Holder(ns *netns.NS, index int, own net.HardwareAddr, a netip.Addr) (_ net.HardwareAddr, err error) {
	protocol := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_IPV6))
	fd := -1
	err = ns.Do(func() (err error) {
		// Without a protocol until it is bound, so that it receives nothing of other links.
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open packet socket in %s: %w", ns.Path(), err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: index}); err != nil {
		return nil, fmt.Errorf("bind packet socket to link %d: %w", index, err)
	}
	group := groupOf(a)
	to := &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: index, Halen: 6}
	copy(to.Addr[:], []byte{0x33, 0x33, group[12], group[13], group[14], group[15]}) // RFC 2464 section 7
	for range questions {
		if err := unix.Sendto(fd, question(a, group), 0, to); err != nil {
			return nil, fmt.Errorf("ask who has %s: %w", a, err)
		}
		holder, err := answer(fd, own, a, time.Now().Add(patience))
		if holder != nil || err != nil {
			return holder, err
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

// answer waits for who has an address, or is about to take it.
func answer(fd int, own net.HardwareAddr, a netip.Addr, deadline time.Time) (net.HardwareAddr, error) {
	buf := make([]byte, 1500)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		switch err {
		case nil:
			ll, ok := from.(*unix.SockaddrLinklayer)
			if ok && claims(buf[:n], a) && !bytes.Equal(ll.Addr[:ll.Halen], own) {
				return bytes.Clone(ll.Addr[:ll.Halen]), nil
			}
		case unix.EINTR, unix.EAGAIN:
		default:
			return nil, fmt.Errorf("receive neighbour advertisements: %w", err)
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil, nil
		}
		wait := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(wait, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			return nil, fmt.Errorf("wait for neighbour advertisements: %w", err)
		}
	}
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
