// Package announce tells the neighbours of an interface which hardware address
// its IP addresses have now, so that those who knew another one forget it.
package announce

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/plumb-cni/plumb/internal/netns"
	"golang.org/x/sys/unix"
)

// Send announces addresses of the interface with the given index and hardware
// address: each IPv4 address by an ARP announcement (RFC 5227 section 3), each
// IPv6 address by an unsolicited neighbour advertisement (RFC 4861 section
// 7.2.6). The addresses have to be usable already.
func Send(ns *netns.NS, index int, mac net.HardwareAddr, addrs []netip.Addr) error {
	return ns.Do(func() error {
		var errs []error
		for _, a := range addrs {
			send := advertise
			if a.Is4() {
				send = arp
			}
			if err := send(index, mac, a); err != nil {
				errs = append(errs, fmt.Errorf("announce %s: %w", a, err))
			}
		}
		return errors.Join(errs...)
	})
}

// arp broadcasts a request whose sender and target are the address itself.
func arp(index int, mac net.HardwareAddr, a netip.Addr) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	p := binary.BigEndian.AppendUint16(nil, unix.ARPHRD_ETHER)
	p = binary.BigEndian.AppendUint16(p, unix.ETH_P_IP)
	p = append(p, byte(len(mac)), net.IPv4len, 0, 1) // sizes, operation 1: request
	p = append(append(p, mac...), a.AsSlice()...)
	p = append(append(p, make([]byte, len(mac))...), a.AsSlice()...)
	to := &unix.SockaddrLinklayer{
		Protocol: bigEndian(unix.ETH_P_ARP), Ifindex: index, Halen: uint8(len(mac)),
	}
	for i := range mac {
		to.Addr[i] = 0xff
	}
	return unix.Sendto(fd, p, 0, to)
}

// advertise sends an advertisement that overrides to all nodes of the link. The
// kernel adds the checksum.
func advertise(index int, mac net.HardwareAddr, a netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, o := range []struct{ name, value int }{
		{unix.IPV6_MULTICAST_IF, index},
		{unix.IPV6_MULTICAST_HOPS, 255}, // receivers refuse any other
	} {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, o.name, o.value); err != nil {
			return err
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet6{Addr: a.As16(), ZoneId: uint32(index)}); err != nil {
		return err
	}
	const (
		neighborAdvertisement = 136
		override              = 0x20
		targetLinkLayer       = 2
	)
	p := []byte{neighborAdvertisement, 0, 0, 0, override, 0, 0, 0}
	p = append(p, a.AsSlice()...)
	p = append(append(p, targetLinkLayer, 1), mac...)
	return unix.Sendto(fd, p, 0, &unix.SockaddrInet6{Addr: netip.IPv6LinkLocalAllNodes().As16(), ZoneId: uint32(index)})
}

// bigEndian returns the number that reads as n in network byte order.
func bigEndian(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}
