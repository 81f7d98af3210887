package state

import (
	"context"
	"time"
)

// A Patience is how long, and how often, to look for what the kernel does in
// its own time.
type Patience struct {
	Timeout time.Duration
	Pause   time.Duration // before the second look; it doubles with each
	Longest time.Duration // pause
}

// Await looks until it is so, and reports whether it became so in time. It ends
// early with the error of a look or of ctx.
func (p Patience) Await(ctx context.Context, look func() (bool, error)) (bool, error) {
	deadline := time.Now().Add(p.Timeout)
	for pause := p.Pause; ; pause = min(2*pause, p.Longest) {
		so, err := look()
		if so || err != nil {
			return so, err
		}
		if time.Now().After(deadline) {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(pause):
		}
	}
}
