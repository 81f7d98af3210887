// Package macvlan gives a container an interface on the network of one of the
// host's, with a hardware address of its own.
package macvlan

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

const kind = "macvlan"

// defaultMode lets containers on one master reach each other directly.
const defaultMode = "bridge"

// A Config holds the keys of a macvlan configuration.
type Config struct {
	iface.Parent

	// Mode is "bridge", "private", "vepa" or "passthru"; empty means bridge.
	Mode string `json:"mode" schema:"enum=bridge|private|vepa|passthru"`

	// MTU in bytes, at most the master's; 0 is the master's.
	MTU int `json:"mtu" schema:"min=68 max=65535"`

	// MAC is the hardware address; what a runtime asks for comes before it.
	MAC string `json:"mac" schema:"is=mac"`
	iface.MACKeys

	// BroadcastQueue is how many broadcast and multicast packets of the
	// master may wait to be copied; 0 is the kernel's default of 1000.
	BroadcastQueue uint32 `json:"bcqueuelen"`

	// ACD makes the addresses wait until nobody on the network is found to
	// have them already.
	ACD bool `json:"acd"`

	// AcceptRA says whether the container listens to IPv6 router
	// advertisements. Unset is the kernel's default.
	AcceptRA *bool `json:"acceptRA"`

	// DefaultRoute says what becomes of the default routes that IPAM gives.
	DefaultRoute iface.DefaultRoute `json:"defaultRoute"`
}

// New returns the plugin.
func New() plugin.Plugin {
	return plugin.New(plugin.Def[Config]{
		Name:     "macvlan",
		Validate: validate,
		Links:    links,
		Desired:  desired,
		Interfaces: func(_ *Config, r *plugin.Request) []state.Key {
			return iface.Alone(r)
		},
		Footprint: func(c *Config, r *plugin.Request, addrs []netip.Addr) []state.Key {
			// In mode passthru any other device would have the master's too.
			sharesMAC := c.Mode == "passthru" && len(addrs) > 0
			return iface.DeviceFootprint(r, kind, sharesMAC, addrs)
		},
		Kinds: iface.DeviceKinds(),
		Ready: func(_ context.Context, c *Config, _ *plugin.Request, rd state.Reader) error {
			return c.Ready(kind, c.MTU, rd)
		},
	})
}

func (c *Config) mode() string {
	if c.Mode == "" {
		return defaultMode
	}
	return c.Mode
}

func validate(c *Config, r *plugin.Request) error {
	if modes := rtnl.Modes(kind); !slices.Contains(modes, c.mode()) {
		return cni.Errorf(cni.CodeInvalidConfig, "mode %q is none of %s", c.Mode, strings.Join(modes, ", "))
	}
	if err := r.Args.Check(); err != nil {
		return err
	}
	if _, err := c.RequestedMAC(r, c.MAC); err != nil {
		return err
	}
	if err := iface.ValidateDefaultRoute(c.DefaultRoute); err != nil {
		return err
	}
	return iface.ValidateMTU(c.MTU)
}

func links(_ context.Context, c *Config, r *plugin.Request, rd state.Reader) (state.Plan, error) {
	requested, err := c.RequestedMAC(r, c.MAC)
	if err != nil {
		return nil, err
	}
	d := iface.Wanted(r, kind, c.MTU)
	d.MAC = iface.MAC(r, requested)
	d.Data = rtnl.Data{Mode: c.mode(), BroadcastQueue: int(c.BroadcastQueue)}
	parent, err := c.Under(&d, r, rd)
	if err != nil {
		return nil, err
	}
	if parent != nil {
		if err := iface.WithinMTU(c.MTU, parent); err != nil {
			return nil, err
		}
	}
	return state.Plan{state.Own(d)}, nil
}

func desired(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, rd state.Reader) (state.Plan, error) {
	inside := iface.Interface{
		Name: r.IfName, Within: link.DeviceKey(r.IfName, kind), Stacked: true,
		ACD: c.ACD, DAD: c.ACD, AcceptRA: c.AcceptRA,
	}
	if r.Config.IPAM.Type == "" {
		return inside.Configure(result), nil
	}
	if err := iface.ApplyDefaultRoute(c.DefaultRoute, r, result, rd); err != nil {
		return nil, err
	}
	return inside.Connect(result), nil
}
