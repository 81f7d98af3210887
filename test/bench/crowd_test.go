package bench

import (
	"context"
	"fmt"
	"os"
	goruntime "runtime"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"
	"golang.org/x/sys/unix"
)

// Targets of many attachments at once.
const (
	crowdTarget   = 40  // times as many a second as the reference
	removalTarget = 60  // times faster than the reference
	removalLimit  = 900 // ms
)

// sandboxes returns the paths of so many new network namespaces, which go at the
// end of the test. They have no names, since nothing but their makers looks for them
// and mounts would take longer than what is measured.
func sandboxes(t testing.TB, n int) []string {
	t.Helper()
	paths := make([]string, n)
	made := make(chan error)
	go func() {
		goruntime.LockOSThread() // never unlocked: the thread ends in the last of them
		made <- func() error {
			for i := range paths {
				if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
					return fmt.Errorf("make network namespace %d: %w", i, err)
				}
				fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					return err
				}
				t.Cleanup(func() { unix.Close(fd) }) //nolint:errcheck // read only
				paths[i] = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
			}
			return nil
		}()
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	return paths
}

// wide returns network number n of a contender, with room for many containers.
func (c contender) wide(t testing.TB, s scenario, n int) *cni.List {
	t.Helper()
	var ranges, routes string
	for _, f := range s.families {
		if f == '4' {
			ranges, routes = fmt.Sprintf(`[{"subnet":"10.%d.%d.0/20"}]`, 84+n/16, n%16*16), `{"dst":"0.0.0.0/0"}`
		} else {
			ranges, routes = ranges+fmt.Sprintf(`,[{"subnet":"fd00:80:%x::/64"}]`, n), routes+`,{"dst":"::/0"}`
		}
	}
	return c.parse(t, s.conflist(n, c.backend, ranges, routes))
}

// wideNumber returns the number of a network for wide, another one each time.
func wideNumber() int {
	wides++
	return 255 + wides
}

var wides int

// jobs are containers on a network, each with a host port of its own.
func jobs(list *cni.List, paths []string) []runtime.Job {
	jobs := make([]runtime.Job, len(paths))
	for i, path := range paths {
		jobs[i] = runtime.Job{List: list, Attachment: runtime.Attachment{
			ContainerID: fmt.Sprintf("member-%d", i), NetNS: path, IfName: "eth0", CapabilityArgs: offer(20000 + i),
		}}
	}
	return jobs
}

// succeeded fails the test for what did not succeed.
func succeeded(t testing.TB, outcomes []runtime.Outcome) {
	t.Helper()
	for _, o := range outcomes {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
	}
}

// runtime returns the runtime library with the plugins of a contender. It is the same for
// all, and so is how many it calls at a time.
func (c contender) runtime(t testing.TB) *runtime.Runtime {
	r := &runtime.Runtime{Path: []string{c.bin}}
	if !c.executes() {
		r.Invoker = invoker(t)
	}
	return r
}

// A crowd is many attachments of one contender that come and go at once.
type crowd struct {
	contender
	runtime   *runtime.Runtime
	jobs      []runtime.Job
	rounds    int // how often it is measured
	links     int // on the host for each attachment
	adds      series
	dels      series
	stillHere int // links of the host when a removal had ended, at most
}

// newCrowd makes the containers, and attaches and removes some to be warm.
func newCrowd(t testing.TB, c contender, s scenario, size, rounds int) *crowd {
	t.Helper()
	m := &crowd{contender: c, runtime: c.runtime(t), jobs: jobs(c.wide(t, s, wideNumber()), sandboxes(t, size)), rounds: rounds}
	some := m.jobs[:min(4, size)]
	succeeded(t, m.runtime.AddAll(context.Background(), some, runtime.Bulk{}))
	succeeded(t, m.runtime.DelAll(context.Background(), some, runtime.Bulk{}))
	return m
}

// measure adds and removes all of a crowd.
func (m *crowd) measure(t testing.TB) {
	t.Helper()
	settle(t)
	before := hostLinks(t)
	start := time.Now()
	outcomes := m.runtime.AddAll(context.Background(), m.jobs, runtime.Bulk{})
	m.adds = append(m.adds, time.Since(start))
	succeeded(t, outcomes)
	m.links = hostLinks(t) - before

	settle(t)
	start = time.Now()
	outcomes = m.runtime.DelAll(context.Background(), m.jobs, runtime.Bulk{})
	m.dels = append(m.dels, time.Since(start))
	m.stillHere = max(m.stillHere, hostLinks(t)-before)
	succeeded(t, outcomes)
}

// timeAtOnce measures crowds in turn, until each has had its rounds. All of them have to have
// made the same number of links.
func timeAtOnce(t testing.TB, scenario string, crowds []*crowd) (adds, dels timings) {
	t.Helper()
	var who []string
	for round, more := 0, true; more; round++ {
		more = false
		for _, m := range crowds {
			if round < m.rounds {
				m.measure(t)
				more = true
			}
		}
	}
	var added, removed []series
	for _, m := range crowds {
		who, added, removed = append(who, m.name), append(added, m.adds), append(removed, m.dels)
		if m.links != crowds[0].links {
			t.Errorf("%s made %d links on the host, %s %d", m.name, m.links, crowds[0].name, crowds[0].links)
		}
	}
	adds, dels = compare(scenario, "ADD", who, added), compare(scenario, "DEL", who, removed)
	for i, m := range crowds {
		adds[i].Each, dels[i].Each = len(m.jobs), len(m.jobs)
		dels[i].Pending = m.stillHere
		if m.stillHere > 0 && m.name != reference && m.name != refNFT {
			t.Errorf("%s: removal ended with %d links still there", m.name, m.stillHere)
		}
	}
	return adds, dels
}

// times is how often a crowd is measured, if that takes a while.
func times(n int) int {
	if few() {
		return 1
	}
	return n
}

// timeCrowd measures full chains at once.
func timeCrowd(t *testing.T, list []contender) []timing {
	t.Helper()
	size := 100
	if few() {
		size = 8
	}
	var crowds []*crowd
	for _, c := range list {
		n := times(4)
		if c.name == reference || c.name == refNFT {
			n = 1 // most of a minute
		}
		crowds = append(crowds, newCrowd(t, c, fullChain, size, n))
	}
	adds, dels := timeAtOnce(t, fmt.Sprintf("%d full chains at once", size), crowds)
	adds.faster(reference, map[string]float64{ours: crowdTarget})
	dels.faster(reference, nil)
	return append(adds, dels...)
}

// timeRemoval measures how long it takes to remove very many attachments.
func timeRemoval(t *testing.T, list []contender) []timing {
	t.Helper()
	size := 500
	if few() {
		size = 8
	}
	var crowds []*crowd
	for _, c := range named(list, ours, fusedOurs, execOurs, reference) {
		n := times(4)
		if c.name != ours {
			n = 1 // the reference needs a minute
		}
		crowds = append(crowds, newCrowd(t, c, scenario{"bridge", "4", false}, size, n))
	}
	adds, dels := timeAtOnce(t, fmt.Sprintf("%d bridge attachments at once", size), crowds)
	adds.faster(reference, nil)
	dels.faster(reference, map[string]float64{ours: removalTarget})
	for i := range dels {
		if dels[i].Contender == ours {
			dels[i].Claims = append(dels[i].Claims, claim{Of: "ms", Ratio: dels[i].Median, AtMost: removalLimit})
		}
	}
	return append(adds, dels...)
}
