package inprocess

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// Turns are how many calls may be served at a time. Each takes a thread, as it
// waits in system calls, and some descriptors; Go ends a process of 10,000 threads,
// and the kernel does little more at once than it does one by one.
type turns chan struct{}

const (
	mostTurns = 128 // what runtime.DelAll asks for

	// perTurn is how many descriptors there have to be for each: a call has half a
	// dozen open, and another of its list may wait for it with some of its own.
	perTurn = 16
)

// newTurns returns as many as the process may have descriptors for.
func newTurns() turns {
	n := uint64(mostTurns)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		n = max(1, min(n, limit.Cur/perTurn))
	}
	return make(turns, n)
}

// take waits for a turn, as long as the context lasts.
func (t turns) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w, while %d other calls were being served", context.Cause(ctx), cap(t))
	}
}

func (t turns) giveBack() { <-t }
