package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A QHandle names a queueing discipline or a class of one on its link: 16 bits
// of the discipline, which tc writes before the colon, and 16 of the class
// (linux/pkt_sched.h).
type QHandle uint32

// Places on a link that a QHandle may also name.
const (
	QRoot    QHandle = 0xFFFFFFFF // where packets leave
	QIngress QHandle = 0xFFFFFFF1 // where they arrive
)

// IngressFilters is the parent of the filters of a link's arriving packets.
const IngressFilters QHandle = 0xFFFFFFF2

// QClass is the handle of a class of a discipline.
func QClass(major, minor uint16) QHandle { return QHandle(major)<<16 | QHandle(minor) }

// Major is the part that names the discipline.
func (h QHandle) Major() uint16 { return uint16(h >> 16) }

// TicksPerMicrosecond is what the kernel counts a bucket's size in: its time at
// the bucket's rate, in units of 64 ns (PSCHED_SHIFT of net/pkt_sched.h).
const TicksPerMicrosecond = 1000.0 / 64

// A Bucket limits to a rate, and lets through at once what was not used before.
type Bucket struct {
	Rate uint64 // bytes a second
	Size uint32 // ticks
}

// A Qdisc is a queueing discipline on a link.
type Qdisc struct {
	Index  int
	Parent QHandle
	Handle QHandle // 0 lets the kernel choose
	Kind   string  // "tbf", "htb", "fq_codel", "bfifo", "ingress"

	Bucket  Bucket  // of tbf
	Limit   uint32  // of tbf and bfifo: how many bytes may wait
	Default uint16  // of htb: the class of what no filter matches; 0 is none, which is not limited
	Target  uint32  // of fq_codel, microseconds: how long a packet may wait for long; 0 is the kernel's
	Direct  *uint32 // of htb, write only: how many packets of no class may wait
}

// A Class is a class of htb.
type Class struct {
	Index  int
	Handle QHandle
	Bucket Bucket
}

// A Match compares 32 bits of a packet, counted from its network header.
type Match struct {
	Offset      int32
	Mask, Value uint32
}

// A Filter is a u32 filter: a packet that matches all goes to a class or, of those
// that arrive, out of another link instead. No Match matches every packet.
type Filter struct {
	Index    int
	Parent   QHandle
	Kind     string // read only; of another than "u32" the fields from Matches on are not known
	Handle   uint32 // names one among those of a priority; not for AddFilters, where the kernel chooses
	Priority uint16 // lower ones are asked first; those of one priority have one protocol
	Protocol uint16 // unix.ETH_P_ALL, ETH_P_IP, ETH_P_IPV6
	Matches  []Match
	Class    QHandle // 0 for none
	Redirect int     // index of the link to leave by, 0 for none; Nowhere if that link is gone
}

// Nowhere is where a filter sends packets whose link has been deleted: the kernel
// drops them.
const Nowhere = -1

// AddQdiscs adds queueing disciplines, all in one message to the kernel, which
// goes on after one that fails. The error is the first's: it matches ErrExists
// if there is one at that place already that is not the kernel's own, and
// ErrNotFound if the kernel does not have the kind.
func (c *Conn) AddQdiscs(qdiscs ...Qdisc) error {
	var requests []*nl.NetlinkRequest
	for _, q := range qdiscs {
		requests = append(requests, request(unix.RTM_NEWQDISC, q.Index, q.Parent, q.Handle, 0, str(nl.TCA_KIND, q.Kind), q.options()))
	}
	i, err := c.all(requests)
	if errors.Is(err, unix.ENOENT) {
		c.lacks = append(c.lacks, qdiscs[i].Kind)
	}
	if err != nil {
		return fmt.Errorf("add %s to link %d: %w", qdiscs[i].Kind, qdiscs[i].Index, err)
	}
	return nil
}

// Lacks tells whether the kernel has been found to have no queueing discipline of
// a kind. To ask it again may make it look for a module.
func (c *Conn) Lacks(kind string) bool { return slices.Contains(c.lacks, kind) }

// options returns what belongs to the kind.
func (q Qdisc) options() *nl.RtAttr {
	options := attr(nl.TCA_OPTIONS, nil)
	switch q.Kind {
	case "tbf":
		parms := q.Bucket.spec()
		parms = append(parms, make([]byte, rateSpecLen)...) // no peak rate
		parms = binary.NativeEndian.AppendUint32(parms, q.Limit)
		parms = binary.NativeEndian.AppendUint32(parms, q.Bucket.Size)
		parms = binary.NativeEndian.AppendUint32(parms, 0)
		options.AddRtAttr(nl.TCA_TBF_PARMS, parms)
		if q.Bucket.Rate > math.MaxUint32 {
			options.AddRtAttr(nl.TCA_TBF_RATE64, binary.NativeEndian.AppendUint64(nil, q.Bucket.Rate))
		}
	case "htb":
		var global []byte
		for _, v := range []uint32{htbVersion, htbQuantumDivisor, uint32(q.Default), 0, 0} {
			global = binary.NativeEndian.AppendUint32(global, v)
		}
		options.AddRtAttr(nl.TCA_HTB_INIT, global)
		if q.Direct != nil {
			options.AddChild(u32(nl.TCA_HTB_DIRECT_QLEN, *q.Direct))
		}
	case "fq_codel":
		if q.Target != 0 {
			options.AddChild(u32(nl.TCA_FQ_CODEL_TARGET, q.Target))
		}
	case "bfifo":
		return u32(nl.TCA_OPTIONS, q.Limit)
	}
	return options
}

