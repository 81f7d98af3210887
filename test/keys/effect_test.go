package keys_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

func TestMain(m *testing.M) { host.Main(m) }

// An attachment is what an ADD has made, as iproute2 sees it.
type attachment struct {
	ns           string
	result       *cni.Result
	inside, port host.Link // the ends of the pair
	bridge       host.Link // the zero Link for ptp
}

// An effect is what one key changes: what look sees without it, and with it.
type effect struct {
	key           string // as it stands in a configuration, after a comma
	args          string // or in CNI_ARGS
	look          func(*testing.T, attachment) any
	without, with any
}

// ipam gives the container its addresses.
const ipam = `,"ipam":{"type":"static","addresses":[{"address":"10.66.0.2/24","gateway":"10.66.0.1"},{"address":"fd00:66::2/64","gateway":"fd00:66::1"}]}`

// see adds a container without a key and with it. base are the keys that are
// there both times.
func see(t *testing.T, plugin, base string, e effect) {
	t.Helper()
	t.Run(e.key+e.args, func(t *testing.T) {
		if got := add(t, plugin, base, "", e.look); got != fmt.Sprint(e.without) {
			t.Errorf("without: %s, want %v", got, e.without)
		}
		if got := add(t, plugin, e.key+base, e.args, e.look); got != fmt.Sprint(e.with) {
			t.Errorf("with: %s, want %v", got, e.with)
		}
	})
}

// add adds a container, looks, and deletes it with all that is shared.
func add(t *testing.T, plugin, config, args string, look func(*testing.T, attachment) any) string {
	t.Helper()
	a := attachment{ns: host.NetNS(t)}
	config = fmt.Sprintf(`{"cniVersion":"1.1.0","name":"keys","type":%q%s}`, plugin, config)
	run := func(verb string) string {
		env := append(host.Env(verb, "keys", a.ns, "eth0", host.Bin(t)), "CNI_ARGS="+args)
		stdout, stderr, exit := host.Plugin(t, host.Bin(t), plugin, env, config)
		if exit != 0 {
			t.Fatalf("%s %s: %s%s", verb, config, stdout, stderr)
		}
		return stdout
	}
	defer func() {
		run("DEL")
		if a.bridge.Name != "" {
			host.Run(t, "ip", "link", "del", a.bridge.Name)
		}
	}()
	var err error
	if a.result, err = cni.DecodeResult([]byte(run("ADD")), cni.Latest); err != nil {
		t.Fatal(err)
	}
	outside := host.Links(t, "")
	a.inside = host.Links(t, a.ns)["eth0"]
	for _, i := range a.result.Interfaces {
		switch l := outside[i.Name]; {
		case i.Sandbox != "":
		case l.Kind == "bridge":
			a.bridge = l
		default:
			a.port = l
		}
	}
	return fmt.Sprint(look(t, a))
}

func mtus(_ *testing.T, a attachment) any { return []int{a.inside.MTU, a.port.MTU} }

func mac(_ *testing.T, a attachment) any { return a.inside.MAC == "02:66:00:00:00:01" }

func dns(_ *testing.T, a attachment) any {
	data, _ := json.Marshal(a.result.DNS)
	return string(data)
}

func addresses(_ *testing.T, a attachment) any { return len(a.result.IPs) }

// masquerades tells which back ends hide which of the container's addresses.
func masquerades(t *testing.T, _ attachment) any {
	list := []string{}
	for _, address := range []struct{ family, text string }{{"4", "10.66.0.2"}, {"6", "fd00:66::2"}} {
		for _, line := range host.Snapshot(t) {
			switch {
			case !strings.Contains(line, address.text):
			case strings.HasPrefix(line, "nft element"):
				list = append(list, "nftables "+address.family)
			case strings.HasPrefix(line, "iptables-save nat"), strings.HasPrefix(line, "ip6tables-save nat"):
				list = append(list, "iptables "+address.family)
			}
		}
	}
	return slices.Compact(list)
}

// nodad tells whether the container's IPv6 address skips duplicate address
// detection.
func nodad(t *testing.T, a attachment) any {
	for _, addr := range host.Addrs(t, a.ns) {
		if addr.Prefix.Addr().Is6() && !addr.Prefix.Addr().IsLinkLocalUnicast() && addr.Dev == "eth0" {
			return addr.NoDAD
		}
	}
	return "no address"
}

