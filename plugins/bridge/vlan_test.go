package bridge_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// vlans lists what a port is a member of, such as "100 PVID Egress Untagged".
func vlans(t testing.TB, port string) []string {
	t.Helper()
	var list []struct {
		Name  string `json:"ifname"`
		VLANs []struct {
			First int      `json:"vlan"`
			Last  int      `json:"vlanEnd"`
			Flags []string `json:"flags"`
		} `json:"vlans"`
	}
	host.JSON(t, &list, "bridge", "-j", "vlan", "show", "dev", port)
	var found []string
	for _, l := range list {
		for _, v := range l.VLANs {
			for vid := v.First; vid <= max(v.First, v.Last); vid++ {
				found = append(found, strings.TrimSpace(fmt.Sprintf("%d %s", vid, strings.Join(v.Flags, " "))))
			}
		}
	}
	return found
}

const native = " PVID Egress Untagged"

// TestVLANMembership compares what a port is a member of with what it is by the
// reference.
func TestVLANMembership(t *testing.T) {
	keys.Covers(t, "bridge", "vlan", "vlanTrunk.id", "vlanTrunk.minID", "vlanTrunk.maxID", "preserveDefaultVlan")
	host.Need(t, "bridge-vlan")
	for _, tt := range []struct {
		more  string
		want  []string
		alone bool // is not compared
	}{
		{``, []string{"1" + native}, true},
		{`"vlan":100,`, []string{"100" + native}, false},
		{`"vlan":1,`, []string{"1" + native}, true},
		{`"vlan":100,"preserveDefaultVlan":true,`, []string{"1 Egress Untagged", "100" + native}, false},
		{`"preserveDefaultVlan":true,`, []string{"1" + native}, true},
		{`"vlanTrunk":[{"id":101},{"minID":200,"maxID":202}],`, []string{"1" + native, "101", "200", "201", "202"}, false},
		{`"vlan":100,"vlanTrunk":[{"id":101},{"minID":4093,"maxID":4094}],`, []string{"100" + native, "101", "4093", "4094"}, false},
		{`"vlan":100,"vlanTrunk":[{"id":5,"minID":7,"maxID":8}],`, []string{"5", "7", "8", "100" + native}, true},
		{`"vlanTrunk":[{}],`, []string{"1" + native}, true},
		// The reference takes from the native VLAN that it is native.
		{`"vlan":100,"vlanTrunk":[{"minID":99,"maxID":101}],`, []string{"99", "100" + native, "101"}, true},
	} {
		t.Run(tt.more, func(t *testing.T) {
			bins := []string{host.Bin(t), host.Reference(t)}
			if tt.alone {
				bins = bins[:1]
			}
			for _, bin := range bins {
				removeBridge(t, bridgeName)
				a := attach.New(t, config("net", bridgeName, tt.more, `"type":"static","addresses":[{"address":"10.99.0.2/24"}]`), "member")
				a.Bin = bin
				a.Add(t)
				if got := vlans(t, a.HostEnd(t)); !slices.Equal(got, tt.want) {
					t.Errorf("by %s: %q, want %q", bin, got, tt.want)
				}
				filters := host.Links(t, "")[bridgeName].Data["vlan_filtering"]
				if want := float64(0); strings.Contains(tt.more, `lan":`) || strings.Contains(tt.more, "Trunk") {
					if want = 1; tt.more == `"preserveDefaultVlan":true,` {
						want = 0
					}
					if filters != want {
						t.Errorf("by %s: filtering is %v, want %v", bin, filters, want)
					}
				}
				a.Bin = host.Bin(t)
				a.Check(t)
				a.Del(t)
				host.Run(t, "ip", "link", "del", bridgeName)
			}
		})
	}
}

