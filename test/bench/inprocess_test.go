package bench

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/inprocess"
	"github.com/plumb-cni/plumb/runtime"
	"github.com/plumb-cni/plumb/test/host"
)

// Without -rounds these are tests that few attachments can be made at once.

// crowd returns jobs for containers on a network, each with a host port of its own
// if the network's plugins map one.
func crowd(t testing.TB, list *cni.List, n int) []runtime.Job {
	t.Helper()
	jobs := make([]runtime.Job, n)
	for i := range jobs {
		jobs[i] = runtime.Job{List: list, Attachment: runtime.Attachment{
			ContainerID: fmt.Sprintf("member-%d", i), NetNS: host.NetNS(t), IfName: "eth0",
			CapabilityArgs: map[string]any{"portMappings": []any{map[string]any{
				"hostPort": 20000 + i, "containerPort": 80, "protocol": "tcp",
			}}},
		}}
	}
	return jobs
}

// network returns a list of a scenario whose portmap takes its ports from the
// caller.
func network(t testing.TB, s scenario, n int) *cni.List {
	t.Helper()
	list, err := cni.ParseList([]byte(s.config(n, "")))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list.Plugins {
		if p.Type != "portmap" {
			continue
		}
		p.Capabilities = map[string]bool{"portMappings": true}
		if p.Raw, err = cni.Derive(p.Raw, nil, "runtimeConfig"); err != nil {
			t.Fatal(err)
		}
	}
	return list
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

// inProcess returns a runtime that calls our plugins in this process.
func inProcess(t testing.TB) *runtime.Runtime {
	t.Helper()
	invoker := inprocess.New(inprocess.Options{})
	t.Cleanup(func() {
		if err := invoker.Close(); err != nil {
			t.Error(err)
		}
	})
	return &runtime.Runtime{Path: []string{host.Bin(t)}, Invoker: invoker}
}

// TestInProcess times ADD and DEL of one attachment after another.
func TestInProcess(t *testing.T) {
	r := inProcess(t)
	for i, s := range scenarios {
		job := crowd(t, network(t, s, 30+i), 1)[0]
		var adds, dels series
		for round := range warmups + *rounds {
			time.Sleep(pause)
			start := time.Now()
			_, err := r.Add(context.Background(), job.List, job.Attachment)
			added := time.Now()
			if err == nil {
				time.Sleep(pause)
				added2 := time.Now()
				err = r.Del(context.Background(), job.List, job.Attachment)
				if round >= warmups {
					adds, dels = append(adds, added.Sub(start)), append(dels, time.Since(added2))
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(adds)
		slices.Sort(dels)
		t.Logf("%-24s ADD %8v  DEL %8v", s.name(), adds[len(adds)/2].Round(time.Microsecond), dels[len(dels)/2].Round(time.Microsecond))
	}
}

// TestAtOnce times many attachments at once.
func TestAtOnce(t *testing.T) {
	r := inProcess(t)
	for i, c := range []struct {
		scenario
		n int
	}{{scenario{"bridge", "4", true}, 100}, {scenario{"bridge", "4", false}, 250}, {scenario{"bridge", "46", false}, 250}} {
		n := c.n
		if *rounds == 1 {
			n = 20
		}
		jobs := crowd(t, network(t, c.scenario, 50+i), n)
		for round := range max(2, min(*rounds, 5)) {
			start := time.Now()
			succeeded(t, r.AddAll(context.Background(), jobs, runtime.Bulk{}))
			added := time.Since(start)
			time.Sleep(pause)
			start = time.Now()
			succeeded(t, r.DelAll(context.Background(), jobs, runtime.Bulk{}))
			deleted := time.Since(start)
			if round > 0 {
				t.Logf("%s: %d added in %v (%.0f a second), deleted in %v", c.name(), n,
					added.Round(time.Millisecond), float64(n)/added.Seconds(), deleted.Round(time.Millisecond))
			}
		}
	}
}
