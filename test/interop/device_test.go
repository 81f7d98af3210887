package interop

import "github.com/plumb-cni/plumb/cni"

// deviceCases are those of the plugins whose interface is a single device.
func deviceCases(static string) []kernelCase {
	const master = "ip link add " + wire + "0 type veth peer name " + wire + "1; ip link set " + wire + "0 up; ip link set " + wire + "1 up"
	device := func(plugin, ipam, more string) network {
		return network{plugin: plugin, version: cni.V110, ipam: ipam, more: more, setup: master, needs: []string{plugin}}
	}
	onHost := func(plugin, ipam, more string) network { return device(plugin, ipam, `,"master":"`+wire+`0"`+more) }
	inContainer := func(plugin, more string) network {
		n := onHost(plugin, static, more+`,"linkInContainer":true`)
		n.setup, n.inside = "", master
		return n
	}
	hostDevice := func(ipam string) network {
		n := device("host-device", ipam, `,"device":"`+wire+`0"`)
		n.needs = nil
		return n
	}
	alone := func(plugin, more string) network {
		return network{plugin: plugin, version: cni.V110, ipam: static, more: more, needs: []string{plugin}}
	}
	tap := func(more string) network { // the reference waits five seconds for an IPv6 address of a device without a carrier
		n := alone("tap", more)
		n.ipam = `{"type":"static","addresses":[{"address":"10.22.0.5/24"}]}`
		return n
	}
	tapPort := tap(`,"bridge":"` + bridgeName + `"`)
	tapPort.ipam, tapPort.inside = "{}", "ip link add "+bridgeName+" type bridge"
	cases := []kernelCase{
		{"host-device-l2", hostDevice("{}")},
		{"host-device-static", hostDevice(static)},
		{"macvlan-mtu", onHost("macvlan", static, `,"mtu":1400`)},
		{"macvlan-mac", onHost("macvlan", static, `,"mac":"02:aa:bb:cc:dd:ee"`)},
		{"macvlan-l2", onHost("macvlan", "{}", "")},
		{"macvlan-inside", inContainer("macvlan", "")},
		{"ipvlan-mtu", onHost("ipvlan", static, `,"mtu":1400`)},
		{"ipvlan-inside", inContainer("ipvlan", "")},
		{"vlan-mtu", onHost("vlan", static, `,"vlanId":7,"mtu":1400`)},
		{"vlan-inside", inContainer("vlan", `,"vlanId":7`)},
		{"dummy", alone("dummy", "")},
		{"tap", alone("tap", "")},
		{"tap-mtu", tap(`,"mtu":1400,"mac":"02:aa:bb:cc:dd:ee"`)},
		{"tap-queues", tap(`,"multiQueue":true`)},
		{"tap-owner", tap(`,"owner":1000,"group":1001`)},
		{"tap-port", tapPort},
	}
	for _, mode := range []string{"bridge", "private", "vepa", "passthru"} {
		cases = append(cases, kernelCase{"macvlan-" + mode, onHost("macvlan", static, `,"mode":"`+mode+`"`)})
	}
	for _, mode := range []string{"l2", "l3", "l3s"} {
		cases = append(cases, kernelCase{"ipvlan-" + mode, onHost("ipvlan", static, `,"mode":"`+mode+`"`)})
	}
	return cases
}

// bridgeCases are those of what happens at the ports of a bridge.
func bridgeCases() []kernelCase {
	port := func(more string, needs ...string) network {
		return network{plugin: "bridge", version: cni.V110, ipam: "{}", more: more, needs: needs}
	}
	return []kernelCase{
		{"bridge-vlan", port(`,"vlan":7`, "bridge-vlan")},
		{"bridge-vlan-preserved", port(`,"vlan":7,"preserveDefaultVlan":true`, "bridge-vlan")},
		{"bridge-vlan-alone", port(`,"vlan":7,"preserveDefaultVlan":false`, "bridge-vlan")},
		{"bridge-vlan-trunk", port(`,"vlanTrunk":[{"id":7},{"minID":10,"maxID":12}]`, "bridge-vlan")},
		{"bridge-vlan-trunk-alone", port(`,"vlanTrunk":[{"id":7},{"minID":10,"maxID":12}],"preserveDefaultVlan":false`, "bridge-vlan")},
		{"bridge-vlan-gateway-nftables", network{
			plugin: "bridge", family: dual, backend: "nftables", version: cni.V110, more: `,"vlan":7`, needs: []string{"bridge-vlan", "vlan"},
		}},
		{"bridge-spoof", port(`,"macspoofchk":true`, "nft-bridge")},
	}
}
