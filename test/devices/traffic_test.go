package devices_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// talk sends pings and asks a server by TCP and UDP.
func talk(t *testing.T, from, to string, addrs ...string) {
	t.Helper()
	for _, addr := range addrs {
		host.Ping(t, from, addr)
		for _, network := range []string{"tcp", "udp"} {
			at := host.Serve(t, to, network, net.JoinHostPort(addr, "0"))
			if answer, err := host.Ask(t, from, network, at, ""); err != nil || answer.Server != to {
				t.Errorf("%s %s: %+v, %v", network, at, answer, err)
			}
		}
	}
}

// TestTraffic lets two containers on one master talk to each other and to the
// network behind it.
func TestTraffic(t *testing.T) {
	for _, tt := range []struct {
		plugin, keys string
		neighbour    bool // is reached without a route of its own
		each         bool // the containers reach each other
	}{
		{"macvlan", ``, true, true},
		{"macvlan", `"mode":"private",`, true, false},
		{"macvlan", `"mode":"vepa",`, true, false},
		{"macvlan", `"acd":true,`, true, true},
		{"macvlan", `"mode":"passthru",`, true, false},
		{"ipvlan", `"mode":"l2",`, true, true},
		{"ipvlan", `"mode":"l3",`, false, true},
		{"ipvlan", `"mode":"l3s",`, false, true},
		{"vlan", `"vlanId":7,`, true, false},
		{"vlan", `"vlanId":7,"acd":true,`, true, false},
	} {
		t.Run(tt.plugin+" "+tt.keys, func(t *testing.T) {
			host.Need(t, tt.plugin)
			neighbour := lan(t)
			if tt.plugin == "vlan" {
				host.RunIn(t, neighbour, "sh", "-ec", `ip addr flush dev eth0; ip link add link eth0 name v7 type vlan id 7; ip link set v7 up
					ip addr add 10.88.0.1/24 dev v7; ip addr add fd00:88::1/64 dev v7 nodad`)
			}
			a := attach.New(t, static(tt.plugin, `"master":"up0",`+tt.keys, 2), "first")
			a.Add(t)
			if tt.neighbour {
				talk(t, a.NetNS, neighbour, "10.88.0.1", "fd00:88::1")
				talk(t, neighbour, a.NetNS, "10.88.0.2", "fd00:88::2")
			}
			if tt.plugin == "vlan" || strings.Contains(tt.keys, "passthru") {
				return // there is one on a master
			}
			b := attach.New(t, static(tt.plugin, `"master":"up0",`+tt.keys, 3), "second")
			b.Add(t)
			if tt.each {
				talk(t, a.NetNS, b.NetNS, "10.88.0.3", "fd00:88::3")
				talk(t, b.NetNS, a.NetNS, "10.88.0.2", "fd00:88::2")
			} else if err := host.TryPing(a.NetNS, "10.88.0.3"); err == nil {
				t.Error("the containers reach each other")
			}
		})
	}
}

// TestReusedAddress gives an address to a second container, while a neighbour
// still knows it as the first's: it answers to the first ping.
func TestReusedAddress(t *testing.T) {
	for _, plugin := range []string{"macvlan", "ipvlan"} {
		t.Run(plugin, func(t *testing.T) {
			host.Need(t, plugin)
			neighbour := lan(t)
			for _, mac := range []string{"", "02:88:00:00:00:01", "02:88:00:00:00:02"} {
				if plugin == "ipvlan" && mac != "" { // the address moves to another master
					host.Run(t, "ip", "link", "set", "up0", "down", "address", mac)
					host.Run(t, "ip", "link", "set", "up0", "up")
				}
				a := attach.New(t, static(plugin, `"master":"up0",`, 2), "holder")
				want := a.Add(t).Interfaces[0].MAC
				for _, addr := range []string{"10.88.0.2", "fd00:88::2"} {
					host.Ping(t, neighbour, addr)
					if known := host.RunIn(t, neighbour, "ip", "neigh", "show"); !strings.Contains(known, addr+" dev eth0 lladdr "+want) {
						t.Errorf("the neighbour knows of %s:\n%s", want, known)
					}
				}
				a.Del(t)
			}
		})
	}
}

