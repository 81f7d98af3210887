package nftconn

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"golang.org/x/sys/unix"
)

// A Family is a family of tables, or of addresses.
type Family uint8

// Families.
const (
	Inet   Family = 1 // both IPv4 and IPv6
	IPv4   Family = 2
	Netdev Family = 5
	Bridge Family = 7
	IPv6   Family = 10
)

func (f Family) String() string {
	switch f {
	case Inet:
		return "inet"
	case IPv4:
		return "ip"
	case Netdev:
		return "netdev"
	case Bridge:
		return "bridge"
	case IPv6:
		return "ip6"
	}
	return fmt.Sprint(uint8(f))
}

// FamilyOf returns the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// Families are those of addresses.
func Families() []Family { return []Family{IPv4, IPv6} }

// AddrType returns the type of a family's addresses.
func AddrType(f Family) Type {
	if f == IPv4 {
		return IPv4Addr
	}
	return IPv6Addr
}

// A Table names a table.
type Table struct {
	Family Family
	Name   string
}

// Own is the table that all of plumb's objects are in.
func Own() Table { return Table{Inet, "plumb"} }

func (t Table) String() string { return t.Family.String() + " " + t.Name }

// A Type is the type of a field of a key or of a value, by the number that nft
// knows it by, so that nft can show it.
type Type uint8

// Types.
const (
	IPv4Addr   Type = 7
	IPv6Addr   Type = 8
	EtherAddr  Type = 9
	Protocol   Type = 12 // of the transport layer, a byte
	Service    Type = 13 // a port, two bytes
	PacketMark Type = 19 // a number of four bytes
	IfName     Type = 41 // an interface's name, see InterfaceKey
)

// size is a value's length in bytes.
func (t Type) size() int {
	switch t {
	case IPv4Addr, PacketMark:
		return 4
	case IPv6Addr:
		return 16
	case EtherAddr:
		return 6
	case IfName:
		return unix.IFNAMSIZ
	case Protocol:
		return 1
	case Service:
		return 2
	}
	return 0
}

// A Map is a map, or a set if it has no Data. There are no maps of verdicts: one
// that is a jump makes the kernel look at all elements whenever one is added
// (1.4 ms at 10,000 in Linux 6.18).
type Map struct {
	Table Table
	Name  string
	Key   []Type // several are a concatenation
	Data  []Type
}

func (m Map) String() string { return m.Table.String() + " " + m.Name }

// datatype returns the number by which nft knows a concatenation, and the
// length of a value of it: each part but a single one fills registers of four
// bytes.
func datatype(types []Type) (id uint32, size int) {
	if len(types) == 1 {
		return uint32(types[0]), types[0].size()
	}
	for _, t := range types {
		id = id<<6 | uint32(t)
		size += align(t.size())
	}
	return id, size
}

// Concat returns the key or value that is the concatenation of fields.
func Concat(fields ...[]byte) []byte {
	if len(fields) == 1 {
		return fields[0]
	}
	var key []byte
	for _, f := range fields {
		key = append(key, f...)
		key = append(key, make([]byte, align(len(f))-len(f))...)
	}
	return key
}

// An Element is one of a map or set.
type Element struct {
	Key     []byte // see Concat
	Data    []byte // nil in a set
	Comment string // at most 127 bytes
}

// keyString writes a key of one address as such, and others in hexadecimal.
func keyString(key []byte) string {
	if a, ok := netip.AddrFromSlice(key); ok {
		return a.String()
	}
	return hex.EncodeToString(key)
}

// A Chain is a chain with its rules.
type Chain struct {
	Table Table
	Name  string
	Hook  *Hook // nil: packets only come by jumps
	Rules []Rule
}

func (c Chain) String() string { return c.Table.String() + " " + c.Name }

// A Hook is where in the packet's way a chain is.
type Hook struct {
	Type     string // "nat", "filter"
	Point    Point
	Priority int32
	Drop     bool // the policy: what becomes of packets on which no rule decides
}

func (h *Hook) String() string {
	if h == nil {
		return "none"
	}
	policy := "accept"
	if h.Drop {
		policy = "drop"
	}
	return fmt.Sprintf("type %s hook %d priority %d policy %s", h.Type, h.Point, h.Priority, policy)
}

// A Point is a point in the packet's way (NF_INET_*).
type Point uint32

// Points.
const (
	Prerouting Point = iota
	Input
	Forward
	Output
	Postrouting
)

