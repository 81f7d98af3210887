package containerd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

// TestBench measures how long a pod takes to start, and to be stopped and removed. One containerd serves all contenders: its folder of
// plugins leads to those whose turn it is, and its network is theirs.
func TestBench(t *testing.T) {
	host.Internet(t)
	plugins := filepath.Join(t.TempDir(), "plugins")
	c := install(t, node.Plugins{Name: "those whose turn it is", Dir: plugins}, network("1.0.0"))
	const busy = "two families, 2 ports, limits"
	networked := c.sandbox("pod", publish(cri.Protocol_TCP, "", 8080), publish(cri.Protocol_UDP, "", 8080))
	networked.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "100M", "kubernetes.io/egress-bandwidth": "100M"}
	without := c.sandbox("pod")
	without.Hostname = ""
	without.Linux.SecurityContext = &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}}

	trial := func(turn node.Plugins, list string) node.Trial {
		return func(t testing.TB, network string) (start, remove time.Duration) {
			t.Helper()
			c.renet(t, list)
			os.Remove(plugins) //nolint:errcheck // there is none at first
			if err := os.Symlink(turn.Dir, plugins); err != nil {
				t.Fatal(err)
			}
			config := without
			if network == busy {
				config = networked
			}
			time.Sleep(containerdGC)
			var id string
			var err error
			start = node.Clock(func() { id, err = c.tryRun(config) })
			if err != nil {
				t.Fatal(err)
			}
			remove = node.Clock(func() { err = errors.Join(c.stop(id), c.remove(id)) })
			if err != nil {
				t.Fatal(err)
			}
			return start, remove
		}
	}
	node.Bench(t, "containerd, pods", []string{"host network", busy},
		node.Contender{Name: "reference " + host.ReferenceVersion, Trial: trial(node.Reference(t), network("1.0.0"))},
		node.Contender{Name: "plumb", Trial: trial(node.Ours(t), network("1.0.0")), Target: 5},
		node.Contender{Name: "plumb, fused", Trial: trial(node.Ours(t), fused(t, network("1.0.0"))), Target: 8})
}

// containerdGC is how long after the end of a pod containerd collects garbage, which is nothing of the next one's. It has read a new list by
// then, too.
const containerdGC = 300 * time.Millisecond
