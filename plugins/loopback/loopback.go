// Package loopback sets a container's loopback device up.
package loopback

import (
	"context"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
)

// A Config has no keys of its own.
type Config struct{}

// New returns the plugin. It has no footprint: a device that is up does not tell
// who has set it up, and the path of the namespace may lead to another
// container's by now, so that DEL touches only what is recorded.
func New() plugin.Plugin {
	return plugin.New(plugin.Def[Config]{
		Name:    "loopback",
		Desired: desired,
		Observe: observe,
		Kinds:   []state.Kind{link.LoopbackKind{}},
	})
}

func desired(context.Context, *Config, *plugin.Request, *cni.Result, state.Reader) (state.Plan, error) {
	return state.Plan{state.Own(link.Loopback{})}, nil
}

// observe reports the device with the addresses that the kernel gave it, unless
// there is a result of a plugin before this one, which passes as it is.
func observe(_ context.Context, _ *Config, r *plugin.Request, result *cni.Result, rd state.Reader) error {
	if r.Config.PrevResult != nil {
		return nil
	}
	conn, err := rd.Route(state.Sandbox)
	if err != nil {
		return err
	}
	lo, err := conn.Known(link.LoopbackName)
	if err != nil {
		return err
	}
	addrs, err := conn.Addrs(lo.Index)
	if err != nil {
		return err
	}
	result.Interfaces = []cni.Interface{{Name: lo.Name, MAC: lo.MAC.String(), Sandbox: r.NetNS}}
	for _, a := range addrs {
		result.IPs = append(result.IPs, cni.IP{Address: a.Prefix, Interface: new(int)})
	}
	return nil
}
