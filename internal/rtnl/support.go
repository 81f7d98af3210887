package rtnl

import (
	"errors"
	"fmt"
	"math"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Supports reports whether the kernel can make links of a kind. It loads the
// module that it needs for that, as it does when a link is made, but makes none:
// it is asked for one with more queues than any has, of which it complains only
// once it has found who makes them (rtnl_create_link of net/core/rtnetlink.c).
// "tun" is not for rtnetlink to make on any kernel.
func (c *Conn) Supports(kind string) (bool, error) {
	info := attr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, []byte(kind))
	err := c.do(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
		nl.NewIfInfomsg(unix.AF_UNSPEC), u32(unix.IFLA_NUM_TX_QUEUES, math.MaxUint32), info)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	case errors.Is(err, unix.EINVAL):
		return true, nil
	}
	return false, fmt.Errorf("ask for %s devices: %w", kind, err)
}

// SupportsVLANs reports whether the kernel has bridges that tell VLANs apart. One
// that has not knows no question about them (CONFIG_BRIDGE_VLAN_FILTERING); one
// that has says that a loopback device is no bridge.
func (c *Conn) SupportsVLANs() (bool, error) {
	if known, err := c.Supports("bridge"); err != nil || !known {
		return false, err // and else the module is loaded by now
	}
	_, err := c.get(unix.RTM_GETVLAN, unix.NLM_F_DUMP, unix.RTM_NEWVLAN, vlanHeader{loopbackIndex})
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	case err == nil, errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENODEV):
		return true, nil
	}
	return false, fmt.Errorf("ask for VLANs of bridges: %w", err)
}

// loopbackIndex is lo's in every namespace (LOOPBACK_IFINDEX of
// include/net/flow.h).
const loopbackIndex = 1
