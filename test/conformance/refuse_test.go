package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

// A refusal is an input that is refused.
type refusal struct {
	name   string
	plugin string
	verb   string // "" is ADD
	config string
	env    []string // NAME=VALUE instead of a good one; NAME= for none
	code   cni.Code
	want   string // in the message or the details
}

func ptp(keys string) string { return config("ptp", "bad", keys) }

func bridge(keys string) string { return config("bridge", "bad", `"bridge":"br77",`+keys) }

// given is a ptp configuration with keys of a section "ipam" of host-local.
func given(keys string) string { return ptp(`"ipam":{"type":"host-local",` + keys + `}`) }

// fixed is the same of static.
func fixed(keys string) string { return ptp(`"ipam":{"type":"static",` + keys + `}`) }

// chained is a configuration of a plugin that comes after another.
func chained(plugin, keys string) string {
	return config(plugin, "bad", keys+`,"prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/there"}],"ips":[{"address":"10.77.0.2/24","interface":0}]}`)
}

const published = `"runtimeConfig":{"portMappings":[{"hostPort":8077,"containerPort":80,"protocol":"tcp"}]}`

const (
	good   = `"ipam":{"type":"host-local","subnet":"10.77.0.0/24"}`
	subnet = `"subnet":"10.77.0.0/24"`
)

// ofProtocol are refused before a plugin sees them.
var ofProtocol = []refusal{
	{name: "unknown verb", env: []string{"CNI_COMMAND=FROB"}, code: 4, want: "unknown CNI_COMMAND: FROB; it is ADD, CHECK, DEL, GC, STATUS or VERSION, in capitals (plugin ptp, FROB)"},
	{name: "verb in lower case", env: []string{"CNI_COMMAND=add"}, code: 4, want: "unknown CNI_COMMAND: add"},
	{name: "no container ID", env: []string{"CNI_CONTAINERID="}, code: 4, want: "missing: CNI_CONTAINERID"},
	{name: "no namespace", env: []string{"CNI_NETNS="}, code: 4, want: "(plugin ptp, ADD, container bad, interface eth0)"},
	{name: "no interface", env: []string{"CNI_IFNAME="}, code: 4, want: "missing: CNI_IFNAME"},
	{name: "no path", env: []string{"CNI_PATH="}, code: 4, want: "missing: CNI_PATH"},
	{name: "nothing", env: []string{"CNI_CONTAINERID=", "CNI_NETNS=", "CNI_IFNAME=", "CNI_PATH="}, code: 4, want: "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH"},
	{name: "no container ID", verb: "DEL", env: []string{"CNI_CONTAINERID="}, code: 4, want: "DEL needs environment variables that are missing: CNI_CONTAINERID"},
	{name: "no namespace", verb: "CHECK", env: []string{"CNI_NETNS="}, code: 4, want: "CHECK needs environment variables that are missing: CNI_NETNS"},
	{name: "no path", verb: "GC", env: []string{"CNI_PATH="}, code: 4, want: "missing: CNI_PATH"},
	{name: "no path", verb: "STATUS", env: []string{"CNI_PATH="}, code: 4, want: "missing: CNI_PATH"},
	{name: "container ID with a path", env: []string{"CNI_CONTAINERID=../bad"}, code: 4, want: `invalid CNI_CONTAINERID "../bad"`},
	{name: "container ID with a hyphen first", verb: "DEL", env: []string{"CNI_CONTAINERID=-bad"}, code: 4, want: `invalid CNI_CONTAINERID "-bad"`},
	{name: "the host's namespace of a network", env: []string{"CNI_NETNS=/proc/self/ns/net"}, code: 4, want: "(plugin ptp, ADD, network bad, container bad, interface eth0)"},
	{name: "long interface", env: []string{"CNI_IFNAME=sixteen-letters-"}, code: 4, want: `"sixteen-letters-": 16 bytes are more than 15`},
	{name: "interface with a slash", env: []string{"CNI_IFNAME=a/b"}, code: 4, want: `invalid CNI_IFNAME "a/b"`},
	{name: "interface with a space", env: []string{"CNI_IFNAME=a b"}, code: 4, want: `invalid CNI_IFNAME "a b"`},
	{name: "interface of dots", env: []string{"CNI_IFNAME=.."}, code: 4, want: `invalid CNI_IFNAME ".."`},
	{name: "two faults at once", env: []string{"CNI_IFNAME=a:b", "CNI_CONTAINERID=a b"}, code: 4, want: `invalid CNI_CONTAINERID "a b"`},
	{name: "empty input", config: ` `, code: 6, want: "decode network configuration"},
	{name: "cut input", config: `{"cniVersion":"1.1.0","name":"b`, code: 6, want: "decode network configuration"},
	{name: "a list", config: `[]`, code: 6, want: "decode network configuration"},
	{name: "two objects", config: `{}{}`, code: 6, want: "decode network configuration"},
	{name: "version of the future", config: `{"cniVersion":"9.0.0","name":"bad","type":"ptp"}`, code: 1, want: `incompatible CNI version "9.0.0"`},
	{name: "supported versions", config: `{"cniVersion":"9.0.0","name":"bad","type":"ptp"}`, code: 1, want: `supports 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0`},
	{name: "version in words", config: `{"cniVersion":"latest","name":"bad","type":"ptp"}`, code: 1, want: `"latest"`},
	{name: "version as a number", config: `{"cniVersion":1.1,"name":"bad","type":"ptp"}`, code: 6, want: "cniVersion"},
	{name: "no name", config: `{"cniVersion":"1.1.0","type":"ptp"}`, code: 7, want: "network name is missing"},
	{name: "name with a path", config: `{"cniVersion":"1.1.0","name":"../bad","type":"ptp"}`, code: 7, want: `invalid network name "../bad"`},
	{name: "CHECK before its time", verb: "CHECK", config: `{"cniVersion":"0.3.1","name":"bad","type":"ptp"}`, code: 1, want: `version 0.3.1 of network "bad" has no CHECK`},
	{name: "GC before its time", verb: "GC", config: `{"cniVersion":"1.0.0","name":"bad","type":"ptp"}`, code: 1, want: `has no GC`},
	{name: "STATUS before its time", verb: "STATUS", config: `{"cniVersion":"1.0.0","name":"bad","type":"ptp"}`, code: 1, want: `has no STATUS`},
	{name: "the host's namespace", env: []string{"CNI_NETNS=/proc/self/ns/net"}, code: 4, want: "/proc/self/ns/net is the host's own network namespace"},
	{name: "the host's namespace", plugin: "loopback", env: []string{"CNI_NETNS=/proc/self/ns/net"}, code: 4, want: "CNI_NETNS_OVERRIDE"},
}

