package rtnl

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// An Addr is an address of a link.
type Addr struct {
	Prefix netip.Prefix // the address with its subnet's length
	Scope  int          // RT_SCOPE_UNIVERSE, _LINK, _HOST

	NoDAD         bool // IFA_F_NODAD: usable at once, no duplicate detection
	NoPrefixRoute bool // IFA_F_NOPREFIXROUTE: no route to the subnet is made

	Tentative bool // read only: duplicate detection has not finished
	DADFailed bool // read only: somebody else has the address
}

// AddAddr adds an address to a link. An IPv4 address gets the broadcast
// address of its subnet. The error matches ErrExists.
func (c *Conn) AddAddr(index int, a Addr) error {
	data := addrData(index, a)
	var flags uint32
	if a.NoDAD {
		flags |= unix.IFA_F_NODAD
	}
	if a.NoPrefixRoute {
		flags |= unix.IFA_F_NOPREFIXROUTE
	}
	if flags != 0 {
		data = append(data, u32(unix.IFA_FLAGS, flags))
	}
	if a.Prefix.Addr().Is4() && a.Prefix.Bits() < 31 {
		data = append(data, attr(unix.IFA_BROADCAST, broadcast(a.Prefix).AsSlice()))
	}
	err := c.do(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, data...)
	if err != nil {
		return fmt.Errorf("add address %s: %w", a.Prefix, err)
	}
	return nil
}

// DelAddr removes an address from a link. The error matches ErrNotFound.
func (c *Conn) DelAddr(index int, prefix netip.Prefix) error {
	if err := c.do(unix.RTM_DELADDR, 0, addrData(index, Addr{Prefix: prefix})...); err != nil {
		return fmt.Errorf("delete address %s: %w", prefix, err)
	}
	return nil
}

func addrData(index int, a Addr) []nl.NetlinkRequestData {
	h := nl.NewIfAddrmsg(family(a.Prefix.Addr()))
	h.Index = uint32(index)
	h.Prefixlen = uint8(a.Prefix.Bits())
	h.Scope = uint8(a.Scope)
	ip := a.Prefix.Addr().AsSlice()
	return []nl.NetlinkRequestData{h, attr(unix.IFA_LOCAL, ip), attr(unix.IFA_ADDRESS, ip)}
}

// Addrs returns the addresses of a link, IPv4 first.
func (c *Conn) Addrs(index int) ([]Addr, error) {
	addrs, err := c.AddrsOf(index, true)
	if err != nil {
		return nil, err
	}
	more, err := c.AddrsOf(index, false)
	return append(addrs, more...), err
}

// AddrsOf returns a link's addresses of a family, IPv4 or IPv6.
func (c *Conn) AddrsOf(index int, is4 bool) ([]Addr, error) {
	h := nl.NewIfAddrmsg(unix.AF_INET6)
	if is4 {
		h.Family = unix.AF_INET
	}
	h.Index = uint32(index)
	msgs, err := c.get(unix.RTM_GETADDR, unix.NLM_F_DUMP, unix.RTM_NEWADDR, h)
	if err != nil {
		return nil, fmt.Errorf("list addresses of link %d: %w", index, err)
	}
	addrs := make([]Addr, 0, len(msgs))
	for _, m := range msgs {
		a, err := parseAddr(m)
		if err != nil {
			return nil, fmt.Errorf("list addresses of link %d: %w", index, err)
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

func parseAddr(msg []byte) (Addr, error) {
	h := nl.DeserializeIfAddrmsg(msg)
	a := Addr{Scope: int(h.Scope)}
	flags := uint32(h.Flags)
	var local, address []byte
	err := eachAttr(msg[h.Len():], func(kind uint16, v []byte) {
		switch kind {
		case unix.IFA_LOCAL:
			local = v
		case unix.IFA_ADDRESS:
			address = v
		case unix.IFA_FLAGS:
			flags = uint32(num(v))
		}
	})
	if local == nil { // IPv6 has no IFA_LOCAL unless there is a peer
		local = address
	}
	ip, ok := netip.AddrFromSlice(local)
	if err == nil && !ok {
		err = fmt.Errorf("address of %d bytes", len(local))
	}
	a.Prefix = netip.PrefixFrom(ip, int(h.Prefixlen))
	a.NoDAD = flags&unix.IFA_F_NODAD != 0
	a.NoPrefixRoute = flags&unix.IFA_F_NOPREFIXROUTE != 0
	a.Tentative = flags&unix.IFA_F_TENTATIVE != 0
	a.DADFailed = flags&unix.IFA_F_DADFAILED != 0
	return a, err
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// broadcast returns the last address of an IPv4 subnet.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}
