package together

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// What kube-proxy serves in each family.
var services = []struct{ service, pods, web, dns, empty, node string }{
	{"10.96.0.0/12", subnet4, "10.96.0.10", "10.96.0.53", "10.96.0.11", host.Uplink4},
	{"fd96::/112", subnet6, "fd96::10", "fd96::53", "fd96::11", host.Uplink6},
}

// A kubeProxy has a service with a ClusterIP and a NodePort, and one of UDP,
// both of which lead to a container of ours, and a service without endpoints.
type kubeProxy struct {
	lay    func(t *testing.T) // what a sync does
	remove func(t *testing.T) // what a clean-up does
	tools  []string           // of iptables
	fill   func(text string, family int) string
}

// fill writes the addresses into rules.
func fill(text string, ours *container, family int) string {
	s := services[family]
	pod, at, name, kind := ours.v4, ours.v4, "ip", "ipv4_addr"
	if family == 1 {
		pod, at, name, kind = ours.v6, "["+ours.v6+"]", "ip6", "ipv6_addr"
	}
	var lines []string
	for line := range strings.Lines(text) {
		// IPv6 has no localnet.
		if !strings.HasPrefix(line, "#") && (family == 0 || !strings.Contains(line, "LOOPBACK")) {
			lines = append(lines, line)
		}
	}
	return strings.NewReplacer(" daddr SERVICES", " daddr "+s.service, "!= PODS", "!= "+s.pods, "! -s PODS", "! -s "+s.pods,
		"-s POD ", "-s "+pod+" ", "saddr POD ", "saddr "+pod+" ", "AT:", at+":", "-d WEB", "-d "+s.web, "daddr WEB", "daddr "+s.web, "WEB", s.web,
		"-d DNS", "-d "+s.dns, "DNS", s.dns, "EMPTY", s.empty, "NODE }", s.node+" }", "LOOPBACK", "127.0.0.0/8", "FAMILY", name, "TYPE", kind,
	).Replace(strings.Join(lines, ""))
}

func (k *kubeProxy) start(t *testing.T, ours *container) {
	k.fill = func(text string, family int) string { return fill(text, ours, family) }
	// So that NodePorts are at 127.0.0.1 too.
	host.Run(t, "sysctl", "-q", "-w", "net.ipv4.conf.all.route_localnet=1")
	t.Cleanup(func() { host.Run(t, "sysctl", "-q", "-w", "net.ipv4.conf.all.route_localnet=0") })
	k.lay(t)
}

func (k *kubeProxy) ways(ours, visitor *container) (ways []way) {
	to := ours.attachment.NetNS
	for _, s := range services {
		web, dns, node := s.web, s.dns, s.node
		if strings.Contains(web, ":") {
			web, dns, node = "["+web+"]", "["+dns+"]", "["+node+"]"
		}
		for _, from := range []struct{ name, ns string }{{"from the host", ""}, {"from the pod itself", to}, {"from another pod", visitor.attachment.NetNS}} {
			ways = append(ways,
				way{"a service " + from.name, from.ns, "tcp", web + ":80", to, ""},
				way{"a service " + from.name, from.ns, "udp", dns + ":53", to, ""},
				way{"a NodePort " + from.name, from.ns, "tcp", node + ":30080", to, ""})
		}
		ways = append(ways, way{"a NodePort from outside", ours.outside, "tcp", node + ":30080", to, ""})
	}
	if k.tools != nil {
		ways = append(ways, way{"a NodePort of 127.0.0.1", "", "tcp", "127.0.0.1:30080", to, ""})
	}
	return ways
}

// shutsOut is false: its rules drop some packets, and never all the others.
func (k *kubeProxy) shutsOut(string) bool { return false }

func (k *kubeProxy) events() []event {
	events := []event{
		{"a sync of kube-proxy", k.lay},
		{"a clean-up and a start of kube-proxy", func(t *testing.T) { k.remove(t); k.lay(t) }},
	}
	if k.tools != nil {
		events = append(events, event{"iptables-save and iptables-restore", func(t *testing.T) { reload(t, k.tools...) }})
	}
	return events
}

// families is the tools of a kind of iptables.
func families(kind string) []string { return []string{"iptables-" + kind, "ip6tables-" + kind} }

// inIPTables is kube-proxy in its iptables mode, with a kind of iptables.
func inIPTables(t *testing.T, kind string) *kubeProxy {
	rules, jump := testdata(t, "kube-proxy.iptables"), testdata(t, "kube-proxy.jumps")
	k := &kubeProxy{tools: families(kind)}
	k.lay = func(t *testing.T) {
		for family, tool := range k.tools {
			restore(t, tool, k.fill(rules, family), "--noflush")
			jumps(t, tool, jump, true)
		}
	}
	k.remove = func(t *testing.T) {
		for family, tool := range k.tools {
			jumps(t, tool, jump, false)
			unchain(t, tool, k.fill(rules, family))
		}
	}
	return k
}

// inNFTables is kube-proxy in its nftables mode.
func inNFTables(t *testing.T) *kubeProxy {
	rules := testdata(t, "kube-proxy.nft")
	k := new(kubeProxy)
	k.lay = func(t *testing.T) {
		for family, name := range []string{"ip", "ip6"} {
			host.Run(t, "nft", fmt.Sprintf("add table %s kube-proxy; delete table %s kube-proxy\n%s", name, name, k.fill(rules, family)))
		}
	}
	k.remove = func(t *testing.T) {
		host.Run(t, "nft", "delete table ip kube-proxy; delete table ip6 kube-proxy")
	}
	return k
}

// Services of a container of ours and its published ports are open at once,
// whatever kube-proxy's mode is.
func TestKubeProxy(t *testing.T) {
	for _, mode := range []string{"iptables-nft", "iptables-legacy", "nftables"} {
		t.Run(mode, func(t *testing.T) {
			eachWay(t, func(t *testing.T, backend string, before bool) {
				k := inNFTables(t)
				if kind, ok := strings.CutPrefix(mode, "iptables-"); ok {
					k = inIPTables(t, kind)
				}
				share(t, backend, before, k)
			})
		})
	}
}

// What portmap masquerades may carry kube-proxy's mark.
func TestKubeProxyMark(t *testing.T) {
	n := newNetwork(t, "iptables", `{"type":"portmap","externalSetMarkChain":"KUBE-MARK-MASQ","capabilities":{"portMappings":true}}`, firewall("iptables"))
	inIPTables(t, "nft").start(t, &container{network: n, v4: ours4, v6: ours6})
	c, visitor := n.run(t, "ours", true), n.run(t, "visitor", false)
	open(t, "with the mark of kube-proxy", c.all(visitor))
	if rules := host.Run(t, "iptables-save", "-t", "nat"); strings.Contains(rules, "CNI-HOSTPORT-MASQ") {
		t.Errorf("portmap has a mark of its own:\n%s", rules)
	}
	c.check(t, "with the mark of kube-proxy")
}
