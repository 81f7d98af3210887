package portmap

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"golang.org/x/sys/unix"
)

// familyName is the name of the map of a family's single ports, and of its
// chain.
func familyName(f nftconn.Family) string {
	if f == nftconn.IPv4 {
		return "portmap4"
	}
	return "portmap6"
}

// A class is the mappings of a family that hold under the same conditions. The
// zero class of a family has none. It is known by its name in names of maps
// and chains.
type class struct {
	family     nftconn.Family
	name       string
	conditions []alternative
}

const classPrefix = "-if-"

// className returns the name that conditions have.
func className(conditions []string) string {
	if len(conditions) == 0 {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join(conditions, " ")))
	return classPrefix + hex.EncodeToString(sum[:6])
}

func (c class) chain() string { return familyName(c.family) + c.name }

const blockInfix = "-by-"

// ports is the map of blocks of so many ports, a power of 2, by the first one: a
// multiple of the size. Single ports have an address and a port each, the ports
// of a block are the same on both sides.
func (c class) ports(size int) nftconn.Map {
	addr := nftconn.AddrType(c.family)
	m := nftconn.Map{
		Table: nftconn.Own(), Name: familyName(c.family) + c.name,
		Key:  []nftconn.Type{nftconn.Protocol, addr, nftconn.Service},
		Data: []nftconn.Type{addr, nftconn.Service},
	}
	if size > 1 {
		m.Name = familyName(c.family) + blockInfix + strconv.Itoa(size) + c.name
		m.Data = m.Data[:1]
	}
	return m
}

// sizeOf returns the size of a map's blocks.
func sizeOf(m nftconn.Map) int {
	_, rest, found := strings.Cut(m.Name, blockInfix)
	digits, _, _ := strings.Cut(rest, "-")
	size, err := strconv.Atoi(digits)
	if !found || err != nil {
		return 1
	}
	return size
}

// sizes returns the sizes of blocks that others use in the class, with more.
func (c class) sizes(s shared, more ...int) []int {
	all := append([]int{1}, more...)
	all = append(all, s.sizes[c.chain()]...)
	slices.Sort(all)
	return slices.Compact(all)
}

// rules of a class with blocks of these sizes: what is mapped of one address of
// the host goes before what is mapped of all.
func (c class) rules(sizes []int) []nftconn.Rule {
	alternatives := c.conditions
	if alternatives == nil {
		alternatives = []alternative{nil}
	}
	var rules []nftconn.Rule
	for _, conditions := range alternatives {
		for _, every := range []bool{false, true} {
			for _, size := range sizes {
				rules = append(rules, nftconn.Rule{Exprs: slices.Concat(conditions, c.translate(size, every))})
			}
		}
	}
	return rules
}

// translate looks a packet's destination up, or, for what is mapped of every
// address, its port alone.
func (c class) translate(size int, every bool) []nftconn.Expr {
	addr := nftconn.DestinationAddr(c.family)
	addr.Reg = unix.NFT_REG32_01
	exprs := []nftconn.Expr{nftconn.TransportProtocol(nftconn.Reg), addr}
	if every {
		if c.family == nftconn.IPv6 {
			// ::1 is not one of every address, since it can't always be served.
			exprs = append([]nftconn.Expr{nftconn.DestinationAddr(c.family), nftconn.Cmp{Op: nftconn.NotEqual, Reg: nftconn.Reg, Data: netip.IPv6Loopback().AsSlice()}}, exprs...)
		}
		zero := make([]byte, addr.Len)
		exprs = append(exprs, nftconn.Bitwise{Reg: addr.Reg, Mask: zero, Xor: zero})
	}
	to, port := nftconn.DNAT{Family: c.family, AddrReg: nftconn.Reg}, addr.Reg+addr.Len/4
	exprs = append(exprs, nftconn.DestinationPort(port))
	if size > 1 {
		mask := binary.BigEndian.AppendUint16(nil, ^uint16(size-1))
		exprs = append(exprs, nftconn.Bitwise{Reg: port, Mask: mask, Xor: make([]byte, len(mask))})
	} else {
		to.PortReg = nftconn.RegAfter(c.family)
	}
	return append(exprs, nftconn.Translate{Map: c.ports(size).Name, Key: nftconn.Reg, To: nftconn.Reg}, to)
}
