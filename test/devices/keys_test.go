package devices_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// addresses is a section "ipam" with a default route of each family.
const addresses = `"ipam":{"type":"static","addresses":[{"address":"10.88.0.2/24","gateway":"10.88.0.1"},{"address":"fd00:88::2/64","gateway":"fd00:88::1"}],
	"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}`

// An attached container with what it got.
type attached struct {
	*attach.Attachment
	result *cni.Result
	link   host.Link
}

// An effect is what one key changes: what look sees without it, and with it.
type effect struct {
	key           string // as it stands in a configuration, with a comma behind
	args          string // or in CNI_ARGS
	look          func(*testing.T, attached) any
	without, with any
}

// see adds a container without each key and with it, on a LAN. The container
// has a bridge and a pair of Ethernet devices of its own.
func see(t *testing.T, plugin, base string, effects ...effect) {
	t.Helper()
	t.Run(strings.ReplaceAll(base, addresses, `"ipam":{}`), func(t *testing.T) {
		lan(t)
		for _, e := range effects {
			e.see(t, plugin, base)
		}
	})
}

func (e effect) see(t *testing.T, plugin, base string) {
	t.Helper()
	add := func(t *testing.T, key, args string, look func(*testing.T, attached) any) string {
		a := attach.New(t, fmt.Sprintf(`{%s%s"cniVersion":"1.1.0","name":"keys","type":%q}`, key, base, plugin), "keys")
		a.Args = args
		for _, command := range []string{"link add br0 up type bridge", "link add up0 type veth peer name up1", "link set up0 up", "link set up1 up"} {
			host.RunIn(t, a.NetNS, "ip", strings.Fields(command)...)
		}
		result := a.Add(t)
		a.Check(t)
		defer a.Del(t)
		return fmt.Sprint(look(t, attached{a, result, host.Links(t, a.NetNS)["eth0"]}))
	}
	t.Run(e.key+e.args, func(t *testing.T) {
		if got := add(t, "", "", e.look); got != fmt.Sprint(e.without) {
			t.Errorf("without: %s, want %v", got, e.without)
		}
		if got := add(t, e.key, e.args, e.look); got != fmt.Sprint(e.with) {
			t.Errorf("with: %s, want %v", got, e.with)
		}
	})
}

func data(field string) func(*testing.T, attached) any {
	return func(_ *testing.T, a attached) any { return a.link.Data[field] }
}

func mtu(_ *testing.T, a attached) any { return a.link.MTU }

func mac(_ *testing.T, a attached) any { return a.link.MAC == "02:66:00:00:00:01" }

func count(_ *testing.T, a attached) any { return len(a.result.IPs) }

// inside tells whether the parent is in the container, where it has a name.
func inside(_ *testing.T, a attached) any { return a.link.Parent }

func dns(_ *testing.T, a attached) any {
	data, _ := json.Marshal(a.result.DNS)
	return string(data)
}

func acceptRA(t *testing.T, a attached) any {
	return strings.TrimSpace(host.RunIn(t, a.NetNS, "cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra"))
}

func defaults(t *testing.T, a attached) any {
	return len(host.Routes(t, a.NetNS, 4, "default")) + len(host.Routes(t, a.NetNS, 6, "default"))
}

func ofIPAM() []effect {
	return []effect{
		{key: `"dns":{"nameservers":["192.0.2.1"]},`, look: dns, without: `{}`, with: `{"nameservers":["192.0.2.1"]}`},
		{key: `"defaultRoute":"never",`, look: defaults, without: 2, with: 0},
	}
}

func ofMAC() []effect {
	return []effect{
		{key: `"mac":"02:66:00:00:00:01",`, look: mac, without: false, with: true},
		{key: `"mac":"02:66:00:00:00:09",`, args: `MAC=02:66:00:00:00:01`, look: mac, without: false, with: true},
		{key: `"args":{"cni":{"mac":"02:66:00:00:00:01"}},`, args: `MAC=02:66:00:00:00:09`, look: mac, without: false, with: true},
		{key: `"runtimeConfig":{"mac":"02:66:00:00:00:01"},"args":{"cni":{"mac":"02:66:00:00:00:09"}},`, look: mac, without: false, with: true},
	}
}

