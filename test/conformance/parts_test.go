package conformance

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

// A part is one object in the kernel that an attachment has: the command that takes it away, and what CHECK has to name then.
type part struct{ remove, name string }

// unchecked are commands that take away what CHECK doesn't miss, since no packet does: the notes of which rules are whose.
var unchecked = regexp.MustCompile(`forward-handles|admitted[46]|--comment "plumb:`)

// modesInParts are a mode of each plugin, and of each of its back ends. Plugins without a part have tests of their own: what tuning sets is not an
// object, nor is a name, nor lo, which is always there.
var modesInParts = []string{
	"ptp 46 nftables", "ptp 46 iptables", "bridge 46 default gateway nftables", "bridge 46 default gateway iptables",
	"macvlan 46", "ipvlan 46", "vlan", "dummy", "tap", "host-device",
	"portmap nftables", "portmap iptables", "firewall nftables", "firewall iptables", "bandwidth", "bandwidth of some", "sbr", "vrf",
}

// TestCheckFindsEveryPart takes away, one at a time, every link, address, route, rule, queue, element and rule of the packet filter that ADD
// has made for an attachment: CHECK names it. DEL works on whatever is left.
func TestCheckFindsEveryPart(t *testing.T) {
	for _, name := range modesInParts {
		i := slices.IndexFunc(modes(), func(m mode) bool { return m.name == name })
		if i < 0 {
			t.Errorf("there is no mode %q", name)
			continue
		}
		m := modes()[i]
		t.Run(name, func(t *testing.T) {
			m.prepare(t)
			a := m.container(t, "parts", 1)
			a.addParts(t) // what is shared is there from now on
			a.del(t)
			seen := 0
			for i := 0; ; i++ {
				if m.each != "" && host.Links(t, "")["dev-1"].Name == "" {
					a = m.container(t, "parts", 1) // a new device
				}
				parts := a.addParts(t)
				if i == len(parts) {
					a.del(t)
					break
				}
				p := parts[i]
				host.Run(t, "sh", "-ec", p.remove)
				seen++
				if failure := a.tryCheck(t); failure == nil || failure.Code != state.CodeDrift || !strings.Contains(failure.Msg, p.name) {
					t.Errorf("after %s CHECK says %v, want %s", p.remove, failure, p.name)
				}
				a.del(t)
			}
			if seen == 0 {
				t.Error("ADD has made nothing that could be taken away")
			}
		})
	}
}

// addParts adds the attachment and returns what the plugin under test has made, in an order that is the same each time.
func (a *attachment) addParts(t *testing.T) (list []part) {
	t.Helper()
	config := a.ready(t)
	before := append(parts(t, a.netns), parts(t, "")...)
	out, failure := invoke(t, cni.VerbAdd, a.plugin(), config, a)
	if failure != nil {
		t.Fatalf("ADD %s: %v", a.id, failure)
	}
	a.prev = json.RawMessage(out)
	for _, p := range append(parts(t, a.netns), parts(t, "")...) {
		if !slices.Contains(before, p) && !unchecked.MatchString(p.remove) {
			list = append(list, p)
		}
	}
	return list
}

// parts lists the objects of a namespace, of the host's with its packet filter. What the kernel makes by itself is none.
func parts(t *testing.T, ns string) (list []part) {
	t.Helper()
	in := ""
	if ns != "" {
		in = "nsenter --net=" + ns + " "
	}
	add := func(name, format string, args ...any) {
		list = append(list, part{in + fmt.Sprintf(format, args...), name})
	}
	host.Settle(t, "")
	for _, l := range host.Links(t, ns) {
		if l.Name != "lo" {
			add(l.Name, "ip link del %s", l.Name)
		}
	}
	for _, a := range host.Addrs(t, ns) {
		if a.Dev != "lo" && !a.Prefix.Addr().IsLinkLocalUnicast() {
			add(a.Prefix.Addr().String(), "ip addr del %s dev %s", a.Prefix, a.Dev)
		}
	}
	for _, f := range []int{4, 6} {
		for _, r := range host.Routes(t, ns, f, "table all") {
			if r.Protocol == "kernel" || r.Table == "local" || r.Dev == "lo" {
				continue
			}
			dst := strings.Replace(r.Dst, "default", map[int]string{4: "0.0.0.0/0", 6: "::/0"}[f], 1)
			via := ""
			if r.Gateway != "" {
				via = "via " + r.Gateway + " "
			}
			table := r.Table
			if table == "" {
				table = "main"
			}
			add(dst, "ip -%d route del %s %sdev %s table %s", f, dst, via, r.Dev, table)
		}
		for _, r := range host.Rules(t, ns, f) {
			if r.Src != "all" {
				add(r.Src, "ip -%d rule del from %s lookup %s", f, r.Src, r.Table)
			}
		}
	}
	var qdiscs []struct{ Dev, Kind string }
	host.JSONIn(t, ns, &qdiscs, "tc", "-j", "qdisc")
	for _, q := range qdiscs {
		switch q.Kind {
		case "tbf", "htb":
			add(q.Dev, "tc qdisc del dev %s root", q.Dev)
		case "ingress":
			add(q.Dev, "tc qdisc del dev %s ingress", q.Dev)
		}
	}
	if ns != "" {
		return sorted(list)
	}
	ruleset := host.NFT(t)
	for _, set := range ruleset.Sets {
		for _, e := range set.Elems {
			add(set.Name, "nft 'delete element %s %s %s { %s }'", set.Family, set.Table, set.Name, e.Key)
		}
	}
	for _, table := range ruleset.Tables {
		tool := map[string]string{"ip": "iptables", "ip6": "ip6tables"}[table.Family]
		if tool == "" || table.Name != "nat" && table.Name != "filter" {
			continue
		}
		for line := range strings.Lines(host.Run(t, tool+"-save", "-t", table.Name)) {
			if rule, ok := strings.CutPrefix(strings.TrimSpace(line), "-A "); ok {
				add(strings.Fields(rule)[0], "%s -t %s -D %s", tool, table.Name, rule)
			}
		}
	}
	return sorted(list)
}

func sorted(list []part) []part {
	slices.SortFunc(list, func(a, b part) int { return strings.Compare(a.remove, b.remove) })
	return list
}
