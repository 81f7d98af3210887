// Package together shares a host with what else changes its packet filter: kube-proxy, Docker, ufw, firewalld, an admin's iptables. A
// container of ours keeps its published ports and its way out while they start, restart and stop, and they keep theirs.
package together

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"
	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

var ctx = context.Background()

const (
	bridge   = "cni0"
	subnet4  = "10.22.0.0/24"
	subnet6  = "fd22::/64"
	ours4    = "10.22.0.200" // what a container with ports asks for
	ours6    = "fd22::200"
	visitor4 = "10.22.0.201" // and the other one
	visitor6 = "fd22::201"
	tcpPort  = 8080 // published; leads to 80
	udpPort  = 8053 // leads to 53
)

// A network is a list of plugins with a host's outside.
type network struct {
	runtime runtime.Runtime
	list    *cni.List
	outside string // the namespace of the world
}

// Plugins behind the bridge.
func portmap(backend string) string {
	return fmt.Sprintf(`{"type":"portmap","backend":%q,"capabilities":{"portMappings":true}}`, backend)
}

func firewall(backend string) string { return fmt.Sprintf(`{"type":"firewall","backend":%q}`, backend) }

// newNetwork makes a host with nothing on it but a world outside, and a list
// for a back end of all plugins, "" for the one that they choose. The chained
// plugins are portmap and firewall if none are given.
func newNetwork(t *testing.T, backend string, chained ...string) *network {
	t.Helper()
	wipe(t)
	n := &network{runtime: runtime.Runtime{Path: []string{host.Bin(t)}}, outside: host.Internet(t)}
	if chained == nil {
		chained = []string{portmap(backend), firewall(backend)}
	}
	masq := backend
	if masq == "" {
		masq = "nftables"
	}
	var err error
	n.list, err = cni.ParseList(fmt.Appendf(nil, `{"cniVersion":"1.1.0","name":"ours","plugins":[
		{"type":"bridge","bridge":%q,"isGateway":true,"ipMasq":true,"ipMasqBackend":%q,"hairpinMode":true,"capabilities":{"ips":true},"ipam":{"type":"host-local",
			"ranges":[[{"subnet":%q}],[{"subnet":%q}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}},
		%s]}`, bridge, masq, subnet4, subnet6, strings.Join(chained, ",")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Try("ip", "link", "del", bridge) }) //nolint:errcheck // not every test has made it
	for _, at := range []string{host.Internet4, "[" + host.Internet6 + "]"} {
		host.Serve(t, n.outside, "tcp", at+":7000")
		host.Serve(t, n.outside, "udp", at+":7000")
	}
	return n
}

// wipe makes the host's packet filter empty, now and at the end of the test.
func wipe(t *testing.T) {
	t.Helper()
	clean := func() {
		host.Run(t, "nft", "flush", "ruleset")
		for _, tool := range []string{"iptables-legacy", "ip6tables-legacy"} {
			for _, table := range []string{"filter", "nat", "mangle"} {
				host.Run(t, tool, "-t", table, "-F")
				host.Run(t, tool, "-t", table, "-X")
			}
			for _, chain := range []string{"INPUT", "FORWARD", "OUTPUT"} {
				host.Run(t, tool, "-P", chain, "ACCEPT")
			}
		}
	}
	clean()
	t.Cleanup(clean)
}

// A container is on a network, with port 80 of TCP and 53 of UDP published.
type container struct {
	*network
	attachment runtime.Attachment
	v4, v6     string
}

// run attaches a container that has servers, with its ports published or not.
func (n *network) run(t *testing.T, id string, published bool) *container {
	t.Helper()
	if !published {
		return n.runAt(t, id, visitor4, visitor6)
	}
	return n.runAt(t, id, ours4, ours6, map[string]any{"hostPort": tcpPort, "containerPort": 80, "protocol": "tcp"},
		map[string]any{"hostPort": udpPort, "containerPort": 53, "protocol": "udp"})
}

// runAt attaches a container that has servers. It asks for its addresses, so
// that they are the same when it is attached again.
func (n *network) runAt(t *testing.T, id, v4, v6 string, ports ...map[string]any) *container {
	t.Helper()
	c := &container{network: n, attachment: runtime.Attachment{ContainerID: id, NetNS: host.NetNS(t), IfName: "eth0"}}
	c.attachment.CapabilityArgs = map[string]any{"ips": []string{v4 + "/24", v6 + "/64"}, "portMappings": ports}
	t.Cleanup(func() { n.runtime.Del(ctx, n.list, c.attachment) }) //nolint:errcheck // the test may have done it
	c.add(t)
	host.RunIn(t, c.attachment.NetNS, "ip", "link", "set", "lo", "up")
	host.Serve(t, c.attachment.NetNS, "tcp", ":80")
	for _, a := range []string{c.v4, "[" + c.v6 + "]"} { // a server of UDP answers from the address that it was asked at
		host.Serve(t, c.attachment.NetNS, "udp", a+":53")
	}
	return c
}

