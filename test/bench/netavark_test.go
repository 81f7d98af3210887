package bench

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// netavark is Debian's: podman's own, which is no CNI plugin. One process makes
// the network and another removes it. The addresses are podman's business, and
// DNS is off.
const (
	netavarkProgram = "/usr/lib/podman/netavark"
	netavarkRun     = "/run/netavark"
)

func netavark(t testing.TB) contender {
	t.Helper()
	if err := os.MkdirAll(netavarkRun, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(netavarkProgram); err != nil {
		t.Fatalf("%v: run scripts/deps", err)
	}
	return contender{
		name: "netavark",
		serve: func(t testing.TB, a *attachment, verb cni.Verb) error {
			netavarkCall(t, a, verb, "bench", a.netns, 2)
			return nil
		},
		// It would take the bridge and its chains along with the last container.
		warm: func(t testing.TB, a *attachment) {
			stays := host.NetNS(t)
			netavarkCall(t, a, cni.VerbAdd, "stays", stays, 3)
			t.Cleanup(func() { netavarkCall(t, a, cni.VerbDel, "stays", stays, 3) })
		},
	}
}

// netavarkCall attaches a container, by its last number, or removes it.
func netavarkCall(t testing.TB, a *attachment, verb cni.Verb, id, ns string, n int) time.Duration {
	t.Helper()
	type subnet struct {
		Subnet  string `json:"subnet"`
		Gateway string `json:"gateway"`
	}
	var subnets []subnet
	var static []string
	addrs := []cni.IP{}
	for _, f := range a.families {
		net, bits := addresses(f, a.number), 24
		if f == '6' {
			bits = 64
		}
		addr := netip.MustParseAddr(fmt.Sprintf("%s%d", net, n))
		p := netip.PrefixFrom(addr, bits)
		addrs = append(addrs, cni.IP{Address: p})
		subnets = append(subnets, subnet{p.Masked().String(), net + "1"})
		static = append(static, addr.String())
	}
	if id == "bench" {
		a.addrs = addrs
	}
	name := fmt.Sprintf("bench-%d", a.number)
	config, err := json.Marshal(map[string]any{
		"container_id": id, "container_name": id,
		"networks": map[string]any{name: map[string]any{"interface_name": "eth0", "static_ips": static}},
		"network_info": map[string]any{name: map[string]any{
			"name": name, "id": fmt.Sprintf("%064d", a.number), "driver": "bridge", "network_interface": fmt.Sprintf("bench%d", a.number),
			"subnets": subnets, "ipv6_enabled": len(subnets) > 1, "internal": false, "dns_enabled": false, "ipam_options": map[string]any{"driver": "host-local"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	command := "setup"
	if verb == cni.VerbDel {
		command = "teardown"
	}
	_, took := call{program: netavarkProgram, args: []string{"--config", netavarkRun, command, ns}, env: host.Env("", "", "", ""), stdin: string(config)}.run(t)
	return took
}
