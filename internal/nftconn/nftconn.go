// Package nftconn is the packet filter of one network namespace: nftables and
// connection tracking by nfnetlink, and a look at the tables of the legacy
// iptables.
//
// What callers declare are values: a [Table], a [Map], a [Chain] with its
// [Rule]s, made of a closed set of expressions. They look with [Query]s, many
// in one round trip, and write with a [Tx], which is applied whole or not at
// all.
//
// It speaks netlink itself rather than through a library. A batch needs one
// acknowledgement and not one a message, an error has to be assigned to its
// request, the answers to many questions come back after one send, and
// closing must not wait: that is most of what a library would be for.
package nftconn

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/plumb-cni/plumb/internal/netns"
	"golang.org/x/sys/unix"
)

// ErrUnsupported means that the kernel lacks what was asked for.
var ErrUnsupported = errors.New("not supported by the kernel")

// ErrChanged means that a guarded transaction was refused because the ruleset
// is not the one that was looked at. Look again.
var ErrChanged = errors.New("ruleset has changed")

// errBusy means that others kept changing what a listing listed.
var errBusy = errors.New("ruleset keeps changing")

// An Error is the kernel's refusal of one request.
type Error struct {
	Op     string     // such as "add element"
	Object string     // such as "inet plumb masq4 10.1.2.3"
	Errno  unix.Errno // matched by errors.Is: fs.ErrNotExist, fs.ErrExist
	Text   string     // the kernel's explanation; often empty
}

func (e *Error) Error() string {
	s := e.Op + " " + e.Object + ": " + e.Errno.Error()
	if e.Text != "" {
		s += " (" + e.Text + ")"
	}
	return s
}

// Unwrap returns the error number.
func (e *Error) Unwrap() error { return e.Errno }

// A Reader looks at the packet filter.
type Reader interface {
	// Read answers queries. All but listings share one round trip. The
	// generation that it returns is the ruleset's before the first answer.
	// Without nftables in the kernel the error matches ErrUnsupported.
	Read(ctx context.Context, queries ...Query) (Generation, error)

	// Legacy returns one of the tables of the legacy iptables, by its family,
	// IPv4 or IPv6, and name. It is empty if the table was never used in the
	// namespace, or the kernel has none of them.
	Legacy(ctx context.Context, family Family, table string) (LegacyTable, error)
}

// A Conn is a connection in one namespace, made when it is first needed. It is
// not safe for concurrent use.
type Conn struct {
	ns   *netns.NS
	sock *socket // nil until open

	names map[string]int // descriptors of files that list tables of the legacy iptables

	memory *Memory // nil without
	read   answers // that memory may learn
}

// answers are what was read since a generation.
type answers struct {
	since Generation
	of    map[fact]Query
}

var _ Reader = (*Conn)(nil)

// Dial returns a connection in a namespace, which has to stay open as long.
func Dial(ns *netns.NS) (*Conn, error) { return &Conn{ns: ns}, nil }

// Remember makes the connection share a memory with others of the namespace.
func (c *Conn) Remember(m *Memory) { c.memory = m }

// open makes the connection. The error matches ErrUnsupported if the kernel
// has no nfnetlink.
func (c *Conn) open(ctx context.Context) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.sock == nil {
		c.sock, err = openSocket(c.ns)
	}
	return err
}

// Close closes the connection. It does not wait for the kernel to free what
// was deleted.
func (c *Conn) Close() error {
	var errs []error
	for _, fd := range c.names {
		errs = append(errs, unix.Close(fd))
	}
	c.names = nil
	if c.sock != nil {
		errs = append(errs, c.sock.close())
		c.sock = nil
	}
	return errors.Join(errs...)
}

// Failed reports whether the connection itself has failed and is of no more use.
func (c *Conn) Failed() bool { return c.sock != nil && c.sock.failed }

// RoundTrips returns how often the connection has asked the kernel something.
func (c *Conn) RoundTrips() int {
	if c.sock == nil {
		return 0
	}
	return c.sock.trips
}

