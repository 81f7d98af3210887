package rtnl

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"

	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Link is a network device as the kernel reports it.
type Link struct {
	Index   int
	Name    string
	Kind    string // "veth", "bridge"; empty for a physical device
	MAC     net.HardwareAddr
	PermMAC net.HardwareAddr // that the hardware has, whatever MAC was set to; nil if there is none
	MTU     int
	Alias   string
	Up      bool // administratively
	Running bool // operational: up and with a carrier, as far as the kernel has got round to it
	Carrier bool // at this moment
	Promisc int  // how many asked for promiscuous mode
	TxQLen  int  // packets
	Master  int  // index of the bridge or VRF, 0 for none
	Table   int  // of a VRF: the routing table

	AltNames []string // by which it may be looked up as well

	// What the link was set to, which others who asked for it don't change.
	SetPromisc, SetAllMulti bool

	Peer   int // index of the veth's other end or of the lower device, 0 for none
	PeerNS int // namespace ID of Peer, or SameNS

	// Of a bridge's port: whether frames may go back where they came from,
	// whether none go to other isolated ports, and the state of spanning tree.
	Hairpin   bool
	Isolated  bool
	PortState int

	// Of a bridge: whether it tells VLANs apart, and which one its ports are
	// born into, 0 for none.
	FiltersVLANs bool
	DefaultVLAN  int

	Data Data // of its kind

	conf4, conf6 []byte // what it is set to: arrays of 32-bit numbers
}

// PortDisabled is the Link.PortState of a bridge port without a carrier
// (BR_STATE_DISABLED of linux/if_bridge.h).
const PortDisabled = 0

// SameNS is the Link.PeerNS of a peer in the same namespace.
const SameNS = -1

// rtextSkipStats asks for links without their counters (RTEXT_FILTER_SKIP_STATS).
const rtextSkipStats = 1 << 3

// Link returns the link of a name, or that has it as another name. The error
// matches ErrNotFound.
func (c *Conn) Link(name string) (*Link, error) {
	kind := unix.IFLA_IFNAME
	if len(name) >= unix.IFNAMSIZ {
		kind = unix.IFLA_ALT_IFNAME // only another name can be that long
	}
	l, err := c.link(nl.NewIfInfomsg(unix.AF_UNSPEC), str(kind, name))
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", name, err)
	}
	c.known[name] = l
	return l, nil
}

// Known returns a link as this connection last saw it under that name, and asks
// for it only if it never did.
func (c *Conn) Known(name string) (*Link, error) {
	if l, ok := c.known[name]; ok {
		return l, nil
	}
	return c.Link(name)
}

// forget drops what is known of a link that is about to go.
func (c *Conn) forget(index int) {
	maps.DeleteFunc(c.known, func(_ string, l *Link) bool { return l.Index == index })
}

// LinkByIndex returns the link of an index. The error matches ErrNotFound.
func (c *Conn) LinkByIndex(index int) (*Link, error) {
	l, err := c.link(header(index))
	if err != nil {
		return nil, fmt.Errorf("link %d: %w", index, err)
	}
	return l, nil
}

func (c *Conn) link(data ...nl.NetlinkRequestData) (*Link, error) {
	data = append(data, u32(unix.IFLA_EXT_MASK, rtextSkipStats))
	msgs, err := c.get(unix.RTM_GETLINK, 0, unix.RTM_NEWLINK, data...)
	if err != nil {
		return nil, err
	}
	if len(msgs) == 0 {
		return nil, ErrNotFound
	}
	return parseLink(msgs[0])
}

// Links returns all links.
func (c *Conn) Links() ([]*Link, error) {
	msgs, err := c.get(unix.RTM_GETLINK, unix.NLM_F_DUMP, unix.RTM_NEWLINK,
		nl.NewIfInfomsg(unix.AF_UNSPEC), u32(unix.IFLA_EXT_MASK, rtextSkipStats))
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	links := make([]*Link, 0, len(msgs))
	for _, m := range msgs {
		l, err := parseLink(m)
		if err != nil {
			return nil, fmt.Errorf("list links: %w", err)
		}
		links = append(links, l)
	}
	return links, nil
}

