// Package all lists the plugins of this module.
package all

import (
	"github.com/plumb-cni/plumb/ipam/dhcp"
	"github.com/plumb-cni/plumb/ipam/hostlocal"
	"github.com/plumb-cni/plumb/ipam/static"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugins/bandwidth"
	"github.com/plumb-cni/plumb/plugins/bridge"
	"github.com/plumb-cni/plumb/plugins/dnsname"
	"github.com/plumb-cni/plumb/plugins/dummy"
	"github.com/plumb-cni/plumb/plugins/firewall"
	"github.com/plumb-cni/plumb/plugins/hostdevice"
	"github.com/plumb-cni/plumb/plugins/ipvlan"
	"github.com/plumb-cni/plumb/plugins/loopback"
	"github.com/plumb-cni/plumb/plugins/macvlan"
	"github.com/plumb-cni/plumb/plugins/portmap"
	"github.com/plumb-cni/plumb/plugins/ptp"
	"github.com/plumb-cni/plumb/plugins/sbr"
	"github.com/plumb-cni/plumb/plugins/tap"
	"github.com/plumb-cni/plumb/plugins/tuning"
	"github.com/plumb-cni/plumb/plugins/vlan"
	"github.com/plumb-cni/plumb/plugins/vrf"
)

// IPAM returns the plugins that allocate addresses.
func IPAM() []plugin.IPAM {
	return []plugin.IPAM{
		dhcp.New(),
		hostlocal.New(),
		static.New(),
	}
}

// Plugins returns every plugin, those that allocate addresses last.
func Plugins() []plugin.Plugin {
	plugins := []plugin.Plugin{
		bandwidth.New(),
		bridge.New(),
		dnsname.New(),
		dummy.New(),
		firewall.New(),
		hostdevice.New(),
		ipvlan.New(),
		loopback.New(),
		macvlan.New(),
		portmap.New(),
		ptp.New(),
		sbr.New(),
		tap.New(),
		tuning.New(),
		vlan.New(),
		vrf.New(),
	}
	for _, p := range IPAM() {
		plugins = append(plugins, plugin.FromIPAM(p))
	}
	return plugins
}

// OnRequest reports whether a plugin is installed on request only, because its
// presence changes what runtimes do: podman puts dnsname into the lists that it
// writes from then on, and such a list fails without it.
func OnRequest(name string) bool { return name == dnsname.Name }

// Find returns the plugin of a name.
func Find(name string) (plugin.Plugin, bool) {
	for _, p := range Plugins() {
		if p.Name() == name {
			return p, true
		}
	}
	return plugin.Plugin{}, false
}
