package plugin

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
)

// An addition is an ADD under way, with what there is to undo.
type addition struct {
	*session
	plugin string
	kernel *state.Kernel
	engine *state.Engine
	record *state.Record // as last saved, perhaps by an earlier ADD; nil if there is none

	kept []state.Undo // undoes records and allocations, in order

	// release, if set, undoes an allocation that needs the link for that.
	release state.Undo
}

// abandon undoes kernel state, in reverse. Only if that has gone altogether it
// forgets the records and releases the address, which must not be given to
// another while a link still answers for it; otherwise DEL finds them. A lease
// can be given back over the link alone, and so comes first.
func (a *addition) abandon(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // which may be why we stop
	var errs []error
	if a.release != nil {
		errs = append(errs, a.release(ctx))
	}
	if err := a.engine.Undo(ctx); err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, undo := range slices.Backward(a.kept) {
		errs = append(errs, undo(ctx))
	}
	return errors.Join(errs...)
}

// make records what a plan is about to do, and does it.
func (a *addition) make(ctx context.Context, plan state.Plan, result *cni.Result) error {
	id, err := a.kernel.SandboxID()
	if err != nil {
		return err
	}
	objects, err := plan.Objects(ctx, a.kernel.Reader())
	if err != nil {
		return err
	}
	record := &state.Record{
		Plugin: a.plugin, Owner: a.Owner, NetNS: a.NetNS, Sandbox: id,
		Objects: objects, Addresses: addresses(result), IPAM: a.Config.IPAM.Raw,
	}
	forget, err := a.host.Records.Save(record, a.record)
	if err != nil {
		return err
	}
	a.record = record
	a.kept = append(a.kept, forget)
	return a.engine.Apply(ctx, plan)
}

// refuseElsewhere fails if the attachment was made in another sandbox that is
// still there: a second ADD would take the first one's interface away.
func (a *addition) refuseElsewhere() error {
	if a.record == nil {
		return nil
	}
	id, err := a.kernel.SandboxID()
	if err != nil || id == a.record.Sandbox {
		return err
	}
	if alive, err := a.record.Alive(); err != nil || !alive {
		return err
	}
	return cni.Errorf(state.CodeConflict, "the container is attached already, in %s; delete that attachment first", a.record.NetNS)
}

// add makes the links, asks IPAM, and makes the rest. Whatever fails, or
// panics, what was done before is undone.
func (d *Def[C]) add(ctx context.Context, s *session) (result *cni.Result, err error) {
	c, err := d.config(s.Request)
	if err != nil {
		return nil, err
	}
	if strings.Contains(s.IfName, "%") {
		return nil, cni.Errorf(cni.CodeInvalidEnvironment, "CNI_IFNAME %q: the kernel takes %% in a name for a pattern", s.IfName)
	}
	k, err := s.host.open(s.NetNS)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	if _, err := k.Namespace(state.Sandbox); err != nil {
		return nil, cni.Errorf(cni.CodeInvalidEnvironment, "CNI_NETNS %s: %w", s.NetNS, err).
			WithDetails("it is a path, such as /run/netns/NAME or /proc/PID/ns/net; does the container still run?")
	}

	a := &addition{session: s, plugin: d.Name, kernel: k, engine: s.engine(k, s.Owner)}
	if a.record, err = s.host.Records.Load(d.Name, s.Owner); err != nil {
		return nil, err
	}
	if err := a.refuseElsewhere(); err != nil {
		return nil, err
	}
	k.Alive = s.host.Records.Alive
	done := false
	defer func() {
		if !done {
			err = errors.Join(err, a.abandon(ctx))
		}
	}()
	if d.Links != nil {
		links, err := d.Links(ctx, c, s.Request, k.Reader())
		if err != nil {
			return nil, err
		}
		if err := a.make(ctx, links, nil); err != nil {
			return nil, err
		}
		result = new(cni.Result)
	} else {
		result = s.previous()
	}
	if d.needsIPAM(c, s.Request) {
		if result, err = s.ipamAdd(ctx); err != nil {
			return nil, err
		}
		if s.needsLink() {
			a.release = s.ipamDel
		} else {
			a.kept = append(a.kept, s.ipamDel)
		}
	}
	desired, err := d.Desired(ctx, c, s.Request, result, k.Reader())
	if err != nil {
		return nil, err
	}
	if err := a.make(ctx, desired, d.allocated(s.Request, result)); err != nil {
		return nil, err
	}
	if err := d.report(ctx, c, s.Request, result, k.Reader()); err != nil {
		return nil, err
	}
	done = true
	return result, nil
}

// previous returns a result to complete: a copy of prevResult, or an empty one.
func (s *session) previous() *cni.Result {
	if s.Config.PrevResult != nil {
		return s.Config.PrevResult.Clone()
	}
	return new(cni.Result)
}

// allocated returns a result if its addresses are the plugin's own, and nil for
// a plugin that was given another's.
func (d *Def[C]) allocated(r *Request, result *cni.Result) *cni.Result {
	if d.asksIPAM(r) {
		return result
	}
	return nil
}

// report completes a result with what was observed.
func (d *Def[C]) report(ctx context.Context, c *C, r *Request, result *cni.Result, rd state.Reader) error {
	if d.Interfaces != nil {
		if err := d.describe(c, r, result, rd); err != nil {
			return err
		}
	}
	if d.Observe != nil {
		return d.Observe(ctx, c, r, result, rd)
	}
	return nil
}

// describe lists the interfaces of a result as the kernel has them and ties
// the addresses to the one in the sandbox.
func (d *Def[C]) describe(c *C, r *Request, result *cni.Result, rd state.Reader) error {
	var in int
	for i, key := range d.Interfaces(c, r) {
		conn, err := rd.Route(key.NS)
		if err != nil {
			return err
		}
		l, err := conn.Known(key.Name)
		if err != nil {
			return err
		}
		described := cni.Interface{Name: l.Name, MAC: l.MAC.String()}
		if r.Config.CNIVersion.AtLeast(cni.V110) {
			described.MTU = uint(l.MTU) // no key of earlier results
		}
		if key.NS == state.Sandbox {
			described.Sandbox = r.NetNS
			in = i
		}
		result.Interfaces = append(result.Interfaces, described)
	}
	for i := range result.IPs {
		index := in
		result.IPs[i].Interface = &index
	}
	if !r.Config.DNS.IsZero() {
		result.DNS = r.Config.DNS
	}
	return nil
}
