package podman

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

// create makes a network of both families with the n-th subnets of the test. It has no dnsname unless the arguments say so.
func (p podman) create(t testing.TB, name string, n int, args ...string) {
	t.Helper()
	p.Run(t, append(append([]string{"network", "create", "--disable-dns", "--subnet", fmt.Sprintf("10.210.%d.0/24", n), "--ipv6", "--subnet", fmt.Sprintf("fd00:210:%d::/64", n)},
		args...), name)...)
}

// gone removes all containers and networks, and fails the test when anything is left on the host.
func (p podman) gone(t testing.TB, before host.State, patterns ...string) {
	t.Helper()
	p.Run(t, "rm", "--all", "--force")
	p.Run(t, "network", "prune", "--force")
	node.Clean(t, before, patterns...)
}

// has fails the test unless ip finds exactly these addresses, link-local ones aside, on a container's interface.
func has(t testing.TB, c container, dev string, want ...string) {
	t.Helper()
	var got []string
	for _, a := range host.Addrs(t, c.NetworkSettings.SandboxKey) {
		if a.Dev == dev && !a.Prefix.Addr().IsLinkLocalUnicast() {
			got = append(got, a.Prefix.Addr().String())
			if a.Tentative {
				t.Errorf("%s: %s of %s is tentative", c.Name, a.Prefix, dev)
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: %s has the addresses %v, want %v", c.Name, dev, got, want)
	}
}

// addresses are those that podman tells of a container on a network.
func (c container) addresses(network string) []string {
	n := c.NetworkSettings.Networks[network]
	return []string{n.IPAddress, n.GlobalIPv6Address}
}

// web is the address of the server in a container.
func web(addr string) string { return net.JoinHostPort(addr, fmt.Sprint(node.Port)) }

// TestFamilies is a network with two families, its containers, and the world outside.
func TestFamilies(t *testing.T) {
	host.Internet(t)
	p := install(t, node.Ours(t))
	before := host.Snapshot(t)
	p.create(t, "net1", 1)
	c1, c2 := p.run(t, "c1", "--network", "net1"), p.run(t, "c2", "--network", "net1")
	for _, c := range []container{c1, c2} {
		has(t, c, "eth0", c.addresses("net1")...)
		for _, server := range []string{host.Internet4, host.Internet6} {
			p.Run(t, "exec", c.Name, "ping", "-c", "1", "-W", "2", server)
		}
	}
	for _, addr := range c2.addresses("net1") {
		node.Answers(t, c1.NetworkSettings.SandboxKey, "tcp", web(addr), "c2")
		node.Answers(t, "", "udp", web(addr), "c2")
	}
	p.Run(t, "rm", "--force", "c1")
	host.Ping(t, c2.NetworkSettings.SandboxKey, host.Internet4) // the other's share of the rules stays
	p.gone(t, before)
}

// routesLoopback6 lets the kernel route what comes from ::1, which it refuses on a host where bridged packets pass the IPv6 packet filter.
func routesLoopback6(t testing.TB) {
	t.Helper()
	const key = "/proc/sys/net/bridge/bridge-nf-call-ip6tables"
	was, err := os.ReadFile(key)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil {
		err = os.WriteFile(key, []byte("0"), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.WriteFile(key, was, 0) }) //nolint:errcheck // as it could be written before
}

// TestPorts publishes ports as a user can, and asks for each from everywhere.
func TestPorts(t *testing.T) {
	routesLoopback6(t)
	outside := host.Internet(t)
	p := install(t, node.Ours(t))
	before := host.Snapshot(t)
	p.create(t, "net1", 1)
	all := []string{host.Uplink4, host.Uplink6, "127.0.0.1", "::1"}
	published := []struct {
		on, port string   // the host's address, as podman takes it, and its port
		at       []string // the addresses that lead to the container
	}{
		{"", "8080", all},
		{"0.0.0.0:", "8081", all}, // podman keeps that to itself
		{"[::]:", "8086", []string{host.Uplink6, "::1"}},
		{"127.0.0.1:", "8082", []string{"127.0.0.1"}},
		{host.Uplink4 + ":", "8083", []string{host.Uplink4}},
		{"[" + host.Uplink6 + "]:", "8084", []string{host.Uplink6}},
		{"[::1]:", "8085", []string{"::1"}},
	}
	args := []string{"--network", "net1", "--publish", "8090-8092:80-82"}
	for _, x := range published {
		args = append(args, "--publish", x.on+x.port+":80/tcp", "--publish", x.on+x.port+":80/udp")
	}
	c1 := p.run(t, "c1", args...)
	c2 := p.run(t, "c2", "--network", "net1")

	t.Run("open", func(t *testing.T) {
		for _, x := range published {
			for _, addr := range all {
				for _, network := range []string{"tcp", "udp"} {
					to := net.JoinHostPort(addr, x.port)
					from := map[string]string{"host": ""}
					if !netip.MustParseAddr(addr).IsLoopback() {
						from["outside"], from["itself"], from["its neighbour"] = outside, c1.NetworkSettings.SandboxKey, c2.NetworkSettings.SandboxKey
					}
					for who, ns := range from {
						t.Run(fmt.Sprintf("%s %s from %s", network, to, who), func(t *testing.T) {
							t.Parallel()
							if !slices.Contains(x.at, addr) {
								node.Silent(t, ns, network, to)
								return
							}
							answer := node.Answers(t, ns, network, to, "c1")
							if who == "outside" && client(answer) != outsideAddr(addr) {
								t.Errorf("the container sees %s, not the client outside", answer.Client)
							}
						})
					}
				}
			}
		}
		t.Run("range", func(t *testing.T) { node.Answers(t, outside, "tcp", host.Uplink4+":8090", "c1") })
	})

	p.Run(t, "rm", "--force", "c1")
	t.Run("closed", func(t *testing.T) {
		for _, to := range []string{host.Uplink4 + ":8080", "[" + host.Uplink6 + "]:8080", host.Uplink4 + ":8083"} {
			t.Run(to, func(t *testing.T) {
				t.Parallel()
				node.Silent(t, outside, "tcp", to)
				node.Silent(t, "", "udp", to)
			})
		}
	})
	p.gone(t, before)
}

// client is the address that a container saw a request come from.
func client(a host.Answer) netip.Addr { return netip.MustParseAddrPort(a.Client).Addr().Unmap() }

// outsideAddr is the address that the world outside has towards one of the host's.
func outsideAddr(hosts string) netip.Addr {
	if strings.Contains(hosts, ":") {
		return netip.MustParseAddr("2001:db8:ffff::1")
	}
	return netip.MustParseAddr("198.51.100.1")
}

// TestSamePort is a port that another container has: podman's answer, and that nothing of the second stays.
func TestSamePort(t *testing.T) {
	outside := host.Internet(t)
	p := install(t, node.Ours(t))
	before := host.Snapshot(t)
	p.create(t, "net1", 1)
	p.run(t, "c1", "--network", "net1", "--publish", "8080:80")
	one := host.Snapshot(t)
	if _, err := p.Try("run", "--detach", "--name", "c2", "--network", "net1", "--publish", "8080:80", image); err == nil {
		t.Error("two containers have the same port")
	}
	p.Run(t, "rm", "--force", "c2")
	node.Clean(t, one)
	node.Answers(t, outside, "tcp", host.Uplink4+":8080", "c1")
	p.gone(t, before)
}

// TestStatic gives a container its addresses, of both families and the link's.
func TestStatic(t *testing.T) {
	p := install(t, node.Ours(t))
	before := host.Snapshot(t)
	p.create(t, "net1", 1)
	const mac = "02:11:22:33:44:55"
	c1 := p.run(t, "c1", "--network", "net1:ip=10.210.1.77,ip6=fd00:210:1::77,mac="+mac+",interface_name=net7")
	has(t, c1, "net7", "10.210.1.77", "fd00:210:1::77")
	if got := host.Links(t, c1.NetworkSettings.SandboxKey)["net7"].MAC; got != mac {
		t.Errorf("the interface has the address %s, want %s", got, mac)
	}
	if got := c1.NetworkSettings.Networks["net1"].MacAddress; got != mac {
		t.Errorf("podman reports the address %s, want %s", got, mac)
	}
	node.Answers(t, "", "tcp", "10.210.1.77:80", "c1")
	node.Answers(t, "", "tcp", "[fd00:210:1::77]:80", "c1")
	if said, err := p.Try("run", "--detach", "--name", "c2", "--network", "net1:ip=10.210.1.77", image); err == nil || !strings.Contains(err.Error(), "10.210.1.77") {
		t.Errorf("a second container with the address: %s, %v", said, err)
	}
	p.gone(t, before)
}

// TestTwoNetworks is a container on two networks, which is taken from one of them and put back while it runs.
func TestTwoNetworks(t *testing.T) {
	outside := host.Internet(t)
	p := install(t, node.Ours(t))
	before := host.Snapshot(t)
	p.create(t, "net1", 1)
	p.create(t, "net2", 2)
	both := p.run(t, "both", "--network", "net1,net2", "--publish", "8080:80", "--publish", "8080:80/udp")
	one, two := p.run(t, "one", "--network", "net1"), p.run(t, "two", "--network", "net2")
	reached := func(c container, network string) {
		t.Helper()
		for _, addr := range both.addresses(network) {
			node.Answers(t, c.NetworkSettings.SandboxKey, "tcp", web(addr), "both")
			node.Answers(t, c.NetworkSettings.SandboxKey, "udp", web(addr), "both")
		}
	}
	published := func() {
		t.Helper()
		node.Answers(t, outside, "tcp", host.Uplink4+":8080", "both")
		node.Answers(t, outside, "udp", host.Uplink4+":8080", "both")
		node.Answers(t, "", "tcp", "127.0.0.1:8080", "both")
		p.Run(t, "exec", "both", "ping", "-c", "1", "-W", "2", host.Internet4)
	}
	reached(one, "net1")
	reached(two, "net2")
	published()

	p.Run(t, "network", "disconnect", "net1", "both")
	both = p.inspect(t, "both")
	if links := host.Links(t, both.NetworkSettings.SandboxKey); len(links) != 2 {
		t.Errorf("after disconnect from one of two networks there are %v", links)
	}
	reached(two, "net2")
	published() // by way of the network that is left

	p.Run(t, "network", "connect", "net1", "both")
	both = p.inspect(t, "both")
	reached(one, "net1")
	reached(two, "net2")
	published()

	p.Run(t, "network", "disconnect", "net2", "both")
	both = p.inspect(t, "both")
	reached(one, "net1")
	published()
	p.gone(t, before)
}

// TestMacvlan is a container that is on the host's network by itself.
func TestMacvlan(t *testing.T) {
	host.Need(t, "macvlan")
	outside := host.Internet(t)
	p := install(t, node.Ours(t))
	before := host.Snapshot(t)
	p.Run(t, "network", "create", "--driver", "macvlan", "--opt", "parent="+host.Uplink, "--opt", "mtu=1400",
		"--subnet", "198.51.100.0/24", "--gateway", "198.51.100.1", "--ip-range", "198.51.100.64/26", "mac")
	c1 := p.run(t, "c1", "--network", "mac")
	addr := c1.NetworkSettings.Networks["mac"].IPAddress
	has(t, c1, "eth0", addr)
	if l := host.Links(t, c1.NetworkSettings.SandboxKey)["eth0"]; l.Kind != "macvlan" || l.MTU != 1400 {
		t.Errorf("the interface is %+v, want a macvlan of MTU 1400", l)
	}
	p.Run(t, "exec", "c1", "ping", "-c", "1", "-W", "2", host.Internet4)
	if answer := node.Answers(t, outside, "tcp", web(addr), "c1"); client(answer) != outsideAddr(addr) {
		t.Errorf("the container sees %s, not the one outside", answer.Client)
	}
	p.gone(t, before)
}

// TestOptions are the other options of podman's networks.
func TestOptions(t *testing.T) {
	outside := host.Internet(t)
	p := install(t, node.Ours(t))
	before := host.Snapshot(t)
	p.create(t, "small", 1, "--opt", "mtu=1300")
	p.create(t, "inside", 2, "--internal")
	p.create(t, "alone1", 3, "--opt", "isolate=true")
	p.create(t, "alone2", 4, "--opt", "isolate=true")
	small, inside := p.run(t, "small", "--network", "small"), p.run(t, "inside", "--network", "inside")
	alone1, alone2 := p.run(t, "alone1", "--network", "alone1"), p.run(t, "alone2", "--network", "alone2", "--publish", "8080:80")

	if mtu := host.Links(t, small.NetworkSettings.SandboxKey)["eth0"].MTU; mtu != 1300 {
		t.Errorf("MTU %d, want 1300", mtu)
	}
	for _, server := range []string{host.Internet4, host.Internet6} {
		if host.TryPing(inside.NetworkSettings.SandboxKey, server) == nil {
			t.Errorf("a container of an internal network reaches %s", server)
		}
		host.Ping(t, alone1.NetworkSettings.SandboxKey, server)
	}
	for _, addr := range alone2.addresses("alone2") {
		node.Silent(t, alone1.NetworkSettings.SandboxKey, "tcp", web(addr))
	}
	node.Answers(t, outside, "tcp", host.Uplink4+":8080", "alone2")
	p.gone(t, before, isolation)
}

// isolation is the pattern of the rules that keep a bridge's containers apart from those of others: by the reference's rule they stay with the bridge,
// and podman removes that without telling the plugins.
const isolation = `^(nft rule ip6? filter CNI-ISOLATION-STAGE-|ip6?tables-save filter -A CNI-ISOLATION-STAGE-)`
