package rtnl

import (
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// loopbackPriority is behind that of the kernel's own route by lo, so that only
// look-ups that are bound to an interface find the others.
const loopbackPriority = 1024

// loopbackRoute is the route to ::1 on an interface, in the table of local
// addresses.
func loopbackRoute(index int) []nl.NetlinkRequestData {
	return []nl.NetlinkRequestData{
		&nl.RtMsg{RtMsg: unix.RtMsg{
			Family: unix.AF_INET6, Dst_len: 128, Table: unix.RT_TABLE_LOCAL,
			Protocol: unix.RTPROT_STATIC, Scope: unix.RT_SCOPE_UNIVERSE, Type: unix.RTN_LOCAL,
		}},
		attr(unix.RTA_DST, netip.IPv6Loopback().AsSlice()),
		u32(unix.RTA_OIF, uint32(index)),
		u32(unix.RTA_PRIORITY, loopbackPriority),
	}
}

// AddLoopback adds a route to ::1 on an interface. The error matches ErrExists
// if there is one.
func (c *Conn) AddLoopback(index int) error {
	return c.do(unix.RTM_NEWROUTE, unix.NLM_F_CREATE, loopbackRoute(index)...) // beside those of other interfaces
}

// DelLoopback deletes what AddLoopback has added. The error matches ErrNotFound if
// there is no such route.
func (c *Conn) DelLoopback(index int) error {
	return c.do(unix.RTM_DELROUTE, 0, loopbackRoute(index)...)
}
