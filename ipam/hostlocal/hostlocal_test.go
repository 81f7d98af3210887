package hostlocal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/addrstore"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

func TestMain(m *testing.M) { host.Main(m) }

var ctx = context.Background()

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A node is a plugin with a folder of its own.
type node struct {
	plugin.IPAM
	dir string
}

func newNode(t testing.TB) *node { return &node{New(), t.TempDir()} }

// request returns a call with the keys of ipam given, and more keys of the configuration.
func (n *node) request(id, ifName, args, ipamKeys string, more ...string) (*plugin.Request, error) {
	config := fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net","type":"x","ipam":{"type":"host-local","dataDir":%q,%s}`, n.dir, ipamKeys)
	for _, m := range more {
		config += "," + m
	}
	return plugin.NewRequest(&cni.Request{ContainerID: id, IfName: ifName, Args: args, Config: []byte(config + "}")})
}

func (n *node) must(t testing.TB, id, ipamKeys string, more ...string) *plugin.Request {
	t.Helper()
	r, err := n.request(id, "eth0", "", ipamKeys, more...)
	check(t, err)
	return r
}

// add returns the addresses of an ADD as text, or its error.
func (n *node) add(t testing.TB, id, ipamKeys string, more ...string) string {
	t.Helper()
	return show(n.Add(ctx, n.must(t, id, ipamKeys, more...)))
}

func show(result *cni.Result, err error) string {
	if err != nil {
		return fmt.Sprintf("%d: %v", cni.AsError(err).Code, err)
	}
	var s []string
	for _, ip := range result.IPs {
		s = append(s, ip.Address.String())
	}
	return strings.Join(s, " ")
}

// records returns the names of the network's records with their containers.
func (n *node) records(t testing.TB) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(n.dir + "/net")
	if err != nil {
		return nil
	}
	m := make(map[string]string)
	for _, e := range entries {
		if e.Name() != "lock" && !strings.HasPrefix(e.Name(), "last_reserved_ip.") {
			data, err := os.ReadFile(filepath.Join(n.dir, "net", e.Name()))
			check(t, err)
			m[e.Name()], _, _ = strings.Cut(string(data), "\r\n")
		}
	}
	return m
}

// put writes files of the network's folder.
func (n *node) put(t testing.TB, files map[string]string) {
	t.Helper()
	check(t, os.MkdirAll(n.dir+"/net", 0o755))
	for name, content := range files {
		check(t, os.WriteFile(filepath.Join(n.dir, "net", name), []byte(content), 0o600))
	}
}

func TestAdd(t *testing.T) {
	keys.Covers(t, "host-local", "ipam.dataDir", "ipam.ranges.subnet", "ipam.resolvConf", "ipam.routes.dst", "ipam.routes.gw", "ipam.routes.mtu",
		"ipam.routes.advmss", "ipam.routes.priority", "ipam.routes.table", "ipam.routes.scope")
	n := newNode(t)
	resolv := n.dir + "/resolv.conf"
	check(t, os.WriteFile(resolv, []byte("nameserver 192.0.2.1\nsearch a.test\n"), 0o600))
	result, err := n.Add(ctx, n.must(t, "c1", fmt.Sprintf(`
		"ranges":[[{"subnet":"10.0.0.0/24","gateway":"10.0.0.254"}],[{"subnet":"fd00::/64","rangeStart":"fd00::10"}]],"resolvConf":%q,
		"routes":[{"dst":"0.0.0.0/0"},{"dst":"fd01::1/64","gw":"fd00::9","mtu":1400,"advmss":1300,"priority":7,"table":100,"scope":253},{"dst":"10.9.0.0/16","gw":""}]`, resolv)))
	check(t, err)
	got, err := result.Encode(cni.V110)
	check(t, err)
	want := `{"cniVersion":"1.1.0",
		"ips":[{"address":"10.0.0.1/24","gateway":"10.0.0.254"},{"address":"fd00::10/64","gateway":"fd00::1"}],
		"routes":[{"dst":"0.0.0.0/0"},{"dst":"fd01::1/64","gw":"fd00::9","mtu":1400,"advmss":1300,"priority":7,"table":100,"scope":253},{"dst":"10.9.0.0/16"}],
		"dns":{"nameservers":["192.0.2.1"],"search":["a.test"]}}`
	sameJSON(t, got, []byte(want))
	if got, want := n.records(t), (map[string]string{"10.0.0.1": "c1", "fd00::10": "c1"}); !maps.Equal(got, want) {
		t.Errorf("records %v, want %v", got, want)
	}
}

