package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/plumb-cni/plumb/cni"
)

// The IPAM plugin of a call runs in this process if it is ours, and is executed
// otherwise (SPEC section 4). Either way it is given the call as it came.

// ipamName is what traces call an IPAM plugin.
type ipamName string

func (n ipamName) String() string { return string(n) }

// ours returns the IPAM plugin of the call if it is ours.
func (s *session) ours() IPAM {
	if s.host.Own == nil {
		return nil
	}
	return s.host.Own(s.Config.IPAM.Type, s.Path)
}

// needsLink reports whether the IPAM plugin of the call has to release before
// the link goes. Of foreign plugins, the reference's DHCP client does.
func (s *session) needsLink() bool {
	if p := s.ours(); p != nil {
		_, ok := p.(LinkUser)
		return ok
	}
	return s.Config.IPAM.Type == "dhcp"
}

// ipam calls own with our IPAM plugin, or executes the foreign one.
func (s *session) ipam(ctx context.Context, own func(IPAM) error) (*cni.Result, error) {
	var result *cni.Result
	name := s.Config.IPAM.Type
	err := s.trace.Time("ipam", ipamName(name), func() (err error) {
		if p := s.ours(); p != nil {
			return own(p)
		}
		if s.host.Foreign == nil {
			return cni.Errorf(cni.CodeInvalidConfig, "unknown IPAM plugin %q", name)
		}
		result, err = s.host.Foreign.Invoke(ctx, name, s.Request.Request)
		if errors.Is(err, fs.ErrNotExist) {
			return s.unstarted(err)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("IPAM plugin %s: %w", name, err)
	}
	return result, nil
}

// An unstarted IPAM plugin is one that there is no program of.
type unstarted struct{ error }

func (u unstarted) Unwrap() error { return u.error }

// unstarted makes the invoker's error one of the configuration. What it says of
// the call, the caller of this one is told anyway.
func (s *session) unstarted(err error) error {
	if cause := errors.Unwrap(err); cause != nil {
		err = cause
	}
	return cni.Errorf(cni.CodeInvalidConfig, "%w", unstarted{err}).
		WithDetails("ipam.type is the name of a program in one of the folders of CNI_PATH; \"host-local\" is one that comes with this plugin")
}

func (s *session) ipamAdd(ctx context.Context) (*cni.Result, error) {
	var result *cni.Result
	foreign, err := s.ipam(ctx, func(p IPAM) (err error) {
		if m, ok := p.(Rememberer); ok {
			result, s.Fresh, err = m.AddFresh(ctx, s.Request)
		} else {
			result, err = p.Add(ctx, s.Request)
		}
		return err
	})
	if err != nil && (s.ours() != nil || errors.As(err, new(unstarted))) {
		return nil, err // nothing is left, and there might be an earlier ADD's
	}
	if foreign != nil {
		result = foreign
		dropInterfaces(result)
	}
	if err == nil && (result == nil || len(result.IPs) == 0) {
		err = cni.Errorf(cni.CodeInvalidConfig, "IPAM plugin %s returned no address", s.Config.IPAM.Type)
	}
	if err != nil {
		// A foreign plugin that failed is told to delete all the same (SPEC
		// section 4).
		return nil, errors.Join(err, s.ipamDel(context.WithoutCancel(ctx)))
	}
	return result, nil
}

// dropInterfaces takes out of a result what an IPAM plugin has nothing to say about
// (SPEC section 4): the interface of the addresses is the caller's.
func dropInterfaces(result *cni.Result) {
	result.Interfaces = nil
	for i := range result.IPs {
		result.IPs[i].Interface = nil
	}
}

func (s *session) ipamCheck(ctx context.Context) error {
	_, err := s.ipam(ctx, func(p IPAM) error { return p.Check(ctx, s.Request) })
	return err
}

func (s *session) ipamDel(ctx context.Context) error {
	call := *s.Request.Request
	call.Verb = cni.VerbDel // also when it undoes an ADD
	r := *s.Request
	r.Request = &call
	del := &session{Request: &r, host: s.host, trace: s.trace}
	_, err := del.ipam(ctx, func(p IPAM) error {
		_, err := p.Del(ctx, del.Request)
		return err
	})
	return err
}

func (s *session) ipamGC(ctx context.Context) (released []netip.Addr, err error) {
	_, err = s.ipam(ctx, func(p IPAM) (err error) {
		released, err = p.GC(ctx, s.Request)
		return err
	})
	return released, err
}

func (s *session) ipamStatus(ctx context.Context) error {
	_, err := s.ipam(ctx, func(p IPAM) error { return p.Status(ctx, s.Request) })
	return err
}

// FromIPAM returns the plugin that serves an IPAM plugin's verbs to callers
// that execute it.
func FromIPAM(p IPAM) Plugin {
	return Plugin{
		name:   p.Name(),
		ipam:   true,
		config: p.Config(),
		serve: func(ctx context.Context, s *session) (*cni.Result, error) {
			switch s.Verb {
			case cni.VerbAdd:
				return p.Add(ctx, s.Request)
			case cni.VerbCheck:
				return nil, p.Check(ctx, s.Request)
			case cni.VerbDel:
				_, err := p.Del(ctx, s.Request)
				return nil, err
			case cni.VerbGC:
				if !s.Config.HasValid {
					return nil, nil
				}
				_, err := p.GC(ctx, s.Request)
				return nil, err
			case cni.VerbStatus:
				return nil, p.Status(ctx, s.Request)
			}
			return nil, cni.Errorf(cni.CodeInvalidEnvironment, "unknown CNI_COMMAND %q", s.Verb)
		},
	}
}
