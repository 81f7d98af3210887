// Package tap gives a container a tap device, over which a program in it, such
// as a virtual machine's, sends and receives Ethernet frames.
package tap

import (
	"cmp"
	"context"
	"errors"
	"net/netip"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugin/iface"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
)

const kind = "tun"

// maxMTU is what the kernel leaves for a packet beside its Ethernet header.
const maxMTU = 65521

// A Config holds the keys of a tap configuration.
type Config struct {
	// MultiQueue lets a program open the device several times, for a queue
	// each.
	MultiQueue bool `json:"multiQueue"`

	// MTU in bytes; 0 is the kernel's default.
	MTU int `json:"mtu" schema:"min=68 max=65521"`

	// MAC is the hardware address; what a runtime asks for comes before it.
	MAC string `json:"mac" schema:"is=mac"`
	iface.MACKeys

	// Owner and Group are the numbers of who may open the device without
	// being root; nil is nobody.
	Owner *uint32 `json:"owner"`
	Group *uint32 `json:"group"`

	// SELinuxContext is what the device is made in.
	SELinuxContext string `json:"selinuxContext"`

	// Bridge is one in the container, for the device to be a port of.
	Bridge string `json:"bridge" schema:"is=interface"`

	// DefaultRoute says what becomes of the default routes that IPAM gives.
	DefaultRoute iface.DefaultRoute `json:"defaultRoute"`
}

// New returns the plugin.
func New() plugin.Plugin {
	return plugin.New(plugin.Def[Config]{
		Name:     "tap",
		Validate: validate,
		Links:    links,
		Desired:  desired,
		Interfaces: func(_ *Config, r *plugin.Request) []state.Key {
			return iface.Alone(r)
		},
		Footprint: func(_ *Config, r *plugin.Request, addrs []netip.Addr) []state.Key {
			return iface.DeviceFootprint(r, kind, false, addrs)
		},
		Kinds: iface.DeviceKinds(),
		Ready: func(_ context.Context, _ *Config, _ *plugin.Request, _ state.Reader) error {
			return link.TapsAvailable()
		},
	})
}

func validate(c *Config, r *plugin.Request) error {
	if err := r.Args.Check(); err != nil {
		return err
	}
	if _, err := c.RequestedMAC(r, c.MAC); err != nil {
		return err
	}
	if err := iface.ValidateDefaultRoute(c.DefaultRoute); err != nil {
		return err
	}
	if c.Bridge != "" && cni.ValidateIfName(c.Bridge) != nil {
		return cni.Errorf(cni.CodeInvalidConfig, "bridge %q is not a name for an interface: 1 to 15 bytes without slash, colon and space", c.Bridge)
	}
	if c.MTU > maxMTU {
		return cni.Errorf(cni.CodeInvalidConfig, "mtu %d is out of range; a tap device takes up to %d bytes", c.MTU, maxMTU)
	}
	return iface.ValidateMTU(c.MTU)
}

func links(_ context.Context, c *Config, r *plugin.Request, rd state.Reader) (state.Plan, error) {
	requested, err := c.RequestedMAC(r, c.MAC)
	if err != nil {
		return nil, err
	}
	if err := c.findBridge(r, rd); err != nil {
		return nil, err
	}
	d := iface.Wanted(r, kind, c.MTU)
	d.MAC, d.Bridge, d.Label = iface.MAC(r, requested), c.Bridge, c.SELinuxContext
	d.Data = rtnl.Data{Tap: &rtnl.Tap{Owner: number(c.Owner), Group: number(c.Group), MultiQueue: c.MultiQueue}}
	return state.Plan{state.Own(d)}, nil
}

// findBridge fails on ADD if the bridge is not there.
func (c *Config) findBridge(r *plugin.Request, rd state.Reader) error {
	if c.Bridge == "" || r.Verb != cni.VerbAdd {
		return nil
	}
	conn, err := rd.Route(state.Sandbox)
	if err != nil {
		return err
	}
	found, err := conn.Known(c.Bridge)
	if errors.Is(err, rtnl.ErrNotFound) {
		return cni.Errorf(cni.CodeInvalidConfig, "bridge %s: there is no such interface in the sandbox; a plugin before this one has to make it", c.Bridge)
	}
	if err == nil && found.Kind != "bridge" {
		return cni.Errorf(cni.CodeInvalidConfig, "bridge %s is not a bridge, but %s", c.Bridge, cmp.Or(found.Kind, "a device of the machine's own"))
	}
	return err
}

// number returns the ID of a user or group, nil for none.
func number(id *uint32) *int {
	if id == nil {
		return nil
	}
	n := int(*id)
	return &n
}

// desired does not wait for a carrier, which the device has while a program
// has it open.
func desired(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, rd state.Reader) (state.Plan, error) {
	inside := iface.Interface{Name: r.IfName, Within: link.DeviceKey(r.IfName, kind)}
	if r.Config.IPAM.Type == "" {
		return inside.Configure(result), nil
	}
	if err := iface.ApplyDefaultRoute(c.DefaultRoute, r, result, rd); err != nil {
		return nil, err
	}
	return append(inside.Configure(result), inside.Routes(result)...), nil
}
