package containerd

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

// TestFused rewrites the list while containerd runs and a pod is there, and back.
func TestFused(t *testing.T) {
	outside := host.Internet(t)
	before := host.Snapshot(t)
	c := install(t, node.Ours(t), network("1.0.0"))
	first := c.run(t, c.sandbox("first", publish(cri.Protocol_TCP, "", 8081)))
	c.fuse(t, true)
	second := c.run(t, c.sandbox("second", publish(cri.Protocol_TCP, "", 8082)))
	addressed(t, second)
	for address, name := range map[string]string{host.Uplink4 + ":8081": "first", host.Uplink4 + ":8082": "second"} {
		node.Answers(t, outside, "tcp", address, name)
	}
	node.Answers(t, first.ns, "tcp", host.Uplink4+":8082", "second")
	first.end(t) // made by the plugins one by one
	c.fuse(t, false)
	node.Answers(t, outside, "tcp", host.Uplink4+":8082", "second")
	second.end(t) // and the other way round
	clean(t, before)
}

// fuse has the plugins of the list called in one process, or undoes that, and waits until containerd has read it.
func (c *containerd) fuse(t *testing.T, fused bool) {
	t.Helper()
	args := []string{"fuse", c.list}
	if !fused {
		args = append(args, "--undo")
	}
	host.Run(t, filepath.Join(host.Bin(t), "plumb"), args...)
	node.Eventually(t, func() error {
		status, err := c.Status(context.Background(), &cri.StatusRequest{Verbose: true})
		if err == nil && strings.Contains(status.Info["cniconfig"], `"type":"plumb"`) != fused {
			err = errors.New("containerd has the list of before: " + status.Info["cniconfig"])
		}
		return err
	})
}
