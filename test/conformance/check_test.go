package conformance

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

// processOfTheHost starts a process that sleeps in the host's namespaces and returns its number.
func processOfTheHost(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it has ended by itself
		cmd.Wait()         //nolint:errcheck // by the signal
	})
	return strconv.Itoa(cmd.Process.Pid)
}

// A damage is a shell command that takes away what an attachment needs, and what CHECK has to say of it. VETH is the host's end,
// IN runs in the container, V4 and V6 are its addresses.
type damage struct{ command, want string }

var everywhere = []damage{
	{`ip link del VETH`, "link VETH is missing"},
	{`ip link set VETH down`, "link VETH: up is false"},
	{`IN ip link set eth0 down`, "eth0: up is false"},
	{`IN ip link set eth0 down; IN ip link set eth0 name eth7; IN ip link set eth7 up`, "sandbox link eth0 is missing"},
	{`IN ip link set eth0 address 02:00:00:00:00:09`, "mac is 02:00:00:00:00:09"},
	{`IN ip addr del V4/24 dev eth0`, "address eth0 V4/24 is missing"},
	{`IN ip addr del V6/64 dev eth0`, "address eth0 V6/64 is missing"},
	{`IN ip route del default`, "route 0.0.0.0/0 via 10.77.0.1 dev eth0 is missing"},
	{`IN ip -6 route del default`, "route ::/0 via fd00:77::1 dev eth0 is missing"},
	{`rm /var/lib/cni/networks/net/V4`, "V4"},
	{`rm /var/lib/cni/networks/net/V6`, "V6"},
	{`rm -r /var/lib/cni/networks/net`, "holds no address"},
	{`echo 0 >/proc/sys/net/ipv4/ip_forward`, "sysctl ipv4/ip_forward: value is 0, want 1"},
	{`echo 0 >/proc/sys/net/ipv6/conf/all/forwarding`, "sysctl ipv6/conf/all/forwarding: value is 0, want 1"},
}

var ofPTP = []damage{
	{`ip addr del 10.77.0.1/32 dev VETH`, "address VETH 10.77.0.1/32 is missing"},
	{`ip addr del fd00:77::1/128 dev VETH`, "address VETH fd00:77::1/128 is missing"},
	{`ip route del V4`, "route V4/32 dev VETH is missing"},
	{`ip -6 route del V6`, "route V6/128 dev VETH is missing"},
	{`IN ip route del 10.77.0.0/24`, "route 10.77.0.0/24 via 10.77.0.1 dev eth0 is missing"},
	{`IN ip -6 route del fd00:77::/64`, "route fd00:77::/64 via fd00:77::1 dev eth0 is missing"},
}

var ofBridge = []damage{
	{`ip link del br77`, "br77"},
	{`ip link set br77 down`, "link br77: up is false"},
	{`ip addr del 10.77.0.1/24 dev br77`, "address br77 10.77.0.1/24 is missing"},
	{`ip addr del fd00:77::1/64 dev br77`, "address br77 fd00:77::1/64 is missing"},
	{`ip link set VETH nomaster`, "link VETH: bridge is"},
	{`bridge link set dev VETH hairpin off`, "link VETH: hairpin is false, want true"},
	{`IN ip link set eth0 mtu 1300`, "eth0: mtu is 1300, want 1400"},
}

var ofPromiscuousBridge = []damage{
	{`ip link set br77 promisc off`, "link br77: promiscuous is false, want true"},
	{`bridge link set dev VETH isolated off`, "link VETH: isolated is false, want true"},
}

var ofNFTables = []damage{
	{`nft delete table inet plumb`, "masquerade"},
	{`nft delete element inet plumb masq4 '{ V4 }'`, "V4"},
	{`nft delete element inet plumb masq6 '{ V6 }'`, "V6"},
	{`nft flush chain inet plumb masq-postrouting`, "masq-postrouting"},
	{`nft flush chain inet plumb masq4`, "masq4"},
	{`nft flush set inet plumb masq4-24`, "V4"},
	{`nft flush set inet plumb masq6-64`, "V6"},
	{`nft flush ruleset`, "masquerade"},
}

var ofIPTables = []damage{
	{`iptables -t nat -F POSTROUTING`, "V4"},
	{`ip6tables -t nat -F POSTROUTING`, "V6"},
	{`iptables -t nat -F POSTROUTING; iptables -t nat -F; iptables -t nat -X`, "CNI-"},
	{`ip6tables -t nat -F`, "CNI-"},
}

