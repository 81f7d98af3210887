package rtnl

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// VLANs are the VLANs from First to Last (IEEE 802.1Q, 1 to 4094) that a
// bridge's port is a member of.
type VLANs struct {
	First, Last int

	// Native is of the one VLAN that frames without a tag belong to, which
	// lose it again on their way out. Otherwise they keep it, unless
	// Untagged.
	Native   bool
	Untagged bool
}

// FilterVLANs makes a bridge tell VLANs apart. A kernel that can't ignores it.
func (c *Conn) FilterVLANs(bridge int) error {
	info := attr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, []byte("bridge"))
	info.AddRtAttr(unix.IFLA_INFO_DATA, nil).AddChild(u8(unix.IFLA_BR_VLAN_FILTERING, 1))
	if err := c.do(unix.RTM_NEWLINK, 0, header(bridge), info); err != nil {
		return fmt.Errorf("filter VLANs on link %d: %w", bridge, err)
	}
	return nil
}

// AddVLANs makes a bridge's port a member of VLANs. Those that it is in already
// are changed to what they are now.
func (c *Conn) AddVLANs(port int, vlans ...VLANs) error {
	if err := c.do(unix.RTM_SETLINK, 0, vlanData(port, vlans)...); err != nil {
		return fmt.Errorf("add VLANs to link %d: %w", port, err)
	}
	return nil
}

// DelVLANs ends a port's membership. The error matches ErrNotFound if it is in
// none of them.
func (c *Conn) DelVLANs(port int, vlans ...VLANs) error {
	if err := c.do(unix.RTM_DELLINK, 0, vlanData(port, vlans)...); err != nil {
		return fmt.Errorf("delete VLANs of link %d: %w", port, err)
	}
	return nil
}

// vlanData is a message to a bridge about one of its ports: struct
// bridge_vlan_info of linux/if_bridge.h for each end of a range.
func vlanData(port int, vlans []VLANs) []nl.NetlinkRequestData {
	h := nl.NewIfInfomsg(unix.AF_BRIDGE)
	h.Index = int32(port)
	spec := attr(unix.IFLA_AF_SPEC, nil)
	add := func(flags uint16, vid int) {
		b := binary.NativeEndian.AppendUint16(nil, flags)
		spec.AddRtAttr(nl.IFLA_BRIDGE_VLAN_INFO, binary.NativeEndian.AppendUint16(b, uint16(vid)))
	}
	for _, v := range vlans {
		var flags uint16
		if v.Native {
			flags |= nl.BRIDGE_VLAN_INFO_PVID
		}
		if v.Native || v.Untagged {
			flags |= nl.BRIDGE_VLAN_INFO_UNTAGGED
		}
		if v.First == v.Last {
			add(flags, v.First)
			continue
		}
		add(flags|nl.BRIDGE_VLAN_INFO_RANGE_BEGIN, v.First)
		add(flags|nl.BRIDGE_VLAN_INFO_RANGE_END, v.Last)
	}
	return []nl.NetlinkRequestData{h, spec}
}

// Numbers of RTM_GETVLAN (linux/if_bridge.h).
const (
	vlanEntry      = 1 // BRIDGE_VLANDB_ENTRY
	vlanEntryInfo  = 1 // BRIDGE_VLANDB_ENTRY_INFO
	vlanEntryRange = 2 // BRIDGE_VLANDB_ENTRY_RANGE
)

// A vlanHeader is struct br_vlan_msg.
type vlanHeader struct{ index int }

const vlanHeaderLen = 8

func (h vlanHeader) Len() int { return vlanHeaderLen }

func (h vlanHeader) Serialize() []byte {
	return binary.NativeEndian.AppendUint32([]byte{unix.AF_BRIDGE, 0, 0, 0}, uint32(h.index))
}

// PortVLANs returns the VLANs that a bridge's port is a member of.
func (c *Conn) PortVLANs(port int) ([]VLANs, error) {
	msgs, err := c.get(unix.RTM_GETVLAN, unix.NLM_F_DUMP, unix.RTM_NEWVLAN, vlanHeader{port})
	if err != nil {
		return nil, fmt.Errorf("list VLANs of link %d: %w", port, err)
	}
	var list []VLANs
	for _, m := range msgs {
		err := eachAttr(m[min(vlanHeaderLen, len(m)):], func(kind uint16, entry []byte) {
			if kind == vlanEntry {
				list = append(list, parseVLANs(entry))
			}
		})
		if err != nil {
			return nil, fmt.Errorf("list VLANs of link %d: %w", port, err)
		}
	}
	return list, nil
}

func parseVLANs(entry []byte) (v VLANs) {
	_ = eachAttr(entry, func(kind uint16, b []byte) { // what can't be read is VLAN 0
		switch {
		case kind == vlanEntryInfo && len(b) >= 4:
			flags := binary.NativeEndian.Uint16(b)
			v.First = int(binary.NativeEndian.Uint16(b[2:]))
			v.Last = max(v.Last, v.First)
			v.Native = flags&nl.BRIDGE_VLAN_INFO_PVID != 0
			v.Untagged = flags&nl.BRIDGE_VLAN_INFO_UNTAGGED != 0
		case kind == vlanEntryRange && len(b) >= 2:
			v.Last = int(binary.NativeEndian.Uint16(b))
		}
	})
	return v
}

// parseBridge reads what a bridge tells of its VLANs.
func parseBridge(l *Link, data []byte) {
	_ = eachAttr(data, func(kind uint16, v []byte) {
		switch kind {
		case unix.IFLA_BR_VLAN_FILTERING:
			l.FiltersVLANs = v[0] != 0
		case unix.IFLA_BR_VLAN_DEFAULT_PVID:
			l.DefaultVLAN = int(binary.NativeEndian.Uint16(v))
		}
	})
}
