package plugin

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
)

// A Def declares an interface plugin or a chained plugin whose own
// configuration keys are the fields of C, as encoding/json reads them.
//
// Its functions are pure or only read; the engine does the rest.
type Def[C any] struct {
	Name string

	// Validate refuses a configuration or arguments that the plugin can't
	// act on, for ADD, CHECK and STATUS. Optional.
	Validate func(*C, *Request) error

	// Links is the state that comes before addresses are known: the
	// interfaces. A plugin without Links is a chained one, and never asks
	// an IPAM plugin. Optional.
	Links func(context.Context, *C, *Request, state.Reader) (state.Plan, error)

	// Desired is the rest of the state. On ADD it is given the result of
	// IPAM, or the previous result, and may complete it; on CHECK the final
	// result of ADD, of which only addresses of this plugin's interface.
	Desired func(context.Context, *C, *Request, *cni.Result, state.Reader) (state.Plan, error)

	// Interfaces names the links that a result lists, in order, the one of
	// CNI_IFNAME among them. A chained plugin has none: its result is the
	// previous one.
	Interfaces func(*C, *Request) []state.Key

	// Observe completes a result from what the kernel did. Optional.
	Observe func(context.Context, *C, *Request, *cni.Result, state.Reader) error

	// Footprint names what may have to be removed, as far as that follows
	// from the owner, the configuration, a prevResult and the addresses that
	// are known to have been the container's, which may be none. DEL unites
	// it with the record; it must not rely on anything that may be gone by
	// then. Optional for a plugin all of whose objects vanish with a link.
	Footprint func(*C, *Request, []netip.Addr) []state.Key

	// Kinds are the kinds of objects that have to be removed, in the order
	// of removal.
	Kinds []state.Kind

	// Ready fails with cni.CodeUnavailable if ADD could not succeed now.
	// Optional.
	Ready func(context.Context, *C, *Request, state.Reader) error
}

// New returns the plugin that a definition declares.
func New[C any](d Def[C]) Plugin {
	return Plugin{
		name: d.Name,
		keys: configKeys[C],
		serve: func(ctx context.Context, s *session) (*cni.Result, error) {
			switch s.Verb {
			case cni.VerbAdd:
				return d.add(ctx, s)
			case cni.VerbCheck:
				return nil, d.check(ctx, s)
			case cni.VerbDel:
				return nil, d.del(ctx, s)
			case cni.VerbGC:
				return nil, d.gc(ctx, s)
			case cni.VerbStatus:
				return nil, d.status(ctx, s)
			}
			return nil, cni.Errorf(cni.CodeInvalidEnvironment, "unknown CNI_COMMAND %q", s.Verb)
		},
	}
}

