package portmap_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

func several() []port {
	return []port{
		{8080, 80, "tcp", ""}, {8053, 53, "udp", "127.0.0.1"}, {7000, 7000, "sctp", ""},
		{9000, 9000, "tcp", ""}, {9001, 9001, "tcp", ""}, {9002, 9002, "tcp", ""},
	}
}

// DEL works whatever the runtime still knows, and twice.
func TestDel(t *testing.T) {
	for _, backend := range []string{"nftables", "iptables"} {
		for name, forget := range map[string]func(*testing.T, *pod) string{
			"all":           func(t *testing.T, p *pod) string { return p.after(t) },
			"no prevResult": func(t *testing.T, p *pod) string { return p.config },
			"no ports":      func(t *testing.T, p *pod) string { return with(t, p.config, "runtimeConfig", nil) },
			"edited": func(t *testing.T, p *pod) string {
				return with(t, p.after(t), "backend", "nftables", "snat", false, "runtimeConfig", nil)
			},
			"broken": func(t *testing.T, p *pod) string { return with(t, p.after(t), "backend", 7) },
			"no record": func(t *testing.T, p *pod) string {
				forgetRecords(t, "net1", "c1")
				return with(t, p.after(t), "runtimeConfig", nil)
			},
			"no record, no prevResult": func(t *testing.T, p *pod) string {
				forgetRecords(t, "net1", "c1")
				return p.config
			},
			"no namespace": func(t *testing.T, p *pod) string {
				host.RemoveNetNS(t, p.netns)
				p.netns = ""
				return p.config
			},
		} {
			t.Run(name+"/"+backend, func(t *testing.T) {
				p := newPod(t, "c1", routed, with(t, plain, "backend", backend), several()...)
				p.add(t)
				p.check(t)
				if list := left(t); list == nil {
					t.Fatal("ADD maps nothing")
				}
				config := forget(t, p)
				p.del(t, config)
				empty(t)
				p.del(t, config)
			})
		}
	}
}

