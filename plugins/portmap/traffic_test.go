package portmap_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// Ports are reached from outside, from the host by its addresses and by its
// loopback ones, from the container itself and from its neighbour, in both
// families and with both back ends, and the network's kind does not matter.
func TestTraffic(t *testing.T) {
	keys.Covers(t, "portmap", "backend", "runtimeConfig.portMappings.hostPort", "runtimeConfig.portMappings.containerPort", "runtimeConfig.portMappings.protocol")
	outside := host.Internet(t)
	host.Run(t, "sysctl", "-q", "net.bridge.bridge-nf-call-ip6tables=0")
	t.Cleanup(func() { host.Run(t, "sysctl", "-q", "net.bridge.bridge-nf-call-ip6tables=1") })
	for name, network := range map[string]string{"bridge": bridged, "ptp": routed} {
		for _, backend := range []string{"nftables", "iptables"} {
			t.Run(name+"/"+backend, func(t *testing.T) {
				p := newPod(t, "c1", network, with(t, plain, "backend", backend),
					port{8080, 80, "tcp", ""}, port{8053, 53, "udp", ""}, port{8081, 80, "TCP", "127.0.0.1"}, port{9000, 9000, "tcp", ""}, port{9001, 9001, "tcp", ""})
				neighbour := newPod(t, "c2", network, plain)
				for _, s := range [][2]string{{"tcp", ":80"}, {"tcp", ":9000"}, {"tcp", ":9001"}} {
					host.Serve(t, p.netns, s[0], s[1])
				}
				// A server of UDP answers from the address that it was asked at.
				host.Serve(t, p.netns, "udp4", p.addr(t, true)+":53")
				host.Serve(t, p.netns, "udp6", "["+p.addr(t, false)+"]:53")
				p.add(t)
				p.check(t)

				if from := p.reaches(t, outside, "tcp4", host.Uplink4+":8080"); from != "198.51.100.1" {
					t.Errorf("a connection from outside seems to come from %s", from)
				}
				p.reaches(t, outside, "tcp6", "["+host.Uplink6+"]:8080")
				p.reaches(t, outside, "udp4", host.Uplink4+":8053")
				p.reaches(t, outside, "udp6", "["+host.Uplink6+"]:8053")
				p.reaches(t, outside, "tcp4", host.Uplink4+":9000")
				p.reaches(t, outside, "tcp6", "["+host.Uplink6+"]:9001")
				for _, from := range []string{"", p.netns, neighbour.netns} {
					p.reaches(t, from, "tcp4", host.Uplink4+":8080")
					p.reaches(t, from, "tcp6", "["+host.Uplink6+"]:8080")
					p.reaches(t, from, "udp4", host.Uplink4+":8053")
					p.reaches(t, from, "udp6", "["+host.Uplink6+"]:8053")
					p.reaches(t, from, "tcp4", host.Uplink4+":9001")
				}
				p.reaches(t, "", "tcp4", "127.0.0.1:8080")
				p.reaches(t, "", "tcp4", "127.0.0.1:8081")
				p.reaches(t, "", "udp4", "127.0.0.1:8053")
				p.reaches(t, "", "tcp6", "[::1]:8080")
				p.reaches(t, "", "udp6", "[::1]:8053")
				unreachable(t, outside, "tcp4", host.Uplink4+":8081")

				p.del(t, p.after(t))
				empty(t)
				unreachable(t, outside, "tcp4", host.Uplink4+":8080")
			})
		}
	}
}

// Only traffic to the host itself is taken (CVE-2025-67499): not what it
// forwards, not even to the same port.
func TestOnlyToTheHost(t *testing.T) {
	outside := host.Internet(t)
	host.Serve(t, outside, "tcp", host.Internet4+":8080")
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			p := newPod(t, "c1", bridged, with(t, plain, "backend", backend), port{8080, 80, "tcp", ""})
			host.Serve(t, p.netns, "tcp", ":80")
			p.add(t)
			a, err := host.Ask(t, p.netns, "tcp", host.Internet4+":8080", "")
			if err != nil || a.Server != outside {
				t.Errorf("a connection through the host ends in %q (%v), want %q", a.Server, err, outside)
			}
			p.del(t, p.after(t))
		})
	}
}

