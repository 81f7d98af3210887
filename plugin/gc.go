package plugin

import (
	"context"
	"errors"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
)

// A leftover is what an attachment that is not valid any more has left.
type leftover struct {
	owner  state.Owner
	record *state.Record // nil if there is none
	found  []state.Object
}

// gc removes what no valid attachment of the network owns. Without a list of
// the valid ones it removes nothing. It attempts all and joins the errors.
func (d *Def[C]) gc(ctx context.Context, s *session) error {
	if !s.Config.HasValid {
		return nil
	}
	k, err := s.host.open("")
	if err != nil {
		return err
	}
	defer k.Close()
	var errs []error
	early := d.asksIPAM(s.Request) && s.needsLink()
	if early {
		// Also those that no record tells of, while their links are there.
		released, err := s.ipamGC(ctx)
		errs = append(errs, err, k.FlushConntrack(ctx, distinct(released)))
	}
	stale, err := d.stale(ctx, s, k.Reader())
	errs = append(errs, err)
	var unremoved []cni.Attachment // whose addresses must not be given to others
	for _, l := range stale {
		if err := d.collect(ctx, s, l); err != nil {
			errs = append(errs, err)
			unremoved = append(unremoved, cni.Attachment{ContainerID: l.owner.ContainerID, IfName: l.owner.IfName})
		}
	}
	if !d.asksIPAM(s.Request) || early {
		return errors.Join(errs...)
	}
	if err := s.alsoValid(unremoved); err != nil {
		return errors.Join(append(errs, err)...)
	}
	released, err := s.ipamGC(ctx)
	return errors.Join(append(errs, err, k.FlushConntrack(ctx, distinct(released)))...)
}

// alsoValid adds attachments to the valid ones of the call.
func (s *session) alsoValid(more []cni.Attachment) error {
	if more == nil {
		return nil
	}
	valid := append(s.Config.Valid, more...)
	return s.reconfigure(map[string]any{"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid})
}

// collect removes a leftover: one that is recorded as its DEL would, with the
// IPAM plugin that the record names and in the sandbox if that is still there.
func (d *Def[C]) collect(ctx context.Context, s *session, l *leftover) error {
	call := *s.Request.Request
	call.Verb, call.ContainerID, call.IfName = cni.VerbDel, l.owner.ContainerID, l.owner.IfName
	r := *s.Request
	r.Request, r.Owner = &call, l.owner
	del := &session{Request: &r, host: s.host, trace: s.trace}
	k, objects, err := del.openRecorded(d.Name, l.record)
	if err != nil {
		return err
	}
	defer k.Close()
	objects = append(l.found, objects...) // removal goes backward: what is recorded first
	if l.record == nil {
		// Whose it is may be known in part only; the address is for IPAM's GC.
		return s.engine(k, l.owner).Remove(ctx, d.Kinds, objects)
	}
	if err := del.useRecordedIPAM(l.record); err != nil {
		return err
	}
	return d.remove(ctx, del, k, objects, l.record.Addresses)
}

// stale unites the records of the network with the objects found, as far as
// they are of no valid attachment, by the owners' tags. With an error it
// returns those that could be found.
func (d *Def[C]) stale(ctx context.Context, s *session, r state.Reader) (map[string]*leftover, error) {
	var valid []state.Owner
	tags := make(map[string]bool)
	for _, a := range s.Config.Valid {
		o := state.Owner{Network: s.Config.Name, ContainerID: a.ContainerID, IfName: a.IfName}
		valid, tags[o.Tag()] = append(valid, o), true
	}
	stale := make(map[string]*leftover)
	records, err := s.host.Records.List(d.Name, s.Config.Name)
	errs := []error{err}
	for _, record := range records {
		if tag := record.Owner.Tag(); !tags[tag] {
			stale[tag] = &leftover{owner: record.Owner, record: &record}
		}
	}
	for _, kind := range d.Kinds {
		found, err := kind.Garbage(ctx, r, s.Config.Name, valid)
		errs = append(errs, err)
		for _, f := range found {
			l := stale[f.Owner.Tag()]
			if l == nil {
				l = &leftover{owner: f.Owner}
				stale[f.Owner.Tag()] = l
			}
			l.found = append(l.found, state.Object{Key: f.Key})
		}
	}
	return stale, errors.Join(errs...)
}
