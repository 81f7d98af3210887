// Package loopback sets a container's loopback device up.
package loopback

import (
	"context"
	"net/netip"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
)

// A Config has no keys of its own.
type Config struct{}

// New returns the plugin.
func New() plugin.Plugin {
	return plugin.New(plugin.Def[Config]{
		Name:      "loopback",
		Desired:   desired,
		Observe:   observe,
		Footprint: footprint,
		Kinds:     []state.Kind{link.LoopbackKind{}},
	})
}

func desired(_ context.Context, _ *Config, r *plugin.Request, _ *cni.Result, _ state.Reader) (state.Plan, error) {
	return state.Plan{state.Own(link.Loopback{Owner: r.Owner})}, nil
}

func footprint(*Config, *plugin.Request, []netip.Addr) []state.Key {
	return []state.Key{link.Loopback{}.Key()}
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
