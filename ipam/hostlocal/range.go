package hostlocal

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/ipam"
)

// rangeJSON is a range as it is configured. Only the subnet is required.
type rangeJSON struct {
	Subnet     string `json:"subnet" schema:"is=subnet"`
	RangeStart string `json:"rangeStart" schema:"is=address"`
	RangeEnd   string `json:"rangeEnd" schema:"is=address"`
	Gateway    string `json:"gateway" schema:"is=address"`
}

// An addrRange is the addresses of a subnet from start to end, both inclusive.
type addrRange struct {
	subnet     netip.Prefix
	start, end netip.Addr
	gateway    netip.Addr
}

func (r addrRange) String() string { return r.start.String() + "-" + r.end.String() }

// parse checks a range and fills in what it leaves open: the gateway is the
// first address of the subnet, the range starts there and ends with the last
// address, before the broadcast address in IPv4. key is the path of the range.
func (j rangeJSON) parse(key string) (r addrRange, err error) {
	subnet := key + ".subnet"
	if j.Subnet == "" {
		return r, ipam.Invalid(subnet, `a range needs one, such as "10.0.0.0/24"`, "missing")
	}
	r.subnet, err = cni.ParsePrefix(j.Subnet)
	if err != nil {
		return r, ipam.Invalid(subnet, "", "%w", err)
	}
	if r.subnet != r.subnet.Masked() {
		return r, ipam.Invalid(subnet, fmt.Sprintf("the subnet is %s", r.subnet.Masked()), "%q has host bits set", j.Subnet)
	}
	if size := r.subnet.Addr().BitLen(); r.subnet.Bits() > size-2 {
		return r, ipam.Invalid(subnet, fmt.Sprintf("the prefix can have %d bits at most", size-2), "%q is too small to allocate from", j.Subnet)
	}
	first, last := r.subnet.Addr().Next(), lastAddr(r.subnet)
	if last.Is4() {
		last = last.Prev()
	}
	for _, f := range []struct {
		name, value string
		into        *netip.Addr
		otherwise   netip.Addr
	}{
		{"gateway", j.Gateway, &r.gateway, first},
		{"rangeStart", j.RangeStart, &r.start, first},
		{"rangeEnd", j.RangeEnd, &r.end, last},
	} {
		if f.value == "" {
			*f.into = f.otherwise
			continue
		}
		if *f.into, err = cni.ParseAddr(f.value); err != nil {
			return r, ipam.Invalid(key+"."+f.name, "", "%w", err)
		}
		// The gateway may be outside, on a network that is reached directly.
		if outside := f.name != "gateway" && !r.subnet.Contains(*f.into); outside || f.into.BitLen() != first.BitLen() {
			return r, ipam.Invalid(key+"."+f.name, "", "%s is not in subnet %s", *f.into, r.subnet)
		}
	}
	if r.end.Less(r.start) {
		return r, ipam.Invalid(key+".rangeEnd", "", "%s is before the start of the range, %s", r.end, r.start)
	}
	return r, nil
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

func (r addrRange) contains(a netip.Addr) bool {
	return a.BitLen() == r.start.BitLen() && !a.Less(r.start) && !r.end.Less(a)
}

func (r addrRange) overlaps(o addrRange) bool {
	return r.contains(o.start) || r.contains(o.end) || o.contains(r.start)
}

// size is the number of addresses, at most the largest number there is.
func (r addrRange) size() uint64 {
	from, to := r.start.As16(), r.end.As16()
	low, borrow := bits.Sub64(binary.BigEndian.Uint64(to[8:]), binary.BigEndian.Uint64(from[8:]), 0)
	high, _ := bits.Sub64(binary.BigEndian.Uint64(to[:]), binary.BigEndian.Uint64(from[:]), borrow)
	if low++; high > 0 || low == 0 {
		return 1<<64 - 1
	}
	return low
}

// A rangeSet is what one address is given from: ranges of one family that don't
// overlap.
type rangeSet []addrRange

func (s rangeSet) String() string {
	var names []string
	for _, r := range s {
		names = append(names, r.String())
	}
	return strings.Join(names, ", ")
}

// parseSet checks the ranges of a set, whose path is key.
func parseSet(key string, ranges []rangeJSON) (rangeSet, error) {
	if len(ranges) == 0 {
		return nil, ipam.Invalid(key, "each list in it gives one address and needs a range", "empty")
	}
	var s rangeSet
	for i, j := range ranges {
		at := fmt.Sprintf("%s[%d]", key, i)
		r, err := j.parse(at)
		if err != nil {
			return nil, err
		}
		for k, other := range s {
			if other.subnet.Addr().BitLen() != r.subnet.Addr().BitLen() {
				return nil, ipam.Invalid(at, "put them into lists of their own: each gives one address", "%s and %s are not of one family", other.subnet, r.subnet)
			}
			if other.overlaps(r) {
				return nil, ipam.Invalid(at, "", "%s overlaps with %s[%d], %s", r, key, k, other)
			}
		}
		s = append(s, r)
	}
	return s, nil
}

// overlap returns a range of each set that overlap, if there are such.
func (s rangeSet) overlap(o rangeSet) (a, b addrRange, ok bool) {
	for _, a := range s {
		for _, b := range o {
			if a.overlaps(b) {
				return a, b, true
			}
		}
	}
	return a, b, false
}

// find returns the index of the range that has an address, or -1.
func (s rangeSet) find(a netip.Addr) int {
	return slices.IndexFunc(s, func(r addrRange) bool { return r.contains(a) })
}

// reserved says what an address of the set is, if it is one that no container
// can have.
func (s rangeSet) reserved(a netip.Addr) (as string) {
	for _, r := range s {
		if a == r.gateway {
			return "gateway"
		}
		if !a.Is4() || !r.subnet.Contains(a) {
			continue // IPv6 has no broadcast, and its first address is as good as any
		}
		if a == r.subnet.Addr() {
			return "network address"
		}
		if a == lastAddr(r.subnet) {
			return "broadcast address"
		}
	}
	return ""
}

// gives reports whether an address can be given.
func (s rangeSet) gives(a netip.Addr) bool { return s.find(a) >= 0 && s.reserved(a) == "" }

// size is the number of addresses that can be given.
func (s rangeSet) size() uint64 {
	special := make(map[netip.Addr]bool)
	var n uint64
	for _, r := range s {
		if n += r.size(); n < r.size() {
			return 1<<64 - 1
		}
		for _, a := range []netip.Addr{r.gateway, r.subnet.Addr(), lastAddr(r.subnet)} {
			if s.find(a) >= 0 && s.reserved(a) != "" {
				special[a] = true
			}
		}
	}
	return n - uint64(len(special))
}

// order returns the parts of the set in the order in which they are searched
// after last was given: what follows it in its range, the other ranges, and
// its range up to and with last itself. So an address that has just been freed
// is given again as late as can be.
func (s rangeSet) order(last netip.Addr) [][2]netip.Addr {
	var parts [][2]netip.Addr
	at := s.find(last)
	if at < 0 {
		for _, r := range s {
			parts = append(parts, [2]netip.Addr{r.start, r.end})
		}
		return parts
	}
	if last != s[at].end {
		parts = append(parts, [2]netip.Addr{last.Next(), s[at].end})
	}
	for _, r := range slices.Concat(s[at+1:], s[:at]) {
		parts = append(parts, [2]netip.Addr{r.start, r.end})
	}
	return append(parts, [2]netip.Addr{s[at].start, last})
}
