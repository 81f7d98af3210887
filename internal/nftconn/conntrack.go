package nftconn

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Numbers of ctnetlink (linux/netfilter/nfnetlink_conntrack.h).
const (
	ctGet      = 1 // IPCTNL_MSG_CT_GET
	ctDelete   = 2 // IPCTNL_MSG_CT_DELETE
	ctGetStats = 5 // IPCTNL_MSG_CT_GET_STATS

	ctaStatsEntries = 1

	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaID         = 12
	ctaZone       = 18
	ctaFilter     = 25

	ctaTupleIP     = 1
	ctaIPv4Source  = 1
	ctaIPv6Source  = 3
	ctaFilterOrig  = 1
	ctaFilterReply = 2

	filterSource = 1 // CTA_FILTER_F_CTA_IP_SRC: of the tuple, only the source counts
)

func ctMsg(kind uint16) uint16 { return unix.NFNL_SUBSYS_CTNETLINK<<8 | kind }

// FlushConntrack makes the kernel forget the connections that addresses have
// begun (the source of the first packet) or answered (the source of replies).
// Otherwise packets of a flow that began before its end went away would follow
// it there, for as long as they keep coming.
//
// Where there are more than a few, the kernel finds those of IPv4 itself, from
// Linux 6.8 on. For IPv6 it can't: its filter finds the connections of all other
// addresses (seen in 6.18; the comparison is the wrong way round), which must not
// be deleted. So there, as on older kernels, the connections are looked through
// and deleted one by one.
//
// A kernel without connection tracking has nothing to forget.
func (c *Conn) FlushConntrack(ctx context.Context, addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return nil
	}
	if err := c.open(ctx); errors.Is(err, ErrUnsupported) {
		return nil
	} else if err != nil {
		return err
	}
	n, err := c.countFlows()
	if err != nil || n == 0 {
		return err
	}
	var v4, v6 []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap().WithZone(""); a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	var errs []error
	if n <= quickLook {
		if flows, ok := c.shownFlows(n, Families()); ok {
			all := slices.Concat(v4, v6)
			return c.deleteListed(slices.DeleteFunc(flows, func(f flow) bool { return !f.of(all) }))
		}
	}
	if len(v4) <= maxFlushed {
		var err error
		v4, err = c.flushFlows(v4)
		errs = append(errs, err)
	}
	errs = append(errs, c.deleteFlows(ctx, slices.Concat(v4, v6)))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("flush conntrack of %v: %w", addrs, err)
	}
	return nil
}

// quickLook is the number of connections up to which to read them all takes no
// longer than a filter, for which the kernel goes through its table twice.
const quickLook = 32

// maxFlushed is the number of addresses from which on a listing is cheaper: the
// kernel goes through all connections for each filter.
const maxFlushed = 8

// flushFlows deletes by filters that the kernel applies, in one round trip, and
// returns the addresses for which it does not: before Linux 6.8 it looks for the
// one connection of the tuple, and refuses it as incomplete.
func (c *Conn) flushFlows(addrs []netip.Addr) (refused []netip.Addr, err error) {
	if len(addrs) == 0 {
		return nil, nil
	}
	var e encoder
	first := c.sock.sequence(2 * len(addrs))
	for i, a := range addrs {
		for j, d := range []struct{ tuple, fields uint16 }{{ctaTupleOrig, ctaFilterOrig}, {ctaTupleReply, ctaFilterReply}} {
			e.message(ctMsg(ctDelete), unix.NLM_F_ACK, first+uint32(2*i+j), IPv4, 0, func() {
				e.nest(d.tuple, func() {
					e.nest(ctaTupleIP, func() { e.bytes(ctaIPv4Source, a.AsSlice()) })
				})
				e.nest(ctaFilter, func() { e.bytes(d.fields, binary.NativeEndian.AppendUint32(nil, filterSource)) })
			})
		}
	}
	left := 2 * len(addrs)
	var failed error
	err = c.sock.exchange(e.buf, first, func(m message) bool {
		a := addrs[(m.seq-first)/2]
		switch errno, text := m.status(); errno {
		case 0, unix.ENOENT:
		case unix.EINVAL, unix.EOPNOTSUPP:
			if !slices.Contains(refused, a) {
				refused = append(refused, a)
			}
		default:
			failed = &Error{Op: "delete flows", Object: "of " + a.String(), Errno: errno, Text: text}
		}
		left--
		return left == 0
	})
	return refused, errors.Join(failed, err)
}

// A flow is a tracked connection: its attributes by type, as far as they are of
// use here.
type flow [ctaZone + 1][]byte

// source returns the source address of a direction.
func (f *flow) source(tuple uint16) netip.Addr {
	for kind, b := range attributes(f[tuple]) {
		if kind != ctaTupleIP {
			continue
		}
		for kind, b := range attributes(b) {
			if kind == ctaIPv4Source || kind == ctaIPv6Source {
				addr, _ := netip.AddrFromSlice(b)
				return addr
			}
		}
	}
	return netip.Addr{}
}

