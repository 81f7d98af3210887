// Package iface plans what interface plugins have in common: a container's
// interface with its addresses and routes.
package iface

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/addr"
	"github.com/plumb-cni/plumb/state/firewall"
	"github.com/plumb-cni/plumb/state/link"
	"github.com/plumb-cni/plumb/state/masquerade"
	"github.com/plumb-cni/plumb/state/portmap"
	"github.com/plumb-cni/plumb/state/route"
	"github.com/plumb-cni/plumb/state/sysctl"
)

// An Interface is a container's interface that is to be given addresses. It
// has to be down until then: what is set before link-up holds from the first
// moment.
type Interface struct {
	Name   string
	Within state.Key // the object that the interface vanishes with
	Port   string    // the bridge's port on the host that it is behind, empty for none

	// Stacked tells that the interface is on the network of another one. Its
	// carrier is that one's, which may have none: then there is nobody to
	// tell of its addresses. The routers there are the network's own.
	Stacked bool

	// Fresh tells that nobody has had the addresses before on the network,
	// which is the host's own behind Router.
	Fresh  bool
	Router string

	// SharedMAC tells that the hardware address is another interface's, so
	// that the kernel can't be made to announce addresses by setting it. It
	// announces those of IPv4 when the interface comes up, and those of IPv6
	// when they pass a duplicate address detection that is turned off, on an
	// interface that is up.
	SharedMAC bool

	// ACD makes the IPv4 addresses wait until nobody on the network has
	// claimed them (RFC 5227), for 300 ms.
	ACD bool

	// DAD makes an IPv6 address wait for duplicate address detection (RFC
	// 4862) before it can be used.
	DAD bool

	// AcceptRA says whether to listen to router advertisements. nil leaves
	// it to the kernel, unless there is an IPv6 address already and the
	// network is one of ours.
	AcceptRA *bool

	// NoPrefixRoute leaves the subnets without a route over the interface.
	NoPrefixRoute bool
}

// Configure plans the addresses of a result and the link's coming up.
func (i Interface) Configure(result *cni.Result) state.Plan {
	plan := i.settings(result)
	up := state.On(i.Within, link.Up{NS: state.Sandbox, Link: i.Name, Announces: true, AtOnce: i.SharedMAC})
	asked := i.asked(result)
	if asked != nil {
		plan = append(plan, up, state.On(i.Within, addr.Unclaimed{NS: state.Sandbox, Link: i.Name, Addrs: asked, Port: i.Port}))
	}
	var late state.Plan
	for _, ip := range result.IPs {
		plan = append(plan, state.Share(addr.Unused{Addr: ip.Address.Addr()}))
		waits := i.SharedMAC && ip.Address.Addr().Is6()
		step := state.On(i.Within, addr.Address{
			NS: state.Sandbox, Link: i.Name, Prefix: ip.Address, NoDAD: !i.DAD && !waits, NoPrefixRoute: i.NoPrefixRoute,
		})
		if waits {
			late = append(late, step)
			continue
		}
		plan = append(plan, step)
	}
	if asked == nil {
		plan = append(plan, up)
	}
	plan = append(plan, late...)
	if (i.DAD || late != nil) && has6(result) {
		plan = append(plan, state.On(i.Within, addr.Settled{NS: state.Sandbox, Link: i.Name}))
	}
	return plan
}

// asked returns the addresses that the neighbours have to be asked for.
func (i Interface) asked(result *cni.Result) []netip.Addr {
	var asked []netip.Addr
	for _, ip := range result.IPs {
		if a := ip.Address.Addr(); i.ACD && a.Is4() {
			asked = append(asked, a)
		}
	}
	return asked
}

func has6(result *cni.Result) bool {
	return slices.ContainsFunc(result.IPs, func(ip cni.IP) bool { return ip.Address.Addr().Is6() })
}

