// Package sweep removes what is plumb's own on a host, once other plugins have
// taken over: what these could not know when they deleted attachments of ours.
//
// It touches nothing of theirs, since the same container may be attached by
// them by now. What is ours is told by owners' tags and by where it is; what an
// attachment needs that still is as we made it stays.
package sweep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/internal/addrstore"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/dnsname"
	"github.com/plumb-cni/plumb/state/link"
	"golang.org/x/sys/unix"
)

// A Sweep is what to do, and what was done.
type Sweep struct {
	Records  state.Records
	DataDirs []string // folders of host-local's networks, besides those that records name

	Removed []string // what was ours, in words
	Live    []string // the attachments that still are ours, sorted

	kernel  *state.Kernel
	records []state.Record
	live    map[string]state.Owner // by tag
	dirs    []string
}

// Run removes what no live attachment needs. It attempts everything and joins
// the errors.
func (s *Sweep) Run(ctx context.Context) (err error) {
	if s.kernel, err = state.OpenKernel(""); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.kernel.Close()) }()
	if s.records, err = s.Records.All(); err != nil {
		return err
	}
	s.dirs = s.dataDirs()
	host, err := s.kernel.Route(state.Host)
	if err != nil {
		return err
	}
	links, err := host.Links()
	if err != nil {
		return err
	}
	if err := s.findLive(links); err != nil {
		return err
	}
	// Names first: the resolver takes rules of its own with the last. Rules before
	// links, as ever, and records last: an end in between leaves what the next
	// run needs.
	errs := []error{s.sweepNames(ctx), s.sweepNFT(ctx), s.sweepLoopback(host, links), s.sweepLinks(host, links), s.sweepIndexes(ctx)}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return s.sweepRecords()
}

func (s *Sweep) removed(format string, args ...any) {
	s.Removed = append(s.Removed, fmt.Sprintf(format, args...))
}

// findLive collects the attachments that still are as we made them: by their
// links where records name some, and else by their sandboxes.
func (s *Sweep) findLive(links []*rtnl.Link) error {
	s.live = make(map[string]state.Owner)
	marked := make(map[string]bool) // by tag: a record names something that has it
	for _, rec := range s.records {
		if slices.ContainsFunc(rec.Objects, hasTag) {
			marked[rec.Owner.Tag()] = true
		}
	}
	for _, rec := range s.records {
		tag := rec.Owner.Tag()
		if marked[tag] && !slices.ContainsFunc(rec.Objects, hasTag) {
			continue
		}
		attached, err := s.attached(rec, links)
		if err != nil {
			return fmt.Errorf("%s: %w", rec.Owner, err)
		}
		if attached {
			s.live[tag] = rec.Owner
		}
	}
	for _, l := range links {
		// A pair goes with either namespace, record or not.
		if o, ok := state.ParseTag(l.Alias); ok && l.Kind == "veth" {
			s.live[l.Alias] = o
		}
	}
	for _, o := range s.live {
		s.Live = append(s.Live, o.String())
	}
	slices.Sort(s.Live)
	return nil
}

// hasTag reports whether an object is a link on the host or in the sandbox that
// we gave the owner's tag.
func hasTag(o state.Object) bool { return isLink(o) || isDevice(o) }

func isLink(o state.Object) bool { return o.Key.Kind == link.Kind{}.Kind() }

func isDevice(o state.Object) bool {
	return o.Key.NS == state.Sandbox && o.Key.Kind == link.DeviceKind{}.Kind()
}

