// Package dummy gives a container an interface that leads nowhere, for
// addresses that have to be somewhere.
package dummy

import (
	"context"
	"net/netip"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugin/iface"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
)

const kind = "dummy"

// A Config holds the keys of a dummy configuration.
type Config struct {
	_ struct{} `schema:"require=ipam.type"`

	// DefaultRoute says what becomes of the default routes that IPAM gives.
	DefaultRoute iface.DefaultRoute `json:"defaultRoute"`
}

// New returns the plugin.
func New() plugin.Plugin {
	return plugin.New(plugin.Def[Config]{
		Name:     "dummy",
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
		Ready: func(_ context.Context, _ *Config, _ *plugin.Request, rd state.Reader) error {
			return link.Available(rd, kind)
		},
	})
}

func validate(c *Config, r *plugin.Request) error {
	if r.Config.IPAM.Type == "" {
		return cni.Errorf(cni.CodeInvalidConfig, `ipam.type is missing: a dummy interface is for its addresses alone; "static" is a plugin that gives them`)
	}
	return iface.ValidateDefaultRoute(c.DefaultRoute)
}

func links(_ context.Context, _ *Config, r *plugin.Request, _ state.Reader) (state.Plan, error) {
	d := iface.Wanted(r, kind, 0)
	d.MAC = iface.MAC(r, nil)
	return state.Plan{state.Own(d)}, nil
}

func desired(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, rd state.Reader) (state.Plan, error) {
	if err := iface.ApplyDefaultRoute(c.DefaultRoute, r, result, rd); err != nil {
		return nil, err
	}
	inside := iface.Interface{Name: r.IfName, Within: link.DeviceKey(r.IfName, kind)}
	return append(inside.Configure(result), inside.Routes(result)...), nil
}