// ofPlugins are refused by the plugin, which says for whom.
var ofPlugins = []refusal{
	{name: "namespace that is nowhere", env: []string{"CNI_NETNS=/run/netns/nowhere"}, code: 4, want: "CNI_NETNS /run/netns/nowhere: there is no such network namespace; it is a path, such as /run/netns/NAME or /proc/PID/ns/net; does"},
	{name: "namespace that is a file", env: []string{"CNI_NETNS=/etc/passwd"}, code: 4, want: "CNI_NETNS /etc/passwd: there is no such network namespace, but a regular file; it is a path"},
	{name: "namespace that is a folder", plugin: "loopback", env: []string{"CNI_NETNS=/run/netns"}, code: 4, want: "CNI_NETNS /run/netns: there is no such network namespace, but a folder"},
	{name: "namespace of mounts", env: []string{"CNI_NETNS=/proc/self/ns/mnt"}, code: 4, want: "CNI_NETNS /proc/self/ns/mnt: there is no such network namespace, but a namespace of another kind"},
	{name: "namespace that is nowhere", verb: "CHECK", config: ptp(good + `,"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.77.0.2/24"}]}`), env: []string{"CNI_NETNS=/run/netns/nowhere"}, code: 3, want: "/run/netns/nowhere: there is no such network namespace; the container is gone"},
	{name: "argument that is no pair", env: []string{"CNI_ARGS=MAC"}, code: 4, want: `CNI_ARGS: "MAC" is not a pair KEY=value`},
	{name: "argument nobody knows", env: []string{"CNI_ARGS=COLOUR=red"}, code: 4, want: `CNI_ARGS: unknown arguments "COLOUR=red"`},
	{name: "argument nobody knows", plugin: "bridge", env: []string{"CNI_ARGS=COLOUR=red"}, code: 4, want: `IgnoreUnknown=1`},
	{name: "IgnoreUnknown=maybe", env: []string{"CNI_ARGS=IgnoreUnknown=maybe"}, code: 4, want: "neither true nor false"},
	{name: "type with a path", config: `{"cniVersion":"1.1.0","name":"bad","type":"../ptp"}`, code: 7, want: `invalid type "../ptp"`},
	{name: "IPAM type with a path", config: ptp(`"ipam":{"type":"../static"}`), code: 7, want: `invalid ipam type "../static"`},
	{name: "no prevResult", verb: "CHECK", code: 7, want: "prevResult is missing, which CHECK needs"},
	{name: "no prevResult", plugin: "loopback", verb: "CHECK", code: 7, want: "prevResult is missing"},
	{name: "bad prevResult", verb: "CHECK", config: ptp(good + `,"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.77.0.2"}]}`), code: 6, want: `"10.77.0.2"`},
	{name: "prevResult of the future", verb: "CHECK", config: ptp(good + `,"prevResult":{"cniVersion":"9.0.0"}`), code: 1, want: "prevResult"},
	{name: "bad list of the valid", verb: "GC", config: ptp(good + `,"cni.dev/valid-attachments":"all"`), code: 6, want: "decode valid attachments: it has to be a list, not a string"},
	{name: "IPAM plugin that is nowhere", config: ptp(`"ipam":{"type":"nowhere"}`), code: 7, want: `IPAM plugin nowhere: no executable of plugin "nowhere" in /`},
	{name: "IPAM plugin that is nowhere", plugin: "bridge", verb: "STATUS", config: bridge(`"ipam":{"type":"nowhere"}`), code: 7, want: "ipam.type is the name of a program"},

	{name: "no ipam", config: ptp(`"mtu":1400`), code: 7, want: "ipam.type is missing"},
	{name: "empty ipam", config: ptp(`"ipam":{}`), code: 7, want: `"host-local" is one`},
	{name: "ipam in words", config: ptp(`"ipam":"host-local"`), code: 6, want: "ipam"},
	{name: "small mtu", config: ptp(good + `,"mtu":60`), code: 7, want: "mtu 60 is out of range"},
	{name: "large mtu", config: ptp(good + `,"mtu":65536`), code: 7, want: "68 to 65535"},
	{name: "negative mtu", plugin: "bridge", config: bridge(`"mtu":-1`), code: 7, want: "mtu -1"},
	{name: "mtu in words", config: ptp(good + `,"mtu":"large"`), code: 6, want: "mtu has to be a whole number, not a string"},
	{name: "ipMasq in words", config: ptp(good + `,"ipMasq":"yes"`), code: 6, want: "ipMasq has to be true or false, not a string"},
	{name: "unknown back end", config: ptp(good + `,"ipMasq":true,"ipMasqBackend":"ipfw"`), code: 7, want: `"ipfw"`},
	{name: "unknown back end", plugin: "bridge", config: bridge(`"isGateway":true,"ipMasq":true,"ipMasqBackend":"ipfw",` + good), code: 7, want: `"nftables" or "iptables"`},
	{name: "unknown back end", verb: "STATUS", config: ptp(good + `,"ipMasq":true,"ipMasqBackend":"ipfw"`), code: 7, want: `"ipfw"`},
	{name: "acceptRA in words", config: ptp(good + `,"acceptRA":"no"`), code: 6, want: "acceptRA has to be true or false, not a string"},
	{name: "master as a number", config: config("macvlan", "bad", `"master":7,`+good), code: 6, want: "decode configuration: master has to be a string, not a number"},
	{name: "trunk of numbers", config: bridge(`"vlanTrunk":[7]`), code: 6, want: "each of vlanTrunk has to be an object, not a number"},

	{name: "long bridge", config: config("bridge", "bad", `"bridge":"sixteen-letters-"`), code: 7, want: `bridge "sixteen-letters-"`},
	{name: "bridge with a slash", config: config("bridge", "bad", `"bridge":"a/b"`), code: 7, want: `bridge "a/b"`},
	{name: "bridge with a dot too many", config: config("bridge", "bad", `"bridge":".."`), code: 7, want: `bridge ".."`},
	{name: "hairpin and promiscuous", config: bridge(`"hairpinMode":true,"promiscMode":true`), code: 7, want: "hairpinMode and promiscMode exclude each other"},
	{name: "addresses for no interface", config: bridge(`"disableContainerInterface":true,` + good), code: 7, want: "disableContainerInterface"},
	{name: "vlan", config: bridge(`"vlan":4095`), code: 7, want: "vlan 4095"},
	{name: "vlanTrunk", config: bridge(`"vlanTrunk":[{"minID":7}]`), code: 7, want: "vlanTrunk[0]"},
	{name: "defaultRoute", config: bridge(`"defaultRoute":"always"`), code: 7, want: "defaultRoute"},
	{name: "MAC in words", plugin: "bridge", config: bridge(`"ipam":{}`), env: []string{"CNI_ARGS=MAC=red"}, code: 4, want: `MAC of CNI_ARGS: "red" is not a hardware address`},
	{name: "MAC of a group", config: bridge(`"args":{"cni":{"mac":"01:00:5e:00:00:01"}}`), code: 7, want: "args.cni.mac: 01:00:5e:00:00:01 is a group's address"},
	{name: "MAC of Infiniband", config: bridge(`"runtimeConfig":{"mac":"00:00:00:00:fe:80:00:00:00:00:00:00:02:00:5e:10:00:00:00:01"}`), code: 7, want: "runtimeConfig.mac"},

	{name: "no range", config: ptp(`"ipam":{"type":"host-local"}`), code: 7, want: "ipam.ranges: no range to allocate from"},
	{name: "no range", verb: "STATUS", config: ptp(`"ipam":{"type":"host-local"}`), code: 7, want: "ipam.ranges"},
	{name: "no range alone", plugin: "host-local", config: config("host-local", "bad", `"ipam":{"type":"host-local"}`), code: 7, want: "ipam.ranges"},
	{name: "empty range set", config: given(`"ranges":[[]]`), code: 7, want: "ipam.ranges[0]: empty"},
	{name: "range without subnet", config: given(`"ranges":[[{"rangeStart":"10.77.0.5"}]]`), code: 7, want: "ipam.ranges[0][0].subnet: missing"},
	{name: "subnet in words", config: given(`"subnet":"lan"`), code: 7, want: `ipam.subnet: "lan"`},
	{name: "subnet with host bits", config: given(`"subnet":"10.77.0.1/24"`), code: 7, want: "the subnet is 10.77.0.0/24"},
	{name: "subnet too small", config: given(`"subnet":"10.77.0.0/31"`), code: 7, want: `"10.77.0.0/31" is too small`},
	{name: "subnet of one", config: given(`"subnet":"fd00:77::1/128"`), code: 7, want: "too small"},
	{name: "start outside", config: given(subnet + `,"rangeStart":"10.78.0.5"`), code: 7, want: "ipam.rangeStart: 10.78.0.5 is not in subnet 10.77.0.0/24"},
	{name: "end before start", config: given(subnet + `,"rangeStart":"10.77.0.9","rangeEnd":"10.77.0.5"`), code: 7, want: "10.77.0.5 is before the start of the range, 10.77.0.9"},
	{name: "end in words", config: given(subnet + `,"rangeEnd":"last"`), code: 7, want: `ipam.rangeEnd: "last" is not an IP address`},
	{name: "gateway of another family", config: given(subnet + `,"gateway":"fd00:77::1"`), code: 7, want: "ipam.gateway"},
	{name: "overlap", config: given(`"ranges":[[{"subnet":"10.77.0.0/24"}],[{"subnet":"10.77.0.0/16"}]]`), code: 7, want: "ipam.ranges[1]"},
	{name: "families mixed", config: given(`"ranges":[[{"subnet":"10.77.0.0/24"},{"subnet":"fd00:77::/64"}]]`), code: 7, want: "not of one family"},
	{name: "two of a family for 0.2.0", config: derive2(given(`"ranges":[[{"subnet":"10.77.0.0/24"}],[{"subnet":"10.78.0.0/24"}]]`), "0.2.0"), code: 7, want: "0.3.0"},
	{name: "routes in words", config: given(subnet + `,"routes":"default"`), code: 7, want: "ipam.routes: not a list"},
	{name: "route to nowhere", config: given(subnet + `,"routes":[{"dst":"everywhere"}]`), code: 7, want: `"everywhere"`},
	{name: "metric beyond the kernel's", config: given(subnet + `,"routes":[{"dst":"10.90.0.0/16","priority":4294967301}]`), code: 7, want: "route to 10.90.0.0/16: priority 4294967301 is more than 4294967295"},
	{name: "table beyond the kernel's", config: given(subnet + `,"routes":[{"dst":"10.90.0.0/16","table":4294967551}]`), code: 7, want: "table 4294967551 is more than 4294967295"},
	{name: "scope beyond the kernel's", config: given(subnet + `,"routes":[{"dst":"10.90.0.0/16","scope":509}]`), code: 7, want: "scope 509 is more than 255"},
	{name: "route of two families", config: given(subnet + `,"routes":[{"dst":"0.0.0.0/0","gw":"fd00:77::1"}]`), code: 7, want: "ipam.routes[0].gw: fd00:77::1 can't be the gateway to 0.0.0.0/0"},
	{name: "relative resolvConf", config: given(subnet + `,"resolvConf":"resolv.conf"`), code: 7, want: `"resolv.conf" is not an absolute path`},
	{name: "resolvConf that is nowhere", config: given(subnet + `,"resolvConf":"/nowhere"`), code: 7, want: "/nowhere"},
	{name: "relative dataDir", config: given(subnet + `,"dataDir":"networks"`), code: 7, want: `ipam.dataDir: "networks" is not an absolute path`},
	{name: "dataDir below a file", config: given(subnet + `,"dataDir":"/etc/passwd/networks"`), code: 5, want: "/etc/passwd"},
	{name: "address outside", env: []string{"CNI_ARGS=IP=10.78.0.5"}, code: 4, want: "CNI_ARGS: IP: 10.78.0.5 is in none of the ranges 10.77.0.1-10.77.0.254"},
	{name: "address in words", env: []string{"CNI_ARGS=IP=any"}, code: 4, want: `"any" is not an IP address`},
	{name: "address of the gateway", config: ptp(good + `,"args":{"cni":{"ips":["10.77.0.1"]}}`), code: 7, want: "args.cni.ips[0]: 10.77.0.1 is the gateway of its subnet"},
	{name: "two addresses of one range", config: ptp(good + `,"runtimeConfig":{"ips":["10.77.0.5","10.77.0.6"]}`), code: 7, want: "of the same range set"},

	{name: "sysctl that there is not", config: chained("tuning", `"sysctl":{"net.ipv4.nonesuch":"1"}`), code: 7, want: "there is no such setting: read sysctl: open /proc/sys/net/ipv4/nonesuch"},
	{name: "sysctl in words", config: chained("tuning", `"sysctl":{"net.core.somaxconn":"many"}`), code: 7, want: `set sysctl to "many"`},
	{name: "sysctl out of range", config: chained("tuning", `"sysctl":{"net.ipv4.ip_default_ttl":"4711"}`), code: 7, want: `it is "64" now`},
	{name: "sysctl to look at", config: chained("tuning", `"sysctl":{"net.ipv4.tcp_available_congestion_control":"reno"}`), code: 7, want: "it can only be read"},
	{name: "chain of marks that there is not", config: chained("portmap", `"externalSetMarkChain":"NONESUCH",`+published), code: 7, want: "externalSetMarkChain: there is no chain NONESUCH in table nat of iptables for ip"},
	{name: "conditions of iptables in words", config: chained("portmap", `"backend":"iptables","conditionsV4":["--nonesuch","1"],`+published), code: 7, want: `["--nonesuch" "1"]`},
	{name: "the plugin's own chain for rules of the user's", config: chained("firewall", `"iptablesAdminChainName":"CNI-FORWARD"`), code: 7, want: `iptablesAdminChainName "CNI-FORWARD" is a chain of the plugin's`},
	{name: "a target for rules of the user's", config: chained("firewall", `"iptablesAdminChainName":"ACCEPT"`), code: 7, want: "leave the key out for CNI-ADMIN"},

	{name: "no interface", config: chained("tuning", `"txQLen":7`), code: 7, want: "link eth0: no such device; another plugin of the list has to make it before"},
	{name: "no interface", config: chained("sbr", `"dns":{}`), code: 7, want: "link eth0: no such device; another plugin of the list has to make it before"},
	{name: "mtu for IPv4 alone", config: ptp(`"mtu":1000,"ipam":{"type":"static","addresses":[{"address":"fd00:77::2/64","gateway":"fd00:77::1"}]}`), code: 7, want: "IPv6 needs an mtu of 1280 bytes or more"},
	{name: "address of a group", config: fixed(`"addresses":[{"address":"ff02::2/64","gateway":"ff02::1"}]`), code: 7, want: "the kernel does not take what the configuration, or IPAM, asks for there"},

	{name: "no address", config: fixed(`"addresses":[]`), code: 7, want: "IPAM plugin static returned no address"},
	{name: "address without prefix", config: fixed(`"addresses":[{"address":"10.77.0.2"}]`), code: 7, want: `ipam.addresses[0].address: "10.77.0.2"`},
	{name: "address alone", plugin: "static", config: config("static", "bad", `"ipam":{"type":"static","addresses":[{"address":"10.77.0.2"}]}`), code: 7, want: "ipam.addresses[0].address"},
	{name: "no gateway", config: fixed(`"addresses":[{"address":"10.77.0.2/24"}]`), code: 7, want: "address 10.77.0.2/24 has no gateway"},
	{name: "gateway of another family", config: fixed(`"addresses":[{"address":"10.77.0.2/24","gateway":"fd00:77::1"}]`), code: 7, want: "ipam.addresses[0].gateway"},
	{name: "gateway in words", config: fixed(`"addresses":[{"address":"10.77.0.2/24","gateway":"first"}]`), code: 7, want: `"first" is not an IP address`},
	{name: "argument without prefix", config: fixed(`"addresses":[]`), env: []string{"CNI_ARGS=IP=10.77.0.2"}, code: 4, want: `CNI_ARGS: IP: "10.77.0.2"`},
	{name: "argument's gateway in words", config: fixed(`"addresses":[]`), env: []string{"CNI_ARGS=IP=10.77.0.2/24;GATEWAY=first"}, code: 4, want: `GATEWAY: "first"`},
	{name: "route through nowhere", config: fixed(`"addresses":[{"address":"10.77.0.2/24","gateway":"10.77.0.1"}],"routes":[{"dst":"10.90.0.0/16","table":0,"priority":-1}]`), code: 7, want: "ipam.routes"},
}

