package addrstore

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
)

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
		if err := s.rebuild(false); err != nil {
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
			first, err := s.index.remember(a)
			s.note(err)
			s.fresh = s.fresh && first
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

// Fresh reports whether nobody has held any of the addresses that this Store has
// reserved since the machine booted. It is false if that can't be told: somebody
// else has changed the folder, or a verb was killed.
func (s *Store) Fresh() bool { return s.fresh }

// ReserveNext gives the first free address between from and to, both
// inclusive, that skip does not reject. If there is none, ok is false.
func (s *Store) ReserveNext(from, to netip.Addr, skip func(netip.Addr) bool, r Record) (a netip.Addr, ok bool, err error) {
	if err := s.load(); err != nil {
		return a, false, err
	}
	for {
		a, err := s.index.nextFree(from)
		if err != nil && !s.rebuilt {
			if err = s.rebuild(false); err == nil {
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
				if err := s.rebuild(false); err != nil {
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

// Walk calls f for every address that is held, in no order. It lists the folder.
func (s *Store) Walk(f func(netip.Addr, Record)) error {
	all, err := s.list()
	for _, e := range all {
		if e.err == nil {
			f(e.addr, e.record)
		}
	}
	return err
}

// Retain frees every address whose record keep rejects, incomplete records
// included, and returns them in ascending order, IPv4 first. It lists the
// folder, unlike everything else. What is no record stays.
func (s *Store) Retain(keep func(Record) bool) (released []netip.Addr, err error) {
	all, err := s.list()
	if err == nil {
		err = s.load() // for what it remembers
	}
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
	return released, errors.Join(append(failed, s.reindex(held, s.index.whole))...)
}