// TestACD gives a container the address of a stranger.
func TestACD(t *testing.T) {
	keys.Covers(t, "macvlan", "acd")
	keys.Covers(t, "vlan", "acd")
	for _, plugin := range []string{"macvlan", "vlan"} {
		t.Run(plugin, func(t *testing.T) {
			host.Need(t, plugin)
			stranger := lan(t)
			dev := "eth0"
			if plugin == "vlan" {
				host.RunIn(t, stranger, "sh", "-ec", `ip link add link eth0 name v7 address 02:00:00:00:99:01 type vlan id 7; ip link set v7 up`)
				dev = "v7"
			}
			mac := host.Links(t, stranger)[dev].MAC
			for _, tt := range []struct{ taken, want string }{
				{"10.88.0.2/24", "10.88.0.2 is in use by " + mac},
				{"fd00:88::2/64", "fd00:88::2 is in use by " + mac},
			} {
				host.RunIn(t, stranger, "ip", "addr", "add", tt.taken, "dev", dev, "nodad")
				a := attach.New(t, static(plugin, `"vlanId":7,"master":"up0",`, 2), "unaware")
				a.Add(t)
				a.Del(t)
				before := host.Snapshot(t)
				a = attach.New(t, static(plugin, `"vlanId":7,"master":"up0","acd":true,`, 2), "careful")
				_, failure := a.TryAdd(t)
				if failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Msg, tt.want) {
					t.Errorf("ADD of an address in use: %v, want %q", failure, tt.want)
				}
				absent(t, a)
				host.Unchanged(t, before, host.SharedFiles)
				host.RunIn(t, stranger, "ip", "addr", "del", tt.taken, "dev", dev)
				a.Add(t)
				a.Check(t)
				a.Del(t)
			}
		})
	}
}

// TestPassthruMAC gives a container the master itself, with another hardware
// address, which the master loses again.
func TestPassthruMAC(t *testing.T) {
	neighbour := lan(t)
	want := host.Links(t, "")["up0"].MAC
	a := attach.New(t, static("macvlan", `"master":"up0","mode":"passthru","mac":"02:88:00:00:00:01",`, 2), "guest")
	a.Add(t)
	if got := host.Links(t, a.NetNS)["eth0"].MAC; got != "02:88:00:00:00:01" {
		t.Errorf("the container has %s", got)
	}
	talk(t, a.NetNS, neighbour, "10.88.0.1", "fd00:88::1")
	a.Check(t)
	a.Del(t)
	if got := host.Links(t, "")["up0"].MAC; got != want {
		t.Errorf("the master has %s, had %s", got, want)
	}
}

// TestTapFrames opens the device as a virtual machine does.
func TestTapFrames(t *testing.T) {
	for _, queues := range []int{1, 2} {
		a := attach.New(t, static("tap", fmt.Sprintf(`"multiQueue":%v,`, queues == 2), 2), fmt.Sprint("vm", queues))
		a.Add(t)
		frames := listen(t, a.NetNS, queues)
		host.TryIn(a.NetNS, "ping", "-n", "-c", "1", "-W", "1", "10.88.0.7") //nolint:errcheck // nobody is there
		mac, err := net.ParseMAC(host.Links(t, a.NetNS)["eth0"].MAC)
		if err != nil {
			t.Fatal(err)
		}
		for late, found := time.After(10*time.Second), false; !found; {
			select {
			case frame := <-frames:
				found = len(frame) > 41 && slices.Equal(frame[6:12], mac) && frame[12] == 8 && frame[13] == 6 && slices.Equal(frame[38:42], []byte{10, 88, 0, 7})
			case <-late:
				t.Fatal("no ARP request from the container has arrived")
			}
		}
		a.Check(t)
		a.Del(t)
	}
}