const (
	htbVersion        = 3 // of the interface
	htbQuantumDivisor = 10
	htbQuantum        = 64 << 10 // bytes that a class may send in turn; means nothing where there is but one
	rateSpecLen       = 12       // struct tc_ratespec
	linkEthernet      = 1        // TC_LINKLAYER_ETHERNET; unset, the kernel wants tables of rates
)

// spec is struct tc_ratespec.
func (b Bucket) spec() []byte {
	spec := []byte{0, linkEthernet, 0, 0, 0, 0, 0, 0}
	return binary.NativeEndian.AppendUint32(spec, uint32(min(b.Rate, math.MaxUint32)))
}

// DelQdisc removes the queueing discipline at a place and all below it, its
// filters too. The error matches ErrNotFound if there is none but the kernel's
// own, or no link.
func (c *Conn) DelQdisc(index int, parent QHandle) error {
	_, err := c.all([]*nl.NetlinkRequest{request(unix.RTM_DELQDISC, index, parent, 0, 0)})
	if err != nil {
		return fmt.Errorf("delete queueing discipline of link %d: %w", index, err)
	}
	return nil
}

// AddClass adds a class of htb.
func (c *Conn) AddClass(class Class) error {
	parms := append(class.Bucket.spec(), class.Bucket.spec()...)
	for _, v := range []uint32{class.Bucket.Size, class.Bucket.Size, htbQuantum, 0, 0} {
		parms = binary.NativeEndian.AppendUint32(parms, v)
	}
	options := attr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_HTB_PARMS, parms)
	if class.Bucket.Rate > math.MaxUint32 {
		for _, kind := range []int{nl.TCA_HTB_RATE64, nl.TCA_HTB_CEIL64} {
			options.AddRtAttr(kind, binary.NativeEndian.AppendUint64(nil, class.Bucket.Rate))
		}
	}
	root := QClass(class.Handle.Major(), 0)
	_, err := c.all([]*nl.NetlinkRequest{
		request(unix.RTM_NEWTCLASS, class.Index, root, class.Handle, 0, str(nl.TCA_KIND, "htb"), options),
	})
	if err != nil {
		return fmt.Errorf("add class to link %d: %w", class.Index, err)
	}
	return nil
}

// AddFilters adds filters, all in one message to the kernel, which goes on after
// one that fails.
func (c *Conn) AddFilters(filters ...Filter) error {
	var requests []*nl.NetlinkRequest
	for _, f := range filters {
		requests = append(requests, request(unix.RTM_NEWTFILTER, f.Index, f.Parent, 0, f.info(), str(nl.TCA_KIND, "u32"), f.options()))
	}
	if i, err := c.all(requests); err != nil {
		return fmt.Errorf("add filter to link %d: %w", filters[i].Index, err)
	}
	return nil
}

// DelFilter removes the u32 filter of a handle, priority and protocol. The error
// matches ErrNotFound if there is none.
func (c *Conn) DelFilter(f Filter) error {
	r := request(unix.RTM_DELTFILTER, f.Index, f.Parent, QHandle(f.Handle), f.info(), str(nl.TCA_KIND, "u32"))
	if _, err := c.all([]*nl.NetlinkRequest{r}); err != nil {
		return fmt.Errorf("delete filter of link %d: %w", f.Index, err)
	}
	return nil
}

// info is the priority and protocol as struct tcmsg has them.
func (f Filter) info() uint32 { return uint32(f.Priority)<<16 | uint32(swap(f.Protocol)) }

