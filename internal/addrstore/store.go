// Package addrstore keeps on disk who holds which address of a network, in the
// layout of the reference's host-local, so that either can take over from the
// other on a running node:
//
//	DATADIR/NETWORK/10.0.0.2             a record: "CONTAINERID\r\nIFNAME"
//	DATADIR/NETWORK/fd00::2              the same; colons stay as they are
//	DATADIR/NETWORK/last_reserved_ip.N   the address last given by range set N
//	DATADIR/NETWORK/lock                 locked (flock) around every access
//
// The records are the truth. Beside the networks, where the reference doesn't
// look, is an index of ours that makes a verb cost the same however many
// addresses are held:
//
//	DATADIR/.plumb/NETWORK.index
//
// # Crashes
//
// A record appears complete or not at all: it is written to a file without a
// name, which is then linked. Nothing is flushed to the disk where a caller waits:
// what a power cut loses belonged to containers that it stopped as well.
//
// The index is good only for the state of the folder that it was sealed with:
// its times, in a given boot. Every change of the folder by anyone breaks the
// seal, so a verb that is killed half-way, or a reference that adds a record,
// costs one listing of the folder at the next verb and nothing else. So that two
// changes within one tick of the kernel's clock can't look like one, the sealed
// modification time is one that the kernel would not have set: a second ago.
package addrstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// An Opener opens the stores of networks. The zero Opener is ready for use. It
// may be used by several goroutines; those of one process queue in it.
type Opener struct {
	// Wait bounds how long a network's lock is waited for. 0 means
	// DefaultWait.
	Wait time.Duration

	// Step, if set, is called before each change of a file with what is about
	// to be done, for tests that die there.
	Step func(operation string)

	turns turns
	boot  struct {
		once sync.Once
		id   string
	}
}

func (o *Opener) mark(operation string) {
	if o.Step != nil {
		o.Step(operation)
	}
}

// bootID identifies the boot that the system is in.
func (o *Opener) bootID() string {
	o.boot.once.Do(func() {
		data, _ := readSmall("/proc/sys/kernel/random/boot_id")
		o.boot.id = strings.TrimSpace(string(data))
	})
	return o.boot.id
}

// sideDir is the folder for what is ours alone. No network can have the name,
// because networks' names start with a letter or digit.
const sideDir = ".plumb"

// A Store is the records of one network, locked from when it is opened until
// Close. It is for one goroutine.
type Store struct {
	opener  *Opener
	dir     string // DATADIR/NETWORK
	side    string // DATADIR/.plumb/NETWORK, to which suffixes are added
	release func()

	index   *index // nil until it is needed
	rebuilt bool   // by this Store, from the records
	changed bool   // the folder or the index, so the seal has to be renewed
}

// Open locks and returns the store of a network. If the network has none, the
// error matches fs.ErrNotExist; if the lock was not to be had, it is a
// *BusyError. The name has to be a valid one.
func (o *Opener) Open(ctx context.Context, dataDir, network string) (*Store, error) {
	s := &Store{
		opener: o,
		dir:    filepath.Join(dataDir, network),
		side:   filepath.Join(dataDir, sideDir, network),
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	release, err := o.acquire(ctx, s.path("lock"))
	if err != nil {
		return nil, err
	}
	s.release = release
	return s, nil
}

// Create is Open that makes what is missing.
func (o *Opener) Create(ctx context.Context, dataDir, network string) (s *Store, err error) {
	// More than once, because somebody may remove the folder at the same time.
	for range 3 {
		s, err = o.Open(ctx, dataDir, network)
		if !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
		o.mark("make folder")
		if err := os.MkdirAll(filepath.Join(dataDir, network), 0o755); err != nil {
			return nil, err
		}
	}
	return nil, err
}

// Close seals the index and unlocks the store.
func (s *Store) Close() {
	defer s.release()
	if s.index == nil {
		return
	}
	defer s.index.close()
	if !s.changed || s.index.broken || !s.index.saved {
		return
	}
	// An index without a seal is no harm, so errors end here.
	s.opener.mark("stamp folder")
	past := unix.NsecToTimespec(time.Now().Add(-time.Second).UnixNano())
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, past}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, s.dir, times, 0); err != nil {
		return
	}
	if now, err := stampOf(s.dir); err == nil {
		s.index.seal(s.opener.bootID(), now) //nolint:errcheck
	}
}

