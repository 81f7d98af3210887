package sbr_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

func TestMain(m *testing.M) { host.Main(m) }

// A fixture is a container on two networks, each with a router, behind both of
// which is the same outside world. Each router drops what has not come from its
// own network, so that an answer from there proves by which one it was sent.
type fixture struct {
	ns, outside string
	bin         string
	index       int // of eth1
}

func setup(t *testing.T) fixture {
	t.Helper()
	f := fixture{ns: host.NetNS(t), outside: host.NetNS(t), bin: host.Bin(t)}
	host.Run(t, "rm", "-rf", "/run/plumb") // what an earlier test's container has left
	routers := []string{host.NetNS(t), host.NetNS(t)}
	for _, ns := range append(routers, f.ns, f.outside) {
		host.RunIn(t, ns, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0")
	}
	for i, router := range routers {
		host.Run(t, "sh", "-ec", fmt.Sprintf(`
			ip -n $(basename %[1]s) link add eth%[2]d address 02:00:00:00:00:0%[2]d type veth peer name in netns $(basename %[3]s)
			ip -n $(basename %[4]s) link add r%[2]d type veth peer name out netns $(basename %[3]s)`, f.ns, i, router, f.outside))
		host.RunIn(t, router, "sh", "-ec", fmt.Sprintf(`
			ip addr add 10.%[1]d.0.1/24 dev in; ip addr add fd00:%[1]d::1/64 dev in nodad; ip link set in up
			ip addr add 192.0.2.1%[1]d/24 dev out; ip addr add 2001:db8::1%[1]d/64 dev out nodad; ip link set out up
			sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
			nft 'table inet t { chain c { type filter hook forward priority 0; iifname "in" ip saddr != 10.%[1]d.0.0/24 drop; iifname "in" ip6 saddr != fd00:%[1]d::/64 drop; }; }'`, i))
	}
	host.RunIn(t, f.outside, "sh", "-ec", `
		ip link add br0 type bridge; ip link set r0 master br0; ip link set r1 master br0; ip link set r0 up; ip link set r1 up; ip link set br0 up
		ip addr add 192.0.2.1/24 dev br0; ip addr add 2001:db8::1/64 dev br0 nodad
		for i in 0 1; do ip route add 10.$i.0.0/24 via 192.0.2.1$i; ip route add fd00:$i::/64 via 2001:db8::1$i; done`)
	host.RunIn(t, f.ns, "sh", "-ec", `
		for i in 0 1; do
			ip addr add 10.$i.0.2/24 dev eth$i; ip addr add fd00:$i::2/64 dev eth$i nodad
			ip link set eth$i up
		done
		ip link set lo up
		ip route add default via 10.0.0.1; ip route add default via fd00:0::1
		ip route add 198.51.100.0/24 via 10.1.0.1 mtu 1300; ip route add 2001:db8:9::/64 via fd00:1::1`)
	f.index = host.Links(t, f.ns)["eth1"].Index
	return f
}

// prev is what the interface's plugin has reported.
func (f fixture) prev() string {
	return fmt.Sprintf(`,"prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":%[1]q},{"name":"eth1","mac":"02:00:00:00:00:01","sandbox":%[1]q}],"ips":[
		{"address":"10.0.0.2/24","gateway":"10.0.0.1","interface":0},{"address":"10.1.0.2/24","gateway":"10.1.0.1","interface":1},
		{"address":"fd00:1::2/64","gateway":"fd00:1::1","interface":1}]}`, f.ns)
}

func (f fixture) by(t *testing.T, bin, verb, ns, keys string) (string, int) {
	t.Helper()
	config := `{"cniVersion":"1.1.0","name":"two","type":"sbr"` + keys + `}`
	env := host.Env(verb, "one", ns, "eth1", bin)
	if verb == "GC" || verb == "STATUS" {
		env = host.Env(verb, "", "", "", bin)
	}
	stdout, _, exit := host.Plugin(t, bin, "sbr", env, config)
	return stdout, exit
}

func (f fixture) do(t *testing.T, verb, keys string) string {
	t.Helper()
	stdout, exit := f.by(t, f.bin, verb, f.ns, keys)
	if exit != 0 {
		t.Fatalf("%s %s: %s", verb, keys, stdout)
	}
	return stdout
}

func (f fixture) fails(t *testing.T, verb, keys string, code cni.Code, words string) {
	t.Helper()
	stdout, exit := f.by(t, f.bin, verb, f.ns, keys)
	failure, err := cni.DecodeError([]byte(stdout))
	if exit == 0 || err != nil || failure.Code != code || !strings.Contains(failure.Error(), words) {
		t.Errorf("%s %s: %s; want code %d and %q", verb, keys, stdout, code, words)
	}
}

// rules returns the rules but the kernel's own.
func (f fixture) rules(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, family := range []int{4, 6} {
		for _, r := range host.Rules(t, f.ns, family) {
			if r.Src != "all" {
				list = append(list, fmt.Sprintf("from %s lookup %s", r.Src, r.Table))
			}
		}
	}
	return list
}

// table returns the routes of a table by eth1, as ip prints them.
func (f fixture) table(t *testing.T, table any) []string {
	t.Helper()
	var list []string
	for _, family := range []string{"-4", "-6"} {
		out, err := host.TryIn(f.ns, "ip", family, "route", "show", "table", fmt.Sprint(table), "dev", "eth1")
		if err != nil {
			continue // there is no such table
		}
		for line := range strings.Lines(out) {
			list = append(list, strings.Join(strings.Fields(line), " "))
		}
	}
	slices.Sort(list)
	return list
}

// everything is what there is to be left as it was.
func (f fixture) everything(t *testing.T) string {
	t.Helper()
	return fmt.Sprint(f.rules(t), f.table(t, "main"), f.table(t, f.index*100), f.table(t, f.index*100+1))
}

// TestTraffic asks both addresses from outside. Without the plugin, the answer from
// the second one leaves by the first interface, and its router drops it.
func TestTraffic(t *testing.T) {
	f := setup(t)
	for _, a := range []string{"10.0.0.2", "fd00:0::2"} {
		host.Ping(t, f.outside, a)
	}
	for _, a := range []string{"10.1.0.2", "fd00:1::2"} {
		if host.TryPing(f.outside, a) == nil {
			t.Errorf("%s answers without the plugin, so that this test shows nothing", a)
		}
	}
	f.do(t, "ADD", f.prev())
	for _, a := range []string{"10.0.0.2", "fd00:0::2", "10.1.0.2", "fd00:1::2"} {
		host.Ping(t, f.outside, a)
	}
	for _, network := range []string{"tcp", "udp"} {
		for _, address := range []string{"10.0.0.2:0", "10.1.0.2:0", "[fd00:1::2]:0"} {
			server := host.Serve(t, f.ns, network, address)
			if _, err := host.Ask(t, f.outside, network, server, ""); err != nil {
				t.Errorf("%s to %s: %v", network, server, err)
			}
		}
	}
	// What the container sends from an address leaves by its interface as well.
	server := host.Serve(t, f.outside, "tcp", "192.0.2.1:0")
	for _, from := range []string{"10.0.0.2", "10.1.0.2"} {
		if answer, err := host.Ask(t, f.ns, "tcp", server, from+":0"); err != nil || !strings.HasPrefix(answer.Client, from+":") {
			t.Errorf("from %s: %v %v", from, answer, err)
		}
	}
}

func TestLife(t *testing.T) {
	f := setup(t)
	whole := host.Snapshot(t)
	first, second := f.index*100, f.index*100+1
	result := f.do(t, "ADD", f.prev())
	if !strings.Contains(result, `"10.1.0.2/24"`) || !strings.Contains(result, `"eth0"`) {
		t.Errorf("the result is not the previous one: %s", result)
	}
	rules := fmt.Sprintf("[from 10.1.0.2 lookup %d from fd00:1::2 lookup %d]", first, second)
	if got := fmt.Sprint(f.rules(t)); got != rules {
		t.Errorf("rules %s, want %s", got, rules)
	}
	want := "[10.1.0.0/24 proto kernel scope link src 10.1.0.2 198.51.100.0/24 via 10.1.0.1 mtu 1300 default via 10.1.0.1]"
	if got := fmt.Sprint(f.table(t, first)); got != want {
		t.Errorf("table of the IPv4 address %s, want %s", got, want)
	}
	got := fmt.Sprint(f.table(t, second))
	for _, part := range []string{"2001:db8:9::/64 via fd00:1::1", "default via fd00:1::1", "fd00:1::/64 proto kernel", "fe80::/64 proto kernel"} {
		if !strings.Contains(got, part) {
			t.Errorf("table of the IPv6 address lacks %s: %s", part, got)
		}
	}
	if got := fmt.Sprint(f.table(t, "main")); got != "[fe80::/64 proto kernel metric 256 pref medium]" {
		t.Errorf("left in the main table: %s", got)
	}
	f.do(t, "ADD", f.prev()) // once more
	if got := fmt.Sprint(f.rules(t)); got != rules {
		t.Errorf("rules after a second ADD %s, want %s", got, rules)
	}
	f.do(t, "CHECK", f.prev())
	f.do(t, "STATUS", "")
	f.do(t, "GC", `,"cni.dev/valid-attachments":[{"containerID":"one","ifname":"eth1"}]`)
	f.do(t, "CHECK", f.prev())
	f.do(t, "DEL", f.prev())
	if got := f.rules(t); len(got) > 0 {
		t.Errorf("left: %s", got)
	}
	f.do(t, "DEL", f.prev())
	f.do(t, "DEL", "")
	host.Unchanged(t, whole, `^dir /run/plumb`)
}

func TestDamage(t *testing.T) {
	f := setup(t)
	f.do(t, "ADD", f.prev())
	first, second := f.index*100, f.index*100+1
	for _, x := range []struct{ damage, repair, words string }{
		{"ip rule del from 10.1.0.2", fmt.Sprintf("ip rule add from 10.1.0.2 lookup %d", first), "from 10.1.0.2/32 lookup"},
		{"ip -6 rule del from fd00:1::2", fmt.Sprintf("ip -6 rule add from fd00:1::2 lookup %d", second), "from fd00:1::2/128 lookup"},
		{fmt.Sprintf("ip route del default table %d", first), fmt.Sprintf("ip route add default via 10.1.0.1 table %d", first), "0.0.0.0/0 via 10.1.0.1"},
		{fmt.Sprintf("ip -6 route del default table %d", second), fmt.Sprintf("ip route add default via fd00:1::1 table %d", second), "::/0 via fd00:1::1"},
		{fmt.Sprintf("ip route del 10.1.0.0/24 table %d", first), fmt.Sprintf("ip route add 10.1.0.0/24 dev eth1 table %d", first), "10.1.0.0/24"},
	} {
		f.do(t, "CHECK", f.prev())
		host.RunIn(t, f.ns, "sh", "-ec", x.damage)
		f.fails(t, "CHECK", f.prev(), state.CodeDrift, x.words)
		host.RunIn(t, f.ns, "sh", "-ec", x.repair)
	}
	f.do(t, "CHECK", f.prev())
	host.RunIn(t, f.ns, "ip", "link", "set", "eth1", "down")
	f.fails(t, "CHECK", f.prev(), state.CodeDrift, "10.1.0.0/24")
}

func TestKeys(t *testing.T) {
	keys.Covers(t, "sbr", "table", "gateway", "addSourceHints")
	f := setup(t)
	before := f.table(t, "main")

	f.do(t, "ADD", `,"table":77`+f.prev())
	if got := fmt.Sprint(f.rules(t)); got != "[from 10.1.0.2 lookup 77 from fd00:1::2 lookup 77]" {
		t.Errorf("table: rules %s", got)
	}
	if got := f.table(t, "main"); !slices.Equal(got, before) {
		t.Errorf("table: routes were moved: %s", got)
	}
	f.do(t, "CHECK", `,"table":77`+f.prev())
	f.fails(t, "CHECK", `,"table":78`+f.prev(), state.CodeDrift, "lookup 78")
	f.do(t, "DEL", `,"table":77`+f.prev())

	without := strings.ReplaceAll(strings.ReplaceAll(f.prev(), `"gateway":"10.1.0.1",`, ""), `"gateway":"fd00:1::1",`, "")
	host.RunIn(t, f.ns, "sh", "-ec", "ip route del 198.51.100.0/24; ip route del 2001:db8:9::/64")
	f.do(t, "ADD", `,"gateway":"10.1.0.1","addSourceHints":true`+without)
	if got := fmt.Sprint(f.table(t, f.index*100), f.table(t, f.index*100+1)); !strings.Contains(got, "default via 10.1.0.1") || strings.Contains(got, "default via fd00") {
		t.Errorf("gateway: %s", got)
	}
	if got := fmt.Sprint(f.table(t, "main")); !strings.Contains(got, "10.1.0.0/24 proto kernel scope link src 10.1.0.2") || !strings.Contains(got, "fd00:1::/64 proto kernel src fd00:1::2") {
		t.Errorf("addSourceHints: %s", got)
	}
	f.do(t, "CHECK", `,"gateway":"10.1.0.1","addSourceHints":true`+without)
	host.Ping(t, f.ns, "10.1.0.1")
	f.do(t, "DEL", "")

	for _, x := range []struct{ config, words string }{
		{``, "there is no prevResult with addresses"},
		{`,"table":0` + f.prev(), "table 0 is no number"},
		{`,"gateway":"router"` + f.prev(), "is not an IP address"},
		{`,"gateway":"10.1.0.1","table":7` + f.prev(), "exclude each other"},
		{`,"gateway":"10.99.0.1"` + f.prev(), "the gateway has to be within a subnet"},
	} {
		f.fails(t, "ADD", x.config, cni.CodeInvalidConfig, x.words)
	}
}

// TestUndo leaves everything as it was when a gateway can't be reached.
func TestUndo(t *testing.T) {
	f := setup(t)
	before := f.everything(t)
	f.fails(t, "ADD", strings.ReplaceAll(f.prev(), `"gateway":"fd00:1::1"`, `"gateway":"fd00:7::1"`), cni.CodeInvalidConfig, "gateway")
	if after := f.everything(t); after != before {
		t.Errorf("after a failure %s, was %s", after, before)
	}
}

// TestAddresses has several of one family, each with its own gateway.
func TestAddresses(t *testing.T) {
	f := setup(t)
	host.RunIn(t, f.ns, "sh", "-ec", "ip addr add 10.1.5.2/24 dev eth1; ip addr add 10.1.0.3/24 dev eth1")
	prev := strings.Replace(f.prev(), `{"address":"fd00:1`, `{"address":"10.1.5.2/24","gateway":"10.1.5.1","interface":1},{"address":"10.1.0.3/24","gateway":"10.1.0.1","interface":1},{"address":"fd00:1`, 1)
	f.do(t, "ADD", prev)
	for i, want := range []string{
		"[10.1.0.0/24 proto kernel scope link src 10.1.0.2 198.51.100.0/24 via 10.1.0.1 mtu 1300 default via 10.1.0.1]",
		"[10.1.5.0/24 proto kernel scope link src 10.1.5.2 default via 10.1.5.1]",
		"[10.1.0.0/24 proto kernel scope link src 10.1.0.2 198.51.100.0/24 via 10.1.0.1 mtu 1300 default via 10.1.0.1]",
	} {
		if got := fmt.Sprint(f.table(t, f.index*100+i)); got != want {
			t.Errorf("table %d: %s, want %s", i, got, want)
		}
	}
	host.Ping(t, f.outside, "10.1.0.3")
	f.do(t, "CHECK", prev)
	f.do(t, "DEL", "")
	if got := f.rules(t); len(got) > 0 {
		t.Errorf("left: %s", got)
	}
}

// TestDEL in the ways in which it may come.
func TestDEL(t *testing.T) {
	f := setup(t)
	fresh := func(script string) {
		t.Helper()
		f.do(t, "ADD", f.prev())
		host.Run(t, "sh", "-ec", script)
	}
	gone := func(how string) {
		t.Helper()
		if got := f.rules(t); len(got) > 0 {
			t.Errorf("%s: left %s", how, got)
		}
	}
	fresh("")
	f.do(t, "DEL", `,"table":5`)
	gone("edited")
	fresh("rm -r /run/plumb")
	f.do(t, "DEL", f.prev())
	gone("without a record")
	fresh("rm -r /run/plumb")
	f.do(t, "DEL", "")
	if len(f.rules(t)) != 2 {
		t.Error("DEL without a record and prevResult has removed rules of who knows whose interface")
	}
	f.do(t, "DEL", strings.ReplaceAll(f.prev(), "02:00:00:00:00:01", "02:00:00:00:00:77"))
	if len(f.rules(t)) != 2 {
		t.Error("DEL has removed the rules of somebody else's interface")
	}
	host.RunIn(t, f.ns, "ip", "link", "del", "eth1")
	f.do(t, "DEL", f.prev())
	gone("without the link")
	host.RemoveNetNS(t, f.ns)
	f.do(t, "DEL", f.prev())
	if out, exit := f.by(t, f.bin, "DEL", "", f.prev()); exit != 0 {
		t.Error(out)
	}
}

// TestGC removes the rules of an attachment that is not valid any more.
func TestGC(t *testing.T) {
	f := setup(t)
	f.do(t, "ADD", f.prev())
	f.do(t, "GC", "")
	if len(f.rules(t)) != 2 {
		t.Error("GC without a list has removed something")
	}
	f.do(t, "GC", `,"cni.dev/valid-attachments":[]`)
	if got := f.rules(t); len(got) > 0 {
		t.Errorf("left: %s", got)
	}
}

// TestReference takes over what the reference has made, and the other way round.
func TestReference(t *testing.T) {
	f := setup(t)
	reference := host.Reference(t)
	if out, exit := f.by(t, reference, "ADD", f.ns, f.prev()); exit != 0 {
		t.Fatal(out)
	}
	f.do(t, "CHECK", f.prev())
	host.RunIn(t, f.ns, "ip", "rule", "del", "from", "10.1.0.2")
	f.fails(t, "CHECK", f.prev(), state.CodeDrift, "from 10.1.0.2/32")
	f.do(t, "DEL", f.prev())
	if got := f.rules(t); len(got) > 0 {
		t.Errorf("left of the reference's: %s", got)
	}
	g := setup(t)
	g.do(t, "ADD", g.prev())
	if out, exit := g.by(t, reference, "DEL", g.ns, g.prev()); exit != 0 {
		t.Error(out)
	}
	if got := g.rules(t); len(got) > 0 {
		t.Errorf("the reference has left of ours: %s", got)
	}
	g.do(t, "DEL", g.prev())
}
