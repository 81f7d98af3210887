package conformance

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// TestCrowd adds 200 containers to one bridge, 32 at a time, and deletes them so.
func TestCrowd(t *testing.T) {
	host.Need(t, "nft-inet-nat")
	removeAtEnd(t, bridgeName)
	host.Bin(t)
	before := host.Snapshot(t)
	network := bridgeConfig("crowd", `"isDefaultGateway":true,"ipMasq":true,"ipam":`+hostLocal("46"))
	const members = 200
	crowd := make([]*attachment, members)
	for i := range crowd {
		crowd[i] = attach(t, network, fmt.Sprintf("member-%d", i))
	}
	all := func(verb cni.Verb, f func(a *attachment) *cni.Error) {
		t.Helper()
		var group sync.WaitGroup
		slots := make(chan bool, 32)
		for _, a := range crowd {
			slots <- true
			group.Go(func() {
				defer func() { <-slots }()
				if failure := f(a); failure != nil {
					t.Errorf("%s %s: %v", verb, a.id, failure)
				}
			})
		}
		group.Wait()
	}
	var lock sync.Mutex
	holders := make(map[netip.Addr]string)
	all(cni.VerbAdd, func(a *attachment) *cni.Error {
		result, failure := a.tryAdd(t)
		if failure != nil {
			return failure
		}
		lock.Lock()
		defer lock.Unlock()
		for _, ip := range result.IPs {
			if other, ok := holders[ip.Address.Addr()]; ok {
				t.Errorf("%s has %s, and so has %s", a.id, ip.Address, other)
			}
			holders[ip.Address.Addr()] = a.id
		}
		return nil
	})
	if len(holders) != 2*members {
		t.Errorf("%d addresses were given, want %d", len(holders), 2*members)
	}
	if files := addressFiles(t, "crowd"); len(files) != 2*members {
		t.Errorf("there are %d address records, want %d", len(files), 2*members)
	}
	ports := 0
	for _, l := range host.Links(t, "") {
		if l.Master == bridgeName {
			ports++
		}
	}
	if ports != members {
		t.Errorf("the bridge has %d ports, want %d", ports, members)
	}
	for _, a := range []*attachment{crowd[0], crowd[members/2], crowd[members-1]} {
		a.check(t)
		host.Ping(t, a.netns, gateway4)
		host.Ping(t, a.netns, gateway6)
	}
	all(cni.VerbDel, func(a *attachment) *cni.Error {
		_, failure := invoke(t, cni.VerbDel, "bridge", a.withPrev(t), a)
		return failure
	})
	host.Unchanged(t, before, stays(bridgeName)...)
}
