package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"
)

// many returns jobs on networks by turns.
func many(t *testing.T, n int, networks ...*cni.List) []runtime.Job {
	t.Helper()
	jobs := make([]runtime.Job, n)
	for i := range jobs {
		jobs[i] = runtime.Job{List: networks[i%len(networks)], Attachment: at(fmt.Sprint("c", i))}
	}
	return jobs
}

// TestBulk adds and deletes attachments of which some fail.
func TestBulk(t *testing.T) {
	b := newBench(t, "a", "b")
	good, bad := list(t, "1.1.0", plugA, plugB), list(t, "1.1.0", plugA, `{"type":"missing"}`)
	bad.Name = "bad"
	jobs := many(t, 20, good, bad)
	var told []int
	outcomes := b.AddAll(t.Context(), jobs, runtime.Bulk{Concurrency: 7, Progress: func(done int, o runtime.Outcome) {
		told = append(told, done)
		if failed := o.List == bad; (o.Err != nil) != failed || (o.Result == nil) != failed {
			t.Errorf("progress of %s on %s: %v", o.Attachment.ContainerID, o.List.Name, o.Err)
		}
	}})
	if len(outcomes) != len(jobs) || len(told) != len(jobs) || !slices.IsSorted(told) {
		t.Fatalf("%d outcomes, and progress %v", len(outcomes), told)
	}
	for i, o := range outcomes {
		missing := (*runtime.NotFoundError)(nil)
		if o.Attachment.ContainerID != jobs[i].Attachment.ContainerID || errors.As(o.Err, &missing) != (o.List == bad) {
			t.Errorf("outcome %d is of %s: %v", i, o.Attachment.ContainerID, o.Err)
		}
	}
	if cached := b.cached(); len(cached) != 10 {
		t.Errorf("cached are %v", cached)
	}
	for _, o := range b.DelAll(t.Context(), jobs, runtime.Bulk{}) {
		if (o.Err != nil) != (o.List == bad) {
			t.Errorf("DEL of %s: %v", o.Attachment.ContainerID, o.Err)
		}
	}
	if cached := b.cached(); len(cached) != 0 {
		t.Errorf("still cached are %v", cached)
	}
}

// TestBulkEnds: when the context ends, no more jobs are begun, and each says so.
func TestBulkEnds(t *testing.T) {
	b := newBench(t, "a")
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	outcomes := b.AddAll(ctx, many(t, 10, list(t, "1.1.0", plugA)), runtime.Bulk{Concurrency: 1, Progress: func(done int, _ runtime.Outcome) {
		if done == 3 {
			cancel(enough)
		}
	}})
	for i, o := range outcomes {
		if begun := i < 3; (o.Err == nil) != begun || !begun && !errors.Is(o.Err, enough) {
			t.Errorf("job %d: %v", i, o.Err)
		}
	}
	if calls := b.calls(); len(calls) != 3 {
		t.Errorf("the plugin was called %q", calls)
	}
}
