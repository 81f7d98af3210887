package podman

import (
	"fmt"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

// TestReload takes all rules away, as a firewall that is restarted does, and has podman make them again.
func TestReload(t *testing.T) {
	outside := host.Internet(t)
	p := install(t, node.Ours(t))
	before := host.Snapshot(t)
	p.create(t, "net1", 1)
	c1 := p.run(t, "c1", "--network", "net1", "--publish", "8080:80", "--publish", "8080:80/udp")
	node.Answers(t, outside, "udp", host.Uplink4+":8080", "c1")
	host.Run(t, "nft", "flush", "ruleset")
	node.Silent(t, outside, "tcp", host.Uplink4+":8080")

	p.Run(t, "network", "reload", "c1")
	after := p.inspect(t, "c1")
	for _, network := range []string{"tcp", "udp"} {
		node.Answers(t, outside, network, host.Uplink4+":8080", "c1")
		node.Answers(t, "", network, "127.0.0.1:8080", "c1")
		node.Answers(t, outside, network, "["+host.Uplink6+"]:8080", "c1")
	}
	for i, addr := range after.addresses("net1") {
		if was := c1.addresses("net1")[i]; addr != was {
			t.Errorf("after reload the container has %s, it had %s", addr, was)
		}
	}
	p.Run(t, "exec", "c1", "ping", "-c", "1", "-W", "2", host.Internet4)
	p.gone(t, before)
}

// TestRestart stops and starts a container in every way: while it is stopped nothing of it is there.
func TestRestart(t *testing.T) {
	outside := host.Internet(t)
	p := install(t, node.Ours(t))
	before := host.Snapshot(t)
	p.create(t, "net1", 1)
	p.run(t, "c1", "--network", "net1", "--publish", "8080:80", "--publish", "8080:80/udp")
	serves := func() {
		t.Helper()
		for _, network := range []string{"tcp", "udp"} {
			node.Answers(t, outside, network, host.Uplink4+":8080", "c1")
		}
	}
	stopped := func() {
		t.Helper()
		node.Clean(t, before, host.SharedBridge("cni-podman1"))
	}
	serves()
	p.Run(t, "restart", "c1")
	serves()
	p.Run(t, "stop", "c1")
	stopped()
	p.Run(t, "start", "c1")
	serves()
	p.Run(t, "kill", "c1") // by the process that watches the container
	stopped()
	p.Run(t, "start", "c1")
	serves()
	p.gone(t, before)
}

// TestPod is a pod, whose containers share a namespace.
func TestPod(t *testing.T) {
	outside := host.Internet(t)
	p := install(t, node.Ours(t))
	before := host.Snapshot(t)
	p.create(t, "net1", 1)
	p.Run(t, "pod", "create", "--name", "pod", "--hostname", "pod", "--network", "net1", "--infra-image", image, "--publish", "8080:80")
	p.Run(t, "run", "--detach", "--name", "c1", "--pod", "pod", image, "sleep", "600")
	node.Answers(t, outside, "tcp", host.Uplink4+":8080", "pod")
	p.Run(t, "exec", "c1", "ping", "-c", "1", "-W", "2", host.Internet6)
	p.Run(t, "pod", "rm", "--force", "--time", "0", "pod")
	p.gone(t, before)
}

// TestMany starts containers at the same time, on one network with ports, and removes them so.
func TestMany(t *testing.T) {
	const many = 8
	outside := host.Internet(t)
	p := install(t, node.Ours(t))
	before := host.Snapshot(t)
	p.create(t, "net1", 1)
	each := func(do func(name string, n int) []string) {
		t.Helper()
		errs := make(chan error)
		for n := range many {
			go func() {
				_, err := p.Try(do(fmt.Sprintf("c%d", n), n)...)
				errs <- err
			}()
		}
		for range many {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	}
	each(func(name string, n int) []string {
		return []string{"run", "--detach", "--name", name, "--hostname", name, "--network", "net1", "--publish", fmt.Sprintf("%d:80", 8080+n), image}
	})
	for n := range many {
		node.Answers(t, outside, "tcp", fmt.Sprintf("%s:%d", host.Uplink4, 8080+n), fmt.Sprintf("c%d", n))
	}
	each(func(name string, _ int) []string { return []string{"rm", "--force", name} })
	p.gone(t, before)
}
