package plugin

import (
	"context"
	"net/netip"
	"reflect"

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
	// CNI_IFNAME among them. An interface plugin's result is of its own
	// interface alone, as the reference's is: a runtime that lists loopback
	// first must not take its address for the container's. A chained plugin
	// has none, and its result is the previous one.
	Interfaces func(*C, *Request) []state.Key

	// Observe completes a result from what the kernel did. Optional.
	Observe func(context.Context, *C, *Request, *cni.Result, state.Reader) error

	// Footprint names what may have to be removed where there is no record:
	// the ADD was another implementation's, or did not get far. It follows
	// from the owner, the configuration, a prevResult and the addresses that
	// this names, which may be none, and relies on nothing that may be gone
	// by then. Optional for a plugin all of whose objects vanish with a link.
	Footprint func(*C, *Request, []netip.Addr) []state.Key

	// NoIPAM reports that a call's ADD and CHECK ask no IPAM plugin, though
	// the configuration names one: there is no interface to give an address
	// to. DEL asks it all the same. Optional.
	NoIPAM func(*C, *Request) bool

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
		name:   d.Name,
		config: reflect.TypeFor[C](),
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

// asksIPAM reports whether the plugin delegates to an IPAM plugin.
func (d *Def[C]) asksIPAM(r *Request) bool { return d.Links != nil && r.Config.IPAM.Type != "" }

// needsIPAM reports whether ADD and CHECK do so.
func (d *Def[C]) needsIPAM(c *C, r *Request) bool {
	return d.asksIPAM(r) && (d.NoIPAM == nil || !d.NoIPAM(c, r))
}

func (s *session) engine(k *state.Kernel, o state.Owner) *state.Engine {
	return &state.Engine{Kernel: k, Owner: o, Trace: s.trace, Before: s.host.Before}
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

// status asks the plugin and its IPAM plugin whether ADD could succeed.
func (d *Def[C]) status(ctx context.Context, s *session) error {
	c, err := d.config(s.Request)
	if err != nil {
		return err
	}
	if err := s.host.Records.Ready(); err != nil {
		return err
	}
	if d.Ready != nil {
		k, err := s.host.open("")
		if err != nil {
			return err
		}
		defer k.Close()
		if err := d.Ready(ctx, c, s.Request, k.Reader()); err != nil {
			return err
		}
	}
	if d.asksIPAM(s.Request) {
		return s.ipamStatus(ctx)
	}
	return nil
}
