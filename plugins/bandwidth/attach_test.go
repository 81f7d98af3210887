package bandwidth_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
)

// TestDel deletes attachments of which something is gone.
func TestDel(t *testing.T) {
	for _, tt := range []struct {
		name string
		lose func(t *testing.T, a, b *attach.Attachment)
	}{
		{"nothing", func(*testing.T, *attach.Attachment, *attach.Attachment) {}},
		{"namespace", func(t *testing.T, a, b *attach.Attachment) {
			host.RemoveNetNS(t, a.NetNS)
			a.NetNS, b.NetNS = "", ""
		}},
		{"prevResult", func(_ *testing.T, _, b *attach.Attachment) { b.Prev = nil }},
		{"record", func(t *testing.T, _, _ *attach.Attachment) {
			host.Run(t, "sh", "-c", "rm /run/plumb/attachments/bandwidth@*")
		}},
		{"record and prevResult", func(t *testing.T, _, b *attach.Attachment) {
			b.Prev = nil
			host.Run(t, "sh", "-c", "rm /run/plumb/attachments/bandwidth@*")
		}},
		{"limits", func(_ *testing.T, _, b *attach.Attachment) { b.Config = bandwidth("") }},
		{"limits that are read", func(_ *testing.T, _, b *attach.Attachment) { b.Config = bandwidth(`"egressRate":"fast"`) }},
		{"device", func(t *testing.T, _, _ *attach.Attachment) { host.Run(t, "ip", "link", "del", ifbs(t, "")[0]) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := host.Snapshot(t)
			a := attached(t, ptp, "deleted")
			b := a.Then(t, bandwidth(limits))
			b.Add(t)
			tt.lose(t, a, b)
			b.Del(t)
			b.Del(t)
			a.Del(t)
			host.Unchanged(t, before, host.SharedFiles, host.SharedForwarding)
		})
	}
}

// TestTwoInterfaces of one container on one network have limits of their own,
// and the reference's way to name a device does not.
func TestTwoInterfaces(t *testing.T) {
	a := attached(t, ptp, "two")
	b := a.Then(t, bandwidth(limits))
	b.Add(t)
	a2 := a.Again(t, strings.Replace(ptp, "10.60.0", "10.63.0", 1), "eth1")
	a2.Config = strings.Replace(a2.Config, "fd00:60:", "fd00:63:", 1)
	a2.Config = strings.Replace(a2.Config, `,"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]`, "", 1)
	a2.Add(t)
	b2 := a2.Then(t, bandwidth(limits))
	b2.Add(t)
	if got := ifbs(t, ""); len(got) != 2 {
		t.Fatalf("devices: %v", got)
	}
	b.Del(t)
	b2.Check(t)
	b2.Del(t)
	if got := ifbs(t, ""); len(got) != 0 {
		t.Errorf("devices: %v", got)
	}
}

// TestAgain adds twice, as a runtime does that has forgotten.
func TestAgain(t *testing.T) {
	a := attached(t, ptp, "again")
	b := a.Then(t, bandwidth(limits))
	b.Add(t)
	b.Add(t)
	b.Check(t)
	b.Del(t)
}

// TestGC spares what is valid, and other networks.
func TestGC(t *testing.T) {
	var shaped []*attach.Attachment
	for i, id := range []string{"first", "second", "third", "fourth"} {
		config := ptp
		if i == 3 {
			config = strings.NewReplacer(`"net"`, `"other"`, "10.60.", "10.64.", "fd00:60:", "fd00:64:").Replace(ptp)
		}
		a := attached(t, config, id)
		b := a.Then(t, strings.Replace(bandwidth(limits), `"net"`, map[bool]string{true: `"other"`, false: `"net"`}[i == 3], 1))
		b.Add(t)
		shaped = append(shaped, b)
	}
	host.RemoveNetNS(t, shaped[1].NetNS)
	host.Run(t, "sh", "-c", "rm /run/plumb/attachments/bandwidth@net@third@*")
	shaped[0].GC(t, shaped[0])
	var left []string
	for _, name := range ifbs(t, "") {
		left = append(left, host.Links(t, "")[name].Alias)
	}
	slices.Sort(left)
	if want := []string{"plumb:net/first/eth0", "plumb:other/fourth/eth0"}; !slices.Equal(left, want) {
		t.Errorf("after GC there are devices of %v, want %v", left, want)
	}
	shaped[0].Check(t)
	shaped[3].Check(t)
	for _, b := range shaped {
		b.Del(t)
	}
}

