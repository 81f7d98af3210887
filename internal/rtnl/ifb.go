package rtnl

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// AddIFB makes an intermediate functional block, down: a link whose queue
// packets pass that arrive at another. The error matches ErrExists if the name
// is taken.
func (c *Conn) AddIFB(name string, mtu int) (*Link, error) {
	data := []nl.NetlinkRequestData{nl.NewIfInfomsg(unix.AF_UNSPEC)}
	for _, a := range endAttrs(End{Name: name}, mtu) {
		data = append(data, a)
	}
	info := attr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, []byte("ifb"))
	if err := c.do(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, append(data, info)...); err != nil {
		return nil, fmt.Errorf("add ifb %s: %w", name, err)
	}
	return c.made(name)
}
