package plugin

import (
	"context"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
)

// CHECK waits a little for what the kernel does in its own time, such as
// duplicate address detection (SPEC section 2: "a reasonable convergence
// delay").
const (
	convergenceTries = 3
	convergencePause = 50 * time.Millisecond
)

// check compares the plan that prevResult leads to with what is there.
func (d *Def[C]) check(ctx context.Context, s *session) error {
	c, err := d.config(s.Request)
	if err != nil {
		return err
	}
	prev := s.Config.PrevResult
	if prev == nil {
		return cni.Errorf(cni.CodeInvalidConfig, "prevResult is missing, which CHECK needs")
	}
	k, err := s.host.open(s.NetNS)
	if err != nil {
		return err
	}
	defer k.Close()
	if _, err := k.Namespace(state.Sandbox); err != nil {
		return cni.Errorf(cni.CodeUnknownContainer, "CNI_NETNS %s: %w", s.NetNS, err)
	}

	if d.needsIPAM(c, s.Request) {
		if err := s.ipamCheck(ctx); err != nil {
			return err
		}
	}
	plan, err := d.plan(ctx, c, s.Request, s.Own(prev), k.Reader())
	if err != nil {
		return err
	}
	e := s.engine(k, s.Owner)
	for try := 1; ; try++ {
		drifts, err := e.Diff(ctx, plan)
		if err != nil {
			return err
		}
		if len(drifts) == 0 {
			return nil
		}
		if try == convergenceTries {
			return cni.Errorf(state.CodeDrift, "%s", state.Describe(drifts))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(convergencePause):
		}
	}
}