// derive2 is a configuration of another version.
func derive2(config, version string) string {
	return strings.Replace(config, `"cniVersion":"1.1.0"`, fmt.Sprintf(`"cniVersion":%q`, version), 1)
}

// TestRefusals gives plugins what they can't act on. They say so, with the code of the specification and a message that helps, and leave
// nothing behind.
func TestRefusals(t *testing.T) {
	if n := len(ofProtocol) + len(ofPlugins); n < 60 {
		t.Errorf("the table has %d bad inputs", n)
	}
	bin, netns := host.Bin(t), host.NetNS(t)
	removeAtEnd(t, bridgeName)
	for _, early := range []bool{true, false} {
		table := ofPlugins
		if early {
			table = ofProtocol
		}
		for _, tt := range table {
			if tt.verb == "" {
				tt.verb = "ADD"
			}
			a := &attachment{config: tt.config, netns: netns}
			if tt.plugin == "" {
				if tt.plugin = a.plugin(); tt.plugin == "" || strings.Contains(tt.plugin, "/") {
					tt.plugin = "ptp"
				}
			}
			if tt.config == "" {
				tt.config = config(tt.plugin, "bad", good)
			}
			t.Run(tt.plugin+" "+tt.verb+" "+tt.name, func(t *testing.T) {
				before := host.Snapshot(t)
				_, failure := execute(t, tt.plugin, replace(host.Env(tt.verb, "bad", netns, "eth0", bin), tt.env), tt.config)
				if failure == nil {
					t.Fatalf("%s succeeds", tt.verb)
				}
				said := failure.Error()
				if failure.Code != tt.code || !strings.Contains(said, tt.want) {
					t.Errorf("code %d: %s\nwant %d: %s", failure.Code, said, tt.code, tt.want)
				}
				if strings.Contains(said, "\n") || failure.Msg == "" || strings.HasSuffix(failure.Msg, ".") {
					t.Errorf("not one line that can be put into another: %q", said)
				}
				if early {
					if !strings.Contains(failure.Details, fmt.Sprintf("plugin %s, ", tt.plugin)) {
						t.Errorf("the details do not name the plugin: %q", failure.Details)
					}
				} else {
					tt.names(t, failure)
				}
				host.Unchanged(t, before, stays(bridgeName)...)
				a.gone(t)
			})
		}
	}
}

