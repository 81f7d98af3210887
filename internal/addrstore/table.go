package addrstore

import (
	"errors"
	"io"
)

// A slot is an entry of a table: a key and what belongs to it. All zeros mean
// that it is free.
type slot [slotSize]byte

const (
	slotSize = 64
	keySize  = 32
)

func (s *slot) key() [keySize]byte { return [keySize]byte(s[:keySize]) }
func (s *slot) free() bool         { return s[0] == 0 }

// A table is a hash table with open addressing and linear probing that lives in
// a file, so that a process reads and writes the few slots that it is about
// instead of all of them. Several slots may have the same key.
type table struct {
	disk  readerWriterAt
	slots uint64 // capacity, a power of two
	live  uint64 // slots that are not free, at most half of them
}

type readerWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

const minSlots = 128

var errDamaged = errors.New("index is damaged")

// newTable returns an empty table in memory with room for n entries and some
// more.
func newTable(n uint64) table {
	slots := uint64(minSlots)
	for slots < n*5/2 {
		slots *= 2
	}
	return table{disk: make(memory, slots*slotSize), slots: slots}
}

// home is where the search for a key starts: its FNV-1a hash.
func (t *table) home(key [keySize]byte) uint64 {
	h := uint64(0xcbf29ce484222325)
	for _, b := range key {
		h = (h ^ uint64(b)) * 0x100000001b3
	}
	return h & (t.slots - 1)
}

// probe calls visit for the slots from i on, around the end if need be, until
// it returns false. A table without a free slot is damaged.
func (t *table) probe(i uint64, visit func(i uint64, s *slot) bool) error {
	const window = 16
	var buf [window * slotSize]byte
	for seen := uint64(0); seen < t.slots; {
		count := min(window, t.slots-i)
		part := buf[:count*slotSize]
		if _, err := t.disk.ReadAt(part, int64(i*slotSize)); err != nil {
			return err
		}
		for k := range count {
			if !visit(i+k, (*slot)(part[k*slotSize:])) {
				return nil
			}
		}
		seen += count
		i = (i + count) & (t.slots - 1)
	}
	return errDamaged
}

// all calls visit for every slot that is not free, in no order.
func (t *table) all(visit func(s *slot)) error {
	buf := make([]byte, t.slots*slotSize)
	if _, err := t.disk.ReadAt(buf, 0); err != nil {
		return err
	}
	for ; len(buf) > 0; buf = buf[slotSize:] {
		if s := (*slot)(buf); !s.free() {
			visit(s)
		}
	}
	return nil
}

// find returns the first slot of that key which match accepts; nil accepts any.
// If there is none, i is where one would go.
func (t *table) find(key [keySize]byte, match func(*slot) bool) (i uint64, found slot, ok bool, err error) {
	err = t.probe(t.home(key), func(j uint64, s *slot) bool {
		i = j
		if s.key() == key && (match == nil || match(s)) {
			found, ok = *s, true
		}
		return !ok && !s.free()
	})
	return i, found, ok, err
}

func (t *table) write(i uint64, s *slot) error {
	_, err := t.disk.WriteAt(s[:], int64(i*slotSize))
	return err
}

// add adds a slot, whether or not its key is there already. The caller makes
// room before (full).
func (t *table) add(s *slot) error {
	i, _, _, err := t.find(s.key(), func(*slot) bool { return false })
	if err != nil {
		return err
	}
	t.live++
	return t.write(i, s)
}

func (t *table) full() bool { return (t.live+1)*2 > t.slots }

// remove frees slot i and moves up what would no longer be found behind it.
func (t *table) remove(i uint64) error {
	mask := t.slots - 1
	var failed error
	err := t.probe((i+1)&mask, func(j uint64, s *slot) bool {
		if s.free() {
			return false
		}
		// A slot between its home and the hole is one that the hole hides.
		if (j-t.home(s.key()))&mask >= (j-i)&mask {
			if failed = t.write(i, s); failed != nil {
				return false
			}
			i = j
		}
		return true
	})
	if err = errors.Join(failed, err); err != nil {
		return err
	}
	t.live--
	return t.write(i, new(slot))
}

// resized returns a copy of the table in memory with room for n entries.
func (t *table) resized(n uint64) (table, error) {
	c := newTable(n)
	var failed error
	err := t.all(func(s *slot) {
		if failed == nil {
			failed = c.add(s)
		}
	})
	return c, errors.Join(err, failed)
}

// memory is a table's disk that isn't one.
type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error)  { return copy(p, m[off:]), nil }
func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }
