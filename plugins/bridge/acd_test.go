package bridge_test

import (
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// TestACD gives a container the address of a host that is on the bridge's
// network but unknown to this one.
func TestACD(t *testing.T) {
	keys.Covers(t, "bridge", "acd")
	removeBridge(t, bridgeName)
	stranger := host.NetNS(t)
	host.Run(t, "ip", "link", "add", bridgeName, "up", "type", "bridge")
	host.Run(t, "ip", "link", "add", "stranger", "up", "master", bridgeName, "type", "veth", "peer", "name", "eth0", "address", "02:00:00:00:99:01", "netns", stranger)
	for _, link := range []string{bridgeName, "stranger"} { // lest addresses appear between two looks at the host
		host.Run(t, "ip", "link", "set", link, "addrgenmode", "none")
	}
	host.RunIn(t, stranger, "ip", "link", "set", "eth0", "up")
	host.RunIn(t, stranger, "ip", "addr", "add", "10.99.0.2/24", "dev", "eth0")

	ipam := `"type":"static","addresses":[{"address":"10.99.0.2/24"},{"address":"10.99.0.3/24"}]`
	without := add(t, config("net", bridgeName, "", ipam), "unaware")
	without.Del(t)

	before := host.Snapshot(t)
	a := attach.New(t, config("net", bridgeName, `"acd":true,`, ipam), "careful")
	_, failure := a.TryAdd(t)
	if failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Error(), "10.99.0.2 is in use by 02:00:00:00:99:01") {
		t.Errorf("ADD of an address in use: %v", failure)
	}
	host.Unchanged(t, before)

	host.RunIn(t, stranger, "ip", "addr", "del", "10.99.0.2/24", "dev", "eth0")
	start := time.Now()
	a.Add(t)
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("ADD took %s", took)
	}
	a.Check(t)
	host.RunIn(t, stranger, "ip", "addr", "add", "10.99.0.4/24", "dev", "eth0")
	host.Ping(t, stranger, "10.99.0.3")
	a.Del(t)
}

// TestACDWithGateway detects an address on a bridge that ADD makes, which holds
// the gateway's.
func TestACDWithGateway(t *testing.T) {
	removeBridge(t, bridgeName)
	a := add(t, config("net", bridgeName, `"acd":true,"isDefaultGateway":true,`, hostLocal(t, 99)), "first")
	host.Ping(t, a.NetNS, "10.99.0.1")
	host.Ping(t, a.NetNS, "fd00:99::1")
	a.Check(t)
	// The same address by another network's IPAM.
	b := attach.New(t, config("other", bridgeName, `"acd":true,`, `"type":"static","addresses":[{"address":"10.99.0.2/24"}]`), "second")
	if _, failure := b.TryAdd(t); failure == nil || failure.Code != state.CodeConflict {
		t.Errorf("ADD of another container's address: %v", failure)
	}
	a.Check(t)
	host.Ping(t, a.NetNS, "10.99.0.1")
}