// forgetRecords takes the records of a container on a network away.
func forgetRecords(t *testing.T, network, container string) {
	t.Helper()
	files, err := filepath.Glob("/run/plumb/attachments/portmap@" + network + "@" + container + "@*")
	if err != nil || files == nil {
		t.Fatalf("there are no records (%v)", err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
}

// CHECK names what is missing, and ADD again mends it.
func TestDamage(t *testing.T) {
	type damage struct{ do, says string }
	for backend, list := range map[string][]damage{
		"nftables": {
			{"nft delete element inet plumb portmap4 { tcp . 0.0.0.0 . 8080 }", "tcp 0.0.0.0:8080 is missing"},
			{"nft delete element inet plumb portmap6 { sctp . :: . 7000 }", "sctp [::]:7000"},
			{"nft flush map inet plumb portmap4-by-2", "tcp 0.0.0.0:9000-9001"},
			{"nft flush set inet plumb portmap4-near-24", "10.22.0.0/24 . "},
			{"nft flush chain inet plumb portmap-prerouting", "portmap-prerouting"},
			{"nft flush chain inet plumb portmap-output", "portmap-output"},
			{"nft flush chain inet plumb portmap-postrouting", "portmap-postrouting"},
			{"nft flush chain inet plumb portmap-localnet", "portmap-localnet"},
			{"nft flush chain inet plumb portmap-near", "portmap-near"},
			{"nft flush chain inet plumb portmap6", "portmap6"},
			{"nft flush chain inet plumb portmap", "chain inet plumb portmap"},
			{"nft insert rule inet plumb portmap4 return", "portmap4"},
			{"nft flush chain inet plumb portmap-output ; delete chain inet plumb portmap-output", "portmap-output"},
			{"nft add table inet plumb { flags dormant; }", "dormant"},
			{"nft delete table inet plumb", "inet plumb"},
			{"sysctl -q net.ipv4.conf.@HOST.route_localnet=0", "route_localnet"},
			{"ip -6 route del local ::1 dev @HOST table local", "::1"},
		},
		"iptables": {
			{"iptables -t nat -F CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-DNAT"},
			{"ip6tables -t nat -F CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-SETMARK"},
			{"iptables -t nat -F CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-MASQ"},
			{"iptables -t nat -F PREROUTING", "PREROUTING"},
			{"iptables -t nat -F OUTPUT", "OUTPUT"},
			{"ip6tables -t nat -F POSTROUTING", "POSTROUTING"},
			{"iptables -t nat -F @CHAIN", "8080"},
			{"iptables -t nat -D @CHAIN 3", "rule"},
		},
	} {
		t.Run(backend, func(t *testing.T) {
			p := newPod(t, "c1", routed, with(t, plain, "backend", backend), several()...)
			p.add(t)
			p.check(t)
			var chain string
			for line := range strings.Lines(host.Run(t, "iptables-save", "-t", "nat")) {
				if name, ok := strings.CutPrefix(line, ":CNI-DN-"); ok {
					chain, _, _ = strings.Cut("CNI-DN-"+name, " ")
				}
			}
			for _, d := range list {
				do := strings.NewReplacer("@HOST", p.hostEnd(t), "@CHAIN", chain).Replace(d.do)
				if args, ok := strings.CutPrefix(do, "nft "); ok {
					host.Run(t, "nft", args)
				} else {
					host.Run(t, "sh", "-ec", do)
				}
				p.drifts(t, d.says)
				p.add(t)
				p.check(t)
				if t.Failed() {
					t.Fatalf("after %q", do)
				}
			}
			p.del(t, p.after(t))
			empty(t)
		})
	}
}

func (p *pod) hostEnd(t testing.TB) string {
	t.Helper()
	var result struct {
		Interfaces []struct{ Name, Sandbox string }
	}
	if err := json.Unmarshal([]byte(p.prev), &result); err != nil {
		t.Fatal(err)
	}
	for _, i := range result.Interfaces {
		if i.Sandbox == "" {
			return i.Name
		}
	}
	t.Fatal("the result names no interface of the host")
	return ""
}

// A port that somebody holds is refused by the holder's name, whichever back
// ends both have; one whose holder is gone is taken over; other addresses,
// protocols and ports are free.
func TestConflict(t *testing.T) {
	for _, first := range []string{"nftables", "iptables"} {
		for _, second := range []string{"nftables", "iptables"} {
			t.Run(first+"/"+second, func(t *testing.T) {
				p := newPod(t, "c1", routed, with(t, plain, "backend", first),
					port{8080, 80, "tcp", ""}, port{8081, 80, "tcp", "192.0.2.1"}, port{9000, 9000, "tcp", ""}, port{9001, 9001, "tcp", ""})
				p.add(t)
				p.add(t) // once more, which changes nothing
				p.check(t)
				before := left(t)
				for i, c := range []struct {
					port port
					free bool
				}{
					{port{8080, 81, "tcp", ""}, false},
					{port{8080, 81, "tcp", "192.0.2.1"}, false}, // of every address is of this one
					{port{8081, 81, "tcp", ""}, false},          // and the reverse
					{port{8081, 81, "tcp", "192.0.2.1"}, false},
					{port{9001, 81, "tcp", ""}, false}, // inside a run
					{port{8081, 81, "tcp", "192.0.2.2"}, true},
					{port{8080, 81, "udp", ""}, true},
					{port{8082, 80, "tcp", ""}, true},
				} {
					q := newPod(t, fmt.Sprintf("d%d", i), routed, with(t, plain, "backend", second), c.port)
					failure := q.tryAdd(t)
					if c.free != (failure == nil) {
						t.Errorf("%+v: %v", c.port, failure)
					}
					if failure != nil && (failure.Code != state.CodeConflict || !strings.Contains(failure.Error(), "net1/c1")) {
						t.Errorf("%+v: the refusal does not name the holder: %v", c.port, failure)
					}
					q.del(t, q.after(t))
					if now := left(t); !slices.Equal(now, before) {
						t.Errorf("%+v: ADD and DEL leave %q, want %q", c.port, now, before)
					}
				}
				runs := newPod(t, "d9", routed, with(t, plain, "backend", second), port{8999, 8999, "tcp", ""}, port{9000, 9000, "tcp", ""}, port{9001, 9001, "tcp", ""}, port{9002, 9002, "tcp", ""})
				if failure := runs.tryAdd(t); failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Error(), "net1/c1") {
					t.Errorf("a run around another: %v", failure)
				}
				runs.del(t, runs.after(t))

				// The holder goes without DEL.
				host.RemoveNetNS(t, p.netns)
				q := newPod(t, "c9", routed, with(t, plain, "backend", second), port{8080, 81, "tcp", ""}, port{9001, 80, "tcp", ""})
				host.Serve(t, q.netns, "tcp", ":81")
				q.add(t)
				q.check(t)
				q.reaches(t, "", "tcp4", "127.0.0.1:8080")
				p.del(t, p.after(t)) // late, and not the new holder's
				q.check(t)
				q.reaches(t, "", "tcp4", "127.0.0.1:8080")
				q.del(t, q.after(t))
				empty(t)
			})
		}
	}
}

// Attachments that the reference made are CHECKed, deleted and their ports
// refused by ours; those of ours in iptables are deleted by the reference.
func TestReference(t *testing.T) {
	reference := host.Reference(t)
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			p := newPod(t, "c1", routed, with(t, plain, "backend", backend), port{8080, 80, "tcp", ""}, port{8053, 53, "udp", "192.0.2.1"})
			p.bin = reference
			p.add(t)
			p.config = with(t, p.config, "backend", nil)
			p.check(t)
			for _, second := range []string{"nftables", "iptables"} {
				q := newPod(t, "c2", routed, with(t, plain, "backend", second), port{8080, 81, "tcp", ""})
				if failure := q.tryAdd(t); failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Error(), "c1") {
					t.Errorf("a port of the reference's: %v", failure)
				}
				q.call(t, q.bin, "DEL", q.after(t))
				if _, failure := q.call(t, q.bin, "DEL", with(t, q.network, "prevResult", json.RawMessage(q.prev))); failure != nil {
					t.Error(failure)
				}
			}
			p.del(t, with(t, p.after(t), "runtimeConfig", nil))
			empty(t)
		})
	}
	p := newPod(t, "c3", routed, with(t, plain, "backend", "iptables"), several()...)
	p.add(t)
	if _, failure := p.call(t, reference, "DEL", p.after(t)); failure != nil {
		t.Error(failure)
	}
	empty(t)
}