func (c *container) add(t *testing.T) {
	t.Helper()
	result, err := c.runtime.Add(ctx, c.list, c.attachment)
	if err != nil {
		t.Fatal(err)
	}
	c.v4, c.v6 = result.IPs[0].Address.Addr().String(), result.IPs[1].Address.Addr().String()
}

func (c *container) del(t *testing.T) {
	t.Helper()
	if err := c.runtime.Del(ctx, c.list, c.attachment); err != nil {
		t.Errorf("DEL: %v", err)
	}
}

// check fails the test unless CHECK finds everything.
func (c *container) check(t *testing.T, when string) {
	t.Helper()
	if err := c.runtime.Check(ctx, c.list, c.attachment); err != nil {
		t.Errorf("%s, CHECK: %v", when, err)
	}
}

// complains fails the test unless CHECK finds that something is missing, and
// says what.
func (c *container) complains(t *testing.T, when, about string) {
	t.Helper()
	if err := c.runtime.Check(ctx, c.list, c.attachment); err == nil || !strings.Contains(err.Error(), about) {
		t.Errorf("%s, CHECK says %v, and nothing of %q", when, err, about)
	}
}

// renew is what an operator does whose container's rules somebody has removed.
func (c *container) renew(t *testing.T) {
	t.Helper()
	c.del(t)
	c.add(t)
}

// A way is a connection from a namespace, "" for the host, to a server in
// another.
type way struct {
	name             string
	from             string
	network, address string
	to               string
	client           string // as the server has to see it; empty for anyone
}

// fails tells of what is in the way.
func (w way) fails(t *testing.T) error {
	t.Helper()
	answer, err := host.Ask(t, w.from, w.network, w.address, "")
	if err != nil {
		return err
	}
	if answer.Server != w.to {
		return fmt.Errorf("it leads to %q, not to %q", answer.Server, w.to)
	}
	if from, _, err := net.SplitHostPort(answer.Client); err != nil || w.client != "" && from != w.client {
		return fmt.Errorf("it comes from %s, not from %s", from, w.client)
	}
	return nil
}

// open ends the test if something is in the way, after it has told of some.
func open(t *testing.T, when string, ways []way) {
	t.Helper()
	const enough = 3 // each takes its time
	failed := 0
	for _, w := range ways {
		if err := w.fails(t); err != nil {
			t.Errorf("%s, %s, %s %s: %v", when, w.name, w.network, w.address, err)
			if failed++; failed == enough {
				break
			}
		}
	}
	if failed > 0 {
		t.FailNow()
	}
}

// closed fails the test if nothing is in one of the ways.
func closed(t *testing.T, when string, ways ...way) {
	t.Helper()
	for _, w := range ways {
		if w.fails(t) == nil {
			t.Errorf("%s, %s, %s %s is open", when, w.name, w.network, w.address)
		}
	}
}

// published are the ways to a container's ports. The visitor is another
// container of the network.
func (c *container) published(visitor *container) (ways []way) {
	for _, from := range []struct{ name, ns string }{
		{"from outside", c.outside}, {"from the host", ""}, {"from itself", c.attachment.NetNS}, {"from a neighbour", visitor.attachment.NetNS},
	} {
		for _, at := range []string{host.Uplink4, "[" + host.Uplink6 + "]"} {
			ways = append(ways,
				way{from.name, from.ns, "tcp", fmt.Sprintf("%s:%d", at, tcpPort), c.attachment.NetNS, ""},
				way{from.name, from.ns, "udp", fmt.Sprintf("%s:%d", at, udpPort), c.attachment.NetNS, ""})
		}
	}
	ways[0].client = "198.51.100.1" // not masqueraded
	return append(ways,
		way{"from the host", "", "tcp", fmt.Sprintf("127.0.0.1:%d", tcpPort), c.attachment.NetNS, ""},
		way{"from the host", "", "udp", fmt.Sprintf("127.0.0.1:%d", udpPort), c.attachment.NetNS, ""})
}

// out are a container's ways to the world and to its neighbour.
func (c *container) out(visitor *container) (ways []way) {
	for _, network := range []string{"tcp", "udp"} {
		ways = append(ways,
			way{"out", c.attachment.NetNS, network, host.Internet4 + ":7000", c.outside, host.Uplink4},
			way{"out", c.attachment.NetNS, network, "[" + host.Internet6 + "]:7000", c.outside, host.Uplink6})
	}
	return append(ways,
		way{"to a neighbour", c.attachment.NetNS, "tcp", visitor.v4 + ":80", visitor.attachment.NetNS, c.v4},
		way{"to a neighbour", c.attachment.NetNS, "tcp", "[" + visitor.v6 + "]:80", visitor.attachment.NetNS, c.v6})
}

