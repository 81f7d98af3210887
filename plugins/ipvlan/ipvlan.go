// Package ipvlan gives a container an interface on the network of one of the
// host's, whose hardware address it shares.
package ipvlan

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugin/iface"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
)

const kind = "ipvlan"

// defaultMode puts the container on the master's link, with neighbours.
const defaultMode = "l2"

// A Config holds the keys of an ipvlan configuration.
type Config struct {
	iface.Parent

	// Mode is "l2", "l3" or "l3s"; empty means l2.
	Mode string `json:"mode" schema:"enum=l2|l3|l3s"`

	// MTU in bytes; 0 is the master's.
	MTU int `json:"mtu" schema:"min=68 max=65535"`

	// AcceptRA says whether the container listens to IPv6 router
	// advertisements. Unset is the kernel's default.
	AcceptRA *bool `json:"acceptRA"`

	// DefaultRoute says what becomes of the default routes that IPAM gives.
	DefaultRoute iface.DefaultRoute `json:"defaultRoute"`
}

// New returns the plugin.
func New() plugin.Plugin {
	return plugin.New(plugin.Def[Config]{
		Name:     "ipvlan",
		Validate: validate,
		Links:    links,
		Desired:  desired,
		Interfaces: func(_ *Config, r *plugin.Request) []state.Key {
			return iface.Alone(r)
		},
		Footprint: func(_ *Config, r *plugin.Request, addrs []netip.Addr) []state.Key {
			return iface.DeviceFootprint(r, kind, true, addrs)
		},
		Kinds: iface.DeviceKinds(),
		Ready: ready,
	})
}

func (c *Config) mode() string {
	if c.Mode == "" {
		return defaultMode
	}
	return c.Mode
}

// chained reports whether the addresses come from a plugin before this one.
func chained(r *plugin.Request) bool {
	return r.Config.IPAM.Type == "" && r.Config.PrevResult != nil
}

func validate(c *Config, r *plugin.Request) error {
	if modes := rtnl.Modes(kind); !slices.Contains(modes, c.mode()) {
		return cni.Errorf(cni.CodeInvalidConfig, "mode %q is none of %s", c.Mode, strings.Join(modes, ", "))
	}
	if r.Verb == cni.VerbAdd && r.Config.IPAM.Type == "" && (!chained(r) || len(r.Config.PrevResult.IPs) == 0) {
		return cni.Errorf(cni.CodeInvalidConfig,
			`ipam.type is missing, and no plugin before this one has given an address; "host-local" is one that does`)
	}
	if err := iface.ValidateDefaultRoute(c.DefaultRoute); err != nil {
		return err
	}
	return iface.ValidateMTU(c.MTU)
}

func links(_ context.Context, c *Config, r *plugin.Request, rd state.Reader) (state.Plan, error) {
	parent, err := c.parent(r)
	if err != nil {
		return nil, err
	}
	// Its hardware address is the master's, and changes with that.
	d := iface.Wanted(r, kind, c.MTU)
	d.Data = rtnl.Data{Mode: c.mode()}
	if _, err := parent.Under(&d, r, rd); err != nil {
		return nil, err
	}
	return state.Plan{state.Own(d)}, nil
}

// parent returns the interface to be made on: where none is named, the one that
// the plugins before this one have given on ADD.
func (c *Config) parent(r *plugin.Request) (iface.Parent, error) {
	p := c.Parent
	if p.Master != "" || r.Verb != cni.VerbAdd || r.Config.PrevResult == nil {
		return p, nil
	}
	given := r.Config.PrevResult.Interfaces
	if len(given) != 1 || given[0].Name == "" {
		return p, cni.Errorf(cni.CodeInvalidConfig,
			"master is missing, and prevResult has %d interfaces where it has to have one, with a name, to take its place; name the master", len(given))
	}
	p.Master = given[0].Name
	return p, nil
}

func desired(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, rd state.Reader) (state.Plan, error) {
	if r.Verb == cni.VerbAdd && chained(r) {
		given := r.Config.PrevResult.Clone()
		result.IPs, result.Routes, result.DNS = given.IPs, given.Routes, given.DNS
	}
	if err := iface.ApplyDefaultRoute(c.DefaultRoute, r, result, rd); err != nil {
		return nil, err
	}
	inside := iface.Interface{
		Name: r.IfName, Within: link.DeviceKey(r.IfName, kind), Stacked: true, SharedMAC: true, AcceptRA: c.AcceptRA,
	}
	return append(inside.Configure(result), inside.Routes(result)...), nil
}

// ready looks for the master, unless that may come from another plugin.
func ready(_ context.Context, c *Config, r *plugin.Request, rd state.Reader) error {
	if c.Master == "" && r.Config.IPAM.Type == "" {
		return link.Available(rd, kind)
	}
	return c.Ready(kind, 0, rd)
}
