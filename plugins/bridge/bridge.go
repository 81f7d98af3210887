// Package bridge connects containers of a host to a virtual switch on it, which
// may be their router as well.
package bridge

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugin/iface"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/addr"
	"github.com/plumb-cni/plumb/state/link"
	"github.com/plumb-cni/plumb/state/macspoof"
	"github.com/plumb-cni/plumb/state/route"
	"github.com/plumb-cni/plumb/state/sysctl"
)

// New returns the plugin.
func New() plugin.Plugin {
	return plugin.New(plugin.Def[Config]{
		Name:       "bridge",
		Validate:   validate,
		Links:      links,
		Desired:    desired,
		Interfaces: interfaces,
		Footprint:  footprint,
		Kinds:      append([]state.Kind{macspoof.Kind{}}, iface.Kinds()...),
		Ready:      ready,
	})
}

func links(_ context.Context, c *Config, r *plugin.Request, _ state.Reader) (state.Plan, error) {
	requested, err := c.RequestedMAC(r, "")
	if err != nil {
		return nil, err
	}
	trunk, err := c.trunk()
	if err != nil {
		return nil, err
	}
	plan := state.Plan{
		state.Share(link.Bridge{Name: c.bridge(), MTU: c.MTU, Promiscuous: c.PromiscMode, FiltersVLANs: c.filtersVLANs()}),
		state.Share(c.settings(c.bridge())),
		state.Own(link.Veth{
			Owner:         r.Owner,
			Name:          hostEnd(c, r),
			Peer:          r.IfName,
			MAC:           iface.MAC(r, requested),
			MTU:           c.MTU,
			PeerMTU:       iface.MTU(r),
			Bridge:        c.bridge(),
			Hairpin:       c.HairpinMode,
			Isolated:      c.PortIsolation,
			Locked:        c.quiet(r),
			NoIPv6Address: true,
		}),
	}
	if c.filtersVLANs() {
		plan = append(plan, state.On(link.Key(hostEnd(c, r)), link.PortVLANs{
			Bridge: c.bridge(), Port: hostEnd(c, r), Native: c.VLAN, Trunk: trunk, KeepDefault: c.PreserveDefaultVLAN,
		}))
	}
	if port := c.vlanPort(); port != "" {
		plan = append(plan,
			state.Share(link.VLANPort{Bridge: c.bridge(), VLAN: c.VLAN, MTU: c.MTU}),
			state.Share(c.settings(port)),
		)
	}
	return plan, nil
}

// settings are those of an interface of the host that is the containers'
// router: its addresses and routes are ours to give.
func (c *Config) settings(name string) sysctl.Settings {
	conf := "ipv6/conf/" + name + "/"
	s := sysctl.Settings{NS: state.Host, Initial: true, Optional: true, Values: []sysctl.Setting{{Name: conf + "accept_ra", Value: "0"}}}
	if !c.EnableDAD {
		s.Values = append(s.Values, sysctl.Setting{Name: conf + "accept_dad", Value: "0"})
	}
	return s
}

// desired gives the container its addresses, if there is IPAM, and the bridge
// the gateways'.
func desired(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, rd state.Reader) (state.Plan, error) {
	plan, err := spoofing(c, r, rd)
	if err != nil || c.DisableContainerInterface {
		return plan, err
	}
	inside := iface.Interface{
		Name: r.IfName, Within: link.Key(hostEnd(c, r)), Port: hostEnd(c, r),
		ACD: c.ACD, DAD: c.EnableDAD, AcceptRA: c.AcceptRA,
		// Without a gateway the network may be one that the bridge is only part of.
		Fresh: r.Fresh && c.gateway(), Router: c.router(),
	}
	unlocked := state.Plan{}
	if c.quiet(r) {
		unlocked = append(unlocked, state.On(inside.Within, link.Unlocked{Port: inside.Port}))
	}
	if r.Config.IPAM.Type == "" {
		return slices.Concat(plan, inside.Configure(result), unlocked), nil
	}

	c.complete(result)
	if err := iface.ApplyDefaultRoute(c.DefaultRoute, r, result, rd); err != nil {
		return nil, err
	}
	if c.gateway() {
		for _, ip := range result.IPs {
			plan = append(plan, state.Share(addr.Gateway{
				Link: c.router(), Prefix: netip.PrefixFrom(ip.Gateway, ip.Address.Bits()),
				Force: c.ForceAddress, DAD: c.EnableDAD,
			}))
		}
		plan = append(plan, iface.Forwarding(result)...)
	}
	plan = append(plan, inside.Configure(result)...)
	plan = append(plan, inside.Routes(result)...)
	if c.IPMasq {
		plan = append(plan, iface.Masquerade(r, result, c.IPMasqBackend))
	}
	return append(append(plan, unlocked...), inside.Announce(result), state.On(inside.Within, route.NoGroups{Port: inside.Port})), nil
}

