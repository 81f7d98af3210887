package containerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

// Pods outlive a containerd that is killed, and the next one takes them off their network.
func TestRestart(t *testing.T) {
	outside := host.Internet(t)
	before := host.Snapshot(t)
	c := install(t, node.Ours(t), network("1.0.0"))
	web := c.run(t, c.sandbox("web", publish(cri.Protocol_TCP, "", 8080), publish(cri.Protocol_UDP, "", 8080)))
	stopped := c.run(t, c.sandbox("stopped", publish(cri.Protocol_TCP, "", 8081)))
	if err := c.stop(stopped.id); err != nil {
		t.Fatal(err)
	}

	c.kill(t)
	node.Answers(t, outside, "tcp", host.Uplink4+":8080", "web")
	c.start(t)

	again := c.pod(t, web.config, web.id)
	if !slices.Equal(again.ips, web.ips) {
		t.Errorf("containerd knows the pod's addresses %v as %v after a restart", web.ips, again.ips)
	}
	for _, network := range []string{"tcp", "udp"} {
		node.Answers(t, outside, network, host.Uplink4+":8080", "web")
	}
	masqueraded(t, web, outside)
	// A new pod gets addresses of its own, and the port that the stopped one had.
	next := c.run(t, c.sandbox("next", publish(cri.Protocol_TCP, "", 8081)))
	for _, ip := range next.ips {
		if slices.Contains(web.ips, ip) {
			t.Errorf("two pods have %s", ip)
		}
	}
	node.Answers(t, outside, "tcp", host.Uplink4+":8081", "next")
	stopped.end(t) // nothing of the next one's goes with it
	node.Answers(t, outside, "tcp", host.Uplink4+":8081", "next")

	web.end(t)
	next.end(t)
	clean(t, before)
}

// A pod whose processes and namespace went while containerd was away, as they do when a host is started anew, is cleaned up all the same: DEL
// comes without a namespace then.
func TestNamespaceGone(t *testing.T) {
	host.Internet(t)
	before := host.Snapshot(t)
	c := install(t, node.Ours(t), network("1.0.0"))
	config := c.sandbox("web", publish(cri.Protocol_TCP, "", 8080))
	config.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "20M", "kubernetes.io/egress-bandwidth": "10M"}
	web := c.run(t, config)
	c.kill(t)
	if err := syscall.Kill(web.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Unmount(web.ns, syscall.MNT_DETACH), os.Remove(web.ns)); err != nil {
		t.Fatal(err)
	}
	c.start(t)
	web.end(t)
	clean(t, before)
}

// containerd is killed while pods start, and while they stop, at different points of the plugins' work. What it knows after its restart can be
// stopped and removed, the same pods can be started again, and nothing is left of those that nobody asks for any more.
func TestKilledAtWork(t *testing.T) {
	outside := host.Internet(t)
	before := host.Snapshot(t)
	c := install(t, node.Ours(t), network("1.0.0"))
	configs := make([]*cri.PodSandboxConfig, 4)
	for i := range configs {
		configs[i] = c.sandbox(fmt.Sprintf("pod%d", i), publish(cri.Protocol_TCP, "", int32(8080+i)))
		configs[i].Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "20M", "kubernetes.io/egress-bandwidth": "10M"}
	}
	// restart kills containerd once there are that many records of attachments, or as few, while calls are made.
	restart := func(records int, enough func(is, want int) bool, calls ...func()) {
		t.Helper()
		var made sync.WaitGroup
		for _, call := range calls {
			made.Go(call)
		}
		node.Eventually(t, func() error {
			if is := countRecords(t); !enough(is, records) {
				return fmt.Errorf("%d records of attachments, waiting for %d", is, records)
			}
			return nil
		})
		c.kill(t)
		made.Wait()
		c.start(t)
	}
	sweep := func() {
		t.Helper()
		for _, s := range c.sandboxes(t) {
			if err := errors.Join(c.stop(s.Id), c.remove(s.Id)); err != nil {
				t.Errorf("sandbox %s: %v", s.Metadata.Name, err)
			}
		}
	}

	var starts []func()
	for _, config := range configs {
		starts = append(starts, func() { c.tryRun(config) }) //nolint:errcheck // the daemon is killed meanwhile
	}
	for _, records := range []int{1, 5, 12} {
		restart(records, func(is, want int) bool { return is >= want }, starts...)
		sweep()
		clean(t, before)
	}
	for _, records := range []int{20, 6} {
		var stops []func()
		for i, config := range configs {
			p := c.run(t, config)
			node.Answers(t, outside, "tcp", fmt.Sprintf("%s:%d", host.Uplink4, 8080+i), config.Metadata.Name)
			stops = append(stops, func() { c.stop(p.id) }) //nolint:errcheck // the daemon is killed meanwhile
		}
		restart(records, func(is, want int) bool { return is <= want }, stops...)
		sweep()
		clean(t, before)
	}
}

// countRecords tells how many attachments, of one plugin each, the plugins have on record.
func countRecords(t *testing.T) int {
	t.Helper()
	records, err := filepath.Glob("/run/plumb/attachments/*@*")
	if err != nil {
		t.Fatal(err)
	}
	return len(records)
}

// A port that another pod has is refused, and that is the only pod that suffers.
func TestPortTaken(t *testing.T) {
	outside := host.Internet(t)
	before := host.Snapshot(t)
	c := install(t, node.Ours(t), network("1.0.0"))
	first := c.run(t, c.sandbox("first", publish(cri.Protocol_TCP, "", 8080)))
	second := c.sandbox("second", publish(cri.Protocol_TCP, "", 8081), publish(cri.Protocol_TCP, "", 8080))
	for range 2 {
		id, err := c.tryRun(second)
		if err == nil {
			t.Fatalf("sandbox %s has a port that another has", id)
		}
		for _, part := range []string{"portmap", "8080", first.id} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("the error doesn't name %s: %v", part, err)
			}
		}
	}
	node.Answers(t, outside, "tcp", host.Uplink4+":8080", "first")
	node.Silent(t, outside, "tcp", host.Uplink4+":8081")
	first.end(t)
	p := c.run(t, second)
	node.Answers(t, outside, "tcp", host.Uplink4+":8080", "second")
	p.end(t)
	clean(t, before)
}