// TestVLANTraffic has containers of one subnet in different VLANs.
func TestVLANTraffic(t *testing.T) {
	host.Need(t, "bridge-vlan", "vlan")
	removeBridge(t, bridgeName)
	in := func(number int, more string) *attach.Attachment {
		ipam := fmt.Sprintf(`"type":"static","addresses":[{"address":"10.99.0.%d/24"},{"address":"fd00:99::%d/64"}]`, number, number)
		return add(t, config("net", bridgeName, more, ipam), fmt.Sprintf("c%d", number))
	}
	first, second := in(2, `"vlan":100,`), in(3, `"vlan":100,`)
	other, none := in(4, `"vlan":200,`), in(5, ``)
	both := in(6, `"vlan":100,"vlanTrunk":[{"minID":200,"maxID":201}],`)
	for _, addr := range []string{"10.99.0.3", "fd00:99::3", "10.99.0.6"} {
		host.Ping(t, first.NetNS, addr)
	}
	host.Ping(t, second.NetNS, "10.99.0.2")
	for _, addr := range []string{"10.99.0.4", "10.99.0.5", "fd00:99::4"} {
		if host.TryPing(first.NetNS, addr) == nil {
			t.Errorf("%s answers in another VLAN", addr)
		}
	}
	if host.TryPing(none.NetNS, "10.99.0.2") == nil {
		t.Error("a container without a VLAN reaches one")
	}
	// By tags, the trunk's VLANs and no others.
	for vid, addr := range map[int]string{200: "10.98.0.6/24", 300: "10.97.0.6/24"} {
		name := fmt.Sprintf("eth0.%d", vid)
		host.RunIn(t, both.NetNS, "ip", "link", "add", "link", "eth0", "name", name, "up", "type", "vlan", "id", fmt.Sprint(vid))
		host.RunIn(t, both.NetNS, "ip", "addr", "add", addr, "dev", name)
	}
	host.RunIn(t, other.NetNS, "ip", "addr", "add", "10.98.0.4/24", "dev", "eth0")
	third := in(7, `"vlan":300,`)
	host.RunIn(t, third.NetNS, "ip", "addr", "add", "10.97.0.7/24", "dev", "eth0")
	host.Ping(t, both.NetNS, "10.98.0.4")
	if host.TryPing(both.NetNS, "10.97.0.7") == nil {
		t.Error("a tag of a VLAN that is not in the trunk passes")
	}
	for _, a := range []*attach.Attachment{first, second, other, none, both, third} {
		a.Check(t)
		a.Del(t)
	}
}

