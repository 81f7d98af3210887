package rtnl

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// AddVRF makes a VRF that is up and routes by a table. The error matches
// ErrExists if the name is taken.
func (c *Conn) AddVRF(name string, table int) (*Link, error) {
	h := nl.NewIfInfomsg(unix.AF_UNSPEC)
	h.Flags, h.Change = unix.IFF_UP, unix.IFF_UP
	info := attr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, []byte("vrf"))
	info.AddRtAttr(unix.IFLA_INFO_DATA, nil).AddChild(u32(nl.IFLA_VRF_TABLE, uint32(table)))
	err := c.do(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, h, str(unix.IFLA_IFNAME, name), info)
	if err != nil {
		return nil, fmt.Errorf("add VRF %s: %w", name, err)
	}
	return c.made(name)
}