// names fails the test unless an error tells whose it is.
func (r refusal) names(t *testing.T, failure *cni.Error) {
	t.Helper()
	words := []string{"plugin " + r.plugin, r.verb, "network bad"}
	if r.verb != "GC" && r.verb != "STATUS" {
		words = append(words, "container bad", "interface eth0")
	}
	for _, word := range words {
		if !strings.Contains(failure.Details, word) {
			t.Errorf("the details do not name %q: %q", word, failure.Details)
		}
	}
}

// replace returns an environment with variables replaced, or removed by an empty value.
func replace(env, with []string) []string {
	for _, kv := range with {
		name, value, _ := strings.Cut(kv, "=")
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		if value != "" {
			env = append(env, kv)
		}
	}
	return env
}

// TestExhausted gives out all of a range: who comes late is told who has it.
func TestExhausted(t *testing.T) {
	network := given(`"subnet":"10.77.0.0/29","rangeStart":"10.77.0.2","rangeEnd":"10.77.0.4"`)
	for i := range 3 {
		attach(t, network, fmt.Sprintf("early-%d", i)).add(t)
	}
	before := host.Snapshot(t)
	late := attach(t, network, "late")
	_, failure := late.tryAdd(t)
	if failure == nil || failure.Code != state.CodeExhausted {
		t.Fatalf("ADD without an address left: %v", failure)
	}
	for _, want := range []string{"3 of 3", "10.77.0.2-10.77.0.4", "early-", "network bad", "container late"} {
		if !strings.Contains(failure.Error(), want) {
			t.Errorf("the message does not tell of %q: %v", want, failure)
		}
	}
	late.gone(t)
	host.Unchanged(t, before, stays("")...)
}