// load makes s.index good for the present state of the folder. It comes before
// any change of the folder.
func (s *Store) load() error {
	if s.index != nil {
		return nil
	}
	now, err := stampOf(s.dir)
	if err != nil {
		return err
	}
	s.index, err = openIndex(s.side+".index", s.opener.bootID(), now, s.opener.mark)
	if err != nil {
		return s.rebuild()
	}
	return nil
}

// rebuild makes the index from the records.
func (s *Store) rebuild() error {
	held, err := s.list()
	if err != nil {
		return err
	}
	return s.reindex(held)
}

func (s *Store) reindex(held []entry) error {
	if s.index != nil {
		s.index.close()
	}
	s.index = &index{path: s.side + ".index", step: s.opener.mark, table: newTable(uint64(len(held)))}
	s.rebuilt, s.changed = true, true
	for _, e := range held {
		if errors.Is(e.err, errTorn) {
			continue // as good as free
		}
		if err := s.index.put(e.addr, e.record); err != nil {
			return err
		}
	}
	// An index that can't be saved serves this one time, from memory.
	err := s.index.save()
	if errors.Is(err, fs.ErrNotExist) {
		s.opener.mark("make side folder")
		if os.MkdirAll(filepath.Dir(s.side), 0o700) == nil {
			s.index.save() //nolint:errcheck
		}
	}
	return nil
}

// Refresh makes the index from the records, unless this Store has done so
// already; then again is false. Whoever finds nothing free calls it, since the
// index could be wrong for good about a record that somebody removed without
// the lock while it was held.
func (s *Store) Refresh() (again bool, err error) {
	if s.rebuilt {
		return false, nil
	}
	err = s.rebuild()
	return err == nil, err
}

// note passes on the error of an index that no longer follows the records; the
// next verb makes a new one.
func (s *Store) note(err error) {
	if err != nil {
		s.index.broken = true
	}
}

// An entry is an address that has a file. err is what is wrong with its record:
// nil, errTorn or errForeign.
type entry struct {
	addr   netip.Addr
	record Record
	err    error
}

// list reads all records, in no order.
func (s *Store) list() ([]entry, error) {
	dir, err := os.Open(s.dir)
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return nil, err
	}
	var held []entry
	for _, name := range names {
		addr, err := netip.ParseAddr(name)
		if err != nil || addr.String() != name || addr.Zone() != "" || addr.Is4In6() {
			continue // ours or somebody's, but not where a record would go
		}
		r, err := s.read(addr)
		switch {
		case err == nil, errors.Is(err, errTorn), errors.Is(err, errForeign):
			held = append(held, entry{addr, r, err})
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return held, nil
}

func (s *Store) path(name string) string { return s.dir + "/" + name }

// maxRecord is more than any record of ours has.
const maxRecord = 4096

// errForeign means that what has an address's name is no record. The address
// is held then, by nobody that is known.
var errForeign = errors.New("not a record")

// read returns the record of an address. Errors match fs.ErrNotExist, errTorn
// or errForeign; others say that it could not be told.
func (s *Store) read(a netip.Addr) (Record, error) {
	path := s.path(a.String())
	// Neither a link nor a pipe that somebody left there may lead us astray.
	f, err := open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return Record{}, unreadable(err)
	}
	defer f.close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f), &st); err != nil {
		return Record{}, unreadable(wrap("stat", path, err))
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxRecord {
		return Record{}, fmt.Errorf("%s: %w", path, errForeign)
	}
	buf := make([]byte, st.Size)
	if _, err := f.ReadAt(buf, 0); err != nil {
		return Record{}, unreadable(wrap("read", path, err))
	}
	return ParseRecord(buf)
}

// unreadable tells what can never be read from what this process can't read
// now, because it or the system is short of something.
func unreadable(err error) error {
	for _, now := range []error{unix.ENOENT, unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, now) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", errForeign, err)
}

// Held returns the addresses that a container holds for an interface, in
// ascending order, IPv4 first. Records without an interface count for any.
func (s *Store) Held(containerID, ifName string) ([]netip.Addr, error) {
	held, err := s.heldBy(Record{containerID, ifName})
	if err != nil {
		return nil, err
	}
	old, err := s.heldBy(Record{ContainerID: containerID})
	return append(held, old...), err
}

