// Package hostdevice gives a container one of the host's own devices, and the
// host the device back.
package hostdevice

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugin/iface"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/device"
	"github.com/plumb-cni/plumb/state/link"
)

// A Config holds the keys of a host-device configuration. The first of them that
// is set says which device is meant.
type Config struct {
	// Device is the name of the device, or another name that it has.
	Device string `json:"device"`

	// HWAddr is its hardware address.
	HWAddr string `json:"hwaddr"`

	// KernelPath is the folder of its parent device below /sys/devices.
	KernelPath string `json:"kernelpath"`

	// PCIBusID is the address of its parent device on the PCI bus.
	PCIBusID string `json:"pciBusID"`

	// DefaultRoute says what becomes of the default routes that IPAM gives.
	DefaultRoute iface.DefaultRoute `json:"defaultRoute"`

	// ACD waits for others who have the addresses already, and refuses them
	// then (RFC 5227, RFC 4862).
	ACD bool `json:"acd"`

	RuntimeConfig struct {
		// DeviceID is that address, in the place of PCIBusID, or the name
		// of its parent device on the auxiliary bus.
		DeviceID string `json:"deviceID"`
	} `json:"runtimeConfig"`
}

// typeName is the plugin's.
const typeName = "host-device"

// New returns the plugin.
func New() plugin.Plugin {
	return plugin.New(plugin.Def[Config]{
		Name:       typeName,
		Validate:   validate,
		Links:      links,
		Desired:    desired,
		Interfaces: interfaces,
		Observe:    observe,
		Footprint:  footprint,
		NoIPAM:     func(c *Config, _ *plugin.Request) bool { return c.userspace() },
		Kinds:      []state.Kind{device.Kind{}},
	})
}

// validate refuses what can't name a device. Which one is sent at run time is not
// known to STATUS.
func validate(c *Config, r *plugin.Request) error {
	if c.Device == "" && c.HWAddr == "" && c.KernelPath == "" && c.PCIBusID == "" && c.RuntimeConfig.DeviceID == "" && r.Verb != cni.VerbStatus {
		return cni.Errorf(cni.CodeInvalidConfig,
			"no device is named; set device, hwaddr, kernelpath or pciBusID, or have the runtime send deviceID")
	}
	if err := iface.ValidateDefaultRoute(c.DefaultRoute); err != nil {
		return err
	}
	return c.validateNames()
}

// links finds the device, on the host for ADD; CHECK is about what was moved.
func links(_ context.Context, c *Config, r *plugin.Request, rd state.Reader) (state.Plan, error) {
	if c.userspace() {
		return nil, nil
	}
	d := device.Device{As: r.IfName, MAC: iface.MAC(r, nil), MTU: iface.MTU(r)}
	if r.Verb == cni.VerbAdd {
		found, err := c.find(rd)
		if errors.Is(err, cni.CodeInvalidConfig) {
			err = c.held(r, err)
		}
		if err != nil {
			return nil, err
		}
		d.Name, d.Index = found.Name, found.Index
	}
	return state.Plan{state.Own(d)}, nil
}

// desired gives the device what addresses and routes there are. They go when it
// is given back.
func desired(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, rd state.Reader) (state.Plan, error) {
	if c.userspace() {
		return nil, nil
	}
	if err := iface.ApplyDefaultRoute(c.DefaultRoute, r, result, rd); err != nil {
		return nil, err
	}
	inside := iface.Interface{Name: r.IfName, Within: device.FootprintKey(r.IfName, ""), ACD: c.ACD, DAD: c.ACD}
	return append(inside.Configure(result), inside.Routes(result)...), nil
}

func interfaces(c *Config, r *plugin.Request) []state.Key {
	if c.userspace() {
		return nil
	}
	return []state.Key{link.SandboxKey(r.IfName)}
}

// observe adds the address on the PCI bus, which is all there is to tell of a
// device that a driver in user space has.
func observe(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, _ state.Reader) error {
	if c.userspace() {
		result.Interfaces = []cni.Interface{{Name: r.IfName, Sandbox: r.NetNS}}
		result.DNS = r.Config.DNS
	}
	if c.by() == byPCI && r.Config.CNIVersion.AtLeast(cni.V110) {
		result.Interfaces[0].PCIID = c.pci()
	}
	return nil
}

// footprint names what the reference has moved, whose records are in the devices'
// aliases.
func footprint(c *Config, r *plugin.Request, _ []netip.Addr) []state.Key {
	previous, _ := r.Previous()
	return []state.Key{device.FootprintKey(r.IfName, cmp.Or(previous.MAC, strings.ToLower(c.HWAddr), c.Device))}
}
