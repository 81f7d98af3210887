package inprocess

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/fused"
	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/internal/programs"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugins/all"
	"github.com/plumb-cni/plumb/protocol"
	"github.com/plumb-cni/plumb/runtime"
	"github.com/plumb-cni/plumb/state"
)

// ErrClosed is what an Invoker that was closed answers.
var ErrClosed = errors.New("the invoker is closed")

// Options are optional.
type Options struct {
	// Exec executes the plugins of a list that are not ours. Nil means
	// &runtime.Exec{}. Its Env and Stderr are also those of foreign IPAM
	// plugins, and Stderr gets what our own plugins have to say, such as the
	// stack of a panic.
	Exec *runtime.Exec

	// Log, if set, is told about every verb that a plugin of ours served. It
	// may be called concurrently.
	Log func(plugin.Entry)

	// Grace is how long a plugin of ours is waited for when its context has
	// ended, so that it can undo what it has begun. Zero means 3 seconds.
	Grace time.Duration
}

// An Invoker calls plugins: those of this module in this process, others by
// executing them. It is safe for concurrent use.
type Invoker struct {
	options Options
	foreign runtime.Exec // of IPAM plugins
	turns   turns

	mu       sync.Mutex
	plugins  map[string]plugin.Plugin // that were called
	ipam     map[string]plugin.IPAM   // the same that serve delegation: they let callers take turns
	closed   bool
	machines map[netns.ID]*state.Machine
}

var _ runtime.Chainer = (*Invoker)(nil)

// New returns an Invoker, to be closed when it is not needed any more.
func New(o Options) *Invoker {
	if o.Exec == nil {
		o.Exec = new(runtime.Exec)
	}
	if o.Exec.Stderr != nil {
		o.Exec = &runtime.Exec{Env: o.Exec.Env, Stderr: &shared{w: o.Exec.Stderr}, Grace: o.Exec.Grace}
	}
	if o.Grace == 0 {
		o.Grace = 3 * time.Second
	}
	return &Invoker{
		options: o,
		plugins: make(map[string]plugin.Plugin), ipam: make(map[string]plugin.IPAM),
		// Less patient than its caller, which would give up before.
		foreign:  runtime.Exec{Env: o.Exec.Env, Stderr: o.Exec.Stderr, Grace: o.Grace / 3},
		turns:    newTurns(),
		machines: make(map[netns.ID]*state.Machine),
	}
}

// plugin returns the plugin of a name.
func (i *Invoker) plugin(name string) (plugin.Plugin, bool) {
	if allocates, ok := i.allocator(name); ok {
		return plugin.FromIPAM(allocates), true
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return remembered(i.plugins, name, all.Find)
}

// allocator returns the IPAM plugin of a name.
func (i *Invoker) allocator(name string) (plugin.IPAM, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return remembered(i.ipam, name, all.FindIPAM)
}

func remembered[P any](known map[string]P, name string, find func(string) (P, bool)) (P, bool) {
	p, ok := known[name]
	if !ok {
		if p, ok = find(name); ok {
			known[name] = p
		}
	}
	return p, ok
}

// shared lets one write at a time: those who execute plugins have a lock each.
type shared struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

// Close closes what is kept open, once the calls that are being served have
// ended. Later ones fail with ErrClosed.
func (i *Invoker) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	var errs []error
	for _, m := range i.machines {
		errs = append(errs, m.Close())
	}
	clear(i.machines)
	return errors.Join(errs...)
}