// config decodes and validates.
func (d *Def[C]) config(r *Request) (*C, error) {
	c, err := decode[C](r)
	if err != nil {
		return nil, err
	}
	if d.Validate != nil {
		if err := d.Validate(c, r); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (s *session) engine(k *state.Kernel) *state.Engine {
	return &state.Engine{Kernel: k, Owner: s.Owner, Trace: s.trace, Before: s.host.Before}
}

// add makes the links, asks IPAM, and makes the rest. Whatever fails, what was
// done before is undone.
func (d *Def[C]) add(ctx context.Context, s *session) (result *cni.Result, err error) {
	c, err := d.config(s.Request)
	if err != nil {
		return nil, err
	}
	k, err := state.OpenKernel(s.NetNS)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	if _, err := k.Namespace(state.Sandbox); err != nil {
		return nil, cni.Errorf(cni.CodeInvalidEnvironment, "CNI_NETNS %s: %w; is the container still running?", s.NetNS, err)
	}

	// cleanup undoes in reverse, even if ctx is why we stop.
	var undos []state.Undo
	defer func() {
		if err == nil {
			return
		}
		ctx := context.WithoutCancel(ctx)
		for i := len(undos) - 1; i >= 0; i-- {
			err = errors.Join(err, undos[i](ctx))
		}
	}()

	e := s.engine(k)
	var links state.Plan
	if d.Links != nil {
		if links, err = d.Links(ctx, c, s.Request, k.Reader()); err != nil {
			return nil, err
		}
		undo, err := e.Apply(ctx, links)
		if err != nil {
			return nil, err
		}
		undos = append(undos, undo)
	}

	if d.Links != nil && s.Config.IPAM.Type != "" {
		if result, err = s.ipamAdd(ctx); err != nil {
			return nil, err
		}
		// First in the list, because the address goes after the link.
		undos = append([]state.Undo{s.ipamUndo}, undos...)
	} else {
		result = s.previous()
	}

	desired, err := d.Desired(ctx, c, s.Request, result, k.Reader())
	if err != nil {
		return nil, err
	}
	id, err := k.SandboxID()
	if err != nil {
		return nil, err
	}
	undo, err := s.host.Records.Save(state.Record{
		Plugin: d.Name, Owner: s.Owner, Sandbox: id,
		Keys: append(links.Keys(), desired.Keys()...), Addresses: addresses(result),
	})
	if err != nil {
		return nil, err
	}
	undos = append(undos, undo)
	if undo, err = e.Apply(ctx, desired); err != nil {
		return nil, err
	}
	undos = append(undos, undo)

	if d.Interfaces != nil {
		if err := d.describe(c, s.Request, result, k.Reader()); err != nil {
			return nil, err
		}
	}
	if d.Observe != nil {
		if err := d.Observe(ctx, c, s.Request, result, k.Reader()); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// previous returns a result to complete: a copy of prevResult, or an empty one.
func (s *session) previous() *cni.Result {
	if s.Config.PrevResult != nil {
		return s.Config.PrevResult.Clone()
	}
	return new(cni.Result)
}

// describe lists the interfaces of a result as the kernel has them and ties
// the addresses to the one in the sandbox.
func (d *Def[C]) describe(c *C, r *Request, result *cni.Result, rd state.Reader) error {
	var in int
	result.Interfaces = nil
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

// convergence is how long CHECK waits for what the kernel does in its own
// time, such as duplicate address detection (SPEC: "a reasonable convergence
// delay").
const (
	convergenceTries = 3
	convergencePause = 50 * time.Millisecond
)

// check compares the plan that prevResult leads to with what is there.
func (d *Def[C]) check(ctx context.Context, s *session) error {
	c, err := d.config(s.Request)
	if err != nil {
		return err
	}
	prev := s.Config.PrevResult
	if prev == nil {
		return cni.Errorf(cni.CodeInvalidConfig, "prevResult is missing, which CHECK needs")
	}
	k, err := state.OpenKernel(s.NetNS)
	if err != nil {
		return err
	}
	defer k.Close()
	if _, err := k.Namespace(state.Sandbox); err != nil {
		return cni.Errorf(cni.CodeUnknownContainer, "CNI_NETNS %s: %w", s.NetNS, err)
	}

	if d.Links != nil && s.Config.IPAM.Type != "" {
		if err := s.ipamCheck(ctx); err != nil {
			return err
		}
	}
	plan, err := d.plan(ctx, c, s.Request, s.own(prev), k.Reader())
	if err != nil {
		return err
	}
	e := s.engine(k)
	for try := 1; ; try++ {
		drifts, err := e.Diff(ctx, plan)
		if err != nil {
			return err
		}
		if len(drifts) == 0 {
			return nil
		}
		if try == convergenceTries {
			return cni.Errorf(state.CodeDrift, "%s", state.Describe(drifts))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(convergencePause):
		}
	}
}

// plan is the whole of what an attachment wants, once its addresses are known.
func (d *Def[C]) plan(ctx context.Context, c *C, r *Request, result *cni.Result, rd state.Reader) (state.Plan, error) {
	var plan state.Plan
	if d.Links != nil {
		links, err := d.Links(ctx, c, r, rd)
		if err != nil {
			return nil, err
		}
		plan = links
	}
	desired, err := d.Desired(ctx, c, r, result, rd)
	if err != nil {
		return nil, err
	}
	return append(plan, desired...), nil
}

// del removes everything that may be there and releases the addresses, in that
// order, unless a link would not go: its address must not be given to another.
// It attempts all and joins the errors.
func (d *Def[C]) del(ctx context.Context, s *session) error {
	c, err := decode[C](s.Request)
	if err != nil {
		c = new(C) // edited since, and no reason to leave things behind
	}
	k, err := state.OpenKernel(s.NetNS)
	if err != nil {
		return err
	}
	defer k.Close()
	record, err := s.host.Records.Load(d.Name, s.Owner)
	if err != nil {
		return err
	}
	var gone []netip.Addr
	if s.Config.PrevResult != nil {
		gone = addresses(s.own(s.Config.PrevResult))
	}
	var recorded []state.Key
	if record != nil {
		if err := s.leaveForeignSandbox(k, record); err != nil {
			return err
		}
		recorded = record.Keys
		gone = append(gone, record.Addresses...)
	}
	keys := recorded
	if d.Footprint != nil {
		keys = append(keys, d.Footprint(c, s.Request, distinct(gone))...)
	}

	if err := s.engine(k).Remove(ctx, d.Kinds, keys); err != nil {
		return err
	}
	var errs []error
	if d.Links != nil && s.Config.IPAM.Type != "" {
		released, err := s.ipamDel(ctx)
		errs = append(errs, err)
		gone = append(gone, released...)
	}
	errs = append(errs, s.flushConntrack(ctx, k, distinct(gone)))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return s.host.Records.Delete(d.Name, s.Owner)
}

// leaveForeignSandbox closes the sandbox if it is not the one of the ADD: paths
// such as /proc/PID/ns/net are used again.
func (s *session) leaveForeignSandbox(k *state.Kernel, record *state.Record) error {
	id, err := k.SandboxID()
	if errors.Is(err, state.ErrNoSandbox) {
		return nil
	}
	if err != nil {
		return err
	}
	if id != record.Sandbox {
		return k.LeaveSandbox()
	}
	return nil
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
	stale, err := d.stale(ctx, s, k.Reader())
	if err != nil {
		return err
	}
	var errs []error
	var gone []netip.Addr
	for _, o := range stale {
		e := s.engine(k)
		e.Owner = o.owner
		if err := e.Remove(ctx, d.Kinds, o.keys); err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, o.addresses...)
		errs = append(errs, s.host.Records.Delete(d.Name, o.owner))
	}
	if d.Links != nil && s.Config.IPAM.Type != "" {
		released, err := s.ipamGC(ctx)
		errs = append(errs, err)
		gone = append(gone, released...)
	}
	errs = append(errs, s.flushConntrack(ctx, k, distinct(gone)))
	return errors.Join(errs...)
}

// A leftover is what an attachment that is not valid any more has left.
type leftover struct {
	owner     state.Owner
	keys      []state.Key
	addresses []netip.Addr
}

// stale unites the records of the network with the objects found, as far as
// they are of no valid attachment, by the owners' tags.
func (d *Def[C]) stale(ctx context.Context, s *session, r state.Reader) (map[string]*leftover, error) {
	var valid []state.Owner
	tags := make(map[string]bool)
	for _, a := range s.Config.Valid {
		o := state.Owner{Network: s.Config.Name, ContainerID: a.ContainerID, IfName: a.IfName}
		valid, tags[o.Tag()] = append(valid, o), true
	}
	all := make(map[string]*leftover)
	add := func(o state.Owner, keys []state.Key, addrs []netip.Addr) {
		l := all[o.Tag()]
		if l == nil {
			l = &leftover{owner: o}
			all[o.Tag()] = l
		}
		l.keys, l.addresses = append(l.keys, keys...), append(l.addresses, addrs...)
	}
	records, err := s.host.Records.List(d.Name, s.Config.Name)
	if err != nil {
		return nil, err
	}
	for _, rec := range records {
		if !tags[rec.Owner.Tag()] {
			add(rec.Owner, rec.Keys, rec.Addresses)
		}
	}
	for _, kind := range d.Kinds {
		found, err := kind.Garbage(ctx, r, s.Config.Name, valid)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			add(f.Owner, []state.Key{f.Key}, nil)
		}
	}
	return all, nil
}

// status asks the plugin and its IPAM plugin whether ADD could succeed.
func (d *Def[C]) status(ctx context.Context, s *session) error {
	c, err := d.config(s.Request)
	if err != nil {
		return err
	}
	if d.Ready != nil {
		k, err := state.OpenKernel("")
		if err != nil {
			return err
		}
		defer k.Close()
		if err := d.Ready(ctx, c, s.Request, k.Reader()); err != nil {
			return err
		}
	}
	if d.Links != nil && s.Config.IPAM.Type != "" {
		return s.ipamStatus(ctx)
	}
	return nil
}

// flushConntrack makes the kernel forget the flows of addresses that are about
// to be somebody else's.
func (s *session) flushConntrack(ctx context.Context, k *state.Kernel, addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return nil
	}
	nft, err := k.NFT()
	if err != nil {
		return err
	}
	return nft.FlushConntrack(ctx, addrs)
}
