package devices_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// static is a configuration with an address of each family.
func static(plugin, keys string, number int) string {
	return fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net","type":%q,%s"ipam":{"type":"static",
		"addresses":[{"address":"10.88.0.%d/24","gateway":"10.88.0.1"},{"address":"fd00:88::%d/64","gateway":"fd00:88::1"}]}}`, plugin, keys, number, number)
}

// TestMaster looks for whose link the device is on.
func TestMaster(t *testing.T) {
	keys.Covers(t, "macvlan", "master")
	keys.Covers(t, "ipvlan", "master")
	keys.Covers(t, "vlan", "master")
	ip := func(t *testing.T, args string) { host.Run(t, "ip", strings.Fields(args)...) }
	for _, plugin := range []string{"macvlan", "ipvlan", "vlan"} {
		for _, tt := range []struct {
			name, keys string
			made       []string // on the host, by ip
			want       string   // the master, or a part of the error
		}{
			{"named", `"master":"up0",`, []string{"route add default dev other0"}, "up0"},
			{"named, by the other name", `"master":"other0",`, nil, "other0"},
			{"another name", `"master":"also0",`, []string{"link property add dev up0 altname also0"}, "up0"},
			{"another name, of 24 bytes", `"master":"the-uplink-of-this-host",`, []string{"link property add dev up0 altname the-uplink-of-this-host"}, "up0"},
			{"default route", ``, []string{"route add default dev up0"}, "up0"},
			{"IPv6 default route", ``, []string{"-6 route add default dev other0"}, "other0"},
			{"IPv4 goes first", ``, []string{"route add default dev up0", "-6 route add default dev other0"}, "up0"},
			{"the lowest metric", ``, []string{"route add default dev up0 metric 9", "route add default dev other0 metric 8"}, "other0"},
			{"behind two halves", ``, []string{"route add default dev up0", "route add 0.0.0.0/1 dev other0", "route add 128.0.0.0/1 dev other0"}, "up0"},
			{"several hops", ``, []string{"route add default nexthop dev up0 nexthop dev other0"}, "up0"},
			{"unreachable", ``, []string{"route add unreachable default", "-6 route add default dev other0"}, "other0"},
			{"none", ``, nil, "there is no default route on the host"},
			{"missing", `"master":"gone0",`, nil, "master gone0: there is no such interface on the host"},
			{"missing inside", `"linkInContainer":true,"master":"up0",`, nil, "master up0: there is no such interface in the sandbox"},
			{"none inside", `"linkInContainer":true,`, []string{"route add default dev up0"}, "there is no default route in the sandbox"},
		} {
			if plugin == "vlan" && !strings.Contains(tt.keys, "master") {
				continue
			}
			t.Run(plugin+" "+tt.name, func(t *testing.T) {
				host.Need(t, plugin)
				lan(t)
				ip(t, "link add other0 type veth peer name other1")
				defer ip(t, "link del other0")
				ip(t, "link set other0 addrgenmode none up")
				ip(t, "link set other1 addrgenmode none up")
				settle(t, "other0", "other1")
				for _, args := range tt.made {
					ip(t, args)
				}
				defer host.Try("ip", "route", "del", "unreachable", "default") //nolint:errcheck // the others go with their links
				before := host.Snapshot(t)
				a := attach.New(t, static(plugin, tt.keys+`"vlanId":9,`, 2), "guest")
				_, failure := a.TryAdd(t)
				links := host.Links(t, "")
				if _, ok := links[tt.want]; !ok {
					if failure == nil || failure.Code != cni.CodeInvalidConfig || !strings.Contains(failure.Msg, tt.want) {
						t.Errorf("ADD: %v, want %q", failure, tt.want)
					}
					if status := a.TryStatus(t); (status == nil || status.Code != cni.CodeUnavailable) != strings.Contains(tt.name, "inside") {
						t.Errorf("STATUS: %v", status)
					}
					host.Unchanged(t, before)
					return
				}
				if failure != nil {
					t.Fatalf("ADD: %v", failure)
				}
				if status := a.TryStatus(t); status != nil {
					t.Errorf("STATUS: %v", status)
				}
				if got := host.Links(t, a.NetNS)["eth0"]; got.ParentIndex != links[tt.want].Index {
					t.Errorf("the device is on link %d, not on %s (%d)", got.ParentIndex, tt.want, links[tt.want].Index)
				}
				a.Check(t)
				if tt.keys == "" { // it may move
					host.Run(t, "ip", "route", "replace", "default", "dev", "other1", "metric", "1")
					a.Check(t)
				}
				a.Del(t)
			})
		}
	}
}

// TestMasterGone removes the master, and the device with it.
func TestMasterGone(t *testing.T) {
	for _, plugin := range []string{"macvlan", "ipvlan", "vlan"} {
		t.Run(plugin, func(t *testing.T) {
			host.Need(t, plugin)
			host.Run(t, "ip", "link", "add", "gone0", "up", "type", "veth", "peer", "name", "gone1")
			a := attach.New(t, static(plugin, `"master":"gone0","vlanId":9,`, 2), "guest")
			a.Add(t)
			host.Run(t, "ip", "link", "del", "gone0")
			if got := a.Drifts(t, state.CodeDrift); !strings.Contains(got, "device eth0 "+plugin+" is missing") {
				t.Errorf("CHECK says %q", got)
			}
			a.Del(t)
			released(t)
		})
	}
}

// TestNoCarrier adds a container where the master's cable is not plugged in.
func TestNoCarrier(t *testing.T) {
	for _, plugin := range []string{"macvlan", "ipvlan", "vlan"} {
		t.Run(plugin, func(t *testing.T) {
			host.Need(t, plugin)
			host.Run(t, "ip", "link", "add", "dark0", "up", "type", "veth", "peer", "name", "dark1")
			defer host.Run(t, "ip", "link", "del", "dark0")
			a := attach.New(t, static(plugin, `"master":"dark0","vlanId":9,`, 2), "guest")
			a.Add(t)
			a.Check(t)
			a.Del(t)
		})
	}
}

// TestStacked takes a device of the same kind as master: the kernel puts the
// new one beside it.
func TestStacked(t *testing.T) {
	for _, plugin := range []string{"macvlan", "ipvlan", "vlan"} {
		for _, in := range []string{"", `"linkInContainer":true,`} {
			t.Run(plugin+in, func(t *testing.T) {
				host.Need(t, plugin)
				lan(t)
				a := attach.New(t, static(plugin, in+`"master":"first0","vlanId":9,`, 2), "guest")
				first := []string{"link", "add", "link", "up0", "name", "first0", "type", plugin}
				if plugin == "vlan" {
					first = append(first, "id", "5")
				}
				host.Run(t, "ip", first...)
				if in != "" {
					host.Run(t, "ip", "link", "set", "first0", "netns", strings.TrimPrefix(a.NetNS, "/run/netns/"))
					host.RunIn(t, a.NetNS, "ip", "link", "set", "first0", "up")
				} else {
					host.Run(t, "ip", "link", "set", "first0", "up")
				}
				a.Add(t)
				a.Check(t)
				a.Del(t)
			})
		}
	}
}

// TestChained makes an ipvlan of what a plugin before it has given.
func TestChained(t *testing.T) {
	keys.Covers(t, "ipvlan", "prevResult")
	const config = `{"cniVersion":"1.1.0","name":"net","type":"ipvlan","prevResult":%s}`
	for _, tt := range []struct{ prev, want string }{
		{`{"cniVersion":"1.1.0"}`, "no plugin before this one has given an address"},
		{`{"cniVersion":"1.1.0","ips":[{"address":"10.88.0.2/24"}]}`, "prevResult has 0 interfaces"},
		{`{"cniVersion":"1.1.0","interfaces":[{"name":"up0"},{"name":"lo"}],"ips":[{"address":"10.88.0.2/24"}]}`, "prevResult has 2 interfaces"},
	} {
		a := attach.New(t, fmt.Sprintf(config, tt.prev), "refused")
		if _, failure := a.TryAdd(t); failure == nil || failure.Code != cni.CodeInvalidConfig || !strings.Contains(failure.Msg, tt.want) {
			t.Errorf("ADD after %s: %v", tt.prev, failure)
		}
	}
	host.Need(t, "ipvlan")
	lan(t)
	before := host.Snapshot(t)
	a := attach.New(t, fmt.Sprintf(config, `{"cniVersion":"1.1.0","interfaces":[{"name":"up0"}],
		"ips":[{"address":"10.88.0.2/24","gateway":"10.88.0.1","interface":0},{"address":"fd00:88::2/64"}],"routes":[{"dst":"10.99.0.0/16"}],"dns":{"domain":"a.test"}}`), "chained")
	result := a.Add(t)
	if len(result.Interfaces) != 1 || result.Interfaces[0].Name != "eth0" || len(result.IPs) != 2 || *result.IPs[1].Interface != 0 ||
		len(result.Routes) != 1 || result.DNS.Domain != "a.test" {
		t.Errorf("result %+v", result)
	}
	host.Ping(t, a.NetNS, "10.88.0.1")
	host.Ping(t, a.NetNS, "fd00:88::1")
	a.Check(t)
	host.RunIn(t, a.NetNS, "ip", "addr", "del", "fd00:88::2/64", "dev", "eth0")
	a.Drifts(t, state.CodeDrift)
	a.Del(t)
	absent(t, a)
	host.Unchanged(t, before, host.SharedFiles)
}
