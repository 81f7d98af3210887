package conformance

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// TestLife adds, checks, uses and deletes two containers in every mode.
func TestLife(t *testing.T) {
	keys.Covers(t, "ptp", "ipam", "ipMasq", "ipMasqBackend")
	keys.Covers(t, "bridge", "ipam", "isGateway", "isDefaultGateway", "disableContainerInterface", "CNI_ARGS.MAC")
	keys.Covers(t, "loopback", "prevResult")
	each(t, func(t *testing.T, m mode) {
		before := host.Snapshot(t)
		a, b := m.container(t, "one", 1), m.container(t, "two", 2)
		var results []*cni.Result
		for _, c := range []*attachment{a, b} {
			r := c.add(t)
			c.matches(t, r)
			c.check(t)
			results = append(results, r)
		}
		m.traffic(t, a, results[1])
		a.check(t) // what b did was none of a's business
		for _, c := range []*attachment{a, b} {
			c.del(t)
			c.gone(t)
		}
		host.Unchanged(t, before, m.stays()...)
	})
}

// matches compares the result of ADD with what iproute2 sees.
func (a *attachment) matches(t *testing.T, r *cni.Result) {
	t.Helper()
	if strings.Contains(a.config, "/elsewhere") {
		var before, after any
		c, err := cni.ParseConfig([]byte(a.config))
		if err != nil {
			t.Fatal(err)
		}
		want, _ := c.PrevResult.Encode(cni.Latest)
		if json.Unmarshal(want, &before) != nil || json.Unmarshal(a.prev, &after) != nil || !equalJSON(before, after) {
			t.Errorf("the previous result did not pass unchanged: %s", a.prev)
		}
		return
	}
	inside, outside := host.Links(t, a.netns), host.Links(t, "")
	for _, i := range r.Interfaces {
		links := outside
		if i.Sandbox != "" {
			links = inside
			if i.Sandbox != a.netns || i.Name != a.ifName {
				t.Errorf("interface %+v, want %s in %s", i, a.ifName, a.netns)
			}
		}
		if links[i.Name].MAC != i.MAC || i.MAC == "" {
			t.Errorf("interface %+v: the kernel says %q", i, links[i.Name].MAC)
		}
	}
	_, mac, _ := strings.Cut(a.args, "MAC=")
	if mac != "" && inside[a.ifName].MAC != mac {
		t.Errorf("the address of %s is %s, want %s", a.ifName, inside[a.ifName].MAC, mac)
	}
	if up := !strings.Contains(a.config, "disableContainerInterface"); inside[a.ifName].Up() != up {
		t.Errorf("%s up: %v, want %v", a.ifName, !up, up)
	}
	var got, want []netip.Prefix
	for _, addr := range host.Addrs(t, a.netns) {
		if addr.Dev == a.ifName && !addr.Prefix.Addr().IsLinkLocalUnicast() {
			got = append(got, addr.Prefix)
		}
	}
	for _, ip := range r.IPs {
		want = append(want, ip.Address)
		if ip.Interface == nil || r.Interfaces[*ip.Interface].Name != a.ifName {
			t.Errorf("address %s is not tied to %s: %+v", ip.Address, a.ifName, r)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s has the addresses %v, the result %v", a.ifName, got, want)
	}
}

func equalJSON(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// traffic pings what the mode connects a container to, each once: nothing may be lost at the start.
func (m mode) traffic(t *testing.T, a *attachment, peer *cni.Result) {
	t.Helper()
	if m.gateway {
		if strings.Contains(m.families, "4") {
			host.Ping(t, a.netns, gateway4)
		}
		if strings.Contains(m.families, "6") {
			host.Ping(t, a.netns, gateway6)
		}
	}
	for _, ip := range peer.IPs {
		switch addr := ip.Address.Addr().String(); {
		case m.peers:
			host.Ping(t, a.netns, addr)
		case m.families != "" && host.TryPing(a.netns, addr) == nil:
			t.Errorf("%s answers although the ports are isolated", addr)
		}
	}
	if m.gateway {
		for _, ip := range peer.IPs {
			host.Ping(t, "", ip.Address.Addr().String())
		}
	}
}

// gone fails the test if anything but a loopback device that is down is in the container.
func (a *attachment) gone(t *testing.T) {
	t.Helper()
	if a.plugin() == "loopback" && host.Links(t, a.netns)["lo"].Up() {
		t.Errorf("lo is still up in %s", a.id)
	}
	for name := range host.Links(t, a.netns) {
		if name != "lo" {
			t.Errorf("%s is left in %s", name, a.id)
		}
	}
	for _, family := range []int{4, 6} {
		for _, r := range host.Routes(t, a.netns, family, "table all") {
			if r.Dev != "lo" {
				t.Errorf("route %+v is left in %s", r, a.id)
			}
		}
	}
}
