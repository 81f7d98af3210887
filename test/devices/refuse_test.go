package devices_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/editor"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// TestRefuse sends what can't be done: it is said why, and nothing is left.
func TestRefuse(t *testing.T) {
	keys.Covers(t, "tap", "selinuxContext")
	const up0 = `"master":"up0",`
	for _, tt := range []struct {
		plugin, keys, args string
		need               string // feature, where it is the kernel that says so
		before             string // commands on the host
		code               cni.Code
		want               string
		beyond             bool // a schema can't state it
	}{
		{plugin: "macvlan", keys: up0 + `"mode":"source",`, code: 7, want: `mode "source" is none of private, vepa, bridge, passthru`},
		{plugin: "macvlan", keys: up0 + `"mtu":1501,`, code: 7, want: "mtu 1501 is more than the 1500 of master up0", beyond: true},
		{plugin: "macvlan", keys: up0 + `"mtu":-1,`, code: 7, want: "mtu -1 is out of range"},
		{plugin: "macvlan", keys: up0 + `"mtu":67,`, code: 7, want: "mtu 67 is out of range"},
		{plugin: "macvlan", keys: up0 + `"mac":"02:66",`, code: 7, want: `mac: "02:66" is not a hardware address`},
		{plugin: "macvlan", keys: up0 + `"mac":"01:66:00:00:00:01",`, code: 7, want: "group's address"},
		{plugin: "macvlan", keys: up0, args: "MAC=nonsense", code: 4, want: `MAC of CNI_ARGS: "nonsense"`},
		{plugin: "macvlan", keys: up0, args: "COLOUR=red", code: 4, want: `"COLOUR=red"`},
		{plugin: "macvlan", keys: up0 + `"defaultRoute":"maybe",`, code: 7, want: "defaultRoute"},
		{plugin: "macvlan", keys: up0 + `"mtu":"big",`, code: 6, want: "mtu"},
		{plugin: "macvlan", keys: up0, before: "link add br0 type bridge; link set up0 master br0", code: state.CodeConflict, want: "up0 is in use by something that wants all its packets"},
		{plugin: "macvlan", keys: up0 + `"mode":"passthru",`, before: "link add link up0 name mv0 type macvlan", code: state.CodeConflict, want: "mode passthru needs up0 for itself"},
		{plugin: "macvlan", keys: up0, before: "link add link up0 name mv0 type macvlan mode passthru", code: state.CodeConflict, want: "one of mode passthru"},
		{plugin: "ipvlan", keys: up0 + `"mode":"l4",`, code: 7, want: `mode "l4" is none of l2, l3, l3s`},
		{plugin: "ipvlan", keys: up0, need: "ipvlan", before: "link add link up0 name mv0 type macvlan", code: state.CodeConflict, want: "up0 is in use by"},
		{plugin: "vlan", keys: `"vlanId":7,`, code: 7, want: "master is missing"},
		{plugin: "vlan", keys: up0, code: 7, want: "vlanId is missing"},
		{plugin: "vlan", keys: up0 + `"vlanId":4095,`, code: 7, want: "vlanId 4095 is out of range; there are 0 to 4094"},
		{plugin: "vlan", keys: up0 + `"vlanId":-1,`, code: 7, want: "vlanId -1 is out of range"},
		{plugin: "vlan", keys: up0 + `"vlanId":7,"mtu":1501,`, code: 7, want: "mtu 1501 is more than the 1500 of master up0", beyond: true},
		{plugin: "vlan", keys: up0 + `"vlanId":7,`, before: "link set up0 down", code: 11, want: "master up0 is down"},
		{plugin: "vlan", keys: up0 + `"vlanId":7,`, need: "vlan", before: "link add link up0 name v7 type vlan id 7", code: state.CodeConflict, want: "VLAN 7 of up0 is taken already (by v7 in the host: vlan)"},
		{plugin: "vlan", keys: up0 + `"vlanId":7,`, need: "vlan", before: "link add link up0 name v7 type vlan id 7; link set v7 netns NS", code: state.CodeConflict, want: "by a device in another namespace"},
		{plugin: "tap", keys: `"mtu":65522,`, code: 7, want: "mtu 65522 is out of range"},
		{plugin: "tap", keys: `"bridge":"br0",`, code: 7, want: "bridge br0: there is no such interface in the sandbox", beyond: true},
		{plugin: "tap", keys: `"bridge":"lo",`, code: 7, want: "bridge lo is not a bridge", beyond: true},
		{plugin: "tap", keys: `"owner":-1,`, code: 6, want: "owner"},
		{plugin: "tap", keys: `"selinuxContext":"system_u:system_r:container_t:s0",`, code: 7, want: "the kernel has no SELinux", beyond: true},
	} {
		t.Run(tt.plugin+" "+tt.want, func(t *testing.T) {
			if tt.need != "" {
				host.Need(t, tt.need)
			}
			other := lan(t)
			for command := range strings.SplitSeq(tt.before, "; ") {
				if command != "" {
					host.Run(t, "ip", strings.Fields(strings.ReplaceAll(command, "NS", strings.TrimPrefix(other, "/run/netns/")))...)
				}
			}
			t.Cleanup(func() {
				host.Try("ip", "link", "del", "br0") //nolint:errcheck // the others go with their master
			})
			before := host.Snapshot(t)
			a := attach.New(t, static(tt.plugin, tt.keys, 2), "refused")
			a.Args = tt.args
			if mistake := editor.Mistake(t, a.Config); tt.code == cni.CodeInvalidConfig || tt.code == cni.CodeDecode {
				if (mistake == nil) != tt.beyond {
					t.Errorf("an editor says %v", mistake)
				}
			}
			_, failure := a.TryAdd(t)
			if failure == nil || failure.Code != tt.code || !strings.Contains(failure.Msg, tt.want) {
				t.Errorf("ADD: %v, want code %d, %q", failure, tt.code, tt.want)
			}
			absent(t, a)
			host.Unchanged(t, before, host.SharedFiles)
		})
	}
}

// TestNeedsIPAM leaves out ipam, which these plugins can't do without.
func TestNeedsIPAM(t *testing.T) {
	for _, plugin := range []string{"vlan", "dummy", "ipvlan"} {
		a := attach.New(t, fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net","type":%q,"master":"lo","vlanId":7}`, plugin), "refused")
		if _, failure := a.TryAdd(t); failure == nil || failure.Code != cni.CodeInvalidConfig || !strings.Contains(failure.Msg, "ipam.type is missing") {
			t.Errorf("%s: ADD: %v", plugin, failure)
		}
	}
}

// TestNoSuchDevice asks for what the kernel doesn't have.
func TestNoSuchDevice(t *testing.T) {
	for _, plugin := range []string{"macvlan", "ipvlan", "vlan", "dummy"} {
		if host.Has(t, plugin) {
			continue
		}
		t.Run(plugin, func(t *testing.T) {
			lan(t)
			a := attach.New(t, static(plugin, `"master":"up0","vlanId":7,`, 2), "refused")
			if _, failure := a.TryAdd(t); failure == nil || failure.Code != cni.CodeUnavailable || !strings.Contains(failure.Msg, "the kernel has no "+plugin+" devices") {
				t.Errorf("ADD: %v", failure)
			}
			absent(t, a)
		})
	}
}
