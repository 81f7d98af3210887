package rtnl

import (
	"fmt"

	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Move takes a link to another namespace and says what it is like there.
type Move struct {
	To    *netns.NS // nil leaves it where it is
	Name  string    // there; "dev%d" takes the first number that is free
	Alias string    // there; empty removes one
	MTU   int       // there; 0 leaves it
	Up    bool      // there
}

// MoveLink moves a link. The kernel takes it down for that, with what addresses
// and routes it has, and renames it within the same message.
//
// The error matches ErrExists if the name or the other names of the link are
// taken there; then nothing has changed, or the link has been moved and bears its
// old name. It matches unix.EINVAL if the link is one that can't be moved.
func (c *Conn) MoveLink(index int, m Move) error {
	h := header(index)
	flags(h, &m.Up, unix.IFF_UP)
	data := []nl.NetlinkRequestData{
		h, str(unix.IFLA_IFNAME, m.Name), attr(unix.IFLA_IFALIAS, []byte(m.Alias)),
	}
	if m.To != nil {
		data = append(data, u32(unix.IFLA_NET_NS_FD, uint32(m.To.FD())))
	}
	if m.MTU != 0 {
		data = append(data, u32(unix.IFLA_MTU, uint32(m.MTU)))
	}
	c.forget(index)
	if err := c.do(unix.RTM_NEWLINK, 0, data...); err != nil {
		return fmt.Errorf("move link %d as %s: %w", index, m.Name, err)
	}
	return nil
}

// SetMaster makes a link a port of a bridge, bond or VRF, or of none if master is
// 0.
func (c *Conn) SetMaster(index, master int) error {
	if err := c.do(unix.RTM_NEWLINK, 0, header(index), u32(unix.IFLA_MASTER, uint32(master))); err != nil {
		return fmt.Errorf("set master of link %d to link %d: %w", index, master, err)
	}
	return nil
}

// AddAltName gives a link another name, by which it can be found as well. The
// error matches ErrExists if that is taken.
func (c *Conn) AddAltName(index int, name string) error {
	err := c.do(unix.RTM_NEWLINKPROP, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_APPEND, altName(index, name)...)
	if err != nil {
		return fmt.Errorf("add other name %s to link %d: %w", name, index, err)
	}
	return nil
}

// DelAltName takes another name from a link.
func (c *Conn) DelAltName(index int, name string) error {
	if err := c.do(unix.RTM_DELLINKPROP, 0, altName(index, name)...); err != nil {
		return fmt.Errorf("delete other name %s of link %d: %w", name, index, err)
	}
	return nil
}

func altName(index int, name string) []nl.NetlinkRequestData {
	list := attr(unix.IFLA_PROP_LIST|unix.NLA_F_NESTED, nil)
	list.AddChild(str(unix.IFLA_ALT_IFNAME, name))
	return []nl.NetlinkRequestData{header(index), list}
}