func parseLink(msg []byte) (*Link, error) {
	h := nl.DeserializeIfInfomsg(msg)
	l := &Link{
		Index:  int(h.Index),
		Up:     h.Flags&unix.IFF_UP != 0,
		PeerNS: SameNS,

		SetPromisc:  h.Flags&unix.IFF_PROMISC != 0,
		SetAllMulti: h.Flags&unix.IFF_ALLMULTI != 0,
	}
	err := eachAttr(msg[h.Len():], func(kind uint16, v []byte) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.Name = text(v)
		case unix.IFLA_ADDRESS:
			l.MAC = net.HardwareAddr(v)
		case unix.IFLA_PERM_ADDRESS:
			l.PermMAC = net.HardwareAddr(v)
		case unix.IFLA_MTU:
			l.MTU = num(v)
		case unix.IFLA_IFALIAS:
			l.Alias = text(v)
		case unix.IFLA_OPERSTATE:
			l.Running = v[0] == operUp
		case unix.IFLA_CARRIER:
			l.Carrier = v[0] != 0
		case unix.IFLA_PROMISCUITY:
			l.Promisc = num(v)
		case unix.IFLA_TXQLEN:
			l.TxQLen = num(v)
		case unix.IFLA_MASTER:
			l.Master = num(v)
		case unix.IFLA_LINK:
			l.Peer = num(v)
		case unix.IFLA_LINK_NETNSID:
			l.PeerNS = int(int32(num(v)))
		case unix.IFLA_PROP_LIST:
			_ = eachAttr(v, func(kind uint16, v []byte) {
				if kind == unix.IFLA_ALT_IFNAME {
					l.AltNames = append(l.AltNames, text(v))
				}
			})
		case unix.IFLA_LINKINFO:
			parseLinkInfo(l, v)
		case unix.IFLA_AF_SPEC:
			parseConf(l, v)
		}
	})
	return l, err
}

// operUp is IF_OPER_UP of linux/if.h (RFC 2863 ifOperStatus).
const operUp = 6

func parseLinkInfo(l *Link, info []byte) {
	var slaveKind string
	var slaveData, data []byte
	_ = eachAttr(info, func(kind uint16, v []byte) {
		switch kind {
		case unix.IFLA_INFO_KIND:
			l.Kind = text(v)
		case unix.IFLA_INFO_SLAVE_KIND:
			slaveKind = text(v)
		case unix.IFLA_INFO_SLAVE_DATA:
			slaveData = v
		case unix.IFLA_INFO_DATA:
			data = v
		}
	})
	switch l.Kind {
	case "bridge":
		parseBridge(l, data)
	case "vrf":
		_ = eachAttr(data, func(kind uint16, v []byte) {
			if kind == nl.IFLA_VRF_TABLE {
				l.Table = num(v)
			}
		})
	}
	l.Data = parseData(l.Kind, data)
	if slaveKind != "bridge" {
		return
	}
	_ = eachAttr(slaveData, func(kind uint16, v []byte) {
		switch kind {
		case nl.IFLA_BRPORT_STATE:
			l.PortState = int(v[0])
		case nl.IFLA_BRPORT_MODE:
			l.Hairpin = v[0] != 0
		case nl.IFLA_BRPORT_ISOLATED:
			l.Isolated = v[0] != 0
		}
	})
}

// An End is one end of a new veth pair.
type End struct {
	Name string
	MAC  net.HardwareAddr // nil lets the kernel choose
}

// AddVeth makes a veth pair whose host end is in the connection's namespace,
// up and a port of the bridge with index master if that is not 0, and whose
// peer is in another namespace, down. An mtu of 0 is the kernel's default. It
// returns the host end. The error matches ErrExists if either name is taken,
// without telling which.
func (c *Conn) AddVeth(host, peer End, peerNS *netns.NS, mtu, master int) (*Link, error) {
	h := nl.NewIfInfomsg(unix.AF_UNSPEC)
	h.Flags, h.Change = unix.IFF_UP, unix.IFF_UP
	data := []nl.NetlinkRequestData{h}
	for _, a := range endAttrs(host, mtu) {
		data = append(data, a)
	}
	if master != 0 {
		data = append(data, u32(unix.IFLA_MASTER, uint32(master)))
	}
	for _, a := range oneQueue() {
		data = append(data, a)
	}

	info := attr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, []byte("veth"))
	other := info.AddRtAttr(unix.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(other, unix.AF_UNSPEC)
	for _, a := range append(endAttrs(peer, mtu), oneQueue()...) {
		other.AddChild(a)
	}
	other.AddChild(u32(unix.IFLA_NET_NS_FD, uint32(peerNS.FD())))

	made, err := c.get(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ECHO|unix.NLM_F_ACK, unix.RTM_NEWLINK, append(data, info)...)
	if err != nil {
		return nil, fmt.Errorf("add veth %s with peer %s: %w", host.Name, peer.Name, err)
	}
	if len(made) == 0 { // before Linux 6.2 the kernel doesn't tell
		return c.made(host.Name)
	}
	l, err := parseLink(made[0])
	if err != nil {
		return nil, fmt.Errorf("add veth %s with peer %s: %w", host.Name, peer.Name, err)
	}
	l.Master = master // which it is told to be a port of after that
	c.known[host.Name] = l
	return l, nil
}

