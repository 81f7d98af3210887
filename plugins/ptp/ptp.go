// Package ptp connects a container to the host by a pair of virtual Ethernet
// devices, over which all its traffic is routed.
package ptp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugin/iface"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/addr"
	"github.com/plumb-cni/plumb/state/link"
	"github.com/plumb-cni/plumb/state/route"
	"github.com/plumb-cni/plumb/state/sysctl"
)

// A Config holds the keys of a ptp configuration.
type Config struct {
	_ struct{} `schema:"require=ipam.type"`

	// IPMasq hides the container's address from what lies outside its
	// subnet.
	IPMasq bool `json:"ipMasq"`

	// IPMasqBackend is "nftables" or "iptables"; empty takes nftables where
	// the kernel has it.
	IPMasqBackend string `json:"ipMasqBackend" schema:"enum=nftables|iptables"`

	// MTU of both ends in bytes; 0 is the kernel's default.
	MTU int `json:"mtu" schema:"min=68 max=65535"`

	// AcceptRA says whether the container listens to IPv6 router
	// advertisements. Unset is the kernel's default, but no if IPAM gives
	// an IPv6 address.
	AcceptRA *bool `json:"acceptRA"`

	// DefaultRoute says what becomes of the default routes that IPAM gives.
	DefaultRoute iface.DefaultRoute `json:"defaultRoute"`
}

// New returns the plugin.
func New() plugin.Plugin {
	return plugin.New(plugin.Def[Config]{
		Name:       "ptp",
		Validate:   validate,
		Links:      links,
		Desired:    desired,
		Interfaces: interfaces,
		Footprint:  footprint,
		Kinds:      iface.Kinds(),
		Ready:      ready,
	})
}

func validate(c *Config, r *plugin.Request) error {
	if r.Config.IPAM.Type == "" {
		return cni.Errorf(cni.CodeInvalidConfig, `ipam.type is missing: ptp routes to addresses, which an IPAM plugin has to give; "host-local" is one`)
	}
	if err := iface.ValidateBackend(c.IPMasqBackend); err != nil {
		return err
	}
	if err := iface.ValidateDefaultRoute(c.DefaultRoute); err != nil {
		return err
	}
	return iface.ValidateMTU(c.MTU)
}

func links(_ context.Context, c *Config, r *plugin.Request, _ state.Reader) (state.Plan, error) {
	return state.Plan{state.Own(link.Veth{
		Owner:   r.Owner,
		Name:    iface.HostEnd(r),
		Peer:    r.IfName,
		MAC:     iface.MAC(r, nil),
		MTU:     c.MTU,
		PeerMTU: iface.MTU(r),

		NoIPv6Address: true, // it is given one if need be
	})}, nil
}

// neighbours gives the host end a link-local address, from which the host asks for
// the container's. It has no subnet: of each that a router has, the kernel makes it
// answer to an anycast address too, for which it waits twice as long when the link
// is deleted. The route to the subnet does as well.
func neighbours(r *plugin.Request, result *cni.Result, rd state.Reader) (state.Plan, error) {
	if !slices.ContainsFunc(result.IPs, func(ip cni.IP) bool { return ip.Address.Addr().Is6() }) {
		return nil, nil
	}
	conn, err := rd.Route(state.Host)
	if err != nil {
		return nil, err
	}
	end, err := conn.Known(iface.HostEnd(r))
	if errors.Is(err, rtnl.ErrNotFound) && r.Verb == cni.VerbCheck {
		return nil, nil // CHECK says so of the link
	}
	if err != nil {
		return nil, err
	}
	on := func(res state.Resource) state.Step { return state.On(link.Key(end.Name), state.Beyond(res)) }
	return state.Plan{
		on(addr.Address{NS: state.Host, Link: end.Name, Prefix: single(linkLocal(end.MAC)), NoDAD: true}),
		on(route.Route{NS: state.Host, Link: end.Name, Dst: netip.MustParsePrefix("fe80::/64")}),
	}, nil
}

// linkLocal returns the address that follows from a hardware address (RFC 4291,
// appendix A).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// desired routes everything through the gateway, which is the host end: a veth
// is not a point-to-point device to the kernel, so the container is given its
// subnet's prefix without a route to it, a route to the gateway alone, and the
// subnet behind that.
func desired(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, rd state.Reader) (state.Plan, error) {
	if err := iface.ApplyDefaultRoute(c.DefaultRoute, r, result, rd); err != nil {
		return nil, err
	}
	host := iface.HostEnd(r)
	pair := link.Key(host)
	inside := iface.Interface{
		Name: r.IfName, Within: pair, AcceptRA: c.AcceptRA, NoPrefixRoute: true,
		Fresh: true, Router: host, // a pair that is new has no neighbours that remember anything
	}

	plan := iface.Forwarding(result)
	plan = append(plan, state.On(pair, sysctl.Settings{
		// A container's advertisements shall not give the host routes.
		NS: state.Host, Initial: true, Optional: true,
		Values: []sysctl.Setting{{Name: "ipv6/conf/" + host + "/accept_ra", Value: "0"}},
	}))
	asking, err := neighbours(r, result, rd)
	if err != nil {
		return nil, err
	}
	plan = append(plan, asking...)
	for _, ip := range result.IPs {
		if !ip.Gateway.IsValid() {
			return nil, cni.Errorf(cni.CodeInvalidConfig,
				"address %s has no gateway, through which ptp routes everything; give it one in ipam", ip.Address)
		}
		plan = append(plan,
			state.On(pair, addr.Address{NS: state.Host, Link: host, Prefix: single(ip.Gateway), NoDAD: true}),
			state.On(pair, route.Route{
				NS: state.Host, Link: host, Dst: single(ip.Address.Addr()), Scope: route.ScopeHost, Sole: true,
			}),
		)
	}
	plan = append(plan, inside.Configure(result)...)
	for _, ip := range result.IPs {
		plan = append(plan,
			state.On(pair, route.Route{
				NS: state.Sandbox, Link: r.IfName, Dst: single(ip.Gateway), Scope: route.ScopeLink, Src: ip.Address.Addr(),
			}),
			state.On(pair, route.Route{
				NS: state.Sandbox, Link: r.IfName, Dst: ip.Address.Masked(), Gateway: ip.Gateway, Src: ip.Address.Addr(),
			}),
		)
	}
	plan = append(plan, inside.Routes(result)...)
	if c.IPMasq {
		plan = append(plan, iface.Masquerade(r, result, c.IPMasqBackend))
	}
	return append(plan, inside.Announce(result)), nil
}

// single returns the prefix that holds one address alone.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func ready(ctx context.Context, c *Config, _ *plugin.Request, r state.Reader) error {
	if err := link.Available(r, "veth"); err != nil {
		return err
	}
	return iface.Ready(ctx, c.IPMasq, c.IPMasqBackend, r)
}

func interfaces(_ *Config, r *plugin.Request) []state.Key {
	return []state.Key{link.Key(iface.HostEnd(r)), link.SandboxKey(r.IfName)}
}

func footprint(_ *Config, r *plugin.Request, addrs []netip.Addr) []state.Key {
	return iface.Footprint(r, addrs)
}
