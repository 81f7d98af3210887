package nftconn

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// An Expr is one step of a rule: it loads something into a register, compares,
// or decides. The set is closed; what the kernel has beyond it is read as
// [Other].
type Expr interface {
	// encode appends the expression's name and its attributes.
	encode(e *encoder) (name string, attributes func())
}

// Reg is the register that this package's own matches use, of 16 bytes.
const Reg uint32 = unix.NFT_REG_1

// RegAfter is the register that follows an address in Reg in a concatenation.
func RegAfter(f Family) uint32 {
	if f == IPv4 {
		return unix.NFT_REG32_01
	}
	return unix.NFT_REG_2
}

// Meta loads a property of a packet.
type Meta struct{ Key, Reg uint32 }

func (x Meta) encode(e *encoder) (string, func()) {
	return "meta", func() {
		e.u32(unix.NFTA_META_KEY, x.Key)
		e.u32(unix.NFTA_META_DREG, x.Reg)
	}
}

// Payload loads bytes of the packet.
type Payload struct{ Base, Offset, Len, Reg uint32 }

// Bases of Payload.
const (
	LinkHeader      uint32 = unix.NFT_PAYLOAD_LL_HEADER
	NetworkHeader   uint32 = unix.NFT_PAYLOAD_NETWORK_HEADER
	TransportHeader uint32 = unix.NFT_PAYLOAD_TRANSPORT_HEADER
)

func (x Payload) encode(e *encoder) (string, func()) {
	return "payload", func() {
		e.u32(unix.NFTA_PAYLOAD_DREG, x.Reg)
		e.u32(unix.NFTA_PAYLOAD_BASE, x.Base)
		e.u32(unix.NFTA_PAYLOAD_OFFSET, x.Offset)
		e.u32(unix.NFTA_PAYLOAD_LEN, x.Len)
	}
}

// Bitwise replaces a register by (register AND Mask) XOR Xor.
type Bitwise struct {
	Reg       uint32
	Mask, Xor []byte // of equal length
}

func (x Bitwise) encode(e *encoder) (string, func()) {
	return "bitwise", func() {
		e.u32(unix.NFTA_BITWISE_SREG, x.Reg)
		e.u32(unix.NFTA_BITWISE_DREG, x.Reg)
		e.u32(unix.NFTA_BITWISE_LEN, uint32(len(x.Mask)))
		e.data(unix.NFTA_BITWISE_MASK, x.Mask)
		e.data(unix.NFTA_BITWISE_XOR, x.Xor)
	}
}

// An Op is a comparison.
type Op uint32

// Comparisons.
const (
	Equal    Op = unix.NFT_CMP_EQ
	NotEqual Op = unix.NFT_CMP_NEQ
)

// Cmp ends the rule for packets whose register compares otherwise.
type Cmp struct {
	Op   Op
	Reg  uint32
	Data []byte
}

func (x Cmp) encode(e *encoder) (string, func()) {
	return "cmp", func() {
		e.u32(unix.NFTA_CMP_SREG, x.Reg)
		e.u32(unix.NFTA_CMP_OP, uint32(x.Op))
		e.data(unix.NFTA_CMP_DATA, x.Data)
	}
}

// Lookup ends the rule for packets whose registers are no key of a map or set.
type Lookup struct {
	Map string
	Reg uint32 // the first of the key's
	Not bool   // ends it for those whose registers are one
}

func (x Lookup) encode(e *encoder) (string, func()) {
	return "lookup", func() {
		e.str(unix.NFTA_LOOKUP_SET, x.Map)
		e.u32(unix.NFTA_LOOKUP_SREG, x.Reg)
		if x.Not {
			e.u32(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV)
		}
	}
}

// A Verdict decides what becomes of a packet.
type Verdict struct {
	Code  int32
	Chain string // where to, with Jump and Goto
}

// Codes of verdicts.
const (
	Drop   int32 = 0 // NF_DROP
	Accept int32 = 1 // NF_ACCEPT
	Jump   int32 = unix.NFT_JUMP
	Goto   int32 = unix.NFT_GOTO
	Return int32 = unix.NFT_RETURN
)

func (x Verdict) String() string {
	switch x.Code {
	case Drop:
		return "drop"
	case Accept:
		return "accept"
	case Jump:
		return "jump " + x.Chain
	case Goto:
		return "goto " + x.Chain
	case Return:
		return "return"
	}
	return "verdict " + x.Chain
}