// GC removes what no valid attachment of the network has, and nothing else.
func TestGC(t *testing.T) {
	other := strings.NewReplacer("net1", "net2", "10.22.", "10.23.", "fd22:", "fd23:").Replace
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			config := with(t, plain, "backend", backend)
			keep := newPod(t, "c1", routed, config, port{8080, 80, "tcp", ""})
			gone := newPod(t, "c2", routed, config, port{8081, 80, "tcp", ""}, port{9000, 9000, "udp", ""}, port{9001, 9001, "udp", ""})
			elsewhere := newPod(t, "c2", other(routed), other(config), port{8082, 80, "tcp", ""})
			for _, p := range []*pod{keep, gone, elsewhere} {
				p.add(t)
			}
			gone.call(t, host.Bin(t), "GC", with(t, config, "cniVersion", "1.1.0")) // without a list of the valid ones
			gone.check(t)
			forgetRecords(t, "net1", "c2")
			if _, failure := keep.call(t, host.Bin(t), "GC", with(t, config, "cniVersion", "1.1.0", "cni.dev/valid-attachments", []map[string]string{{"containerID": "c1", "ifname": "eth0"}})); failure != nil {
				t.Error(failure)
			}
			keep.check(t)
			elsewhere.check(t)
			if list := strings.Join(left(t), "\n"); strings.Contains(list, "8081") || strings.Contains(list, "9000") {
				t.Errorf("GC leaves\n%s", list)
			}
			keep.del(t, keep.after(t))
			elsewhere.del(t, elsewhere.after(t))
			empty(t)
		})
	}
}

