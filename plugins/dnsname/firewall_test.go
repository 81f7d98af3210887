package dnsname_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

// wipe empties the packet filter now and at the test's end.
func wipe(t *testing.T) {
	t.Helper()
	clean := func() {
		host.Run(t, "nft", "flush", "ruleset")
		for _, tool := range []string{"iptables-legacy", "ip6tables-legacy"} {
			host.Run(t, tool, "-P", "INPUT", "ACCEPT")
			host.Run(t, tool, "-F")
			host.Run(t, tool, "-X")
		}
	}
	clean()
	t.Cleanup(clean)
}

// closed are the ways in which a host drops what is for itself.
var closed = map[string]string{
	"iptables-nft policy":    `iptables-nft -P INPUT DROP; ip6tables-nft -P INPUT DROP`,
	"iptables-nft rule":      `iptables-nft -A INPUT ! -i lo -j REJECT; ip6tables-nft -A INPUT ! -i lo -p udp -j REJECT; ip6tables-nft -A INPUT ! -i lo -p tcp -j REJECT`,
	"iptables-legacy policy": `iptables-legacy -P INPUT DROP; ip6tables-legacy -P INPUT DROP`,
	"iptables-legacy rule":   `iptables-legacy -A INPUT ! -i lo -j DROP; ip6tables-legacy -A INPUT ! -i lo -p udp -j DROP; ip6tables-legacy -A INPUT ! -i lo -p tcp -j DROP`,
	"nft policy":             `nft 'table inet strict { chain i { type filter hook input priority 10; policy drop; iif lo accept; }; }'`,
	"nft rule":               `nft 'table inet strict { chain i { type filter hook input priority -10; iif lo accept; counter reject with icmpx admin-prohibited; }; }'`,
	"nft tables by family": `nft 'table ip strict { chain i { type filter hook input priority 10; policy drop; iif lo accept; }; }'
		nft 'table ip6 strict { chain i { type filter hook input priority 10; policy drop; iif lo accept; }; }'`,
}

// neighbours lets pass what a host has to that drops everything else: the protocol
// by which IPv6 finds who is on the link, and what the host says to itself.
const neighbours = `
	case "$1" in
	*iptables-nft*) for t in iptables-nft ip6tables-nft; do $t -I INPUT -i lo -j ACCEPT; done; ip6tables-nft -I INPUT -p icmpv6 -j ACCEPT ;;
	*iptables-legacy*) for t in iptables-legacy ip6tables-legacy; do $t -I INPUT -i lo -j ACCEPT; done; ip6tables-legacy -I INPUT -p icmpv6 -j ACCEPT ;;
	*'table inet'*) nft insert rule inet strict i icmpv6 type '{ nd-neighbor-solicit, nd-neighbor-advert }' accept ;;
	*) nft insert rule ip6 strict i icmpv6 type '{ nd-neighbor-solicit, nd-neighbor-advert }' accept ;;
	esac`

// Containers are answered on a host that drops all that it is sent, and nothing else
// of it is opened; what lets them in goes with the last.
func TestClosedHost(t *testing.T) {
	for way, commands := range closed {
		t.Run(way, func(t *testing.T) {
			wipe(t)
			p := unnamed(t, 60, 2)
			// A port of the host's that stays closed.
			serve(t, "127.0.0.53#5300", map[string]string{"www.example.com": "192.0.2.80"}, "--listen-address=10.60.0.1")
			host.Run(t, "sh", "-ec", commands)
			host.Run(t, "sh", "-ec", neighbours, "sh", commands)
			before := rules(t)
			p.name(t, "p", "")
			p.Add(t)
			p.Check(t)
			p.knows(t, "p", p.v4, p.v6)
			if out := p.dig(t, "+time=1", "-p", "5300", "@10.60.0.1", "www.example.com"); strings.Contains(out, "192.0.2.80") {
				t.Errorf("another port is open:\n%s", out)
			}
			q := newPod(t, 61, 2, "q", "")
			q.knows(t, "q", q.v4, q.v6)
			during := rules(t)

			// The tool that the rules are written for understands them.
			if way != "nft policy" {
				host.Run(t, "sh", "-ec", `iptables-nft -S >/dev/null; ip6tables-nft -S >/dev/null`)
			}
			if strings.HasPrefix(way, "iptables-") {
				tool := strings.Fields(way)[0]
				for _, line := range []string{"-A INPUT -d 10.60.0.1/32 -p udp -m udp --dport 53 -m comment --comment \"plumb dns\" -j ACCEPT", "-A INPUT -d 10.60.0.1/32 -p tcp -m tcp --dport 53 -m comment --comment \"plumb dns\" -j ACCEPT"} {
					if out := host.Run(t, tool, "-S", "INPUT"); strings.Count(out, line) != 1 {
						t.Errorf("%s lists\n%s and not once %s", tool, out, line)
					}
				}
			}

			// The next ADD does nothing again, and mends what somebody has flushed.
			p.Add(t)
			if got := rules(t); got != during {
				t.Errorf("after another ADD there is\n%s, was\n%s", got, during)
			}
			damage(t, way)
			if got := p.Drifts(t, state.CodeDrift); !strings.Contains(got, "plumb") {
				t.Errorf("CHECK says %q", got)
			}
			p.Add(t)
			p.Check(t)
			q.knows(t, "q", q.v4, q.v6)

			// A killed resolver leaves it to the next.
			kill(t, resolver(t))
			q.Del(t)
			p.knows(t, "p", p.v4, p.v6)
			if got := rules(t); strings.Contains(got, "10.61.0.1") || !strings.Contains(got, "10.60.0.1") {
				t.Errorf("with one network left there is\n%s", got)
			}
			p.Del(t)
			if got := rules(t); got != before {
				t.Errorf("left are\n%s, before were\n%s", got, before)
			}
			nothing(t)
		})
	}
}

// damage removes what lets queries in, as a reload of the host's own rules does.
func damage(t *testing.T, way string) {
	t.Helper()
	switch {
	case strings.HasPrefix(way, "iptables-"):
		tool := strings.Fields(way)[0]
		host.Run(t, "sh", "-ec", fmt.Sprintf(`%[1]s -S INPUT | grep 10.60.0.1 | sed 's/^-A/%[1]s -D/' | sh`, tool))
	case way == "nft tables by family":
		host.Run(t, "nft", "flush", "chain", "ip", "strict", "plumb-dns-accept")
	default:
		host.Run(t, "nft", "delete", "element", "inet", "strict", "plumb-dns4", "{ 10.60.0.1 }")
	}
}

// rules lists what the packet filter has, without counters and handles.
func rules(t *testing.T) string {
	t.Helper()
	out := host.Run(t, "nft", "list", "ruleset")
	for _, tool := range []string{"iptables-legacy", "ip6tables-legacy"} {
		out += host.Run(t, tool, "-S")
	}
	return regexp.MustCompile(`packets \d+ bytes \d+`).ReplaceAllString(out, "")
}
