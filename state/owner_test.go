package state

import (
	"fmt"
	"strings"
	"testing"
)

// TestStale tells the attachments of a network that are not valid from others, by their tags too.
func TestStale(t *testing.T) {
	long := strings.Repeat("n", 2*maxTagNetwork)
	for _, network := range []string{"net", long} {
		valid := []Owner{{network, "one", "eth0"}, {network, strings.Repeat("c", 2*maxTagContainer), "eth0"}}
		stale := Stale(network, valid)
		for _, o := range valid {
			tagged, ok := ParseTag(o.Tag())
			if !ok || stale(o) || stale(tagged) {
				t.Errorf("%s is stale", o)
			}
		}
		for o, want := range map[Owner]bool{
			{network, "one", "eth1"}: true, {network, "two", "eth0"}: true,
			{network + "2", "two", "eth0"}: false, {"", "two", "eth0"}: false,
		} {
			if stale(o) != want {
				t.Errorf("stale(%s) is %v on %s", o, !want, network)
			}
		}
	}
	if !Stale("net", nil)(Owner{Network: "net", ContainerID: "one", IfName: "eth0"}) {
		t.Error("without valid attachments one is not stale")
	}
}

// BenchmarkStale looks for what is stale among as many objects as there are valid attachments.
func BenchmarkStale(b *testing.B) {
	for _, n := range []int{100, 10000} {
		owners := make([]Owner, n)
		for i := range owners {
			owners[i] = Owner{"podnet", fmt.Sprintf("%064x", i), "eth0"}
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				stale := Stale("podnet", owners)
				for _, o := range owners {
					if stale(o) {
						b.Fatalf("%s is stale", o)
					}
				}
			}
		})
	}
}
