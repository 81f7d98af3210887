package daemon

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Ports of DHCPv4 (RFC 2131 section 4.1).
const (
	clientPort4 = 68
	serverPort4 = 67
)

const (
	etherLen   = 14
	ipv4Len    = 20
	udpLen     = 8
	maxFrame   = 64 << 10
	ipv4TTL    = 64
	etherTypes = 12 // offset of the type in an Ethernet header
)

// A packetConn sends and receives DHCPv4 in whole Ethernet frames: before an
// interface has an address the kernel can't, and afterwards routes, rules and
// filters of the container must not come between it and its server.
type packetConn struct {
	file *os.File
	mac  net.HardwareAddr // of the interface
}

// openPacket opens a packet socket on an interface of the calling thread's
// namespace.
func openPacket(index int, mac net.HardwareAddr) (*packetConn, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	filter := toClient()
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_IP), Ifindex: index})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind packet socket: %w", err)
	}
	return &packetConn{file: os.NewFile(uintptr(fd), "packet"), mac: mac}, nil
}

func bigEndian(v uint16) uint16 { return v<<8 | v>>8 }

// toClient is a filter that passes unfragmented UDP over IPv4 to the client's
// port, so that the container's traffic does not wake the daemon.
func toClient() []unix.SockFilter {
	const drop = 10 // index of the instruction that drops
	jump := func(at uint8, code uint16, k uint32, yes, no uint8) unix.SockFilter {
		to := func(target uint8) uint8 { return target - at - 1 }
		return unix.SockFilter{Code: code, Jt: to(yes), Jf: to(no), K: k}
	}
	const (
		half   = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
		single = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		anyOf  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	)
	return []unix.SockFilter{
		{Code: half, K: etherTypes},
		jump(1, equal, unix.ETH_P_IP, 2, drop),
		{Code: single, K: etherLen + 9}, // protocol
		jump(3, equal, unix.IPPROTO_UDP, 4, drop),
		{Code: half, K: etherLen + 6}, // fragment offset
		jump(5, anyOf, 0x1fff, drop, 6),
		{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: etherLen}, // length of the header
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_IND, K: etherLen + 2},
		jump(8, equal, clientPort4, 9, drop),
		{Code: unix.BPF_RET | unix.BPF_K, K: maxFrame},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
}

func (c *packetConn) close() error { return c.file.Close() }

// send sends a message to a server. The addresses of the link are this
// interface's and, of the next hop, to.
func (c *packetConn) send(src, dst netip.Addr, to net.HardwareAddr, message []byte) error {
	frame := make([]byte, etherLen+ipv4Len+udpLen, etherLen+ipv4Len+udpLen+len(message))
	copy(frame, to)
	copy(frame[6:], c.mac)
	binary.BigEndian.PutUint16(frame[etherTypes:], unix.ETH_P_IP)

	ip := frame[etherLen:]
	ip[0] = 4<<4 | ipv4Len/4
	binary.BigEndian.PutUint16(ip[2:], uint16(ipv4Len+udpLen+len(message)))
	ip[8], ip[9] = ipv4TTL, unix.IPPROTO_UDP
	copy(ip[12:], src.AsSlice())
	copy(ip[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip[:ipv4Len]))

	udp := ip[ipv4Len:]
	binary.BigEndian.PutUint16(udp[0:], clientPort4)
	binary.BigEndian.PutUint16(udp[2:], serverPort4)
	binary.BigEndian.PutUint16(udp[4:], uint16(udpLen+len(message)))
	// The checksum is over the addresses, the protocol and the length too.
	pseudo := sum(uint32(unix.IPPROTO_UDP)+uint32(udpLen+len(message)), ip[12:20])
	check := ^sum(uint32(sum(uint32(pseudo), udp[:udpLen])), message)
	if check == 0 {
		check = 0xffff // 0 says that there is none
	}
	binary.BigEndian.PutUint16(udp[6:], check)

	_, err := c.file.Write(append(frame, message...))
	return err
}

// sum is the ones' complement sum of RFC 1071, begun with another.
func sum(s uint32, data []byte) uint16 {
	for ; len(data) > 1; data = data[2:] {
		s += uint32(binary.BigEndian.Uint16(data))
	}
	if len(data) == 1 {
		s += uint32(data[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// receive waits for a message. from is the hardware address that
// it came from: the server's or its relay's. A checksum is not looked at, since
// a sender on this machine leaves it to a device that there isn't.
func (c *packetConn) receive() (message []byte, from net.HardwareAddr, err error) {
	frame := make([]byte, maxFrame)
	n, err := c.file.Read(frame)
	if err != nil {
		return nil, nil, err
	}
	frame = frame[:n]
	ip := frame[min(etherLen, n):]
	if len(ip) < ipv4Len {
		return nil, nil, nil
	}
	header, total := int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if header < ipv4Len || total < header+udpLen || total > len(ip) {
		return nil, nil, nil
	}
	return ip[header+udpLen : total], net.HardwareAddr(frame[6:12]), nil
}

// absorb opens a socket that takes what is sent to a leased address, so that
// the kernel doesn't answer a server that nobody listens. The container may
// have one of its own: then nothing is needed.
func absorb(index int, addr netip.Addr) (stop func()) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, index)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0)
	_ = unix.Bind(fd, &unix.SockaddrInet4{Port: clientPort4, Addr: addr.As4()})
	return func() { unix.Close(fd) }
}
