package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/protocol"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

// A world is what a plugin of the tests changes instead of the kernel. Things in it do what those of the kernel do rarely: fail, and
// refuse to go.
type world struct {
	made   map[string]bool
	held   map[string]netip.Addr // addresses by container
	fails  string                // the thing that can't be made
	panics string                // the thing whose making panics
	stuck  string                // the thing that does not go
}

func newWorld() *world { return &world{made: make(map[string]bool), held: make(map[string]netip.Addr)} }

// String lists things and holders of addresses.
func (w *world) String() string {
	var list []string
	for name := range w.made {
		list = append(list, name)
	}
	for id := range w.held {
		list = append(list, "address of "+id)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

func (w *world) remove(name string) error {
	if name == w.stuck {
		return fmt.Errorf("%s does not go", name)
	}
	delete(w.made, name)
	return nil
}

// thing is a resource of the world.
type thing struct {
	*world
	name string
}

func (x thing) Key() state.Key {
	return state.Key{NS: state.Host, Kind: things{}.Kind(), Name: x.name}
}

func (x thing) Ensure(context.Context, *state.Kernel) (state.Undo, error) {
	switch x.name {
	case x.fails:
		return nil, fmt.Errorf("%s is not to be had", x.name)
	case x.panics:
		panic(x.name)
	}
	x.made[x.name] = true
	return func(context.Context) error { return x.remove(x.name) }, nil
}

func (thing) Diff(context.Context, state.Reader) ([]state.Drift, error) { return nil, nil }

// things are the kind of all things.
type things struct{ *world }

func (things) Kind() string { return "thing" }

func (w things) Remove(_ context.Context, _ *state.Kernel, obj state.Object, _ state.Owner) error {
	return w.remove(obj.Key.Name)
}

func (things) Garbage(context.Context, state.Reader, string, []state.Owner) ([]state.Found, error) {
	return nil, nil // the records tell
}

// pool is the IPAM plugin of the world.
type pool struct{ *world }

func (pool) Name() string                                  { return "pool" }
func (pool) Config() reflect.Type                          { return reflect.TypeFor[struct{}]() }
func (pool) Check(context.Context, *plugin.Request) error  { return nil }
func (pool) Status(context.Context, *plugin.Request) error { return nil }

func (w pool) Add(_ context.Context, r *plugin.Request) (*cni.Result, error) {
	a := netip.AddrFrom4([4]byte{10, 77, 0, byte(2 + len(w.held))})
	w.held[r.ContainerID] = a
	return &cni.Result{IPs: []cni.IP{{Address: netip.PrefixFrom(a, 24)}}}, nil
}

func (w pool) Del(_ context.Context, r *plugin.Request) ([]netip.Addr, error) {
	return w.release(r.ContainerID), nil
}

func (w pool) Held(_ context.Context, r *plugin.Request) (held []netip.Addr, err error) {
	if a, ok := w.held[r.ContainerID]; ok {
		held = append(held, a)
	}
	return held, nil
}

func (w pool) release(id string) (released []netip.Addr) {
	if a, ok := w.held[id]; ok {
		released = append(released, a)
	}
	delete(w.held, id)
	return released
}

func (w pool) GC(_ context.Context, r *plugin.Request) (released []netip.Addr, err error) {
	for id := range w.held {
		if !slices.ContainsFunc(r.Config.Valid, func(a cni.Attachment) bool { return a.ContainerID == id }) {
			released = append(released, w.release(id)...)
		}
	}
	return released, nil
}

// maker is a plugin that makes of each container CONTAINER/link, and once it has an address CONTAINER/rule and CONTAINER/last.
func (w *world) maker() plugin.Plugin {
	plan := func(r *plugin.Request, names ...string) (plan state.Plan, err error) {
		for _, name := range names {
			plan = append(plan, state.Own(thing{w, r.ContainerID + "/" + name}))
		}
		return plan, nil
	}
	return plugin.New(plugin.Def[struct{}]{
		Name: "maker",
		Links: func(_ context.Context, _ *struct{}, r *plugin.Request, _ state.Reader) (state.Plan, error) {
			return plan(r, "link", "port")
		},
		Desired: func(_ context.Context, _ *struct{}, r *plugin.Request, _ *cni.Result, _ state.Reader) (state.Plan, error) {
			return plan(r, "rule", "last")
		},
		Kinds: []state.Kind{things{w}},
	})
}

// host is one whose IPAM plugin is the pool.
func (w *world) host(t *testing.T) *plugin.Host {
	return &plugin.Host{
		Own:     func(string, []string) plugin.IPAM { return pool{w} },
		Records: state.Records{Dir: t.TempDir()},
	}
}

// recorded lists the containers that a host has records of.
func recorded(t *testing.T, h *plugin.Host) string {
	t.Helper()
	all, err := h.Records.All()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range all {
		ids = append(ids, r.Owner.ContainerID)
	}
	return strings.Join(ids, " ")
}

// made is a configuration of the maker.
func made(keys string) string { return config("maker", "net", `"ipam":{"type":"pool"}`+keys) }

// TestStuckUndo lets an ADD fail, and something that it has made not go: its address is not given to another, and DEL knows
// what there is.
func TestStuckUndo(t *testing.T) {
	for _, tt := range []struct{ fails, stuck, left string }{
		{"last", "", ""},
		{"last", "rule", "address of one, one/rule"}, // of the same plan
		{"last", "link", "address of one, one/link"}, // of the plan before IPAM
		{"rule", "port", "address of one, one/port"},
		{"port", "link", "one/link"}, // before IPAM
	} {
		t.Run(tt.fails+" fails, stuck "+tt.stuck, func(t *testing.T) {
			w := newWorld()
			h, p := w.host(t), w.maker()
			w.fails, w.stuck = "one/"+tt.fails, "one/"+tt.stuck
			a := &attachment{id: "one", netns: host.NetNS(t), ifName: "eth0"}
			_, err := p.Serve(t.Context(), h, a.call(t, cni.VerbAdd, made("")))
			if err == nil || !strings.Contains(err.Error(), w.fails+" is not to be had") || strings.Contains(err.Error(), "does not go") != (tt.stuck != "") {
				t.Errorf("ADD: %v", err)
			}
			if w.String() != tt.left {
				t.Errorf("ADD has left %q, want %q", w, tt.left)
			}
			if want := strings.Repeat("one", min(1, len(tt.left))); recorded(t, h) != want {
				t.Errorf("there are records of %q, want %q", recorded(t, h), want)
			}
			if _, err := p.Serve(t.Context(), h, a.call(t, cni.VerbDel, made(""))); (err == nil) != (tt.stuck == "") || w.String() != tt.left {
				t.Errorf("DEL of what still does not go: %v, left %q, want %q", err, w, tt.left)
			}
			w.stuck = ""
			if _, err := p.Serve(t.Context(), h, a.call(t, cni.VerbDel, made(""))); err != nil || w.String() != "" || recorded(t, h) != "" {
				t.Errorf("DEL: %v, left %q and records of %q", err, w, recorded(t, h))
			}
		})
	}
}

// TestStuckGarbage: what would not go keeps its address, and is no reason to keep others.
func TestStuckGarbage(t *testing.T) {
	w := newWorld()
	h, p := w.host(t), w.maker()
	for _, id := range []string{"one", "stuck", "two", "valid"} {
		a := &attachment{id: id, netns: host.NetNS(t), ifName: "eth0"}
		if _, err := p.Serve(t.Context(), h, a.call(t, cni.VerbAdd, made(""))); err != nil {
			t.Fatal(err)
		}
	}
	call := &cni.Request{Verb: cni.VerbGC, Config: []byte(made(`,"cni.dev/valid-attachments":[{"containerID":"valid","ifname":"eth0"}]`))}
	valid := "valid/last, valid/link, valid/port, valid/rule"
	w.stuck = "stuck/link"
	_, err := p.Serve(t.Context(), h, call)
	if want := "address of stuck, address of valid, stuck/link, " + valid; err == nil || w.String() != want || recorded(t, h) != "stuck valid" {
		t.Errorf("GC: %v, left %q and records of %q, want %q", err, w, recorded(t, h), want)
	}
	w.stuck = ""
	_, err = p.Serve(t.Context(), h, call)
	if want := "address of valid, " + valid; err != nil || w.String() != want || recorded(t, h) != "valid" {
		t.Errorf("the next GC: %v, left %q and records of %q, want %q", err, w, recorded(t, h), want)
	}
}

// TestPanic lets a step panic: what was made before it is undone, and the caller is told.
func TestPanic(t *testing.T) {
	for _, at := range []string{"link", "port", "rule", "last"} {
		t.Run(at, func(t *testing.T) {
			w := newWorld()
			h := w.host(t)
			w.panics = "one/" + at
			env := make(map[string]string)
			for _, kv := range host.Env("ADD", "one", host.NetNS(t), "eth0", "/nowhere") {
				name, value, _ := strings.Cut(kv, "=")
				env[name] = value
			}
			var stdout, stderr bytes.Buffer
			exit := protocol.Serve(t.Context(), w.maker().In(h), protocol.Environment{
				Getenv: func(name string) string { return env[name] },
				Stdin:  strings.NewReader(made("")), Stdout: &stdout, Stderr: &stderr,
			}, "v0.0.0")
			failure, err := cni.DecodeError(stdout.Bytes())
			if exit != 1 || err != nil || !errors.Is(failure, cni.CodeInternal) || !strings.Contains(failure.Msg, "panic: "+w.panics) {
				t.Errorf("exit status %d, %s", exit, stdout.String())
			}
			if w.String() != "" || recorded(t, h) != "" {
				t.Errorf("left %q and records of %q", w, recorded(t, h))
			}
		})
	}
}