// TestTaken asks for an address that another container has.
func TestTaken(t *testing.T) {
	first, second := attach(t, ptp(good), "first"), attach(t, ptp(good), "second")
	first.args, second.args = "IP=10.77.0.7", "IP=10.77.0.7"
	first.add(t)
	before := host.Snapshot(t)
	_, failure := second.tryAdd(t)
	if failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Msg, "10.77.0.7") || !strings.Contains(failure.Msg, "first") {
		t.Errorf("ADD with an address that another has: %v", failure)
	}
	second.gone(t)
	host.Unchanged(t, before, stays("")...)
}

// TestReadOnly leaves nothing where no record can be written.
func TestReadOnly(t *testing.T) {
	before := host.Snapshot(t)
	if err := os.RemoveAll(state.RecordDir); err != nil {
		t.Fatal(err)
	}
	parent := filepath.Dir(state.RecordDir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	host.Run(t, "mount", "-t", "tmpfs", "-o", "ro", "tmpfs", parent)
	a := attach(t, ptp(`"ipMasq":true,`+good), "unwritten")
	_, failure := a.tryAdd(t)
	host.Run(t, "umount", parent)
	if failure == nil || failure.Code != cni.CodeIO || !strings.Contains(failure.Msg, "write record") || !strings.Contains(failure.Msg, "read-only") || !hinted(failure) {
		t.Errorf("ADD without a place for the record: %v", failure)
	}
	a.gone(t)
	host.Unchanged(t, before, stays("")...)
}

// TestFull leaves nothing where there is no room for a record, not even a part of one.
func TestFull(t *testing.T) {
	if err := os.MkdirAll(state.RecordDir, 0o755); err != nil {
		t.Fatal(err)
	}
	before := host.Snapshot(t)
	host.Run(t, "mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", state.RecordDir)
	t.Cleanup(func() { host.Try("umount", state.RecordDir) }) //nolint:errcheck // it is, unless the test has failed
	host.Run(t, "sh", "-c", "head -c 1M /dev/zero > "+state.RecordDir+"/.else; true")
	_, failure := attach(t, ptp(good), "unwritten").tryAdd(t)
	if failure == nil || failure.Code != cni.CodeIO || !strings.Contains(failure.Msg, "no space left") || !strings.Contains(failure.Details, "room") {
		t.Errorf("ADD without room for the record: %v", failure)
	}
	left, err := os.ReadDir(state.RecordDir)
	if err != nil || len(left) != 1 {
		t.Errorf("ADD leaves %v, %v", left, err)
	}
	host.Run(t, "umount", state.RecordDir)
	host.Unchanged(t, before, stays("")...)
}
