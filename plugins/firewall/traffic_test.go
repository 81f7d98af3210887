package firewall_test

import (
	"os"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// closed are the ways in which a host drops what is forwarded.
var closed = map[string]string{
	"iptables-nft policy":    `iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP`,
	"iptables-nft rule":      `iptables-nft -A FORWARD -j REJECT; ip6tables-nft -A FORWARD -j REJECT`,
	"iptables-legacy policy": `iptables-legacy -P FORWARD DROP; ip6tables-legacy -P FORWARD DROP`,
	"iptables-legacy rule":   `iptables-legacy -A FORWARD -j DROP; ip6tables-legacy -A FORWARD -j DROP`,
	"nft policy":             `nft 'table inet strict { chain f { type filter hook forward priority 10; policy drop; ip daddr 192.0.2.1 accept; }; }'`,
	"nft rule":               `nft 'table inet strict { chain f { type filter hook forward priority -10; ip daddr 192.0.2.1 accept; counter reject with icmpx admin-prohibited; }; }'`,
	"nft tables by family": `nft 'table ip strict { chain f { type filter hook forward priority 10; policy drop; }; }'
		nft 'table ip6 strict { chain f { type filter hook forward priority 10; policy drop; }; }'`,
}

// The rule goes where it counts.
func TestClosedHost(t *testing.T) {
	keys.Covers(t, "firewall", "backend")
	host.Internet(t)
	for way, commands := range closed {
		for _, backend := range []string{"", "nftables", "iptables"} {
			t.Run(way+" "+backend, func(t *testing.T) {
				wipe(t)
				p := newPod(t, 70, 2, `,"backend":"`+backend+`"`)
				q := newPod(t, 70, 3, `,"backend":"`+backend+`"`)
				p.hearsInternet(t, "an open host", "4+6")
				script(t, commands)
				p.hearsInternet(t, "the closed host", "")
				before := host.Snapshot(t)
				p.Add(t)
				p.Check(t)
				script(t, "iptables-nft -S >/dev/null; ip6tables-nft -S >/dev/null") // they have to understand all that is in their tables
				status := p.TryStatus(t)
				if backend == "iptables" && strings.HasPrefix(way, "nft") {
					if status == nil || status.Code != cni.CodeUnavailable || !strings.Contains(status.Msg, "strict f") {
						t.Errorf("STATUS: %v", status)
					}
					return
				}
				if status != nil {
					t.Errorf("STATUS: %v", status)
				}
				p.hearsInternet(t, "after ADD", "4+6")
				q.hearsInternet(t, "a container that was not added", "")
				q.Add(t)
				q.hearsInternet(t, "the second container", "4+6")
				q.Del(t)
				p.Check(t)
				p.Del(t)
				p.hearsInternet(t, "after DEL", "")
				p.gone(t)
				q.gone(t)
				for _, line := range before {
					if strings.Contains(line, "strict") && !contains(host.Snapshot(t), line) {
						t.Errorf("another's %s is gone", line)
					}
				}
			})
		}
	}
}

func contains(lines []string, line string) bool {
	for _, l := range lines {
		if l == line {
			return true
		}
	}
	return false
}

// firewalld's table is the admin's: without firewalld to ask, STATUS says so.
func TestUntouchable(t *testing.T) {
	wipe(t)
	p := newPod(t, 70, 2, `,"backend":"nftables"`)
	script(t, `nft 'table inet firewalld { chain f { type filter hook forward priority 10; reject; }; }'`)
	if s := p.TryStatus(t); s == nil || s.Code != cni.CodeUnavailable || !strings.Contains(s.Msg, "inet firewalld f") {
		t.Errorf("STATUS: %v", s)
	}
}

// bridgeNF switches whether bridged packets go through iptables.
func bridgeNF(t *testing.T, on string) {
	t.Helper()
	host.Need(t, "bridge-nf")
	for _, name := range []string{"iptables", "ip6tables"} {
		path := "/proc/sys/net/bridge/bridge-nf-call-" + name
		was, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, []byte(on), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.WriteFile(path, was, 0) }) //nolint:errcheck // it could be written above
	}
}

