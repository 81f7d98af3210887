package portmap_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// TestFirstAtOnce has several containers be the first to need what attachments
// share.
func TestFirstAtOnce(t *testing.T) {
	for round := range 3 {
		pods := make([]*pod, 6)
		for i := range pods {
			pods[i] = newPod(t, fmt.Sprintf("first%d-%d", round, i), bridged, with(t, plain, "backend", "iptables"), port{HostPort: 9000 + i, ContainerPort: 80})
		}
		for _, tool := range []string{"iptables", "ip6tables"} {
			host.Run(t, tool, "-t", "nat", "-F")
			host.Run(t, tool, "-t", "nat", "-X")
		}
		failures := make([]*cni.Error, len(pods))
		var group sync.WaitGroup
		for i, p := range pods {
			group.Go(func() { failures[i] = p.tryAdd(t) })
		}
		group.Wait()
		for i, p := range pods {
			if failures[i] != nil {
				t.Errorf("ADD %s: %v", p.id, failures[i])
			} else {
				p.check(t)
			}
			p.del(t, p.after(t))
		}
	}
}
