package addrstore

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// An index answers what the records of a network can only answer by being
// listed: which addresses a container holds, and which address is free next.
// Each costs a few reads, however many records there are. It is a cache: what
// can't be read or written is built again from the records.
//
// It has an entry for each held address, found by its holder, and the bits of
// a tree: a slot of level 0 has a bit for each of 256 addresses that is held,
// one of level 1 a bit for each of 256 slots below it that is full, and so on.
//
// One thing is in no record: which addresses have ever been held since the
// machine booted, whose bits stay.
type index struct {
	table
	whole bool // all that were held since then are known

	saved bool // the slots are those of file, not in memory
	file  file
	path  string
	step  func(string)

	// broken means that a change could not be written, so what is in the file
	// must not be used again.
	broken bool
}

const (
	kindHolder = 'h'
	kindHeld   = 'u'
	kindPast   = 'p'
)

// holderKey is the key of the entries of a record's addresses.
func holderKey(r Record) (key [keySize]byte) {
	key[0] = kindHolder
	sum := sha256.Sum256(r.Bytes())
	copy(key[1:], sum[:keySize-1])
	return key
}

// containerHash tells containers apart within the entries of an index.
func containerHash(id string) uint64 {
	sum := sha256.Sum256([]byte(id))
	return binary.BigEndian.Uint64(sum[:])
}

// heldKey is the key of the slot of a level that has the bit of an address.
func heldKey(level int, a [16]byte) (key [keySize]byte) {
	key[0], key[1] = kindHeld, byte(level)
	copy(key[2:], a[:15-level])
	return key
}

// pastKey is the key of the slot that has the bit of an address which was ever
// held.
func pastKey(a [16]byte) (key [keySize]byte) {
	key[0] = kindPast
	copy(key[2:], a[:15])
	return key
}

// The value of a holder's entry: the address and the hash of the container.

func newHolder(a netip.Addr, r Record) *slot {
	s := new(slot)
	key, addr := holderKey(r), a.As16()
	copy(s[:], key[:])
	copy(s[keySize:], addr[:])
	binary.BigEndian.PutUint64(s[keySize+16:], containerHash(r.ContainerID))
	return s
}

func (s *slot) addr() netip.Addr {
	return netip.AddrFrom16([16]byte(s[keySize:])).Unmap()
}

func (s *slot) container() uint64 { return binary.BigEndian.Uint64(s[keySize+16:]) }

// The value of a slot of the tree: 256 bits.

func (s *slot) bit(n byte) (*byte, byte) { return &s[keySize+n/8], 1 << (n % 8) }

func (s *slot) full() bool {
	return !slices.ContainsFunc(s[keySize:], func(b byte) bool { return b != 0xff })
}

func (s *slot) empty() bool {
	return !slices.ContainsFunc(s[keySize:], func(b byte) bool { return b != 0 })
}

// firstZero returns the first bit from n on that is not set, or 256.
func (s *slot) firstZero(n int) int {
	for ; n < 256; n++ {
		if n%8 == 0 && s[keySize+n/8] == 0xff {
			n += 7
			continue
		}
		if b, mask := s.bit(byte(n)); *b&mask == 0 {
			break
		}
	}
	return n
}

// put notes that a record holds an address that was free.
func (x *index) put(a netip.Addr, r Record) error {
	if err := x.insert(newHolder(a, r)); err != nil {
		return err
	}
	bits := a.As16()
	for level := range 16 {
		i, s, ok, err := x.find(heldKey(level, bits), nil)
		if err != nil {
			return err
		}
		b, mask := s.bit(bits[15-level])
		*b |= mask
		if !ok {
			key := heldKey(level, bits)
			copy(s[:], key[:])
			return x.insert(&s)
		}
		if err := x.write(i, &s); err != nil || !s.full() {
			return err
		}
	}
	return nil
}

// remember notes that an address is held by somebody, and reports whether
// nobody has held it since the machine booted.
func (x *index) remember(a netip.Addr) (first bool, err error) {
	bits := a.As16()
	key := pastKey(bits)
	i, s, ok, err := x.find(key, nil)
	if err != nil {
		return false, err
	}
	b, mask := s.bit(bits[15])
	first = *b&mask == 0
	*b |= mask
	switch {
	case !ok:
		copy(s[:], key[:])
		err = x.insert(&s)
	case first:
		err = x.write(i, &s)
	}
	return first && x.whole && err == nil, err
}

// past returns the slots that tell which addresses were ever held.
func (x *index) past() (slots []*slot, err error) {
	err = x.all(func(s *slot) {
		if s[0] == kindPast {
			slots = append(slots, s)
		}
	})
	return slots, err
}

// drop notes that an address is free that the record held.
func (x *index) drop(a netip.Addr, r Record) error {
	i, _, ok, err := x.find(holderKey(r), func(s *slot) bool { return s.addr() == a })
	if err == nil && ok {
		err = x.remove(i)
	}
	if err != nil {
		return err
	}
	bits := a.As16()
	for level := range 16 {
		i, s, ok, err := x.find(heldKey(level, bits), nil)
		if err != nil || !ok {
			return err
		}
		wasFull := s.full()
		b, mask := s.bit(bits[15-level])
		*b &^= mask
		if s.empty() {
			err = x.remove(i)
		} else {
			err = x.write(i, &s)
		}
		if err != nil || !wasFull {
			return err
		}
	}
	return nil
}

// heldBy returns the addresses that a record's holder has according to the
// index.
func (x *index) heldBy(r Record) (addrs []netip.Addr, err error) {
	key := holderKey(r)
	err = x.probe(x.home(key), func(_ uint64, s *slot) bool {
		if s.key() == key {
			addrs = append(addrs, s.addr())
		}
		return !s.free()
	})
	return addrs, err
}