func (x Verdict) encode(e *encoder) (string, func()) {
	return "immediate", func() {
		e.u32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		e.nest(unix.NFTA_IMMEDIATE_DATA, func() { e.verdict(x) })
	}
}

// Masquerade gives a flow the address of the interface by which it leaves.
type Masquerade struct{}

func (x Masquerade) encode(*encoder) (string, func()) { return "masq", func() {} }

// A Target is one of iptables'.
type Target struct {
	Name string
	Rev  uint32
	Info []byte
}

func (x Target) encode(e *encoder) (string, func()) {
	return "target", func() {
		e.str(unix.NFTA_TARGET_NAME, x.Name)
		e.u32(unix.NFTA_TARGET_REV, x.Rev)
		e.bytes(unix.NFTA_TARGET_INFO, x.Info)
	}
}

// Other is an expression that this package can't write.
type Other struct{ Name string }

func (x Other) encode(*encoder) (string, func()) { return x.Name, func() {} }

func (e *encoder) expr(x Expr) {
	e.nest(unix.NFTA_LIST_ELEM, func() {
		name, attributes := x.encode(e)
		e.str(unix.NFTA_EXPR_NAME, name)
		e.nest(unix.NFTA_EXPR_DATA, attributes)
	})
}

// data appends a value.
func (e *encoder) data(kind uint16, value []byte) {
	e.nest(kind, func() { e.bytes(unix.NFTA_DATA_VALUE, value) })
}

// verdict appends a verdict inside an attribute for data.
func (e *encoder) verdict(v Verdict) {
	e.nest(unix.NFTA_DATA_VERDICT, func() {
		e.u32(unix.NFTA_VERDICT_CODE, uint32(v.Code))
		if v.Chain != "" {
			e.str(unix.NFTA_VERDICT_CHAIN, v.Chain)
		}
	})
}

// decodeData returns the value or the verdict in an attribute for data.
func decodeData(b []byte) (value []byte, verdict *Verdict) {
	for kind, b := range attributes(b) {
		switch kind {
		case unix.NFTA_DATA_VALUE:
			value = getBytes(b)
		case unix.NFTA_DATA_VERDICT:
			verdict = new(Verdict)
			for kind, b := range attributes(b) {
				switch kind {
				case unix.NFTA_VERDICT_CODE:
					verdict.Code = int32(getU32(b))
				case unix.NFTA_VERDICT_CHAIN:
					verdict.Chain = getString(b)
				}
			}
		}
	}
	return value, verdict
}

// decodeExprs decodes a rule's expressions. iptables' match "comment" becomes
// the comment.
func (r *Rule) decodeExprs(b []byte) {
	for _, item := range attributes(b) {
		var name string
		var data []byte
		for kind, b := range attributes(item) {
			switch kind {
			case unix.NFTA_EXPR_NAME:
				name = getString(b)
			case unix.NFTA_EXPR_DATA:
				data = b
			}
		}
		var a [16][]byte // by type; none of the expressions below has more
		for kind, b := range attributes(data) {
			if int(kind) < len(a) {
				a[kind] = b
			}
		}
		r.decodeExpr(name, a)
	}
}

