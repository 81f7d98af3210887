package iface

import (
	"net"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
)

// MACKeys are the keys by which a configuration and its runtime ask for a
// hardware address.
type MACKeys struct {
	Args struct {
		CNI struct {
			MAC string `json:"mac" schema:"is=mac"` // comes before MAC of CNI_ARGS
		} `json:"cni"`
	} `json:"args"`
	RuntimeConfig struct {
		MAC string `json:"mac" schema:"is=mac"` // comes before both
	} `json:"runtimeConfig"`
}

// RequestedMAC returns the hardware address that is asked for, nil for none. The
// plugin's own key "mac", empty if it has none, comes last.
func (k MACKeys) RequestedMAC(r *plugin.Request, own string) (net.HardwareAddr, error) {
	fromArgs, _ := r.Args.Get("MAC")
	for _, source := range []struct {
		key, value string
		code       cni.Code
	}{
		{"runtimeConfig.mac", k.RuntimeConfig.MAC, cni.CodeInvalidConfig},
		{"args.cni.mac", k.Args.CNI.MAC, cni.CodeInvalidConfig},
		{"MAC of CNI_ARGS", fromArgs, cni.CodeInvalidEnvironment},
		{"mac", own, cni.CodeInvalidConfig},
	} {
		if source.value == "" {
			continue
		}
		mac, err := net.ParseMAC(source.value)
		if err != nil || len(mac) != 6 {
			return nil, cni.Errorf(source.code, `%s: %q is not a hardware address, which looks like "c2:11:22:33:44:55"`, source.key, source.value)
		}
		if mac[0]&1 != 0 {
			return nil, cni.Errorf(source.code, "%s: %s is a group's address, which no interface can have; its first byte has to be even", source.key, mac)
		}
		return mac, nil
	}
	return nil, nil
}