// heldBy returns the addresses whose record is exactly r.
func (s *Store) heldBy(r Record) ([]netip.Addr, error) {
	if err := s.load(); err != nil {
		return nil, err
	}
	for {
		addrs, err := s.index.heldBy(r)
		if err != nil && s.rebuilt {
			return nil, err
		}
		wrong := func(a netip.Addr) bool {
			is, err := s.read(a)
			return err != nil || is != r
		}
		if s.rebuilt {
			addrs = slices.DeleteFunc(addrs, wrong)
		}
		if s.rebuilt || err == nil && !slices.ContainsFunc(addrs, wrong) {
			slices.SortFunc(addrs, netip.Addr.Compare)
			return addrs, nil
		}
		// Somebody edited a record in place.
		if err := s.rebuild(); err != nil {
			return nil, err
		}
	}
}

// Holder returns who holds an address. The error matches fs.ErrNotExist if
// nobody does.
func (s *Store) Holder(a netip.Addr) (Record, error) {
	r, err := s.read(a)
	if errors.Is(err, errTorn) {
		err = fs.ErrNotExist
	}
	return r, err
}

// A TakenError says that an address is held already.
type TakenError struct {
	Addr   netip.Addr
	Holder Record // zero if what is in the way is no record
	Path   string // of what is in the way
}

func (e *TakenError) Error() string {
	if e.Holder == (Record{}) {
		return fmt.Sprintf("%s is not available: %s is in the way", e.Addr, e.Path)
	}
	return fmt.Sprintf("%s is held by %s", e.Addr, e.Holder)
}

// Reserve gives an address to the record's container. The error is a
// *TakenError if somebody has it.
func (s *Store) Reserve(a netip.Addr, r Record) error {
	if err := s.load(); err != nil {
		return err
	}
	for {
		err := s.create(a.String(), r.Bytes())
		if err == nil {
			s.changed = true
			s.note(s.index.put(a, r))
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("record that %s holds %s: %w", r, a, err)
		}
		holder, err := s.read(a)
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone by now: somebody doesn't lock
		case errors.Is(err, errTorn):
			s.opener.mark("remove torn record")
			s.changed = true
			if err := os.Remove(s.path(a.String())); err != nil {
				return fmt.Errorf("reclaim %s: %w", a, err)
			}
		case err == nil, errors.Is(err, errForeign):
			return &TakenError{Addr: a, Holder: holder, Path: s.path(a.String())}
		default:
			return err
		}
	}
}

// ReserveNext gives the first free address between from and to, both
// inclusive, that skip does not reject. If there is none, ok is false.
func (s *Store) ReserveNext(from, to netip.Addr, skip func(netip.Addr) bool, r Record) (a netip.Addr, ok bool, err error) {
	if err := s.load(); err != nil {
		return a, false, err
	}
	for {
		a, err := s.index.nextFree(from)
		if err != nil && !s.rebuilt {
			if err = s.rebuild(); err == nil {
				continue
			}
		}
		if err != nil {
			return a, false, err
		}
		if !a.IsValid() || to.Less(a) {
			return netip.Addr{}, false, nil
		}
		if !skip(a) {
			err := s.Reserve(a, r)
			if taken, ok := errors.AsType[*TakenError](err); !ok {
				return a, err == nil, err
			} else if !s.rebuilt {
				// The index knew nothing of it, so it knows nothing.
				if err := s.rebuild(); err != nil {
					return taken.Addr, false, err
				}
				continue
			}
		}
		if from = a.Next(); !from.IsValid() {
			return a, false, nil
		}
	}
}

// Release frees what a container holds for an interface and returns it. As in
// the reference, records without an interface are freed if there are no others.
// Holding nothing is success.
func (s *Store) Release(containerID, ifName string) (released []netip.Addr, err error) {
	r := Record{containerID, ifName}
	held, err := s.heldBy(r)
	if err == nil && len(held) == 0 {
		r.IfName = ""
		held, err = s.heldBy(r)
	}
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, a := range held {
		if err := s.unlink(a); err != nil {
			failed = append(failed, err)
			continue
		}
		s.note(s.index.drop(a, r))
		released = append(released, a)
	}
	return released, errors.Join(failed...)
}

