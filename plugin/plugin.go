// Package plugin turns the declaration of a plugin into its verbs.
//
// An interface or chained plugin is a [Def]: what it wants of the kernel, and
// the names of what it may leave there. An IPAM plugin is an [IPAM]. Both
// become a [Plugin], which serves calls within a [Host].
package plugin

import (
	"context"
	"reflect"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
)

// A Plugin is a plugin of ours, ready to serve any verb.
type Plugin struct {
	name   string
	ipam   bool // it is called with the configurations of others
	config reflect.Type
	serve  func(context.Context, *session) (*cni.Result, error)
}

// Name is the type under which configurations ask for the plugin.
func (p Plugin) Name() string { return p.name }

// Config returns the type of the plugin's own configuration: its fields are the
// keys that the plugin understands beyond those of the specification, as
// encoding/json reads them. What values they may have is in tags "schema",
// whose terms package internal/schema lists.
func (p Plugin) Config() reflect.Type { return p.config }

// Keys returns the configuration keys that the plugin understands beyond those
// of the specification, nested ones with dots.
func (p Plugin) Keys() []string { return KeysOf(p.config) }

// A Host is what a process offers to the plugins that run in it. The zero Host
// serves those that ask no IPAM plugin.
type Host struct {
	// Own returns the IPAM plugin of ours that a configuration means by a
	// type, or nil if it means a foreign program on the path.
	Own func(ipam string, path []string) IPAM

	// Foreign executes IPAM plugins that are not ours.
	Foreign Invoker

	// Kernel opens the host's namespace and the sandbox at a path; by default
	// as state.OpenKernel does.
	Kernel func(sandbox string) (*state.Kernel, error)

	// Records is where attachments are recorded; by default state.RecordDir.
	Records state.Records

	// Log, if set, is told about every verb that was served.
	Log func(Entry)

	// Before, if set, is called before each step of an ADD. Tests end the
	// process there.
	Before func(state.Step)
}

// An Invoker executes a foreign plugin and returns the result of its ADD.
type Invoker interface {
	Invoke(ctx context.Context, plugin string, call *cni.Request) (*cni.Result, error)
}

// An Entry tells what serving one verb did and how long it took.
type Entry struct {
	Time      time.Time         `json:"time"`
	Plugin    string            `json:"plugin"`
	Verb      cni.Verb          `json:"verb"`
	Network   string            `json:"network,omitempty"`
	Container string            `json:"container,omitempty"`
	Interface string            `json:"interface,omitempty"`
	NetNS     string            `json:"netns,omitempty"`
	Millis    float64           `json:"ms"`
	Steps     []state.TraceStep `json:"steps,omitempty"`
	Warnings  []string          `json:"warnings,omitempty"` // keys that nothing reads
	Error     string            `json:"error,omitempty"`
	Code      cni.Code          `json:"code,omitempty"`
}

// open opens the kernel with a sandbox.
func (h *Host) open(sandbox string) (*state.Kernel, error) {
	if h.Kernel != nil {
		return h.Kernel(sandbox)
	}
	return state.OpenKernel(sandbox)
}

// In returns the plugin as it serves calls within a host: what package protocol
// makes a process of.
func (p Plugin) In(h *Host) Served { return Served{Plugin: p, host: h} }

// Served is a plugin within a host.
type Served struct {
	Plugin
	host *Host
}

// Versions returns the versions of the protocol that the plugin supports.
func (Served) Versions() []cni.Version { return cni.Versions() }

// Handle serves a call as [Plugin.Serve] does.
func (s Served) Handle(ctx context.Context, call *cni.Request) (*cni.Result, error) {
	return s.Serve(ctx, s.host, call)
}

// A session is the serving of one call.
type session struct {
	*Request
	host  *Host
	trace *state.Trace
}

// Serve serves a call of any verb but VERSION. Only ADD has a result.
//
// A failure is a *cni.Error: of a code of the specification, or one of
// package state's, or cni.CodeInternal. Its details name the plugin, the verb
// and the attachment.
func (p Plugin) Serve(ctx context.Context, h *Host, call *cni.Request) (*cni.Result, error) {
	start := time.Now()
	s := &session{host: h}
	if h.Log != nil {
		s.trace = new(state.Trace)
	}
	r, err := NewRequest(call)
	var result *cni.Result
	if err == nil {
		r.records = h.Records
		s.Request = r
		result, err = p.serve(ctx, s)
	}
	if err != nil {
		err = p.explain(call, err)
	}
	if h.Log != nil {
		e := p.Entry(call, err)
		e.Time, e.Millis, e.Steps = start, float64(time.Since(start).Microseconds())/1000, s.trace.Steps
		if r != nil {
			e.Network = r.Config.Name
			e.Warnings = p.warnings(h, r)
		}
		h.Log(e)
	}
	return result, err
}

// warnings says which keys of a configuration nothing reads, where it begins to be
// used.
func (p Plugin) warnings(h *Host, r *Request) (list []string) {
	if r.Verb != cni.VerbAdd && r.Verb != cni.VerbStatus {
		return nil
	}
	unknown := p.Unknown(r.Request.Config, func(name string) IPAM {
		if h.Own == nil || name == "" {
			return nil
		}
		return h.Own(name, r.Path)
	})
	for _, u := range unknown {
		list = append(list, u.String())
	}
	return list
}

// explain adds to an error what it happened to.
func (p Plugin) explain(call *cni.Request, err error) error {
	config, _ := cni.Identify(call.Config) // which works also where the rest of it is what is wrong
	return asError(err).About(cni.Subject{
		Plugin: p.name, Verb: call.Verb, Network: config.Name, ContainerID: call.ContainerID, IfName: call.IfName,
	})
}

// Entry returns what there is to tell of a call and its outcome alone, such as
// for one that was refused before it was served.
func (p Plugin) Entry(call *cni.Request, err error) Entry {
	e := Entry{
		Time: time.Now(), Plugin: p.name, Verb: call.Verb,
		Container: call.ContainerID, Interface: call.IfName, NetNS: call.NetNS,
	}
	if err != nil {
		e.Error, e.Code = err.Error(), cni.AsError(err).Code
	}
	return e
}

// decode decodes a plugin's own keys of a configuration.
func decode[C any](r *Request) (*C, error) {
	c := new(C)
	if err := cni.Decode(r.Config.Raw, c, "configuration"); err != nil {
		return nil, err
	}
	return c, nil
}