// all are the ways that have to be open whoever else is on the host.
func (c *container) all(visitor *container) []way {
	return append(c.published(visitor), c.out(visitor)...)
}

// A neighbour is what else lives on the host.
type neighbour interface {
	start(t *testing.T, ours *container)
	// ways are its own, which we must not close.
	ways(ours, visitor *container) []way
	// events are what happens to it, in this order.
	events() []event
	// shutsOut tells whether it drops what is forwarded where a container
	// that was there before is not admitted.
	shutsOut(backend string) bool
}

// An event is something that a neighbour does while a container of ours runs.
type event struct {
	name string
	do   func(t *testing.T)
}

// share has a container of ours on a host with a neighbour, who was there
// before or comes later.
func share(t *testing.T, backend string, before bool, n neighbour) {
	net := newNetwork(t, backend)
	var ours, visitor *container
	run := func() {
		ours, visitor = net.run(t, "ours", true), net.run(t, "visitor", false)
		open(t, "after ADD", ours.all(visitor))
	}
	if before {
		// Its rules may name our container.
		n.start(t, &container{network: net, v4: ours4, v6: ours6})
		run()
	} else {
		run()
		n.start(t, ours)
	}
	if !before && n.shutsOut(backend) {
		closed(t, "at first", ours.published(visitor)[0], ours.out(visitor)[0])
		for _, c := range []*container{ours, visitor} {
			c.complains(t, "at first", "CNI-FORWARD")
			c.renew(t)
		}
	}
	works := func(when string) {
		t.Helper()
		open(t, when, ours.all(visitor))
		open(t, when+", theirs", n.ways(ours, visitor))
		ours.check(t, when)
	}
	works("at first")
	for _, e := range n.events() {
		e.do(t)
		works("after " + e.name)
	}
	ours.renew(t)
	works("after DEL and ADD")
	ours.del(t)
	visitor.del(t)
	for _, line := range host.Snapshot(t) {
		for _, c := range []*container{ours, visitor} {
			if strings.Contains(line, "ours/"+c.attachment.ContainerID+"/") || strings.Contains(line, c.v4+"/32") && strings.Contains(line, "CNI-") {
				t.Errorf("left: %s", line)
			}
		}
	}
}

// eachWay runs a test with every back end of ours, with the neighbour there
// before and coming later.
func eachWay(t *testing.T, test func(t *testing.T, backend string, before bool)) {
	for _, x := range []struct {
		name, backend string
		before        bool
	}{
		{"it was there", "", true}, {"it comes later", "", false}, {"nftables, it was there", "nftables", true},
		{"nftables, it comes later", "nftables", false}, {"iptables, it was there", "iptables", true},
	} {
		t.Run(x.name, func(t *testing.T) { test(t, x.backend, x.before) })
	}
}

// restore hands rules to iptables-restore of a tool such as iptables-nft.
func restore(t *testing.T, tool, rules string, args ...string) {
	t.Helper()
	host.Run(t, "sh", append([]string{"-c", `rules=$1; shift; printf '%s\n' "$rules" | "$@"`, "sh", rules, tool + "-restore"}, args...)...)
}

// reload saves the rules of a tool and restores them whole, as an admin does
// who keeps them in a file.
func reload(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		restore(t, tool, host.Run(t, tool+"-save"))
	}
}

// jumps puts rules in front of their chains that are not there, or deletes
// them. Each line is a table, a chain and a rule.
func jumps(t *testing.T, tool, lines string, there bool) {
	t.Helper()
	for line := range strings.Lines(lines) {
		f := strings.Fields(line)
		rule := append([]string{"-w", "-t", f[0]}, "-C")
		rule = append(rule, f[1:]...)
		_, err := host.Try(tool, rule...)
		if (err == nil) == there {
			continue
		}
		rule[3] = map[bool]string{true: "-I", false: "-D"}[there]
		host.Run(t, tool, rule...)
	}
}

// unchain deletes all chains that rules for iptables-restore declare.
func unchain(t *testing.T, tool, rules string) {
	t.Helper()
	var text, names strings.Builder
	for line := range strings.Lines(rules) {
		switch {
		case strings.HasPrefix(line, "*"):
			text.WriteString(line)
			names.Reset()
		case strings.HasPrefix(line, ":"):
			text.WriteString(line)
			fmt.Fprintf(&names, "-X %s\n", strings.Fields(line)[0][1:])
		case strings.HasPrefix(line, "COMMIT"):
			text.WriteString(names.String() + line)
		}
	}
	restore(t, tool, text.String(), "--noflush")
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