// swap turns a number of two bytes in the host's order into the network's, or
// back.
func swap(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// Of struct tc_u32_sel, tc_u32_key and tc_mirred (linux/pkt_cls.h,
// linux/tc_act/tc_mirred.h).
const (
	u32SelLen      = 16
	u32KeyLen      = 16
	u32Terminal    = 1
	mirredLen      = 28
	mirredAction   = 8  // the offset of what becomes of the packet itself
	mirredEgress   = 20 // the offset of what is done with it
	mirredIndex    = 24 // the offset of the link
	actStolen      = 4
	egressRedirect = 1
)

func (f Filter) options() *nl.RtAttr {
	matches := f.Matches
	if matches == nil {
		matches = []Match{{}}
	}
	sel := make([]byte, u32SelLen)
	sel[0], sel[2] = u32Terminal, byte(len(matches))
	for _, m := range matches {
		sel = binary.BigEndian.AppendUint32(sel, m.Mask)
		sel = binary.BigEndian.AppendUint32(sel, m.Value)
		sel = binary.NativeEndian.AppendUint32(sel, uint32(m.Offset))
		sel = binary.NativeEndian.AppendUint32(sel, 0)
	}
	options := attr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_U32_SEL, sel)
	if f.Class != 0 {
		options.AddChild(u32(nl.TCA_U32_CLASSID, uint32(f.Class)))
	}
	if f.Redirect != 0 {
		mirred := make([]byte, mirredLen)
		binary.NativeEndian.PutUint32(mirred[mirredAction:], actStolen)
		binary.NativeEndian.PutUint32(mirred[mirredEgress:], egressRedirect)
		binary.NativeEndian.PutUint32(mirred[mirredIndex:], uint32(f.Redirect))
		action := options.AddRtAttr(nl.TCA_U32_ACT, nil).AddRtAttr(nl.TCA_ACT_TAB, nil)
		action.AddRtAttr(nl.TCA_ACT_KIND, []byte("mirred\x00"))
		action.AddRtAttr(nl.TCA_ACT_OPTIONS, nil).AddRtAttr(nl.TCA_MIRRED_PARMS, mirred)
	}
	return options
}

// request is one about traffic control, that is acknowledged.
func request(msgType, index int, parent, handle QHandle, info uint32, attrs ...*nl.RtAttr) *nl.NetlinkRequest {
	flags := unix.NLM_F_ACK
	if msgType == unix.RTM_NEWQDISC || msgType == unix.RTM_NEWTCLASS || msgType == unix.RTM_NEWTFILTER {
		flags |= unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	r := nl.NewNetlinkRequest(msgType, flags)
	r.AddData(&nl.TcMsg{Ifindex: int32(index), Handle: uint32(handle), Parent: uint32(parent), Info: info})
	for _, a := range attrs {
		r.AddData(a)
	}
	return r
}

// echo has a question about a single object acknowledged, since some have no
// other answer, and answered to who asks, which older kernels take for a wish to
// hear of one's own changes.
const echo = unix.NLM_F_ECHO | unix.NLM_F_ACK

// Qdisc returns the queueing discipline at a place of a link. The error matches
// ErrNotFound if there is none, or none but what the kernel put there itself and
// does not tell of.
func (c *Conn) Qdisc(index int, parent QHandle) (*Qdisc, error) {
	msgs, err := c.get(unix.RTM_GETQDISC, echo, unix.RTM_NEWQDISC, &nl.TcMsg{Ifindex: int32(index), Parent: uint32(parent)})
	if err == nil && len(msgs) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("queueing discipline of link %d: %w", index, err)
	}
	return parseQdisc(msgs[0])
}

// Qdiscs returns the queueing disciplines of all links.
func (c *Conn) Qdiscs() ([]*Qdisc, error) {
	msgs, err := c.get(unix.RTM_GETQDISC, unix.NLM_F_DUMP, unix.RTM_NEWQDISC, &nl.TcMsg{})
	if err != nil {
		return nil, fmt.Errorf("list queueing disciplines: %w", err)
	}
	var qdiscs []*Qdisc
	for _, m := range msgs {
		q, err := parseQdisc(m)
		if err != nil {
			return nil, fmt.Errorf("list queueing disciplines: %w", err)
		}
		qdiscs = append(qdiscs, q)
	}
	return qdiscs, nil
}

func parseQdisc(msg []byte) (*Qdisc, error) {
	h := nl.DeserializeTcMsg(msg)
	q := &Qdisc{Index: int(h.Ifindex), Parent: QHandle(h.Parent), Handle: QHandle(h.Handle)}
	var options []byte
	err := eachAttr(msg[h.Len():], func(kind uint16, v []byte) {
		switch kind {
		case nl.TCA_KIND:
			q.Kind = text(v)
		case nl.TCA_OPTIONS:
			options = v
		}
	})
	if err != nil {
		return nil, err
	}
	switch q.Kind {
	case "bfifo":
		q.Limit = uint32(num(options))
	case "tbf":
		err = eachAttr(options, func(kind uint16, v []byte) {
			switch kind {
			case nl.TCA_TBF_PARMS:
				q.Bucket.Rate = max(q.Bucket.Rate, uint64(num(v[8:])))
				q.Limit, q.Bucket.Size = uint32(num(v[2*rateSpecLen:])), uint32(num(v[2*rateSpecLen+4:]))
			case nl.TCA_TBF_RATE64:
				q.Bucket.Rate = binary.NativeEndian.Uint64(v)
			}
		})
	case "htb":
		err = eachAttr(options, func(kind uint16, v []byte) {
			if kind == nl.TCA_HTB_INIT {
				q.Default = uint16(num(v[8:]))
			}
		})
	}
	return q, err
}

