package firewall_test

import (
	"sync"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// TestFirstAtOnce has several containers be the first to need what attachments
// share in the legacy tables.
func TestFirstAtOnce(t *testing.T) {
	for range 3 {
		wipe(t)
		for _, tool := range []string{"iptables-legacy", "ip6tables-legacy"} {
			host.Run(t, tool, "-P", "FORWARD", "DROP")
		}
		var pods []*pod
		for i := range 6 {
			pods = append(pods, newPod(t, 90+i, 2, ""))
		}
		var group sync.WaitGroup
		for _, p := range pods {
			group.Go(func() { p.Add(t) })
		}
		group.Wait()
		for _, p := range pods {
			p.Check(t)
			p.Del(t)
			p.bridge.Del(t)
		}
	}
}
