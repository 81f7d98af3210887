package interop

import "github.com/plumb-cni/plumb/cni"

// deviceCases are those of a host's device that moves, and of routes that do.
func deviceCases(static string) []kernelCase {
	device := func(ipam string) network {
		return network{
			plugin: "host-device", version: cni.V110, more: `,"device":"` + wire + `0"`, ipam: ipam,
			setup: "ip link add " + wire + "0 type veth peer name " + wire + "1; ip link set " + wire + "0 up; ip link set " + wire + "1 up",
		}
	}
	bySource := chain{name: "sbr", plugins: []string{`{"type":"sbr"}`}}
	byTable := chain{name: "sbr-table", plugins: []string{`{"type":"sbr","table":77}`}}
	return []kernelCase{
		{"host-device-l2", device("{}")},
		{"host-device-static", device(static)},
		{"bridge-static-sbr", network{plugin: "bridge", version: cni.V110, more: `,"isGateway":true`, ipam: static, chain: bySource}},
		{"bridge-static-sbr-table", network{plugin: "bridge", version: cni.V110, more: `,"isGateway":true`, ipam: static, chain: byTable}},
	}
}