// settings plans the sysctls that have to be set before the link is up, if there
// are any.
func (i Interface) settings(result *cni.Result) state.Plan {
	conf := "ipv6/conf/" + i.Name + "/"
	var values []sysctl.Setting
	if has6(result) {
		values = append(values,
			sysctl.Setting{Name: "ipv6/conf/lo/disable_ipv6", Value: "0"},
			sysctl.Setting{Name: conf + "disable_ipv6", Value: "0"},
			sysctl.Setting{Name: conf + "keep_addr_on_down", Value: "1"},
			sysctl.Setting{Name: conf + "ndisc_notify", Value: "1"}, // the kernel announces the addresses then
			sysctl.Setting{Name: conf + "accept_dad", Value: number(i.DAD)},
		)
		if i.DAD {
			values = append(values, sysctl.Setting{Name: conf + "enhanced_dad", Value: "1"})
		}
	}
	switch {
	case i.AcceptRA != nil && *i.AcceptRA:
		// 2 listens even where the container forwards.
		values = append(values, sysctl.Setting{Name: conf + "accept_ra", Value: "2"})
	case i.AcceptRA != nil || has6(result) && !i.Stacked:
		values = append(values, sysctl.Setting{Name: conf + "accept_ra", Value: "0"})
	}
	if values == nil {
		return nil
	}
	return state.Plan{state.On(i.Within, sysctl.Settings{NS: state.Sandbox, Values: values, Initial: true})}
}

