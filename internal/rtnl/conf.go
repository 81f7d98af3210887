package rtnl

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The settings below /proc/sys/net that rtnetlink tells of as well. To open one
// there costs the more the more namespaces anybody has looked into: the kernel
// keeps the entries "ipv4" and "ipv6" of all of them in one list. An answer by
// netlink costs the same among any number.

// A setting is a name below conf/LINK and its number in the kernel's answers.
type setting struct {
	name   string
	number int
}

// settings4 are some of IPv4, numbered as in linux/ip.h.
func settings4() []setting { return []setting{{"forwarding", 1}, {"arp_notify", arpNotify}} }

const arpNotify = 22 // IPV4_DEVCONF_ARP_NOTIFY

// settings6 are some of IPv6, numbered as in linux/ipv6.h.
func settings6() []setting {
	return []setting{
		{"forwarding", 0}, {"accept_ra", 3}, {"disable_ipv6", 26}, {"accept_dad", 27},
		{"ndisc_notify", 29}, {"keep_addr_on_down", 42},
	}
}

// Setting4 returns the value that a link had for a setting below ipv4/conf/LINK
// when it was asked for, and whether the kernel told.
func (l *Link) Setting4(name string) (value int, ok bool) {
	for _, s := range settings4() {
		if s.name == name {
			return number(l.conf4, s.number-1)
		}
	}
	return 0, false
}

// Setting6 is Setting4 below ipv6/conf/LINK. A link without IPv6 has none.
func (l *Link) Setting6(name string) (value int, ok bool) {
	for _, s := range settings6() {
		if s.name == name {
			return number(l.conf6, s.number)
		}
	}
	return 0, false
}

// number returns an element of an array of 32-bit numbers.
func number(array []byte, i int) (int, bool) {
	if len(array) < 4*(i+1) {
		return 0, false
	}
	return int(int32(binary.NativeEndian.Uint32(array[4*i:]))), true
}

// parseConf reads what a link is set to for each family.
func parseConf(l *Link, spec []byte) {
	conf := func(in []byte, attribute uint16) (array []byte) {
		_ = eachAttr(in, func(kind uint16, v []byte) { // none if it can't be read
			if kind == attribute {
				array = v
			}
		})
		return array
	}
	l.conf4 = conf(conf(spec, unix.AF_INET), unix.IFLA_INET_CONF)
	l.conf6 = conf(conf(spec, unix.AF_INET6), unix.IFLA_INET6_CONF)
}

// arpNotifySpec is the part of a message that makes a link announce its IPv4
// addresses, or not, when it comes up and when it is given a hardware address.
func arpNotifySpec(on bool) *nl.RtAttr {
	inet := nl.NewRtAttr(unix.AF_INET, nil)
	inet.AddRtAttr(unix.IFLA_INET_CONF, nil).AddChild(u32(arpNotify, uint32(flag(on))))
	return inet
}

// Attributes of linux/netconf.h, and the index that stands for all links.
const (
	netconfaIndex      = 1
	netconfaForwarding = 2
	netconfAllLinks    = -1
)

// Forwards reports whether the namespace forwards packets of a family, IPv4 or
// IPv6, as ipv4/ip_forward and ipv6/conf/all/forwarding do. The error matches
// unix.EOPNOTSUPP if the kernel lacks the family.
func (c *Conn) Forwards(is4 bool) (bool, error) {
	f := genMsg{unix.AF_INET6}
	if is4 {
		f = genMsg{unix.AF_INET}
	}
	all := int32(netconfAllLinks)
	msgs, err := c.get(unix.RTM_GETNETCONF, 0, unix.RTM_NEWNETCONF, f, u32(netconfaIndex, uint32(all)))
	if err != nil {
		return false, fmt.Errorf("whether packets are forwarded: %w", err)
	}
	on := false
	for _, m := range msgs {
		err := eachAttr(m[min(f.Len(), len(m)):], func(kind uint16, v []byte) {
			if kind == netconfaForwarding {
				on = num(v) != 0
			}
		})
		if err != nil {
			return false, fmt.Errorf("whether packets are forwarded: %w", err)
		}
	}
	return on, nil
}
