package state

import "fmt"

// A queue is what several verbs want to be done, and is done for all who wait at
// once. Its lock is the machine's.
type queue[T interface{ fail(error) }] struct {
	waiting []T
	workers int
}

// add has work done on what is added, along with what others have. At most limit
// are at it at a time; what comes meanwhile waits for the next.
func (q *queue[T]) add(m *Machine, limit int, more []T, work func([]T)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q.waiting = append(q.waiting, more...)
	if q.workers == limit || len(q.waiting) == 0 {
		return
	}
	q.workers++
	m.users++ // its namespace stays open
	go q.serve(m, work)
}

// serve works until nothing waits. A panic, such as of a thread that can't return
// from another namespace, fails what was being worked on and ends the goroutine
// with its thread; another one goes on.
func (q *queue[T]) serve(m *Machine, work func([]T)) {
	var batch []T
	defer func() {
		if p := recover(); p != nil {
			for _, one := range batch {
				one.fail(fmt.Errorf("panic: %v", p))
			}
			go q.serve(m, work)
			return
		}
		m.Leave()
	}()
	for batch = q.take(m); batch != nil; batch = q.take(m) {
		work(batch)
	}
}

// take returns all that wait, and lets the worker go if there are none.
func (q *queue[T]) take(m *Machine) []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	batch := q.waiting
	q.waiting = nil
	if batch == nil {
		q.workers--
	}
	return batch
}