func sameJSON(t *testing.T, got, want []byte) {
	t.Helper()
	var g, w any
	check(t, json.Unmarshal(got, &g))
	check(t, json.Unmarshal(want, &w))
	if !reflect.DeepEqual(g, w) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// sequences are configurations and what their ADDs give, "full" for an error. The reference gives the same, but for those that say not.
var sequences = []struct {
	name string
	ipam string
	put  map[string]string
	want string
	ours bool // differs from the reference
}{
	{"defaults", `"subnet":"10.0.0.0/29"`, nil, "10.0.0.2/29 10.0.0.3/29 10.0.0.4/29 10.0.0.5/29 10.0.0.6/29 full", false},
	{"smallest", `"subnet":"10.0.0.0/30"`, nil, "10.0.0.2/30 full", false},
	{"gateway elsewhere", `"subnet":"10.0.0.0/29","gateway":"10.0.0.3"`, nil, "10.0.0.1/29 10.0.0.2/29 10.0.0.4/29 10.0.0.5/29 10.0.0.6/29 full", false},
	{"gateway outside", `"subnet":"10.0.0.0/30","gateway":"192.0.2.1"`, nil, "10.0.0.1/30 10.0.0.2/30 full", false},
	{"part", `"subnet":"10.0.0.0/24","rangeStart":"10.0.0.7","rangeEnd":"10.0.0.8"`, nil, "10.0.0.7/24 10.0.0.8/24 full", false},
	{"one", `"subnet":"10.0.0.0/24","rangeStart":"10.0.0.7","rangeEnd":"10.0.0.7"`, nil, "10.0.0.7/24 full", false},
	{"IPv6", `"subnet":"fd00::/126"`, nil, "fd00::2/126 fd00::3/126 full", false},
	{"IPv6 from zero", `"subnet":"fd00::/126","rangeStart":"fd00::"`, nil, "fd00::/126 fd00::2/126 fd00::3/126 full", false},
	{"several", `"ranges":[[{"subnet":"10.0.0.0/30"},{"subnet":"10.0.1.0/29","rangeEnd":"10.0.1.3"}]]`, nil, "10.0.0.2/30 10.0.1.2/29 10.0.1.3/29 full", false},
	{"both families", `"ranges":[[{"subnet":"10.0.0.0/29"}],[{"subnet":"fd00::/126"}]]`, nil, "10.0.0.2/29,fd00::2/126 10.0.0.3/29,fd00::3/126 full", false},
	{"single and list", `"subnet":"10.0.0.0/30","ranges":[[{"subnet":"10.0.1.0/30"}]]`, nil, "10.0.0.2/30,10.0.1.2/30 full", false},
	{"in the middle", `"subnet":"10.0.0.0/29"`, map[string]string{"last_reserved_ip.0": "10.0.0.4"}, "10.0.0.5/29 10.0.0.6/29 10.0.0.2/29 10.0.0.3/29 10.0.0.4/29 full", false},
	{"after the last", `"subnet":"10.0.0.0/29"`, map[string]string{"last_reserved_ip.0": "10.0.0.6"}, "10.0.0.2/29 10.0.0.3/29", false},
	{"after one outside", `"subnet":"10.0.0.0/29"`, map[string]string{"last_reserved_ip.0": "10.0.7.6"}, "10.0.0.2/29 10.0.0.3/29", false},
	{"after the broadcast", `"subnet":"10.0.0.0/29"`, map[string]string{"last_reserved_ip.0": "10.0.0.7"}, "10.0.0.2/29 10.0.0.3/29", false},
	{"after nonsense", `"subnet":"10.0.0.0/29"`, map[string]string{"last_reserved_ip.0": "what"}, "10.0.0.2/29 10.0.0.3/29", false},
	{"of the second set", `"ranges":[[{"subnet":"10.0.0.0/29"}],[{"subnet":"10.0.1.0/29"}]]`, map[string]string{"last_reserved_ip.1": "10.0.1.4"}, "10.0.0.2/29,10.0.1.5/29", false},
	{"from range to range", `"ranges":[[{"subnet":"10.0.0.0/30"},{"subnet":"10.0.1.0/30"},{"subnet":"10.0.2.0/30"}]]`, map[string]string{"last_reserved_ip.0": "10.0.1.2"}, "10.0.2.2/30 10.0.0.2/30 10.0.1.2/30 full", false},
	{"some held", `"subnet":"10.0.0.0/29"`, map[string]string{"10.0.0.2": "a\r\neth0", "10.0.0.4": "b", "10.0.0.5": "a note of somebody"}, "10.0.0.3/29 10.0.0.6/29 full", false},
	{"torn", `"subnet":"10.0.0.0/30"`, map[string]string{"10.0.0.2": ""}, "10.0.0.2/30 full", true},
	{"broadcast in range", `"subnet":"10.0.0.0/29","rangeStart":"10.0.0.6","rangeEnd":"10.0.0.7"`, nil, "10.0.0.6/29 full", true},
	{"network in range", `"subnet":"10.0.0.0/29","rangeStart":"10.0.0.0","rangeEnd":"10.0.0.2"`, nil, "10.0.0.2/29 full", true},
	{"gateway of another range", `"ranges":[[{"subnet":"10.0.0.0/29","rangeEnd":"10.0.0.3","gateway":"10.0.0.4"},{"subnet":"10.0.0.0/29","rangeStart":"10.0.0.4","rangeEnd":"10.0.0.5"}]]`, nil,
		"10.0.0.2/29 10.0.0.3/29 10.0.0.5/29 full", true},
}

func TestSequence(t *testing.T) {
	for _, c := range sequences {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			n.put(t, c.put)
			var got []string
			for i := range strings.Fields(c.want) {
				a := n.add(t, fmt.Sprint("c", i), c.ipam)
				if strings.HasPrefix(a, "102: ") {
					a = "full"
				}
				got = append(got, strings.ReplaceAll(a, " ", ","))
			}
			if g := strings.Join(got, " "); g != c.want {
				t.Errorf("got %s, want %s", g, c.want)
			}
		})
	}
}

