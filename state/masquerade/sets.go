package masquerade

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/internal/nftconn"
)

const baseChain = "masq-postrouting"

// familyName is the name of a family's set, and of its chain.
func familyName(f nftconn.Family) string {
	if f == nftconn.IPv4 {
		return "masq4"
	}
	return "masq6"
}

// hidden is the set of the addresses of a family that are masqueraded.
func hidden(f nftconn.Family) nftconn.Map {
	return nftconn.Map{Table: nftconn.Own(), Name: familyName(f), Key: []nftconn.Type{nftconn.AddrType(f)}}
}

// local is the set of the pairs of an address that is masqueraded and its
// subnet, for the subnets of a family whose prefix has so many bits.
func local(f nftconn.Family, bits int) nftconn.Map {
	m := hidden(f)
	m.Name += "-" + strconv.Itoa(bits)
	m.Key = append(m.Key, m.Key[0])
	return m
}

// localBits returns the number of bits of a set of pairs, by its name.
func localBits(f nftconn.Family, name string) (bits int, ok bool) {
	digits, ok := strings.CutPrefix(name, familyName(f)+"-")
	bits, err := strconv.Atoi(digits)
	return bits, ok && err == nil && bits >= 0 && bits <= addrBits(f) && digits == strconv.Itoa(bits)
}

func addrBits(f nftconn.Family) int {
	if f == nftconn.IPv4 {
		return 32
	}
	return 128
}

// multicast is never masqueraded: members of a group would take the host for
// the sender.
func multicast(f nftconn.Family) netip.Prefix {
	if f == nftconn.IPv4 {
		return netip.MustParsePrefix("224.0.0.0/4")
	}
	return netip.MustParsePrefix("ff00::/8")
}

func baseHook() nftconn.Hook {
	return nftconn.Hook{Type: "nat", Point: nftconn.Postrouting, Priority: nftconn.SrcNAT}
}

// baseRules are those of the chain where all packets come by.
func baseRules() []nftconn.Rule {
	var rules []nftconn.Rule
	for _, f := range nftconn.Families() {
		rules = append(rules, nftconn.Rule{Exprs: append(nftconn.OfFamily(f),
			nftconn.SourceAddr(f),
			nftconn.Lookup{Map: hidden(f).Name, Reg: nftconn.Reg},
			nftconn.Verdict{Code: nftconn.Jump, Chain: familyName(f)},
		)})
	}
	return rules
}

// localRule lets packets alone that stay in the subnet of their source, whose
// prefix has so many bits.
func localRule(f nftconn.Family, bits int) nftconn.Rule {
	to := nftconn.DestinationAddr(f)
	to.Reg = nftconn.RegAfter(f)
	exprs := append(nftconn.OfFamily(f), nftconn.SourceAddr(f), to)
	if length := addrBits(f); bits < length {
		mask := nftconn.Mask(length, bits)
		exprs = append(exprs, nftconn.Bitwise{Reg: to.Reg, Mask: mask, Xor: make([]byte, len(mask))})
	}
	return nftconn.Rule{Exprs: append(exprs, nftconn.Lookup{Map: local(f, bits).Name, Reg: nftconn.Reg}, nftconn.Verdict{Code: nftconn.Return})}
}

// lastRule masquerades what no rule has let alone.
func lastRule(f nftconn.Family) nftconn.Rule {
	return nftconn.Rule{Exprs: slices.Concat(nftconn.OfFamily(f), nftconn.DestinationNotIn(multicast(f)), []nftconn.Expr{nftconn.Masquerade{}})}
}

// familyRules are those of a family's chain, with subnets of these lengths.
func familyRules(f nftconn.Family, lengths []int) []nftconn.Rule {
	var rules []nftconn.Rule
	for _, bits := range lengths {
		rules = append(rules, localRule(f, bits))
	}
	return append(rules, lastRule(f))
}

// An entry is what an address needs of the sets.
type entry struct {
	in  nftconn.Map
	key []byte
}

// entries returns what an address needs.
func entries(a netip.Prefix) []entry {
	f := nftconn.FamilyOf(a.Addr())
	key := a.Addr().AsSlice()
	return []entry{
		{hidden(f), key},
		{local(f, a.Bits()), nftconn.Concat(key, a.Masked().Addr().AsSlice())},
	}
}

func (e entry) same(o entry) bool { return e.in.Name == o.in.Name && string(e.key) == string(o.key) }
