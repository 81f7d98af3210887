// Package devices_test is about the plugins whose interface is a single device
// in the container: what they have in common.
package devices_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

// A device is one of the plugins in one of its ways.
type device struct {
	plugin string
	kind   string // as ip calls it
	need   string // feature
	keys   string // of the configuration, each with a comma behind
	wired  bool   // is on the LAN
}

func devices() []device {
	return []device{
		{"macvlan", "macvlan", "macvlan", `"master":"up0",`, true},
		{"macvlan", "macvlan", "macvlan", `"master":"up0","mode":"passthru",`, true},
		{"ipvlan", "ipvlan", "ipvlan", `"master":"up0",`, true},
		{"ipvlan", "ipvlan", "ipvlan", `"master":"up0","mode":"l3s",`, true},
		{"vlan", "vlan", "vlan", `"master":"up0","vlanId":7,`, true},
		{"dummy", "dummy", "dummy", ``, false},
		{"tap", "tun", "tap", ``, false},
	}
}

// each runs a test with every device that the kernel has, on a LAN of its own.
func each(t *testing.T, f func(t *testing.T, d device)) {
	for _, d := range devices() {
		t.Run(d.plugin+" "+strings.TrimSuffix(d.keys, ","), func(t *testing.T) {
			host.Need(t, d.need)
			lan(t)
			f(t, d)
		})
	}
}

// lan connects the host's up0 to a network with one neighbour, whose namespace
// it returns.
func lan(t *testing.T) string {
	t.Helper()
	if err := os.RemoveAll("/var/lib/cni/networks"); err != nil { // so that addresses start at the first
		t.Fatal(err)
	}
	ns := host.NetNS(t)
	for _, args := range []string{
		"link add up0 type veth peer name eth0 netns NS",
		"link set up0 addrgenmode none up", // so that nothing comes late
		"-n NS link set eth0 up",
		"-n NS addr add 10.88.0.1/24 dev eth0",
		"-n NS addr add fd00:88::1/64 dev eth0 nodad",
	} {
		host.Run(t, "ip", strings.Fields(strings.ReplaceAll(args, "NS", ns[len("/run/netns/"):]))...)
	}
	t.Cleanup(func() { host.Run(t, "ip", "link", "del", "up0") })
	settle(t, "up0")
	return ns
}

// settle waits until the kernel has noticed the carriers of links of the host,
// which is when it gives them routes.
func settle(t *testing.T, names ...string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		links := host.Links(t, "")
		if !slices.ContainsFunc(names, func(name string) bool { return links[name].State != "UP" }) {
			return
		}
	}
	t.Fatalf("%v have no carrier", names)
}

// config is a network with an address of each family, and a route.
func (d device) config(version, network string) string {
	return fmt.Sprintf(`{"cniVersion":%q,"name":%q,"type":%q,%s"ipam":{"type":"host-local",
		"ranges":[[{"subnet":"10.88.0.0/24","rangeStart":"10.88.0.2","gateway":"10.88.0.1"}],
		          [{"subnet":"fd00:88::/64","rangeStart":"fd00:88::2","gateway":"fd00:88::1"}]],
		"routes":[{"dst":"10.99.0.0/16"},{"dst":"fd00:99::/32"}]}}`, version, network, d.plugin, d.keys)
}

func (d device) attach(t *testing.T, id string) *attach.Attachment {
	t.Helper()
	return attach.New(t, d.config("1.1.0", "net"), id)
}

// absent needs the container to have no device, and no address to be taken.
func absent(t *testing.T, a *attach.Attachment) {
	t.Helper()
	if _, err := os.Stat(a.NetNS); err == nil {
		if links := host.Links(t, a.NetNS); len(links) != 1 {
			t.Errorf("the container still has %v", links)
		}
	}
	released(t)
}

// released needs no address to be taken.
func released(t *testing.T) {
	t.Helper()
	entries, _ := os.ReadDir("/var/lib/cni/networks/net")
	for _, e := range entries {
		if strings.ContainsAny(e.Name()[:1], "1f") {
			t.Errorf("address %s is still taken", e.Name())
		}
	}
	records, _ := os.ReadDir(state.RecordDir)
	for _, e := range records {
		t.Errorf("record %s is left", e.Name())
	}
}

