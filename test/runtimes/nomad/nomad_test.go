// Package nomad calls the plugins as a Nomad client does for the allocations of its bridge networks: with its list, through the library that it
// uses, with its retries, and with its own clean-up of iptables after it.
package nomad

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/go-cni"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

func TestMain(m *testing.M) { host.Main(m) }

const (
	bridge     = "nomad"
	subnet     = "172.26.64.0/20"
	adminChain = "NOMAD-ADMIN"
)

// list returns what the client makes of its settings. An operator can't change more of it than the bridge's name, the subnet and hairpin mode;
// a list of his own, which he can have instead, may also name a back end.
func list(backend string) string {
	if backend != "" {
		backend = fmt.Sprintf(`"ipMasqBackend":%q,`, backend)
	}
	return fmt.Sprintf(`{"cniVersion":"0.4.0","name":"nomad","plugins":[
{"type":"loopback"},
{"type":"bridge","bridge":%q,"ipMasq":true,%s"isGateway":true,"forceAddress":true,"hairpinMode":false,
 "ipam":{"type":"host-local","ranges":[[{"subnet":%q}]],"routes":[{"dst":"0.0.0.0/0"}]}},
{"type":"firewall","backend":"iptables","iptablesAdminChainName":%q},
{"type":"portmap","capabilities":{"portMappings":true},"snat":true}]}`, bridge, backend, subnet, adminChain)
}

// A client is what a Nomad client has of CNI.
type client struct{ cni.CNI }