// TestVLANGateway routes out of a VLAN, together with the reference.
func TestVLANGateway(t *testing.T) {
	host.Need(t, "bridge-vlan")
	for _, order := range [][]string{{host.Bin(t), host.Reference(t)}, {host.Reference(t), host.Bin(t)}} {
		port := bridgeName + ".100"
		removeBridge(t, port, bridgeName)
		c := config("net", bridgeName, `"vlan":100,"isDefaultGateway":true,`, hostLocalOnce(t, 99))
		var all []*attach.Attachment
		for i, bin := range order {
			a := attach.New(t, c, fmt.Sprintf("c%d", i))
			a.Bin = bin
			result := a.Add(t)
			var names []string
			for _, iface := range result.Interfaces {
				names = append(names, iface.Name)
			}
			if !slices.Equal(names, []string{bridgeName, a.HostEnd(t), "eth0", port}) {
				t.Errorf("%s: interfaces %q", bin, names)
			}
			if in := result.IPs[0].Interface; in == nil || *in != 2 {
				t.Errorf("%s: the address is of interface %v", bin, in)
			}
			a.Bin = host.Bin(t)
			all = append(all, a)
		}
		for _, a := range all {
			a.Check(t)
			host.Settle(t, a.NetNS) // the reference's gateway is probed for
			host.Ping(t, a.NetNS, "10.99.0.1")
			host.Ping(t, a.NetNS, "fd00:99::1")
		}
		for _, addr := range host.Addrs(t, "") {
			if addr.Dev == bridgeName && addr.Scope == "global" {
				t.Errorf("the bridge itself has %s", addr.Prefix)
			}
		}
		peer := host.Links(t, "")[port].Parent
		if got := vlans(t, peer); !slices.Equal(got, []string{"100" + native}) {
			t.Errorf("the gateway's port is in %q", got)
		}
		ours := all[slices.Index(order, host.Bin(t))]
		for _, damage := range []struct{ script, text, mend string }{
			{"bridge vlan del vid 100 dev " + ours.HostEnd(t), "member of VLAN 100", "bridge vlan add vid 100 pvid untagged dev " + ours.HostEnd(t)},
			{"bridge vlan add vid 1 dev " + ours.HostEnd(t), "member of VLAN 1", "bridge vlan del vid 1 dev " + ours.HostEnd(t)},
			{"bridge vlan add vid 100 untagged dev " + ours.HostEnd(t), "VLAN 100 native", "bridge vlan add vid 100 pvid untagged dev " + ours.HostEnd(t)},
			{"bridge vlan del vid 100 dev " + peer, peer + ": member of VLAN 100", "bridge vlan add vid 100 pvid untagged dev " + peer},
			{"ip link set " + port + " down", port + ": up", "ip link set " + port + " up; ip addr replace fd00:99::1/64 dev " + port + " nodad"},
			{"ip link set " + bridgeName + " type bridge vlan_filtering 0", "VLAN filtering", "ip link set " + bridgeName + " type bridge vlan_filtering 1"},
			{"ip link del " + port, port, "true"},
		} {
			ours.Check(t)
			host.Run(t, "sh", "-c", damage.script)
			if text := ours.Drifts(t, state.CodeDrift); !strings.Contains(text, damage.text) {
				t.Errorf("%s: CHECK says %q, want %q", damage.script, text, damage.text)
			}
			host.Run(t, "sh", "-c", damage.mend)
		}
		// The next ADD mends what is shared.
		next := add(t, c, "next")
		next.Check(t)
		host.RunIn(t, all[0].NetNS, "ip", "neigh", "flush", "all") // the interface has another hardware address
		host.Ping(t, all[0].NetNS, "10.99.0.1")
		next.Del(t)
		// Ours is deleted by the reference, and the reverse.
		for i, bin := range []string{order[1], order[0]} {
			all[i].Bin = bin
			all[i].Del(t)
			all[i].Bin = host.Bin(t)
			if _, found := host.Links(t, "")[all[i].HostEnd(t)]; found {
				t.Errorf("%s leaves the link", bin)
			}
		}
		host.Run(t, "ip", "link", "del", port)
		host.Run(t, "ip", "link", "del", bridgeName)
	}
}

// hostLocalOnce is hostLocal without routes, of which the reference would make
// one twice.
func hostLocalOnce(t testing.TB, number int) string {
	t.Helper()
	before, _, _ := strings.Cut(hostLocal(t, number), `,
		"routes"`)
	return before
}

// TestVLANNameTaken finds an interface of the gateway's name.
func TestVLANNameTaken(t *testing.T) {
	host.Need(t, "bridge-vlan")
	removeBridge(t, bridgeName, bridgeName+".100")
	host.Run(t, "ip", "link", "add", bridgeName+".100", "type", "bridge")
	a := attach.New(t, config("net", bridgeName, `"vlan":100,"isGateway":true,`, hostLocal(t, 99)), "late")
	if _, failure := a.TryAdd(t); failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Error(), bridgeName+".100 already exists") {
		t.Errorf("ADD: %v", failure)
	}
	if ports := host.Run(t, "ip", "-br", "link", "show", "master", bridgeName); ports != "" {
		t.Errorf("ADD leaves %s", ports)
	}
}

