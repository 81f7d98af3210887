package addrstore

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkLockWait has 200 callers at once, each of which takes an address and
// gives it back. It prints how long they wait for the lock.
func BenchmarkLockWait(b *testing.B) {
	const callers = 200
	dir := b.TempDir()
	o := new(Opener)
	var mu sync.Mutex
	var waits []time.Duration
	for b.Loop() {
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				id := fmt.Sprint("c", i)
				for _, add := range []bool{true, false} {
					start := time.Now()
					s, err := o.Create(ctx, dir, "net")
					if err != nil {
						b.Error(err)
						return
					}
					wait := time.Since(start)
					if add {
						next(b, s, id)
					} else if released, err := s.Release(id, "eth0"); len(released) != 1 {
						b.Error(released, err)
					}
					s.Close()
					mu.Lock()
					waits = append(waits, wait)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	slices.Sort(waits)
	b.ReportMetric(float64(waits[len(waits)/2].Microseconds()), "p50-wait-µs")
	b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds()), "p99-wait-µs")
}

// BenchmarkRebuild is what a change of the folder by somebody else costs the
// next verb.
func BenchmarkRebuild(b *testing.B) {
	for _, held := range []int{250, 50000} {
		b.Run(fmt.Sprint(held), func(b *testing.B) {
			dir := b.TempDir()
			o := new(Opener)
			with(b, o, dir, func(s *Store) {
				for i := range held {
					next(b, s, fmt.Sprint("c", i))
				}
			})
			for b.Loop() {
				with(b, o, dir, func(s *Store) { check(b, s.rebuild(false)) })
			}
		})
	}
}