// TestExhausted says who has what.
func TestExhausted(t *testing.T) {
	n := newNode(t)
	n.put(t, map[string]string{"10.0.0.2": "a\r\neth0", "10.0.0.3": "b\r\neth0", "10.0.0.4": "a\r\neth1", "10.0.0.5": "c", "10.0.0.6": "d\r\neth0", "10.0.0.99": "b\r\neth3"})
	got := n.add(t, "new", `"ranges":[[{"subnet":"fd00::/64"}],[{"subnet":"10.0.0.0/29"}]]`)
	want := "102: network net: no address left in range set 1, 10.0.0.1-10.0.0.6: 5 of 5 are held, most by a (2), b (1), c (1); " +
		"add a range, or release what belongs to containers that are gone: DEL, GC"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if r := n.records(t); len(r) != 6 {
		t.Errorf("records %v: the other range's address was kept", r)
	}
	check(t, os.Remove(n.dir+"/net/10.0.0.5"))
	if got := n.add(t, "new", `"subnet":"10.0.0.0/29"`); got != "10.0.0.5/29" {
		t.Error(got)
	}
}

func TestRequested(t *testing.T) {
	keys.Covers(t, "host-local", "CNI_ARGS.IP", "args.cni.ips", "runtimeConfig.ips")
	const two = `"ranges":[[{"subnet":"10.0.0.0/24"},{"subnet":"10.0.1.0/24"}],[{"subnet":"fd00::/64"}]]`
	taken := map[string]string{"10.0.0.5": "other\r\neth7", "10.0.0.6": "", "10.0.0.7": "old"}
	for _, c := range []struct{ args, more, want string }{
		{"IP=10.0.0.9", `"x":0`, "10.0.0.9/24 fd00::2/64"},
		{"IP=10.0.1.9/8", `"x":0`, "10.0.1.9/24 fd00::2/64"},
		{"IP=", `"x":0`, "10.0.0.2/24 fd00::2/64"},
		{"ip=10.0.0.9;IgnoreUnknown=1", `"x":0`, "10.0.0.2/24 fd00::2/64"}, // the reference knows upper case only
		{"", `"runtimeConfig":{"ips":["fd00::9","10.0.0.9/24"]}`, "10.0.0.9/24 fd00::9/64"},
		{"", `"Args":{"CNI":{"IPs":["fd00::9/64"]}}`, "10.0.0.2/24 fd00::9/64"},
		{"IP=10.0.0.9", `"args":{"cni":{"ips":["10.0.0.9"]}},"runtimeConfig":{"ips":["10.0.0.9/24","fd00::a"]}`, "10.0.0.9/24 fd00::a/64"},
		{"", `"runtimeConfig":{"ips":["10.0.0.6"]}`, "10.0.0.6/24 fd00::2/64"}, // torn
		{"", `"runtimeConfig":{"ips":["::ffff:10.0.0.8"]}`, "10.0.0.8/24 fd00::2/64"},
		{"", `"runtimeConfig":{"ips":null,"ipRanges":[[{"subnet":"10.0.7.0/24"}]]}`, "10.0.7.2/24 10.0.0.2/24 fd00::2/64"},

		{"IP=10.0.0.9.1", `"x":0`, `4: CNI_ARGS: IP: "10.0.0.9.1" is not an IP address`},
		{"IP=10.0.2.9", `"x":0`, "4: CNI_ARGS: IP: 10.0.2.9 is in none of the ranges 10.0.0.1-10.0.0.254, 10.0.1.1-10.0.1.254; fd00::1-fd00::ffff:ffff:ffff:ffff"},
		{"IP=10.0.1.1", `"x":0`, "4: CNI_ARGS: IP: 10.0.1.1 is the gateway of its subnet"},
		{"IPX=1", `"x":0`, `4: CNI_ARGS: unknown arguments "IPX=1"`},
		{"", `"runtimeConfig":{"ips":["10.0.0.5"]}`, "100: network net: runtimeConfig.ips[0]: 10.0.0.5 is held by container other, interface eth7"},
		{"", `"runtimeConfig":{"ips":["fd00::9","10.0.0.7"]}`, "100: network net: runtimeConfig.ips[1]: 10.0.0.7 is held by container old"},
		{"", `"runtimeConfig":{"ips":["10.0.0.9","10.0.1.9"]}`, "7: runtimeConfig.ips[1]: 10.0.1.9 is of the same range set as 10.0.0.9 of runtimeConfig.ips[0]"},
		{"", `"args":{"cni":{"ips":["10.0.0.9",null]}}`, `7: args.cni.ips[1]: "" is not an IP address`},
		{"", `"args":{"cni":{"ips":"10.0.0.9"}}`, "6: decode args: cni.ips has to be a list, not a string"},
		{"", `"runtimeConfig":{"ips":["fe80::1%eth0"]}`, `7: runtimeConfig.ips[0]: "fe80::1%eth0" is not an IP address`},
		{"", `"runtimeConfig":{"ipRanges":[[{"subnet":"10.0.1.128/25"}]]}`, "7: ipam.ranges[0]: 10.0.1.1-10.0.1.254 overlaps with 10.0.1.129-10.0.1.254 of runtimeConfig.ipRanges[0]"},
	} {
		n := newNode(t)
		n.put(t, taken)
		r, err := n.request("c1", "eth0", c.args, two, c.more)
		check(t, err)
		got := show(n.Add(ctx, r))
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s %s: got  %s\nwant %s", c.args, c.more, got, c.want)
		}
		if _, isError, _ := strings.Cut(got, ": "); isError != "" && len(n.records(t)) != len(taken) {
			t.Errorf("%s %s: records %v after an error", c.args, c.more, n.records(t))
		}
	}
}

