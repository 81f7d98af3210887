package state

// A queue is what several verbs want to be done, and is done for all who wait at
// once. Its lock is the machine's.
type queue[T any] struct {
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
	go func() {
		for batch := q.take(m); batch != nil; batch = q.take(m) {
			work(batch)
		}
		m.leave()
	}()
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