// Class returns a class of htb. The error matches ErrNotFound if there is none.
func (c *Conn) Class(index int, handle QHandle) (*Class, error) {
	msgs, err := c.get(unix.RTM_GETTCLASS, echo, unix.RTM_NEWTCLASS, &nl.TcMsg{Ifindex: int32(index), Handle: uint32(handle)})
	if err == nil && len(msgs) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("class of link %d: %w", index, err)
	}
	class := &Class{Index: index, Handle: handle}
	err = nested(msgs[0], nl.TCA_OPTIONS, func(kind uint16, v []byte) {
		switch kind {
		case nl.TCA_HTB_PARMS:
			class.Bucket.Rate = max(class.Bucket.Rate, uint64(num(v[8:])))
			class.Bucket.Size = uint32(num(v[2*rateSpecLen:]))
		case nl.TCA_HTB_RATE64:
			class.Bucket.Rate = binary.NativeEndian.Uint64(v)
		}
	})
	return class, err
}

// nested calls f with every attribute within one of a message about traffic
// control.
func nested(msg []byte, within uint16, f func(kind uint16, v []byte)) error {
	var inner []byte
	err := eachAttr(msg[nl.SizeofTcMsg:], func(kind uint16, v []byte) {
		if kind == within {
			inner = v
		}
	})
	if err != nil {
		return err
	}
	return eachAttr(inner, f)
}

// Filters returns the filters below a parent of a link, in the order in which they
// are asked. There are none where there is no such parent.
func (c *Conn) Filters(index int, parent QHandle) ([]Filter, error) {
	msgs, err := c.get(unix.RTM_GETTFILTER, unix.NLM_F_DUMP, unix.RTM_NEWTFILTER, &nl.TcMsg{Ifindex: int32(index), Parent: uint32(parent)})
	if err != nil {
		return nil, fmt.Errorf("list filters of link %d: %w", index, err)
	}
	var filters []Filter
	for _, m := range msgs {
		h := nl.DeserializeTcMsg(m)
		f := Filter{Index: index, Parent: QHandle(h.Parent), Handle: h.Handle, Priority: uint16(h.Info >> 16), Protocol: swap(uint16(h.Info))}
		err := eachAttr(m[nl.SizeofTcMsg:], func(kind uint16, v []byte) {
			if kind == nl.TCA_KIND {
				f.Kind = text(v)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("list filters of link %d: %w", index, err)
		}
		if f.Kind != "u32" {
			if f.Handle != 0 { // otherwise it heads those of a priority
				filters = append(filters, f)
			}
			continue
		}
		found := false
		err = nested(m, nl.TCA_OPTIONS, func(kind uint16, v []byte) {
			switch kind {
			case nl.TCA_U32_SEL:
				found = true // the hash tables have none
				f.Matches = parseMatches(v)
			case nl.TCA_U32_CLASSID:
				f.Class = QHandle(num(v))
			case nl.TCA_U32_ACT:
				f.Redirect = parseRedirect(v)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("list filters of link %d: %w", index, err)
		}
		if found {
			filters = append(filters, f)
		}
	}
	return filters, nil
}

func parseMatches(sel []byte) []Match {
	var matches []Match
	for keys := sel[min(u32SelLen, len(sel)):]; len(keys) >= u32KeyLen; keys = keys[u32KeyLen:] {
		m := Match{
			Mask:   binary.BigEndian.Uint32(keys),
			Value:  binary.BigEndian.Uint32(keys[4:]),
			Offset: int32(num(keys[8:])),
		}
		if m != (Match{}) {
			matches = append(matches, m)
		}
	}
	return matches
}

// parseRedirect returns the link that the first of a list of actions sends
// packets out of, Nowhere if that is gone, 0 if it does something else.
func parseRedirect(actions []byte) int {
	redirect := 0
	within := func(attrs []byte, which uint16) (found []byte) {
		_ = eachAttr(attrs, func(kind uint16, v []byte) { // none if they can't be read
			if kind == which {
				found = v
			}
		})
		return found
	}
	first := within(actions, nl.TCA_ACT_TAB)
	if text(within(first, nl.TCA_ACT_KIND)) != "mirred" {
		return 0
	}
	parms := within(within(first, nl.TCA_ACT_OPTIONS), nl.TCA_MIRRED_PARMS)
	if len(parms) >= mirredLen && num(parms[mirredEgress:]) == egressRedirect {
		if redirect = num(parms[mirredIndex:]); redirect == 0 {
			redirect = Nowhere
		}
	}
	return redirect
}
