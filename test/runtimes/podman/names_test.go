package podman

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

// TestNames is the plugin dnsname, which podman adds to its networks when it finds one: containers reach each other by name and alias, as long as
// they share a network.
func TestNames(t *testing.T) {
	host.Internet(t)
	p := install(t, node.Ours(t))
	before := host.Snapshot(t)
	p.create(t, "net1", 1, "--disable-dns=false")
	p.create(t, "net2", 2, "--disable-dns=false")
	c1 := p.run(t, "c1", "--network", "net1")
	c2 := p.run(t, "c2", "--network", "net1", "--network-alias", "web")
	p.run(t, "both", "--network", "net1,net2")
	other := p.run(t, "other", "--network", "net2")

	lookUp := func(from, name string, want ...string) {
		t.Helper()
		node.Eventually(t, func() error {
			out, err := p.Try("exec", from, "nslookup", name)
			for _, addr := range want {
				if !strings.Contains(out, "Address: "+addr+"\n") && !strings.HasSuffix(out, "Address: "+addr) {
					return fmt.Errorf("%s is not %s for %s: %v\n%s", name, addr, from, err, out)
				}
			}
			return nil
		})
	}
	lookUp("c1", "c2.dns.podman", c2.addresses("net1")...)
	lookUp("c1", "web.dns.podman", c2.addresses("net1")...)
	lookUp("c2", "c1.dns.podman", c1.addresses("net1")...)
	lookUp("both", "c1.dns.podman", c1.addresses("net1")...)
	lookUp("both", "other.dns.podman", other.addresses("net2")...)
	p.Run(t, "exec", "c1", "ping", "-c", "1", "-W", "2", "web") // by the search list, as programs do
	p.Run(t, "exec", "other", "ping", "-c", "1", "-W", "2", "both")
	if out, err := p.Try("exec", "c1", "nslookup", "other.dns.podman"); err == nil {
		t.Errorf("a container finds one of another network: %s", out)
	}

	p.Run(t, "restart", "c2")
	lookUp("c1", "c2.dns.podman", p.inspect(t, "c2").addresses("net1")...)
	p.Run(t, "network", "disconnect", "net1", "both")
	if out, err := p.Try("exec", "c1", "nslookup", "both.dns.podman"); err == nil {
		t.Errorf("a container that has left the network is found: %s", out)
	}

	p.gone(t, before)
	node.Eventually(t, func() error {
		if out := host.Run(t, "ss", "-Hln", "sport", "=", ":53"); out != "" {
			return fmt.Errorf("the resolver listens still: %s", out)
		}
		return nil
	})
}
