package plugin

import (
	"context"
	"slices"
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
		return cni.Errorf(cni.CodeUnknownContainer, "CNI_NETNS %s: %w", s.NetNS, err).WithDetails("the container is gone, or its path is another one by now")
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
	plan, lost, err := d.expected(ctx, s, k, plan)
	if err != nil {
		return err
	}
	e := s.engine(k, s.Owner)
	for try := 1; ; try++ {
		drifts, err := e.Diff(ctx, plan)
		if err != nil {
			return err
		}
		drifts = append(drifts, lost...)
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

// expected returns what there has to be of a plan, and reports a record that is
// not there though ADD has written one: without it DEL does not find all, nor
// gives back what was there before. An attachment that another implementation
// made has none, and has of the plan only what others make.
func (d *Def[C]) expected(ctx context.Context, s *session, k *state.Kernel, plan state.Plan) (state.Plan, []state.Drift, error) {
	record, err := s.host.Records.Load(d.Name, s.Owner)
	if err != nil || record != nil {
		return plan, nil, err
	}
	made, err := s.madeByPlumb(ctx, k, plan)
	if err != nil {
		return nil, nil, err
	}
	if !made {
		return plan.Common(), nil, nil
	}
	if !slices.ContainsFunc(plan, state.Step.Owned) {
		return plan, nil, nil // nothing was on record
	}
	return plan, s.host.Records.Missing(d.Name, s.Owner), nil
}

// madeByPlumb tells who made what a plan wants: by its marks, where it has
// anything that carries one. For what can't, such as a sysctl, it is by other
// plugins' records of the attachment that one knows who has run its list.
func (s *session) madeByPlumb(ctx context.Context, k *state.Kernel, plan state.Plan) (bool, error) {
	marks := false
	for _, step := range plan {
		m, ok := step.Resource.(state.Marked)
		if !ok {
			continue
		}
		marks = true
		if made, err := m.Marked(ctx, k.Reader()); made || err != nil {
			return made, err
		}
	}
	if marks {
		return false, nil
	}
	id, err := k.SandboxID()
	if err != nil {
		return false, err
	}
	return s.host.Records.Any(id, s.Owner)
}
