package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A neighMsg is struct ndmsg.
type neighMsg struct {
	family uint8
	index  int
}

var _ nl.NetlinkRequestData = neighMsg{}

func (neighMsg) Len() int { return unix.SizeofNdMsg }

func (m neighMsg) Serialize() []byte {
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = m.family
	binary.NativeEndian.PutUint32(b[4:], uint32(m.index))
	return b
}

// ndaDst is NDA_DST of linux/neighbour.h.
const ndaDst = 1

// HasNeighbour reports whether the kernel remembers anything of an address behind
// a link, be it that nobody answers.
func (c *Conn) HasNeighbour(index int, a netip.Addr) (bool, error) {
	_, err := c.get(unix.RTM_GETNEIGH, 0, unix.RTM_NEWNEIGH, neighMsg{uint8(family(a)), index}, attr(ndaDst, a.AsSlice()))
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("neighbour %s: %w", a, err)
	}
	return true, nil
}