// made returns a link that was just made. If it can't be looked at it goes again, as
// nobody knows of it.
func (c *Conn) made(name string) (*Link, error) {
	l, err := c.Link(name)
	if err == nil {
		return l, nil
	}
	gone := c.do(unix.RTM_DELLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC), str(unix.IFLA_IFNAME, name))
	if gone != nil {
		gone = fmt.Errorf("delete link %s: %w", name, gone)
	}
	return nil, errors.Join(err, gone)
}

// oneQueue asks for one queue a direction, which is what a veth uses anyway. The
// kernel would make one for each processor, since Linux 5.15, and put all but one
// out of use again, for which it waits for every processor at each end: half of the
// time that a pair takes with two of them.
func oneQueue() []*nl.RtAttr {
	return []*nl.RtAttr{u32(unix.IFLA_NUM_TX_QUEUES, 1), u32(unix.IFLA_NUM_RX_QUEUES, 1)}
}

func endAttrs(e End, mtu int) []*nl.RtAttr {
	attrs := []*nl.RtAttr{str(unix.IFLA_IFNAME, e.Name)}
	if e.MAC != nil {
		attrs = append(attrs, attr(unix.IFLA_ADDRESS, e.MAC))
	}
	if mtu != 0 {
		attrs = append(attrs, u32(unix.IFLA_MTU, uint32(mtu)))
	}
	return attrs
}

// AddBridge makes a bridge that is up. The error matches ErrExists if the name
// is taken. An mtu of 0 is the kernel's default.
func (c *Conn) AddBridge(e End, mtu int) error {
	h := nl.NewIfInfomsg(unix.AF_UNSPEC)
	h.Flags, h.Change = unix.IFF_UP, unix.IFF_UP
	data := []nl.NetlinkRequestData{h}
	for _, a := range endAttrs(e, mtu) {
		data = append(data, a)
	}
	info := attr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, []byte("bridge"))
	err := c.do(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, append(data, info)...)
	if err != nil {
		return fmt.Errorf("add bridge %s: %w", e.Name, err)
	}
	return nil
}

// A Change is what to change of a link, all in one message. A nil field is
// left as it is.
type Change struct {
	Name     string // new one, of a link that is down; empty is unset
	MTU      int    // bytes; 0 is unset
	Master   int    // index of the bridge to be a port of; 0 is unset
	Up       *bool
	Promisc  *bool
	AllMulti *bool // receive all multicasts
	Alias    *string
	MAC      net.HardwareAddr
	TxQLen   *int
	Hairpin  *bool // of a bridge port
	Isolated *bool // of a bridge port
	Locked   *bool // of a bridge port; kernels before Linux 5.18 ignore it

	// ARPNotify makes the kernel announce the link's IPv4 addresses each time
	// that it is given a hardware address, be it the one that it has, or comes
	// up. The change itself, if it sets these too, announces nothing yet.
	ARPNotify *bool

	// NoIPv6Address stops the kernel from giving the link a link-local
	// address; it is ignored where the kernel has no IPv6.
	NoIPv6Address bool
}

