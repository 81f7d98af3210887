package interop

import (
	"encoding/json"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// A family says which addresses a network gives.
type family string

const (
	v4   family = "v4"
	v6   family = "v6"
	dual family = "dual"
)

const (
	// networkName is long enough for the reference to cut the comments of its
	// rules short, in which it stands beside a container ID.
	networkName = "interop-tests-network"
	bridgeName  = "br0"
	// wire is what the names of links begin with that a network's setup makes.
	wire = "wire"
)

// A network is a configuration that every implementation understands.
type network struct {
	plugin  string // bridge, ptp, loopback, or one whose keys are all in more
	family  family
	backend string // of masquerading: nftables, iptables, "" for what the plugin thinks best
	version cni.Version
	more    string // further keys of the plugin, `,"mtu":1400`
	ipam    string // instead of the host-local of the family; "{}" is none

	chain     chain // the plugins after it
	published int   // the first port of the host that the runtime asks for, see publishing

	needs  []string // features of the kernel, see host.Need
	setup  string   // a shell command that makes what has to be on the host
	inside string   // one that makes what has to be in the container
}

// A chain is what comes after the first plugin of a list.
type chain struct {
	name    string
	plugins []string // as they stand in the list
}

func (n network) String() string {
	parts := []string{n.plugin}
	for _, p := range []string{n.chain.name, string(n.family), n.backend, string(n.version)} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, "-")
}

// fresh brings the host back to what it was before any plugin ran, and makes what the network
// needs there. It skips the test where the kernel can't.
func (n network) fresh(t *testing.T) {
	t.Helper()
	host.Need(t, n.needs...)
	fresh(t)
	if n.setup != "" {
		host.Run(t, "sh", "-ec", n.setup)
	}
}

// attachment makes a container with what the network needs in there.
func (n network) attachment(t *testing.T, name string) attachment {
	t.Helper()
	at := newAttachment(t, name, n.ifName())
	at.ports = n.portMappings()
	if n.inside != "" {
		host.RunIn(t, at.ns, "sh", "-ec", n.inside)
	}
	return at
}

// single returns the configuration of the plugin alone.
func (n network) single() string {
	return n.plugged(`"cniVersion":"` + string(n.version) + `","name":"` + networkName + `",`)
}

// list returns the configuration as a list.
func (n network) list() []byte {
	plugins := strings.Join(append([]string{n.plugged("")}, n.chain.plugins...), ",")
	return []byte(`{"cniVersion":"` + string(n.version) + `","name":"` + networkName + `","plugins":[` + plugins + `]}`)
}

func (n network) plugged(identity string) string {
	conf := `{` + identity + `"type":"` + n.plugin + `"`
	if n.plugin != "loopback" {
		conf += `,"ipam":` + n.addresses()
	}
	switch n.plugin {
	case "bridge":
		conf += `,"bridge":"` + bridgeName + `"`
		if n.family != "" {
			conf += `,"isGateway":true,"ipMasq":true`
		}
	case "ptp":
		conf += `,"ipMasq":true`
	}
	if n.backend != "" {
		conf += `,"ipMasqBackend":"` + n.backend + `"`
	}
	return conf + n.more + `}`
}

func (n network) addresses() string {
	if n.ipam != "" {
		return n.ipam
	}
	var ranges, routes []string
	if n.family != v6 {
		ranges, routes = append(ranges, `[{"subnet":"10.22.0.0/24"}]`), append(routes, `{"dst":"0.0.0.0/0"}`)
	}
	if n.family != v4 {
		ranges, routes = append(ranges, `[{"subnet":"fd00:22::/64"}]`), append(routes, `{"dst":"::/0"}`)
	}
	return `{"type":"host-local","ranges":[` + strings.Join(ranges, ",") + `],"routes":[` + strings.Join(routes, ",") + `]}`
}

// reach fails the test unless ns reaches the Internet by the families of the
// network, which takes forwarding and masquerading, and the Internet reaches
// what the network has published of it.
func (n network) reach(t *testing.T, ns string) {
	t.Helper()
	if n.plugin == "loopback" {
		host.Ping(t, ns, "127.0.0.1")
		return
	}
	if n.family != v6 {
		host.Ping(t, ns, host.Internet4)
	}
	if n.family != v4 {
		host.Ping(t, ns, host.Internet6)
	}
	if n.published == 0 {
		return
	}
	t.Run("published", func(t *testing.T) { // servers that end with it: they keep a namespace alive
		for _, f := range []family{v4, v6} {
			if n.family != dual && n.family != f {
				continue
			}
			// Whether a socket may be of both families, the process has found out in a namespace that may have had none.
			addr, suffix := host.Uplink4, "4"
			if f == v6 {
				addr, suffix = host.Uplink6, "6"
			}
			host.Serve(t, ns, "tcp"+suffix, ":80")
			host.Serve(t, ns, "udp"+suffix, ":53")
			for i, protocol := range []string{"tcp", "udp"} {
				to := net.JoinHostPort(addr, strconv.Itoa(n.published+i))
				answer, err := host.Ask(t, "internet", protocol+suffix, to, "")
				if err != nil || answer.Server != ns {
					t.Errorf("%s %s leads to %q (%v), want %s", protocol, to, answer.Server, err, ns)
				}
			}
		}
	})
}

// checks tells whether an implementation can check attachments of the network:
// the version has the verb, and Debian's portmap looks for the rules of a
// family in the other one.
func (n network) checks(i implementation) bool {
	return n.version.AtLeast(cni.V040) && (n.published == 0 || i.name != debian.name)
}

// ifName is the interface that the plugin serves.
func (n network) ifName() string {
	if n.plugin == "loopback" {
		return "lo"
	}
	return "eth0"
}

// networks are those that attachments are handed over on, of the versions up
// to newest: every version with every plugin and back end, every family with
// each of those, and the whole chain with each back end.
func networks(newest cni.Version, backends ...string) []network {
	var all []network
	for _, version := range []cni.Version{cni.V031, cni.V040, cni.V100, cni.V110} {
		if !newest.AtLeast(version) {
			break
		}
		all = append(all, network{plugin: "loopback", version: version})
		for _, plugin := range []string{"bridge", "ptp"} {
			for _, backend := range backends {
				n := network{plugin: plugin, family: dual, backend: backend, version: version}
				all = append(all, n)
				if version == newest {
					for _, n.family = range []family{v4, v6} {
						all = append(all, n)
					}
				}
			}
		}
	}
	for _, backend := range backends {
		n := fullNetwork(newest, backend)
		if newest != cni.V110 {
			n.family = v4 // as podman's network
		}
		all = append(all, n)
	}
	return all
}

// addressesOf returns the addresses in a result of any version but the first
// two.
func addressesOf(t *testing.T, result []byte) []string {
	t.Helper()
	var r struct {
		IPs []struct{ Address string }
	}
	if err := json.Unmarshal(result, &r); err != nil {
		t.Fatalf("decode result: %v\n%s", err, result)
	}
	var addrs []string
	for _, ip := range r.IPs {
		addr, _, _ := strings.Cut(ip.Address, "/")
		addrs = append(addrs, addr)
	}
	return addrs
}
