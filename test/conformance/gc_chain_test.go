package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// pod is what a pod's network runs after the plugin that makes the interface: ports of container number n, on network number net.
func pod(name string, net, n int, backend string) []string {
	mapping := func(proto string, port int) string {
		return fmt.Sprintf(`{"hostPort":%d,"containerPort":80,"protocol":%q}`, 20000+100*net+10*n+port, proto)
	}
	return []string{
		config("portmap", name, backend+`"runtimeConfig":{"portMappings":[`+mapping("tcp", 0)+`,`+mapping("tcp", 1)+`,`+mapping("udp", 0)+`]}`),
		config("firewall", name, strings.TrimSuffix(backend, ",")),
		config("tuning", name, `"sysctl":{"net.core.somaxconn":"99"}`),
		config("bandwidth", name, shaped),
	}
}

// podNetworks are three networks whose names begin alike, each a list whose last plugin the test is about.
func podNetworks(n int) [][]string {
	ipam := func(net int) string {
		return fmt.Sprintf(`"ipam":{"type":"host-local","ranges":[[{"subnet":"10.81.%d.0/24"}],[{"subnet":"fd00:81:%d::/64"}]]}`, net, net)
	}
	return [][]string{
		append([]string{bridgeConfig("pods", `"isGateway":true,"ipMasq":true,"macspoofchk":true,`+ipam(0))}, pod("pods", 0, n, "")...),
		append([]string{config("ptp", "pods-1", `"ipMasq":true,`+ipam(1))}, pod("pods-1", 1, n, `"backend":"nftables",`)...),
		append([]string{config("ptp", "pods.1", `"ipMasq":true,"ipMasqBackend":"iptables",`+ipam(2))}, pod("pods.1", 2, n, `"backend":"iptables",`)...),
	}
}

// TestGCOfChains adds ten attachments to three networks of five plugins and destroys five of their namespaces. With GC for the other five,
// the host is as it was before the dead were added, their flows included.
func TestGCOfChains(t *testing.T) {
	host.Need(t, "nft-inet-nat", "iptables-nft", "nft-fib", "nft-bridge", "tbf", "ifb", "mirred", "conntrack")
	removeAtEnd(t, bridgeName)
	host.Run(t, "nft", "add table inet tracked; add chain inet tracked c { type filter hook input priority 0; }; add rule inet tracked c ct state established")
	t.Cleanup(func() { host.Run(t, "nft", "delete", "table", "inet", "tracked") })

	// No flow ends by itself, however slow the machine.
	const timeout = "net.netfilter.nf_conntrack_udp_timeout"
	before := strings.TrimSpace(host.Run(t, "sysctl", "-n", timeout))
	host.Run(t, "sysctl", "-qw", timeout+"=600")
	t.Cleanup(func() { host.Run(t, "sysctl", "-qw", timeout+"="+before) })

	living, dead := make([][]*attachment, 3), make([][]*attachment, 3)
	add := func(to [][]*attachment, id string, n int) {
		list := podNetworks(n)[n%3]
		a := attach(t, list[len(list)-1], id)
		a.before = list[:len(list)-1]
		a.add(t)
		to[n%3] = append(to[n%3], a)
	}
	// First those who live: what there is then is what GC shall leave.
	for n := range 5 {
		add(living, fmt.Sprintf("living-%d", n), n)
	}
	after := host.Snapshot(t)
	for n := 5; n < 10; n++ {
		add(dead, fmt.Sprintf("dead-%d", n), n)
	}
	flow := func(a *attachment) (server string) {
		r, err := cni.DecodeResult(a.prev, cni.Latest)
		if err != nil {
			t.Fatal(err)
		}
		addr := r.IPs[0].Address.Addr()
		server = host.Serve(t, a.netns, "udp4", addr.String()+":0")
		if _, err := host.Ask(t, "", "udp4", server, ""); err != nil {
			t.Fatal(err)
		}
		return addr.String()
	}
	var kept, ended []string
	for n := range 3 {
		for _, a := range living[n] {
			kept = append(kept, flow(a))
		}
		for _, a := range dead[n] {
			ended = append(ended, flow(a))
			host.RemoveNetNS(t, a.netns)
		}
	}
	for n, list := range podNetworks(0) {
		for _, config := range slices.Backward(list) {
			gc(t, config, "cni.dev/valid-attachments", valid(living[n]...), "cni.dev/attachments", valid(living[n]...))
		}
		s := host.Snapshot(t).String()
		for m, others := range dead {
			for _, a := range others {
				if there := strings.Contains(s, a.id); there != (m > n) {
					t.Errorf("after GC of %s something of %s is there: %v", nameOf(list[0]), a.id, there)
				}
			}
		}
	}
	host.Unchanged(t, after, stays(bridgeName)...)
	for _, list := range living {
		for _, a := range list {
			a.check(t)
		}
	}
	tracked := host.Run(t, "conntrack", "-L")
	for _, addr := range kept {
		if !strings.Contains(tracked, "="+addr+" ") {
			t.Errorf("a survivor's flow of %s is gone", addr)
		}
	}
	for _, addr := range ended {
		if strings.Contains(tracked, "="+addr+" ") {
			t.Errorf("a flow of %s is left", addr)
		}
	}
}