// own reports whether a type means ours: the first file of that name on the path
// is a link to our program, of either sort, or there is none.
func own(name string, path []string) bool {
	file, err := runtime.Find(name, path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	if target, err := os.Readlink(file); err != nil || filepath.Base(target) == programs.Plugins {
		return err == nil || sameFile(file, filepath.Join(filepath.Dir(file), programs.Plugins))
	}
	target, err := filepath.EvalSymlinks(file)
	return err == nil && filepath.Base(target) == programs.Plugins
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// Versions returns the versions of the protocol that a plugin supports.
func (i *Invoker) Versions(ctx context.Context, name string, path []string) ([]cni.Version, error) {
	if p, ok := i.plugin(name); ok && own(name, path) {
		return p.In(nil).Versions(), nil
	}
	if name == fused.Name && own(name, path) {
		return fused.List{}.Versions(), nil
	}
	return i.options.Exec.Versions(ctx, name, path)
}

// Invoke calls a plugin. Errors are *runtime.PluginError, and for a plugin of
// ours hold an *cni.Error, or else the cause of the context's end or ErrClosed.
func (i *Invoker) Invoke(ctx context.Context, name string, req *cni.Request) (*cni.Result, error) {
	if name == fused.Name && own(name, req.Path) {
		var said bytes.Buffer
		result, err := protocol.Answer(ctx, fused.List{Invoker: i}, req, "", &said)
		if err != nil {
			return nil, failure(name, req, said.Bytes(), err)
		}
		return result, nil
	}
	p, ok := i.plugin(name)
	if !ok || !own(name, req.Path) {
		return i.options.Exec.Invoke(ctx, name, req)
	}
	c := &call{plugin: p, req: *req, done: make(chan struct{})}
	if ctx.Err() != nil {
		c.err = context.Cause(ctx)
		return nil, c.failure()
	}
	chain, _ := ctx.Value(chainKey{}).(*chain)
	if chain != nil {
		c.err = chain.takeTurn(ctx)
	} else if c.err = i.turns.take(ctx); c.err == nil {
		defer i.turns.giveBack()
	}
	if c.err != nil {
		return nil, c.failure()
	}
	machine, err := i.machine()
	if err != nil {
		c.err = err
		return nil, c.failure()
	}
	member := chain.member(machine)
	go c.serve(ctx, machine, i.host(machine, member))
	select {
	case <-member.Parked():
		chain.add(c)
		return nil, nil
	case <-c.done:
	case <-ctx.Done():
	}
	return i.outcome(ctx, c)
}

// outcome waits for a call, not for ever once its context has ended.
func (i *Invoker) outcome(ctx context.Context, c *call) (*cni.Result, error) {
	select {
	case <-c.done:
	case <-ctx.Done():
		grace := time.NewTimer(i.options.Grace)
		defer grace.Stop()
		select {
		case <-c.done:
		case <-grace.C:
			abandoned := &call{plugin: c.plugin, req: c.req} // the other is still being served
			abandoned.err = fmt.Errorf("%w; it hasn't ended %v later, and may go on", context.Cause(ctx), i.options.Grace)
			return nil, abandoned.failure()
		}
	}
	i.tell(c)
	if c.err == nil {
		return c.result, nil
	}
	if ctx.Err() != nil {
		c.err = fmt.Errorf("%w: %w", context.Cause(ctx), c.err)
	}
	return nil, c.failure()
}

// tell passes on what a call had to say beside its answer.
func (i *Invoker) tell(c *call) {
	if i.options.Exec.Stderr == nil || c.stderr.Len() == 0 {
		return
	}
	_, _ = io.WriteString(i.options.Exec.Stderr, c.stderr.String()) // a log that is full fails nobody
}

// host is what the plugin of one call is offered.
func (i *Invoker) host(m *state.Machine, member *state.Member) *plugin.Host {
	return &plugin.Host{
		Own: func(name string, path []string) plugin.IPAM {
			if p, ok := i.allocator(name); ok && own(name, path) {
				return p
			}
			return nil
		},
		Foreign: &i.foreign,
		Kernel:  func(sandbox string) (*state.Kernel, error) { return m.Open(sandbox, member) },
		Log:     i.options.Log,
	}
}

// hosts is how many namespaces of hosts are kept.
const hosts = 4

// machine returns that of the calling thread's namespace, in use: it may be closed
// any time, by Close or for another host's.
func (i *Invoker) machine() (*state.Machine, error) {
	id, err := netns.CurrentID()
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil, ErrClosed
	}
	if m, ok := i.machines[id]; ok {
		return m, m.Use()
	}
	m, err := state.NewMachine()
	if err != nil {
		return nil, err
	}
	for other, kept := range i.machines {
		if len(i.machines) < hosts {
			break
		}
		delete(i.machines, other)
		if err := kept.Close(); err != nil {
			return nil, errors.Join(err, m.Close())
		}
	}
	i.machines[id] = m
	return m, m.Use()
}
