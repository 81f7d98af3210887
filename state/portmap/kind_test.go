package portmap

import (
	"net/netip"
	"testing"

	"github.com/plumb-cni/plumb/state"
)

// What is recorded names the ports; what DEL computes does not, and would be looked for among everybody's.
func TestCovers(t *testing.T) {
	owner, addr := state.Owner{Network: "net", ContainerID: "c1", IfName: "eth0"}, netip.MustParseAddr("10.9.0.2")
	p, err := New(owner, []Mapping{{Protocol: 6, HostPort: 8080, ContainerPort: 80}}, []netip.Prefix{netip.PrefixFrom(addr, 24)}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	other := owner
	other.IfName = "eth1"
	for _, c := range []struct {
		recorded, computed state.Key
		covers             bool
	}{
		{p.Key(), Key(owner, addr), true},
		{p.Key(), Key(owner), true},
		{p.Key(), Key(other, addr), false},
		{Key(owner, addr), Key(owner), false},
		{Key(owner), p.Key(), false},
	} {
		if got := (Kind{}).Covers(c.recorded, c.computed); got != c.covers {
			t.Errorf("%q covers %q: %t", c.recorded.Name, c.computed.Name, got)
		}
	}
}
