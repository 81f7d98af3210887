package rtnl

import (
	"fmt"

	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// UnknownNS is the number of a namespace that has none.
const UnknownNS = -1

// Attributes of linux/net_namespace.h.
const (
	netnsaNSID = 1
	netnsaFD   = 3
)

// NSID returns the number by which the connection's namespace knows another
// one, as in Link.PeerNS, or UnknownNS if it does not.
func (c *Conn) NSID(other *netns.NS) (int, error) {
	msgs, err := c.get(unix.RTM_GETNSID, 0, unix.RTM_NEWNSID, genMsg{}, u32(netnsaFD, uint32(other.FD())))
	if err != nil {
		return 0, fmt.Errorf("number of namespace %s: %w", other.Path(), err)
	}
	id := UnknownNS
	for _, m := range msgs {
		err := eachAttr(m[min(genMsg{}.Len(), len(m)):], func(kind uint16, v []byte) {
			if kind == netnsaNSID {
				id = int(int32(num(v)))
			}
		})
		if err != nil {
			return 0, fmt.Errorf("number of namespace %s: %w", other.Path(), err)
		}
	}
	return id, nil
}

// A genMsg is struct rtgenmsg, or another that is a family alone, with the
// padding up to where attributes start.
type genMsg struct{ family uint8 }

var _ nl.NetlinkRequestData = genMsg{}

func (genMsg) Len() int            { return 4 }
func (m genMsg) Serialize() []byte { return []byte{m.family, 0, 0, 0} }
