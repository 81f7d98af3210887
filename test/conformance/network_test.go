package conformance

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// static is a section "ipam" that gives an address of each family, and those routes.
func static(number int, routes string) string {
	return fmt.Sprintf(`"ipam":{"type":"static","routes":[%s],"addresses":[{"address":"10.77.0.%d/24","gateway":%q},{"address":"fd00:77::%d/64","gateway":%q}]}`,
		routes, number, gateway4, number, gateway6)
}

// only is a section "ipam" of host-local that has one address of each family to give.
func only(number int) string {
	return fmt.Sprintf(`"ipam":{"type":"host-local","ranges":[[{"subnet":"10.77.0.0/24","rangeStart":"10.77.0.%[1]d","rangeEnd":"10.77.0.%[1]d"}],`+
		`[{"subnet":"fd00:77::/64","rangeStart":"fd00:77::%[1]d","rangeEnd":"fd00:77::%[1]d"}]]}`, number)
}

// TestReusedAddress gives an address to a second container, while a neighbour still knows it as the first's: it answers to the
// first ping.
func TestReusedAddress(t *testing.T) {
	for name, ipam := range map[string]string{"static": static(3, ""), "host-local": only(3)} {
		t.Run(name, func(t *testing.T) {
			removeAtEnd(t, bridgeName)
			from := attach(t, bridgeConfig("net", `"isGateway":true,`+static(2, "")), "neighbour")
			from.add(t)
			at := bridgeConfig("reused-"+name, `"isGateway":true,`+ipam)
			var macs []string
			for i := range 4 {
				a := attach(t, at, fmt.Sprintf("holder-%d", i))
				result := a.add(t)
				macs = append(macs, result.Interfaces[len(result.Interfaces)-1].MAC)
				for _, addr := range []string{"10.77.0.3", "fd00:77::3"} {
					host.Ping(t, from.netns, addr)
					host.Ping(t, "", addr)
				}
				a.del(t)
				neighbours := host.RunIn(t, from.netns, "ip", "neigh", "show")
				for _, addr := range []string{"10.77.0.3", "fd00:77::3"} {
					if !strings.Contains(neighbours, addr+" dev eth0 lladdr "+macs[i]) {
						t.Fatalf("the neighbour knows no address of the container that has gone, so nothing is tried here:\n%s", neighbours)
					}
				}
			}
			slices.Sort(macs)
			if got := len(slices.Compact(macs)); got != 4 {
				t.Fatalf("the containers had %d hardware addresses, so nothing was tried here", got)
			}
		})
	}
}

// TestFreshAddress gives an address that nobody has had since boot, which is announced to nobody, unless the host remembers
// one there all the same.
func TestFreshAddress(t *testing.T) {
	const nobody = "02:77:77:77:77:77"
	if err := os.RemoveAll("/var/lib/cni/networks"); err != nil { // and with it what a run before this one has given
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name      string
		number    int
		config    string
		remembers bool // the host does
		announced bool
	}{
		{"fresh", 4, `"isGateway":true,` + only(4), false, false},
		{"remembered by the host", 5, `"isGateway":true,` + only(5), true, true},
		{"IPAM that knows nothing of others", 6, `"isGateway":true,` + static(6, ""), false, true},
		{"a network that may be larger than the bridge", 7, only(7), false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			removeAtEnd(t, bridgeName)
			from := attach(t, bridgeConfig("net", `"isGateway":true,`+static(2, "")), "neighbour")
			from.add(t)
			addrs := []string{fmt.Sprintf("10.77.0.%d", tt.number), fmt.Sprintf("fd00:77::%d", tt.number)}
			for _, addr := range addrs {
				host.RunIn(t, from.netns, "ip", "neigh", "add", addr, "lladdr", nobody, "dev", "eth0", "nud", "stale")
				if tt.remembers {
					host.Run(t, "ip", "neigh", "add", addr, "lladdr", nobody, "dev", bridgeName, "nud", "stale")
				}
			}
			a := attach(t, bridgeConfig(fmt.Sprint("fresh-", tt.number), tt.config), "first")
			result := a.add(t)
			mac := nobody
			if tt.announced {
				mac = result.Interfaces[len(result.Interfaces)-1].MAC
			}
			neighbours := host.RunIn(t, from.netns, "ip", "neigh", "show")
			for _, addr := range addrs {
				if !strings.Contains(neighbours, addr+" dev eth0 lladdr "+mac) {
					t.Errorf("the neighbour does not know %s by %s:\n%s", addr, mac, neighbours)
				}
				if tt.announced {
					host.Ping(t, from.netns, addr)
				}
				host.Ping(t, "", addr)
			}
		})
	}
}

