package together

import (
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// A policy is an admin who drops what is forwarded, and lets one host port in.
type policy struct{ tools []string }

// Rules of ours in the tables of iptables-nft are there in good time, unless
// another back end is asked for. Legacy ones are made where they are in use.
func (p *policy) shutsOut(backend string) bool {
	return backend == "nftables" || p.tools[0] == "iptables-legacy"
}

func (p *policy) start(t *testing.T, _ *container) {
	host.Serve(t, "", "tcp", ":2222")
	for _, tool := range p.tools {
		host.Run(t, tool, "-P", "FORWARD", "DROP")
		host.Run(t, tool, "-A", "INPUT", "-p", "tcp", "--dport", "2222", "-j", "ACCEPT")
	}
}

func (p *policy) ways(ours, _ *container) []way {
	return []way{{"the host's own port", ours.outside, "tcp", host.Uplink4 + ":2222", "", ""}, {"the host's own port", ours.outside, "tcp", "[" + host.Uplink6 + "]:2222", "", ""}}
}

func (p *policy) events() []event {
	return []event{{"iptables-save and iptables-restore", func(t *testing.T) { reload(t, p.tools...) }}}
}

// A policy of DROP at FORWARD keeps nothing of ours out.
func TestPolicy(t *testing.T) {
	for _, kind := range []string{"nft", "legacy"} {
		t.Run(kind, func(t *testing.T) {
			eachWay(t, func(t *testing.T, backend string, before bool) { share(t, backend, before, &policy{families(kind)}) })
		})
	}
}
