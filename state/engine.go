package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// An Engine applies, compares and removes plans for one owner and one verb.
// It is the only writer of kernel state.
type Engine struct {
	Kernel *Kernel
	Owner  Owner
	Trace  *Trace // nil records nothing

	// Before, if set, is called before each step of Apply. Tests end the
	// process there.
	Before func(Step)

	undos []done // in order
}

// done is a step that was applied.
type done struct {
	what named
	undo Undo
}

// Apply makes every step of a plan be so, up to the first that fails.
func (e *Engine) Apply(ctx context.Context, plan Plan) error {
	for _, s := range plan {
		if e.Before != nil {
			e.Before(s)
		}
		err := e.Trace.Time("ensure", named{s}, func() error {
			u, err := s.Ensure(ctx, e.Kernel)
			if u != nil && !s.Shared {
				e.undos = append(e.undos, done{named{s}, u})
			}
			return err
		})
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.Key(), err)
		}
	}
	return nil
}

// Undo takes back in reverse what all Applies did, including one that failed or
// panicked. It attempts all and joins the errors.
func (e *Engine) Undo(ctx context.Context) error {
	var errs []error
	for _, d := range slices.Backward(e.undos) {
		errs = append(errs, e.Trace.Time("undo", d.what, func() error { return d.undo(ctx) }))
	}
	e.undos = nil
	return errors.Join(errs...)
}

// Diff compares a plan with what is there.
func (e *Engine) Diff(ctx context.Context, plan Plan) ([]Drift, error) {
	var drifts []Drift
	r := e.Kernel.Reader()
	for _, s := range plan {
		err := e.Trace.Time("diff", named{s}, func() error {
			d, err := s.Diff(ctx, r)
			drifts = append(drifts, d...)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Key(), err)
		}
	}
	return drifts, nil
}

// Remove removes objects as far as they are the owner's, in the order of kinds
// and within a kind in reverse. It attempts all and joins the errors.
func (e *Engine) Remove(ctx context.Context, kinds []Kind, objects []Object) error {
	var errs []error
	for _, kind := range kinds {
		for _, obj := range slices.Backward(objects) {
			if obj.Key.Kind != kind.Kind() {
				continue
			}
			err := e.Trace.Time("remove", obj.Key, func() error {
				return kind.Remove(ctx, e.Kernel, obj, e.Owner)
			})
			if err != nil {
				errs = append(errs, fmt.Errorf("remove %s: %w", obj.Key, err))
			}
		}
	}
	return errors.Join(errs...)
}

// named reads as a resource's key, which is not computed unless it is printed.
type named struct{ Resource }

func (n named) String() string { return n.Key().String() }

// Describe writes drifts as one line.
func Describe(drifts []Drift) string {
	lines := make([]string, len(drifts))
	for i, d := range drifts {
		lines[i] = d.String()
	}
	return strings.Join(lines, "; ")
}
