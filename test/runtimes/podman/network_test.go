package podman

import (
	"testing"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

// TestRun is a container on a network with two families.
func TestRun(t *testing.T) {
	outside := host.Internet(t)
	p := install(t, node.Ours(t))
	before := host.Snapshot(t)
	p.Run(t, "network", "create", "--subnet", "10.210.0.0/24", "--ipv6", "--subnet", "fd00:210::/64", "net1")
	p.run(t, "c1", "--network", "net1", "--publish", "8080:80")
	node.Answers(t, outside, "tcp", host.Uplink4+":8080", "c1")
	p.Run(t, "rm", "--force", "--time", "0", "c1")
	p.Run(t, "network", "rm", "net1")
	node.Clean(t, before)
}
