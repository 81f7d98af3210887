package portmap

import (
	"context"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

// The guard that a kernel without nftables gets keeps out what comes by another
// interface than the loopback one, and is made once.
func TestGuardWithIPTables(t *testing.T) {
	ns := host.NetNS(t)
	host.Run(t, "sh", "-ec", `
		ip link add guard0 type veth peer name eth0 netns `+ns+`
		ip addr add 10.9.0.1/24 dev guard0
		ip link set guard0 up
		sysctl -q -w net.ipv4.conf.guard0.route_localnet=1`)
	t.Cleanup(func() { host.Run(t, "sh", "-ec", "ip link del guard0; iptables-legacy -t raw -F PREROUTING") })
	host.RunIn(t, ns, "sh", "-ec", `
		ip link set lo up
		ip addr del 127.0.0.1/8 dev lo
		ip addr add 10.9.0.2/24 dev eth0
		ip link set eth0 up
		sysctl -q -w net.ipv4.conf.eth0.route_localnet=1
		ip route add 127.0.0.1 via 10.9.0.1 dev eth0`)
	host.Serve(t, "", "tcp", "127.0.0.1:7777")
	if _, err := host.Ask(t, ns, "tcp", "127.0.0.1:7777", ""); err != nil {
		t.Fatalf("without a guard: %v", err)
	}
	k, err := state.OpenKernel("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	for range 2 {
		if err := guardWithIPTables(context.Background(), k); err != nil {
			t.Fatal(err)
		}
	}
	if saved := host.Run(t, "iptables-legacy-save", "-t", "raw"); strings.Count(saved, localnetComment) != 2 {
		t.Errorf("the table is\n%s", saved)
	}
	if a, err := host.Ask(t, ns, "tcp", "127.0.0.1:7777", ""); err == nil {
		t.Errorf("the host answers %s", a.Client)
	}
	if _, err := host.Ask(t, "", "tcp", "127.0.0.1:7777", ""); err != nil {
		t.Errorf("the host itself: %v", err)
	}
}
