package nftconn

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Types of the fields of the packet that rules about mapped ports load.
const (
	loadedPort  = 2 // the offset and length of the destination port (TCP, UDP and SCTP have it there)
	addrTypeLen = 4
)

// DstNAT is the priority at which destinations are translated.
const DstNAT int32 = -100

// Raw is the priority of what comes before connection tracking.
const Raw int32 = -300

// Comparisons beyond Equal and NotEqual.
const (
	AtMost  Op = unix.NFT_CMP_LTE
	AtLeast Op = unix.NFT_CMP_GTE
)

// Translate loads the value that a map has for the key in registers, and ends
// the rule for packets whose key is not in it.
type Translate struct {
	Map     string
	Key, To uint32 // the first registers of the key and of the value
}

func (x Translate) encode(e *encoder) (string, func()) {
	return "lookup", func() {
		e.str(unix.NFTA_LOOKUP_SET, x.Map)
		e.u32(unix.NFTA_LOOKUP_SREG, x.Key)
		e.u32(unix.NFTA_LOOKUP_DREG, x.To)
	}
}

// DNAT sends a flow to the address, and to the port if PortReg is not 0, that
// registers hold. Without a port the packet's own is kept.
type DNAT struct {
	Family           Family // of the address
	AddrReg, PortReg uint32
}

func (x DNAT) encode(e *encoder) (string, func()) {
	return "nat", func() {
		e.u32(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT)
		e.u32(unix.NFTA_NAT_FAMILY, uint32(x.Family))
		e.u32(unix.NFTA_NAT_REG_ADDR_MIN, x.AddrReg)
		if x.PortReg != 0 {
			e.u32(unix.NFTA_NAT_REG_PROTO_MIN, x.PortReg)
		}
	}
}

// Fib loads what the routing tables say of a packet.
type Fib struct{ Result, Flags, Reg uint32 }

func (x Fib) encode(e *encoder) (string, func()) {
	return "fib", func() {
		e.u32(unix.NFTA_FIB_RESULT, x.Result)
		e.u32(unix.NFTA_FIB_FLAGS, x.Flags)
		e.u32(unix.NFTA_FIB_DREG, x.Reg)
	}
}

// A Range ends the rule for packets whose register is outside it, or, with
// NotEqual, inside.
type Range struct {
	Op       Op
	Reg      uint32
	From, To []byte
}

func (x Range) encode(e *encoder) (string, func()) {
	return "range", func() {
		e.u32(unix.NFTA_RANGE_SREG, x.Reg)
		e.u32(unix.NFTA_RANGE_OP, uint32(x.Op))
		e.data(unix.NFTA_RANGE_FROM_DATA, x.From)
		e.data(unix.NFTA_RANGE_TO_DATA, x.To)
	}
}

// An Immediate is a value in a register.
type Immediate struct {
	Reg  uint32
	Data []byte
}

func (x Immediate) encode(e *encoder) (string, func()) {
	return "immediate", func() {
		e.u32(unix.NFTA_IMMEDIATE_DREG, x.Reg)
		e.data(unix.NFTA_IMMEDIATE_DATA, x.Data)
	}
}

// decodeNAT decodes the expressions of this file, nil for others.
func decodeNAT(name string, a [16][]byte) Expr {
	switch name {
	case "lookup":
		if getU32(a[unix.NFTA_LOOKUP_FLAGS]) == 0 {
			return Translate{Map: getString(a[unix.NFTA_LOOKUP_SET]), Key: getU32(a[unix.NFTA_LOOKUP_SREG]), To: getU32(a[unix.NFTA_LOOKUP_DREG])}
		}
	case "nat":
		if getU32(a[unix.NFTA_NAT_TYPE]) == unix.NFT_NAT_DNAT {
			return DNAT{
				Family:  Family(getU32(a[unix.NFTA_NAT_FAMILY])),
				AddrReg: getU32(a[unix.NFTA_NAT_REG_ADDR_MIN]), PortReg: getU32(a[unix.NFTA_NAT_REG_PROTO_MIN]),
			}
		}
	case "fib":
		return Fib{Result: getU32(a[unix.NFTA_FIB_RESULT]), Flags: getU32(a[unix.NFTA_FIB_FLAGS]), Reg: getU32(a[unix.NFTA_FIB_DREG])}
	case "range":
		from, _ := decodeData(a[unix.NFTA_RANGE_FROM_DATA])
		to, _ := decodeData(a[unix.NFTA_RANGE_TO_DATA])
		return Range{Op: Op(getU32(a[unix.NFTA_RANGE_OP])), Reg: getU32(a[unix.NFTA_RANGE_SREG]), From: from, To: to}
	case "immediate":
		if value, _ := decodeData(a[unix.NFTA_IMMEDIATE_DATA]); value != nil {
			return Immediate{Reg: getU32(a[unix.NFTA_IMMEDIATE_DREG]), Data: value}
		}
	}
	return nil
}

// ToLocal matches packets to an address of the host's own.
func ToLocal() []Expr {
	return []Expr{
		Fib{Result: unix.NFT_FIB_RESULT_ADDRTYPE, Flags: unix.NFTA_FIB_F_DADDR, Reg: Reg},
		Cmp{Op: Equal, Reg: Reg, Data: binary.NativeEndian.AppendUint32(make([]byte, 0, addrTypeLen), unix.RTN_LOCAL)},
	}
}

const statusDNAT = 1 << 5 // IPS_DST_NAT

// Redirected matches packets of flows whose destination was translated.
func Redirected() []Expr {
	mask := binary.NativeEndian.AppendUint32(nil, statusDNAT)
	zero := make([]byte, len(mask))
	return []Expr{Ct{Key: unix.NFT_CT_STATUS, Reg: Reg}, Bitwise{Reg: Reg, Mask: mask, Xor: zero}, Cmp{Op: NotEqual, Reg: Reg, Data: zero}}
}

// TransportProtocol loads the number of the transport protocol.
func TransportProtocol(reg uint32) Expr { return Meta{Key: unix.NFT_META_L4PROTO, Reg: reg} }

// DestinationPort loads the destination port.
func DestinationPort(reg uint32) Expr {
	return Payload{Base: TransportHeader, Offset: loadedPort, Len: loadedPort, Reg: reg}
}

// FromInterface matches packets by the name of the interface that they came in
// by, which is empty for the host's own.
func FromInterface(op Op, name string) []Expr {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return []Expr{Meta{Key: unix.NFT_META_IIFNAME, Reg: Reg}, Cmp{Op: op, Reg: Reg, Data: data}}
}

// Mark loads the packet's mark, in the machine's byte order.
func Mark() Expr { return Meta{Key: unix.NFT_META_MARK, Reg: Reg} }
