package portmap

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/internal/nftconn"
)

// near is the set of the pairs of a source's prefix, of so many bits, and a
// container, whose flows need the host's address as their source.
func near(f nftconn.Family, bits int) nftconn.Map {
	addr := nftconn.AddrType(f)
	return nftconn.Map{Table: nftconn.Own(), Name: familyName(f) + "-near-" + strconv.Itoa(bits), Key: []nftconn.Type{addr, addr}}
}

// nearBits returns the length of the prefixes in a set of pairs.
func nearBits(set nftconn.Map) int {
	_, digits, _ := strings.Cut(set.Name, "-near-")
	bits, _ := strconv.Atoi(digits)
	return bits
}

func nearRule(f nftconn.Family, bits int) nftconn.Rule {
	length := anyOf(f).BitLen()
	to := nftconn.DestinationAddr(f)
	to.Reg = nftconn.RegAfter(f)
	exprs := append(nftconn.OfFamily(f), nftconn.SourceAddr(f))
	if bits < length {
		mask := nftconn.Mask(length, bits)
		exprs = append(exprs, nftconn.Bitwise{Reg: nftconn.Reg, Mask: mask, Xor: make([]byte, len(mask))})
	}
	return nftconn.Rule{Exprs: append(exprs, to, nftconn.Lookup{Map: near(f, bits).Name, Reg: nftconn.Reg}, nftconn.Masquerade{})}
}

// pairs returns the keys that the container's addresses may have in a set of
// pairs: of their own subnets, the host's loopback, or everything.
func (o owned) pairs(set nftconn.Map) (keys [][]byte) {
	f := familyOfMap(set)
	bits := nearBits(set)
	for _, a := range o.addrs {
		if nftconn.FamilyOf(a) != f {
			continue
		}
		for _, from := range []netip.Addr{a, loopback(f).Addr()} {
			p, err := from.Prefix(bits)
			if err != nil {
				continue
			}
			pair := nftconn.Concat(p.Addr().AsSlice(), a.AsSlice())
			if n := len(keys); n == 0 || string(keys[n-1]) != string(pair) {
				keys = append(keys, pair)
			}
		}
	}
	return keys
}
