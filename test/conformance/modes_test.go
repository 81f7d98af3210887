package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// A mode is a configuration of a plugin that makes another plan than the others.
type mode struct {
	name   string
	config string   // NUMBER in it stands for the container's
	before []string // configurations of the plugins before it in the list
	args   string   // CNI_ARGS
	bridge string   // that stays, for the next container
	need   []string // features of the kernel

	setup, cleanup string   // shell commands that make what has to be on the host, and take it away
	each           string   // a shell command that makes what every container needs of the host, unless it is there
	leaves         []string // patterns of what else outlives the last attachment

	families string // "4", "6", "46" or "" for no addresses
	gateway  bool   // the container reaches the host by the gateways' addresses
	peers    bool   // and other containers of the network
}

// Subnets of the tests' networks, and the gateways in them.
const (
	subnet4, gateway4 = "10.77.0.0/24", "10.77.0.1"
	subnet6, gateway6 = "fd00:77::/64", "fd00:77::1"
)

// hostLocal is a section "ipam" for the families of a mode, with default routes.
func hostLocal(families string) string {
	var ranges, routes []string
	for _, f := range families {
		subnet, everywhere := subnet4, "0.0.0.0/0"
		if f == '6' {
			subnet, everywhere = subnet6, "::/0"
		}
		ranges = append(ranges, fmt.Sprintf(`[{"subnet":%q}]`, subnet))
		routes = append(routes, fmt.Sprintf(`{"dst":%q}`, everywhere))
	}
	return fmt.Sprintf(`{"type":"host-local","ranges":[%s],"routes":[%s]}`, strings.Join(ranges, ","), strings.Join(routes, ","))
}

// config is a configuration: keys and values as they stand in the object.
func config(plugin, network, keys string) string {
	if keys != "" {
		keys = "," + keys
	}
	return fmt.Sprintf(`{"cniVersion":"1.1.0","name":%q,"type":%q%s}`, network, plugin, keys)
}

// bridgeName is the bridge of every mode's network.
const bridgeName = "br77"

func bridgeConfig(network, keys string) string {
	return config("bridge", network, `"bridge":"`+bridgeName+`",`+keys)
}

// masquerades are the keys of each way to masquerade and what the kernel must have for it.
var masquerades = []struct{ name, keys, need string }{
	{"plain", ``, ""},
	{"nftables", `"ipMasq":true,"ipMasqBackend":"nftables",`, "nft-inet-nat"},
	{"iptables", `"ipMasq":true,"ipMasqBackend":"iptables",`, "iptables-nft"},
	{"masquerade", `"ipMasq":true,`, "nft-inet-nat"},
}

