package interop

import (
	"fmt"
	"strings"

	"github.com/plumb-cni/plumb/cni"
)

// behind returns a network of a bridge that routes, without masquerading, and one more plugin.
func behind(f family, plugin string) network {
	return network{plugin: "bridge", version: cni.V110, more: `,"isGateway":true`, ipam: network{family: f}.addresses(), chain: chain{plugins: []string{plugin}}}
}

// tableCases are those of plugins that move routes to tables of their own.
func tableCases(static string) []kernelCase {
	bridge := func(plugin string, needs ...string) network {
		return network{plugin: "bridge", version: cni.V110, more: `,"isGateway":true`, ipam: static, chain: chain{plugins: []string{plugin}}, needs: needs}
	}
	return []kernelCase{
		{"bridge-static-sbr", bridge(`{"type":"sbr"}`)},
		{"bridge-static-sbr-table", bridge(`{"type":"sbr","table":77}`)},
		{"bridge-static-vrf", bridge(`{"type":"vrf","vrfname":"blue"}`, "vrf")},
		{"bridge-static-vrf-table", bridge(`{"type":"vrf","vrfname":"blue","table":77}`, "vrf")},
	}
}

func tuningCases() []kernelCase {
	tuned := func(keys string) network {
		return network{plugin: "bridge", version: cni.V110, ipam: "{}", chain: chain{plugins: []string{`{"type":"tuning",` + keys + `}`}}}
	}
	return []kernelCase{
		{"bridge-tuning-sysctl", tuned(`"sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1","net/ipv6/conf/eth0/hop_limit":"17"}`)},
		{"bridge-tuning-mac", tuned(`"mac":"02:aa:bb:cc:dd:ee"`)},
		{"bridge-tuning-mtu", tuned(`"mtu":1400`)},
		{"bridge-tuning-flags", tuned(`"promisc":true,"allmulti":true`)},
		{"bridge-tuning-queue", tuned(`"txQLen":77`)},
		{"bridge-tuning-all", tuned(`"sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1"},"mac":"02:aa:bb:cc:dd:ee","mtu":1400,"promisc":true,"allmulti":true,"txQLen":77`)},
	}
}

// portCases are those of portmap: every key and kind of mapping with each back
// end, and each family.
func portCases() []kernelCase {
	const (
		tcp     = `{"hostPort":8080,"containerPort":80,"protocol":"tcp"}`
		udp     = `{"hostPort":5300,"containerPort":53,"protocol":"udp"}`
		address = `{"hostPort":8081,"containerPort":80,"protocol":"tcp","hostIP":"192.0.2.1"},{"hostPort":8081,"containerPort":80,"protocol":"tcp","hostIP":"2001:db8::1"}`
		any     = `{"hostPort":8082,"containerPort":80,"protocol":"tcp","hostIP":"0.0.0.0"},{"hostPort":8083,"containerPort":80,"protocol":"udp","hostIP":"::"}`
	)
	var many []string
	for i := range 20 { // more than a rule of iptables has room for
		many = append(many, fmt.Sprintf(`{"hostPort":%d,"containerPort":80,"protocol":"tcp"}`, 9000+10*i))
	}
	mapped := func(f family, backend, keys string, ports ...string) network {
		return behind(f, `{"type":"portmap","backend":"`+backend+`"`+keys+`,"runtimeConfig":{"portMappings":[`+strings.Join(ports, ",")+`]}}`)
	}
	var cases []kernelCase
	for _, backend := range reference.backends {
		conditions := map[string]string{
			"nftables": `,"conditionsV4":["ip","saddr","!=","192.0.2.0/24"],"conditionsV6":["ip6","saddr","!=","2001:db8:1::/48"]`,
			"iptables": `,"conditionsV4":["!","-s","192.0.2.0/24"],"conditionsV6":["!","-s","2001:db8:1::/48"]`,
		}[backend]
		of := func(f family, keys string, ports ...string) network { return mapped(f, backend, keys, ports...) }
		for _, c := range []kernelCase{
			{"v4", of(v4, "", tcp, udp)},
			{"v6", of(v6, "", tcp, udp)},
			{"dual", of(dual, "", tcp, udp)},
			{"address", of(dual, "", address)},
			{"any", of(dual, "", any)},
			{"many", of(v4, "", many...)},
			{"no-snat", of(dual, `,"snat":false`, tcp)},
			{"masq-all", of(dual, `,"masqAll":true`, tcp)},
			{"conditions", of(dual, conditions, tcp)},
		} {
			cases = append(cases, kernelCase{"bridge-portmap-" + c.name + "-" + backend, c.network})
		}
	}
	marked := mapped(dual, "iptables", `,"externalSetMarkChain":"WIRE-MARK"`, tcp)
	marked.setup = "iptables -t nat -N WIRE-MARK; ip6tables -t nat -N WIRE-MARK"
	return append(cases,
		kernelCase{"bridge-portmap-bit-iptables", mapped(dual, "iptables", `,"markMasqBit":7`, tcp)},
		kernelCase{"bridge-portmap-chain-iptables", marked},
	)
}