func TestBadConfig(t *testing.T) {
	for _, c := range [][2]string{
		{`"x":0`, `7: ipam.ranges: no range to allocate from; such as "ranges": [[{"subnet": "10.0.0.0/24"}]]`},
		{`"ranges":[]`, `7: ipam.ranges: no range to allocate from`},
		{`"ranges":[[]]`, `7: ipam.ranges[0]: empty`},
		{`"ranges":[[{}]]`, `7: ipam.ranges[0][0].subnet: missing`},
		{`"ranges":{}`, `6: decode ipam: ranges has to be a list, not an object`},
		{`"subnet":10`, `6: decode ipam: subnet has to be a string, not a number`},
		{`"ranges":[[{"subnet":"10.0.0.0"}]]`, `7: ipam.ranges[0][0].subnet: "10.0.0.0" is not an address in CIDR notation`},
		{`"subnet":"10.0.0.1/24"`, `7: ipam.subnet: "10.0.0.1/24" has host bits set; the subnet is 10.0.0.0/24`},
		{`"subnet":"10.0.0.0/31"`, `7: ipam.subnet: "10.0.0.0/31" is too small to allocate from; the prefix can have 30 bits at most`},
		{`"subnet":"fd00::/127"`, `7: ipam.subnet: "fd00::/127" is too small to allocate from; the prefix can have 126 bits at most`},
		{`"subnet":"10.0.0.0/24","rangeStart":"10.0.1.1"`, `7: ipam.rangeStart: 10.0.1.1 is not in subnet 10.0.0.0/24`},
		{`"subnet":"10.0.0.0/24","rangeEnd":"fd00::1"`, `7: ipam.rangeEnd: fd00::1 is not in subnet 10.0.0.0/24`},
		{`"subnet":"10.0.0.0/24","rangeStart":"10.0.0.9","rangeEnd":"10.0.0.8"`, `7: ipam.rangeEnd: 10.0.0.8 is before the start of the range, 10.0.0.9`},
		{`"subnet":"10.0.0.0/24","rangeStart":"10.0.0.255"`, `7: ipam.rangeEnd: 10.0.0.254 is before the start of the range, 10.0.0.255`},
		{`"subnet":"10.0.0.0/24","gateway":"fd00::1"`, `7: ipam.gateway: fd00::1 is not in subnet 10.0.0.0/24`},
		{`"subnet":"10.0.0.0/24","gateway":"me"`, `7: ipam.gateway: "me" is not an IP address`},
		{`"ranges":[[{"subnet":"10.0.0.0/24"},{"subnet":"fd00::/64"}]]`, `7: ipam.ranges[0][1]: 10.0.0.0/24 and fd00::/64 are not of one family`},
		{`"ranges":[[{"subnet":"10.0.0.0/24"},{"subnet":"10.0.0.0/16"}]]`, `7: ipam.ranges[0][1]: 10.0.0.1-10.0.255.254 overlaps with ipam.ranges[0][0], 10.0.0.1-10.0.0.254`},
		{`"subnet":"10.0.0.0/24","ranges":[[{"subnet":"10.0.0.0/24"}]]`, `7: ipam.ranges[0]: 10.0.0.1-10.0.0.254 overlaps with 10.0.0.1-10.0.0.254 of ipam.subnet`},
		{`"subnet":"10.0.0.0/24","rangeStart":"10.0.0.1","rangeEnd":"10.0.0.1"`, `7: ipam.subnet: 10.0.0.1-10.0.0.1 has nothing to give: gateways, network and broadcast addresses never are; widen it`},
		{`"ranges":[[{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.255","rangeEnd":"10.0.0.255"},{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.0","rangeEnd":"10.0.0.0"}]]`, `7: ipam.ranges[0]: 10.0.0.255-10.0.0.255, 10.0.0.0-10.0.0.0 has nothing to give`},
		{`"subnet":"10.0.0.0/24","routes":[{"dst":"10.0.0.300/8"}]`, `7: ipam.routes[0]: dst: "10.0.0.300/8" is not`},
		{`"subnet":"10.0.0.0/24","routes":[{"dst":"::/0","mtu":"1"}]`, `7: ipam.routes.mtu has to be a whole number, not a string`},
		{`"subnet":"10.0.0.0/24","routes":[{"dst":"::/0","mtu":-1}]`, `7: ipam.routes[0]: negative attribute`},
		{`"subnet":"10.0.0.0/24","routes":[{"gw":"10.0.0.1"}]`, `7: ipam.routes[0]: dst: missing`},
		{`"subnet":"10.0.0.0/24","routes":[{"dst":"::/0","gw":"10.0.0.1"}]`, `7: ipam.routes[0].gw: 10.0.0.1 can't be the gateway to ::/0`},
		{`"subnet":"10.0.0.0/24","routes":{"dst":"::/0"}`, `7: ipam.routes: not a list`},
		{`"subnet":"10.0.0.0/24","resolvConf":"/does/not/exist"`, `7: ipam.resolvConf: open /does/not/exist: no such file or directory`},
		{`"subnet":"10.0.0.0/24","resolvConf":"etc/resolv.conf"`, `7: ipam.resolvConf: "etc/resolv.conf" is not an absolute path`},
		{`"subnet":"10.0.0.0/24","dataDir":"here"`, `7: ipam.dataDir: "here" is not an absolute path`},
		{`"subnet":"10.0.0.0/24","dataDir":"/proc/self"`, `5: network net: open /proc/self/net/lock: no such file or directory`},
	} {
		n := newNode(t)
		if got := n.add(t, "c1", c[0]); !strings.HasPrefix(got, c[1]) {
			t.Errorf("%s: got  %s\nwant %s", c[0], got, c[1])
		}
		if left, _ := os.ReadDir(n.dir); len(left) > 0 {
			t.Errorf("%s: left %s", c[0], left)
		}
	}
	n := newNode(t)
	r := n.must(t, "c1", `"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"10.1.0.0/24"}]]`)
	r.Config.CNIVersion = cni.V020
	if got := show(n.Add(ctx, r)); !strings.HasPrefix(got, "7: ipam.ranges: more than one address of a family in cniVersion 0.2.0") {
		t.Error(got)
	}
	r.Config.Name = "../net"
	if _, err := n.Del(ctx, r); !errors.Is(err, cni.CodeInvalidConfig) {
		t.Errorf("a name that is a path: %v", err)
	}
}