// Who reaches whom with each policy, whether bridged packets go through
// iptables or not, and also on a host that is closed.
func TestIngressPolicy(t *testing.T) {
	keys.Covers(t, "firewall", "ingressPolicy")
	host.Internet(t)
	for _, x := range []struct{ policy, neighbour, other string }{
		{"open", "4+6", "4+6"}, {"same-bridge", "4+6", ""}, {"isolated", "", ""},
	} {
		for _, backend := range []string{"", "nftables"} {
			for _, on := range []string{"0", "1"} {
				t.Run(x.policy+" "+backend+" bridge-nf "+on, func(t *testing.T) {
					bridgeNF(t, on)
					wipe(t)
					more := `,"backend":"` + backend + `","ingressPolicy":"` + x.policy + `"`
					p, neighbour, other := newPod(t, 71, 2, more), newPod(t, 71, 3, more), newPod(t, 72, 4, more)
					for _, q := range []*pod{p, neighbour, other} {
						q.Add(t)
						q.Check(t)
						q.bridge.Check(t) // which sees what is behind it in the list
					}
					p.Add(t) // again
					p.Check(t)
					see := func(when string) {
						t.Helper()
						p.hears(t, neighbour, when, x.neighbour)
						p.hears(t, other, when, x.other)
						p.hearsInternet(t, when, "4+6")
					}
					see("on an open host")
					if x.policy == "open" {
						return
					}
					script(t, closed["iptables-nft policy"])
					for _, q := range []*pod{p, neighbour, other} {
						q.Add(t)
					}
					see("on a closed host")
				})
			}
		}
	}
}

// Rules that the user has in the admin chain come first, and stay.
func TestAdminChain(t *testing.T) {
	keys.Covers(t, "firewall", "iptablesAdminChainName")
	host.Internet(t)
	for _, name := range []string{"CNI-ADMIN", "MY-CHAIN"} {
		t.Run(name, func(t *testing.T) {
			wipe(t)
			more := ""
			if name != "CNI-ADMIN" {
				more = `,"iptablesAdminChainName":"` + name + `"`
			}
			p := newPod(t, 70, 2, more)
			script(t, "iptables -N "+name+"; iptables -A "+name+" -s "+p.v4+" -j DROP; ip6tables -N "+name)
			p.Add(t)
			p.Check(t)
			if got := hears(p.NetNS, "", host.Internet4); got != "" {
				t.Error("the rule of the admin chain does not hold")
			}
			p.Del(t)
			if rules := host.Run(t, "iptables", "-S", name); !strings.Contains(rules, p.v4) {
				t.Errorf("the user's rule is gone: %s", rules)
			}
		})
	}
}

// What is published is let in where the sets are.
func TestPublished(t *testing.T) {
	host.Need(t, "nft-inet-nat")
	internet := host.Internet(t)
	wipe(t)
	p := newPod(t, 70, 2, `,"backend":"nftables"`)
	script(t, closed["nft policy"])
	script(t, `nft 'table ip published { chain pre { type nat hook prerouting priority -100; tcp dport 8080 dnat to `+p.v4+`:80; }; }'`)
	host.Serve(t, p.NetNS, "tcp4", p.v4+":80")
	host.RunIn(t, internet, "ip", "route", "add", "10.70.0.0/24", "via", host.Uplink4)
	p.Add(t)
	if _, err := host.Ask(t, internet, "tcp4", host.Uplink4+":8080", ""); err != nil {
		t.Error("a published port: ", err)
	}
	if _, err := host.Ask(t, internet, "tcp4", p.v4+":80", ""); err == nil {
		t.Error("a port that is not published is open")
	}
}
