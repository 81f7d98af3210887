package plugin

import (
	"context"
	"errors"
	"sync"

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
	s, done, err := s.shared()
	if err != nil {
		return err
	}
	defer done()
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
	stale, unfound := d.stale(ctx, s, k.Reader())
	if d.asksIPAM(s.Request) && !early {
		unfound = errors.Join(unfound, d.addHolders(ctx, s, stale))
	}
	unremoved, err := d.collectAll(ctx, s, k, stale) // whose addresses must not be given to others
	errs = append(errs, unfound, err)
	if !d.asksIPAM(s.Request) || early || unfound != nil { // nor those of what was not found
		return errors.Join(errs...)
	}
	if err := s.alsoValid(unremoved); err != nil {
		return errors.Join(append(errs, err)...)
	}
	released, err := s.ipamGC(ctx)
	return errors.Join(append(errs, err, k.FlushConntrack(ctx, distinct(released)))...)
}

// shared returns the session with kernels that share the host's sockets, and wait
// for the removal of links together, also where the process serves this call alone.
func (s *session) shared() (with *session, done func() error, err error) {
	if s.host.Kernel != nil {
		return s, func() error { return nil }, nil
	}
	machine, err := state.NewMachine()
	if err != nil {
		return nil, nil, err
	}
	host, same := *s.host, *s
	host.Kernel = func(sandbox string) (*state.Kernel, error) { return machine.Open(sandbox, nil) }
	same.host = &host
	return &same, machine.Close, nil
}

// collectors is how many leftovers are collected at a time. Mostly they wait for
// the kernel to let go of a link, which takes as long for one as for many.
const collectors = 16

// collectAll collects leftovers, attempts all and joins the errors. It returns
// the attachments of which something may be left.
func (d *Def[C]) collectAll(ctx context.Context, s *session, k *state.Kernel, stale map[string]*leftover) (unremoved []cni.Attachment, err error) {
	var (
		group    sync.WaitGroup
		mu       sync.Mutex
		errs     []error
		panicked any
	)
	places := make(chan struct{}, collectors)
	for _, l := range stale {
		places <- struct{}{}
		group.Go(func() {
			one := *s
			if s.trace != nil {
				one.trace = new(state.Trace)
			}
			err := errEnded
			defer func() {
				p := recover() // for the caller, whose goroutine is prepared for it
				mu.Lock()
				defer mu.Unlock()
				<-places
				if p != nil {
					panicked = p
				}
				if s.trace != nil {
					s.trace.Steps = append(s.trace.Steps, one.trace.Steps...)
				}
				if err != nil {
					errs = append(errs, err)
					unremoved = append(unremoved, cni.Attachment{ContainerID: l.owner.ContainerID, IfName: l.owner.IfName})
				}
			}()
			// The thread has to be where the caller's is, for programs that are started.
			err = k.In(state.Host, func() error { return d.collect(ctx, &one, l) })
		})
	}
	group.Wait()
	if panicked != nil {
		panic(panicked)
	}
	return unremoved, errors.Join(errs...)
}

// errEnded means that something has ended its goroutine.
var errEnded = errors.New("collecting an attachment has ended its goroutine")

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
	del := s.deletion(l.owner)
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

// deletion returns the session that a DEL of an attachment would have.
func (s *session) deletion(o state.Owner) *session {
	call := *s.Request.Request
	call.Verb, call.ContainerID, call.IfName = cni.VerbDel, o.ContainerID, o.IfName
	r := *s.Request
	r.Request, r.Owner, r.Collected = &call, o, true
	return &session{Request: &r, host: s.host, trace: s.trace}
}

// addHolders adds to the leftovers what follows from the addresses that
// attachments hold of which there is no record: another implementation made them.
func (d *Def[C]) addHolders(ctx context.Context, s *session, stale map[string]*leftover) error {
	teller, ok := s.ours().(Teller)
	if !ok || d.Footprint == nil {
		return nil
	}
	c, err := decode[C](s.Request)
	if err != nil {
		c = new(C) // edited since, and no reason to leave things behind
	}
	holders, err := teller.Stale(ctx, s.Request)
	for a, addrs := range holders {
		o := state.Owner{Network: s.Config.Name, ContainerID: a.ContainerID, IfName: a.IfName}
		l := stale[o.Tag()]
		if l == nil {
			l = new(leftover)
			stale[o.Tag()] = l
		}
		if l.record != nil {
			continue
		}
		l.owner = o // whole, where a tag has a hash
		for _, key := range d.Footprint(c, s.deletion(o).Request, distinct(addrs)) {
			l.found = append(l.found, state.Object{Key: key})
		}
	}
	return err
}

// stale unites the records of the network with the objects found, as far as
// they are of no valid attachment, by the owners' tags. With an error it
// returns those that could be found.
func (d *Def[C]) stale(ctx context.Context, s *session, r state.Reader) (map[string]*leftover, error) {
	var valid []state.Owner
	for _, a := range s.Config.Valid {
		valid = append(valid, state.Owner{Network: s.Config.Name, ContainerID: a.ContainerID, IfName: a.IfName})
	}
	isStale := state.Stale(s.Config.Name, valid)
	stale := make(map[string]*leftover)
	records, err := s.host.Records.List(d.Name, s.Config.Name)
	errs := []error{err}
	for _, record := range records {
		if isStale(record.Owner) {
			stale[record.Owner.Tag()] = &leftover{owner: record.Owner, record: &record}
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