// filterCases are those of firewall. Its back end firewalld has tests beside a
// real one, in package firewall.
func filterCases() []kernelCase {
	filtered := func(f family, keys string) network {
		return behind(f, `{"type":"firewall","backend":"iptables"`+keys+`}`)
	}
	return []kernelCase{
		{"bridge-firewall-v4", filtered(v4, "")},
		{"bridge-firewall-v6", filtered(v6, "")},
		{"bridge-firewall-dual", filtered(dual, "")},
		{"bridge-firewall-open", filtered(dual, `,"ingressPolicy":"open"`)},
		{"bridge-firewall-same-bridge", filtered(dual, `,"ingressPolicy":"same-bridge"`)},
		{"bridge-firewall-same-bridge-v4", filtered(v4, `,"ingressPolicy":"same-bridge"`)},
		{"bridge-firewall-isolated", filtered(dual, `,"ingressPolicy":"isolated"`)},
		{"bridge-firewall-admin", filtered(dual, `,"iptablesAdminChainName":"WIRE-ADMIN"`)},
	}
}

// rateCases are those of bandwidth.
func rateCases() []kernelCase {
	limited := func(keys string) network {
		n := behind(dual, `{"type":"bandwidth",`+keys+`}`)
		n.needs = []string{"tbf", "ifb", "mirred"}
		return n
	}
	const both = `"ingressRate":8000000,"ingressBurst":800000,"egressRate":16000000,"egressBurst":1600000`
	return []kernelCase{
		{"bridge-bandwidth-ingress", limited(`"ingressRate":8000000,"ingressBurst":800000`)},
		{"bridge-bandwidth-egress", limited(`"egressRate":16000000,"egressBurst":1600000`)},
		{"bridge-bandwidth-both", limited(both)},
		{"bridge-bandwidth-unshaped", limited(both + `,"unshapedSubnets":["10.0.0.0/8","fd00::/8"]`)},
		{"bridge-bandwidth-shaped", limited(both + `,"shapedSubnets":["10.0.0.0/8","fd00::/8"]`)},
	}
}

// full is the chain that runtimes put after bridge or ptp, with all of what they make by one
// back end. Ports are mapped where the runtime asks for it.
func full(backend string) chain {
	return chain{name: "full", plugins: []string{
		`{"type":"portmap","backend":"` + backend + `","capabilities":{"portMappings":true}}`,
		`{"type":"firewall","backend":"iptables","ingressPolicy":"same-bridge"}`,
		`{"type":"tuning","sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1"},"mtu":1400}`,
		`{"type":"bandwidth","ingressRate":80000000,"ingressBurst":8000000,"egressRate":80000000,"egressBurst":8000000}`,
	}}
}

// fullNetwork is a bridge with the whole chain.
func fullNetwork(version cni.Version, backend string) network {
	n := network{plugin: "bridge", family: dual, backend: backend, version: version, chain: full(backend), needs: []string{"tbf", "ifb", "mirred"}}
	return n.publishing(8000)
}

// publishing returns the network for a container that has two ports published:
// one of TCP at the host's port, and one of UDP at the next.
func (n network) publishing(port int) network {
	n.published = port
	return n
}

// portMappings are what the runtime asks for, a JSON list; empty for nothing.
func (n network) portMappings() string {
	if n.published == 0 {
		return ""
	}
	return fmt.Sprintf(`[{"hostPort":%d,"containerPort":80,"protocol":"tcp"},{"hostPort":%d,"containerPort":53,"protocol":"udp"}]`, n.published, n.published+1)
}

func fullCases() []kernelCase {
	var cases []kernelCase
	for _, backend := range reference.backends {
		cases = append(cases, kernelCase{"bridge-full-" + backend, fullNetwork(cni.V110, backend)})
	}
	return cases
}