// Behind a bridge whose packets are filtered before they are routed, ::1 can't
// be served, and is left alone.
func TestLoopbackBehindFilteredBridge(t *testing.T) {
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			p := newPod(t, "c1", bridged, with(t, plain, "backend", backend), port{8080, 80, "tcp", ""})
			p.add(t)
			p.check(t)
			host.Serve(t, "", "tcp", "[::1]:8080")
			if a, err := host.Ask(t, "", "tcp", "[::1]:8080", ""); err != nil || a.Server != "" {
				t.Errorf("the host's own server answers with %+v, %v", a, err)
			}
			q := newPod(t, "c2", bridged, with(t, plain, "backend", backend), port{8081, 80, "tcp", "::1"})
			if failure := q.tryAdd(t); failure == nil || failure.Code != 2 || !strings.Contains(failure.Error(), "bridge-nf-call-ip6tables") {
				t.Errorf("ADD with hostIP ::1 says %v", failure)
			}
			p.del(t, p.after(t))
			empty(t)
		})
	}
}

// Host addresses narrow a mapping down.
func TestHostIP(t *testing.T) {
	keys.Covers(t, "portmap", "runtimeConfig.portMappings.hostIP")
	outside := host.Internet(t)
	host.Run(t, "ip", "addr", "add", "198.51.100.3/24", "dev", host.Uplink)
	for i, c := range []struct {
		hostIP     string
		first      bool // by Uplink4
		second     bool // by 198.51.100.3
		by6, local bool
	}{
		{"", true, true, true, true},
		{"0.0.0.0", true, true, false, true},
		{"::", false, false, true, false},
		{host.Uplink4, true, false, false, false},
		{"198.51.100.3", false, true, false, false},
		{host.Uplink6, false, false, true, false},
		{"127.0.0.1", false, false, false, true},
	} {
		for _, backend := range []string{"nftables", "iptables"} {
			t.Run(fmt.Sprintf("%s/%s", c.hostIP, backend), func(t *testing.T) {
				p := newPod(t, fmt.Sprintf("c%d", i), bridged, with(t, plain, "backend", backend), port{8080, 80, "tcp", c.hostIP})
				host.Serve(t, p.netns, "tcp", ":80")
				p.add(t)
				p.check(t)
				for _, way := range []struct {
					from, address string
					open          bool
				}{
					{outside, host.Uplink4 + ":8080", c.first}, {outside, "198.51.100.3:8080", c.second},
					{outside, "[" + host.Uplink6 + "]:8080", c.by6}, {"", "127.0.0.1:8080", c.local},
				} {
					if way.open {
						p.reaches(t, way.from, "tcp", way.address)
					} else {
						unreachable(t, way.from, "tcp", way.address)
					}
				}
				p.del(t, p.after(t))
				empty(t)
			})
		}
	}
}

// Without snat, and with masqAll, the pod sees who connects, or does not.
func TestSource(t *testing.T) {
	keys.Covers(t, "portmap", "snat", "masqAll")
	outside := host.Internet(t)
	for _, backend := range []string{"nftables", "iptables"} {
		for _, c := range []struct {
			name     string
			pairs    []any
			from     string // as the pod sees a connection from outside
			loopback bool
		}{
			{"default", nil, "198.51.100.1", true},
			{"without", []any{"snat", false}, "198.51.100.1", false},
			{"all", []any{"masqAll", true}, "10.22.0.1", true},
			{"all but without", []any{"masqAll", true, "snat", false}, "198.51.100.1", false},
		} {
			t.Run(c.name+"/"+backend, func(t *testing.T) {
				p := newPod(t, "c1", routed, with(t, with(t, plain, "backend", backend), c.pairs...), port{8080, 80, "tcp", ""})
				host.Serve(t, p.netns, "tcp", ":80")
				p.add(t)
				p.check(t)
				if from := p.reaches(t, outside, "tcp4", host.Uplink4+":8080"); from != c.from {
					t.Errorf("a connection from outside seems to come from %s, want %s", from, c.from)
				}
				if c.loopback {
					p.reaches(t, "", "tcp4", "127.0.0.1:8080")
					p.reaches(t, p.netns, "tcp4", host.Uplink4+":8080")
				} else {
					unreachable(t, "", "tcp4", "127.0.0.1:8080")
				}
				p.del(t, p.after(t))
				empty(t)
			})
		}
	}
}