// nextFree returns the first free address from a on, the zero Addr if there is
// none. The caller compares it with the end of its range.
func (x *index) nextFree(a netip.Addr) (netip.Addr, error) {
	bits := a.As16()
	level, from := 0, int(bits[15])
	for level < 16 {
		_, s, _, err := x.find(heldKey(level, bits), nil)
		if err != nil {
			return netip.Addr{}, err
		}
		free := s.firstZero(from)
		if free == 256 { // look for the next one that is not full, a level up
			level++
			if level < 16 {
				from = int(bits[15-level]) + 1
			}
			continue
		}
		bits[15-level] = byte(free)
		if level == 0 {
			return netip.AddrFrom16(bits).Unmap(), nil
		}
		// Whatever is below the bit begins there anew.
		for i := 16 - level; i < 16; i++ {
			bits[i] = 0
		}
		level, from = level-1, 0
	}
	return netip.Addr{}, nil
}

// insert adds a slot and doubles the table when that makes it too full.
func (x *index) insert(s *slot) error {
	if x.full() {
		bigger, err := x.resized(x.live + 1)
		if err != nil {
			return err
		}
		x.table = bigger
		if x.saved {
			if err := x.save(); err != nil {
				return err
			}
		}
	}
	return x.add(s)
}

// A header is the beginning of an index file. It is zero while the file is
// incomplete, and it is written last.
type header struct {
	Magic [8]byte
	Boot  [40]byte // of which boot: without fsync, a power cut loses what it likes
	Stamp stamp    // of the folder, as left by whoever wrote the index
	Slots uint64
	Live  uint64
	Whole uint64 // not 0 if it is known of all addresses whether they have been held in this boot
}

// A stamp tells whether a folder has changed.
type stamp struct {
	Dev, Inode   uint64
	Mtime, Ctime [2]int64
}

const headerSize = 4096 // a page, which keeps the slots aligned

func magic() [8]byte { return [8]byte([]byte("plumbix2")) }

func stampOf(dir string) (stamp, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return stamp{}, &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	return stamp{
		Dev: uint64(st.Dev), Inode: st.Ino,
		Mtime: [2]int64{int64(st.Mtim.Sec), int64(st.Mtim.Nsec)},
		Ctime: [2]int64{int64(st.Ctim.Sec), int64(st.Ctim.Nsec)},
	}, nil
}

// beforeBoot reports whether the last change was before the machine booted.
func (s stamp) beforeBoot() bool {
	var up unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
		return false
	}
	booted := time.Now().Add(-time.Duration(up.Nano()))
	return time.Unix(s.Ctime[0], s.Ctime[1]).Before(booted)
}

// Errors of an index that can't be used: of an earlier boot, and for any other
// reason.
var (
	errPast  = errors.New("index is of an earlier boot")
	errStale = errors.New("index is stale")
)

// openIndex opens the index at path if it is of the folder's present state.
func openIndex(path, boot string, now stamp, step func(string)) (*index, error) {
	f, err := open(path, unix.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	h, want := header{}, header{}
	buf := make([]byte, binary.Size(h))
	var st unix.Stat_t
	if _, err = f.ReadAt(buf, 0); err == nil {
		_, err = binary.Decode(buf, binary.LittleEndian, &h)
	}
	if err == nil {
		err = unix.Fstat(int(f), &st)
	}
	want = header{Magic: magic(), Stamp: now, Slots: h.Slots, Live: h.Live, Whole: h.Whole}
	copy(want.Boot[:], boot)
	if err == nil && h.Magic == want.Magic && h.Boot != want.Boot {
		f.close()
		return nil, errPast
	}
	if err != nil || h != want || h.Slots < minSlots || h.Slots&(h.Slots-1) != 0 || uint64(st.Size) != headerSize+h.Slots*slotSize {
		f.close()
		return nil, errors.Join(errStale, err)
	}
	return &index{
		table: table{disk: section{f, step}, slots: h.Slots, live: h.Live},
		whole: h.Whole != 0, saved: true, file: f, path: path, step: step,
	}, nil
}

// section is the part of an index file that holds the slots.
type section struct {
	file file
	step func(string)
}

func (s section) ReadAt(p []byte, off int64) (int, error) { return s.file.ReadAt(p, headerSize+off) }

func (s section) WriteAt(p []byte, off int64) (int, error) {
	s.step("write index")
	return s.file.WriteAt(p, headerSize+off)
}

// save writes a table in memory to a new file that replaces the index's. The
// header is left to seal.
func (x *index) save() error {
	slots, ok := x.disk.(memory)
	if !ok {
		return nil
	}
	temp := x.path + "-new" // one for all, because they hold the lock
	x.step("create index")
	f, err := open(temp, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(slots, headerSize); err == nil {
		x.step("rename index")
		err = os.Rename(temp, x.path)
	}
	if err != nil {
		f.close()
		os.Remove(temp)
		return fmt.Errorf("write index: %w", err)
	}
	x.close()
	x.saved, x.file, x.disk = true, f, section{f, x.step}
	return nil
}

// seal declares the index to be of a state of the folder.
func (x *index) seal(boot string, now stamp) error {
	h := header{Magic: magic(), Stamp: now, Slots: x.slots, Live: x.live}
	if x.whole {
		h.Whole = 1
	}
	copy(h.Boot[:], boot)
	buf, err := binary.Append(nil, binary.LittleEndian, h)
	if err != nil {
		return err
	}
	x.step("seal index")
	_, err = x.file.WriteAt(buf, 0)
	return err
}

func (x *index) close() {
	if x.saved {
		x.file.close()
	}
	x.saved = false
}
