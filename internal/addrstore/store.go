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
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumb-cni/plumb/internal/smallfile"
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

	// noUnnamed is for tests: it makes do without files that have no name, as
	// some file systems have to.
	noUnnamed bool

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

	made    bool   // the folder, by this Store
	index   *index // nil until it is needed
	rebuilt bool   // by this Store, from the records
	fresh   bool   // nobody has held what this Store has reserved before
	changed bool   // the folder or the index, so the seal has to be renewed
}

// Open locks and returns the store of a network. If the network has none, the
// error matches fs.ErrNotExist; if the lock was not to be had, it is a
// *BusyError. The name has to be a valid one.
func (o *Opener) Open(ctx context.Context, dataDir, network string) (*Store, error) {
	s := &Store{
		fresh:  true,
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
	made := false
	for range 3 {
		s, err = o.Open(ctx, dataDir, network)
		if err == nil {
			s.made = made
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
		made = true
		o.mark("make folder")
		if err := os.MkdirAll(filepath.Join(dataDir, network), 0o755); err != nil {
			return nil, err
		}
	}
	return nil, err
}

// Ready fails if Create could not give a store now that can be written to. It
// makes nothing but the lock's file where there is a folder for it. Errors are
// those of Open but fs.ErrNotExist, and those of the file system.
func (o *Opener) Ready(ctx context.Context, dataDir, network string) error {
	s, err := o.Open(ctx, dataDir, network)
	if err == nil {
		defer s.Close()
		return smallfile.Writable(s.dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return smallfile.Writable(dataDir)
	}
	return err
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

func (s *Store) path(name string) string { return s.dir + "/" + name }

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
	s.index, err = openIndex(s.side+indexSuffix, s.opener.bootID(), now, s.opener.mark)
	if err == nil {
		return nil
	}
	// Without an index of this boot nobody has held an address in it, if the
	// folder has not been changed by others either.
	none := errors.Is(err, fs.ErrNotExist) || errors.Is(err, errPast)
	return s.rebuild(none && (s.made || now.beforeBoot()))
}

// rebuild makes the index from the records. Whole tells that no others were there
// in this boot.
func (s *Store) rebuild(whole bool) error {
	held, err := s.list()
	if err != nil {
		return err
	}
	if s.index != nil {
		s.index.close()
		s.index = nil
	}
	return s.reindex(held, whole)
}

// reindex makes the index from records. What one that there is remembers goes
// into the new one.
func (s *Store) reindex(held []entry, whole bool) error {
	var past []*slot
	if s.index != nil {
		var err error
		if past, err = s.index.past(); err != nil {
			whole = false
		}
		s.index.close()
	}
	s.index = &index{path: s.side + indexSuffix, step: s.opener.mark, table: newTable(uint64(len(held) + len(past))), whole: whole}
	s.rebuilt, s.changed = true, true
	for _, slot := range past {
		if err := s.index.insert(slot); err != nil {
			return err
		}
	}
	for _, e := range held {
		if errors.Is(e.err, errTorn) {
			continue // as good as free
		}
		err := s.index.put(e.addr, e.record)
		if err == nil {
			_, err = s.index.remember(e.addr)
		}
		if err != nil {
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
	err = s.rebuild(false)
	return err == nil, err
}

// note passes on the error of an index that no longer follows the records; the
// next verb makes a new one.
func (s *Store) note(err error) {
	if err != nil {
		s.index.broken = true
	}
}