func TestMacvlanKeys(t *testing.T) {
	keys.Covers(t, "macvlan", "ipam", "dns", "mode", "mtu", "mac", "linkInContainer", "acceptRA", "defaultRoute",
		"CNI_ARGS.MAC", "args.cni.mac", "runtimeConfig.mac")
	see(t, "macvlan", `"master":"up0",`, effect{key: addresses + ",", look: count, without: 0, with: 2})
	see(t, "macvlan", `"master":"up0",`+addresses+",", append(append(ofIPAM(), ofMAC()...),
		effect{key: `"mode":"private",`, look: data("mode"), without: "bridge", with: "private"},
		effect{key: `"mode":"vepa",`, look: data("mode"), without: "bridge", with: "vepa"},
		effect{key: `"mode":"passthru",`, look: data("mode"), without: "bridge", with: "passthru"},
		effect{key: `"mtu":1400,`, look: mtu, without: 1500, with: 1400},
		effect{key: `"linkInContainer":true,`, look: inside, without: "", with: "up0"},
		effect{key: `"acceptRA":false,`, look: acceptRA, without: 1, with: 0},
	)...)
}

func TestMacvlanQueueKey(t *testing.T) {
	keys.Covers(t, "macvlan", "bcqueuelen")
	host.Need(t, "macvlan-bcqueuelen")
	see(t, "macvlan", `"master":"up0",`+addresses+",", effect{key: `"bcqueuelen":2000,`, look: data("bcqueuelen"), without: 1000, with: 2000})
}

func TestIPVlanKeys(t *testing.T) {
	keys.Covers(t, "ipvlan", "ipam", "dns", "mode", "mtu", "linkInContainer", "acceptRA", "defaultRoute")
	host.Need(t, "ipvlan")
	see(t, "ipvlan", `"master":"up0",`+addresses+",", append(ofIPAM(),
		effect{key: `"mode":"l3",`, look: data("mode"), without: "l2", with: "l3"},
		effect{key: `"mode":"l3s",`, look: data("mode"), without: "l2", with: "l3s"},
		effect{key: `"mtu":1400,`, look: mtu, without: 1500, with: 1400},
		effect{key: `"linkInContainer":true,`, look: inside, without: "", with: "up0"},
		effect{key: `"acceptRA":false,`, look: acceptRA, without: 1, with: 0},
	)...)
}

func TestVLANKeys(t *testing.T) {
	keys.Covers(t, "vlan", "ipam", "dns", "vlanId", "mtu", "linkInContainer", "acceptRA", "defaultRoute")
	host.Need(t, "vlan")
	see(t, "vlan", `"master":"up0","vlanId":7,`+addresses+",", append(ofIPAM(),
		effect{key: `"mtu":1400,`, look: mtu, without: 1500, with: 1400},
		effect{key: `"linkInContainer":true,`, look: inside, without: "", with: "up0"},
		effect{key: `"acceptRA":false,`, look: acceptRA, without: 1, with: 0},
	)...)
	for _, id := range []string{"0", "4094"} {
		see(t, "vlan", `"master":"up0","vlanId":`+id+","+addresses+",",
			effect{look: data("id"), without: id, with: id})
	}
}

func TestDummyKeys(t *testing.T) {
	keys.Covers(t, "dummy", "ipam", "dns", "defaultRoute")
	host.Need(t, "dummy")
	see(t, "dummy", addresses+",", append(ofIPAM(), effect{look: count, without: 2, with: 2})...)
}

func TestTapKeys(t *testing.T) {
	keys.Covers(t, "tap", "ipam", "dns", "mtu", "mac", "multiQueue", "owner", "group", "bridge", "defaultRoute",
		"CNI_ARGS.MAC", "args.cni.mac", "runtimeConfig.mac")
	see(t, "tap", "", effect{key: addresses + ",", look: count, without: 0, with: 2})
	see(t, "tap", addresses+",", append(append(ofIPAM(), ofMAC()...),
		effect{key: `"mtu":1400,`, look: mtu, without: 1500, with: 1400},
		effect{key: `"multiQueue":true,`, look: data("multi_queue"), without: false, with: true},
		effect{key: `"owner":0,`, look: data("user"), without: nil, with: "root"},
		effect{key: `"owner":4711,`, look: data("user"), without: nil, with: 4711},
		effect{key: `"group":0,`, look: data("group"), without: nil, with: "root"},
		effect{key: `"group":4711,`, look: data("group"), without: nil, with: 4711},
		effect{key: `"owner":1,"group":1,"multiQueue":true,`, look: data("persist"), without: true, with: true},
		effect{key: `"bridge":"br0",`, look: func(_ *testing.T, a attached) any { return a.link.Master }, without: "", with: "br0"},
	)...)
}
