package rtnl

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"

	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Device is a link that one message makes, down.
type Device struct {
	Name   string
	Kind   string           // "macvlan", "ipvlan", "vlan", "dummy"
	Parent int              // index of the link that it sits on, in the connection's namespace; 0 for none
	NS     *netns.NS        // where to make it; nil is the connection's
	MAC    net.HardwareAddr // nil lets the kernel choose
	MTU    int              // bytes; 0 is the kernel's default
	Data   Data
}

// Data is what is particular to a kind of link. A zero field is the kernel's
// default, or of another kind.
type Data struct {
	Mode           string // of macvlan and ipvlan
	BroadcastQueue int    // of macvlan: how many multicast packets may wait
	VLAN           *int   // of vlan
	Tap            *Tap   // of "tun": nil for one that takes IP packets
}

// A Tap is what is particular to a tap device.
type Tap struct {
	Owner, Group *int // who may open it; nil is nobody in particular
	MultiQueue   bool // several processes or threads at a time
}

// A mode is a number with the word that users know it by.
type mode struct {
	word  string
	value int
}

// macvlanModes are those of linux/if_link.h that need no further settings.
func macvlanModes() []mode {
	return []mode{{"private", 1}, {"vepa", 2}, {"bridge", 4}, {"passthru", 8}}
}

// ipvlanModes are those of linux/if_link.h.
func ipvlanModes() []mode { return []mode{{"l2", 0}, {"l3", 1}, {"l3s", 2}} }

// Modes returns the words for the modes of a kind of link.
func Modes(kind string) []string {
	var words []string
	for _, m := range modes(kind) {
		words = append(words, m.word)
	}
	return words
}

func modes(kind string) []mode {
	switch kind {
	case "macvlan":
		return macvlanModes()
	case "ipvlan":
		return ipvlanModes()
	}
	return nil
}

// AddDevice makes a link. The error matches ErrExists if the name is taken,
// before Linux 6.15 also in the connection's namespace, or if the parent has a
// VLAN of that ID.
func (c *Conn) AddDevice(d Device) error {
	data := []nl.NetlinkRequestData{nl.NewIfInfomsg(unix.AF_UNSPEC)}
	for _, a := range endAttrs(End{Name: d.Name, MAC: d.MAC}, d.MTU) {
		data = append(data, a)
	}
	if d.Parent != 0 {
		data = append(data, u32(unix.IFLA_LINK, uint32(d.Parent)))
	}
	if d.NS != nil {
		data = append(data, u32(unix.IFLA_NET_NS_FD, uint32(d.NS.FD())))
	}
	info := attr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, []byte(d.Kind))
	if err := d.Data.encode(d.Kind, info); err != nil {
		return fmt.Errorf("add %s %s: %w", d.Kind, d.Name, err)
	}
	err := c.do(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, append(data, info)...)
	if err != nil {
		return fmt.Errorf("add %s %s: %w", d.Kind, d.Name, err)
	}
	return nil
}

func (d Data) encode(kind string, info *nl.RtAttr) error {
	var attrs []*nl.RtAttr
	if d.Mode != "" {
		known := modes(kind)
		i := slices.IndexFunc(known, func(m mode) bool { return m.word == d.Mode })
		if i < 0 {
			return fmt.Errorf("unknown mode %q", d.Mode)
		}
		if kind == "ipvlan" {
			attrs = append(attrs, u16(nl.IFLA_IPVLAN_MODE, uint16(known[i].value)))
		} else {
			attrs = append(attrs, u32(nl.IFLA_MACVLAN_MODE, uint32(known[i].value)))
		}
	}
	if d.BroadcastQueue != 0 {
		attrs = append(attrs, u32(nl.IFLA_MACVLAN_BC_QUEUE_LEN, uint32(d.BroadcastQueue)))
	}
	if d.VLAN != nil {
		attrs = append(attrs, u16(nl.IFLA_VLAN_ID, uint16(*d.VLAN)))
	}
	if attrs == nil {
		return nil
	}
	data := info.AddRtAttr(unix.IFLA_INFO_DATA, nil)
	for _, a := range attrs {
		data.AddChild(a)
	}
	return nil
}

// parseData reads what is particular to a kind of link, as far as it is known.
func parseData(kind string, data []byte) Data {
	switch kind {
	case "macvlan":
		n := numbers(data)
		return Data{Mode: word(kind, n[nl.IFLA_MACVLAN_MODE]), BroadcastQueue: n[nl.IFLA_MACVLAN_BC_QUEUE_LEN]}
	case "ipvlan":
		return Data{Mode: word(kind, numbers(data)[nl.IFLA_IPVLAN_MODE])}
	case "vlan":
		id := numbers(data)[nl.IFLA_VLAN_ID]
		return Data{VLAN: &id}
	case "tun":
		return Data{Tap: parseTap(numbers(data))}
	}
	return Data{}
}

// numbers returns the attributes that are numbers of the kernel's byte order.
// What can't be read is left out.
func numbers(data []byte) map[uint16]int {
	n := make(map[uint16]int)
	_ = eachAttr(data, func(attribute uint16, v []byte) {
		switch len(v) {
		case 1:
			n[attribute] = int(v[0])
		case 2:
			n[attribute] = int(binary.NativeEndian.Uint16(v))
		case 4:
			n[attribute] = num(v)
		}
	})
	return n
}

// Attributes of IFLA_INFO_DATA of a "tun" (linux/if_link.h).
const (
	tunOwner      = 1
	tunGroup      = 2
	tunType       = 3
	tunMultiQueue = 7
)

func parseTap(numbers map[uint16]int) *Tap {
	if numbers[tunType] != unix.IFF_TAP {
		return nil
	}
	t := &Tap{MultiQueue: numbers[tunMultiQueue] != 0}
	if owner, ok := numbers[tunOwner]; ok {
		t.Owner = &owner
	}
	if group, ok := numbers[tunGroup]; ok {
		t.Group = &group
	}
	return t
}

func word(kind string, value int) string {
	for _, m := range modes(kind) {
		if m.value == value {
			return m.word
		}
	}
	return fmt.Sprintf("mode %d", value)
}

func u16(kind int, v uint16) *nl.RtAttr {
	return attr(kind, binary.NativeEndian.AppendUint16(nil, v))
}
