package addrstore

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// DefaultDir is where the folders of networks are unless a configuration says
// otherwise.
const DefaultDir = "/var/lib/cni/networks"

// Holder returns who holds an address of a network, without opening the store.
// The error matches fs.ErrNotExist if nobody does.
func Holder(dataDir, network string, a netip.Addr) (Record, error) {
	data, err := readSmall(filepath.Join(dataDir, network, a.String()))
	if err != nil {
		return Record{}, err
	}
	r, err := ParseRecord(data)
	if errors.Is(err, errTorn) { // nobody has got it
		err = fs.ErrNotExist
	}
	return r, err
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

// create makes a file of the network's folder, whole. The error matches
// fs.ErrExist if there is one of that name.
func (s *Store) create(name string, content []byte) error {
	path := s.path(name)
	if !s.opener.noUnnamed {
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
	}
	// Some file systems have no files without a name.
	return s.createNamed(path, content)
}

// createNamed is create by way of a file beside the network's folder.
func (s *Store) createNamed(path string, content []byte) error {
	temp := s.side + ".record-new" // one for all, because they hold the lock
	// What a crash left there may be a record by now, under its other name: it
	// is removed, never written to.
	s.opener.mark("remove old named record")
	err := os.Remove(temp)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.opener.mark("open named record")
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL
	f, err := open(temp, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(temp), 0o700); err == nil {
			f, err = open(temp, flags, 0o600)
		}
	}
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	s.opener.mark("write named record")
	_, err = f.WriteAt(content, 0)
	f.close()
	if err != nil {
		return wrap("write", temp, err)
	}
	s.opener.mark("link named record")
	err = os.Link(temp, path)
	s.opener.mark("remove named record")
	return err
}

func (s *Store) unlink(a netip.Addr) error {
	s.opener.mark("remove record")
	s.changed = true
	if err := os.Remove(s.path(a.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("release %s: %w", a, err)
	}
	return nil
}