// TestSecondAdd refuses what the reference only refuses within the same range set and without a requested address.
func TestSecondAdd(t *testing.T) {
	n := newNode(t)
	if got := n.add(t, "c1", `"subnet":"10.0.0.0/24"`); got != "10.0.0.2/24" {
		t.Fatal(got)
	}
	for _, c := range [][2]string{
		{`"subnet":"10.0.0.0/24"`, `"x":0`},
		{`"subnet":"10.0.0.0/24"`, `"runtimeConfig":{"ips":["10.0.0.7"]}`},
		{`"subnet":"10.1.0.0/24"`, `"x":0`},
	} {
		want := "100: network net: container c1, interface eth0 holds 10.0.0.2 already"
		if got := n.add(t, "c1", c[0], c[1]); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got  %s\nwant %s", c, got, want)
		}
	}
	r, err := n.request("c1", "eth1", "", `"subnet":"10.0.0.0/24"`)
	check(t, err)
	if got := show(n.Add(ctx, r)); got != "10.0.0.3/24" {
		t.Error(got)
	}
}

// TestDel has no use for anything but the folder.
func TestDel(t *testing.T) {
	for name, config := range map[string]string{
		"as added": `"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]]`, "without ranges": `"x":0`, "other ranges": `"subnet":"10.7.0.0/24"`,
		"bad ranges": `"ranges":[[{"subnet":"nonsense"}]],"routes":7`,
	} {
		n := newNode(t)
		added := n.must(t, "c1", `"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]]`)
		_, err := n.Add(ctx, added)
		check(t, err)
		n.put(t, map[string]string{"10.0.0.9": "", "10.0.0.10": "a note", "10.0.0.11": "c2\r\neth0"})
		for _, want := range []string{"[10.0.0.2 fd00::2]", "[]"} {
			released, err := n.Del(ctx, n.must(t, "c1", config, `"args":7`, `"runtimeConfig":7`))
			if err != nil || fmt.Sprint(released) != want {
				t.Errorf("%s: released %s, %v, want %s", name, released, err, want)
			}
		}
		if left := n.records(t); len(left) != 3 {
			t.Errorf("%s: left are %v", name, left)
		}
	}
	n := newNode(t)
	if released, err := n.Del(ctx, n.must(t, "c1", `"x":0`)); err != nil || len(released) > 0 {
		t.Errorf("of a network that never was: %s, %v", released, err)
	}
	if left, _ := os.ReadDir(n.dir); len(left) > 0 {
		t.Errorf("made %s", left)
	}
}

