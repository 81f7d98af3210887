package state

import (
	"fmt"
	"time"
)

// A Trace records what an engine did and how long each step took. The nil
// Trace records nothing and costs nothing.
type Trace struct {
	Steps []TraceStep
}

// A TraceStep is one operation on one object.
type TraceStep struct {
	Op     string  `json:"op"` // "ensure", "undo", "diff", "remove", "ipam"
	Object string  `json:"object"`
	Micros float64 `json:"us"`
	Error  string  `json:"error,omitempty"`
}

// Time calls f and records how long it took.
func (t *Trace) Time(op string, object fmt.Stringer, f func() error) error {
	if t == nil {
		return f()
	}
	start := time.Now()
	err := f()
	step := TraceStep{Op: op, Object: object.String(), Micros: float64(time.Since(start).Nanoseconds()) / 1000}
	if err != nil {
		step.Error = err.Error()
	}
	t.Steps = append(t.Steps, step)
	return err
}