// SetLink changes a link. The error matches ErrNotFound if it is gone.
func (c *Conn) SetLink(index int, ch Change) error {
	err := c.setLink(index, ch)
	if err != nil && ch.NoIPv6Address {
		// Without IPv6 the kernel refuses the whole message.
		ch.NoIPv6Address = false
		if c.setLink(index, ch) == nil {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("change link %d: %w", index, err)
	}
	return nil
}

func (c *Conn) setLink(index int, ch Change) error {
	h := header(index)
	flags(h, ch.Up, unix.IFF_UP)
	flags(h, ch.Promisc, unix.IFF_PROMISC)
	flags(h, ch.AllMulti, unix.IFF_ALLMULTI)
	data := []nl.NetlinkRequestData{h}
	add := func(a *nl.RtAttr) { data = append(data, a) }
	if ch.Name != "" {
		add(str(unix.IFLA_IFNAME, ch.Name))
	}
	if ch.MTU != 0 {
		add(u32(unix.IFLA_MTU, uint32(ch.MTU)))
	}
	if ch.Master != 0 {
		add(u32(unix.IFLA_MASTER, uint32(ch.Master)))
	}
	if ch.Alias != nil {
		add(attr(unix.IFLA_IFALIAS, []byte(*ch.Alias)))
	}
	if ch.MAC != nil {
		add(attr(unix.IFLA_ADDRESS, ch.MAC))
	}
	if ch.TxQLen != nil {
		add(u32(unix.IFLA_TXQLEN, uint32(*ch.TxQLen)))
	}
	if ch.Hairpin != nil || ch.Isolated != nil || ch.Locked != nil {
		info := attr(unix.IFLA_LINKINFO, nil)
		info.AddRtAttr(unix.IFLA_INFO_SLAVE_KIND, []byte("bridge"))
		port := info.AddRtAttr(unix.IFLA_INFO_SLAVE_DATA, nil)
		if ch.Hairpin != nil {
			port.AddChild(u8(nl.IFLA_BRPORT_MODE, flag(*ch.Hairpin)))
		}
		if ch.Isolated != nil {
			port.AddChild(u8(nl.IFLA_BRPORT_ISOLATED, flag(*ch.Isolated)))
		}
		if ch.Locked != nil {
			port.AddChild(u8(nl.IFLA_BRPORT_LOCKED, flag(*ch.Locked)))
		}
		add(info)
	}
	if ch.NoIPv6Address || ch.ARPNotify != nil {
		spec := attr(unix.IFLA_AF_SPEC, nil)
		if ch.NoIPv6Address {
			spec.AddRtAttr(unix.AF_INET6, nil).AddChild(u8(unix.IFLA_INET6_ADDR_GEN_MODE, addrGenModeNone))
		}
		if ch.ARPNotify != nil {
			spec.AddChild(arpNotifySpec(*ch.ARPNotify))
		}
		add(spec)
	}
	return c.do(unix.RTM_NEWLINK, 0, data...)
}

// addrGenModeNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
const addrGenModeNone = 1

func flags(h *nl.IfInfomsg, on *bool, mask uint32) {
	if on == nil {
		return
	}
	h.Change |= mask
	if *on {
		h.Flags |= mask
	}
}

// DelLink deletes a link, and a veth's other end with it. The kernel answers
// only after a grace period of RCU, some 20 ms. The error matches ErrNotFound.
func (c *Conn) DelLink(index int) error {
	c.forget(index)
	if err := c.do(unix.RTM_DELLINK, 0, header(index)); err != nil {
		return fmt.Errorf("delete link %d: %w", index, err)
	}
	return nil
}

// groupSize is how many links are deleted together: the acknowledgements of what
// marks them have to fit into the socket's buffer.
const groupSize = 128

// DelLinks deletes links, and other ends with them, and returns for each what
// became of it. All that are given together share the grace periods of RCU that
// each would wait for. An error matches ErrNotFound.
//
// The kernel deletes several links in one message only by their group. So they
// are given one that nothing else has: a random number out of a billion.
func (c *Conn) DelLinks(indexes []int) []error {
	errs := make([]error, 0, len(indexes))
	for some := range slices.Chunk(indexes, groupSize) {
		if len(some) == 1 {
			errs = append(errs, c.DelLink(some[0]))
			continue
		}
		errs = append(errs, c.delGroup(some)...)
	}
	return errs
}

func (c *Conn) delGroup(indexes []int) []error {
	group := firstGroup + rand.Uint32N(firstGroup)
	mark := make([]*nl.NetlinkRequest, len(indexes))
	for i, index := range indexes {
		c.forget(index)
		mark[i] = nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
		mark[i].AddData(header(index))
		mark[i].AddData(u32(unix.IFLA_GROUP, group))
	}
	errs, err := c.socket.acknowledged(mark)
	if err != nil {
		errs = slices.Repeat([]error{err}, len(indexes))
	}
	if slices.Contains(errs, nil) {
		err = c.do(unix.RTM_DELLINK, 0, header(0), u32(unix.IFLA_GROUP, group))
	}
	for i, index := range indexes {
		switch {
		case errs[i] != nil:
			errs[i] = fmt.Errorf("delete link %d: %w", index, classify(errs[i]))
		case errors.Is(err, ErrNotFound): // all have gone meanwhile
			errs[i] = fmt.Errorf("delete link %d: %w", index, err)
		case err != nil:
			// One that can't be deleted, such as a card, keeps the group from
			// it, which are other callers' links.
			errs[i] = c.DelLink(index)
		}
	}
	return errs
}

// firstGroup is the first of the groups in which links are deleted. People
// number theirs from one on.
const firstGroup = 1 << 30

func header(index int) *nl.IfInfomsg {
	h := nl.NewIfInfomsg(unix.AF_UNSPEC)
	h.Index = int32(index)
	return h
}
