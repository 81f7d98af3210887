package plugin

import (
	"bytes"
	"context"
	"errors"
	"net/netip"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
)

// del removes everything that may be there and releases the addresses, in that
// order, unless a link would not go: its address must not be given to another.
// It attempts all and joins the errors.
func (d *Def[C]) del(ctx context.Context, s *session) error {
	c, err := decode[C](s.Request)
	if err != nil {
		c = new(C) // edited since, and no reason to leave things behind
	}
	record, unread := s.host.Records.Load(d.Name, s.Owner)
	k, err := s.openRecorded(record)
	if err != nil {
		return errors.Join(unread, err)
	}
	defer k.Close()

	var objects []state.Object
	var gone []netip.Addr
	switch {
	case record != nil:
		objects, gone = record.Removable(), record.Addresses
		if err := s.useRecordedIPAM(record); err != nil {
			return err
		}
	case d.Footprint != nil:
		for _, key := range d.Footprint(c, s.Request, s.previousAddresses()) {
			objects = append(objects, state.Object{Key: key})
		}
	}
	if err := s.engine(k, s.Owner).Remove(ctx, d.Kinds, objects); err != nil {
		return errors.Join(unread, err)
	}
	errs := []error{unread}
	if d.asksIPAM(s.Request) {
		released, err := s.ipamDel(ctx)
		errs = append(errs, err, flushConntrack(ctx, k, append(gone, released...)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return s.host.Records.Delete(d.Name, s.Owner)
}

// openRecorded opens the kernel with the sandbox of a record, which may be
// where ADD found it, or where the call says: a path such as /proc/PID/ns/net
// may by now lead somewhere else. Without a record it is where the call says.
func (s *session) openRecorded(record *state.Record) (*state.Kernel, error) {
	if record == nil {
		return state.OpenKernel(s.NetNS)
	}
	for _, path := range []string{record.NetNS, s.NetNS} {
		k, err := state.OpenKernel(path)
		if err != nil {
			continue // somebody's file, not the sandbox
		}
		id, err := k.SandboxID()
		if err == nil && id == record.Sandbox {
			return k, nil
		}
		if err := k.Close(); err != nil {
			return nil, err
		}
	}
	return state.OpenKernel("")
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
	s.Request, err = NewRequest(&call)
	return err
}

// flushConntrack makes the kernel forget the flows of addresses that are about
// to be somebody else's.
func flushConntrack(ctx context.Context, k *state.Kernel, addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return nil
	}
	nft, err := k.NFT()
	if err != nil {
		return err
	}
	return nft.FlushConntrack(ctx, distinct(addrs))
}
