package nftconn

import (
	"encoding/binary"
	"iter"

	"golang.org/x/sys/unix"
)

// Sizes of struct nlmsghdr, struct nfgenmsg and struct nlattr.
const (
	headerLen = 16
	genLen    = 4
	attrLen   = 4
)

func align(n int) int { return (n + 3) &^ 3 }

// An encoder writes netlink messages one after the other. Lengths are filled
// in when a message or a nest ends.
type encoder struct{ buf []byte }

// message appends a message with struct nfgenmsg and what body appends.
func (e *encoder) message(kind, flags uint16, seq uint32, family Family, resource uint16, body func()) {
	start := len(e.buf)
	e.buf = binary.NativeEndian.AppendUint32(e.buf, 0) // length
	e.buf = binary.NativeEndian.AppendUint16(e.buf, kind)
	e.buf = binary.NativeEndian.AppendUint16(e.buf, flags|unix.NLM_F_REQUEST)
	e.buf = binary.NativeEndian.AppendUint32(e.buf, seq)
	e.buf = binary.NativeEndian.AppendUint32(e.buf, 0) // port, which the kernel knows
	e.buf = append(e.buf, byte(family), unix.NFNETLINK_V0)
	e.buf = binary.BigEndian.AppendUint16(e.buf, resource)
	if body != nil {
		body()
	}
	binary.NativeEndian.PutUint32(e.buf[start:], uint32(len(e.buf)-start))
}

// bytes appends an attribute.
func (e *encoder) bytes(kind uint16, value []byte) {
	e.buf = binary.NativeEndian.AppendUint16(e.buf, uint16(attrLen+len(value)))
	e.buf = binary.NativeEndian.AppendUint16(e.buf, kind)
	e.buf = append(e.buf, value...)
	e.buf = append(e.buf, make([]byte, align(len(value))-len(value))...)
}

func (e *encoder) str(kind uint16, s string) { e.bytes(kind, append([]byte(s), 0)) }

// u32 appends a number in network byte order, as nearly all of nfnetlink's are.
func (e *encoder) u32(kind uint16, v uint32) {
	e.bytes(kind, binary.BigEndian.AppendUint32(nil, v))
}

func (e *encoder) u64(kind uint16, v uint64) {
	e.bytes(kind, binary.BigEndian.AppendUint64(nil, v))
}

// nest appends an attribute that holds the attributes that body appends.
func (e *encoder) nest(kind uint16, body func()) {
	start := len(e.buf)
	e.bytes(kind|unix.NLA_F_NESTED, nil)
	body()
	binary.NativeEndian.PutUint16(e.buf[start:], uint16(len(e.buf)-start))
}

// A message is one that was received.
type message struct {
	kind  uint16
	flags uint16
	seq   uint32
	body  []byte // after struct nlmsghdr
}

// attributes returns those of a message of nfnetlink.
func (m message) attributes() iter.Seq2[uint16, []byte] {
	return attributes(m.body[min(genLen, len(m.body)):])
}

// messages splits what was received. The values point into data.
func messages(data []byte) iter.Seq[message] {
	return func(yield func(message) bool) {
		for len(data) >= headerLen {
			n := int(binary.NativeEndian.Uint32(data))
			if n < headerLen || n > len(data) {
				return
			}
			m := message{
				kind:  binary.NativeEndian.Uint16(data[4:]),
				flags: binary.NativeEndian.Uint16(data[6:]),
				seq:   binary.NativeEndian.Uint32(data[8:]),
				body:  data[headerLen:n],
			}
			if !yield(m) {
				return
			}
			data = data[min(align(n), len(data)):]
		}
	}
}

// attributes splits attributes into types, without their flags, and values.
func attributes(data []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(data) >= attrLen {
			n := int(binary.NativeEndian.Uint16(data))
			if n < attrLen || n > len(data) {
				return
			}
			kind := binary.NativeEndian.Uint16(data[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(kind, data[attrLen:n]) {
				return
			}
			data = data[min(align(n), len(data)):]
		}
	}
}

// Values of attributes. What is too short is zero: the kernel does not send
// it, and nothing here may panic if it did.

func getU32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func getU64(b []byte) uint64 {
	if len(b) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func getString(b []byte) string { return unix.ByteSliceToString(b) }

func getBytes(b []byte) []byte { return append([]byte(nil), b...) }
