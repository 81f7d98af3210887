package conformance

// wired is what devices on top of another need: a pair of which wire0 is theirs, and wire1 the rest of the network.
const (
	wired   = `ip link add wire0 up type veth peer name wire1; ip link set wire1 up`
	unwired = `ip link del wire0`
	// ofWire is what the kernel makes and changes of the pair by itself.
	ofWire = `^(link|addr|route|qdisc)\b.* wire[01]\b`
)

// interfaceModes are those of plugins whose interface is not a veth, or not one of ours.
func interfaceModes() []mode {
	var list []mode
	on := func(plugin, keys string, m mode) {
		m.config = config(plugin, "net-"+plugin, keys)
		m.setup, m.cleanup, m.leaves = wired, unwired, append(m.leaves, ofWire)
		list = append(list, m)
	}
	for _, f := range []string{"4", "6", "46"} {
		on("macvlan", `"master":"wire0","ipam":`+hostLocal(f), mode{name: "macvlan " + f, need: []string{"macvlan"}, families: f, peers: true})
		on("ipvlan", `"master":"wire0","ipam":`+hostLocal(f), mode{name: "ipvlan " + f, need: []string{"ipvlan"}, families: f, peers: true})
	}
	on("macvlan", `"master":"wire0","mode":"vepa","mtu":1400,"ipam":`+hostLocal("46"), mode{name: "macvlan vepa", need: []string{"macvlan"}})
	on("macvlan", `"master":"wire0","ipam":{}`, mode{name: "macvlan L2", need: []string{"macvlan"}})
	on("ipvlan", `"master":"wire0","mode":"l3","ipam":`+hostLocal("46"), mode{name: "ipvlan l3", need: []string{"ipvlan"}, families: "46", peers: true})
	on("vlan", `"master":"wire0","vlanId":7NUMBER,"ipam":`+hostLocal("46"), mode{name: "vlan", need: []string{"vlan"}})
	on("dummy", `"ipam":`+hostLocal("46"), mode{name: "dummy", need: []string{"dummy"}})
	on("tap", `"ipam":`+hostLocal("46"), mode{name: "tap", need: []string{"tap"}})
	on("tap", `"multiQueue":true,"owner":1,"group":2,"mtu":1400,"ipam":{}`, mode{name: "tap multiqueue", need: []string{"tap"}})
	list = append(list, mode{
		name: "host-device", config: config("host-device", "net-host-device", `"device":"dev-NUMBER","ipam":`+hostLocal("46")),
		// One that went with its namespace is gone before its peer is.
		each:    `n=0; until ip link show dev-NUMBER >/dev/null 2>&1 || ip link add dev-NUMBER type veth peer name rest-NUMBER; do n=$((n+1)); [ $n -lt 400 ]; sleep 0.05; done`,
		setup:   `true`,
		cleanup: `for i in 1 2 3; do ip link del rest-$i 2>/dev/null || true; done`,
		leaves:  []string{`^(link|addr|route|qdisc)\b.* (dev|rest)-[123]\b`},
	})
	return list
}

// ports are port mappings of container NUMBER.
const ports = `"runtimeConfig":{"portMappings":[
	{"hostPort":807NUMBER,"containerPort":80,"protocol":"tcp"},{"hostPort":807NUMBER,"containerPort":53,"protocol":"udp"},
	{"hostPort":907NUMBER,"containerPort":81,"protocol":"tcp","hostIP":"127.0.0.1"}]}`

// shaped are limits of both directions.
const shaped = `"ingressRate":10000000,"ingressBurst":1000000,"egressRate":20000000,"egressBurst":1000000`