// TestCheckFindsDamage breaks an attachment in one way at a time: CHECK fails and names what is missing.
func TestCheckFindsDamage(t *testing.T) {
	nft, ipt := masquerades[1].keys, masquerades[2].keys
	for _, tt := range []struct {
		name    string
		config  string
		need    []string
		damages [][]damage
	}{
		{"ptp", config("ptp", "net", nft+`"ipam":`+hostLocal("46")), []string{"nft-inet-nat"}, [][]damage{everywhere, ofPTP, ofNFTables}},
		{"ptp iptables", config("ptp", "net", ipt+`"ipam":`+hostLocal("46")), []string{"iptables-nft"}, [][]damage{ofIPTables}},
		{"bridge", bridgeConfig("net", nft+`"isDefaultGateway":true,"hairpinMode":true,"mtu":1400,"ipam":`+hostLocal("46")), []string{"nft-inet-nat"}, [][]damage{everywhere, ofBridge, ofNFTables}},
		{"bridge iptables", bridgeConfig("net", ipt+`"isDefaultGateway":true,"ipam":`+hostLocal("46")), []string{"iptables-nft"}, [][]damage{ofIPTables}},
		{"bridge promiscuous", bridgeConfig("net", `"isGateway":true,"promiscMode":true,"portIsolation":true,"ipam":`+hostLocal("4")), []string{"bridge-isolation"}, [][]damage{ofPromiscuousBridge}},
	} {
		for _, damages := range tt.damages {
			for _, d := range damages {
				t.Run(tt.name+"/"+d.command, func(t *testing.T) {
					host.Need(t, tt.need...)
					removeAtEnd(t, bridgeName)
					a := attach(t, tt.config, "broken")
					result := a.add(t)
					words := []string{"IN ", "nsenter --net=" + a.netns + " ", "VETH", a.hostEnd(t), "V4", result.IPs[0].Address.Addr().String()}
					if len(result.IPs) > 1 {
						words = append(words, "V6", result.IPs[1].Address.Addr().String())
					}
					fill := strings.NewReplacer(words...)
					a.check(t)
					host.Run(t, "sh", "-ec", fill.Replace(d.command))
					failure := a.tryCheck(t)
					if failure == nil {
						t.Fatal("CHECK passes")
					}
					if want := fill.Replace(d.want); failure.Code != state.CodeDrift || !strings.Contains(failure.Msg, want) {
						t.Errorf("CHECK fails with code %d and %q, want %q", failure.Code, failure.Msg, want)
					}
					a.del(t) // works on whatever is left
					a.gone(t)
				})
			}
		}
	}
}

// TestCheckOfLoopback is TestCheckFindsDamage for a plugin without addresses.
func TestCheckOfLoopback(t *testing.T) {
	a := attach(t, config("loopback", "net", ""), "broken")
	a.add(t)
	a.check(t)
	host.RunIn(t, a.netns, "ip", "link", "set", "lo", "down")
	if failure := a.tryCheck(t); failure == nil || !strings.Contains(failure.Msg, "lo: up is false") {
		t.Errorf("CHECK with lo down: %v", failure)
	}
}

// TestCheckIsASubset lets later plugins and operators add to an attachment what it doesn't forbid.
func TestCheckIsASubset(t *testing.T) {
	removeAtEnd(t, bridgeName)
	a := attach(t, bridgeConfig("net", `"isDefaultGateway":true,"ipam":`+hostLocal("46")), "richer")
	a.add(t)
	for _, command := range []string{
		`ip addr add 10.78.0.1/24 dev br77`,
		`ip link set VETH txqueuelen 77 mtu 1400`,
		`IN ip link set eth0 txqueuelen 77`,
		`IN ip addr add 10.99.0.1/24 dev eth0`,
		`IN ip route add 10.98.0.0/24 via 10.77.0.1`,
		`IN ip link add more type veth peer name more2`,
		`nft add table inet theirs`,
	} {
		host.Run(t, "sh", "-ec", strings.NewReplacer("IN ", "nsenter --net="+a.netns+" ", "VETH", a.hostEnd(t)).Replace(command))
		if failure := a.tryCheck(t); failure != nil {
			t.Errorf("after %s CHECK fails: %v", command, failure)
		}
	}
	host.Run(t, "nft", "delete", "table", "inet", "theirs")
}

// TestCheckWithoutNamespace names the namespace that is gone.
func TestCheckWithoutNamespace(t *testing.T) {
	a := attach(t, config("ptp", "net", `"ipam":`+hostLocal("4")), "gone")
	a.add(t)
	host.RemoveNetNS(t, a.netns)
	if failure := a.tryCheck(t); failure == nil || !strings.Contains(failure.Msg, a.netns) {
		t.Errorf("CHECK without the namespace: %v", failure)
	}
}

// addressFiles are the address records of a network.
func addressFiles(t *testing.T, network string) []string {
	t.Helper()
	found, err := filepath.Glob("/var/lib/cni/networks/" + network + "/[0-9a-f]*[.:]*")
	if err != nil {
		t.Fatal(err)
	}
	for i := range found {
		found[i] = filepath.Base(found[i])
	}
	return found
}
