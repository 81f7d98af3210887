package rtnl

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Route is an entry of a routing table. Zero values of the optional fields
// are the kernel's defaults.
type Route struct {
	Index    int          // link that the packet leaves by
	Dst      netip.Prefix // 0.0.0.0/0 or ::/0 for a default route
	Gateway  netip.Addr   // optional
	Src      netip.Addr   // optional: preferred source
	Scope    int          // RT_SCOPE_*; IPv6 has none
	Table    int          // 0 is the main table
	Priority int
	MTU      int
	AdvMSS   int
	OnLink   bool // write only: RTNH_F_ONLINK, the gateway is behind the link whatever the routes say

	Local bool // read only: the destination is an address of the host itself
}

// MainTable is the table of ordinary routes, RT_TABLE_MAIN.
const MainTable = unix.RT_TABLE_MAIN

// AddRoute adds a route. The error matches ErrExists if there is one to the
// same destination with the same priority.
func (c *Conn) AddRoute(r Route) error {
	err := c.do(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, routeData(r)...)
	if err != nil {
		return fmt.Errorf("add route %s: %w", r, err)
	}
	return nil
}

// AddRouteBeside adds a route beside those to the same destination: IPv6 makes
// a multipath route of them, IPv4 prefers the latest. The error matches
// ErrExists only if the very same route is there.
func (c *Conn) AddRouteBeside(r Route) error {
	if err := c.do(unix.RTM_NEWROUTE, unix.NLM_F_CREATE, routeData(r)...); err != nil {
		return fmt.Errorf("add route %s: %w", r, err)
	}
	return nil
}

// DelRoute deletes a route. The error matches ErrNotFound.
func (c *Conn) DelRoute(r Route) error {
	if err := c.do(unix.RTM_DELROUTE, 0, routeData(r)...); err != nil {
		return fmt.Errorf("delete route %s: %w", r, err)
	}
	return nil
}

func routeData(r Route) []nl.NetlinkRequestData {
	h := nl.NewRtMsg()
	h.Family = uint8(family(r.Dst.Addr()))
	h.Dst_len = uint8(r.Dst.Bits())
	h.Scope = uint8(r.Scope)
	if r.OnLink {
		h.Flags = unix.RTNH_F_ONLINK
	}
	data := []nl.NetlinkRequestData{h}
	add := func(a *nl.RtAttr) { data = append(data, a) }
	add(attr(unix.RTA_DST, r.Dst.Masked().Addr().AsSlice()))
	if r.Index != 0 {
		add(u32(unix.RTA_OIF, uint32(r.Index)))
	}
	if r.Gateway.IsValid() {
		add(attr(unix.RTA_GATEWAY, r.Gateway.AsSlice()))
	}
	if r.Src.IsValid() {
		add(attr(unix.RTA_PREFSRC, r.Src.AsSlice()))
	}
	if r.Table != 0 {
		h.Table = unix.RT_TABLE_UNSPEC
		add(u32(unix.RTA_TABLE, uint32(r.Table)))
	}
	if r.Priority != 0 {
		add(u32(unix.RTA_PRIORITY, uint32(r.Priority)))
	}
	if r.MTU != 0 || r.AdvMSS != 0 {
		metrics := attr(unix.RTA_METRICS, nil)
		if r.MTU != 0 {
			metrics.AddChild(u32(unix.RTAX_MTU, uint32(r.MTU)))
		}
		if r.AdvMSS != 0 {
			metrics.AddChild(u32(unix.RTAX_ADVMSS, uint32(r.AdvMSS)))
		}
		add(metrics)
	}
	return data
}

// Routes returns the routes of all tables that leave by a link.
func (c *Conn) Routes(index int) ([]Route, error) {
	var routes []Route
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		h := &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(f)}}
		msgs, err := c.get(unix.RTM_GETROUTE, unix.NLM_F_DUMP, unix.RTM_NEWROUTE, h, u32(unix.RTA_OIF, uint32(index)))
		if err != nil {
			return nil, fmt.Errorf("list routes of link %d: %w", index, err)
		}
		for _, m := range msgs {
			rs, err := parseRoute(m)
			if err != nil {
				return nil, fmt.Errorf("list routes of link %d: %w", index, err)
			}
			for _, r := range rs {
				if r.Index == index {
					routes = append(routes, r)
				}
			}
		}
	}
	return routes, nil
}