// modes are all modes of all plugins.
func modes() []mode {
	var list []mode
	add := func(m mode) {
		if m.need == nil || m.need[0] == "" {
			m.need = nil
		}
		list = append(list, m)
	}
	for _, masq := range masquerades {
		for _, f := range []string{"4", "6", "46"} {
			name := "ptp " + f + " " + masq.name
			add(mode{
				name: name, config: config("ptp", "net-ptp", masq.keys+`"ipam":`+hostLocal(f)),
				need: []string{masq.need}, families: f, gateway: true, peers: true,
			})
			// A bridge routes all families alike: one of them each with a back end will do.
			if masq.name == "iptables" && f != "46" {
				continue
			}
			add(mode{
				name: "bridge " + f + " default gateway " + masq.name, bridge: bridgeName,
				config: bridgeConfig("net-bridge", `"isDefaultGateway":true,`+masq.keys+`"ipam":`+hostLocal(f)),
				need:   []string{masq.need}, families: f, gateway: true, peers: true,
			})
		}
	}
	for _, m := range []mode{
		{name: "gateway", config: `"isGateway":true,"ipam":` + hostLocal("46"), families: "46", gateway: true, peers: true},
		{name: "no gateway", config: `"ipam":` + hostLocal("46"), families: "46", peers: true},
		{name: "L2", config: `"ipam":{}`},
		{name: "L2 without ipam", config: `"mtu":1400`},
		{name: "disableContainerInterface", config: `"disableContainerInterface":true`},
		{name: "hairpin", config: `"isGateway":true,"hairpinMode":true,"ipam":` + hostLocal("46"), families: "46", gateway: true, peers: true},
		{name: "promiscuous", config: `"isGateway":true,"promiscMode":true,"ipam":` + hostLocal("4"), families: "4", gateway: true, peers: true},
		{name: "isolated", config: `"isGateway":true,"portIsolation":true,"ipam":` + hostLocal("46"), families: "46", gateway: true, need: []string{"bridge-isolation"}},
		{name: "mac", config: `"isGateway":true,"ipam":` + hostLocal("4"), args: "IgnoreUnknown=1;MAC=02:77:00:00:00:0%d", families: "4", gateway: true, peers: true},
		{name: "enabledad", config: `"isGateway":true,"enabledad":true,"ipam":` + hostLocal("46"), families: "46", gateway: true, peers: true},
	} {
		m.name, m.config, m.bridge = "bridge "+m.name, bridgeConfig("net-bridge", m.config), bridgeName
		add(m)
	}
	list = append(list, interfaceModes()...)
	list = append(list, chainedModes()...)
	add(mode{name: "loopback", config: config("loopback", "net-lo", "")})
	add(mode{name: "loopback after others", config: config("loopback", "net-lo", `"prevResult":{"cniVersion":"1.1.0",
		"interfaces":[{"name":"eth0","sandbox":"/elsewhere"}],"ips":[{"address":"10.99.0.9/24","interface":0}]}`)})
	return list
}

// each runs a test in every mode whose features the kernel has, with nothing of the mode there before and after.
func each(t *testing.T, f func(t *testing.T, m mode)) {
	for _, m := range modes() {
		t.Run(m.name, func(t *testing.T) {
			m.prepare(t)
			f(t, m)
		})
	}
}

// prepare makes what the mode takes for granted, for the time of a test.
func (m mode) prepare(t *testing.T) {
	t.Helper()
	host.Need(t, m.need...)
	if m.bridge != "" {
		removeAtEnd(t, m.bridge)
	}
	if m.setup != "" {
		host.Run(t, "sh", "-ec", m.setup)
		t.Cleanup(func() { host.Run(t, "sh", "-ec", m.cleanup) })
	}
}

// removeAtEnd removes a bridge at the end of the test, after its containers.
func removeAtEnd(t testing.TB, bridge string) {
	t.Cleanup(func() { host.Try("ip", "link", "del", bridge) }) //nolint:errcheck // not every test gets to make it
}

// container returns an attachment in the mode, with a number among the test's that is below 10.
func (m mode) container(t testing.TB, id string, number int) *attachment {
	t.Helper()
	fill := strings.NewReplacer("NUMBER", fmt.Sprint(number))
	if m.each != "" {
		host.Run(t, "sh", "-ec", fill.Replace(m.each))
	}
	a := attach(t, fill.Replace(m.config), id)
	a.before = m.before
	if m.args != "" {
		a.args = fmt.Sprintf(m.args, number)
	}
	return a
}

// stays are the patterns of what outlives the last attachment, or changes by itself.
func (m mode) stays() []string { return append(stays(m.bridge), m.leaves...) }

// stays are those of every mode; bridge is that of the test, if it has one.
func stays(bridge string) []string {
	patterns := []string{
		host.SharedNFT, host.SharedFiles, host.SharedForwarding,
		// The program iptables makes its tables, and the chains that it hooks into the kernel, at its first use.
		`^nft (table ip6? nat|chain ip6? nat (PREROUTING|INPUT|OUTPUT|POSTROUTING))( |$)`,
		// A link gets its link-local address a moment after it has come up. No link, no address: those left are seen by the link.
		`^addr \S+ fe80:|^route 6 .*(fe80:|ff00:)`,
	}
	if bridge != "" {
		patterns = append(patterns, host.SharedBridge(bridge))
	}
	return patterns
}