// Flows of UDP follow the mapping when it comes and when it goes, although the
// client never stops, and others are left alone.
func TestUDPFlows(t *testing.T) {
	host.Need(t, "conntrack")
	outside := host.Internet(t)
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			p := newPod(t, "c1", routed, with(t, plain, "backend", backend), port{8053, 53, "udp", ""})
			host.Serve(t, p.netns, "udp4", p.addr(t, true)+":53")
			host.Serve(t, p.netns, "udp6", "["+p.addr(t, false)+"]:53")
			for _, to := range [][2]string{{host.Uplink4, "-4"}, {"[" + host.Uplink6 + "]", "-6"}} {
				host.Serve(t, "", "udp", to[0]+":8053")
				for port := range 2 {
					host.Serve(t, "", "udp", fmt.Sprintf("%s:%d", to[0], 8054+port))
				}
				from := "198.51.100.1:40000"
				if to[1] == "-6" {
					from = "[2001:db8:ffff::1]:40000"
				}
				ask := func(address, from string) string {
					a, err := host.Ask(t, outside, "udp", address, from)
					if err != nil {
						return err.Error()
					}
					return a.Server
				}
				if server := ask(to[0]+":8053", from); server != "" {
					t.Fatalf("before ADD %q answers", server)
				}
				ask(to[0]+":8054", from)
				p.add(t)
				if server := ask(to[0]+":8053", from); server != p.netns {
					t.Errorf("%s: after ADD %q answers", to[0], server)
				}
				flows := host.Run(t, "conntrack", "-L", "-f", map[string]string{"-4": "ipv4", "-6": "ipv6"}[to[1]], "-p", "udp")
				if !strings.Contains(flows, "dport=8054") {
					t.Errorf("another flow is forgotten: %s", flows)
				}
				p.del(t, p.after(t))
				if server := ask(to[0]+":8053", from); server != "" {
					t.Errorf("%s: after DEL %q answers", to[0], server)
				}
			}
		})
	}
}

// What can't be served is refused with words, and nothing is left.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		pairs []any
		ports []port
		code  int
		says  string
	}{
		"backend":            {[]any{"backend", "ebpf"}, nil, 7, "ebpf"},
		"mark":               {[]any{"markMasqBit", 32}, nil, 7, "markMasqBit"},
		"mark and chain":     {[]any{"markMasqBit", 3, "externalSetMarkChain", "X"}, nil, 7, "externalSetMarkChain"},
		"chain and nftables": {[]any{"backend", "nftables", "externalSetMarkChain", "X"}, nil, 7, "externalSetMarkChain"},
		"syntax":             {[]any{"backend", "nftables", "conditionsV4", []string{"-s", "10.0.0.0/8"}}, nil, 7, "conditionsV4"},
		"two syntaxes":       {[]any{"conditionsV6", []string{"ip6", "saddr", "::1"}, "conditionsV4", []string{"-s", "10.0.0.0/8"}}, nil, 7, "contradicts"},
		"word":               {[]any{"conditionsV4", []string{"tcp", "dport", "80"}}, nil, 2, `"tcp"`},
		"cut":                {[]any{"conditionsV4", []string{"ip", "saddr"}}, nil, 7, "end"},
		"family":             {[]any{"conditionsV4", []string{"ip6", "saddr", "::1"}}, nil, 7, "ip6"},
		"line break":         {[]any{"conditionsV4", []string{"-s", "10.0.0.0/8\nCOMMIT"}}, nil, 7, "line break"},
		"port 0":             {nil, []port{{0, 80, "tcp", ""}}, 7, "hostPort 0"},
		"port 65536":         {nil, []port{{80, 65536, "tcp", ""}}, 7, "65536"},
		"protocol":           {nil, []port{{80, 80, "icmp", ""}}, 7, "icmp"},
		"address":            {nil, []port{{80, 80, "tcp", "host"}}, 7, "hostIP"},
		"twice":              {nil, []port{{80, 80, "tcp", ""}, {80, 81, "tcp", ""}}, 7, "81"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t, "c1", routed, with(t, plain, c.pairs...), c.ports...)
			failure := p.tryAdd(t)
			if failure == nil || int(failure.Code) != c.code || !strings.Contains(failure.Error(), c.says) {
				t.Errorf("ADD says %v, want code %d and %q", failure, c.code, c.says)
			}
			empty(t)
			if files, _ := filepath.Glob("/run/plumb/attachments/portmap@*"); files != nil {
				t.Errorf("left is %q", files)
			}
		})
	}
	p := &pod{id: "c1", netns: host.NetNS(t), ifName: "eth0"}
	if _, failure := p.call(t, host.Bin(t), "ADD", plain); failure == nil || failure.Code != 7 {
		t.Errorf("ADD without prevResult says %v", failure)
	}
}