// TestLife looks at what ADD makes and DEL leaves.
func TestLife(t *testing.T) {
	each(t, func(t *testing.T, d device) {
		before := host.Snapshot(t)
		a := d.attach(t, "life")
		if failure := a.TryStatus(t); failure != nil {
			t.Errorf("STATUS: %v", failure)
		}
		result := a.Add(t)
		l := host.Links(t, a.NetNS)["eth0"]
		if l.Kind != d.kind || l.Alias != "plumb:net/life/eth0" || !l.Up() {
			t.Errorf("the device is %+v", l)
		}
		want := cni.Interface{Name: "eth0", MAC: l.MAC, MTU: uint(l.MTU), Sandbox: a.NetNS}
		if len(result.Interfaces) != 1 || result.Interfaces[0] != want {
			t.Errorf("interfaces %+v, want %+v alone", result.Interfaces, want)
		}
		addrs := fmt.Sprint(host.Addrs(t, a.NetNS))
		for i, addr := range []string{"10.88.0.2/24", "fd00:88::2/64"} {
			if got := result.IPs[i]; got.Address.String() != addr || got.Interface == nil || *got.Interface != 0 {
				t.Errorf("address %+v, want %s on interface 0", got, addr)
			}
			if !strings.Contains(addrs, addr) {
				t.Errorf("the container has %s, not %s", addrs, addr)
			}
		}
		for family, dst := range map[int]string{4: "10.99.0.0/16", 6: "fd00:99::/32"} {
			if !slices.ContainsFunc(host.Routes(t, a.NetNS, family), func(r host.Route) bool { return r.Dst == dst && r.Dev == "eth0" && r.Gateway != "" }) {
				t.Errorf("no route to %s", dst)
			}
		}
		a.Check(t)
		again := *a
		if _, failure := again.TryAdd(t); failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Msg, "plumb:net/life/eth0") {
			t.Errorf("the second ADD: %v", failure)
		}
		a.Check(t)
		a.Del(t)
		absent(t, a)
		a.Del(t)
		host.Unchanged(t, before, host.SharedFiles)
	})
}

// TestVersions adds by configurations of every form of result.
func TestVersions(t *testing.T) {
	each(t, func(t *testing.T, d device) {
		for _, version := range []string{"0.1.0", "0.3.1", "0.4.0", "1.0.0"} {
			a := attach.New(t, d.config(version, "net"), "of-"+version)
			a.Add(t)
			if version >= "0.4.0" {
				a.Check(t)
			}
			a.Del(t)
			absent(t, a)
		}
	})
}

// TestDamage breaks an attachment in every way, and CHECK says how.
func TestDamage(t *testing.T) {
	each(t, func(t *testing.T, d device) {
		for _, tt := range []struct {
			damage string // commands of ip in the container
			want   string
			only   []string // plugins, all if empty
		}{
			{"link del eth0", "device eth0 " + d.kind + " is missing", nil},
			{"link set eth0 down", "up is false, want true", nil},
			{"link del eth0; link add eth0 type bridge", "kind is bridge, want " + d.kind, nil},
			{"addr del IPV4 dev eth0", "/24 is missing", nil},
			{"addr del IPV6 dev eth0", "/64 is missing", nil},
			{"route del 10.99.0.0/16", "route 10.99.0.0/16", nil},
			{"-6 route del fd00:99::/32", "route fd00:99::/32", nil},
			{"link set eth0 mtu 1300", "mtu is 1300, want 1500", nil},
			{"link set eth0 address 02:00:00:00:00:77", "mac is 02:00:00:00:00:77", []string{"macvlan", "vlan", "dummy", "tap"}},
			{"link set eth0 type macvlan mode private", "mode is private, want bridge", []string{"macvlan"}},
			{"link set eth0 type ipvlan mode l3", "mode is l3, want l", []string{"ipvlan"}},
			{"link add w type veth peer name x; link set w up; link del eth0; link add link w name eth0 type vlan id 8", "VLAN is 8, want 7", []string{"vlan"}},
			{"link add w type veth peer name x; link set w up; link del eth0; link add link w name eth0 type KIND", "parent is index", []string{"macvlan", "ipvlan"}},
			{"link del eth0; tuntap add mode tun name eth0", "type is tun, want tap", []string{"tap"}},
			{"link del eth0; tuntap add mode tap multi_queue name eth0", "multiple queues is true, want false", []string{"tap"}},
		} {
			passthru := strings.Contains(d.keys, "passthru")
			if tt.only != nil && !slices.Contains(tt.only, d.plugin) || passthru && strings.Contains(tt.damage, "mode private") {
				continue
			}
			t.Run(tt.damage, func(t *testing.T) {
				a := d.attach(t, "hurt")
				ip := a.Add(t).IPs
				replace := strings.NewReplacer("KIND", d.kind, "IPV4", ip[0].Address.String(), "IPV6", ip[1].Address.String())
				for command := range strings.SplitSeq(tt.damage, "; ") {
					host.RunIn(t, a.NetNS, "ip", strings.Fields(replace.Replace(command))...)
				}
				if got := a.Drifts(t, state.CodeDrift); !strings.Contains(got, tt.want) {
					t.Errorf("CHECK says %q, want %q", got, tt.want)
				}
				a.Del(t)
				released(t)
			})
		}
	})
}