func TestCheck(t *testing.T) {
	const ranges = `"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]]`
	prev := func(addrs ...string) string {
		return fmt.Sprintf(`"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"%s"}]}`, strings.Join(addrs, `"},{"address":"`))
	}
	n := newNode(t)
	if err := n.Check(ctx, n.must(t, "c1", ranges)); !errors.Is(err, state.CodeDrift) {
		t.Errorf("before ADD: %v", err)
	}
	n.put(t, map[string]string{"10.0.0.9": "c9\r\neth0", "10.0.0.10": "old"})
	n.add(t, "c1", ranges)
	for _, c := range []struct{ id, ranges, prev, want string }{
		{"c1", ranges, `"x":0`, ""},
		{"c1", ranges, prev("10.0.0.2/24", "fd00::2/64"), ""},
		{"c1", ranges, prev("192.0.2.1/24"), ""}, // another plugin's
		{"c1", `"subnet":"10.7.0.0/24"`, prev("10.0.0.2/24"), ""},
		{"old", ranges, prev("10.0.0.10/24"), ""},
		{"c1", ranges, prev("10.0.0.9/24"), "101: network net: container c1, interface eth0 has 10.0.0.9 but holds 10.0.0.2, fd00::2; 10.0.0.9 is held by container c9, interface eth0"},
		{"c1", ranges, prev("10.0.0.8/24"), "101: network net: container c1, interface eth0 has 10.0.0.8 but holds 10.0.0.2, fd00::2; 10.0.0.8 is held by nobody"},
		{"c2", ranges, `"x":0`, "101: network net: container c2, interface eth0 holds no address in " + n.dir},
		{"c1", `"subnet":"10.7.0.0"`, `"x":0`, `7: ipam.subnet: "10.7.0.0" is not`},
	} {
		got := show(&cni.Result{}, n.Check(ctx, n.must(t, c.id, c.ranges, c.prev)))
		if !strings.HasPrefix(got, c.want) || got != "" && c.want == "" {
			t.Errorf("%s %s: got  %s\nwant %s", c.id, c.prev, got, c.want)
		}
	}
}

