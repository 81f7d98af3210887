package state

import (
	"slices"
	"testing"
)

// A wish is what waits in a queue.
type wish struct {
	name string
	done chan error
}

func (w wish) fail(err error) { w.done <- err }

// TestQueueOfPanic: a panic fails those whose work it ends, and nobody else.
func TestQueueOfPanic(t *testing.T) {
	m, err := NewMachine()
	if err != nil {
		t.Fatal(err)
	}
	var q queue[wish]
	var served []string
	panicking := make(chan bool)
	work := func(batch []wish) {
		for _, w := range batch {
			if w.name == "bad" {
				<-panicking
				<-panicking
				panic("thrown")
			}
			served = append(served, w.name)
			w.done <- nil
		}
	}
	bad, good := wish{"bad", make(chan error, 1)}, wish{"good", make(chan error, 1)}
	q.add(m, 1, []wish{bad}, work)
	panicking <- false // it is being worked on
	q.add(m, 1, []wish{good}, work)
	panicking <- true
	if err := <-bad.done; err == nil || err.Error() != "panic: thrown" {
		t.Errorf("the bad one: %v", err)
	}
	if err := <-good.done; err != nil || !slices.Equal(served, []string{"good"}) {
		t.Errorf("the other: %v, served are %q", err, served)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
