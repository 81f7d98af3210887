package iface

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
)

// What follows is for plugins whose interface is a single device in the
// sandbox.

// DeviceKinds are what such a plugin may leave behind.
func DeviceKinds() []state.Kind { return []state.Kind{link.DeviceKind{}} }

// Alone is the interface as the only one of a result.
func Alone(r *plugin.Request) []state.Key { return []state.Key{link.SandboxKey(r.IfName)} }

// DeviceFootprint names the device with what prevResult says of it, or, where
// it has its parent's hardware address as others do, with its addresses alone.
func DeviceFootprint(r *plugin.Request, kind string, sharesMAC bool, addrs []netip.Addr) []state.Key {
	previous, _ := r.Previous()
	if sharesMAC {
		previous.MAC = ""
	}
	return []state.Key{link.KnownDeviceKey(r.IfName, kind, previous.MAC, addrs)}
}

// Wanted returns a device of a kind as the request's owner is to have it, of an
// MTU if that is not 0: on CHECK the MTU is the one that ADD reported, which a
// later plugin may have chosen.
func Wanted(r *plugin.Request, kind string, mtu int) link.Device {
	if r.Verb != cni.VerbAdd {
		mtu = MTU(r)
	}
	return link.Device{Owner: r.Owner, Name: r.IfName, Kind: kind, MTU: mtu}
}

// Connect plans the addresses and routes of a result, and that the neighbours
// learn of them.
func (i Interface) Connect(result *cni.Result) state.Plan {
	plan := append(i.Configure(result), i.Routes(result)...)
	return append(plan, i.Announce(result))
}

// A Parent is the interface that a container's is made on.
type Parent struct {
	// Master is its name. Empty is that of the default route.
	Master string `json:"master"`

	// LinkInContainer looks for it in the sandbox instead of on the host.
	LinkInContainer bool `json:"linkInContainer"`
}

// NS is where the parent is.
func (p Parent) NS() state.NS {
	if p.LinkInContainer {
		return state.Sandbox
	}
	return state.Host
}

// Find returns the parent. It fails with cni.CodeInvalidConfig if there is none.
func (p Parent) Find(rd state.Reader) (*rtnl.Link, error) {
	conn, err := rd.Route(p.NS())
	if err != nil {
		return nil, err
	}
	if p.Master == "" {
		return p.ofDefaultRoute(conn)
	}
	found, err := conn.Known(p.Master)
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil, cni.Errorf(cni.CodeInvalidConfig, "master %s: there is no such interface %s", p.Master, p.where())
	}
	return found, err
}

func (p Parent) where() string {
	if p.LinkInContainer {
		return "in the sandbox"
	}
	return "on the host"
}

// ofDefaultRoute returns the link of the default route, IPv4's if there is one.
func (p Parent) ofDefaultRoute(conn rtnl.Reader) (*rtnl.Link, error) {
	for _, is4 := range []bool{true, false} {
		index, err := defaultRoute(conn, is4)
		if err != nil {
			return nil, err
		}
		if index != 0 {
			return conn.LinkByIndex(index)
		}
	}
	return nil, cni.Errorf(cni.CodeInvalidConfig, "master is missing, and there is no default route %s whose interface to take; name one", p.where())
}

// nowhere returns an address to which there is no route but the default one:
// its block has never been given to anybody (RFC 1112 section 4, RFC 4291
// section 2.4).
func nowhere(is4 bool) netip.Addr {
	if is4 {
		return netip.AddrFrom4([4]byte{240, 0, 0, 1})
	}
	return netip.AddrFrom16([16]byte{0: 0x40, 15: 1})
}

// defaultRoute returns the index of the link that the default route of a family
// leaves by, 0 for none.
func defaultRoute(conn rtnl.Reader, is4 bool) (int, error) {
	usual, err := conn.RouteTo(nowhere(is4))
	if err == nil && usual.Dst.Bits() == 0 && usual.Index != 0 && !usual.Local {
		return usual.Index, nil
	}
	if err != nil && !errors.Is(err, rtnl.ErrNotFound) {
		return 0, err
	}
	// Even that may have another route: a tunnel's, whose two halves of
	// everything go before the default one.
	routes, err := conn.DefaultRoutes(is4)
	if err != nil {
		return 0, err
	}
	routes = slices.DeleteFunc(routes, func(r rtnl.Route) bool { return r.Index == 0 })
	if len(routes) == 0 {
		return 0, nil
	}
	return slices.MinFunc(routes, func(a, b rtnl.Route) int { return a.Priority - b.Priority }).Index, nil
}

// Under makes a device one that sits on the parent. On ADD that is looked for,
// and returned; on CHECK only one that is named is compared, since the default
// route may have moved.
func (p Parent) Under(d *link.Device, r *plugin.Request, rd state.Reader) (*rtnl.Link, error) {
	d.Parent, d.ParentNS = p.Master, p.NS()
	if r.Verb != cni.VerbAdd {
		return nil, nil
	}
	found, err := p.Find(rd)
	if err != nil {
		return nil, err
	}
	d.Parent = found.Name
	return found, nil
}

// WithinMTU fails with cni.CodeInvalidConfig if an MTU, 0 for none, is more than
// the parent's.
func WithinMTU(mtu int, parent *rtnl.Link) error {
	if mtu > parent.MTU {
		return cni.Errorf(cni.CodeInvalidConfig, "mtu %d is more than the %d of master %s; lower it, or raise the master's", mtu, parent.MTU, parent.Name)
	}
	return nil
}

// Ready fails with cni.CodeUnavailable if the kernel has no devices of a kind, or
// if the parent, as far as it is on the host, is not there, or smaller than an
// MTU, 0 for none.
func (p Parent) Ready(kind string, mtu int, rd state.Reader) error {
	if err := link.Available(rd, kind); err != nil {
		return err
	}
	if p.LinkInContainer {
		return nil
	}
	found, err := p.Find(rd)
	if err == nil {
		err = WithinMTU(mtu, found)
	}
	if err != nil {
		return cni.Errorf(cni.CodeUnavailable, "%w", err)
	}
	return nil
}
