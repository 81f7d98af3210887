// Package rtnl speaks rtnetlink: links, addresses and routes of one network
// namespace.
//
// It is a thin layer on github.com/vishvananda/netlink's message builder. What
// it adds is economy: one socket a namespace, several changes of a link in one
// message, dumps that the kernel filters, and answers without statistics.
package rtnl

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrNotFound means that there is no such link, address or route.
var ErrNotFound = errors.New("not found")

// ErrExists means that there is one already.
var ErrExists = errors.New("already exists")

// A Reader looks at one namespace.
type Reader interface {
	// Link returns the link of a name. The error matches ErrNotFound.
	Link(name string) (*Link, error)

	// LinkByIndex returns the link of an index. The error matches ErrNotFound.
	LinkByIndex(index int) (*Link, error)

	// Links returns all links. It is slow where there are many.
	Links() ([]*Link, error)

	// Addrs returns the addresses of a link, IPv4 first.
	Addrs(index int) ([]Addr, error)

	// Routes returns the routes of all tables that leave by a link.
	Routes(index int) ([]Route, error)

	// Rules returns the rules that send packets from an address or a subnet to
	// a table.
	Rules() ([]Rule, error)

	// RouteTo returns the entry that a packet to an address would match in
	// the host's tables. The error matches ErrNotFound if there is none.
	RouteTo(netip.Addr) (Route, error)

	// PortVLANs returns the VLANs that a bridge's port is a member of.
	PortVLANs(port int) ([]VLANs, error)

	// Supports reports whether the kernel can make links of a kind, and
	// SupportsVLANs whether its bridges can tell VLANs apart.
	Supports(kind string) (bool, error)
	SupportsVLANs() (bool, error)

	// DefaultRoutes returns the routes to everywhere of a family, IPv4 or
	// IPv6, in the main table.
	DefaultRoutes(is4 bool) ([]Route, error)

	// Qdisc returns the queueing discipline at a place of a link. The error
	// matches ErrNotFound if there is none, or none but what the kernel put
	// there itself and does not tell of.
	Qdisc(index int, parent QHandle) (*Qdisc, error)

	// Qdiscs returns the queueing disciplines of all links.
	Qdiscs() ([]*Qdisc, error)

	// Class returns a class of htb. The error matches ErrNotFound if there
	// is none.
	Class(index int, handle QHandle) (*Class, error)

	// Filters returns the u32 filters below a parent of a link.
	Filters(index int, parent QHandle) ([]Filter, error)

	// NSID returns the number by which this namespace knows another one, as
	// in Link.PeerNS, or UnknownNS if it does not.
	NSID(*netns.NS) (int, error)

	// Forwards reports whether the namespace forwards packets of a family,
	// IPv4 or IPv6.
	Forwards(is4 bool) (bool, error)

	// Known returns a link as this connection last saw it under that name,
	// and asks for it only if it never did.
	Known(name string) (*Link, error)
}

// A Conn is a socket in one namespace. It is not safe for concurrent use.
type Conn struct {
	socket *socket
	known  map[string]*Link // by name, as last seen
	lacks  []string         // kinds of queueing disciplines, see Lacks
}

var _ Reader = (*Conn)(nil)

// Dial opens a socket in a namespace.
func Dial(ns *netns.NS) (*Conn, error) {
	s, err := openSocket(ns)
	if err != nil {
		return nil, err
	}
	return &Conn{socket: s, known: make(map[string]*Link)}, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return c.socket.close() }

// Failed reports whether the socket itself has failed and is of no more use.
func (c *Conn) Failed() bool { return c.socket.failed }

// Forget drops what is known of links and of the kernel, which others may change
// before the connection is used again.
func (c *Conn) Forget() {
	clear(c.known)
	c.lacks = nil
}

// Cookie returns the number that the kernel has given the namespace and gives
// to no other one, or 0 if it gives none: Linux has since 5.14.
func (c *Conn) Cookie() uint64 {
	cookie, err := unix.GetsockoptUint64(c.socket.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return cookie
}

// do sends a request that is answered by an acknowledgement.
func (c *Conn) do(msgType, flags int, data ...nl.NetlinkRequestData) error {
	_, err := c.get(msgType, flags|unix.NLM_F_ACK, 0, data...)
	return err
}

// get sends a request that is answered by messages of a type.
func (c *Conn) get(msgType, flags int, answer uint16, data ...nl.NetlinkRequestData) ([][]byte, error) {
	r := nl.NewNetlinkRequest(msgType, flags)
	for _, d := range data {
		r.AddData(d)
	}
	msgs, err := c.socket.exchange(r, answer)
	return msgs, classify(err)
}

// all sends requests that are answered by acknowledgements, in one message, and
// returns the first that failed.
func (c *Conn) all(requests []*nl.NetlinkRequest) (failed int, err error) {
	errs, err := c.socket.acknowledged(requests)
	if err != nil {
		return 0, classify(err)
	}
	failed = slices.IndexFunc(errs, func(err error) bool { return err != nil })
	if failed < 0 {
		return 0, nil
	}
	return failed, classify(errs[failed])
}

// classify adds the package's own errors to those of the kernel.
func classify(err error) error {
	for _, errno := range []unix.Errno{unix.ENODEV, unix.ESRCH, unix.EADDRNOTAVAIL, unix.ENOENT} {
		if errors.Is(err, errno) {
			return &errClass{ErrNotFound, err}
		}
	}
	if errors.Is(err, unix.EEXIST) {
		return &errClass{ErrExists, err}
	}
	return err
}

// An errClass reads as the kernel's error and matches both it and its class.
type errClass struct{ class, err error }

func (e *errClass) Error() string   { return e.err.Error() }
func (e *errClass) Unwrap() []error { return []error{e.class, e.err} }

func attr(kind int, data []byte) *nl.RtAttr { return nl.NewRtAttr(kind, data) }

func u32(kind int, v uint32) *nl.RtAttr {
	return attr(kind, binary.NativeEndian.AppendUint32(nil, v))
}

func u8(kind int, v uint8) *nl.RtAttr { return attr(kind, []byte{v}) }

func str(kind int, s string) *nl.RtAttr { return attr(kind, append([]byte(s), 0)) }

func flag(on bool) uint8 {
	if on {
		return 1
	}
	return 0
}

// eachAttr calls f with every attribute of a message after its header.
func eachAttr(data []byte, f func(kind uint16, value []byte)) error {
	for len(data) >= unix.SizeofRtAttr {
		n, kind := int(binary.NativeEndian.Uint16(data)), binary.NativeEndian.Uint16(data[2:])
		if n < unix.SizeofRtAttr || n > len(data) {
			return unix.EINVAL
		}
		f(kind&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), data[unix.SizeofRtAttr:n:n])
		data = data[min((n+3)&^3, len(data)):]
	}
	return nil
}

func text(b []byte) string { return unix.ByteSliceToString(b) }

func num(b []byte) int { return int(binary.NativeEndian.Uint32(b)) }
