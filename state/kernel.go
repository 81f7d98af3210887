package state

import (
	"errors"
	"fmt"

	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/internal/rtnl"
)

// A Reader looks at the kernel. Plans are made and compared with one.
type Reader interface {
	// Route returns the links, addresses and routes of a namespace. The
	// error matches ErrNoSandbox if the sandbox is gone.
	Route(NS) (rtnl.Reader, error)

	// NFT returns the packet filter of the host's namespace.
	NFT() (nftconn.Reader, error)

	// Namespace returns one of the two namespaces, or ErrNoSandbox.
	Namespace(NS) (*netns.NS, error)

	// In runs f in a namespace, for what is read from /proc/sys/net.
	In(ns NS, f func() error) error

	// SandboxID returns what tells the sandbox from every other namespace,
	// or ErrNoSandbox.
	SandboxID() (netns.ID, error)

	// HostID returns what tells the host's namespace from every other one.
	HostID() (netns.ID, error)
}

// ErrNoSandbox means that there is no sandbox to look into: none was named, or
// the namespace is gone.
var ErrNoSandbox = errors.New("there is no such network namespace")

// A Kernel gives access to the two namespaces of one attachment for one verb.
// Sockets are opened in their namespace when first asked for and kept until
// Close, one a namespace and protocol. A Kernel is not safe for concurrent
// use.
type Kernel struct {
	host, sandbox *netns.NS // sandbox is nil when it is gone
	gone          error     // why; matches ErrNoSandbox

	route map[NS]*rtnl.Conn
	nft   *nftconn.Conn

	machine *Machine // that lends what is of the host; nil if it is the kernel's own
	member  *Member

	// Alive reports whether the owner of a tag still has its sandbox, for
	// what another attachment holds and this one wants. nil knows none.
	Alive func(tag string) (bool, error)
}

var _ Reader = readOnly{}

// OpenKernel opens the host's namespace, which is the calling thread's, and
// the sandbox at a path. A sandbox that is gone, or an empty path, is not an
// error here but ErrNoSandbox where it is needed.
func OpenKernel(sandbox string) (*Kernel, error) {
	host, err := netns.Current()
	if err != nil {
		return nil, err
	}
	k := &Kernel{host: host, route: make(map[NS]*rtnl.Conn, 2)}
	return k.open(sandbox)
}

// open opens the sandbox, or closes the kernel.
func (k *Kernel) open(sandbox string) (*Kernel, error) {
	k.gone = ErrNoSandbox
	if sandbox == "" {
		return k, nil
	}
	var err error
	k.sandbox, err = netns.Open(sandbox)
	gone, isGone := errors.AsType[*netns.GoneError](err)
	switch {
	case err != nil && !isGone:
		return nil, errors.Join(err, k.Close())
	case isGone && gone.Found != "":
		k.gone = fmt.Errorf("%w, but %s", ErrNoSandbox, gone.Found)
	}
	return k, nil
}

// Close closes every socket and both namespaces, or gives back what it was lent.
func (k *Kernel) Close() error {
	var errs []error
	if k.machine != nil {
		k.machine.giveBack(k.route[Host], k.nft)
		errs = append(errs, k.machine.Leave())
		delete(k.route, Host)
		k.host, k.nft = nil, nil
	}
	for _, c := range k.route {
		errs = append(errs, c.Close())
	}
	if k.nft != nil {
		errs = append(errs, k.nft.Close())
	}
	for _, ns := range []*netns.NS{k.host, k.sandbox} {
		if ns != nil {
			errs = append(errs, ns.Close())
		}
	}
	return errors.Join(errs...)
}

// Namespace returns one of the two namespaces. The error matches ErrNoSandbox.
func (k *Kernel) Namespace(ns NS) (*netns.NS, error) {
	if ns == Host {
		return k.host, nil
	}
	if k.sandbox == nil {
		return nil, k.gone
	}
	return k.sandbox, nil
}

// SandboxID returns what tells the sandbox from every other namespace, also
// from one that comes after it, or ErrNoSandbox.
func (k *Kernel) SandboxID() (netns.ID, error) { return k.id(Sandbox) }

// HostID returns what tells the host's namespace from every other one, also
// from one that comes after it.
func (k *Kernel) HostID() (netns.ID, error) { return k.id(Host) }

func (k *Kernel) id(of NS) (netns.ID, error) {
	ns, err := k.Namespace(of)
	if err != nil {
		return netns.ID{}, err
	}
	id, err := ns.ID()
	if err != nil {
		return netns.ID{}, err
	}
	conn, err := k.Route(of)
	if err != nil {
		return netns.ID{}, err
	}
	id.Cookie = conn.Cookie()
	return id, nil
}

// Route returns the socket for links, addresses and routes in a namespace.
func (k *Kernel) Route(ns NS) (*rtnl.Conn, error) {
	if c, ok := k.route[ns]; ok {
		return c, nil
	}
	n, err := k.Namespace(ns)
	if err != nil {
		return nil, err
	}
	var c *rtnl.Conn
	if ns == Host && k.machine != nil {
		c, err = k.machine.dialRoute()
	} else {
		c, err = rtnl.Dial(n)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ns, err)
	}
	k.route[ns] = c
	return c, nil
}

// NFT returns the socket for nftables in the host's namespace.
func (k *Kernel) NFT() (*nftconn.Conn, error) {
	if k.nft == nil {
		var err error
		if k.machine != nil {
			k.nft, err = k.machine.dialNFT()
		} else {
			k.nft, err = nftconn.Dial(k.host)
		}
		if err != nil {
			return nil, err
		}
	}
	return k.nft, nil
}

// In runs f on a thread that is in a namespace.
func (k *Kernel) In(ns NS, f func() error) error {
	n, err := k.Namespace(ns)
	if err != nil {
		return err
	}
	return n.Do(f)
}

// Reader returns the kernel for reading only.
func (k *Kernel) Reader() Reader { return readOnly{k} }

type readOnly struct{ *Kernel }

func (r readOnly) Route(ns NS) (rtnl.Reader, error) { return r.Kernel.Route(ns) }
func (r readOnly) NFT() (nftconn.Reader, error)     { return r.Kernel.NFT() }