// TestDel deletes in every situation that a runtime may find itself in.
func TestDel(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, d device, a *attach.Attachment)
	}{
		{"without prevResult", func(_ *testing.T, _ device, a *attach.Attachment) { a.Prev = nil }},
		{"the namespace is gone", func(t *testing.T, _ device, a *attach.Attachment) { host.RemoveNetNS(t, a.NetNS) }},
		{"no namespace is named", func(t *testing.T, _ device, a *attach.Attachment) {
			host.RemoveNetNS(t, a.NetNS)
			a.NetNS, a.Prev = "", nil
		}},
		{"the configuration is another", func(t *testing.T, d device, a *attach.Attachment) {
			a.Config = fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net","type":%q,"master":"gone","mode":"none","vlanId":-1,"mtu":-5}`, d.plugin)
		}},
		{"the record is gone", func(t *testing.T, _ device, _ *attach.Attachment) {
			if err := os.RemoveAll(state.RecordDir); err != nil {
				t.Fatal(err)
			}
		}},
		{"renamed inside", func(t *testing.T, _ device, a *attach.Attachment) {
			host.RunIn(t, a.NetNS, "ip", "link", "set", "eth0", "down")
			host.RunIn(t, a.NetNS, "ip", "link", "set", "eth0", "name", "other")
		}},
		{"the tag is gone", func(t *testing.T, _ device, a *attach.Attachment) {
			host.RunIn(t, a.NetNS, "ip", "link", "set", "eth0", "alias", "")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			each(t, func(t *testing.T, d device) {
				before := host.Snapshot(t)
				a := d.attach(t, "leaves")
				a.Add(t)
				tt.do(t, d, a)
				a.Del(t)
				a.Del(t)
				absent(t, a)
				host.Unchanged(t, before, host.SharedFiles)
			})
		})
	}
}

// TestForeign deletes an attachment whose device has gone, while another of the
// same name and kind has come that the container made for itself.
func TestForeign(t *testing.T) {
	each(t, func(t *testing.T, d device) {
		for _, alias := range []string{"", "mine"} {
			for _, prev := range []bool{true, false} {
				t.Run(fmt.Sprintf("alias %q prevResult %v", alias, prev), func(t *testing.T) {
					a := d.attach(t, "replaced")
					a.Add(t)
					host.RunIn(t, a.NetNS, "ip", "link", "del", "eth0")
					d.byHand(t, a.NetNS)
					host.RunIn(t, a.NetNS, "ip", "link", "set", "eth0", "alias", alias)
					want := host.Links(t, a.NetNS)["eth0"]
					if !prev {
						a.Prev = nil
					}
					a.Del(t)
					a.Del(t)
					if got := host.Links(t, a.NetNS)["eth0"]; got.Index != want.Index || got.Kind != d.kind {
						t.Errorf("DEL has taken the container's own %+v; there is %+v", want, got)
					}
					released(t)
					host.RunIn(t, a.NetNS, "ip", "link", "del", "eth0")
				})
			}
		}
	})
}