// A Generation counts the transactions of a namespace's nftables.
type Generation uint32

// dumpAttempts is how often a listing is started anew because a transaction of
// somebody else came in between. Listing 10,000 elements takes some
// milliseconds.
const dumpAttempts = 20

// Read answers queries.
func (c *Conn) Read(ctx context.Context, queries ...Query) (Generation, error) {
	if err := c.open(ctx); err != nil {
		return 0, err
	}
	known, asked := c.memory.knows(queries)
	var gen generation
	if err := c.ask(append([]Query{&gen}, asked...)); err != nil {
		return 0, err
	}
	if c.memory != nil {
		if c.read.of != nil {
			c.memory.learn(c.read.since, gen.is, c.read.of)
		}
		if !c.memory.answer(gen.is, known) {
			if err := c.ask(known); err != nil {
				return 0, err
			}
			asked = queries
		}
	}
	for _, q := range asked {
		if err := c.dump(ctx, q); err != nil {
			return 0, fmt.Errorf("read nftables: %w", err)
		}
	}
	if c.memory != nil {
		c.read = answers{gen.is, remembered(asked)}
	}
	return gen.is, nil
}

// ask answers the parts of queries that are about one object each.
func (c *Conn) ask(queries []Query) error {
	for some := range slices.Chunk(queries, maxGets) {
		if err := c.gets(some); err != nil {
			return fmt.Errorf("read nftables: %w", err)
		}
	}
	return nil
}

// maxGets is how many objects are asked for at once: the answers have to fit
// into the socket's buffer.
const maxGets = 64

// gets answers those queries that are about one object each.
func (c *Conn) gets(queries []Query) error {
	var e encoder
	first := c.sock.sequence(len(queries))
	left := 0
	for i, q := range queries {
		if q.get(&e, first+uint32(i)) {
			left++
		}
	}
	if left == 0 {
		return nil
	}
	var errs []error
	err := c.sock.exchange(e.buf, first, func(m message) bool {
		q := queries[m.seq-first]
		if m.kind != unix.NLMSG_ERROR {
			q.found(m)
		} else if errno, text := m.status(); errno != unix.ENOENT && errno != unix.ERANGE { // a name longer than any can be
			errs = append(errs, readError(q, errno, text))
		}
		left--
		return left == 0
	})
	return errors.Join(append(errs, err)...)
}

// dump answers the part of a query that is a listing, if it has one.
func (c *Conn) dump(ctx context.Context, q Query) error {
	for range dumpAttempts {
		if err := ctx.Err(); err != nil {
			return err
		}
		var e encoder
		seq := c.sock.sequence(1)
		if !q.list(&e, seq) {
			return nil
		}
		var interrupted bool
		var failed error
		err := c.sock.exchange(e.buf, seq, func(m message) bool {
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			if m.kind != unix.NLMSG_ERROR && m.kind != unix.NLMSG_DONE {
				q.listed(m)
				return q.enough() || m.flags&unix.NLM_F_MULTI == 0
			}
			switch errno, text := m.status(); errno {
			case 0, unix.ENOENT: // an absent table or set lists nothing
			case unix.EINTR:
				interrupted = true
			default:
				failed = readError(q, errno, text)
			}
			return true
		})
		if err != nil || failed != nil {
			return errors.Join(err, failed)
		}
		if q.enough() { // the rest of it would be in the way of the next listing
			return errors.Join(c.Close(), c.open(ctx))
		}
		if !interrupted {
			return nil
		}
	}
	return fmt.Errorf("list %s: %w", q.object(), errBusy)
}

func readError(q Query, errno unix.Errno, text string) error {
	err := error(&Error{Op: "get", Object: q.object(), Errno: errno, Text: text})
	// A missing subsystem of nfnetlink is an invalid argument.
	if _, ok := q.(*generation); ok && (errno == unix.EINVAL || errno == unix.EOPNOTSUPP) {
		err = errors.Join(ErrUnsupported, err)
	}
	return err
}
