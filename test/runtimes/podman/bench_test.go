package podman

import (
	"fmt"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

// TestBench times podman run and podman rm of a container.
func TestBench(t *testing.T) {
	host.Internet(t)
	t.Cleanup(func() { host.Run(t, "nft", "flush", "ruleset") }) // the reference leaves its chains
	networks := []string{"without a network", "on a bridge", "with two published ports"}
	contenders := []node.Contender{{Name: "reference " + host.ReferenceVersion}, {Name: "plumb", Target: 5}, {Name: "plumb, fused", Target: 8}}
	for n := range contenders {
		plugins, name := node.Ours(t), fmt.Sprintf("net%d", n)
		if n == 0 {
			plugins = node.Reference(t)
		}
		p := install(t, plugins)
		p.create(t, name, n+1)
		args := map[string][]string{
			networks[0]: {"--network", "none"},
			networks[1]: {"--network", name},
			networks[2]: {"--network", name, "--publish", "8080:80", "--publish", "8080:80/udp"},
		}
		contenders[n].Trial = func(t testing.TB, network string) (start, remove time.Duration) {
			t.Helper()
			start = node.Clock(func() {
				p.Run(t, append(append([]string{"run", "--detach", "--name", "c1", "--hostname", "c1"}, args[network]...), image)...)
			})
			if network == networks[2] {
				node.Answers(t, "", "tcp", "127.0.0.1:8080", "c1")
			}
			return start, node.Clock(func() { p.Run(t, "rm", "--force", "--time", "0", "c1") })
		}
		contenders[n].Trial(t, networks[1]) // makes the bridge, whose name podman gives to the next network otherwise
		if contenders[n].Name == "plumb, fused" {
			p.fuse(t, name)
			t.Cleanup(func() { p.fuse(t, name, "--undo") }) // podman doesn't find the bridge of a fused network, and would leave it
		}
	}
	version := node.Runtime{Args: []string{"podman"}}.Run(t, "--version")
	node.Bench(t, version, networks, contenders...)
}