// STATUS knows whether the back end can be used.
func TestStatus(t *testing.T) {
	p := &pod{}
	for _, backend := range []string{"nftables", "iptables"} {
		if _, failure := p.call(t, host.Bin(t), "STATUS", with(t, plain, "cniVersion", "1.1.0", "backend", backend)); failure != nil {
			t.Errorf("STATUS %s: %v", backend, failure)
		}
	}
}

// A container on several networks has its ports on each. The network attached
// last leads to it, as the default route there is the one that answers take, and
// when it goes, the one before does; in whatever order they go.
func TestSeveralNetworks(t *testing.T) {
	outside := host.Internet(t)
	ports := []port{{8080, 80, "tcp", ""}, {8080, 80, "udp", ""}, {9000, 9000, "tcp", ""}, {9001, 9001, "tcp", ""}, {8081, 80, "tcp", "127.0.0.1"}}
	for name, order := range map[string][]int{"first to last": {0, 1, 2}, "last to first": {2, 1, 0}, "from the middle": {1, 0, 2}} {
		t.Run(name, func(t *testing.T) {
			first := newPod(t, "c1", bridged, plain, ports...)
			host.Serve(t, first.netns, "tcp", ":80")
			host.Serve(t, first.netns, "udp", ":80")
			host.Serve(t, first.netns, "tcp", ":9001")
			pods := []*pod{first}
			for n := 1; n < len(order); n++ {
				other := strings.NewReplacer("net1", fmt.Sprintf("net%d", n+1), "cni0", fmt.Sprintf("cni%d", n), "10.22.", fmt.Sprintf("10.2%d.", n+2)).Replace
				only4 := with(t, other(bridged), "ipam", map[string]any{
					"type": "host-local", "subnet": fmt.Sprintf("10.2%d.0.0/24", n+2), "routes": []map[string]string{{"dst": "0.0.0.0/0"}},
				})
				p := &pod{id: "c1", netns: first.netns, ifName: fmt.Sprintf("eth%d", n), network: only4, config: other(first.config), bin: first.bin}
				pods = append(pods, p)
			}
			served := func() {
				t.Helper()
				for _, from := range []string{"", outside} {
					first.reaches(t, from, "tcp4", host.Uplink4+":8080")
					first.reaches(t, from, "udp4", host.Uplink4+":8080")
					first.reaches(t, from, "tcp4", host.Uplink4+":9001")
				}
				first.reaches(t, "", "tcp4", "127.0.0.1:8081")
			}
			first.add(t)
			served()
			for _, p := range pods[1:] {
				out, failure := p.call(t, p.bin, "ADD", p.network)
				if failure != nil {
					t.Fatal(failure)
				}
				p.prev = out
				p.add(t)
				p.add(t) // again, as a runtime may
				served()
			}
			for i, n := range order {
				for _, m := range order[i:] {
					pods[m].check(t)
				}
				p := pods[n]
				p.del(t, p.after(t))
				p.del(t, with(t, p.network, "prevResult", json.RawMessage(p.prev)))
				if i < len(order)-1 {
					served()
				}
			}
			unreachable(t, outside, "tcp4", host.Uplink4+":8080")
			empty(t)
		})
	}
}

