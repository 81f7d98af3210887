package daemons

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// TestBeside makes attachments of every plugin that makes or takes interfaces, and compares the host before the daemons have seen them
// with the host afterwards.
func TestBeside(t *testing.T) {
	world(t)
	d := start(t)
	alert(t)
	d.settle(t)
	before := snapshot(t)

	members := make([]member, len(networks))
	for i, n := range networks {
		members[i] = n.member(t, i)
	}
	all := func(f func(m member, t *testing.T)) {
		t.Helper()
		for _, m := range members {
			f(m, t)
		}
	}
	same := func(when string, made host.State) {
		t.Helper()
		if diff := made.Diff(snapshot(t)); diff != "" {
			t.Errorf("%s, the host is not as it was made:\n%s", when, diff)
		}
		all(member.use)
	}

	d.freeze(t)
	all(member.add)
	made := snapshot(t)
	d.thaw(t)
	d.settle(t)
	same("Once the daemons had seen the interfaces", made)
	d.restart(t)
	d.settle(t)
	same("After a restart of the daemons", made)
	all(member.del)
	d.settle(t)

	// The same with the daemons acting meanwhile.
	all(member.add)
	d.settle(t)
	all(member.use)
	all(member.asReported)
	all(member.del)
	for _, bridge := range bridges {
		host.Run(t, "ip", "link", "del", bridge)
	}
	d.settle(t)
	// A card that comes back is a new one to NetworkManager, which may give it a link-local address of its own.
	const card = `^(addr|route 6 .* dev) card0 `
	if diff := before.Diff(snapshot(t), card, host.SharedNFT, host.SharedFiles, host.SharedForwarding); diff != "" {
		t.Errorf("The host is not as it was before:\n%s", diff)
	}
}

var addrgen = regexp.MustCompile(` addrgen=\w+`)

// snapshot is the host without what the daemons do in spite of everything: NetworkManager has its own idea of who gives an interface
// that it doesn't manage its link-local address (eui64 for none on the ports of a bridge, once it ends), and networkd's table for masquerading follows
// what it does itself.
func snapshot(t *testing.T) host.State {
	t.Helper()
	var s host.State
	for _, line := range host.Snapshot(t) {
		if strings.HasPrefix(line, "nft ") && strings.Contains(line, " io.systemd.nat") {
			continue
		}
		s = append(s, addrgen.ReplaceAllString(line, ""))
	}
	return s
}

// alert shows that each daemon is awake: it makes an interface that the daemon's rules are about, and waits for what they say.
func alert(t *testing.T) {
	t.Helper()
	ns := host.NetNS(t)
	host.Run(t, "ip", "link", "add", "udev0", "type", "bridge")
	host.Run(t, "ip", "link", "add", "ve-netd", "type", "veth", "peer", "name", "p0", "netns", ns)
	host.Run(t, "ip", "link", "add", "eth5", "type", "veth", "peer", "name", "p1", "netns", ns)
	for _, peer := range []string{"p0", "p1"} {
		host.RunIn(t, ns, "ip", "link", "set", peer, "up")
	}
	wait(t, "udevd to give a bridge without a MAC a persistent one", func() error {
		kind, err := os.ReadFile("/sys/class/net/udev0/addr_assign_type")
		if err != nil || strings.TrimSpace(string(kind)) != "3" {
			return fmt.Errorf("addr_assign_type is %s, %v", kind, err)
		}
		return nil
	})
	wait(t, "networkd to configure ve-netd", func() error {
		for _, a := range host.Addrs(t, "") {
			if a.Dev == "ve-netd" && a.Prefix.Addr().Is4() {
				return nil
			}
		}
		return fmt.Errorf("addresses are %v", host.Addrs(t, ""))
	})
	wait(t, "NetworkManager to connect eth5", func() error {
		out, err := host.Try("nmcli", "-t", "-f", "DEVICE,STATE", "device")
		if !strings.Contains(out, "eth5:connect") {
			return fmt.Errorf("it lists %s, %v", out, err)
		}
		return nil
	})
	for _, name := range []string{"udev0", "ve-netd", "eth5"} {
		host.Run(t, "ip", "link", "del", name)
	}
}

// asReported compares the interfaces with what ADD said about them.
func (m member) asReported(t *testing.T) {
	t.Helper()
	result, err := cni.DecodeResult(m.main.Prev, cni.Latest)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range result.Interfaces {
		link, ok := host.Links(t, i.Sandbox)[i.Name]
		if !ok || !link.Up() || !strings.EqualFold(link.MAC, i.MAC) {
			t.Errorf("%s: %s is %+v, reported with %s", m.name, i.Name, link, i.MAC)
		}
	}
}
