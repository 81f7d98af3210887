// Package addr is the state of addresses on links.
package addr

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

// An Address is an address of a link.
type Address struct {
	NS     state.NS
	Link   string
	Prefix netip.Prefix // the address with its subnet's length

	NoDAD         bool // usable at once, no duplicate address detection
	NoPrefixRoute bool // no route to the subnet is made
}

var _ state.Resource = Address{}

// Key names the address and its link.
func (a Address) Key() state.Key {
	return state.Key{NS: a.NS, Kind: "address", Name: a.Link + " " + a.Prefix.String()}
}

// Ensure adds the address. One that is there already stays as it is.
func (a Address) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(a.NS)
	if err != nil {
		return nil, err
	}
	link, err := conn.Known(a.Link)
	if err != nil {
		return nil, err
	}
	err = conn.AddAddr(link.Index, rtnl.Addr{Prefix: a.Prefix, NoDAD: a.NoDAD, NoPrefixRoute: a.NoPrefixRoute})
	if errors.Is(err, rtnl.ErrExists) {
		return nil, nil
	}
	if err != nil {
		return nil, refused(err, link, a.Prefix)
	}
	return func(context.Context) error { return remove(conn, link.Index, a.Prefix) }, nil
}

// minMTU6 is the least MTU of a link with IPv6 (RFC 8200 section 5).
const minMTU6 = 1280

// refused says of the kernel's refusal to give a link an address what to do.
func refused(err error, link *rtnl.Link, prefix netip.Prefix) error {
	if errors.Is(err, unix.EINVAL) && prefix.Addr().Is6() && link.MTU < minMTU6 {
		return cni.Errorf(cni.CodeInvalidConfig, "%s: %w", link.Name, err).
			WithDetails(fmt.Sprintf("IPv6 needs an mtu of %d bytes or more, and that of %s is %d", minMTU6, link.Name, link.MTU))
	}
	return fmt.Errorf("%s: %w", link.Name, err)
}

// Diff reports an address that is missing, or that another host was found to
// have by duplicate address detection.
func (a Address) Diff(_ context.Context, r state.Reader) ([]state.Drift, error) {
	found, err := find(r, a.NS, a.Link)
	if err != nil {
		return nil, err
	}
	for _, got := range found {
		if got.Prefix != a.Prefix {
			continue
		}
		if got.DADFailed {
			return []state.Drift{{Key: a.Key(), Field: "duplicate address detection", Want: "passed", Got: "failed"}}, nil
		}
		return nil, nil
	}
	return state.Missing(a.Key()), nil
}

// find returns the addresses of a link, none if the link or its namespace is
// gone.
func find(r state.Reader, ns state.NS, link string) ([]rtnl.Addr, error) {
	conn, err := r.Route(ns)
	if errors.Is(err, state.ErrNoSandbox) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found, err := conn.Known(link)
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	addrs, err := conn.Addrs(found.Index)
	if errors.Is(err, rtnl.ErrNotFound) { // gone since
		return nil, nil
	}
	return addrs, err
}

func remove(conn *rtnl.Conn, index int, prefix netip.Prefix) error {
	if err := conn.DelAddr(index, prefix); err != nil && !errors.Is(err, rtnl.ErrNotFound) {
		return err
	}
	return nil
}
