package vrf_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

func TestMain(m *testing.M) { host.Main(m) }

// A fixture is a container with two interfaces, to networks with the same
// addresses, each with a router.
type fixture struct {
	ns      string
	routers []string
	bin     string
}

func setup(t *testing.T) fixture {
	t.Helper()
	host.Need(t, "vrf")
	f := fixture{ns: host.NetNS(t), routers: []string{host.NetNS(t), host.NetNS(t)}, bin: host.Bin(t)}
	host.Run(t, "rm", "-rf", "/run/plumb") // what an earlier test's container has left
	for _, ns := range append(f.routers, f.ns) {
		host.RunIn(t, ns, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0")
	}
	for i, router := range f.routers {
		host.Run(t, "sh", "-ec", fmt.Sprintf(`ip -n $(basename %s) link add eth%d address 02:00:00:00:00:0%d type veth peer name in netns $(basename %s)`, f.ns, i, i, router))
		host.RunIn(t, router, "sh", "-ec", `
			ip addr add 10.1.0.1/24 dev in; ip addr add fd00:1::1/64 dev in nodad; ip link set in up
			ip addr add 192.0.2.1/32 dev lo; ip addr add 2001:db8::1/128 dev lo; ip link set lo up`)
		// A route to the gateway alone is as ptp makes it.
		host.RunIn(t, f.ns, "sh", "-ec", fmt.Sprintf(`
			ip addr add 10.1.0.2/24 dev eth%[1]d; ip addr add fd00:1::2/64 dev eth%[1]d nodad; ip link set eth%[1]d up
			ip route add 192.0.2.0/24 via 10.1.0.1 dev eth%[1]d mtu 1300 metric 1%[1]d; ip route add 2001:db8::/64 via fd00:1::1 dev eth%[1]d metric 1%[1]d
			ip route add 198.51.100.7/32 dev eth%[1]d scope link metric 1%[1]d; ip route add 198.51.100.0/24 via 198.51.100.7 dev eth%[1]d metric 1%[1]d`, i))
	}
	return f
}

func (f fixture) prev(ifname string) string {
	return fmt.Sprintf(`,"prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":%[2]q,"mac":"02:00:00:00:00:0%[3]s","sandbox":%[1]q}],"ips":[
		{"address":"10.1.0.2/24","gateway":"10.1.0.1","interface":0},{"address":"fd00:1::2/64","gateway":"fd00:1::1","interface":0}]}`, f.ns, ifname, ifname[3:])
}

func (f fixture) by(t *testing.T, bin, verb, ns, ifname, keys string) (string, int) {
	t.Helper()
	config := `{"cniVersion":"1.1.0","name":"routers","type":"vrf"` + keys + `}`
	env := host.Env(verb, "one", ns, ifname, bin)
	if verb == "GC" || verb == "STATUS" {
		env = host.Env(verb, "", "", "", bin)
	}
	stdout, _, exit := host.Plugin(t, bin, "vrf", env, config)
	return stdout, exit
}

func (f fixture) do(t *testing.T, verb, ifname, keys string) string {
	t.Helper()
	stdout, exit := f.by(t, f.bin, verb, f.ns, ifname, keys)
	if exit != 0 {
		t.Fatalf("%s %s %s: %s", verb, ifname, keys, stdout)
	}
	return stdout
}

func (f fixture) fails(t *testing.T, verb, ifname, keys string, code cni.Code, words string) {
	t.Helper()
	stdout, exit := f.by(t, f.bin, verb, f.ns, ifname, keys)
	failure, err := cni.DecodeError([]byte(stdout))
	if exit == 0 || err != nil || failure.Code != code || !strings.Contains(failure.Error(), words) {
		t.Errorf("%s %s %s: %s; want code %d and %q", verb, ifname, keys, stdout, code, words)
	}
}

// routes returns the routes of a table by an interface, as ip prints them.
func (f fixture) routes(t *testing.T, ifname string, table any) []string {
	t.Helper()
	var list []string
	for _, family := range []string{"-4", "-6"} {
		out, err := host.TryIn(f.ns, "ip", family, "route", "show", "table", fmt.Sprint(table), "dev", ifname)
		if err != nil {
			continue // there is no such table
		}
		for line := range strings.Lines(out) {
			if line := strings.Join(strings.Fields(line), " "); !strings.Contains(line, "fe80") && !strings.Contains(line, "ff00::") {
				list = append(list, line)
			}
		}
	}
	slices.Sort(list)
	return list
}

// table returns the table of a VRF.
func (f fixture) table(t *testing.T, name string) int {
	t.Helper()
	table, _ := host.Links(t, f.ns)[name].Data["table"].(float64)
	return int(table)
}

// TestTraffic puts each interface into a VRF of its own, and asks the same address
// by both.
func TestTraffic(t *testing.T) {
	f := setup(t)
	f.do(t, "ADD", "eth0", `,"vrfname":"red"`+f.prev("eth0"))
	f.do(t, "ADD", "eth1", `,"vrfname":"blue"`+f.prev("eth1"))
	for _, vrf := range []string{"red", "blue"} {
		for _, address := range []string{"10.1.0.1", "fd00:1::1", "192.0.2.1", "2001:db8::1"} {
			host.RunIn(t, f.ns, "ping", "-n", "-c", "1", "-W", "2", "-I", vrf, address)
		}
	}
	host.RunIn(t, f.ns, "sysctl", "-qw", "net.ipv4.tcp_l3mdev_accept=1")
	for _, router := range f.routers {
		host.Ping(t, router, "10.1.0.2")
		host.Ping(t, router, "fd00:1::2")
		server := host.Serve(t, f.ns, "tcp4", "0.0.0.0:0")
		if _, err := host.Ask(t, router, "tcp4", strings.Replace(server, "0.0.0.0", "10.1.0.2", 1), ""); err != nil {
			t.Error(err)
		}
	}
	if _, err := host.TryIn(f.ns, "ping", "-n", "-c", "1", "-W", "1", "10.1.0.1"); err == nil {
		t.Error("the container reaches a network of a VRF without naming one")
	}
}

func TestLife(t *testing.T) {
	keys.Covers(t, "vrf", "vrfname", "table")
	f := setup(t)
	whole := host.Snapshot(t)
	before := f.routes(t, "eth0", "main")
	config := `,"vrfname":"red","table":77` + f.prev("eth0")
	result := f.do(t, "ADD", "eth0", config)
	if !strings.Contains(result, `"10.1.0.2/24"`) {
		t.Errorf("the result is not the previous one: %s", result)
	}
	links := host.Links(t, f.ns)
	if l := links["red"]; !l.Up() || f.table(t, "red") != 77 || links["eth0"].Master != "red" {
		t.Errorf("%+v, master %s", l, links["eth0"].Master)
	}
	if got := f.routes(t, "eth0", "main"); len(got) > 0 {
		t.Errorf("left in the main table: %s", got)
	}
	var got []string
	for _, r := range f.routes(t, "eth0", 77) {
		if !strings.HasPrefix(r, "local") && !strings.HasPrefix(r, "broadcast") && !strings.HasPrefix(r, "anycast") && !strings.HasPrefix(r, "multicast") {
			got = append(got, r)
		}
	}
	if !slices.Equal(got, before) {
		t.Errorf("in the VRF's table %q, were %q", got, before)
	}
	f.do(t, "ADD", "eth0", config) // once more
	f.do(t, "CHECK", "eth0", config)
	f.do(t, "STATUS", "", `,"vrfname":"red"`)
	f.do(t, "GC", "", `,"vrfname":"red","cni.dev/valid-attachments":[{"containerID":"one","ifname":"eth0"}]`)
	f.do(t, "CHECK", "eth0", config)
	f.do(t, "DEL", "eth0", config)
	if links := host.Links(t, f.ns); links["eth0"].Master != "" || links["red"].Name != "" {
		t.Errorf("after DEL: %v", links)
	}
	f.do(t, "DEL", "eth0", config)
	f.do(t, "DEL", "eth0", `,"vrfname":"red"`)
	host.Unchanged(t, whole, `^dir /run/plumb`)
}

// TestSeveral interfaces of a container in one VRF, which goes with the last.
func TestSeveral(t *testing.T) {
	f := setup(t)
	f.do(t, "ADD", "eth0", `,"vrfname":"red"`+f.prev("eth0"))
	f.do(t, "ADD", "eth1", `,"vrfname":"red"`+f.prev("eth1"))
	f.fails(t, "ADD", "eth1", `,"vrfname":"red","table":99`+f.prev("eth1"), state.CodeConflict, "VRF red has table")
	f.fails(t, "ADD", "eth1", `,"vrfname":"green"`+f.prev("eth1"), state.CodeConflict, "eth1 has a master already")
	if _, ok := host.Links(t, f.ns)["green"]; ok {
		t.Error("a failed ADD has left its VRF")
	}
	f.do(t, "CHECK", "eth0", `,"vrfname":"red"`+f.prev("eth0"))
	f.do(t, "CHECK", "eth1", `,"vrfname":"red"`+f.prev("eth1"))
	f.do(t, "DEL", "eth0", `,"vrfname":"red"`+f.prev("eth0"))
	f.do(t, "CHECK", "eth1", `,"vrfname":"red"`+f.prev("eth1"))
	f.do(t, "DEL", "eth1", `,"vrfname":"red"`+f.prev("eth1"))
	if _, ok := host.Links(t, f.ns)["red"]; ok {
		t.Error("the VRF is still there")
	}
}

// TestTables has VRFs made at the same time, which need tables of their own, or the
// same VRF.
func TestTables(t *testing.T) {
	f := setup(t)
	host.RunIn(t, f.ns, "sh", "-ec", "ip route add 203.0.113.0/24 dev eth0 table 1; for i in 2 3 4 5 6 7; do ip link add eth$i type dummy; done")
	adds := func(name func(i int) string) {
		t.Helper()
		var wait sync.WaitGroup
		for i := 2; i < 8; i++ {
			wait.Go(func() {
				ifname := fmt.Sprintf("eth%d", i)
				if out, exit := f.by(t, f.bin, "ADD", f.ns, ifname, `,"vrfname":"`+name(i)+`"`+f.prev(ifname)); exit != 0 {
					t.Errorf("%s: %s", ifname, out)
				}
			})
		}
		wait.Wait()
	}
	adds(func(i int) string { return fmt.Sprintf("v%d", i) })
	seen := map[int]bool{1: true} // has a route
	for i := 2; i < 8; i++ {
		table := f.table(t, fmt.Sprintf("v%d", i))
		if seen[table] {
			t.Errorf("table %d is used twice", table)
		}
		seen[table] = true
		f.do(t, "DEL", fmt.Sprintf("eth%d", i), fmt.Sprintf(`,"vrfname":"v%d"`, i))
	}
	adds(func(int) string { return "shared" })
	for i := 2; i < 8; i++ {
		if l := host.Links(t, f.ns)[fmt.Sprintf("eth%d", i)]; l.Master != "shared" {
			t.Errorf("%s has master %q", l.Name, l.Master)
		}
	}
}

// TestArgs are those of the conventions, and come before the keys.
func TestArgs(t *testing.T) {
	keys.Covers(t, "vrf", "args.cni.vrfname", "args.cni.table")
	f := setup(t)
	config := `,"vrfname":"red","table":7,"args":{"cni":{"vrfname":"blue","table":8}}` + f.prev("eth0")
	f.do(t, "ADD", "eth0", config)
	if table := f.table(t, "blue"); table != 8 {
		t.Errorf("table %d", table)
	}
	f.do(t, "CHECK", "eth0", config)
	f.do(t, "DEL", "eth0", config)
}

func TestDamage(t *testing.T) {
	f := setup(t)
	config := `,"vrfname":"red","table":77` + f.prev("eth0")
	for _, x := range []struct{ damage, words string }{
		{"ip link set eth0 nomaster", "master is none, want red"},
		{"ip link del red", "sandbox link red is missing"},
		{"ip link set red down", "up is false"},
		{"ip link del red; ip link add red type vrf table 78; ip link set red up; ip link set eth0 master red", "table is 78, want 77"},
		{"ip link del red; ip link add red type dummy; ip link set red up", "kind is dummy, want vrf"},
	} {
		f.do(t, "ADD", "eth0", config)
		f.do(t, "CHECK", "eth0", config)
		host.RunIn(t, f.ns, "sh", "-ec", x.damage)
		f.fails(t, "CHECK", "eth0", config, state.CodeDrift, x.words)
		f.do(t, "DEL", "eth0", config)
		host.TryIn(f.ns, "ip", "link", "del", "red") //nolint:errcheck // there may be none
	}
	f.do(t, "ADD", "eth0", config)
	host.RunIn(t, f.ns, "ip", "link", "del", "eth0")
	f.fails(t, "CHECK", "eth0", config, state.CodeDrift, "sandbox link eth0 is missing")
	f.do(t, "DEL", "eth0", config)
	if _, ok := host.Links(t, f.ns)["red"]; ok {
		t.Error("the VRF has no member and is still there")
	}
}

func TestRefused(t *testing.T) {
	f := setup(t)
	for _, x := range []struct{ config, words string }{
		{f.prev("eth0"), "vrfname is missing"},
		{`,"vrfname":"a/b"` + f.prev("eth0"), "is not a name for an interface"},
		{`,"vrfname":"all"` + f.prev("eth0"), "stands for every interface"},
		{`,"vrfname":"eth0"` + f.prev("eth0"), "is the name of the container's interface"},
		{`,"vrfname":"red"`, "there is no prevResult"},
	} {
		f.fails(t, "ADD", "eth0", x.config, cni.CodeInvalidConfig, x.words)
	}
	f.fails(t, "ADD", "eth0", `,"vrfname":"eth1"`+f.prev("eth0"), state.CodeConflict, "is not a VRF")
}

// TestDELOfRefused: DEL is due after an ADD that was refused, and finds nothing. It
// needs no VRF.
func TestDELOfRefused(t *testing.T) {
	f := fixture{ns: host.NetNS(t), bin: host.Bin(t)}
	host.RunIn(t, f.ns, "ip", "link", "add", "eth0", "address", "02:00:00:00:00:00", "type", "veth", "peer", "name", "peer")
	for _, name := range []string{"a-name-of-16-byte", "red/blue", "red blue", "red:blue", "eth0", "all", "."} {
		for _, keys := range []string{fmt.Sprintf(`,"vrfname":%q`, name), fmt.Sprintf(`,"args":{"cni":{"vrfname":%q}}`, name)} {
			f.fails(t, "ADD", "eth0", keys+f.prev("eth0"), cni.CodeInvalidConfig, "vrfname")
			f.do(t, "DEL", "eth0", keys+f.prev("eth0"))
		}
	}
}

// TestUndo gives the interface back when a route can't follow it: its gateway is
// nowhere any more.
func TestUndo(t *testing.T) {
	f := setup(t)
	before := f.routes(t, "eth0", "main")
	host.RunIn(t, f.ns, "sh", "-ec", "ip route add 172.16.0.1 dev eth0; ip route add 203.0.113.0/24 via 172.16.0.1 dev eth0; ip route del 172.16.0.1 dev eth0")
	stdout, exit := f.by(t, f.bin, "ADD", f.ns, "eth0", `,"vrfname":"red"`+f.prev("eth0"))
	if exit == 0 || !strings.Contains(stdout, "203.0.113.0/24") {
		t.Errorf("ADD: %s", stdout)
	}
	if links := host.Links(t, f.ns); links["eth0"].Master != "" || links["red"].Name != "" {
		t.Errorf("after a failed ADD: %v", links)
	}
	if after := f.routes(t, "eth0", "main"); !slices.Equal(after, before) {
		t.Errorf("after a failed ADD %q, were %q", after, before)
	}
}

// TestDEL in the ways in which it may come.
func TestDEL(t *testing.T) {
	f := setup(t)
	gone := func(how string) {
		t.Helper()
		if links := host.Links(t, f.ns); links["eth0"].Master != "" || links["red"].Name != "" {
			t.Errorf("%s: %v", how, links)
		}
	}
	config := `,"vrfname":"red"`
	add := func() { f.do(t, "ADD", "eth0", config+f.prev("eth0")) }
	add()
	f.do(t, "DEL", "eth0", `,"vrfname":"blue"`)
	gone("edited")
	add()
	host.Run(t, "rm", "-r", "/run/plumb")
	f.do(t, "DEL", "eth0", config)
	if host.Links(t, f.ns)["eth0"].Master != "red" {
		t.Error("DEL without a record and prevResult has released who knows whose interface")
	}
	f.do(t, "DEL", "eth0", config+f.prev("eth0"))
	gone("without a record")
	add()
	host.Run(t, "rm", "-r", "/run/plumb")
	f.do(t, "DEL", "eth0", config+strings.ReplaceAll(f.prev("eth0"), "02:00:00:00:00:00", "02:00:00:00:00:77"))
	if host.Links(t, f.ns)["eth0"].Master != "red" {
		t.Error("DEL has released somebody else's interface")
	}
	f.do(t, "GC", "", config+`,"cni.dev/valid-attachments":[]`) // nothing is recorded
	add()
	f.do(t, "DEL", "eth0", config)
	add()
	f.do(t, "GC", "", config)
	f.do(t, "CHECK", "eth0", config+f.prev("eth0"))
	f.do(t, "GC", "", config+`,"cni.dev/valid-attachments":[]`)
	gone("GC")
	add()
	host.RemoveNetNS(t, f.ns)
	f.do(t, "DEL", "eth0", config)
	if out, exit := f.by(t, f.bin, "DEL", "", "eth0", config); exit != 0 {
		t.Error(out)
	}
}

// TestReference takes over what the reference has made, and the other way round.
func TestReference(t *testing.T) {
	f := setup(t)
	reference := host.Reference(t)
	config := func(ifname string) string { return `,"vrfname":"red"` + f.prev(ifname) }
	host.RunIn(t, f.ns, "ip", "route", "del", "198.51.100.0/24", "dev", "eth0") // which it can't carry over
	host.RunIn(t, f.ns, "ip", "route", "del", "198.51.100.7", "dev", "eth0")
	if out, exit := f.by(t, reference, "ADD", f.ns, "eth0", config("eth0")); exit != 0 {
		t.Fatal(out)
	}
	f.do(t, "CHECK", "eth0", config("eth0"))
	f.do(t, "ADD", "eth1", config("eth1"))
	for _, ifname := range []string{"eth0", "eth1"} {
		if out, exit := f.by(t, reference, "CHECK", f.ns, ifname, config(ifname)); exit != 0 {
			t.Errorf("the reference's CHECK: %s", out)
		}
	}
	f.do(t, "DEL", "eth0", config("eth0"))
	if host.Links(t, f.ns)["eth1"].Master != "red" {
		t.Error("the VRF has gone with the first of two")
	}
	if out, exit := f.by(t, reference, "DEL", f.ns, "eth1", config("eth1")); exit != 0 {
		t.Errorf("the reference's DEL: %s", out)
	}
	if _, ok := host.Links(t, f.ns)["red"]; ok {
		t.Error("the VRF is still there")
	}
	f.do(t, "DEL", "eth1", config("eth1"))
}
