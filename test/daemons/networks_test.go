package daemons

import (
	"fmt"
	"testing"

	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
)

// A network has one attachment.
type network struct {
	name    string
	plugin  string   // type and keys
	chained string   // and those of a plugin after it
	ipam    string   // "" for a subnet of its own in each family: 10.N.0.0/24 and fd00:N::/64, N being 80 and its place below
	reach   []string // addresses that answer its container
}

// onUplink gives addresses of the uplink's networks.
const onUplink = `{"type":"static","addresses":[{"address":"198.51.100.61/24"},{"address":"2001:db8:ffff::61/64"}]}`

// networks are of each plugin that makes or takes interfaces. What master, device and bridges are is up to world.
var networks = []network{
	{name: "bridged", plugin: `"type":"bridge","bridge":"br0","isGateway":true,"ipMasq":true,"macspoofchk":true`,
		chained: `"type":"bandwidth","ingressRate":8000000,"egressRate":8000000`,
		reach:   []string{"10.80.0.1", "fd00:80::1", host.Internet4, host.Internet6}},
	{name: "layer2", plugin: `"type":"bridge","bridge":"br1","hairpinMode":true,"vlan":7`},
	{name: "pointed", plugin: `"type":"ptp","ipMasq":true`,
		reach: []string{"10.82.0.1", "fd00:82::1", host.Internet4, host.Internet6}},
	{name: "macs", plugin: `"type":"macvlan","master":"eth0","mode":"bridge"`, ipam: onUplink, reach: []string{"198.51.100.1", "2001:db8:ffff::1"}},
	{name: "tagged", plugin: `"type":"vlan","master":"eth0","vlanId":7`},
	{name: "slaves", plugin: `"type":"ipvlan","master":"card1"`},
	{name: "nothing", plugin: `"type":"dummy"`},
	{name: "tapped", plugin: `"type":"tap"`},
	{name: "given", plugin: `"type":"host-device","device":"card0"`,
		ipam: `{"type":"static","addresses":[{"address":"10.9.0.2/24"}]}`, reach: []string{"10.9.0.1"}},
}

// bridges are those that are left of networks, for the test to remove.
var bridges = []string{"br0", "br1"}

// world makes what networks lead to.
func world(t *testing.T) {
	t.Helper()
	host.Internet(t) // with eth0
	far := host.NetNS(t)
	for i, card := range []string{"card0", "card1"} {
		host.Run(t, "ip", "link", "add", card, "up", "address", fmt.Sprintf("02:00:00:00:00:%02d", i), "type", "veth", "peer", "name", card, "netns", far)
		host.RunIn(t, far, "ip", "link", "set", card, "up")
		t.Cleanup(func() { host.Try("ip", "link", "del", card) }) //nolint:errcheck // it may have gone with its peer
	}
	host.RunIn(t, far, "ip", "addr", "add", "10.9.0.1/24", "dev", "card0")
}

func (n network) config(t *testing.T, number int) string {
	t.Helper()
	ipam := n.ipam
	if ipam == "" {
		ipam = fmt.Sprintf(`{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"10.%[2]d.0.0/24"}],[{"subnet":"fd00:%[2]d::/64"}]],
			"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}`, t.TempDir(), 80+number)
	}
	return fmt.Sprintf(`{"cniVersion":"1.1.0","name":%q,%s,"ipam":%s}`, n.name, n.plugin, ipam)
}

// A member is the container of a network.
type member struct {
	network
	main    *attach.Attachment
	chained *attach.Attachment // or nil
}

func (n network) member(t *testing.T, number int) member {
	t.Helper()
	m := member{network: n, main: attach.New(t, n.config(t, number), fmt.Sprintf("container-%d", number))}
	if n.chained != "" {
		m.chained = m.main.Again(t, fmt.Sprintf(`{"cniVersion":"1.1.0","name":%q,%s}`, n.name, n.chained), "eth0")
	}
	return m
}

func (m member) add(t *testing.T) {
	t.Helper()
	m.main.Add(t)
	if m.chained != nil {
		m.chained.Prev = m.main.Prev
		m.chained.Config = attach.Derive(t, m.chained.Config, map[string]any{"prevResult": m.main.Prev})
		m.chained.Add(t)
	}
	m.use(t)
}

// use asks the plugins whether all is there, and the addresses whether they answer.
func (m member) use(t *testing.T) {
	t.Helper()
	m.main.Check(t)
	if m.chained != nil {
		m.chained.Check(t)
	}
	for _, addr := range m.reach {
		host.Ping(t, m.main.NetNS, addr)
	}
}

func (m member) del(t *testing.T) {
	t.Helper()
	if m.chained != nil {
		m.chained.Del(t)
	}
	m.main.Del(t)
}