func TestGC(t *testing.T) {
	all := map[string]string{
		"10.0.0.2": "c1\r\neth0", "10.0.0.3": "c1\r\neth1", "10.0.0.4": "c1", "fd00::5": "c2\r\neth0", "10.0.0.6": "c2", "10.0.0.7": "", "10.0.0.8": "kept for the printer",
	}
	for valid, want := range map[string]string{
		`"cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]`:                                "[10.0.0.3 10.0.0.6 10.0.0.7 fd00::5]",
		`"cni.dev/attachments":[{"containerID":"c2","ifname":"eth0"},{"containerID":"c1","ifname":"eth1"}]`: "[10.0.0.2 10.0.0.7]",
		`"cni.dev/valid-attachments":null`:                                                                  "[10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.6 10.0.0.7 fd00::5]",
		`"x":0`:                                                                                             "[]",
	} {
		n := newNode(t)
		n.put(t, all)
		check(t, os.MkdirAll(n.dir+"/net2", 0o755))
		check(t, os.WriteFile(n.dir+"/net2/10.0.0.2", []byte("c7\r\neth0"), 0o600))
		r, err := n.request("", "", "", `"subnet":"nonsense"`, valid)
		check(t, err)
		released, err := n.GC(ctx, r)
		if err != nil || fmt.Sprint(released) != want {
			t.Errorf("%s: released %s, %v, want %s", valid, released, err, want)
		}
		if left := n.records(t); len(left)+len(released) != len(all) {
			t.Errorf("%s: left are %v", valid, left)
		}
		if _, err := os.Stat(n.dir + "/net2/10.0.0.2"); err != nil {
			t.Error(err)
		}
	}
}

// TestStatusOfExhausted expects of STATUS that a full range is no error unless
// the configuration says so.
func TestStatusOfExhausted(t *testing.T) {
	n := newNode(t)
	const subnet = `"subnet":"10.0.0.0/30"`
	n.add(t, "before", subnet)
	check(t, n.Status(ctx, n.must(t, "c1", subnet)))
}

// TestStatus expects of STATUS that it fails exactly where ADD does, and changes
// no record.
func TestStatus(t *testing.T) {
	keys.Covers(t, "host-local", "ipam.statusOnExhaustion")
	const subnet = `"subnet":"10.0.0.0/24"`
	full := func(t *testing.T, n *node) {
		check(t, syscall.Mount("tmpfs", n.dir, "tmpfs", 0, "size=4k"))
		t.Cleanup(func() { syscall.Unmount(n.dir, 0) })
		n.add(t, "before", subnet)
		check(t, os.WriteFile(n.dir+"/note", make([]byte, 4096), 0o600))
	}
	readOnly := func(t *testing.T, n *node) {
		check(t, syscall.Mount(n.dir, n.dir, "", syscall.MS_BIND, ""))
		t.Cleanup(func() { syscall.Unmount(n.dir, 0) })
		check(t, syscall.Mount("", n.dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	}
	for name, c := range map[string]struct {
		config string
		setup  func(t *testing.T, n *node)
		want   string // the beginning of the error
	}{
		"new": {subnet, func(*testing.T, *node) {}, ""},
		"no folder yet": {subnet, func(t *testing.T, n *node) {
			n.dir += "/a/b"
		}, ""},
		"in use": {subnet, func(t *testing.T, n *node) { n.add(t, "before", subnet) }, ""},
		"exhausted, which counts": {`"subnet":"10.0.0.0/30","statusOnExhaustion":true`, func(t *testing.T, n *node) {
			n.add(t, "before", `"subnet":"10.0.0.0/30"`)
		}, "50: network net: no address left in range set 0"},
		"one set of two exhausted": {`"ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"10.0.0.0/30"}]],"statusOnExhaustion":true`, func(t *testing.T, n *node) {
			n.add(t, "before", `"subnet":"10.0.0.0/30"`)
		}, "50: network net: no address left in range set 1"},
		"nearly exhausted": {`"subnet":"10.0.0.0/29","statusOnExhaustion":true`, func(t *testing.T, n *node) {
			n.add(t, "before", `"subnet":"10.0.0.0/29"`)
		}, ""},
		"nothing held":  {`"subnet":"10.0.0.0/30","statusOnExhaustion":true`, func(*testing.T, *node) {}, ""},
		"bad subnet":    {`"subnet":"10.0.0.0"`, func(*testing.T, *node) {}, "7: ipam.subnet"},
		"no resolvConf": {subnet + `,"resolvConf":"/nowhere"`, func(*testing.T, *node) {}, "7: ipam.resolvConf"},
		"read-only":     {subnet, readOnly, "50: network net: "},
		"read-only, in use": {subnet, func(t *testing.T, n *node) {
			n.add(t, "before", subnet)
			readOnly(t, n)
		}, "50: network net: "},
		"full": {subnet, full, "50: network net: "},
		"a file": {subnet, func(t *testing.T, n *node) {
			n.dir += "/file"
			check(t, os.WriteFile(n.dir, nil, 0o600))
		}, "50: network net: "},
		"locked": {subnet, func(t *testing.T, n *node) {
			n.put(t, nil)
			n.lock(t)
			n.IPAM = &hostLocal{stores: addrstore.Opener{Wait: 10 * time.Millisecond}}
		}, "50: network net: lock "},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			c.setup(t, n)
			r := n.must(t, "c1", c.config)
			before, _ := filepath.Glob(n.dir + "/net/[!l]*")
			got := show(&cni.Result{}, n.Status(ctx, r))
			if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if after, _ := filepath.Glob(n.dir + "/net/[!l]*"); !slices.Equal(before, after) {
				t.Errorf("left %s, had %s", after, before)
			}
			if _, err := n.Add(ctx, r); err == nil != (got == "") {
				t.Errorf("ADD has %v", err)
			}
		})
	}
}

