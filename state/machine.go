package state

import (
	"errors"
	"fmt"
	"sync"

	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/internal/rtnl"
)

// A Machine is the host's network namespace as a process has it that serves many
// attachments: it keeps sockets from one verb to the next, and deletes links of
// verbs that run at the same time together. It is safe for concurrent use.
//
// Keeping the sockets spares more than their opening: closing one of nfnetlink
// waits for whatever anybody has deleted in the namespace.
type Machine struct {
	id netns.ID

	mu     sync.Mutex
	ns     *netns.NS // nil once it is closed
	users  int       // kernels that are open, and workers of queues
	closed bool
	route  []*rtnl.Conn // nobody uses at the moment
	nft    []*nftconn.Conn

	ruleset  nftconn.Memory
	removals queue[removal]
	flushes  queue[flush]
}

// spares is how many sockets of a protocol are kept while nobody uses them.
const spares = 64

// NewMachine returns the machine whose namespace the calling thread is in.
func NewMachine() (*Machine, error) {
	ns, err := netns.Current()
	if err != nil {
		return nil, err
	}
	id, err := ns.ID()
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return &Machine{ns: ns, id: id}, nil
}

// errClosed is what a machine that was closed, and that nobody uses, answers.
var errClosed = errors.New("the host's network namespace was closed")

// Open opens the sandbox at a path, as [OpenKernel] does, and the host's
// namespace as the machine has it. The member is the call's within a joint, nil
// for none.
func (m *Machine) Open(sandbox string, c *Member) (*Kernel, error) {
	if err := m.Use(); err != nil {
		return nil, err
	}
	k := &Kernel{host: m.ns, route: make(map[NS]*rtnl.Conn, 2), machine: m, member: c}
	return k.open(sandbox)
}

// Run calls f on a thread that is in the machine's namespace, with a path to that.
func (m *Machine) Run(f func(path string)) (err error) {
	if err := m.Use(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Leave()) }()
	path := fmt.Sprintf("/proc/self/fd/%d", m.ns.FD())
	here, err := netns.CurrentID()
	if err != nil {
		return err
	}
	if here == m.id {
		f(path)
		return nil
	}
	return m.ns.Do(func() error {
		f(path)
		return nil
	})
}

// Use keeps the namespace open until [Machine.Leave]: what has begun goes on when
// the machine is closed.
func (m *Machine) Use() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ns == nil {
		return errClosed
	}
	m.users++
	return nil
}

// Close closes what is kept, once the last kernel is closed.
func (m *Machine) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return m.free()
}

// free closes what nobody can need any more.
func (m *Machine) free() error {
	if !m.closed || m.users > 0 || m.ns == nil {
		return nil
	}
	var errs []error
	for _, c := range m.route {
		errs = append(errs, c.Close())
	}
	for _, c := range m.nft {
		errs = append(errs, c.Close())
	}
	errs = append(errs, m.ns.Close())
	m.route, m.nft, m.ns = nil, nil, nil
	return errors.Join(errs...)
}

// dialRoute returns a socket that was kept, or a new one.
func (m *Machine) dialRoute() (*rtnl.Conn, error) {
	if c := take(&m.mu, &m.route); c != nil {
		c.Forget()
		return c, nil
	}
	return rtnl.Dial(m.ns)
}

// dialNFT returns a socket that was kept, or a new one.
func (m *Machine) dialNFT() (*nftconn.Conn, error) {
	if c := take(&m.mu, &m.nft); c != nil {
		return c, nil
	}
	c, err := nftconn.Dial(m.ns)
	if err == nil {
		c.Remember(&m.ruleset)
	}
	return c, err
}

func take[C any](mu *sync.Mutex, spare *[]*C) *C {
	mu.Lock()
	defer mu.Unlock()
	last := len(*spare) - 1
	if last < 0 {
		return nil
	}
	c := (*spare)[last]
	*spare = (*spare)[:last]
	return c
}

// giveBack takes over sockets that somebody was lent; nil is none. What can't be
// closed is nobody's to know.
func (m *Machine) giveBack(route *rtnl.Conn, nft *nftconn.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if route != nil {
		keep(&m.route, route)
	}
	if nft != nil {
		keep(&m.nft, nft)
	}
}

// Leave ends a use.
func (m *Machine) Leave() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users--
	return m.free()
}

// keep keeps a socket, or closes it.
func keep[C interface {
	Failed() bool
	Close() error
}](spare *[]C, c C) {
	if c.Failed() || len(*spare) == spares {
		_ = c.Close()
		return
	}
	*spare = append(*spare, c)
}