// of tells whether one of addresses has begun or answered it.
func (f *flow) of(addrs []netip.Addr) bool {
	return slices.Contains(addrs, f.source(ctaTupleOrig)) || slices.Contains(addrs, f.source(ctaTupleReply))
}

// deleteFlows lists the connections and deletes those of addresses one by one.
func (c *Conn) deleteFlows(ctx context.Context, addrs []netip.Addr) error {
	var families []Family
	for _, a := range addrs {
		if f := FamilyOf(a); !slices.Contains(families, f) {
			families = append(families, f)
		}
	}
	flows, err := c.listFlows(ctx, families, nil, func(f *flow) bool { return f.of(addrs) })
	if err != nil {
		return err
	}
	return c.deleteListed(flows)
}

// deleteListed deletes connections that were listed.
func (c *Conn) deleteListed(flows []flow) error {
	const some = 64 // whose acknowledgements fit into the receive buffer
	for part := range slices.Chunk(flows, some) {
		var e encoder
		first := c.sock.sequence(len(part))
		for i, f := range part {
			e.message(ctMsg(ctDelete), unix.NLM_F_ACK, first+uint32(i), FamilyOf(f.source(ctaTupleOrig)), 0, func() {
				e.bytes(ctaTupleOrig|unix.NLA_F_NESTED, f[ctaTupleOrig])
				for _, kind := range []uint16{ctaID, ctaZone} {
					if f[kind] != nil {
						e.bytes(kind, f[kind])
					}
				}
			})
		}
		left := len(part)
		var failed error
		err := c.sock.exchange(e.buf, first, func(m message) bool {
			if errno, text := m.status(); errno != 0 && errno != unix.ENOENT {
				failed = &Error{Op: "delete flow", Object: "of " + part[m.seq-first].source(ctaTupleOrig).String(), Errno: errno, Text: text}
			}
			left--
			return left == 0
		})
		if err := errors.Join(failed, err); err != nil {
			return err
		}
	}
	return nil
}

// countFlows tells how many connections of the namespace are tracked.
func (c *Conn) countFlows() (n uint32, err error) {
	var e encoder
	seq := c.sock.sequence(1)
	e.message(ctMsg(ctGetStats), 0, seq, 0, 0, nil)
	err = c.sock.exchange(e.buf, seq, func(m message) bool {
		for kind, b := range m.attributes() {
			if m.kind != unix.NLMSG_ERROR && kind == ctaStatsEntries {
				n = getU32(b)
			}
		}
		return true
	})
	return n, err
}

// fewFlows is the number of connections up to which those of both families are
// listed at once, and unfiltered, since the kernel filters only one family's.
// Each listing goes through the table of all namespaces, bucket by bucket, which
// takes it some 10 ms (of 262144) however few connections there are; listing a
// thousand takes some more.
const fewFlows = 4096

// anyFamily asks for the connections of both.
const anyFamily Family = unix.AF_UNSPEC

// listFlows returns the connections of families that are wanted: of few, as the
// kernel shows them, else by a listing. filter is the kernel's for that, nil for
// none; it may let others pass.
func (c *Conn) listFlows(ctx context.Context, families []Family, filter func(*encoder), want func(*flow) bool) (flows []flow, err error) {
	if err := ctx.Err(); err != nil || len(families) == 0 {
		return nil, err
	}
	n, err := c.countFlows()
	if err != nil || n == 0 {
		return nil, err
	}
	if shown, ok := c.shownFlows(n, families); ok {
		return slices.DeleteFunc(shown, func(f flow) bool { return !want(&f) }), nil
	}
	if len(families) > 1 && n <= fewFlows {
		families, filter = []Family{anyFamily}, nil
	}
	var errs []error
	for _, family := range families {
		var e encoder
		seq := c.sock.sequence(1)
		e.message(ctMsg(ctGet), unix.NLM_F_DUMP, seq, family, 0, func() {
			if filter != nil {
				filter(&e)
			}
		})
		errs = append(errs, c.sock.exchange(e.buf, seq, func(m message) bool {
			if m.kind == unix.NLMSG_ERROR || m.kind == unix.NLMSG_DONE {
				if errno, text := m.status(); errno != 0 {
					errs = append(errs, &Error{Op: "list flows", Object: "of " + family.String(), Errno: errno, Text: text})
				}
				return true
			}
			var f flow
			for kind, b := range m.attributes() {
				if int(kind) < len(f) {
					f[kind] = b
				}
			}
			if want(&f) {
				for kind, b := range f {
					f[kind] = getBytes(b)
				}
				flows = append(flows, f)
			}
			return false
		}))
	}
	return flows, errors.Join(errs...)
}