// lock has another process lock the network until the test ends. Returned is
// its number.
func (n *node) lock(t *testing.T) (pid int) {
	t.Helper()
	cmd := exec.Command("flock", n.dir+"/net/lock", "sh", "-c", "echo; read line")
	stdin, err := cmd.StdinPipe()
	check(t, err)
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	stdout.Read(make([]byte, 1)) //nolint:errcheck // what the test calls fails if it isn't locked
	t.Cleanup(func() { stdin.Close(); cmd.Wait() })
	return cmd.Process.Pid
}

// TestBusy names the holder of the lock.
func TestBusy(t *testing.T) {
	n := newNode(t)
	n.put(t, nil)
	pid := n.lock(t)
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	r := n.must(t, "c1", `"subnet":"10.0.0.0/24"`)
	_, add := n.Add(short, r)
	_, del := (&hostLocal{stores: addrstore.Opener{Wait: time.Millisecond}}).Del(ctx, r)
	for _, err := range []error{add, del} {
		want := fmt.Sprintf("network net: lock %s/net/lock is held by process %d (flock ", n.dir, pid)
		if !errors.Is(err, cni.CodeTryAgain) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestParseResolvConf(t *testing.T) {
	got := parseResolvConf("# by hand\n;nameserver 192.0.2.9\nnameserver 192.0.2.1\n\tnameserver  fe80::1%eth0 \r\ndomain a.test\ndomain b.test\n" +
		"search c.test d.test\nsearch e.test\noptions ndots:2\noptions edns0 rotate\nsortlist 10.0.0.0\nnameserver\n#search x\n# nameserver 192.0.2.8")
	want := cni.DNS{Nameservers: []string{"192.0.2.1", "fe80::1%eth0"}, Domain: "b.test", Search: []string{"c.test", "d.test", "e.test"}, Options: []string{"ndots:2", "edns0", "rotate"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestRange gives what a range says it has, wherever it stands.
func TestRange(t *testing.T) {
	keys.Covers(t, "host-local", "ipam.subnet", "ipam.rangeStart", "ipam.rangeEnd", "ipam.gateway",
		"ipam.ranges.subnet", "ipam.ranges.rangeStart", "ipam.ranges.rangeEnd", "ipam.ranges.gateway",
		"runtimeConfig.ipRanges.subnet", "runtimeConfig.ipRanges.rangeStart", "runtimeConfig.ipRanges.rangeEnd", "runtimeConfig.ipRanges.gateway")
	const small = `"subnet":"10.0.0.0/24","rangeStart":"10.0.0.20","rangeEnd":"10.0.0.21","gateway":"10.0.0.254"`
	for _, c := range []struct{ ipam, more string }{
		{small, `"x":0`},
		{`"ranges":[[{` + small + `}]]`, `"x":0`},
		{`"x":0`, `"runtimeConfig":{"ipRanges":[[{` + small + `}]]}`},
	} {
		n := newNode(t)
		for i, want := range []string{"10.0.0.20/24", "10.0.0.21/24"} {
			result, err := n.Add(ctx, n.must(t, fmt.Sprint("c", i), c.ipam, c.more))
			check(t, err)
			if ip := result.IPs[0]; ip.Address.String() != want || ip.Gateway.String() != "10.0.0.254" {
				t.Errorf("%s %s: got %v", c.ipam, c.more, ip)
			}
		}
		if got := n.add(t, "c2", c.ipam, c.more); !strings.HasPrefix(got, "102: ") {
			t.Errorf("%s %s: a third address is %s", c.ipam, c.more, got)
		}
	}
}
