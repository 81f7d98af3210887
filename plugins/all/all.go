// Package all lists the plugins of this module.
package all

import (
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugins/bridge"
	"github.com/plumb-cni/plumb/plugins/loopback"
	"github.com/plumb-cni/plumb/plugins/ptp"
)

// IPAM returns the plugins that allocate addresses.
func IPAM() []plugin.IPAM {
	return []plugin.IPAM{}
}

// Plugins returns every plugin, in the order of their names.
func Plugins() []plugin.Plugin {
	return []plugin.Plugin{
		bridge.New(),
		loopback.New(),
		ptp.New(),
	}
}

// Find returns the plugin of a name.
func Find(name string) (plugin.Plugin, bool) {
	for _, p := range Plugins() {
		if p.Name() == name {
			return p, true
		}
	}
	return plugin.Plugin{}, false
}