// ofChains are the chains that portmap and firewall make with iptables, with the rules that are of no container, and the policies
// of bridges.
var ofChains = []string{
	`^ip6?tables-save nat (chain CNI-HOSTPORT-|-A CNI-HOSTPORT-(MASQ|SETMARK) |-A (OUTPUT|PREROUTING|POSTROUTING) .*-j CNI-HOSTPORT-)`,
	`^nft (chain ip6? nat CNI-HOSTPORT-|rule ip6? nat (CNI-HOSTPORT-(MASQ|SETMARK)|OUTPUT|PREROUTING|POSTROUTING) )`,
	`^ip6?tables-save filter (chain (FORWARD|CNI-\S+) |-A FORWARD .*-j CNI-|-A CNI-FORWARD .*-j CNI-ADMIN|-A CNI-ISOLATION-)`,
	`^nft (table ip6? filter|chain ip6? filter |rule ip6? filter (FORWARD|CNI-ISOLATION-\S+) |rule ip6? filter CNI-FORWARD .*CNI-ADMIN)`,
	`^nft element inet plumb .* comment="plumb"$`,
}

// chainedModes are those of plugins that come after another, which here is ptp or bridge.
func chainedModes() []mode {
	ptp := config("ptp", "net-chain", `"ipam":`+hostLocal("46"))
	var list []mode
	for _, m := range []struct {
		plugin, name, keys string
		need               []string
	}{
		{"portmap", "", ports, []string{"nft-inet-nat", "nft-fib"}},
		{"portmap", " nftables", `"backend":"nftables",` + ports, []string{"nft-inet-nat", "nft-fib"}},
		{"portmap", " iptables", `"backend":"iptables",` + ports, []string{"iptables-nft"}},
		{"portmap", " without snat", `"snat":false,` + ports, []string{"nft-inet-nat", "nft-fib"}},
		{"firewall", "", ``, nil},
		{"firewall", " nftables", `"backend":"nftables"`, []string{"nft-inet-nat"}},
		{"firewall", " iptables", `"backend":"iptables"`, []string{"iptables-nft"}},
		{"tuning", "", `"sysctl":{"net.core.somaxconn":"77","net.ipv4.conf.IFNAME.arp_filter":"1"},"mtu":1400,"promisc":true,"allmulti":true,"txQLen":77`, nil},
		{"tuning", " mac", `"mac":"02:77:00:00:00:0NUMBER"`, nil},
		{"bandwidth", "", shaped, []string{"tbf", "ifb", "mirred"}},
		{"bandwidth", " of some", shaped + `,"shapedSubnets":["10.0.0.0/8","fd00::/8"]`, []string{"tbf", "ifb", "mirred"}},
		{"sbr", "", ``, nil},
		{"vrf", "", `"vrfname":"blue"`, []string{"vrf"}},
		{"dnsname", "", `"domainName":"dns.test","runtimeConfig":{"aliases":{"net-chain":["alias-NUMBER"]}}`, nil},
	} {
		// What a container sends without choosing its address finds no route in the main table.
		families := "46"
		if m.plugin == "vrf" || m.plugin == "sbr" {
			families = ""
		}
		list = append(list, mode{
			name: m.plugin + m.name, config: config(m.plugin, "net-chain", m.keys), before: []string{ptp}, need: m.need,
			families: families, gateway: families != "", peers: families != "", leaves: ofChains,
		})
	}
	bridge := config("bridge", "net-isolated", `"bridge":"`+bridgeName+`","isGateway":true,"ipam":`+hostLocal("46"))
	for _, policy := range []string{"same-bridge", "isolated"} {
		for _, backend := range []string{"nftables", "iptables"} {
			list = append(list, mode{
				name: "firewall " + backend + " " + policy, config: config("firewall", "net-isolated", `"backend":"`+backend+`","ingressPolicy":"`+policy+`"`),
				before: []string{bridge}, bridge: bridgeName, families: "46", gateway: true, peers: policy == "same-bridge",
				need: map[string][]string{"nftables": {"nft-inet-nat"}, "iptables": {"iptables-nft"}}[backend],
				// The policy stays as the bridge does.
				setup: `true`, cleanup: `nft flush ruleset`, leaves: ofChains,
			})
		}
	}
	return list
}