// TestForeignBeside deletes an attachment whose device was renamed, while another
// has taken its name.
func TestForeignBeside(t *testing.T) {
	each(t, func(t *testing.T, d device) {
		if strings.Contains(d.keys, "passthru") || d.plugin == "vlan" {
			return // there is one on a master
		}
		a := d.attach(t, "renamed")
		a.Add(t)
		host.RunIn(t, a.NetNS, "ip", "link", "set", "eth0", "down")
		host.RunIn(t, a.NetNS, "ip", "link", "set", "eth0", "name", "other")
		d.byHand(t, a.NetNS)
		want := host.Links(t, a.NetNS)["eth0"]
		a.Del(t)
		links := host.Links(t, a.NetNS)
		if _, left := links["other"]; left || links["eth0"].Index != want.Index {
			t.Errorf("after DEL there are %v, want %+v and no other", links, want)
		}
		released(t)
	})
}

// TestUntaggedGarbage collects a device that has lost its tag: its addresses must
// not be another's before it has gone.
func TestUntaggedGarbage(t *testing.T) {
	each(t, func(t *testing.T, d device) {
		a := d.attach(t, "untagged")
		a.Add(t)
		host.RunIn(t, a.NetNS, "ip", "link", "set", "eth0", "alias", "")
		a.GC(t)
		absent(t, a)
	})
}

// byHand makes a device like the plugin's in a container, as eth0.
func (d device) byHand(t *testing.T, ns string) {
	t.Helper()
	switch d.plugin {
	case "dummy":
		host.RunIn(t, ns, "ip", "link", "add", "eth0", "type", "dummy")
	case "tap":
		host.RunIn(t, ns, "ip", "tuntap", "add", "mode", "tap", "name", "eth0")
	default:
		args := []string{"link", "add", "link", "up0", "name", "eth0", "netns", filepath.Base(ns), "type", d.kind}
		switch {
		case d.plugin == "vlan":
			args = append(args, "id", "7")
		case strings.Contains(d.keys, "passthru"):
			args = append(args, "mode", "passthru")
		case strings.Contains(d.keys, "l3s"):
			args = append(args, "mode", "l3s")
		}
		host.Run(t, "ip", args...)
	}
}

// TestReusedPath deletes a container whose path leads to another's namespace by
// now, which has an interface of the same name and kind.
func TestReusedPath(t *testing.T) {
	each(t, func(t *testing.T, d device) {
		if strings.Contains(d.keys, "passthru") || d.plugin == "vlan" {
			return // there is one on a master
		}
		for _, byReference := range []bool{false, true} {
			gone := d.attach(t, "gone")
			if byReference {
				gone.Bin = host.Reference(t)
			}
			gone.Add(t)
			host.RemoveNetNS(t, gone.NetNS)
			other := d.attach(t, "other")
			if byReference {
				other.Bin = host.Reference(t)
			}
			other.Add(t)
			gone.NetNS, gone.Bin = other.NetNS, host.Bin(t)
			for _, prev := range []bool{true, false} {
				if !prev {
					gone.Prev = nil
				}
				gone.Del(t)
				if l := host.Links(t, other.NetNS)["eth0"]; l.Kind != d.kind {
					t.Fatalf("DEL of a container that is gone took another's interface (of the reference: %v)", byReference)
				}
			}
			other.Bin = host.Bin(t)
			other.Check(t)
			other.Del(t)
			absent(t, other)
		}
	})
}

// TestUndo lets ADD fail after the device was made: nothing is left.
func TestUndo(t *testing.T) {
	each(t, func(t *testing.T, d device) {
		for _, tt := range []struct {
			name, ipam string
			code       cni.Code
		}{
			{"no address", `{"type":"host-local","subnet":"10.88.0.0/30","rangeStart":"10.88.0.2","rangeEnd":"10.88.0.2"}`, state.CodeExhausted},
			{"no such plugin", `{"type":"nobody"}`, 0},
			{"a gateway that is nowhere", `{"type":"host-local","subnet":"10.88.1.0/24","routes":[{"dst":"10.99.0.0/16","gw":"10.98.0.1"}]}`, cni.CodeInvalidConfig},
		} {
			t.Run(tt.name, func(t *testing.T) {
				config := fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net","type":%q,%s"ipam":%s}`, d.plugin, d.keys, tt.ipam)
				if tt.code == state.CodeExhausted {
					ipam := strings.Replace(config, d.plugin, "host-local", 1)
					first := attach.New(t, ipam, "first")
					first.Add(t)
					defer first.Del(t)
				}
				before := host.Snapshot(t)
				a := attach.New(t, config, "failed")
				_, failure := a.TryAdd(t)
				if failure == nil || tt.code != 0 && failure.Code != tt.code {
					t.Errorf("ADD: %v, want code %d", failure, tt.code)
				}
				if links := host.Links(t, a.NetNS); len(links) != 1 {
					t.Errorf("the container has %v", links)
				}
				host.Unchanged(t, before, host.SharedFiles)
			})
		}
	})
}