// Nothing is left covered of a container that is gone, whether GC finds it or
// another container takes the port.
func TestSeveralNetworksGone(t *testing.T) {
	second := strings.NewReplacer("net1", "net2", "10.22.", "10.23.", "fd22:", "fd23:").Replace
	two := func(id string) (p, q *pod) {
		p = newPod(t, id, routed, plain, port{8080, 80, "tcp", ""})
		p.add(t)
		q = &pod{id: id, netns: p.netns, ifName: "eth1", network: second(routed), config: second(p.config), bin: p.bin}
		var failure *cni.Error
		if q.prev, failure = q.call(t, q.bin, "ADD", with(t, q.network, "ipam", map[string]any{"type": "host-local", "subnet": "10.23.0.0/24"})); failure != nil {
			t.Fatal(failure)
		}
		q.add(t)
		t.Cleanup(func() {
			q.call(t, q.bin, "DEL", q.config)
			q.call(t, q.bin, "DEL", q.network)
		})
		return p, q
	}
	covers := func(want bool) {
		t.Helper()
		if got := slices.ContainsFunc(left(t), func(s string) bool { return strings.HasPrefix(s, "portmap4-under: ") }); got != want {
			t.Errorf("a mapping is covered: %v, want %v", got, want)
		}
	}
	p, q := two("c1")
	covers(true)
	for _, x := range []*pod{p, q} {
		x.del(t, x.config) // without prevResult
	}
	empty(t)

	p, q = two("c2")
	covers(true)
	for _, x := range []*pod{q, p} {
		_, failure := x.call(t, x.bin, "GC", with(t, x.config, "cniVersion", "1.1.0", "cni.dev/valid-attachments", []any{}))
		if failure != nil {
			t.Error(failure)
		}
	}
	empty(t)

	p, _ = two("c3")
	host.RemoveNetNS(t, p.netns)
	next := newPod(t, "c4", routed, plain, port{8080, 80, "tcp", ""})
	host.Serve(t, next.netns, "tcp4", ":80")
	next.add(t)
	covers(false)
	next.reaches(t, "", "tcp4", "127.0.0.1:8080")
}

// A range of 10,000 ports, and as many single ones, are mapped without a process
// (there is no program to be found) and soon.
func TestMany(t *testing.T) {
	for name, offset := range map[string]int{"range": 0, "single": 10000} {
		t.Run(name, func(t *testing.T) {
			var ports []port
			for i := range 10000 {
				ports = append(ports, port{20000 + i, 20000 + i + offset, "tcp", ""})
			}
			p := newPod(t, "c1", routed, plain, ports...)
			host.Serve(t, p.netns, "tcp", fmt.Sprintf(":%d", 29999+offset))
			var took [3]time.Duration
			for i, verb := range []string{"ADD", "CHECK", "DEL"} {
				if verb == "DEL" {
					p.reaches(t, "", "tcp4", "127.0.0.1:29999")
					p.reaches(t, "", "tcp6", "[::1]:29999")
				}
				start := time.Now()
				lonely(t, p, verb)
				took[i] = time.Since(start)
			}
			t.Logf("10,000 ports: ADD %v, CHECK %v, DEL %v", took[0], took[1], took[2])
			empty(t)
		})
	}
}

// lonely calls a plugin and fails the test if it starts a process.
func lonely(t *testing.T, p *pod, verb string) {
	t.Helper()
	var out bytes.Buffer
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command(filepath.Join(p.bin, "portmap"))
	if _, err := exec.LookPath("strace"); err == nil {
		cmd = exec.Command("strace", "-f", "-e", "trace=execve", "-o", trace, filepath.Join(p.bin, "portmap"))
	}
	cmd.Env = []string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + p.id, "CNI_NETNS=" + p.netns, "CNI_IFNAME=eth0", "CNI_PATH=/nowhere"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(p.after(t)), &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", verb, err, out.String())
	}
	if data, err := os.ReadFile(trace); err == nil && strings.Count(string(data), "execve(") != 1 {
		t.Errorf("%s starts processes:\n%s", verb, data)
	}
}
