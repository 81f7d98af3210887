package containerd

import (
	"fmt"
	"sync"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

// Thirty pods come and go at once, as on a node that has been started.
func TestCrowd(t *testing.T) {
	outside := host.Internet(t)
	before := host.Snapshot(t)
	c := install(t, node.Ours(t), network("1.0.0"))
	ids := make([]string, 30)
	pods := make([]*pod, len(ids))
	atOnce := func(f func(i int) error) {
		var calls sync.WaitGroup
		for i := range ids {
			calls.Go(func() {
				if err := f(i); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	configs := make([]*cri.PodSandboxConfig, len(ids))
	for i := range configs {
		configs[i] = c.sandbox(fmt.Sprintf("pod%d", i), publish(cri.Protocol_TCP, "", int32(9000+i)), publish(cri.Protocol_UDP, "", int32(9000+i)))
		configs[i].Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "100M", "kubernetes.io/egress-bandwidth": "100M"}
	}

	atOnce(func(i int) (err error) { ids[i], err = c.tryRun(configs[i]); return err })
	holders := make(map[string]string)
	for i := range pods {
		pods[i] = c.pod(t, configs[i], ids[i])
		name := configs[i].Metadata.Name
		addressed(t, pods[i])
		for _, ip := range pods[i].ips {
			if other := holders[ip]; other != "" {
				t.Errorf("%s and %s both have %s", other, name, ip)
			}
			holders[ip] = name
		}
		for _, network := range []string{"tcp", "udp"} {
			node.Answers(t, outside, network, fmt.Sprintf("%s:%d", host.Uplink4, 9000+i), name)
			node.Answers(t, outside, network, fmt.Sprintf("[%s]:%d", host.Uplink6, 9000+i), name)
		}
	}
	for i, p := range pods {
		host.Ping(t, p.ns, pods[(i+1)%len(pods)].ips[i%2])
	}
	atOnce(func(i int) error { return c.stop(ids[i]) })
	atOnce(func(i int) error { return c.remove(ids[i]) })
	clean(t, before)
}
