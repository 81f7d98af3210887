package plugin

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
)

// A leftover is what an attachment that is not valid any more has left.
type leftover struct {
	owner   state.Owner
	record  *state.Record // nil if there is none
	objects []state.Object
}

// gc removes what no valid attachment of the network owns. Without a list of
// the valid ones it removes nothing.
func (d *Def[C]) gc(ctx context.Context, s *session) error {
	if !s.Config.HasValid {
		return nil
	}
	k, err := state.OpenKernel("")
	if err != nil {
		return err
	}
	defer k.Close()
	stale, inUse, err := d.stale(ctx, s, k.Reader())
	if err != nil {
		return err
	}
	var errs []error
	var gone []netip.Addr
	var unremoved []cni.Attachment // whose addresses must not be given to others
	for _, l := range stale {
		if err := d.collect(ctx, s, l); err != nil {
			errs = append(errs, err)
			unremoved = append(unremoved, cni.Attachment{ContainerID: l.owner.ContainerID, IfName: l.owner.IfName})
			continue
		}
		if l.record != nil {
			gone = append(gone, l.record.Addresses...)
		}
	}
	if d.asksIPAM(s.Request) {
		if err := s.alsoValid(unremoved); err != nil {
			return errors.Join(append(errs, err)...)
		}
		released, err := s.ipamGC(ctx)
		gone = slices.DeleteFunc(append(gone, released...), func(a netip.Addr) bool { return slices.Contains(inUse, a) })
		errs = append(errs, err, flushConntrack(ctx, k, gone))
	}
	return errors.Join(errs...)
}

// alsoValid adds attachments to the valid ones of the call.
func (s *session) alsoValid(more []cni.Attachment) error {
	if more == nil {
		return nil
	}
	valid := append(s.Config.Valid, more...)
	return s.reconfigure(map[string]any{"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid})
}

// collect removes a leftover, in its own sandbox if that is still there.
func (d *Def[C]) collect(ctx context.Context, s *session, l *leftover) error {
	at := &session{Request: &Request{Request: new(cni.Request)}} // which names no sandbox
	k, err := at.openRecorded(l.record)
	if err != nil {
		return err
	}
	defer k.Close()
	if err := s.engine(k, l.owner).Remove(ctx, d.Kinds, l.objects); err != nil {
		return err
	}
	return s.host.Records.Delete(d.Name, l.owner)
}

// stale unites the records of the network with the objects found, as far as
// they are of no valid attachment, by the owners' tags. It also returns the
// recorded addresses of the valid ones.
func (d *Def[C]) stale(ctx context.Context, s *session, r state.Reader) (stale map[string]*leftover, inUse []netip.Addr, err error) {
	var valid []state.Owner
	tags := make(map[string]bool)
	for _, a := range s.Config.Valid {
		o := state.Owner{Network: s.Config.Name, ContainerID: a.ContainerID, IfName: a.IfName}
		valid, tags[o.Tag()] = append(valid, o), true
	}
	records, err := s.host.Records.List(d.Name, s.Config.Name)
	if err != nil {
		return nil, nil, err
	}
	stale = make(map[string]*leftover)
	for _, record := range records {
		if tag := record.Owner.Tag(); tags[tag] {
			inUse = append(inUse, record.Addresses...)
		} else {
			stale[tag] = &leftover{owner: record.Owner, record: &record, objects: record.Removable()}
		}
	}
	for _, kind := range d.Kinds {
		found, err := kind.Garbage(ctx, r, s.Config.Name, valid)
		if err != nil {
			return nil, nil, err
		}
		for _, f := range found {
			l := stale[f.Owner.Tag()]
			if l == nil {
				l = &leftover{owner: f.Owner}
				stale[f.Owner.Tag()] = l
			}
			l.objects = append(l.objects, state.Object{Key: f.Key})
		}
	}
	return stale, inUse, nil
}