func (r *Rule) decodeExpr(name string, a [16][]byte) {
	x := Expr(Other{Name: name})
	switch name {
	case "meta":
		if a[unix.NFTA_META_DREG] != nil {
			x = Meta{Key: getU32(a[unix.NFTA_META_KEY]), Reg: getU32(a[unix.NFTA_META_DREG])}
		}
	case "payload":
		if a[unix.NFTA_PAYLOAD_DREG] != nil {
			x = Payload{
				Base: getU32(a[unix.NFTA_PAYLOAD_BASE]), Offset: getU32(a[unix.NFTA_PAYLOAD_OFFSET]),
				Len: getU32(a[unix.NFTA_PAYLOAD_LEN]), Reg: getU32(a[unix.NFTA_PAYLOAD_DREG]),
			}
		}
	case "bitwise":
		mask, _ := decodeData(a[unix.NFTA_BITWISE_MASK])
		xor, _ := decodeData(a[unix.NFTA_BITWISE_XOR])
		if mask != nil {
			x = Bitwise{Reg: getU32(a[unix.NFTA_BITWISE_SREG]), Mask: mask, Xor: xor}
		}
	case "cmp":
		value, _ := decodeData(a[unix.NFTA_CMP_DATA])
		x = Cmp{Op: Op(getU32(a[unix.NFTA_CMP_OP])), Reg: getU32(a[unix.NFTA_CMP_SREG]), Data: value}
	case "lookup":
		if a[unix.NFTA_LOOKUP_DREG] == nil {
			x = Lookup{
				Map: getString(a[unix.NFTA_LOOKUP_SET]), Reg: getU32(a[unix.NFTA_LOOKUP_SREG]),
				Not: getU32(a[unix.NFTA_LOOKUP_FLAGS])&unix.NFT_LOOKUP_F_INV != 0,
			}
		}
	case "immediate":
		if _, verdict := decodeData(a[unix.NFTA_IMMEDIATE_DATA]); verdict != nil {
			x = *verdict
		}
	case "masq":
		if getU32(a[unix.NFTA_MASQ_FLAGS]) == 0 && a[unix.NFTA_MASQ_REG_PROTO_MIN] == nil {
			x = Masquerade{}
		}
	case "match":
		if getString(a[unix.NFTA_MATCH_NAME]) == "comment" {
			r.Comment = getString(a[unix.NFTA_MATCH_INFO])
			return
		}
		x = Match{Name: getString(a[unix.NFTA_MATCH_NAME]), Rev: getU32(a[unix.NFTA_MATCH_REV]), Info: getBytes(a[unix.NFTA_MATCH_INFO])}
	case "counter":
		x = Counter{}
	case "ct":
		if a[unix.NFTA_CT_DREG] != nil && a[unix.NFTA_CT_DIRECTION] == nil {
			x = Ct{Key: getU32(a[unix.NFTA_CT_KEY]), Reg: getU32(a[unix.NFTA_CT_DREG])}
		}
	case "target":
		x = Target{Name: getString(a[unix.NFTA_TARGET_NAME]), Rev: getU32(a[unix.NFTA_TARGET_REV]), Info: getBytes(a[unix.NFTA_TARGET_INFO])}
	}
	if _, unknown := x.(Other); unknown {
		if known := decodeNAT(name, a); known != nil {
			x = known
		}
	}
	r.Exprs = append(r.Exprs, x)
}

// Offsets of the addresses in the headers of IP (RFC 791 section 3.1, RFC 8200
// section 3).
const (
	sourceOffset4      = 12
	destinationOffset4 = 16
	sourceOffset6      = 8
	destinationOffset6 = 24
)

// OfFamily matches the packets of IPv4 or IPv6 in a table of both.
func OfFamily(f Family) []Expr {
	return []Expr{Meta{Key: unix.NFT_META_NFPROTO, Reg: Reg}, Cmp{Op: Equal, Reg: Reg, Data: []byte{byte(f)}}}
}

// SourceAddr loads the source address.
func SourceAddr(f Family) Payload { return addrPayload(f, sourceOffset4, sourceOffset6) }

// DestinationAddr loads the destination address.
func DestinationAddr(f Family) Payload { return addrPayload(f, destinationOffset4, destinationOffset6) }

func addrPayload(f Family, offset4, offset6 uint32) Payload {
	if f == IPv4 {
		return Payload{Base: NetworkHeader, Offset: offset4, Len: 4, Reg: Reg}
	}
	return Payload{Base: NetworkHeader, Offset: offset6, Len: 16, Reg: Reg}
}

// DestinationNotIn matches packets to addresses outside a prefix. It is written
// as nft writes it, so that nft shows it as such.
func DestinationNotIn(p netip.Prefix) []Expr {
	addr := p.Masked().Addr()
	load, data := DestinationAddr(FamilyOf(addr)), addr.AsSlice()
	if p.Bits()%8 == 0 && p.Bits() > 0 {
		load.Len = uint32(p.Bits() / 8)
		return []Expr{load, Cmp{Op: NotEqual, Reg: Reg, Data: data[:load.Len]}}
	}
	mask := Mask(addr.BitLen(), p.Bits())
	return []Expr{load, Bitwise{Reg: Reg, Mask: mask, Xor: make([]byte, len(mask))}, Cmp{Op: NotEqual, Reg: Reg, Data: data}}
}

// Mask returns the mask of a prefix of so many bits, in an address of length.
func Mask(length, bits int) []byte {
	mask := make([]byte, length/8)
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}