// RouteTo returns the entry that a packet to an address would match.
func (c *Conn) RouteTo(dst netip.Addr) (Route, error) {
	h := &nl.RtMsg{RtMsg: unix.RtMsg{
		Family:  uint8(family(dst)),
		Dst_len: uint8(dst.BitLen()),
		Flags:   unix.RTM_F_FIB_MATCH,
	}}
	msgs, err := c.get(unix.RTM_GETROUTE, 0, unix.RTM_NEWROUTE, h, attr(unix.RTA_DST, dst.AsSlice()))
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		err = ErrNotFound
	}
	if err == nil && len(msgs) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Route{}, fmt.Errorf("route to %s: %w", dst, err)
	}
	routes, err := parseRoute(msgs[0])
	if err != nil || len(routes) == 0 {
		return Route{}, fmt.Errorf("route to %s: %w", dst, cmp.Or(err, ErrNotFound))
	}
	return routes[0], nil
}

// parseRoute returns a route for every next hop.
func parseRoute(msg []byte) ([]Route, error) {
	h := nl.DeserializeRtMsg(msg)
	r := Route{Scope: int(h.Scope), Table: int(h.Table), Local: h.Type == unix.RTN_LOCAL}
	dst := netip.IPv4Unspecified()
	if h.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	var hops []byte
	err := eachAttr(msg[h.Len():], func(kind uint16, v []byte) {
		switch kind {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(v)
		case unix.RTA_OIF:
			r.Index = num(v)
		case unix.RTA_GATEWAY:
			r.Gateway, _ = netip.AddrFromSlice(v)
		case unix.RTA_PREFSRC:
			r.Src, _ = netip.AddrFromSlice(v)
		case unix.RTA_TABLE:
			r.Table = num(v)
		case unix.RTA_PRIORITY:
			r.Priority = num(v)
		case unix.RTA_MULTIPATH:
			hops = v
		case unix.RTA_METRICS:
			_ = eachAttr(v, func(kind uint16, v []byte) {
				switch kind {
				case unix.RTAX_MTU:
					r.MTU = num(v)
				case unix.RTAX_ADVMSS:
					r.AdvMSS = num(v)
				}
			})
		}
	})
	if err != nil {
		return nil, err
	}
	r.Dst = netip.PrefixFrom(dst, int(h.Dst_len))
	if hops == nil {
		return []Route{r}, nil
	}
	return parseHops(r, hops)
}

// parseHops returns a copy of a multipath route for every next hop
// (struct rtnexthop of linux/rtnetlink.h, each followed by attributes).
func parseHops(r Route, hops []byte) ([]Route, error) {
	var routes []Route
	for len(hops) >= unix.SizeofRtNexthop {
		size := int(nl.NativeEndian().Uint16(hops))
		if size < unix.SizeofRtNexthop || size > len(hops) {
			return nil, fmt.Errorf("next hop of %d bytes", size)
		}
		hop := r
		hop.Index = num(hops[4:])
		err := eachAttr(hops[unix.SizeofRtNexthop:size], func(kind uint16, v []byte) {
			if kind == unix.RTA_GATEWAY {
				hop.Gateway, _ = netip.AddrFromSlice(v)
			}
		})
		if err != nil {
			return nil, err
		}
		routes = append(routes, hop)
		hops = hops[min((size+3)&^3, len(hops)):]
	}
	return routes, nil
}

// String writes the route as ip-route(8) does.
func (r Route) String() string {
	s := r.Dst.String()
	if r.Gateway.IsValid() {
		s += " via " + r.Gateway.String()
	}
	if r.Table != 0 && r.Table != MainTable {
		s += fmt.Sprintf(" table %d", r.Table)
	}
	if r.Priority != 0 {
		s += fmt.Sprintf(" metric %d", r.Priority)
	}
	return s
}

// DelMulticastRoute deletes the route to all IPv6 multicast groups that the kernel
// gives a link with a carrier. The error matches ErrNotFound.
func (c *Conn) DelMulticastRoute(index int) error {
	groups := netip.AddrFrom16([16]byte{0xff})
	err := c.do(unix.RTM_DELROUTE, 0,
		&nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET6, Dst_len: 8, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_MULTICAST}},
		attr(unix.RTA_DST, groups.AsSlice()), u32(unix.RTA_OIF, uint32(index)))
	if err != nil {
		return fmt.Errorf("delete multicast route of link %d: %w", index, err)
	}
	return nil
}