// Conditions exclude what does not meet them, each in the syntax that says
// which back end is meant.
func TestConditions(t *testing.T) {
	keys.Covers(t, "portmap", "conditionsV4", "conditionsV6")
	outside := host.Internet(t)
	host.Run(t, "ip", "addr", "add", "198.51.100.3/24", "dev", host.Uplink)
	for name, c := range map[string]struct {
		v4, v6         []string
		first4, second bool
		first6         bool
	}{
		"nft":             {[]string{"ip", "daddr", "!=", "198.51.100.3/32"}, nil, true, false, true},
		"nft set":         {[]string{"ip daddr {198.51.100.3, 198.51.100.4}"}, nil, false, true, true},
		"nft not a set":   {[]string{"ip", "daddr", "!=", "{", "198.51.100.3,198.51.100.4", "}"}, nil, true, false, true},
		"nft two":         {[]string{"ip", "saddr", "198.51.100.0/24", "ip", "daddr", "!=", "198.51.100.3"}, nil, true, false, true},
		"nft interface":   {[]string{"meta", "iifname", "\"eth*\""}, []string{"iifname", "!=", "eth0"}, true, true, false},
		"nft mark":        {[]string{"meta", "mark", "!=", "0"}, []string{"mark", "0"}, false, false, true},
		"nft6":            {nil, []string{"ip6", "saddr", "!=", "2001:db8:ffff::/64"}, true, true, false},
		"iptables":        {[]string{"!", "-d", "198.51.100.3"}, nil, true, false, true},
		"iptables family": {nil, []string{"-s", "fc00::/7"}, true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			config := plain
			if c.v4 != nil {
				config = with(t, config, "conditionsV4", c.v4)
			}
			if c.v6 != nil {
				config = with(t, config, "conditionsV6", c.v6)
			}
			p := newPod(t, "c1", routed, config, port{8080, 80, "tcp", ""}, port{9000, 9000, "tcp", ""}, port{9001, 9001, "tcp", ""})
			for _, at := range []string{":80", ":9000"} {
				host.Serve(t, p.netns, "tcp", at)
			}
			p.add(t)
			p.check(t)
			for _, way := range []struct {
				address string
				open    bool
			}{{host.Uplink4, c.first4}, {"198.51.100.3", c.second}, {"[" + host.Uplink6 + "]", c.first6}} {
				for _, at := range []string{":8080", ":9000"} {
					if way.open {
						p.reaches(t, outside, "tcp", way.address+at)
					} else {
						unreachable(t, outside, "tcp", way.address+at)
					}
				}
			}
			// Who has no conditions is not affected, and both hold their ports.
			q := newPod(t, "c2", routed, plain, port{8081, 80, "tcp", ""})
			host.Serve(t, q.netns, "tcp", ":80")
			q.add(t)
			q.reaches(t, outside, "tcp", "198.51.100.3:8081")
			r := newPod(t, "c3", routed, plain, port{8080, 80, "tcp", ""})
			if failure := r.tryAdd(t); failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Error(), "net1/c1") {
				t.Errorf("ADD of a port that is mapped under conditions says %v", failure)
			}
			q.del(t, q.after(t))
			p.del(t, p.after(t))
			empty(t)
		})
	}
}

// iptables' marks are those that are asked for.
func TestMark(t *testing.T) {
	keys.Covers(t, "portmap", "markMasqBit", "externalSetMarkChain")
	outside := host.Internet(t)
	p := newPod(t, "c1", routed, with(t, plain, "backend", "iptables", "markMasqBit", 7), port{8080, 80, "tcp", ""})
	host.Serve(t, p.netns, "tcp", ":80")
	p.add(t)
	p.check(t)
	p.reaches(t, "", "tcp4", "127.0.0.1:8080")
	if saved := host.Run(t, "iptables-save", "-t", "nat"); !strings.Contains(saved, "--set-xmark 0x80/0x80") {
		t.Errorf("no mark of bit 7 is set:\n%s", saved)
	}
	p.del(t, p.after(t))

	q := newPod(t, "c2", routed, with(t, plain, "externalSetMarkChain", "MY-MARK"), port{8081, 80, "tcp", ""})
	if failure := q.tryAdd(t); failure == nil {
		t.Error("ADD succeeds with a chain that is not there")
	}
	empty(t)
	for _, tool := range []string{"iptables", "ip6tables"} {
		host.Run(t, tool, "-t", "nat", "-N", "MY-MARK")
	}
	q.add(t)
	q.check(t)
	host.Serve(t, q.netns, "tcp", ":80")
	q.reaches(t, outside, "tcp4", host.Uplink4+":8081")
	saved := host.Run(t, "iptables-save", "-t", "nat")
	if !strings.Contains(saved, "-j MY-MARK") {
		t.Errorf("nothing leads to MY-MARK:\n%s", saved)
	}
	q.del(t, q.after(t))
	empty(t)
}
