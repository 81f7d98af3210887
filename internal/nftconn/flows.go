package nftconn

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Numbers of ctnetlink for what a connection is between.
const (
	ctaTupleProto = 2

	ctaIPv4Destination = 2
	ctaIPv6Destination = 4

	ctaProtoNum             = 1
	ctaProtoSourcePort      = 2
	ctaProtoDestinationPort = 3

	filterProtocol = 1 << 3 // CTA_FILTER_F_CTA_PROTO_NUM
)

// A Flow is a tracked connection: where its first packet went, and who
// answers it, which differs where the destination was translated.
type Flow struct {
	To       netip.AddrPort
	Answerer netip.AddrPort
}

// FlushFlows makes the kernel forget the flows of families and of a transport
// protocol for which a function says so. Without that, packets of a flow that
// keeps coming would go on where they went before a translation was made or
// removed.
//
// The kernel goes through all connections of the machine, but shows only those
// of the protocol (from Linux 5.8 on) where there are many. If there are none in
// the namespace, it is not asked.
func (c *Conn) FlushFlows(ctx context.Context, families []Family, protocol uint8, forget func(Flow) bool) error {
	if err := c.open(ctx); errors.Is(err, ErrUnsupported) {
		return nil
	} else if err != nil {
		return err
	}
	filter := func(e *encoder) {
		e.nest(ctaTupleOrig, func() {
			e.nest(ctaTupleProto, func() { e.bytes(ctaProtoNum, []byte{protocol}) })
		})
		e.nest(ctaFilter, func() {
			e.bytes(ctaFilterOrig, binary.NativeEndian.AppendUint32(nil, filterProtocol))
			e.bytes(ctaFilterReply, binary.NativeEndian.AppendUint32(nil, 0))
		})
	}
	flows, err := c.listFlows(ctx, families, filter, func(f *flow) bool {
		number, to := f.end(ctaTupleOrig, ctaIPv4Destination, ctaIPv6Destination, ctaProtoDestinationPort)
		_, answerer := f.end(ctaTupleReply, ctaIPv4Source, ctaIPv6Source, ctaProtoSourcePort)
		return number == protocol && forget(Flow{to, answerer})
	})
	if err == nil {
		err = c.deleteListed(flows)
	}
	if err != nil {
		return fmt.Errorf("flush conntrack: %w", err)
	}
	return nil
}

// end returns the transport protocol of a direction, and the address and port
// that are in certain attributes.
func (f *flow) end(tuple, addr4, addr6, portKind uint16) (protocol uint8, end netip.AddrPort) {
	var addr netip.Addr
	var port uint16
	for kind, b := range attributes(f[tuple]) {
		for inner, b := range attributes(b) {
			switch {
			case kind == ctaTupleIP && (inner == addr4 || inner == addr6):
				addr, _ = netip.AddrFromSlice(b)
			case kind == ctaTupleProto && inner == ctaProtoNum && len(b) > 0:
				protocol = b[0]
			case kind == ctaTupleProto && inner == portKind && len(b) >= 2:
				port = binary.BigEndian.Uint16(b)
			}
		}
	}
	return protocol, netip.AddrPortFrom(addr, port)
}

// UDP is the transport protocol's number (IANA protocol numbers).
const UDP uint8 = unix.IPPROTO_UDP