// TestIPv6AtOnce uses the address of a container in the moment that ADD returns.
func TestIPv6AtOnce(t *testing.T) {
	for _, tt := range []struct{ name, config string }{
		{"ptp", config("ptp", "net", `"ipam":`+hostLocal("6"))},
		{"bridge", bridgeConfig("net", `"isGateway":true,"ipam":`+hostLocal("6"))},
		{"bridge with detection", bridgeConfig("net", `"isGateway":true,"enabledad":true,"ipam":`+hostLocal("6"))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			removeAtEnd(t, bridgeName)
			a := attach(t, tt.config, "quick")
			addr := a.add(t).IPs[0].Address.Addr().String()
			// An address that is being probed can't be bound to.
			err := host.In(t, a.netns, func() error {
				l, err := net.Listen("tcp6", "["+addr+"]:0")
				if err == nil {
					err = l.Close()
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
			host.Ping(t, a.netns, gateway6)
			host.Ping(t, "", addr)
			for _, got := range host.Addrs(t, a.netns) {
				if got.Prefix.Addr().String() == addr && got.Tentative {
					t.Errorf("%+v is tentative", got)
				}
			}
		})
	}
}

// TestBridgeMAC lets ports come and go: neighbours know the gateway by the bridge's hardware address.
func TestBridgeMAC(t *testing.T) {
	gateway := bridgeConfig("net", `"isGateway":true,"ipam":`+hostLocal("46"))
	for _, tt := range []struct{ name, config, before string }{
		{"made by ADD", gateway, ""},
		{"L2", bridgeConfig("net", `"ipam":{}`), ""},
		{"made by others", gateway, "ip link add br77 type bridge"}, // its address is that of the lowest port until it is set
	} {
		t.Run(tt.name, func(t *testing.T) {
			removeAtEnd(t, bridgeName)
			if tt.before != "" {
				host.Run(t, "sh", "-ec", tt.before)
			}
			first := attach(t, tt.config, "first")
			first.add(t)
			want := host.Links(t, "")[bridgeName].MAC
			// A foreign port with the lowest address there is.
			host.Run(t, "ip", "link", "add", "low", "address", "00:00:00:00:00:01", "type", "veth", "peer", "name", "low2")
			t.Cleanup(func() { host.Run(t, "ip", "link", "del", "low") })
			same := func(when string) {
				t.Helper()
				if got := host.Links(t, "")[bridgeName].MAC; got != want {
					t.Errorf("%s the bridge's address is %s, was %s", when, got, want)
				}
			}
			host.Run(t, "ip", "link", "set", "low", "master", bridgeName)
			same("with a foreign port")
			for i := range 3 {
				a := attach(t, tt.config, fmt.Sprintf("guest-%d", i))
				a.add(t)
				same("with another port")
				a.del(t)
			}
			first.del(t)
			same("without a container")
		})
	}
}

// TestRoutes looks for every field of a route in the kernel.
func TestRoutes(t *testing.T) {
	routes := `{"dst":"0.0.0.0/0","mtu":1400,"advmss":1300,"priority":77},
		{"dst":"10.90.0.0/16","gw":"10.77.0.9","table":177},
		{"dst":"10.91.0.0/16","scope":253,"priority":5},
		{"dst":"::/0","mtu":1410,"advmss":1310,"priority":78},
		{"dst":"fd00:90::/32","gw":"fd00:77::9","table":1777}`
	want := []host.Route{
		{Dst: "default", Gateway: gateway4, Table: "main", Priority: 77, Scope: "global"},
		{Dst: "10.90.0.0/16", Gateway: "10.77.0.9", Table: "177", Scope: "global"},
		{Dst: "10.91.0.0/16", Table: "main", Priority: 5, Scope: "link"},
		{Dst: "default", Gateway: gateway6, Table: "main", Priority: 78, Scope: "global"},
		{Dst: "fd00:90::/32", Gateway: "fd00:77::9", Table: "1777", Priority: 1024, Scope: "global"},
	}
	metrics := map[string][2]int{"0": {1400, 1300}, "3": {1410, 1310}}
	for _, tt := range []struct{ name, config string }{
		{"ptp", config("ptp", "net", static(2, routes))}, // whose gateways are not of the link to the kernel
		{"bridge", bridgeConfig("net", `"isGateway":true,`+static(2, routes))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			removeAtEnd(t, bridgeName)
			a := attach(t, tt.config, "routed")
			a.add(t)
			a.check(t)
			got := append(host.Routes(t, a.netns, 4, "table all"), host.Routes(t, a.netns, 6, "table all")...)
			for i, w := range want {
				if !slices.ContainsFunc(got, func(r host.Route) bool {
					if r.Table == "" {
						r.Table = "main" // ip leaves it out
					}
					m := metrics[fmt.Sprint(i)]
					return r.Dev == "eth0" && r.Dst == w.Dst && r.Table == w.Table && r.Priority == w.Priority &&
						(r.Gateway == w.Gateway || w.Gateway == "") && (r.Scope == w.Scope || strings.Contains(w.Gateway+w.Dst, "fd00")) &&
						(m[0] == 0 || len(r.Metrics) == 1 && r.Metrics[0].MTU == m[0] && r.Metrics[0].AdvMSS == m[1])
				}) {
					t.Errorf("there is no route %+v %v among\n%+v", w, metrics[fmt.Sprint(i)], got)
				}
			}
		})
	}
}

// TestAcceptRA reads the container's settings in the moment before its interface comes up, which is when the kernel begins to ask
// for router advertisements.
func TestAcceptRA(t *testing.T) {
	keys.Covers(t, "bridge", "acceptRA")
	keys.Covers(t, "ptp", "acceptRA")
	none := `"ipam":{"type":"static","addresses":[{"address":"10.77.0.2/24","gateway":"10.77.0.1"}]}`
	for _, tt := range []struct{ name, keys, want string }{
		{"unset without IPv6", none, "1"}, // the kernel's
		{"unset with IPv6", static(2, ""), "0"},
		{"yes", `"acceptRA":true,` + static(2, ""), "2"},
		{"yes without IPv6", `"acceptRA":true,` + none, "2"},
		{"no", `"acceptRA":false,` + static(2, ""), "0"},
		{"no without IPv6", `"acceptRA":false,` + none, "0"},
	} {
		for _, config := range []string{config("ptp", "net", tt.keys), bridgeConfig("net", `"isGateway":true,`+tt.keys)} {
			a := &attachment{config: config}
			t.Run(a.plugin()+" "+tt.name, func(t *testing.T) {
				removeAtEnd(t, bridgeName)
				a := attach(t, config, "listener")
				got := make(map[string]string)
				h := newHost()
				h.Before = func(s state.Step) {
					if s.Key().Kind != "up" {
						return
					}
					for _, name := range []string{"accept_ra", "accept_dad", "disable_ipv6"} {
						got[name] = strings.TrimSpace(host.RunIn(t, a.netns, "cat", "/proc/sys/net/ipv6/conf/eth0/"+name))
					}
				}
				if _, err := serve(t, h, a.plugin(), a.call(t, cni.VerbAdd, config)); err != nil {
					t.Fatal(err)
				}
				if got["accept_ra"] != tt.want {
					t.Errorf("before link-up accept_ra is %q, want %q", got["accept_ra"], tt.want)
				}
				if six := strings.Contains(tt.keys, "fd00"); six && (got["accept_dad"] != "0" || got["disable_ipv6"] != "0") {
					t.Errorf("before link-up the settings are %v", got)
				}
			})
		}
	}
}

// call is the attachment's request for serve.
func (a *attachment) call(t testing.TB, verb cni.Verb, config string) *cni.Request {
	return &cni.Request{Verb: verb, ContainerID: a.id, NetNS: a.netns, IfName: a.ifName, Args: a.args, Path: []string{host.Bin(t)}, Config: []byte(config)}
}