// TestWithoutHostEnd limits a macvlan, which has no end on the host.
func TestWithoutHostEnd(t *testing.T) {
	host.Need(t, "macvlan", "tbf", "ifb", "mirred")
	host.Run(t, "sh", "-ec", "ip link add up0 type veth peer name up1; ip link set up0 up; ip addr add 10.65.0.1/24 dev up1; ip link set up1 up")
	t.Cleanup(func() { host.Run(t, "ip", "link", "del", "up0") })
	a := attach.New(t, `{"cniVersion":"1.1.0","name":"net","type":"loopback"}`, "inside") // which DEL is for
	host.Run(t, "ip", "link", "add", "link", "up0", "name", "mv0", "type", "macvlan", "mode", "bridge")
	host.Run(t, "ip", "link", "set", "mv0", "netns", a.NetNS[len("/run/netns/"):])
	host.RunIn(t, a.NetNS, "sh", "-ec", "ip link set mv0 name eth0; ip addr add 10.65.0.2/24 dev eth0; ip link set eth0 up")
	a.Prev = json.RawMessage(`{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"` + a.NetNS + `"}]}`)
	before := host.Links(t, a.NetNS)

	b := a.Then(t, bandwidth(`"ingressRate":10000000,"egressRate":10000000`))
	result := b.Add(t)
	if len(result.Interfaces) != 1 {
		t.Errorf("the result has %+v", result.Interfaces)
	}
	b.Check(t)
	if len(ifbs(t, "")) != 0 || len(ifbs(t, a.NetNS)) != 1 {
		t.Fatalf("devices on the host: %v, in the container: %v", ifbs(t, ""), ifbs(t, a.NetNS))
	}
	for _, reverse := range []bool{false, true} {
		got := iperf(t, a.NetNS, "10.65.0.1", 2, reverse)
		for try := 1; try < 3 && got < 7.5e6; try++ { // on a machine that is busy
			got = iperf(t, a.NetNS, "10.65.0.1", 2, reverse)
		}
		if got < 7.5e6 || got > 12e6 {
			t.Errorf("back: %v: %.0f bit/s, want 10 Mbit/s", reverse, got)
		}
	}
	ifb := ifbs(t, a.NetNS)[0]
	host.RunIn(t, a.NetNS, "tc", "qdisc", "del", "dev", "eth0", "root")
	if got := b.Drifts(t, state.CodeDrift); !strings.Contains(got, "sandbox qdisc eth0 egress") {
		t.Errorf("CHECK: %s", got)
	}
	host.RunIn(t, a.NetNS, "ip", "link", "del", ifb)
	if got := b.Drifts(t, state.CodeDrift); !strings.Contains(got, "sandbox ifb "+ifb+" is missing") {
		t.Errorf("CHECK: %s", got)
	}
	b.Del(t)
	b.Add(t)
	b.Check(t)
	b.Del(t)
	if after := host.Links(t, a.NetNS); len(after) != len(before) {
		t.Errorf("links before: %v, after: %v", before, after)
	}
}

// TestBorrowed limits a device that goes back to the host as it was.
func TestBorrowed(t *testing.T) {
	host.Need(t, "tbf", "ifb", "mirred", "veth")
	a := attach.New(t, `{"cniVersion":"1.1.0","name":"net","type":"loopback"}`, "borrower")
	// Both ends in the container: nothing of it is on the host.
	host.RunIn(t, a.NetNS, "sh", "-ec", "ip link add eth0 type veth peer name other; ip link set eth0 up; ip link set other up")
	a.Prev = json.RawMessage(`{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"` + a.NetNS + `"}]}`)
	b := a.Then(t, bandwidth(limits))
	b.Add(t)
	b.Check(t)
	if got := qdiscs(t, a.NetNS, "eth0"); len(got) < 2 {
		t.Errorf("ADD made %+v", got)
	}
	b.Del(t)
	if got := qdiscs(t, a.NetNS, "eth0"); len(got) != 0 {
		t.Errorf("after DEL there is %+v", got)
	}
	if got := ifbs(t, a.NetNS); len(got) != 0 {
		t.Errorf("after DEL there are %v", got)
	}
}

