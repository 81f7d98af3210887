package portmap

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"golang.org/x/sys/unix"
)

// A Mapping leads a port of the host to one of the container.
type Mapping struct {
	Protocol uint8 // unix.IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP

	// HostAddr is the host's address. The zero Addr is every address,
	// 0.0.0.0 every one of IPv4, and :: every one of IPv6.
	HostAddr netip.Addr

	HostPort, ContainerPort uint16
}

// ParseProtocol returns the number of tcp, udp or sctp, in any case; "" is tcp.
func ParseProtocol(name string) (uint8, error) {
	switch strings.ToLower(name) {
	case "tcp", "":
		return unix.IPPROTO_TCP, nil
	case "udp":
		return unix.IPPROTO_UDP, nil
	case "sctp":
		return unix.IPPROTO_SCTP, nil
	}
	return 0, fmt.Errorf("unknown protocol %q: it is tcp, udp or sctp", name)
}

func protocolName(p uint8) string {
	switch p {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	}
	return strconv.Itoa(int(p))
}

// of tells whether a mapping is for a family.
func (m Mapping) of(f nftconn.Family) bool {
	return !m.HostAddr.IsValid() || nftconn.FamilyOf(m.HostAddr) == f
}

// anyOf is the address that stands for every one of a family.
func anyOf(f nftconn.Family) netip.Addr {
	if f == nftconn.IPv4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// A forward is what becomes of one mapping in one family, or of a run of them.
type forward struct {
	protocol    uint8
	host        netip.Addr // unspecified: every one
	first, last uint16     // of the host; a run's are the same as the container's
	to          netip.AddrPort
}

func (f forward) family() nftconn.Family { return nftconn.FamilyOf(f.host) }

// run tells whether the forward is a range of ports.
func (f forward) run() bool { return f.last > f.first }

func (f forward) ports() int { return int(f.last) - int(f.first) + 1 }

// String writes "tcp 192.0.2.1:80", "udp [::]:1000-1999".
func (f forward) String() string {
	s := protocolName(f.protocol) + " " + netip.AddrPortFrom(f.host, f.first).String()
	if f.run() {
		s += "-" + strconv.Itoa(int(f.last))
	}
	return s
}

// overlaps tells whether packets may be of both forwards, where an unspecified
// address stands for every one.
func (f forward) overlaps(o forward) bool {
	return f.protocol == o.protocol && f.family() == o.family() && f.first <= o.last && o.first <= f.last &&
		(f.host == o.host || f.host.IsUnspecified() || o.host.IsUnspecified())
}

func (f forward) compare(o forward) int {
	if c := cmp.Compare(f.protocol, o.protocol); c != 0 {
		return c
	}
	if c := f.host.Compare(o.host); c != 0 {
		return c
	}
	if c := cmp.Compare(f.first, o.first); c != 0 {
		return c
	}
	return f.to.Compare(o.to)
}

// forwards returns what mappings become for a container's addresses, of each
// family the first. Mappings for a family that the container lacks are none, and
// those of every address are of ::1 too if that is asked for. It fails if two
// lead one port to two.
func forwards(mappings []Mapping, addrs []netip.Prefix, loopback6 bool) ([]forward, error) {
	var list, implied []forward
	for _, f := range nftconn.Families() {
		to, ok := firstOf(f, addrs)
		for _, m := range mappings {
			if !ok || !m.of(f) {
				continue
			}
			host := m.HostAddr.Unmap()
			if !host.IsValid() {
				host = anyOf(f)
			}
			fwd := forward{m.Protocol, host, m.HostPort, m.HostPort, netip.AddrPortFrom(to.Addr(), m.ContainerPort)}
			list = append(list, fwd)
			if fwd.host = netip.IPv6Loopback(); host == netip.IPv6Unspecified() && loopback6 {
				implied = append(implied, fwd)
			}
		}
	}
	type claim struct {
		protocol uint8
		port     uint16
	}
	explicit := make(map[claim]bool) // of ::1
	for _, fwd := range list {
		if fwd.host == netip.IPv6Loopback() {
			explicit[claim{fwd.protocol, fwd.first}] = true
		}
	}
	for _, fwd := range implied {
		if !explicit[claim{fwd.protocol, fwd.first}] {
			list = append(list, fwd)
		}
	}
	slices.SortFunc(list, forward.compare)
	list = slices.Compact(list)
	for i := 1; i < len(list); i++ {
		if a, b := list[i-1], list[i]; a.protocol == b.protocol && a.host == b.host && a.first == b.first {
			return nil, fmt.Errorf("%s is mapped to port %d and to port %d", a, a.to.Port(), b.to.Port())
		}
	}
	return join(list), nil
}

// firstOf returns the first address of a family.
func firstOf(f nftconn.Family, addrs []netip.Prefix) (netip.Prefix, bool) {
	for _, a := range addrs {
		if nftconn.FamilyOf(a.Addr()) == f {
			return unmapped(a), true
		}
	}
	return netip.Prefix{}, false
}

func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// join makes runs of sorted forwards whose ports follow each other and are the
// same on both sides.
func join(list []forward) []forward {
	var joined []forward
	for _, f := range list {
		if n := len(joined); n > 0 && joined[n-1].followedBy(f) {
			joined[n-1].last = f.first
			continue
		}
		joined = append(joined, f)
	}
	return joined
}

func (f forward) followedBy(o forward) bool {
	return f.protocol == o.protocol && f.host == o.host && f.to.Addr() == o.to.Addr() &&
		f.first == f.to.Port() && o.first == o.to.Port() && int(f.last)+1 == int(o.first)
}

// Claims are how a key writes the ports that were mapped: "tcp:0.0.0.0:80" for
// one, "tcp:0.0.0.0:80+3" for four, "tcp:[::]:1000-1999" for a run.

func writeClaims(list []forward) string {
	var parts []string
	for i := 0; i < len(list); i++ {
		f := list[i]
		text := protocolName(f.protocol) + ":" + netip.AddrPortFrom(f.host, f.first).String()
		if f.run() {
			parts = append(parts, text+"-"+strconv.Itoa(int(f.last)))
			continue
		}
		more := 0
		for i+1 < len(list) && f.singleBefore(list[i+1], more+1) {
			i, more = i+1, more+1
		}
		if more > 0 {
			text += "+" + strconv.Itoa(more)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ",")
}

func (f forward) singleBefore(o forward, n int) bool {
	return !o.run() && f.protocol == o.protocol && f.host == o.host && int(f.first)+n == int(o.first)
}

func parseClaims(text string) ([]forward, error) {
	var list []forward
	for part := range strings.SplitSeq(text, ",") {
		name, rest, _ := strings.Cut(part, ":")
		more, run := 0, uint64(0)
		var err error
		if at := strings.LastIndexAny(rest, "+-"); at >= 0 {
			var n uint64
			n, err = strconv.ParseUint(rest[at+1:], 10, 16)
			if rest[at] == '+' {
				more = int(n)
			} else {
				run = n
			}
			rest = rest[:at]
		}
		host, err2 := netip.ParseAddrPort(rest)
		protocol, err3 := ParseProtocol(name)
		if err := cmp.Or(err, err2, err3); err != nil {
			return nil, fmt.Errorf("ports %q: %w", part, err)
		}
		f := forward{protocol: protocol, host: host.Addr(), first: host.Port(), last: max(host.Port(), uint16(run))}
		list = append(list, f)
		for range more {
			f.first, f.last = f.first+1, f.last+1
			list = append(list, f)
		}
	}
	return list, nil
}

// key is the element's of a map for one port.
func key(protocol uint8, host netip.Addr, port uint16) []byte {
	return nftconn.Concat([]byte{protocol}, host.AsSlice(), binary.BigEndian.AppendUint16(nil, port))
}

// blocks splits a run into blocks of sizes that are powers of 2, each of which
// begins at a multiple of its size: the fewest, and never more than 30. Of
// anything else there is one.
func (f forward) blocks() iter.Seq[forward] {
	return func(yield func(forward) bool) {
		if !f.run() {
			yield(f)
			return
		}
		for first := int(f.first); first <= int(f.last); {
			size := first & -first
			for first+size-1 > int(f.last) {
				size /= 2
			}
			block := f
			block.first, block.last = uint16(first), uint16(first+size-1)
			block.to = netip.AddrPortFrom(f.to.Addr(), block.first)
			if !yield(block) {
				return
			}
			first += size
		}
	}
}

// element is what a block is in its map.
func (f forward) element(tag string) nftconn.Element {
	x := nftconn.Element{Key: key(f.protocol, f.host, f.first), Comment: tag}
	if f.run() {
		x.Data = f.to.Addr().AsSlice()
	} else {
		x.Data = nftconn.Concat(f.to.Addr().AsSlice(), binary.BigEndian.AppendUint16(nil, f.to.Port()))
	}
	return x
}

// forward returns what an element leads where, if it is of a map of ports.
func (e entry) forward() (fwd forward, ok bool) {
	size := len(anyOf(familyOfMap(e.in)).AsSlice())
	if len(e.Key) < 4+size+4 || len(e.Data) < size {
		return forward{}, false
	}
	port := binary.BigEndian.Uint16(e.Key[4+size:])
	host, _ := netip.AddrFromSlice(e.Key[4 : 4+size])
	to, _ := netip.AddrFromSlice(e.Data[:size])
	fwd = forward{protocol: e.Key[0], host: host, first: port, last: port + uint16(sizeOf(e.in)-1)}
	toPort := fwd.first
	if len(e.Data) >= size+2 {
		toPort = binary.BigEndian.Uint16(e.Data[size:])
	}
	fwd.to = netip.AddrPortFrom(to, toPort)
	return fwd, true
}
