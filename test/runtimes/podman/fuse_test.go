package podman

import (
	"path/filepath"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

// fuse has the plugins of a network called in one process from now on, or with --undo as before.
func (p podman) fuse(t testing.TB, network string, args ...string) {
	t.Helper()
	host.Run(t, filepath.Join(host.Bin(t), "plumb"), append([]string{"fuse", network, "--netdir", p.networks}, args...)...)
}

// TestFused rewrites a network that podman has made, with containers on it.
func TestFused(t *testing.T) {
	outside := host.Internet(t)
	p := install(t, node.Ours(t))
	before := host.Snapshot(t)
	p.create(t, "net1", 1)
	first := p.run(t, "c1", "--network", "net1", "--publish", "8081:80")
	p.fuse(t, "net1")
	second := p.run(t, "c2", "--network", "net1:ip=10.210.1.77", "--publish", "8082:80", "--publish", "8082:80/udp")
	has(t, second, "eth0", "10.210.1.77", second.addresses("net1")[1])
	node.Answers(t, outside, "tcp", host.Uplink4+":8081", "c1")
	for _, network := range []string{"tcp", "udp"} {
		node.Answers(t, outside, network, host.Uplink4+":8082", "c2")
	}
	node.Answers(t, first.NetworkSettings.SandboxKey, "tcp", web("10.210.1.77"), "c2")
	p.Run(t, "restart", "--time", "0", "c2")
	node.Answers(t, outside, "tcp", host.Uplink4+":8082", "c2")
	p.Run(t, "network", "reload", "c2")
	node.Answers(t, outside, "tcp", host.Uplink4+":8082", "c2")
	p.Run(t, "rm", "--force", "c1") // made by the plugins one by one
	p.fuse(t, "net1", "--undo")
	p.gone(t, before) // and the other way round
}