// TestReference switches a container's limits from the reference to ours and
// back.
func TestReference(t *testing.T) {
	reference := host.Reference(t)
	config := bandwidth(limits)
	add := func(t *testing.T, bin, id string) *attach.Attachment {
		a := attached(t, ptp, id)
		b := a.Then(t, config)
		b.Bin = bin
		b.Add(t)
		return b
	}
	t.Run("CHECK and DEL of its", func(t *testing.T) {
		b := add(t, reference, "its")
		b.Bin = host.Bin(t)
		b.Check(t)
		host.Run(t, "tc", "filter", "del", "dev", b.HostEnd(t), "ingress")
		if got := b.Drifts(t, state.CodeDrift); !strings.Contains(got, "redirection to bwp") {
			t.Errorf("CHECK: %s", got)
		}
		b.Prev = nil
		b.NetNS = ""
		b.Del(t)
		if got := ifbs(t, ""); len(got) != 0 {
			t.Errorf("after DEL there are %v", got)
		}
	})
	t.Run("CHECK and DEL of ours by it", func(t *testing.T) {
		b := add(t, host.Bin(t), "ours")
		ours := b.Bin
		b.Bin = reference
		if failure := b.TryDel(t); failure != nil {
			t.Error(failure)
		}
		if got := ifbs(t, ""); len(got) != 0 {
			t.Errorf("after DEL there are %v", got)
		}
		b.Bin = ours
		b.Del(t)
	})
	t.Run("GC of its", func(t *testing.T) {
		gone, lives := add(t, reference, "gone"), add(t, reference, "lives")
		host.DestroyNetNS(t, gone.NetNS)
		ours := lives.Again(t, config, "eth0")
		ours.Bin = host.Bin(t)
		ours.GC(t, lives)
		if got := ifbs(t, ""); len(got) != 1 {
			t.Errorf("after GC there are %v", got)
		}
		ours.GC(t) // its link still sends through it
		if got := ifbs(t, ""); len(got) != 1 {
			t.Errorf("after GC there are %v", got)
		}
		lives.Bin = ours.Bin
		lives.Check(t)
		lives.Del(t)
	})
}

// TestNotAttached calls what has to cope without an ADD.
func TestNotAttached(t *testing.T) {
	a := attached(t, ptp, "never")
	b := a.Then(t, bandwidth(limits))
	before := host.Snapshot(t)
	b.Del(t)
	host.Unchanged(t, before)
	b.Prev = a.Prev
	if got := b.Drifts(t, state.CodeDrift); !strings.Contains(got, "is missing") {
		t.Errorf("CHECK: %s", got)
	}
	if failure := b.TryStatus(t); failure != nil {
		t.Errorf("STATUS: %v", failure)
	}
	b.Config = bandwidth("") // no limits, nothing to check
	b.Check(t)
}

// TestOtherPair limits nothing of a pair that has the same indexes as the
// container's, whose other end is not on the host.
func TestOtherPair(t *testing.T) {
	host.Need(t, "tbf", "ifb", "mirred", "veth")
	a := attach.New(t, `{"cniVersion":"1.1.0","name":"net","type":"loopback"}`, "routed")
	pair := func(ns, name, peer, peerNS string) {
		host.RunIn(t, ns, "ip", "link", "add", name, "index", "777", "type", "veth", "peer", "name", peer, "index", "888", "netns", peerNS[len("/run/netns/"):])
	}
	pair(host.NetNS(t), "router0", "eth0", a.NetNS)
	pair("", "veth0", "other0", host.NetNS(t))
	t.Cleanup(func() { host.Run(t, "ip", "link", "del", "veth0") })
	a.Prev = json.RawMessage(`{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"` + a.NetNS + `"}]}`)
	b := a.Then(t, bandwidth(limits))
	b.Add(t)
	if got := qdiscs(t, "", "veth0"); len(got) != 0 {
		t.Errorf("the other pair has %+v", got)
	}
	if got := qdiscs(t, a.NetNS, "eth0"); len(got) < 2 {
		t.Errorf("the container's has %+v", got)
	}
	b.Check(t)
	b.Del(t)
}

// TestUntagged has an ADD killed between the device and its tag: the next ADD
// takes the device, and DEL removes it.
func TestUntagged(t *testing.T) {
	a := attached(t, ptp, "untagged")
	b := a.Then(t, bandwidth(limits))
	b.Add(t)
	ifb := ifbs(t, "")[0]
	untag := func() { host.Run(t, "ip", "link", "set", "dev", ifb, "alias", "") }
	untag()
	b.Add(t)
	if got := host.Links(t, "")[ifb].Alias; got != "plumb:net/untagged/eth0" {
		t.Errorf("after the next ADD the device's alias is %q", got)
	}
	b.Check(t)
	untag()
	b.Del(t)
	if got := ifbs(t, ""); len(got) != 0 {
		t.Errorf("after DEL there is %v", got)
	}
}
