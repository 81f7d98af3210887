package runtime

import (
	"context"
	"fmt"
	goruntime "runtime"
	"sync"

	"github.com/plumb-cni/plumb/cni"
)

// A Job is an attachment to be added to, or deleted from, a network.
type Job struct {
	List       *cni.List
	Attachment Attachment
}

// An Outcome is what became of a job.
type Outcome struct {
	Job
	Result *cni.Result // of an ADD that succeeded
	Err    error       // what Add or Del returned, or that the job was not begun
}

// Bulk says how to do many jobs at once. The zero Bulk is ready.
type Bulk struct {
	// Concurrency is how many jobs are done at a time. Zero means four for
	// each processor for AddAll, which has work to do, and 128 for DelAll,
	// which mostly waits for the kernel, or a quarter of that where each
	// plugin is a process.
	Concurrency int

	// Progress, if set, is told of every job that has ended, in the order in
	// which they do, and how many have by now. It is not called concurrently,
	// and what it takes is added to the whole.
	Progress func(done int, o Outcome)
}

// AddAll does what Add does for many attachments at once, and returns their
// outcomes in the order of the jobs. One that fails doesn't keep the others from
// being added; its DEL must follow. When ctx ends, no more jobs are begun.
//
// No container may be in two jobs.
func (r *Runtime) AddAll(ctx context.Context, jobs []Job, b Bulk) []Outcome {
	if b.Concurrency == 0 {
		b.Concurrency = 4 * goruntime.GOMAXPROCS(0)
	}
	return b.each(ctx, jobs, "add to", func(i int) (*cni.Result, error) { return r.Add(ctx, jobs[i].List, jobs[i].Attachment) })
}

// DelAll does what Del does for many attachments at once, as AddAll does. With an
// Invoker that removes links together, 500 take little longer than 50.
func (r *Runtime) DelAll(ctx context.Context, jobs []Job, b Bulk) []Outcome {
	if b.Concurrency == 0 {
		b.Concurrency = r.deletions()
	}
	return b.each(ctx, jobs, "delete from", func(i int) (*cni.Result, error) { return nil, r.Del(ctx, jobs[i].List, jobs[i].Attachment) })
}

// deletions is how many attachments are deleted at a time.
func (r *Runtime) deletions() int {
	if _, joins := r.invoker().(Chainer); joins {
		return 128
	}
	return 32
}

// each does every job, some at a time.
func (b Bulk) each(ctx context.Context, jobs []Job, what string, do func(i int) (*cni.Result, error)) []Outcome {
	outcomes := make([]Outcome, len(jobs))
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		next  int
		done  int
	)
	take := func() (i int, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, next <= len(jobs)
	}
	for range min(max(b.Concurrency, 1), len(jobs)) {
		group.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				o := Outcome{Job: jobs[i]}
				if ctx.Err() != nil {
					o.Err = fmt.Errorf("%s network %q, container %q, interface %q: not begun: %w", what,
						o.List.Name, o.Attachment.ContainerID, o.Attachment.IfName, context.Cause(ctx))
				} else {
					o.Result, o.Err = do(i)
				}
				outcomes[i] = o
				if b.Progress != nil {
					mu.Lock()
					done++
					b.Progress(done, o)
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	return outcomes
}