// Retain frees every address whose record keep rejects, incomplete records
// included, and returns them in ascending order, IPv4 first. It lists the
// folder, unlike everything else. What is no record stays.
func (s *Store) Retain(keep func(Record) bool) (released []netip.Addr, err error) {
	all, err := s.list()
	if err != nil {
		return nil, err
	}
	var failed []error
	held := slices.DeleteFunc(all, func(e entry) bool {
		if torn := errors.Is(e.err, errTorn); !torn && (e.err != nil || keep(e.record)) {
			return false
		}
		if err := s.unlink(e.addr); err != nil {
			failed = append(failed, err)
			return false
		}
		released = append(released, e.addr)
		return true
	})
	slices.SortFunc(released, netip.Addr.Compare)
	return released, errors.Join(append(failed, s.reindex(held))...)
}

func (s *Store) unlink(a netip.Addr) error {
	s.opener.mark("remove record")
	s.changed = true
	if err := os.Remove(s.path(a.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("release %s: %w", a, err)
	}
	return nil
}

// create makes a file of the network's folder, whole. The error matches
// fs.ErrExist if there is one of that name.
func (s *Store) create(name string, content []byte) error {
	path := s.path(name)
	s.opener.mark("open record")
	if f, err := open(s.dir, unix.O_TMPFILE|unix.O_WRONLY, 0o600); err == nil {
		defer f.close()
		if _, err = f.WriteAt(content, 0); err != nil {
			return wrap("write", path, err)
		}
		s.opener.mark("link record")
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
		if err == nil || errors.Is(err, unix.EEXIST) {
			return wrap("link", path, err)
		}
	}
	// Some file systems have no files without a name.
	return s.createNamed(path, content)
}

// createNamed is create by way of a file beside the network's folder.
func (s *Store) createNamed(path string, content []byte) error {
	temp := s.side + ".record-new" // one for all, because they hold the lock
	s.opener.mark("write named record")
	err := os.WriteFile(temp, content, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(temp), 0o700); err == nil {
			err = os.WriteFile(temp, content, 0o600)
		}
	}
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	s.opener.mark("link named record")
	return os.Link(temp, path)
}

// LastReserved returns the address that was last reserved for range set n, the
// zero Addr if that is not known.
func (s *Store) LastReserved(n int) netip.Addr {
	data, err := readSmall(s.path(lastReserved(n)))
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(strings.TrimSpace(string(data)))
	return a.Unmap()
}

// SetLastReserved notes the address that was last reserved for range set n.
// It is written in place: it is a hint, and one that is torn is no hint.
func (s *Store) SetLastReserved(n int, a netip.Addr) error {
	path := s.path(lastReserved(n))
	s.changed = true
	s.opener.mark("open last reserved")
	f, err := open(path, unix.O_WRONLY|unix.O_CREAT, 0o600)
	if err != nil {
		return err
	}
	defer f.close()
	s.opener.mark("write last reserved")
	text := a.String()
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		return wrap("write", path, err)
	}
	// Truncating first would make ext4 flush the file when it is closed.
	s.opener.mark("truncate last reserved")
	return wrap("truncate", path, unix.Ftruncate(int(f), int64(len(text))))
}

func lastReserved(n int) string { return "last_reserved_ip." + strconv.Itoa(n) }

// A Usage is what is held of some addresses.
type Usage struct {
	Held    int       // addresses that have a record
	Holders []Holding // who has most of them, at most three
}

// A Holding is how many addresses a container holds.
type Holding struct {
	ContainerID string // empty for what is no record
	Addresses   int
}

// Usage counts what is held among the addresses that in accepts.
func (s *Store) Usage(in func(netip.Addr) bool) (Usage, error) {
	if err := s.load(); err != nil {
		return Usage{}, err
	}
	type holding struct {
		n  int
		of netip.Addr // one of them
	}
	byContainer := make(map[uint64]holding)
	var u Usage
	err := s.index.all(func(e *slot) {
		if e[0] != kindHolder || !in(e.addr()) {
			return
		}
		u.Held++
		h := byContainer[e.container()]
		byContainer[e.container()] = holding{h.n + 1, e.addr()}
	})
	if err != nil {
		return Usage{}, err
	}
	most := make([]holding, 0, len(byContainer))
	for _, h := range byContainer {
		most = append(most, h)
	}
	slices.SortFunc(most, func(a, b holding) int {
		return cmp.Or(cmp.Compare(b.n, a.n), a.of.Compare(b.of))
	})
	for _, h := range most[:min(3, len(most))] {
		r, _ := s.read(h.of)
		u.Holders = append(u.Holders, Holding{r.ContainerID, h.n})
	}
	return u, nil
}
