package plugin

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
)

// del removes everything that may be there and releases the addresses, in that
// order, unless a link would not go: its address must not be given to another.
// An IPAM plugin that needs the link releases before.
// It attempts all and joins the errors.
func (d *Def[C]) del(ctx context.Context, s *session) error {
	c, err := decode[C](s.Request)
	if err != nil {
		c = new(C) // edited since, and no reason to leave things behind
	}
	record, unread := s.host.Records.Load(d.Name, s.Owner)
	k, objects, err := s.openRecorded(d.Name, record)
	if err != nil {
		return errors.Join(unread, err)
	}
	defer k.Close()
	if record != nil {
		if err := s.useRecordedIPAM(record); err != nil {
			return errors.Join(unread, err)
		}
	}
	held, unheld := d.held(ctx, s, record)
	var computed []state.Object
	if d.Footprint != nil {
		for _, key := range d.Footprint(c, s.Request, distinct(slices.Concat(held, s.previousAddresses()))) {
			if !slices.ContainsFunc(objects, func(o state.Object) bool { return o.Key == key || d.covers(o.Key, key) }) {
				computed = append(computed, state.Object{Key: key})
			}
		}
	}
	objects = append(computed, objects...) // removal goes backward: what is recorded first
	if unheld != nil {
		// An IPAM plugin that can't tell can't release either. That is for the next DEL.
		return errors.Join(unread, unheld, s.engine(k, s.Owner).Remove(ctx, d.Kinds, objects))
	}
	return errors.Join(unread, d.remove(ctx, s, k, objects, held))
}

// covers tells whether the removal of an object that is recorded does what that of
// one that was computed would do.
func (d *Def[C]) covers(recorded, computed state.Key) bool {
	return recorded.Kind == computed.Kind && slices.ContainsFunc(d.Kinds, func(k state.Kind) bool {
		c, ok := k.(state.Coverer)
		return ok && k.Kind() == computed.Kind && c.Covers(recorded, computed)
	})
}

// held returns the addresses that are known to be the attachment's: by its
// record, or else by what the IPAM plugin says, if that is ours.
func (d *Def[C]) held(ctx context.Context, s *session, record *state.Record) ([]netip.Addr, error) {
	if record != nil {
		return slices.Clone(record.Addresses), nil
	}
	if p := s.ours(); p != nil && d.asksIPAM(s.Request) {
		return p.Held(ctx, s.Request)
	}
	return nil, nil
}

// remove removes the objects of an attachment and forgets it, in the order in
// which nobody else can come to harm: its flows are flushed while its addresses
// are still its own.
func (d *Def[C]) remove(ctx context.Context, s *session, k *state.Kernel, objects []state.Object, held []netip.Addr) error {
	var unreleased error
	early := d.asksIPAM(s.Request) && s.needsLink()
	if early {
		unreleased = s.ipamDel(ctx)
	}
	if err := s.engine(k, s.Owner).Remove(ctx, d.Kinds, objects); err != nil {
		return errors.Join(unreleased, err)
	}
	if d.asksIPAM(s.Request) {
		if err := k.FlushConntrack(ctx, distinct(held)); err != nil {
			return errors.Join(unreleased, err)
		}
		if !early {
			unreleased = s.ipamDel(ctx)
		}
	}
	if unreleased != nil {
		return unreleased
	}
	return s.host.Records.Delete(d.Name, s.Owner)
}

// openRecorded opens the kernel with the sandbox of a record, which may be
// where ADD found it, or where the call says, and returns what there is to
// remove. A path such as /proc/PID/ns/net may by now lead somewhere else: then,
// as without a record, the sandbox is where the call says, and of the record
// only what is on the host remains.
func (s *session) openRecorded(plugin string, record *state.Record) (*state.Kernel, []state.Object, error) {
	if record == nil {
		k, err := s.openNamed(plugin)
		return k, nil, err
	}
	for _, path := range []string{record.NetNS, s.NetNS} {
		k, err := s.openIf(path, record)
		if k != nil {
			return k, record.Removable(), nil
		}
		// Any other error is of somebody's file, not of the sandbox.
		if err != nil && asError(err).Code == cni.CodeTryAgain {
			return nil, nil, err
		}
	}
	k, err := s.openNamed(plugin)
	onHost := slices.DeleteFunc(record.Removable(), func(o state.Object) bool { return o.Key.NS == state.Sandbox })
	return k, onHost, err
}

// openIf opens the kernel with the sandbox at a path if that is a record's, and
// returns nil otherwise.
func (s *session) openIf(path string, record *state.Record) (*state.Kernel, error) {
	k, err := s.host.open(path)
	if err != nil {
		return nil, err
	}
	id, err := k.SandboxID()
	if err == nil && id == record.Sandbox {
		return k, nil
	}
	return nil, errors.Join(err, k.Close())
}

// openNamed opens the kernel with the sandbox where the call says, for what no
// record of the attachment tells of. Without a prevResult nothing tells what in
// there is its own: if the plugin has given another container an interface of
// that name in there, the path has come to be that one's, and it is left alone.
func (s *session) openNamed(plugin string) (*state.Kernel, error) {
	k, err := s.host.open(s.NetNS)
	if err != nil || s.Config.PrevResult != nil {
		return k, err
	}
	id, err := k.SandboxID()
	if errors.Is(err, state.ErrNoSandbox) {
		return k, nil
	}
	anothers := false
	if err == nil {
		anothers, err = s.host.Records.HasOther(plugin, id, s.Owner)
	}
	if err == nil && !anothers {
		return k, nil
	}
	if err = errors.Join(err, k.Close()); err != nil {
		return nil, err
	}
	return s.host.open("")
}

// useRecordedIPAM makes the call's configuration of IPAM be that of the ADD,
// which knows where the address is.
func (s *session) useRecordedIPAM(record *state.Record) error {
	if record.IPAM == nil || bytes.Equal(record.IPAM, s.Config.IPAM.Raw) {
		return nil
	}
	return s.reconfigure(map[string]any{"ipam": record.IPAM})
}

// reconfigure replaces keys of the call's configuration.
func (s *session) reconfigure(keys map[string]any) error {
	config, err := cni.Derive(s.Config.Raw, keys)
	if err != nil {
		return err
	}
	call := *s.Request.Request
	call.Config = config
	r, err := NewRequest(&call)
	if err != nil {
		return err
	}
	r.records = s.host.Records
	s.Request = r
	return nil
}
