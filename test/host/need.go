package host

import (
	"fmt"
	"regexp"
	"sync"
	"syscall"
	"testing"
)

// SkipMarker begins the message of every skip that Need makes. What runs the tests (test/report) accepts a skip with this marker and an expected
// feature, and no other.
const SkipMarker = "SKIP-FEATURE"

// probes try a feature of the kernel in a network namespace of their own, each as a shell script: they do the real thing, since a module can
// be loaded on demand and a configuration can't be read everywhere.
var probes = map[string]string{
	"veth":                veth,
	"dummy":               `ip link add p0 type dummy`,
	"ifb":                 `ip link add p0 type ifb`,
	"bridge":              `ip link add p0 type bridge`,
	"bridge-vlan":         `ip link add p0 type bridge vlan_filtering 1`,
	"bridge-isolation":    veth + `ip link add p2 type bridge; ip link set p0 master p2; bridge link set dev p0 isolated on`,
	"macvlan":             veth + `ip link add link p0 name p2 type macvlan mode bridge`,
	"macvlan-bcqueuelen":  veth + `ip link add link p0 name p2 type macvlan bcqueuelen 7; ip -d link show p2 | grep -q 'bcqueuelen 7' || { echo not supported >&2; exit 1; }`,
	"macvtap":             veth + `ip link add link p0 name p2 type macvtap mode bridge`,
	"ipvlan":              veth + `ip link add link p0 name p2 type ipvlan mode l2`,
	"vlan":                veth + `ip link add link p0 name p2 type vlan id 7`,
	"vrf":                 `ip link add p0 type vrf table 7`,
	"tap":                 `ip tuntap add mode tap name p0`,
	"vxlan":               `ip link add p0 type vxlan id 7 dstport 4789`,
	"wireguard":           `ip link add p0 type wireguard`,
	"bond":                `ip link add p0 type bond`,
	"tbf":                 veth + `tc qdisc add dev p0 root tbf rate 1mbit burst 100k latency 10ms`,
	"fq_codel":            veth + `tc qdisc add dev p0 root fq_codel`,
	"mirred":              veth + `tc qdisc add dev p0 ingress; tc filter add dev p0 parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev p1`,
	"nft-inet-nat":        `printf 'table inet t {\n chain c {\n type nat hook postrouting priority 100\n ip saddr 192.0.2.1 masquerade\n }\n}\n' | nft -f -`,
	"nft-concat-interval": `printf 'table inet t {\n map m {\n type ipv4_addr . inet_service : verdict\n flags interval\n elements = { 192.0.2.0/24 . 1-2 : accept }\n }\n}\n' | nft -f -`,
	"nft-bridge":          `printf 'table bridge t {\n chain c {\n type filter hook forward priority 0\n ether saddr 02:00:00:00:00:01 drop\n }\n}\n' | nft -f -`,
	"bridge-nf":           `ip link add p0 type bridge; cat /proc/sys/net/bridge/bridge-nf-call-iptables`,
	"nft-fib":             `printf 'table inet t {\n chain c {\n type nat hook prerouting priority -100\n fib daddr type local accept\n }\n}\n' | nft -f -`,
	"iptables-nft":        `iptables-nft -t nat -A POSTROUTING -m comment --comment x -j MASQUERADE`,
	"iptables-legacy":     `iptables-legacy -t nat -A POSTROUTING -m comment --comment x -j MASQUERADE`,
	netnsCookie:           "(askCookie)",
	"conntrack":           `conntrack -L`,
	"conntrack-procfs":    `conntrack -L; cat /proc/net/nf_conntrack`,
	"pci-nics":            `modprobe -q virtio_net || true; [ $(cat /sys/bus/pci/devices/*/class | grep -c 0x020000) -ge 2 ] || { echo no such device >&2; exit 1; }`,
}

// netnsCookie is the one probe that no tool does.
const netnsCookie = "netns-cookie"

// askCookie asks a socket for the number of its namespace, with too little room for the answer.
func askCookie() error {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	const soNetnsCookie = 71
	if _, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, soNetnsCookie); err != syscall.EINVAL {
		return fmt.Errorf("SO_NETNS_COOKIE is not supported: %v", err)
	}
	return nil
}

const veth = "ip link add p0 type veth peer name p1; "

// refusal is how the tools say that the kernel doesn't know a thing. A probe that fails for another reason is broken, and would
// hide a test from then on.
var refusal = regexp.MustCompile(`(?i)unknown device type|not supported|no such file or directory|no such device|can't initialize|kind is unknown`)

// probed remembers the answers of this process's kernel: feature -> the error, or nil.
var probed sync.Map

// Need skips the test when the kernel lacks the feature, which is the only reason for which a test may be skipped. The names are
// those of probes.
func Need(t testing.TB, features ...string) {
	t.Helper()
	for _, feature := range features {
		if err := lacks(t, feature); err != nil {
			t.Skipf("%s %s: %v", SkipMarker, feature, err)
		}
	}
}

// Has tells whether the kernel has a feature, for what has to be otherwise where it has not.
func Has(t testing.TB, feature string) bool {
	t.Helper()
	return lacks(t, feature) == nil
}

// lacks returns how the tools say that the kernel doesn't have a feature, nil if it has.
func lacks(t testing.TB, feature string) error {
	t.Helper()
	script, ok := probes[feature]
	if !ok {
		t.Fatalf("there is no probe of the name %q", feature)
	}
	answer, _ := probed.LoadOrStore(feature, sync.OnceValue(func() error {
		if feature == netnsCookie {
			return askCookie()
		}
		_, err := Try("unshare", "--net", "sh", "-ec", script)
		return err
	}))
	err := answer.(func() error)()
	if err != nil && !refusal.MatchString(err.Error()) {
		t.Fatalf("the probe of %s doesn't work: %v", feature, err)
	}
	return err
}