// quiet reports whether a container has nothing to say before it is configured:
// it asks neither a DHCP server, nor whether its addresses are taken.
func (c *Config) quiet(r *plugin.Request) bool {
	own := []string{"", "host-local", "static"} // others might use the link
	return !c.DisableContainerInterface && !c.ACD && !c.EnableDAD && slices.Contains(own, r.Config.IPAM.Type)
}

// spoofing plans that the container sends from its own hardware address alone,
// before it can send anything.
func spoofing(c *Config, r *plugin.Request, rd state.Reader) (state.Plan, error) {
	if !c.MACSpoofChk {
		return nil, nil
	}
	mac := iface.MAC(r, nil)
	if mac == nil {
		conn, err := rd.Route(state.Sandbox)
		if err != nil {
			return nil, err
		}
		inside, err := conn.Known(r.IfName)
		if errors.Is(err, rtnl.ErrNotFound) {
			return nil, nil // which CHECK finds out by itself
		}
		if err != nil {
			return nil, err
		}
		mac = inside.MAC
	}
	return state.Plan{state.Own(macspoof.Check{Owner: r.Owner, Port: hostEnd(c, r), MAC: mac})}, nil
}

// complete adds to a result of IPAM the gateways, by default the first address
// of a subnet, and the default routes that the configuration asks for.
func (c *Config) complete(result *cni.Result) {
	for i := range result.IPs {
		ip := &result.IPs[i]
		if c.gateway() && !ip.Gateway.IsValid() {
			ip.Gateway = ip.Address.Masked().Addr().Next()
		}
		if !c.IsDefaultGateway {
			continue
		}
		everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if ip.Address.Addr().Is6() {
			everywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if !slices.ContainsFunc(result.Routes, func(r cni.Route) bool { return r.Dst == everywhere }) {
			result.Routes = append(result.Routes, cni.Route{Dst: everywhere, GW: ip.Gateway})
		}
	}
}

// hostEnd returns the name of the pair's end on the host, which a bridge called
// veth-something must not be taken for.
func hostEnd(c *Config, r *plugin.Request) string {
	return iface.HostEnd(r, c.bridge(), link.VLANPortName(c.bridge(), c.VLAN))
}

func ready(ctx context.Context, c *Config, _ *plugin.Request, r state.Reader) error {
	if err := link.Available(r, "bridge", "veth"); err != nil {
		return err
	}
	if c.filtersVLANs() {
		if err := link.VLANsAvailable(r); err != nil {
			return err
		}
	}
	if c.MACSpoofChk {
		if err := macspoof.Available(ctx, r); err != nil {
			return cni.Errorf(cni.CodeUnavailable, "macspoofchk: %w", err)
		}
	}
	return iface.Ready(ctx, c.IPMasq, c.IPMasqBackend, r)
}

func interfaces(c *Config, r *plugin.Request) []state.Key {
	keys := []state.Key{link.Key(c.bridge()), link.Key(hostEnd(c, r)), link.SandboxKey(r.IfName)}
	if port := c.vlanPort(); port != "" {
		keys = append(keys, link.Key(port))
	}
	return keys
}

func footprint(c *Config, r *plugin.Request, addrs []netip.Addr) []state.Key {
	previous, _ := r.Previous()
	return append(iface.Footprint(r, addrs, c.bridge(), link.VLANPortName(c.bridge(), c.VLAN)), macspoof.Key(r.Owner, hostEnd(c, r), previous.MAC))
}
