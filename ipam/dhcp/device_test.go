package dhcp_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// TestDevices leases addresses to devices on top of the host's: to macvlan devices, and to ipvlan devices, which have the hardware address
// of their master and of one another. The daemon is killed in between.
func TestDevices(t *testing.T) {
	for _, kind := range []string{"macvlan", "ipvlan"} {
		t.Run(kind, func(t *testing.T) {
			host.Need(t, kind)
			l := newLAN(t)
			server := l.dnsmasq(t, v6()...)
			master := l.bridge + "m"
			host.Run(t, "ip", "link", "add", master, "type", "veth", "peer", "name", l.bridge+"p")
			t.Cleanup(func() { host.Run(t, "ip", "link", "del", master) })
			host.Run(t, "ip", "link", "set", l.bridge+"p", "master", l.bridge, "up")
			host.Run(t, "ip", "link", "set", master, "up")
			d := newDaemon(t)
			var all []*attachment
			for range 2 {
				a := l.attach(t, d, `"ipv6":true`, `"acceptRA":true`)
				config, err := cni.Derive([]byte(a.config), map[string]any{"type": kind, "master": master, "bridge": json.RawMessage(`null`)}, "bridge")
				if err != nil {
					t.Fatal(err)
				}
				a.plugin, a.config = kind, string(config)
				all = append(all, a)
			}
			one, other := all[0].add(t), all[1].add(t)
			if one.IPs[0].Address == other.IPs[0].Address || one.IPs[1].Address == other.IPs[1].Address {
				t.Errorf("both have %v and %v", one.IPs, other.IPs)
			}
			d.kill9(t)
			restarted := len(server.String())
			d.start(t)
			until(t, "leases taken up", func() bool { return strings.Count(d.String(), "taken up again") == 2 })
			for _, a := range all {
				if failure := a.check(t); failure != nil {
					t.Errorf("CHECK: %v", failure)
				}
				host.RunIn(t, a.netns, "ping", "-c1", "-W3", "10.99.0.1")
				a.del(t)
			}
			until(t, "the server's leases gone", func() bool { return !server.has(t, "10.99.0.") && !server.has(t, "fd00:99::") })
			if again := server.String()[restarted:]; strings.Contains(again, "DISCOVER") || strings.Contains(again, "SOLICIT(srv) 00") {
				t.Errorf("asked anew:\n%s", again)
			}
		})
	}
}
