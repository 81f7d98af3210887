package conformance

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

// misfortunes are what may happen to an attachment between ADD and DEL.
var misfortunes = []struct {
	name   string
	happen func(t *testing.T, a, bystander *attachment)
}{
	{"nothing", func(*testing.T, *attachment, *attachment) {}},
	{"namespace-gone", func(t *testing.T, a, _ *attachment) { host.RemoveNetNS(t, a.netns) }},
	{"namespace-gone-and-unnamed", func(t *testing.T, a, _ *attachment) {
		host.RemoveNetNS(t, a.netns)
		a.netns = ""
	}},
	{"mount-gone", func(t *testing.T, a, _ *attachment) {
		host.Run(t, "umount", a.netns) // the empty file stays
	}},
	{"path-reused", func(t *testing.T, a, bystander *attachment) {
		host.Run(t, "umount", a.netns)
		host.Run(t, "mount", "--bind", bystander.netns, a.netns)
	}},
	{"no-prevresult", func(_ *testing.T, a, _ *attachment) { a.prev = nil }},
	{"edited", func(t *testing.T, a, _ *attachment) { a.config = edit(t, a.config) }},
	{"undecodable", func(t *testing.T, a, _ *attachment) {
		a.config = derive(t, a.config, "mtu", "large", "ipMasq", "si", "bridge", 7)
	}},
	{"no-record", func(t *testing.T, a, _ *attachment) { forget(t, a) }},
	{"no-record-and-namespace-gone", func(t *testing.T, a, _ *attachment) {
		forget(t, a)
		host.RemoveNetNS(t, a.netns)
	}},
	{"no-record-and-no-prevresult", func(t *testing.T, a, _ *attachment) {
		forget(t, a)
		a.prev = nil
	}},
	{"all-of-it", func(t *testing.T, a, _ *attachment) {
		forget(t, a)
		host.RemoveNetNS(t, a.netns)
		a.prev, a.config, a.netns = nil, edit(t, a.config), ""
	}},
}

// forget takes the record of an attachment away.
func forget(t *testing.T, a *attachment) {
	t.Helper()
	names := records(t)
	if !slices.ContainsFunc(names, a.wrote) {
		t.Errorf("there is no record of %s among %q", a.id, names)
	}
	for _, name := range slices.DeleteFunc(names, func(name string) bool { return !a.wrote(name) }) {
		if err := os.Remove(filepath.Join(state.RecordDir, name)); err != nil {
			t.Error(err)
		}
	}
}

// wrote tells whether a record is the attachment's.
func (a *attachment) wrote(name string) bool { return strings.Contains(name, "@"+a.id+"@") }

// records are the names of all records.
func records(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir(state.RecordDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// edit is a configuration after somebody has changed what the plugin may change its mind about. What tells where the
// addresses are recorded is as before: the folder and the plugin.
func edit(t *testing.T, config string) string {
	return derive(t, config, "ipMasq", false, "ipMasqBackend", "nftables", "mtu", 1300, "bridge", "elsewhere0", "isGateway", nil, "isDefaultGateway", nil, "hairpinMode", nil,
		"master", "elsewhere0", "mode", "private", "vlanId", 99, "device", "elsewhere0", "macspoofchk", nil,
		"backend", "nftables", "runtimeConfig", nil, "snat", nil, "ingressPolicy", nil,
		"sysctl", nil, "txQLen", nil, "promisc", nil, "allmulti", nil, "ingressRate", nil, "egressRate", nil, "table", nil)
}

// TestDel deletes attachments that something has happened to: nothing is left of them, nothing happens to another, and
// to do it again is success.
func TestDel(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		if strings.Contains(m.config, "enabledad") {
			return // like any other bridge to DEL, and each ADD takes seconds
		}
		bystander := m.container(t, "bystander", 1)
		bystander.add(t)
		before := host.Snapshot(t)
		for _, mis := range misfortunes {
			a := m.container(t, mis.name, 2)
			a.add(t)
			mis.happen(t, a, bystander)
			a.del(t)
			if diff := before.Diff(settled(t, before, m.stays()...), m.stays()...); diff != "" {
				t.Errorf("%s: after DEL the host is not as it was before:\n%s", mis.name, diff)
				before = host.Snapshot(t)
			}
			a.prev = nil // a runtime that has seen DEL succeed remembers nothing
			a.del(t)
			if m.confirmed(mis.name) {
				a.gone(t)
			}
			bystander.check(t)
			if mis.name == "path-reused" && m.gateway {
				m.traffic(t, bystander, &cni.Result{})
			}
		}
		never := m.container(t, "never-added", 3)
		never.del(t)
		host.Unchanged(t, before, m.stays()...)
	})
}

// confirmed tells whether a.netns still leads to the container, and DEL could know what is its own in there. That a loopback device is up
// says nothing about who has set it up: without a record it is left alone. A VRF has no mark either, and is known by what is in it: the
// previous plugin's interface.
func (m mode) confirmed(misfortune string) bool {
	switch misfortune {
	case "nothing", "no-prevresult", "edited", "undecodable":
		return true
	case "no-record":
		return !strings.HasPrefix(m.name, "loopback")
	case "no-record-and-no-prevresult":
		return !strings.HasPrefix(m.name, "loopback") && m.name != "vrf"
	}
	return false
}

// settled is the state of the host once a link that is on its way out has gone, with its routes.
func settled(t *testing.T, before host.State, shared ...string) host.State {
	t.Helper()
	now := host.Snapshot(t)
	for deadline := time.Now().Add(10 * time.Second); before.Diff(now, shared...) != "" && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
		now = host.Snapshot(t)
	}
	return now
}

