package nftconn

import (
	"slices"
	"sync"
)

// A Memory is what Conns of one namespace, in a process that lives on, have read
// of its tables, chains, rules and names of maps, and need not read again: it
// holds for as long as nobody has changed the ruleset since but these Conns
// themselves, who know what they changed. The ruleset's generation tells, which
// is asked for with every look. Of elements nothing is remembered, as they come
// and go. The zero Memory knows nothing; it is safe for concurrent use.
type Memory struct {
	mu sync.Mutex

	// What is known holds in all generations from first to last, none of
	// which has changed any of it.
	first, last Generation
	known       map[fact]Query

	// ahead is what transactions of our own behind last have changed, which
	// were told of before one that came earlier.
	ahead map[Generation][]change
}

// A fact names what a query asks for, and is empty where that is not remembered.
type fact struct {
	of    string
	table Table
	name  string
}

// Of facts.
const (
	aTable  = "table"
	aChain  = "chain"
	rulesOf = "rules" // of a chain, or of a table where that is empty
	mapsOf  = "maps"
	basesOf = "base chains" // of a family, at a point
)

// mostKnown is how many facts are kept: some dozens are asked for again and
// again, and a container's chain that is not there is one more each time.
const mostKnown = 512

// after tells whether a generation is later than another: the count starts again
// some day.
func (g Generation) after(other Generation) bool { return int32(g-other) > 0 }

// holds tells whether what is known holds in a generation.
func (m *Memory) holds(g Generation) bool {
	return m.known != nil && !m.first.after(g) && !g.after(m.last)
}

// knows splits queries into those that are likely to be answered and others.
func (m *Memory) knows(queries []Query) (known, others []Query) {
	if m == nil {
		return nil, queries
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, q := range queries {
		if _, ok := m.known[q.fact()]; ok {
			known = append(known, q)
		} else {
			others = append(others, q)
		}
	}
	return known, others
}

// answer answers queries as of a generation, all or none.
func (m *Memory) answer(g Generation, queries []Query) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.holds(g) {
		return false
	}
	for _, q := range queries {
		if m.known[q.fact()] == nil {
			return false
		}
	}
	for _, q := range queries {
		q.recall(m.known[q.fact()])
	}
	return true
}

// learn remembers answers that were read between a generation and another that is
// still the same, or what came of it by our own doing alone.
func (m *Memory) learn(from, to Generation, answers map[fact]Query) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if from != to && (!m.holds(from) || !m.holds(to)) {
		return
	}
	if !m.holds(to) {
		if m.known != nil && !to.after(m.last) {
			return // it is of the past
		}
		m.first, m.last, m.known = to, to, make(map[fact]Query)
		m.follow()
		if m.first != to {
			return
		}
	}
	if len(m.known)+len(answers) > mostKnown {
		clear(m.known)
	}
	for f, q := range answers {
		m.known[f] = q
	}
}

// committed takes note of a transaction of our own that led to a generation.
func (m *Memory) committed(g Generation, t *Tx) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ahead == nil || len(m.ahead) > mostKnown {
		m.ahead = make(map[Generation][]change)
	}
	var changes []change
	for _, op := range t.ops {
		if op.changes.what != "" {
			changes = append(changes, op.changes)
		}
	}
	m.ahead[g] = changes
	m.follow()
}

// follow goes on over transactions of our own.
func (m *Memory) follow() {
	for m.known != nil {
		changes, ok := m.ahead[m.last+1]
		if !ok {
			break
		}
		m.last++
		for _, c := range changes {
			if m.forget(c) {
				m.first = m.last
			}
		}
	}
	for g := range m.ahead {
		if !g.after(m.last) {
			delete(m.ahead, g)
		}
	}
}

// A change is what a message of a transaction may do to what is remembered.
type change struct {
	what  string // one of the following; empty for elements
	table Table
	name  string
}

const (
	someTable = "some table" // is made, unless it is there
	someMap   = "some map"   // the same
	someRules = "some rules" // of a chain
	anything  = "anything"
)

// forget drops what a change makes untrue, and tells whether it may have made
// anything untrue that somebody is about to learn.
func (m *Memory) forget(c change) bool {
	switch c.what {
	case someTable:
		f := fact{of: aTable, table: c.table}
		if q, ok := m.known[f].(*TableQuery); ok && q.Found && !q.Dormant {
			return false
		}
		delete(m.known, f)
	case someMap:
		f := fact{of: mapsOf, table: c.table}
		if q, ok := m.known[f].(*MapsQuery); ok && slices.Contains(q.Names, c.name) {
			return false
		}
		delete(m.known, f)
	case someRules:
		delete(m.known, fact{of: rulesOf, table: c.table, name: c.name})
		delete(m.known, fact{of: rulesOf, table: c.table})
	default:
		clear(m.known)
	}
	return true
}

// remembered returns copies of answers to be learned.
func remembered(queries []Query) map[fact]Query {
	var answers map[fact]Query
	for _, q := range queries {
		if f := q.fact(); f != (fact{}) {
			if answers == nil {
				answers = make(map[fact]Query, len(queries))
			}
			answers[f] = q.copy()
		}
	}
	return answers
}