// attached reports whether an attachment is as its record says: its sandbox
// and its interface are there, and what we gave the tag has it.
func (s *Sweep) attached(rec state.Record, links []*rtnl.Link) (bool, error) {
	k, err := state.OpenKernel(rec.NetNS)
	if err != nil {
		return false, err // not that it is gone
	}
	defer k.Close()
	id, err := k.SandboxID()
	if errors.Is(err, state.ErrNoSandbox) || err == nil && id != rec.Sandbox {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, o := range rec.Objects {
		if isLink(o) && o.Key.NS == state.Host && !slices.ContainsFunc(links, func(l *rtnl.Link) bool {
			return l.Name == o.Key.Name && l.Alias == rec.Owner.Tag()
		}) {
			return false, nil
		}
	}
	conn, err := k.Route(state.Sandbox)
	if err != nil {
		return false, err
	}
	l, err := conn.Link(rec.Owner.IfName)
	if errors.Is(err, rtnl.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(rec.Objects, isDevice) && l.Alias != rec.Owner.Tag() {
		return false, nil
	}
	// That device is always there; attached is that it is up.
	return l.Name != link.LoopbackName || l.Up, nil
}

// dead reports whether a mark is the tag of an attachment that is not there.
func (s *Sweep) dead(mark string) bool {
	_, lives := s.live[mark]
	return state.Tagged(mark) && !lives
}

// sweepNames has the resolver forget the names of dead attachments.
func (s *Sweep) sweepNames(ctx context.Context) error {
	names, err := dnsname.All(s.kernel.Reader())
	errs := []error{err}
	for _, n := range names {
		if !s.dead(n.Key.Name) {
			continue
		}
		err := dnsname.Kind{}.Remove(ctx, s.kernel, state.Object{Key: n.Key}, n.Owner)
		if err != nil {
			errs = append(errs, fmt.Errorf("names of %s: %w", n.Owner, err))
			continue
		}
		s.removed("names of %s", n.Owner)
	}
	return errors.Join(errs...)
}

// sweepLoopback deletes the routes to ::1 on links that stay, such as bridges,
// once no attachment is alive: other plugins don't serve it.
func (s *Sweep) sweepLoopback(host *rtnl.Conn, links []*rtnl.Link) error {
	if len(s.live) > 0 {
		return nil
	}
	var errs []error
	for _, l := range links {
		err := host.DelLoopback(l.Index)
		switch {
		case err == nil:
			s.removed("route to ::1 on %s", l.Name)
		case errors.Is(err, unix.EOPNOTSUPP): // the kernel has no IPv6
			return nil
		case !errors.Is(err, rtnl.ErrNotFound):
			errs = append(errs, fmt.Errorf("%s: %w", l.Name, err))
		}
	}
	return errors.Join(errs...)
}

// sweepLinks deletes the links on the host that dead attachments left.
func (s *Sweep) sweepLinks(host *rtnl.Conn, links []*rtnl.Link) error {
	var errs []error
	for _, l := range links {
		if !s.dead(l.Alias) {
			continue
		}
		err := host.DelLink(l.Index)
		switch {
		case err == nil:
			s.removed("link %s", l.Name)
		case !errors.Is(err, rtnl.ErrNotFound):
			errs = append(errs, fmt.Errorf("%s: %w", l.Name, err))
		}
	}
	return errors.Join(errs...)
}

// sweepRecords deletes the records of dead attachments, and their folders once
// nothing is in them.
func (s *Sweep) sweepRecords() error {
	var errs []error
	for _, rec := range s.records {
		if _, lives := s.live[rec.Owner.Tag()]; lives {
			continue
		}
		if err := s.Records.Delete(rec.Plugin, rec.Owner); err != nil {
			errs = append(errs, err)
			continue
		}
		s.removed("record of %s by %s", rec.Owner, rec.Plugin)
	}
	if len(s.live) > 0 {
		return errors.Join(errs...)
	}
	dir := s.Records.Folder()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, e := range entries { // what ADDs left that were killed
		errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
	}
	for _, folder := range []string{dir, filepath.Dir(dir)} {
		if os.Remove(folder) == nil { // unless something else is in it
			s.removed("folder %s", folder)
		}
	}
	return errors.Join(errs...)
}

// sweepIndexes removes the indexes of networks without a live attachment.
func (s *Sweep) sweepIndexes(ctx context.Context) error {
	var errs []error
	var opener addrstore.Opener
	for _, dir := range s.dirs {
		networks, err := addrstore.Indexed(dir)
		errs = append(errs, err)
		for _, network := range networks {
			if s.lives(network) {
				continue
			}
			if err := opener.Forget(ctx, dir, network); err != nil {
				errs = append(errs, err)
				continue
			}
			s.removed("index of network %s in %s", network, dir)
		}
	}
	return errors.Join(errs...)
}

// lives reports whether a network has a live attachment.
func (s *Sweep) lives(network string) bool {
	for _, o := range s.live {
		if o.On(network) {
			return true
		}
	}
	return false
}

// ours reports whether a table is.
func ours(t nftconn.Table) bool { return t.Name == nftconn.Own().Name }

// marked reports whether a name in others' tables is of ours.
func marked(name string) bool { return strings.HasPrefix(name, nftconn.Own().Name+"-") }
