package rtnl_test

import (
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// TestSupports compares what the kernel is said to support with what ip can make, and sees that asking makes nothing.
func TestSupports(t *testing.T) {
	c, ns := dial(t)
	before := host.Run(t, "nsenter", "--net="+ns, "ip", "-d", "link")
	for _, kind := range []string{"veth", "bridge", "macvlan", "ipvlan", "vlan", "dummy", "vrf", "ifb"} {
		got, err := c.Supports(kind)
		if err != nil || got != host.Has(t, kind) {
			t.Errorf("Supports(%q) is %v, %v; ip says otherwise", kind, got, err)
		}
	}
	if got, err := c.Supports("nonesuch"); err != nil || got {
		t.Errorf(`Supports("nonesuch") is %v, %v`, got, err)
	}
	got, err := c.SupportsVLANs()
	if err != nil || got != host.Has(t, "bridge-vlan") {
		t.Errorf("SupportsVLANs is %v, %v; ip says otherwise", got, err)
	}
	if after := host.Run(t, "nsenter", "--net="+ns, "ip", "-d", "link"); after != before {
		t.Errorf("asking changed the links from\n%s\nto\n%s", before, after)
	}
}
