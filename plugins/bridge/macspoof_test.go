package bridge_test

import (
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
	"golang.org/x/sys/unix"
)

const spoofing = `"isGateway":true,"macspoofchk":true,`

// frame sends from a namespace's eth0 an ARP request for an address with
// these hardware and IP addresses as its sender's.
func frame(t testing.TB, ns string, mac net.HardwareAddr, from, target [4]byte) {
	t.Helper()
	packet := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac...)
	packet = append(packet, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	packet = append(append(packet, mac...), from[:]...)
	packet = append(append(packet, 0, 0, 0, 0, 0, 0), target[:]...)
	err := host.In(t, ns, func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		arp := binary.NativeEndian.Uint16([]byte{8, 6})
		return unix.Sendto(fd, packet, 0, &unix.SockaddrLinklayer{Protocol: arp, Ifindex: i.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// learns reports whether a namespace gets to know a neighbour's address in time.
func learns(t testing.TB, ns, addr string, timeout time.Duration) bool {
	t.Helper()
	for deadline := time.Now().Add(timeout); ; time.Sleep(10 * time.Millisecond) {
		out, err := host.TryIn(ns, "ip", "neigh", "show", addr)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out, "lladdr") {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// TestMACSpoofing sends from addresses of other hosts.
func TestMACSpoofing(t *testing.T) {
	keys.Covers(t, "bridge", "macspoofchk")
	host.Need(t, "nft-bridge")
	removeBridge(t, bridgeName)
	add(t, config("net", bridgeName, `"isGateway":true,`, hostLocal(t, 99)), "first").Del(t) // what is for good
	host.Run(t, "ip", "link", "del", bridgeName)
	host.Try("nft", "delete table bridge plumb") //nolint:errcheck // another test may have left it
	before := host.Snapshot(t)
	guarded := attach.New(t, config("net", bridgeName, spoofing, hostLocal(t, 99)), "guarded")
	mac := guarded.Add(t).Interfaces[2].MAC
	free := add(t, config("other", bridgeName, "", `"type":"static","addresses":[{"address":"10.99.0.77/24"}]`), "free")
	guarded.Check(t)
	own, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	other := net.HardwareAddr{2, 0, 0, 0, 0x99, 1}

	for _, addr := range []string{"10.99.0.1", "fd00:99::1", "10.99.0.77"} {
		host.Ping(t, guarded.NetNS, addr)
	}
	// By frames: what is sent from its own address arrives, and nothing else.
	frame(t, guarded.NetNS, own, [4]byte{10, 99, 0, 60}, [4]byte{10, 99, 0, 77})
	frame(t, guarded.NetNS, other, [4]byte{10, 99, 0, 61}, [4]byte{10, 99, 0, 77})
	if !learns(t, free.NetNS, "10.99.0.60", 10*time.Second) {
		t.Error("what the container sends from its own address does not arrive")
	}
	if learns(t, free.NetNS, "10.99.0.61", 200*time.Millisecond) {
		t.Error("what the container sends from another address arrives")
	}
	frame(t, free.NetNS, other, [4]byte{10, 99, 0, 62}, [4]byte{10, 99, 0, 2})
	if !learns(t, guarded.NetNS, "10.99.0.62", 10*time.Second) {
		t.Error("another container, which is not checked, is")
	}
	// By another address of the interface.
	host.RunIn(t, guarded.NetNS, "ip", "link", "set", "eth0", "address", other.String())
	for _, addr := range []string{"fd00:99::1", "10.99.0.77"} {
		if host.TryPing(guarded.NetNS, addr) == nil {
			t.Errorf("with another hardware address the container reaches %s", addr)
		}
	}
	host.RunIn(t, guarded.NetNS, "ip", "link", "set", "eth0", "address", mac)
	host.Ping(t, guarded.NetNS, "10.99.0.77")
	guarded.Check(t)

	guarded.Del(t)
	guarded.Del(t)
	free.Del(t)
	host.Run(t, "nft", "delete table bridge plumb")
	host.Run(t, "ip", "link", "del", bridgeName)
	host.Unchanged(t, before)
}

// TestMACSpoofingDamage removes what checks, which CHECK has to notice and the
// next ADD to mend.
func TestMACSpoofingDamage(t *testing.T) {
	host.Need(t, "nft-bridge")
	removeBridge(t, bridgeName)
	c := config("net", bridgeName, spoofing, hostLocal(t, 99))
	for _, tt := range []struct{ name, damage, text string }{
		{"element", "flush set bridge plumb macspoof", "element bridge plumb macspoof veth"},
		{"pair", "flush set bridge plumb macspoof-allowed", "element bridge plumb macspoof-allowed veth"},
		{"rules", "flush chain bridge plumb macspoof", "what is in chain bridge plumb macspoof"},
		{"base rules", "flush chain bridge plumb macspoof-prerouting", "what is in chain bridge plumb macspoof-prerouting"},
		{"chain", "delete chain bridge plumb macspoof-prerouting", "chain bridge plumb macspoof-prerouting"},
		{"dormant", "add table bridge plumb { flags dormant; }", "table bridge plumb"},
		{"table", "delete table bridge plumb", "table bridge plumb"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := add(t, c, "damaged")
			a.Check(t)
			host.Run(t, "nft", tt.damage)
			if text := a.Drifts(t, state.CodeDrift); !strings.Contains(text, tt.text) {
				t.Errorf("CHECK says %q, want %q", text, tt.text)
			}
			b := add(t, c, "next")
			b.Check(t)
			b.Del(t)
			a.Del(t)
		})
	}
}

// elements returns how many elements the sets have.
func elements(t testing.TB) (n int) {
	t.Helper()
	for _, name := range []string{"macspoof", "macspoof-allowed"} {
		set, _ := host.NFT(t).Set("bridge", "plumb", name)
		n += len(set.Elems)
	}
	return n
}

// TestMACSpoofingEnds removes attachments in all ways.
func TestMACSpoofingEnds(t *testing.T) {
	host.Need(t, "nft-bridge")
	removeBridge(t, bridgeName)
	c := config("net", bridgeName, spoofing, hostLocal(t, 99))
	stays := add(t, c, "stays")
	for _, tt := range []struct {
		name string
		end  func(t *testing.T, a *attach.Attachment)
	}{
		{"without prevResult", func(t *testing.T, a *attach.Attachment) { a.Prev = nil; a.Del(t) }},
		{"without namespace", func(t *testing.T, a *attach.Attachment) {
			host.RemoveNetNS(t, a.NetNS)
			a.NetNS = ""
			a.Del(t)
		}},
		{"without record", func(t *testing.T, a *attach.Attachment) {
			host.Run(t, "rm", state.RecordDir+"/bridge@net@ends@eth0")
			a.Del(t)
		}},
		{"without record and prevResult", func(t *testing.T, a *attach.Attachment) {
			host.Run(t, "rm", state.RecordDir+"/bridge@net@ends@eth0")
			a.Prev = nil
			a.Del(t)
		}},
		{"with an edited configuration", func(t *testing.T, a *attach.Attachment) {
			a.Config = strings.Replace(a.Config, spoofing, "", 1)
			a.Del(t)
		}},
		{"by GC", func(t *testing.T, a *attach.Attachment) { a.GC(t, stays) }},
		{"by GC without record", func(t *testing.T, a *attach.Attachment) {
			host.Run(t, "rm", state.RecordDir+"/bridge@net@ends@eth0")
			a.GC(t, stays)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := add(t, c, "ends")
			if n := elements(t); n != 4 {
				t.Fatalf("%d elements, want 4", n)
			}
			tt.end(t, a)
			if n := elements(t); n != 2 {
				t.Errorf("%d elements are left, want the other's 2", n)
			}
			stays.Check(t)
		})
	}
	// A failing ADD leaves nothing.
	a := attach.New(t, config("net", bridgeName, spoofing, `"type":"static","addresses":[{"address":"10.99.0.9/24"}],"routes":[{"dst":"10.1.0.0/16","gw":"10.2.0.1"}]`), "fails")
	if _, failure := a.TryAdd(t); failure == nil {
		t.Error("ADD with a gateway out of reach succeeds")
	}
	if n := elements(t); n != 2 {
		t.Errorf("%d elements are left by a failed ADD, want the other's 2", n)
	}
	if failure := stays.TryStatus(t); failure != nil {
		t.Errorf("STATUS: %v", failure)
	}
}

// TestMACSpoofingOfReference checks and removes what the reference made.
func TestMACSpoofingOfReference(t *testing.T) {
	host.Need(t, "nft-bridge")
	removeBridge(t, bridgeName)
	c := config("net", bridgeName, spoofing, hostLocal(t, 99))
	theirs := func(id string) *attach.Attachment {
		a := attach.New(t, c, id)
		a.Bin = host.Reference(t)
		a.Add(t)
		a.Bin = host.Bin(t)
		return a
	}
	mentions := func(text string) bool {
		return strings.Contains(host.Run(t, "nft", "list ruleset"), text)
	}
	a, b := theirs("one"), theirs("two")
	a.Check(t)
	host.Run(t, "nft", "flush chain bridge nat cni-br-iface-one-eth0-mac")
	if text := a.Drifts(t, state.CodeDrift); !strings.Contains(text, "cni-br-iface-one-eth0-mac") {
		t.Errorf("CHECK says %q", text)
	}
	a.Del(t)
	if mentions("cni-br-iface-one") || !mentions("cni-br-iface-two") {
		t.Errorf("after DEL:\n%s", host.Run(t, "nft", "list ruleset"))
	}
	b.Check(t)
	c1 := theirs("three")
	host.DestroyNetNS(t, c1.NetNS)
	b.GC(t, b)
	if mentions("cni-br-iface-three") || !mentions("cni-br-iface-two") {
		t.Errorf("after GC:\n%s", host.Run(t, "nft", "list ruleset"))
	}
	b.Check(t)
	b.Prev = nil
	b.Del(t)
	if mentions("cni-br-iface") {
		t.Errorf("after DEL without prevResult:\n%s", host.Run(t, "nft", "list ruleset"))
	}

	// Ours is deleted by the reference, which leaves the elements.
	d := add(t, c, "four")
	d.Bin = host.Reference(t)
	d.Del(t)
	if _, found := host.Links(t, "")[d.HostEnd(t)]; found {
		t.Error("the reference leaves the link")
	}
	d.Bin = host.Bin(t) // which deletes them, at the end
}
