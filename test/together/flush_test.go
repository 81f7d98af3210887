package together

import (
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// Whoever flushes our rules is told on by CHECK, and DEL and ADD make them
// again, whatever else is left.
func TestFlush(t *testing.T) {
	for _, x := range []struct {
		backend, command string
		says             string // CHECK
	}{
		{"", "nft flush ruleset", "missing"},
		{"nftables", "nft flush ruleset", "missing"},
		{"iptables", "nft flush ruleset", "missing"},
		{"", "nft delete table inet plumb", "missing"},
		{"", "iptables -F; ip6tables -F", "CNI-FORWARD"},
		{"iptables", "iptables -F; ip6tables -F", "CNI-FORWARD"},
		{"iptables", "iptables -F; ip6tables -F; iptables -X; ip6tables -X", "CNI-FORWARD"},
		{"iptables", "iptables -t nat -F; ip6tables -t nat -F", "missing"},
		{"iptables", "iptables -t nat -F; iptables -t nat -X", "missing"},
		{"iptables", "iptables -t nat -D POSTROUTING -j CNI-HOSTPORT-MASQ -m comment --comment 'CNI portfwd requiring masquerade'", "CNI-HOSTPORT-MASQ"},
	} {
		t.Run(x.backend+" "+x.command, func(t *testing.T) {
			n := newNetwork(t, x.backend)
			(&policy{families("nft")}).start(t, nil)
			ours, visitor := n.run(t, "ours", true), n.run(t, "visitor", false)
			open(t, "at first", ours.all(visitor))
			ours.check(t, "at first")
			host.Run(t, "sh", "-ec", x.command)
			ours.complains(t, "after the flush", x.says)
			ours.renew(t)
			visitor.renew(t)
			open(t, "after DEL and ADD", ours.all(visitor))
			ours.check(t, "after DEL and ADD")
		})
	}
}
