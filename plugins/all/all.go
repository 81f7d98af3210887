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

// A process is one plugin mostly, and each costs what making it takes: pages of
// the program that are looked at, for one. So there are tables of how to make
// them, and none is made but those that are asked for.

type maker[P any] struct {
	name string
	make func() P
}

func makers() []maker[plugin.Plugin] {
	return []maker[plugin.Plugin]{
		{"bandwidth", bandwidth.New},
		{"bridge", bridge.New},
		{dnsname.Name, dnsname.New},
		{"dummy", dummy.New},
		{"firewall", firewall.New},
		{"host-device", hostdevice.New},
		{"ipvlan", ipvlan.New},
		{"loopback", loopback.New},
		{"macvlan", macvlan.New},
		{"portmap", portmap.New},
		{"ptp", ptp.New},
		{"sbr", sbr.New},
		{"tap", tap.New},
		{"tuning", tuning.New},
		{"vlan", vlan.New},
		{"vrf", vrf.New},
	}
}

func ipamMakers() []maker[plugin.IPAM] {
	return []maker[plugin.IPAM]{
		{"dhcp", dhcp.New},
		{"host-local", hostlocal.New},
		{"static", static.New},
	}
}

// find makes the one of a name.
func find[P any](makers []maker[P], name string) (made P, ok bool) {
	for _, m := range makers {
		if m.name == name {
			return m.make(), true
		}
	}
	return made, false
}

// IPAM returns the plugins that allocate addresses.
func IPAM() []plugin.IPAM {
	var plugins []plugin.IPAM
	for _, m := range ipamMakers() {
		plugins = append(plugins, m.make())
	}
	return plugins
}

// FindIPAM returns the plugin of a name that allocates addresses.
func FindIPAM(name string) (plugin.IPAM, bool) { return find(ipamMakers(), name) }

// Plugins returns every plugin, those that allocate addresses last.
func Plugins() []plugin.Plugin {
	var plugins []plugin.Plugin
	for _, m := range makers() {
		plugins = append(plugins, m.make())
	}
	for _, p := range IPAM() {
		plugins = append(plugins, plugin.FromIPAM(p))
	}
	return plugins
}

// Find returns the plugin of a name, be it one that allocates addresses.
func Find(name string) (plugin.Plugin, bool) {
	if p, ok := find(makers(), name); ok {
		return p, true
	}
	if p, ok := FindIPAM(name); ok {
		return plugin.FromIPAM(p), true
	}
	return plugin.Plugin{}, false
}

// OnRequest reports whether a plugin is installed on request only, because its
// presence changes what runtimes do: podman puts dnsname into the lists that it
// writes from then on, and such a list fails without it.
func OnRequest(name string) bool { return name == dnsname.Name }