// BridgeDstNAT is the priority that nft calls dstnat in the family Bridge
// (NF_BR_PRI_NAT_DST_BRIDGED).
const BridgeDstNAT int32 = -300

// SrcNAT is a priority that nft has a name for.
const SrcNAT int32 = 100

// A Rule is a rule. Table, Chain and Handle are set where it was read.
type Rule struct {
	Table   Table
	Chain   string
	Handle  uint64
	Exprs   []Expr
	Comment string // nft's, or that of iptables' match of this name

	// Protocol is what iptables' matches of a transport protocol need to be
	// told that an expression before them has looked at. It is not read.
	Protocol uint8
}

// Equal tells whether two rules do the same and have the same comment.
func (r Rule) Equal(s Rule) bool {
	return r.Comment == s.Comment && reflect.DeepEqual(shorten(r.Exprs), shorten(s.Exprs))
}

// shorten returns expressions of which those that compare a prefix of the
// packet's bytes load no more than they compare. Whoever writes a rule may do
// either, and nft changes it when it restores a listing.
func shorten(exprs []Expr) []Expr {
	var short []Expr
	for i := 0; i < len(exprs); i++ {
		short = append(short, exprs[i])
		if i+2 >= len(exprs) {
			continue
		}
		load, ok1 := exprs[i].(Payload)
		mask, ok2 := exprs[i+1].(Bitwise)
		cmp, ok3 := exprs[i+2].(Cmp)
		size := int(load.Len)
		if !ok1 || !ok2 || !ok3 || len(mask.Mask) != size || len(mask.Xor) != size || len(cmp.Data) != size || ones(mask.Xor) > 0 {
			continue
		}
		for size > 1 && mask.Mask[size-1] == 0 && mask.Xor[size-1] == 0 && cmp.Data[size-1] == 0 {
			size--
		}
		load.Len, mask.Mask, mask.Xor, cmp.Data = uint32(size), mask.Mask[:size], mask.Xor[:size], cmp.Data[:size]
		short[len(short)-1] = load
		if ones(mask.Mask) < 8*size {
			short = append(short, mask)
		}
		short = append(short, cmp)
		i += 2
	}
	return short
}

// Jump returns the chain that a rule jumps or goes to, or "".
func (r Rule) Jump() string {
	for _, e := range r.Exprs {
		if v, ok := e.(Verdict); ok {
			return v.Chain
		}
	}
	return ""
}

// Target returns the name of an iptables target in capital letters, also where
// it is a verdict or an expression of nftables' own: "ACCEPT", "MASQUERADE".
// It is "" for a jump.
func (r Rule) Target() string {
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case Target:
			return e.Name
		case Masquerade:
			return "MASQUERADE"
		case Verdict:
			switch e.Code {
			case Accept:
				return "ACCEPT"
			case Return:
				return "RETURN"
			case Drop:
				return "DROP"
			}
		}
	}
	return ""
}

// Source returns the prefix that a rule's packets must come from.
func (r Rule) Source() (netip.Prefix, bool) { return r.matched(sourceOffset4, sourceOffset6, Equal) }

// Destination returns the prefix that a rule's packets must go to.
func (r Rule) Destination() (netip.Prefix, bool) {
	return r.matched(destinationOffset4, destinationOffset6, Equal)
}

// matched returns the prefix with which an address of the packet is compared.
// Tools write the comparison in two ways: a load of as many bytes as the prefix
// has, or one of the address and a mask.
func (r Rule) matched(offset4, offset6 uint32, op Op) (netip.Prefix, bool) {
	for i, e := range r.Exprs {
		load, ok := e.(Payload)
		if !ok || load.Base != NetworkHeader || load.Offset != offset4 && load.Offset != offset6 {
			continue
		}
		size := 4
		if load.Offset == offset6 {
			size = 16
		}
		bits := int(load.Len) * 8
		for _, e := range r.Exprs[i+1:] {
			if mask, ok := e.(Bitwise); ok {
				bits = ones(mask.Mask)
				continue
			}
			cmp, ok := e.(Cmp)
			if !ok || cmp.Op != op || len(cmp.Data) > size {
				break
			}
			full := append(slices.Clone(cmp.Data), make([]byte, size-len(cmp.Data))...)
			addr, ok := netip.AddrFromSlice(full)
			return netip.PrefixFrom(addr, bits), ok
		}
	}
	return netip.Prefix{}, false
}

// ones counts the bits set at the start of a mask.
func ones(mask []byte) (n int) {
	for _, b := range mask {
		for ; b&0x80 != 0; b <<= 1 {
			n++
		}
	}
	return n
}