// TestConflict wants an interface that the container has.
func TestConflict(t *testing.T) {
	each(t, func(t *testing.T, d device) {
		a := d.attach(t, "late")
		host.RunIn(t, a.NetNS, "ip", "link", "add", "eth0", "type", "bridge")
		_, failure := a.TryAdd(t)
		if failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Msg, "eth0 already exists in the sandbox (bridge") {
			t.Errorf("ADD: %v", failure)
		}
		a.Del(t)
		if l := host.Links(t, a.NetNS)["eth0"]; l.Kind != "bridge" {
			t.Errorf("DEL took somebody's bridge: %+v", l)
		}
		released(t)
	})
}

// TestHostName wants a name that a link of the host has.
func TestHostName(t *testing.T) {
	each(t, func(t *testing.T, d device) {
		host.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
		defer host.Run(t, "ip", "link", "del", "eth0")
		a := d.attach(t, "namesake")
		a.Add(t)
		a.Check(t)
		a.Del(t)
		absent(t, a)
	})
}

// TestGC leaves the valid attachment, and takes the others, with and without
// their namespace.
func TestGC(t *testing.T) {
	each(t, func(t *testing.T, d device) {
		if strings.Contains(d.keys, "passthru") || d.plugin == "vlan" {
			d.keys = strings.Replace(d.keys, `"up0"`, `"eth9"`, 1) // each on a master of its own, inside
			d.keys += `"linkInContainer":true,`
		}
		make := func(id string) *attach.Attachment {
			a := d.attach(t, id)
			if strings.Contains(d.keys, "eth9") {
				host.RunIn(t, a.NetNS, "ip", "link", "add", "eth9", "type", "veth", "peer", "name", "eth8")
				host.RunIn(t, a.NetNS, "ip", "link", "set", "eth9", "up")
			}
			a.Add(t)
			return a
		}
		stays, goes, dead := make("stays"), make("goes"), make("dead")
		elsewhere := attach.New(t, strings.Replace(goes.Config, `"net"`, `"net2"`, 1), "goes")
		if !strings.Contains(d.keys, "eth9") {
			elsewhere.IfName = "eth1"
			elsewhere.Add(t)
		}
		host.RemoveNetNS(t, dead.NetNS)
		stays.GC(t, stays)
		stays.Check(t)
		if !strings.Contains(d.keys, "eth9") {
			elsewhere.Check(t)
			elsewhere.Del(t)
		}
		if _, ok := host.Links(t, goes.NetNS)["eth0"]; ok {
			t.Error("GC left the device of an attachment that is not valid")
		}
		if entries, err := os.ReadDir("/var/lib/cni/networks/net"); err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "10.88.0.3" || e.Name() == "10.88.0.4" }) {
			t.Errorf("addresses taken after GC: %v %v", entries, err)
		}
		stays.Del(t)
		released(t)
	})
}

// TestReference hands attachments over, both ways.
func TestReference(t *testing.T) {
	each(t, func(t *testing.T, d device) {
		reference := host.Reference(t)
		for _, version := range []string{"0.4.0", "1.0.0"} {
			for _, prev := range []bool{true, false} {
				before := host.Snapshot(t)
				a := attach.New(t, d.config(version, "net"), "theirs")
				a.Bin = reference
				a.Add(t)
				a.Bin = host.Bin(t)
				a.Check(t)
				if !prev {
					a.Prev = nil
				}
				a.Del(t)
				absent(t, a)
				host.Unchanged(t, before, host.SharedFiles)
			}
			a := attach.New(t, d.config(version, "net"), "ours")
			a.Add(t)
			a.Bin = reference
			if failure := a.TryCheck(t); failure != nil && !(d.plugin == "ipvlan" || d.plugin == "macvlan") {
				t.Errorf("the reference's CHECK: %v", failure)
			}
			a.Del(t)
			a.Bin = host.Bin(t)
			if links := host.Links(t, a.NetNS); len(links) != 1 {
				t.Errorf("the reference's DEL leaves %v", links)
			}
			a.Del(t)
			absent(t, a)
		}
	})
}