// start returns a client on a host that forwards only what somebody admits, after it has made its admin chain.
func start(t *testing.T, list string) client {
	t.Helper()
	host.Run(t, "iptables", "--policy", "FORWARD", "DROP")
	host.Run(t, "iptables", "--new-chain", adminChain)
	host.Run(t, "iptables", "--append", adminChain, "--out-interface", bridge, "--destination", subnet, "--jump", "ACCEPT")
	t.Cleanup(func() {
		host.Run(t, "nft", "flush", "ruleset")
		host.Try("ip", "link", "del", bridge) //nolint:errcheck // not every test has made it
	})
	c, err := cni.New(cni.WithPluginDir([]string{host.Bin(t)}), cni.WithInterfacePrefix("eth"))
	if err == nil {
		err = c.Load(cni.WithConfListBytes([]byte(list)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return client{c}
}

// An allocation is a task group with a network.
type allocation struct {
	client
	id    string
	ns    string
	ports []cni.PortMapping
}

// allocate makes a namespace for an allocation, whose port 80 is published, for both protocols as Nomad does it.
func (c client) allocate(t *testing.T, number int, port int32) *allocation {
	t.Helper()
	a := &allocation{client: c, id: fmt.Sprintf("6b235529-8111-4bbe-520b-d639b1d2a9%02x", number), ns: host.NetNS(t)}
	for _, protocol := range []string{"tcp", "udp"} {
		a.ports = append(a.ports, cni.PortMapping{HostPort: port, ContainerPort: 80, Protocol: protocol})
		host.Serve(t, a.ns, protocol, ":80")
	}
	return a
}

// setup returns the address that Nomad would tell the allocation's tasks.
func (a *allocation) setup() (address string, err error) {
	result, err := a.Setup(context.Background(), a.id, a.ns, cni.WithCapabilityPortMap(a.ports))
	if err != nil {
		return "", err
	}
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range result.Interfaces {
			if !yield(name) {
				return
			}
		}
	})
	for _, name := range names {
		if i := result.Interfaces[name]; i.Sandbox != "" && len(i.IPConfigs) > 0 {
			return i.IPConfigs[0].IP.String(), nil
		}
	}
	return "", fmt.Errorf("no interface with an address among %v", names)
}

func (a *allocation) teardown() error {
	return a.Remove(context.Background(), a.id, a.ns, cni.WithCapabilityPortMap(a.ports))
}

// works checks the network of an allocation that has that address.
func (a *allocation) works(t *testing.T, address, outside string) {
	t.Helper()
	ip, err := netip.ParseAddr(address)
	if err != nil || !netip.MustParsePrefix(subnet).Contains(ip) {
		t.Fatalf("Nomad takes %q for the address of the allocation", address)
	}
	for _, network := range []string{"tcp", "udp"} {
		for _, from := range []string{outside, ""} {
			node.Answers(t, from, network, fmt.Sprintf("%s:%d", host.Uplink4, a.ports[0].HostPort), a.ns)
		}
		server := host.Serve(t, outside, network+"4", host.Internet4+":0")
		answer, err := host.Ask(t, a.ns, network, server, "")
		if from, _, _ := net.SplitHostPort(answer.Client); err != nil || from != host.Uplink4 {
			t.Errorf("%s to the world outside arrives from %s, %v; want %s", network, answer.Client, err, host.Uplink4)
		}
	}
	if lo := host.Links(t, a.ns)["lo"]; !lo.Up() {
		t.Error("lo is not up")
	}
}

// clean fails the test when more is left than the bridge, the chains that allocations share, the client's own, and what matches a pattern.
func clean(t *testing.T, before host.State, patterns ...string) {
	t.Helper()
	node.Clean(t, before, append(patterns, host.SharedBridge(bridge), `\b`+adminChain+`\b`, `^nft (table ip nat|chain ip nat POSTROUTING .*)$`)...)
}

func TestAllocation(t *testing.T) {
	for _, backend := range []string{"", "iptables"} {
		t.Run("ipMasqBackend="+backend, func(t *testing.T) {
			outside := host.Internet(t)
			c := start(t, list(backend))
			before := host.Snapshot(t)
			for i := range 2 {
				a := c.allocate(t, i, 25000)
				address, err := a.setup()
				if err != nil {
					t.Fatal(err)
				}
				a.works(t, address, outside)
				if rules := host.Run(t, "iptables-save", "-t", "filter"); !strings.Contains(rules, "-j "+adminChain) {
					t.Errorf("nothing leads to the client's own chain:\n%s", rules)
				}
				if i == 1 { // the pause container has gone before
					host.RemoveNetNS(t, a.ns)
				}
				if err := a.teardown(); err != nil {
					t.Error(err)
				}
				clean(t, before)
			}
		})
	}
}

// The client calls ADD up to three times without a DEL in between. What made the bridge fail is gone at the next attempt.
func TestRetry(t *testing.T) {
	outside := host.Internet(t)
	c := start(t, list(""))
	before := host.Snapshot(t)
	a := c.allocate(t, 1, 25000)
	host.Run(t, "ip", "link", "add", bridge, "type", "veth", "peer", "name", "other")
	for range 2 {
		if _, err := a.setup(); err == nil || !strings.Contains(err.Error(), bridge) {
			t.Fatalf("the bridge's name is somebody else's, and ADD says %v", err)
		}
	}
	host.Run(t, "ip", "link", "del", bridge)
	clean(t, before, `loopback@nomad@`+a.id) // which went well, and waits for its DEL
	address, err := a.setup()
	if err != nil {
		t.Fatal(err)
	}
	a.works(t, address, outside)
	if err := a.teardown(); err != nil {
		t.Error(err)
	}
	clean(t, before)
}

// When a later plugin fails, what those before it have made is there at the next attempts, which the specification wants to fail then. The DEL that
// follows the last of them removes it all.
func TestRetryOfChain(t *testing.T) {
	outside := host.Internet(t)
	c := start(t, list(""))
	before := host.Snapshot(t)
	holder, late := c.allocate(t, 1, 25000), c.allocate(t, 2, 25000)
	address, err := holder.setup()
	if err != nil {
		t.Fatal(err)
	}
	for attempt := range 3 {
		_, err := late.setup()
		if err == nil {
			t.Fatal("two allocations have a port")
		}
		if attempt == 0 && !strings.Contains(err.Error(), holder.id) {
			t.Errorf("the error doesn't name who has the port: %v", err)
		}
	}
	if err := late.teardown(); err != nil {
		t.Error(err)
	}
	holder.works(t, address, outside)
	if err := holder.teardown(); err != nil {
		t.Error(err)
	}
	clean(t, before)
	// The allocation is placed again.
	if address, err = late.setup(); err != nil {
		t.Fatal(err)
	}
	late.works(t, address, outside)
	if err := late.teardown(); err != nil {
		t.Error(err)
	}
	clean(t, before)
}

// postrouting is how the client recognises the rule of an allocation, to remove it and its chain after a DEL that failed.
var postrouting = regexp.MustCompile(`-A POSTROUTING -s (\S+) -m comment --comment "name: \\"nomad\\" id: \\"([[:xdigit:]-]+)\\"" -j (CNI-[[:xdigit:]]+)`)

// TestCleanUp is what the client does when DEL has failed.
func TestCleanUp(t *testing.T) {
	host.Internet(t)
	c := start(t, list("iptables"))
	before := host.Snapshot(t)
	a := c.allocate(t, 1, 25000)
	address, err := a.setup()
	if err != nil {
		t.Fatal(err)
	}
	rules := host.Run(t, "iptables", "-t", "nat", "-S", "POSTROUTING")
	m := postrouting.FindStringSubmatch(rules)
	if m == nil || m[1] != address+"/32" || m[2] != a.id {
		t.Fatalf("no rule for %s of allocation %s:\n%s", address, a.id, rules)
	}
	host.Run(t, "iptables", "-t", "nat", "-D", "POSTROUTING", "-s", m[1], "-m", "comment", "--comment", `name: "nomad" id: "`+m[2]+`"`, "-j", m[3])
	host.Run(t, "iptables", "-t", "nat", "-F", m[3])
	host.Run(t, "iptables", "-t", "nat", "-X", m[3])
	// DEL is content with that.
	if err := a.teardown(); err != nil {
		t.Error(err)
	}
	clean(t, before)
	if left, err := filepath.Glob("/var/lib/cni/networks/nomad/172.*"); err != nil || len(left) > 0 {
		t.Errorf("addresses are left: %v %v", left, err)
	}
}