// TestVLANBridgeAnew has the bridge deleted by hand: the gateway's interface is left, which the next container's ADD connects to
// the bridge that it makes.
func TestVLANBridgeAnew(t *testing.T) {
	host.Need(t, "bridge-vlan")
	port := bridgeName + ".100"
	removeBridge(t, bridgeName, port)
	network := config("net", bridgeName, `"vlan":100,"isGateway":true,`, hostLocal(t, 99))
	attach.New(t, network, "before").Add(t)
	host.Run(t, "ip", "link", "del", bridgeName)
	a := attach.New(t, network, "after")
	result := a.Add(t)
	a.Check(t)
	host.Ping(t, a.NetNS, result.IPs[0].Gateway.String())
}

// TestBadVLAN is refused before anything is made.
func TestBadVLAN(t *testing.T) {
	before := host.Snapshot(t)
	for _, tt := range []struct{ more, text string }{
		{`"vlan":4095,`, "vlan 4095 is out of range"},
		{`"vlan":-1,`, "vlan -1 is out of range"},
		{`"vlanTrunk":[{"id":0}],`, "vlanTrunk: 0 is no VLAN"},
		{`"vlanTrunk":[{"id":4095}],`, "vlanTrunk: 4095 is no VLAN"},
		{`"vlanTrunk":[{"id":7},{"minID":10}],`, "vlanTrunk[1] has minID or maxID"},
		{`"vlanTrunk":[{"maxID":10}],`, "vlanTrunk[0] has minID or maxID"},
		{`"vlanTrunk":[{"minID":10,"maxID":9}],`, "vlanTrunk: 10-9 is no"},
	} {
		a := attach.New(t, config("net", bridgeName, tt.more, hostLocal(t, 99)), "bad")
		if _, failure := a.TryAdd(t); failure == nil || failure.Code != cni.CodeInvalidConfig || !strings.Contains(failure.Error(), tt.text) {
			t.Errorf("%s: %v, want code %d and %q", tt.more, failure, cni.CodeInvalidConfig, tt.text)
		}
	}
	host.Unchanged(t, before)
	a := attach.New(t, config("net", "a-bridge-of-14b", `"vlan":4000,"isGateway":true,`, hostLocal(t, 99)), "bad")
	if _, failure := a.TryAdd(t); failure == nil || failure.Code != cni.CodeInvalidConfig || !strings.Contains(failure.Error(), "15 bytes") {
		t.Errorf("a name that is too long: %v", failure)
	}
}

// TestVLANUnknownToKernel is refused rather than ignored, by STATUS as well, and leaves no bridge.
func TestVLANUnknownToKernel(t *testing.T) {
	if _, err := host.Try("unshare", "--net", "ip", "link", "add", "p0", "type", "bridge", "vlan_filtering", "1"); err == nil {
		return // this one knows
	}
	removeBridge(t, bridgeName)
	before := host.Snapshot(t)
	for _, keys := range []string{`"vlan":100,`, `"vlanTrunk":[{"id":100}],`} {
		a := attach.New(t, config("net", bridgeName, keys, hostLocal(t, 99)), "early")
		_, refused := a.TryAdd(t)
		for verb, failure := range map[string]*cni.Error{"STATUS": a.TryStatus(t), "ADD": refused} {
			if failure == nil || failure.Code != cni.CodeUnavailable || !strings.Contains(failure.Details, "CONFIG_BRIDGE_VLAN_FILTERING") {
				t.Errorf("%s %s: %v", verb, keys, failure)
			}
		}
	}
	host.Unchanged(t, before, `^dir /run/plumb`)
	// A bridge that is there, for containers without a VLAN, can't be made to tell them apart.
	attach.New(t, config("net", bridgeName, "", hostLocal(t, 99)), "plain").Add(t)
	a := attach.New(t, config("net", bridgeName, `"vlan":100,`, hostLocal(t, 99)), "late")
	if _, failure := a.TryAdd(t); failure == nil || failure.Code != cni.CodeUnavailable {
		t.Errorf("ADD to a bridge that is there: %v", failure)
	}
}
