package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A SavedRoute is a route as the kernel tells of it, with every attribute, to be
// made once more: in another table, or after it has gone with its link's state.
type SavedRoute struct {
	Route
	Kernel bool // the kernel made it, for an address (RTPROT_KERNEL)

	msg []byte // nil for what is made from Route alone, such as one next hop of several
}

// SaveRoutes returns the unicast routes of all tables that leave by a link.
func (c *Conn) SaveRoutes(index int) ([]SavedRoute, error) {
	var saved []SavedRoute
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		h := &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(f)}}
		msgs, err := c.get(unix.RTM_GETROUTE, unix.NLM_F_DUMP, unix.RTM_NEWROUTE, h, u32(unix.RTA_OIF, uint32(index)))
		if err != nil {
			return nil, fmt.Errorf("list routes of link %d: %w", index, err)
		}
		for _, m := range msgs {
			h := nl.DeserializeRtMsg(m)
			if h.Type != unix.RTN_UNICAST {
				continue
			}
			hops, err := parseRoute(m)
			if err != nil {
				return nil, fmt.Errorf("list routes of link %d: %w", index, err)
			}
			for _, hop := range hops {
				if hop.Index != index {
					continue
				}
				s := SavedRoute{Route: hop, Kernel: h.Protocol == unix.RTPROT_KERNEL}
				if len(hops) == 1 {
					s.msg = m
				}
				saved = append(saved, s)
			}
		}
	}
	return saved, nil
}

// RestoreRoute makes a saved route, with its table, next hop and source as they are
// by now in Route, beside others to the same destination. The error matches
// ErrExists if the very same route is there.
func (c *Conn) RestoreRoute(s SavedRoute) error {
	if err := c.sendSaved(unix.RTM_NEWROUTE, unix.NLM_F_CREATE, s); err != nil {
		return fmt.Errorf("restore route %s: %w", s.Route, err)
	}
	return nil
}

// DropRoute deletes a saved route. The error matches ErrNotFound.
func (c *Conn) DropRoute(s SavedRoute) error {
	if err := c.sendSaved(unix.RTM_DELROUTE, 0, s); err != nil {
		return fmt.Errorf("delete route %s: %w", s.Route, err)
	}
	return nil
}

func (c *Conn) sendSaved(msgType, flags int, s SavedRoute) error {
	data := routeData(s.Route)
	if s.msg != nil {
		var err error
		if data, err = savedData(s); err != nil {
			return err
		}
	}
	return c.do(msgType, flags, data...)
}

// userHZ is the unit of times in the kernel's answers, in 1/s.
const userHZ = 100

// savedData turns an answer of the kernel into a request.
func savedData(s SavedRoute) ([]nl.NetlinkRequestData, error) {
	h := *nl.DeserializeRtMsg(s.msg)
	h.Table = unix.RT_TABLE_UNSPEC
	h.Flags &= unix.RTNH_F_ONLINK // others tell of its state
	data := []nl.NetlinkRequestData{&h, u32(unix.RTA_TABLE, uint32(s.Table))}
	if s.Src.IsValid() {
		data = append(data, attr(unix.RTA_PREFSRC, s.Src.AsSlice()))
	}
	err := eachAttr(s.msg[h.Len():], func(kind uint16, v []byte) {
		switch kind {
		case unix.RTA_TABLE, unix.RTA_PREFSRC:
		case unix.RTA_CACHEINFO: // struct rta_cacheinfo: the third number is when the route expires
			if len(v) >= 12 {
				if expires := int32(binary.NativeEndian.Uint32(v[8:])); expires > 0 {
					data = append(data, u32(unix.RTA_EXPIRES, uint32(expires)/userHZ+1))
				}
			}
		default:
			data = append(data, attr(int(kind), v))
		}
	})
	return data, err
}

// HasRoutes reports whether a routing table has any route.
func (c *Conn) HasRoutes(table int) (bool, error) {
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		h := &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(f)}}
		msgs, err := c.get(unix.RTM_GETROUTE, unix.NLM_F_DUMP, unix.RTM_NEWROUTE, h, u32(unix.RTA_TABLE, uint32(table)))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return false, fmt.Errorf("list routes of table %d: %w", table, err)
		}
		if len(msgs) > 0 {
			return true, nil
		}
	}
	return false, nil
}
