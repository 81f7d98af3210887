package inprocess

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/runtime"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

// TestTurns has more callers than turns: all are served, and one that waits for
// its turn doesn't longer than its context lasts.
func TestTurns(t *testing.T) {
	before := host.Hold(t)
	i := New(Options{})
	i.turns = make(turns, 3)
	var serving, most atomic.Int32
	with(i, "counts", func(context.Context, *plugin.Request, state.Reader) error {
		now := serving.Add(1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		serving.Add(-1)
		return nil
	})
	entered, release := make(chan bool), make(chan bool)
	with(i, "waits", func(context.Context, *plugin.Request, state.Reader) error {
		entered <- true
		<-release
		return nil
	})
	check := func(name string) *cni.Request {
		return request(t, cni.VerbCheck, `{"cniVersion":"1.1.0","name":"net","type":"`+name+`","prevResult":{"cniVersion":"1.1.0"}}`)
	}
	var group sync.WaitGroup
	req := check("waits")
	for range cap(i.turns) {
		group.Go(func() {
			if _, err := i.Invoke(t.Context(), "waits", req); err != nil {
				t.Error(err)
			}
		})
		<-entered
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	req = check("counts")
	group.Go(func() {
		if _, err := i.Invoke(ctx, "counts", req); !errors.Is(err, enough) {
			t.Errorf("one that waits for its turn: %v", err)
		}
		close(release)
	})
	for range 30 {
		group.Go(func() {
			if _, err := i.Invoke(t.Context(), "counts", req); err != nil {
				t.Error(err)
			}
		})
	}
	cancel(enough)
	group.Wait()
	if n := most.Load(); n < 1 || n > 3 {
		t.Errorf("%d were served at once", n)
	}
	afterwards(t, i, before)
}

// TestTurnOfList: a list within a list, whose plugins wait for each other's links,
// is deleted in one turn.
func TestTurnOfList(t *testing.T) {
	host.Need(t, "tbf", "ifb", "mirred")
	before := host.Hold(t)
	i := New(Options{})
	i.turns = make(turns, 1)
	list, err := cni.ParseList([]byte(`{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"plumb","plugins":[
		{"type":"ptp","ipam":{"type":"host-local","subnet":"10.77.0.0/24"}},
		{"type":"bandwidth","egressRate":100000000,"egressBurst":1000000}]},
		{"type":"tuning","sysctl":{"net.core.somaxconn":"512"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r := &runtime.Runtime{Path: []string{t.TempDir()}, Invoker: i}
	jobs := make([]runtime.Job, 8)
	for k := range jobs {
		jobs[k] = runtime.Job{List: list, Attachment: runtime.Attachment{ContainerID: fmt.Sprint("pod", k), NetNS: host.NetNS(t), IfName: "eth0"}}
	}
	untouched := len(host.Links(t, ""))
	for _, o := range r.AddAll(t.Context(), jobs, runtime.Bulk{}) {
		if o.Err != nil {
			t.Error(o.Err)
		}
	}
	for _, o := range r.DelAll(t.Context(), jobs, runtime.Bulk{}) {
		if o.Err != nil {
			t.Error(o.Err)
		}
	}
	if n := len(host.Links(t, "")); n != untouched {
		t.Errorf("%d links are left", n-untouched)
	}
	afterwards(t, i, before)
}

// TestFewDescriptors deletes many at once in a process that may not open many files.
func TestFewDescriptors(t *testing.T) {
	before := host.Hold(t)
	jobs := make([]runtime.Job, 60)
	list, err := cni.ParseList([]byte(ptp))
	if err != nil {
		t.Fatal(err)
	}
	for k := range jobs {
		jobs[k] = runtime.Job{List: list, Attachment: runtime.Attachment{ContainerID: fmt.Sprint("pod", k), NetNS: host.NetNS(t), IfName: "eth0"}}
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := syscall.Rlimit{Cur: uint64(before.Descriptors) + 128, Max: limit.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	i := New(Options{})
	r := &runtime.Runtime{Path: []string{t.TempDir()}, Invoker: i}
	added := r.AddAll(t.Context(), jobs, runtime.Bulk{Concurrency: len(jobs)})
	deleted := r.DelAll(t.Context(), jobs, runtime.Bulk{})
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	for _, o := range append(added, deleted...) {
		if o.Err != nil {
			t.Error(o.Err)
		}
	}
	afterwards(t, i, before)
}
