// Package packetconn has sockets for the packets of one protocol on one Ethernet
// link, by which its neighbours are asked.
package packetconn

import (
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"github.com/plumb-cni/plumb/internal/netns"
	"golang.org/x/sys/unix"
)

// A Conn is a socket. Closing it waits for a grace period of RCU, some 7 ms.
type Conn struct {
	fd       int
	index    int
	protocol uint16 // in the network's order
}

// Dial opens a socket for an ETH_P_* protocol on a link, in its namespace.
func Dial(ns *netns.NS, index int, protocol uint16) (*Conn, error) {
	c := &Conn{fd: -1, index: index, protocol: bigEndian(protocol)}
	err := ns.Do(func() (err error) {
		// Without a protocol until it is bound, so that it receives nothing of other links.
		c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open packet socket in %s: %w", ns.Path(), err)
	}
	if err := unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: c.protocol, Ifindex: index}); err != nil {
		unix.Close(c.fd)
		return nil, fmt.Errorf("bind packet socket to link %d: %w", index, err)
	}
	return c, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// Send sends a packet to a hardware address of Ethernet.
func (c *Conn) Send(to [6]byte, packet []byte) error {
	address := &unix.SockaddrLinklayer{Protocol: c.protocol, Ifindex: c.index, Halen: uint8(len(to))}
	copy(address.Addr[:], to[:])
	return unix.Sendto(c.fd, packet, 0, address)
}

// Receive hands packets, with the hardware address that each is from, to take until
// that returns true or a deadline has passed. Both are overwritten by the next.
func (c *Conn) Receive(deadline time.Time, take func(packet []byte, from net.HardwareAddr) bool) error {
	buf := make([]byte, 1500)
	for {
		n, from, err := unix.Recvfrom(c.fd, buf, 0)
		switch err {
		case nil:
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && take(buf[:n], ll.Addr[:ll.Halen]) {
				return nil
			}
		case unix.EINTR, unix.EAGAIN:
		default:
			return fmt.Errorf("receive: %w", err)
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil
		}
		wait := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(wait, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait: %w", err)
		}
	}
}

// bigEndian returns a number whose bytes are in the network's order.
func bigEndian(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
