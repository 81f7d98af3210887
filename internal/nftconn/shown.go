package nftconn

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// shownFile is where the kernel shows the connections of a namespace as text, if
// it was built with CONFIG_NF_CONNTRACK_PROCFS. Unlike for a listing by netlink it
// takes no lock for each bucket of the table, which makes 0.15 ms of 10.
const shownFile = "/proc/thread-self/net/nf_conntrack"

// fewShown is the number of connections up to which they are read as text. Before
// Linux 6.18 every page of it begins at the table's start again, so that with more
// a listing is as fast.
const fewShown = 1024

// shownFlows returns the connections of families as the kernel shows them, of n
// in the namespace. It returns false if the kernel does not, if there is one that
// can't be deleted by what is shown, or if some may be missing.
func (c *Conn) shownFlows(n uint32, families []Family) (flows []flow, ok bool) {
	if n > fewShown {
		return nil, false
	}
	fd := -1
	err := c.ns.Do(func() (err error) {
		fd, err = unix.Open(shownFile, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, false
	}
	defer unix.Close(fd)
	var text []byte
	pages := 0
	for {
		n, err := unix.Read(fd, c.sock.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, false
		}
		if n == 0 {
			break
		}
		text, pages = append(text, c.sock.buf[:n]...), pages+1
	}
	if pages > 1 {
		// Where a page begins by its number of connections, one is left out
		// for each that has gone since.
		if now, err := c.countFlows(); err != nil || now < n {
			return nil, false
		}
	}
	for line := range bytes.Lines(text) {
		if !slices.ContainsFunc(families, func(f Family) bool { return bytes.HasPrefix(line, shownFamily(f)) }) {
			continue
		}
		f, ok := readShown(line)
		if !ok {
			return nil, false
		}
		flows = append(flows, f)
	}
	return flows, true
}

// shownFamily is how lines about connections of a family begin.
func shownFamily(f Family) []byte {
	if f == IPv4 {
		return []byte("ipv4 ")
	}
	return []byte("ipv6 ")
}

// readShown reads a line about a connection, such as
//
//	ipv4     2 udp      17 29 src=10.0.0.1 dst=10.0.0.2 sport=1000 dport=53 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 sport=53 dport=1000 mark=0 zone=0 use=2
func readShown(line []byte) (f flow, ok bool) {
	var e encoder
	var tuple shownTuple
	fields := bytes.Fields(line)
	if len(fields) < 4 {
		return f, false
	}
	protocol, err := strconv.ParseUint(string(fields[3]), 10, 8)
	if err != nil {
		return f, false
	}
	for _, field := range fields[4:] {
		key, value, _ := bytes.Cut(field, []byte("="))
		switch string(key) {
		case "src":
			if tuple.src.IsValid() { // that of the answers begins
				f[ctaTupleOrig] = tuple.encode(&e, uint8(protocol))
				tuple = shownTuple{}
			}
			tuple.src, err = netip.ParseAddr(string(value))
		case "dst":
			tuple.dst, err = netip.ParseAddr(string(value))
		case "sport":
			err = tuple.add(ctaProtoSourcePort, value, 16)
		case "dport":
			err = tuple.add(ctaProtoDestinationPort, value, 16)
		case "type":
			err = tuple.add(tuple.icmp(ctaProtoICMPType, ctaProtoICMPv6Type), value, 8)
		case "code":
			err = tuple.add(tuple.icmp(ctaProtoICMPCode, ctaProtoICMPv6Code), value, 8)
		case "id":
			err = tuple.add(tuple.icmp(ctaProtoICMPID, ctaProtoICMPv6ID), value, 16)
		case "zone":
			var zone uint64
			if zone, err = strconv.ParseUint(string(value), 10, 16); zone != 0 {
				f[ctaZone] = binary.BigEndian.AppendUint16(nil, uint16(zone))
			}
		case "srckey", "dstkey", "zone-orig", "zone-reply": // of GRE, and of one direction alone
			return f, false
		}
		if err != nil {
			return f, false
		}
	}
	f[ctaTupleReply] = tuple.encode(&e, uint8(protocol))
	return f, f[ctaTupleOrig] != nil && f[ctaTupleReply] != nil
}

// Numbers of ctnetlink for what ICMP has in the place of ports.
const (
	ctaProtoICMPID     = 4
	ctaProtoICMPType   = 5
	ctaProtoICMPCode   = 6
	ctaProtoICMPv6ID   = 7
	ctaProtoICMPv6Type = 8
	ctaProtoICMPv6Code = 9
)

// A shownTuple is one direction of a connection that is shown.
type shownTuple struct {
	src, dst netip.Addr
	proto    encoder // the attributes of the protocol beside its number
}

// icmp returns the number of the family's.
func (t *shownTuple) icmp(v4, v6 uint16) uint16 {
	if t.src.Is4() {
		return v4
	}
	return v6
}

// add adds an attribute of so many bits.
func (t *shownTuple) add(kind uint16, value []byte, bits int) error {
	n, err := strconv.ParseUint(string(value), 10, bits)
	if bits == 8 {
		t.proto.bytes(kind, []byte{byte(n)})
	} else {
		t.proto.bytes(kind, binary.BigEndian.AppendUint16(nil, uint16(n)))
	}
	return err
}

// encode returns the value of a tuple's attribute, nil if there is none.
func (t *shownTuple) encode(e *encoder, protocol uint8) []byte {
	if !t.src.IsValid() || !t.dst.IsValid() || t.src.Is4() != t.dst.Is4() {
		return nil
	}
	src, dst := uint16(ctaIPv4Source), uint16(ctaIPv4Destination)
	if t.src.Is6() {
		src, dst = ctaIPv6Source, ctaIPv6Destination
	}
	start := len(e.buf)
	e.nest(ctaTupleIP, func() {
		e.bytes(src, t.src.AsSlice())
		e.bytes(dst, t.dst.AsSlice())
	})
	e.nest(ctaTupleProto, func() {
		e.bytes(ctaProtoNum, []byte{protocol})
		e.buf = append(e.buf, t.proto.buf...)
	})
	return e.buf[start:len(e.buf):len(e.buf)]
}