func TestBridge(t *testing.T) {
	keys.Covers(t, "bridge", "bridge", "ipam", "dns", "mtu", "isGateway", "isDefaultGateway", "ipMasq", "ipMasqBackend", "hairpinMode", "promiscMode",
		"portIsolation", "enabledad", "disableContainerInterface", "CNI_ARGS.MAC", "args.cni.mac", "runtimeConfig.mac")
	host.Need(t, "bridge-isolation", "nft-inet-nat", "iptables-nft")
	port := func(setting string) func(*testing.T, attachment) any {
		return func(_ *testing.T, a attachment) any { return a.port.Port[setting] }
	}
	ofBridge := func(t *testing.T, a attachment) any {
		var list []string
		for _, addr := range host.Addrs(t, "") {
			if addr.Dev == a.bridge.Name && !addr.Prefix.Addr().IsLinkLocalUnicast() {
				list = append(list, addr.Prefix.String())
			}
		}
		for _, r := range append(host.Routes(t, a.ns, 4), host.Routes(t, a.ns, 6)...) {
			if r.Dst == "default" {
				list = append(list, "via "+r.Gateway)
			}
		}
		return list
	}
	for _, e := range []effect{
		{key: ipam, look: addresses, without: 0, with: 2},
		{key: `,"bridge":"other0"`, look: func(_ *testing.T, a attachment) any { return a.bridge.Name + " " + a.port.Master }, without: "cni0 cni0", with: "other0 other0"},
		{key: `,"disableContainerInterface":true`, look: func(_ *testing.T, a attachment) any { return a.inside.Up() }, without: true, with: false},
	} {
		see(t, "bridge", ``, e)
	}
	for _, e := range []effect{
		{key: `,"dns":{"nameservers":["192.0.2.1"]}`, look: dns, without: `{}`, with: `{"nameservers":["192.0.2.1"]}`},
		{key: `,"mtu":1400`, look: mtus, without: "[1500 1500]", with: "[1400 1400]"},
		{key: `,"mtu":1400`, look: func(_ *testing.T, a attachment) any { return a.bridge.MTU }, without: 1500, with: 1400},
		{key: `,"isGateway":true`, look: ofBridge, without: "[]", with: "[10.66.0.1/24 fd00:66::1/64]"},
		{key: `,"isDefaultGateway":true`, look: ofBridge, without: "[]", with: "[10.66.0.1/24 fd00:66::1/64 via 10.66.0.1 via fd00:66::1]"},
		{key: `,"hairpinMode":true`, look: port("hairpin"), without: false, with: true},
		{key: `,"portIsolation":true`, look: port("isolated"), without: false, with: true},
		{key: `,"promiscMode":true`, look: func(_ *testing.T, a attachment) any { return slices.Contains(a.bridge.Flags, "PROMISC") }, without: false, with: true},
		{key: `,"enabledad":true`, look: nodad, without: true, with: false},
		{args: `MAC=02:66:00:00:00:01`, look: mac, without: false, with: true},
		{key: `,"args":{"cni":{"mac":"02:66:00:00:00:01"}}`, args: `MAC=02:66:00:00:00:09`, look: mac, without: false, with: true},
		{key: `,"runtimeConfig":{"mac":"02:66:00:00:00:01"},"args":{"cni":{"mac":"02:66:00:00:00:09"}}`, look: mac, without: false, with: true},
		{key: `,"ipMasq":true`, look: masquerades, without: "[]", with: "[nftables 4 nftables 6]"},
		{key: `,"ipMasq":true,"ipMasqBackend":"iptables"`, look: masquerades, without: "[]", with: "[iptables 4 iptables 6]"},
		{key: `,"ipMasq":true,"ipMasqBackend":"nftables"`, look: masquerades, without: "[]", with: "[nftables 4 nftables 6]"},
	} {
		see(t, "bridge", ipam, e)
	}
}

func TestPTP(t *testing.T) {
	keys.Covers(t, "ptp", "dns", "mtu", "ipMasq", "ipMasqBackend")
	host.Need(t, "nft-inet-nat", "iptables-nft")
	for _, e := range []effect{
		{key: `,"dns":{"domain":"a.test"}`, look: dns, without: `{}`, with: `{"domain":"a.test"}`},
		{key: `,"mtu":1400`, look: mtus, without: "[1500 1500]", with: "[1400 1400]"},
		{key: `,"ipMasq":true`, look: masquerades, without: "[]", with: "[nftables 4 nftables 6]"},
		{key: `,"ipMasq":true,"ipMasqBackend":"iptables"`, look: masquerades, without: "[]", with: "[iptables 4 iptables 6]"},
		{key: `,"ipMasq":true,"ipMasqBackend":"nftables"`, look: masquerades, without: "[]", with: "[nftables 4 nftables 6]"},
	} {
		see(t, "ptp", ipam, e)
	}
}
