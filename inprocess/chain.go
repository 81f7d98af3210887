package inprocess

import (
	"context"
	"errors"
	"sync"

	"github.com/plumb-cni/plumb/state"
)

// A chain is the DELs of one list. Those that wait for nothing but a link are
// waited for at the end, so that all links go in one message.
type chain struct {
	invoker *Invoker
	ctx     context.Context
	outer   *chain // whose plugin the list is, nil for none

	mu      sync.Mutex
	turn    bool           // is taken
	machine *state.Machine // of the first call
	joint   *state.Joint
	ended   func() bool // that the context's end need not be looked out for any more
	parked  []*call
}

type chainKey struct{}

// Chain implements runtime.Chainer.
func (i *Invoker) Chain(ctx context.Context) (context.Context, func() error) {
	outer, _ := ctx.Value(chainKey{}).(*chain)
	c := &chain{invoker: i, ctx: ctx, outer: outer}
	return context.WithValue(ctx, chainKey{}, c), c.wait
}

// takeTurn waits for the turn of the list, which its calls have together. A list
// that is a plugin of another has that one's, as it would wait for that else.
func (c *chain) takeTurn(ctx context.Context) error {
	if c.outer != nil {
		return c.outer.takeTurn(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turn {
		return nil
	}
	err := c.invoker.turns.take(ctx)
	c.turn = err == nil
	return err
}

// member returns what makes a call one of the chain, nil for none.
func (c *chain) member(m *state.Machine) *state.Member {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.joint == nil {
		c.machine, c.joint = m, m.Joint()
		// No more plugins are called then, whose link the others could go with.
		c.ended = context.AfterFunc(c.ctx, c.joint.End)
	}
	if m != c.machine {
		return nil // the thread has gone to another host since
	}
	return c.joint.Member()
}

func (c *chain) add(parked *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parked = append(c.parked, parked)
}

// wait waits for the calls that were parked and joins their errors.
func (c *chain) wait() error {
	if c.turn {
		defer c.invoker.turns.giveBack()
	}
	if c.joint == nil {
		return nil
	}
	c.ended()
	c.joint.End()
	var errs []error
	for _, parked := range c.parked {
		_, err := c.invoker.outcome(c.ctx, parked)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
