package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"
	"github.com/plumb-cni/plumb/test/host"
)

// presentTarget is how many times longer an ADD may take beside many attachments
// than beside few.
const presentTarget = 1.5

// A throng is attachments that are there while others come and go. They are
// spread over networks: a bridge has no more than 1,023 ports, and sends the
// multicasts by which a container finds its IPv6 neighbours to all of them.
type throng struct {
	runtime *runtime.Runtime
	lists   []*cni.List
	jobs    []runtime.Job
	there   int
}

func newThrong(t testing.TB, c contender, s scenario, networks, size int) *throng {
	t.Helper()
	g := &throng{runtime: c.runtime(t)}
	for range networks {
		g.lists = append(g.lists, c.wide(t, s, wideNumber()))
	}
	start := time.Now()
	paths := sandboxes(t, size)
	t.Logf("%d namespaces made in %v", size, time.Since(start).Round(time.Millisecond))
	for i, path := range paths {
		g.jobs = append(g.jobs, runtime.Job{List: g.lists[i%networks], Attachment: runtime.Attachment{
			ContainerID: fmt.Sprintf("member-%d", i), NetNS: path, IfName: "eth0",
		}})
	}
	return g
}

// grow adds until so many are there.
func (g *throng) grow(t testing.TB, n int) {
	t.Helper()
	start := time.Now()
	succeeded(t, g.runtime.AddAll(context.Background(), g.jobs[g.there:n], runtime.Bulk{}))
	t.Logf("%d attachments added in %v", n-g.there, time.Since(start).Round(time.Millisecond))
	g.there = n
	settle(t)
}

// end removes all and returns how long it took.
func (g *throng) end(t testing.TB) time.Duration {
	t.Helper()
	start := time.Now()
	succeeded(t, g.runtime.DelAll(context.Background(), g.jobs[:g.there], runtime.Bulk{}))
	return time.Since(start)
}

// beside measures ADD and DEL on the throng's first network while more and more others are there.
func (g *throng) beside(t testing.TB, title string, s scenario, who []contender, levels []int, labels []string) []timing {
	t.Helper()
	var as []*attachment
	for _, c := range who {
		a := &attachment{contender: c, scenario: s, list: g.lists[0], netns: host.NetNS(t), offer: offer(8000)}
		as = append(as, a)
	}
	adds, dels := make([][]series, len(as)), make([][]series, len(as))
	for _, n := range levels {
		g.grow(t, n)
		add, del := make([]series, len(as)), make([]series, len(as))
		for round := range warmups + max(*rounds/2, 1) {
			for i, a := range as {
				added, deleted := a.run(t, cni.VerbAdd), a.run(t, cni.VerbDel)
				if round >= warmups {
					add[i], del[i] = append(add[i], added), append(del[i], deleted)
				}
			}
		}
		for i := range as {
			adds[i], dels[i] = append(adds[i], add[i]), append(dels[i], del[i])
		}
	}
	var all []timing
	for i, a := range as {
		title := title + ": " + a.contender.name
		add, del := compare(title, "ADD", labels, adds[i]), compare(title, "DEL", labels, dels[i])
		for _, label := range labels[1:] {
			add.longer(labels[0], label, presentTarget)
			del.longer(labels[0], label, 0)
		}
		all = append(append(all, add...), del...)
	}
	return all
}

// timeBridgePorts measures beside the ports of a bridge whose containers have
// IPv6: each of them is sent every multicast of the others.
func timeBridgePorts(t *testing.T, list []contender) []timing {
	t.Helper()
	ports := 400
	if few() {
		ports = 8
	}
	s := scenario{"bridge", "46", false}
	mine := named(list, ours, execOurs)
	g := newThrong(t, mine[0], s, 1, ports)
	all := g.beside(t, "ports on the bridge, IPv6 on", s, mine, []int{0, ports}, []string{"none", fmt.Sprint(ports)})
	g.end(t)
	return all
}

// timePresent measures beside attachments on a hundred bridges.
func timePresent(t *testing.T, list []contender) []timing {
	t.Helper()
	networks, levels, labels := 100, []int{10, 1000, 10000}, []string{"10", "1,000", "10,000"}
	if few() {
		networks, levels, labels = 10, []int{10, 20, 40}, []string{"10", "20", "40"}
	}
	s := scenario{"bridge", "4", false}
	mine := named(list, ours, execOurs)
	g := newThrong(t, mine[0], s, networks, levels[2])
	all := g.beside(t, "attachments present", s, mine, levels, labels)
	before := hostLinks(t)
	took := compare(labels[2]+" attachments at once", "DEL", []string{ours}, []series{{g.end(t)}})
	took[0].Each = levels[2]
	if left := hostLinks(t) - (before - levels[2]); left > 0 {
		t.Errorf("%d links are there when all are removed", left)
	}
	return append(all, took...)
}