func number(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

// Announce plans that the neighbours learn the interface's addresses.
func (i Interface) Announce(result *cni.Result) state.Step {
	a := addr.Announced{NS: state.Sandbox, Link: i.Name, Port: i.Port, Stacked: i.Stacked}
	if i.Fresh {
		a.Router = i.Router
		for _, ip := range result.IPs {
			a.Fresh = append(a.Fresh, ip.Address.Addr())
		}
	}
	return state.On(i.Within, a)
}

// Routes plans the routes of a result, after [ApplyDefaultRoute], and, as there
// has been some time by then, that the IPv6 addresses can be reached. A route
// without a gateway takes that of the first address of its family, unless its
// scope says that it needs none.
func (i Interface) Routes(result *cni.Result) state.Plan {
	var plan state.Plan
	for _, r := range result.Routes {
		usual := gateway(result, r.Dst.Addr().Is4())
		if r.Scope != nil && *r.Scope >= route.ScopeLink {
			usual = netip.Addr{}
		}
		planned := route.From(r, i.Name, usual)
		// Without a route to the subnet the kernel has to be told that a
		// gateway in it is behind this interface.
		planned.OnLink = i.NoPrefixRoute && r.GW != usual && slices.ContainsFunc(result.IPs, func(ip cni.IP) bool {
			return ip.Address.Contains(r.GW)
		})
		plan = append(plan, state.On(i.Within, planned))
	}
	for _, ip := range result.IPs {
		if ip.Address.Addr().Is6() {
			plan = append(plan, state.On(i.Within, addr.Delivered{NS: state.Sandbox, Link: i.Name, Addr: ip.Address.Addr()}))
		}
	}
	return plan
}

func gateway(result *cni.Result, is4 bool) netip.Addr {
	for _, ip := range result.IPs {
		if ip.Address.Addr().Is4() == is4 && ip.Gateway.IsValid() {
			return ip.Gateway
		}
	}
	return netip.Addr{}
}

// Forwarding plans that the host forwards packets of the families of a
// result's addresses.
func Forwarding(result *cni.Result) state.Plan {
	var plan state.Plan
	forward := func(name string) {
		plan = append(plan, state.Share(sysctl.Settings{NS: state.Host, Values: []sysctl.Setting{{Name: name, Value: "1"}}}))
	}
	if slices.ContainsFunc(result.IPs, func(ip cni.IP) bool { return ip.Address.Addr().Is4() }) {
		forward("ipv4/ip_forward")
	}
	if has6(result) {
		forward("ipv6/conf/all/forwarding")
	}
	return plan
}

// HostEnd returns the name of the host's end of a veth pair: on CHECK and DEL
// the one that ADD reported, which another implementation may have chosen. The
// links named besides are others.
func HostEnd(r *plugin.Request, others ...string) string {
	for _, name := range r.PreviousHost() {
		if strings.HasPrefix(name, "veth") && !slices.Contains(others, name) {
			return name
		}
	}
	return link.HostName(r.Owner)
}

// MAC returns the hardware address that the container's interface has to have:
// on CHECK the one that ADD reported, which a later plugin may have chosen,
// and otherwise the requested one, nil for any.
func MAC(r *plugin.Request, requested net.HardwareAddr) net.HardwareAddr {
	previous, ok := r.Previous()
	if !ok {
		return requested
	}
	mac, err := net.ParseMAC(previous.MAC)
	if err != nil {
		return nil
	}
	return mac
}

// Masquerade plans that the addresses of a result are hidden from what lies
// outside their subnets.
func Masquerade(r *plugin.Request, result *cni.Result, backend string) state.Step {
	m := masquerade.Masquerade{Owner: r.Owner, Backend: masquerade.Backend(backend)}
	for _, ip := range result.IPs {
		m.Addresses = append(m.Addresses, ip.Address)
	}
	return state.Own(m)
}

// ValidateBackend refuses a masquerade back end that there is not.
func ValidateBackend(name string) error {
	if _, err := masquerade.ParseBackend(name); err != nil {
		return cni.Errorf(cni.CodeInvalidConfig, "ipMasqBackend: %w", err)
	}
	return nil
}

// Ready fails with cni.CodeUnavailable if masquerade is asked for and the host
// can't.
func Ready(ctx context.Context, ipMasq bool, backend string, r state.Reader) error {
	if !ipMasq {
		return nil
	}
	if err := masquerade.Available(ctx, r, masquerade.Backend(backend)); err != nil {
		return cni.Errorf(cni.CodeUnavailable, "ipMasq: %w", err)
	}
	return nil
}

// Kinds are what an interface with an address may leave behind. Rules go
// before links: the other way round, closing the connection to nftables waits
// for the links to be gone.
func Kinds() []state.Kind {
	return []state.Kind{masquerade.Kind{}, portmap.Kind{}, link.Kind{}, firewall.Kind{}}
}

// MTU returns the size that the container's interface has to have: on CHECK the
// one that ADD reported, and 0 for any otherwise.
func MTU(r *plugin.Request) int {
	previous, _ := r.Previous()
	return int(previous.MTU)
}

// Footprint names the masquerading of addresses and both ends of a veth pair.
// Either end is enough to remove it; the sandbox's is for one whose other end
// has a name that nobody knows any more.
//
// Without a prevResult, plugin firewall knew of no address for which the
// reference may have admitted traffic. IPAM has told of them here, and they must
// not be given away with what they were admitted for, nor on GC with the ports
// that the reference may have mapped to them.
func Footprint(r *plugin.Request, addrs []netip.Addr, others ...string) []state.Key {
	previous, _ := r.Previous()
	keys := []state.Key{
		link.PeerKey(r.IfName, previous.MAC, addrs), link.Key(link.HostName(r.Owner)), link.Key(HostEnd(r, others...)),
		masquerade.Key(r.Owner, addrs...),
	}
	if r.Config.PrevResult == nil && len(addrs) > 0 {
		keys = append(keys, firewall.Key(r.Owner, "", addrs...))
	}
	if r.Collected {
		keys = append(keys, portmap.Key(r.Owner, addrs...))
	}
	return keys
}

// ValidateMTU refuses a size that no Ethernet device can have. 0 means unset.
func ValidateMTU(mtu int) error {
	if mtu != 0 && (mtu < 68 || mtu > 65535) {
		return cni.Errorf(cni.CodeInvalidConfig, "mtu %d is out of range; an interface takes 68 to 65535 bytes", mtu)
	}
	return nil
}
