// Package vlan gives a container an interface on a VLAN (IEEE 802.1Q) of one of
// the host's.
package vlan

import (
	"context"
	"net/netip"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugin/iface"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
)

const kind = "vlan"

// maxID is the highest VLAN ID; 4095 is reserved.
const maxID = 4094

// A Config holds the keys of a vlan configuration.
type Config struct {
	_ struct{} `schema:"require=master,ipam.type"`

	iface.Parent

	// VLANID is the ID; 0 is for packets that have only a priority.
	VLANID *int `json:"vlanId" schema:"required min=0 max=4094"`

	// MTU in bytes, at most the master's; 0 is the master's.
	MTU int `json:"mtu" schema:"min=68 max=65535"`

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
		Name:     "vlan",
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
		Ready: func(_ context.Context, c *Config, _ *plugin.Request, rd state.Reader) error {
			return c.Ready(kind, c.MTU, rd)
		},
	})
}

func validate(c *Config, r *plugin.Request) error {
	switch {
	case c.Master == "":
		return cni.Errorf(cni.CodeInvalidConfig, `master is missing: the interface that the VLAN is on, "eth0" for instance`)
	case c.VLANID == nil:
		return cni.Errorf(cni.CodeInvalidConfig, "vlanId is missing: a number from 0 to %d", maxID)
	case *c.VLANID < 0 || *c.VLANID > maxID:
		return cni.Errorf(cni.CodeInvalidConfig, "vlanId %d is out of range; there are 0 to %d", *c.VLANID, maxID)
	case r.Config.IPAM.Type == "":
		return cni.Errorf(cni.CodeInvalidConfig, `ipam.type is missing: the interface needs an address; "host-local" is a plugin that gives one`)
	}
	if err := iface.ValidateDefaultRoute(c.DefaultRoute); err != nil {
		return err
	}
	return iface.ValidateMTU(c.MTU)
}

func links(_ context.Context, c *Config, r *plugin.Request, rd state.Reader) (state.Plan, error) {
	d := iface.Wanted(r, kind, c.MTU)
	d.MAC = iface.MAC(r, nil)
	d.Data = rtnl.Data{VLAN: c.VLANID}
	parent, err := c.Under(&d, r, rd)
	if err != nil {
		return nil, err
	}
	if parent != nil {
		if !parent.Up {
			return nil, cni.Errorf(cni.CodeTryAgain, "master %s is down, and its VLANs with it; set it up", c.Master)
		}
		if err := iface.WithinMTU(c.MTU, parent); err != nil {
			return nil, err
		}
	}
	return state.Plan{state.Own(d)}, nil
}

func desired(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, rd state.Reader) (state.Plan, error) {
	if err := iface.ApplyDefaultRoute(c.DefaultRoute, r, result, rd); err != nil {
		return nil, err
	}
	return iface.Interface{
		Name: r.IfName, Within: link.DeviceKey(r.IfName, kind), Stacked: true,
		ACD: c.ACD, DAD: c.ACD, AcceptRA: c.AcceptRA,
	}.Connect(result), nil
}
