package conformance

import (
	"testing"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/within"
)

// TestInProcess runs again what says most about the answers of plugins, without a process for each call.
func TestInProcess(t *testing.T) {
	caller = within.Plugin
	defer func() { caller = host.Plugin }()
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"Life", TestLife}, {"Del", TestDel}, {"DelOfHostNamespace", TestDelOfHostNamespace}, {"Refusals", TestRefusals},
		{"ForeignIPAM", TestForeignIPAM}, {"ForeignIPAMFails", TestForeignIPAMFails}, {"GC", TestGC},
		{"CheckFindsDamage", TestCheckFindsDamage}, {"SecondAdd", TestSecondAdd}, {"Crowd", TestCrowd},
	} {
		t.Run(test.name, test.run)
	}
}