// TestDelInReusedNamespace deletes an attachment whose namespace is gone, while the path leads to another container's, which
// looks the same to the kernel: it gives a new namespace the number of one that is gone.
func TestDelInReusedNamespace(t *testing.T) {
	for _, plugin := range []mode{
		{name: "ptp", config: config("ptp", "net", `"ipam":`+hostLocal("46"))},
		{name: "bridge", config: bridgeConfig("net", `"isGateway":true,"ipam":`+hostLocal("46")), bridge: bridgeName},
		{name: "loopback", config: config("loopback", "net", "")},
	} {
		for _, other := range []string{"ours", "another network's", "another implementation's"} {
			for _, record := range []string{"", " without a record"} {
				t.Run(plugin.name+" in "+other+record, func(t *testing.T) {
					if plugin.name == "loopback" { // which makes nothing that it could be known by
						host.Need(t, "netns-cookie")
					}
					if plugin.bridge != "" {
						removeAtEnd(t, plugin.bridge)
					}
					gone := attach(t, plugin.config, "gone")
					gone.add(t)
					replaceNetNS(t, gone.netns)
					if record != "" {
						forget(t, gone)
						if plugin.name == "loopback" {
							gone.prev = nil // it tells one loopback device from another in nothing
						}
					}
					heir := &attachment{config: plugin.config, id: "heir", netns: gone.netns, ifName: gone.ifName}
					switch {
					case other == "another implementation's" && plugin.name == "loopback":
						host.RunIn(t, heir.netns, "ip", "link", "set", "lo", "up")
					case other == "another implementation's":
						host.Run(t, "ip", "link", "add", "veth0000heir", "type", "veth", "peer", "name", "eth0", "netns", filepath.Base(heir.netns))
						t.Cleanup(func() { host.Try("ip", "link", "del", "veth0000heir") }) //nolint:errcheck // gone with its peer
					default:
						if other != "ours" {
							heir.config = derive(t, heir.config, "name", "other")
						}
						heir.add(t)
						t.Cleanup(func() { heir.del(t) })
					}
					want := host.Links(t, heir.netns)[heir.ifName]
					gone.del(t)
					if got := host.Links(t, heir.netns)[heir.ifName]; got.Index != want.Index || got.Up() != want.Up() {
						t.Errorf("DEL of another container has changed %s in the namespace at its former path: %+v, was %+v", heir.ifName, got, want)
					}
				})
			}
		}
	}
}

// replaceNetNS removes a namespace and makes one at the same path with the same number, which the kernel gives out again some
// time after the old one is gone.
func replaceNetNS(t *testing.T, path string) {
	t.Helper()
	inode := func() string { return strings.TrimSpace(host.Run(t, "stat", "-c", "%i", path)) }
	former := inode()
	for range 50 {
		host.RemoveNetNS(t, path)
		time.Sleep(20 * time.Millisecond)
		host.Run(t, "ip", "netns", "add", filepath.Base(path))
		if inode() == former {
			return
		}
	}
	t.Log("the kernel gave no namespace the former one's number")
}

// TestEditedIPAM releases an address where it was allocated, whatever the configuration says of IPAM by now.
func TestEditedIPAM(t *testing.T) {
	for _, network := range []string{
		config("ptp", "net", `"ipMasq":true,`+good),
		bridgeConfig("net", `"isGateway":true,`+good),
	} {
		for _, tt := range []struct {
			name string
			ipam any
		}{
			{"another folder", map[string]string{"type": "host-local", "subnet": "10.77.0.0/24", "dataDir": t.TempDir()}},
			{"another plugin", map[string]any{"type": "static", "addresses": []map[string]string{{"address": "10.99.0.9/24", "gateway": "10.99.0.1"}}}},
			{"none", nil},
		} {
			for _, verb := range []cni.Verb{cni.VerbDel, cni.VerbGC} {
				a := &attachment{config: network}
				t.Run(a.plugin()+" "+string(verb)+" "+tt.name, func(t *testing.T) {
					removeAtEnd(t, bridgeName)
					stay, a := attach(t, network, "stays"), attach(t, network, "goes")
					stay.add(t)
					before := host.Snapshot(t)
					a.add(t)
					if verb == cni.VerbDel {
						a.config = derive(t, network, "ipam", tt.ipam)
						a.del(t)
					} else {
						gc(t, network, "ipam", tt.ipam, "cni.dev/valid-attachments", valid(stay))
					}
					a.gone(t)
					host.Unchanged(t, before, stays("")...)
					stay.check(t)
				})
			}
		}
	}
}

// TestLoopbackBefore: a loopback device that was up before ADD is nobody's to set down.
func TestLoopbackBefore(t *testing.T) {
	for _, up := range []bool{true, false} {
		for _, withPrev := range []bool{true, false} {
			a := attach(t, config("loopback", "net", ""), fmt.Sprintf("up-%v-%v", up, withPrev))
			if up {
				host.RunIn(t, a.netns, "ip", "link", "set", "lo", "up")
			}
			a.add(t)
			a.check(t)
			if !withPrev {
				a.prev = nil
			}
			for range 2 {
				a.del(t)
				if got := host.Links(t, a.netns)["lo"].Up(); got != up {
					t.Errorf("lo is up after DEL: %v, before ADD: %v", got, up)
				}
			}
		}
	}
}

// TestDelOfHostNamespace deletes an attachment whose path leads to the host's own namespace by now, as /proc/PID/ns/net may.
func TestDelOfHostNamespace(t *testing.T) {
	before := host.Snapshot(t)
	a := attach(t, config("ptp", "net", `"ipMasq":true,"ipam":`+hostLocal("4")), "moved")
	a.add(t)
	host.RemoveNetNS(t, a.netns)
	a.netns = "/proc/" + processOfTheHost(t) + "/ns/net"
	a.del(t)
	host.Unchanged(t, before, stays("")...)
}
