// Package link is the state of network devices.
package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

const kindName = "link"

// Key names a link of the host.
func Key(name string) state.Key { return state.Key{NS: state.Host, Kind: kindName, Name: name} }

// SandboxKey names a link of the sandbox.
func SandboxKey(name string) state.Key {
	return state.Key{NS: state.Sandbox, Kind: kindName, Name: name}
}

// PeerKey names a link of the sandbox with what it is known by: a hardware
// address, or else IP addresses. A sandbox's path may by now lead to somebody
// else's, who has a link of that name as well.
func PeerKey(name, mac string, addrs []netip.Addr) state.Key {
	key := SandboxKey(name)
	if mac != "" {
		key.Name += " " + mac
		return key
	}
	for _, a := range addrs {
		key.Name += " " + a.String()
	}
	return key
}

// Kind removes and finds links that attachments own.
type Kind struct{}

var _ state.Kind = Kind{}

// Kind returns "link".
func (Kind) Kind() string { return kindName }

// Remove deletes a veth pair unless it carries the tag of another owner. The
// end in the sandbox has no tag of its own: it is the owner's if the host's end
// is.
//
// A pair without any tag was made by another implementation, or by an ADD that
// was killed in between. It goes if the host's end was named, or if the end in
// the sandbox has what the key knows it by.
func (Kind) Remove(_ context.Context, k *state.Kernel, obj state.Object, o state.Owner) error {
	name, evidence, _ := strings.Cut(obj.Key.Name, " ")
	found, err := look(k.Reader(), obj.Key.NS, name)
	if err != nil || found == nil || found.Kind != "veth" || found.Name != name {
		return err
	}
	conn, err := k.Route(obj.Key.NS)
	if err != nil {
		return err
	}
	tagged := found
	inside := obj.Key.NS == state.Sandbox
	if inside {
		tagged, err = OtherEnd(k.Reader(), found)
		if err != nil || tagged == nil {
			return err
		}
	}
	if tagged.Alias != o.Tag() {
		known := !inside
		if inside {
			known, err = knownBy(conn, found, strings.Fields(evidence))
		}
		if err != nil || !known || state.Tagged(tagged.Alias) {
			return err
		}
	}
	if err := k.RemoveLink(obj.Key.NS, found.Index, false); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// knownBy reports whether a link has one of the hardware or IP addresses.
func knownBy(conn *rtnl.Conn, l *rtnl.Link, evidence []string) (bool, error) {
	if slices.Contains(evidence, l.MAC.String()) {
		return true, nil
	}
	addrs, err := conn.Addrs(l.Index)
	return slices.ContainsFunc(addrs, func(a rtnl.Addr) bool {
		return slices.Contains(evidence, a.Prefix.Addr().String())
	}), err
}

// OtherEnd returns the host's end of a pair whose end in the sandbox is given,
// or nil if that is not on the host. Indexes alone don't tell: every namespace
// counts from one.
func OtherEnd(r state.Reader, inside *rtnl.Link) (*rtnl.Link, error) {
	if inside.Kind != "veth" || inside.PeerNS == rtnl.SameNS {
		return nil, nil
	}
	host, err := r.Route(state.Host)
	if err != nil {
		return nil, err
	}
	end, err := host.LinkByIndex(inside.Peer)
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if end.Kind != "veth" || end.Peer != inside.Index || end.PeerNS == rtnl.SameNS {
		return nil, nil
	}
	sandbox, err := r.Namespace(state.Sandbox)
	if err != nil {
		return nil, err
	}
	id, err := host.NSID(sandbox)
	if err != nil {
		return nil, err
	}
	if end.PeerNS != id {
		return nil, nil
	}
	return end, nil
}

// Garbage lists the pairs by the alias of the host's end.
func (Kind) Garbage(_ context.Context, r state.Reader, network string, valid []state.Owner) ([]state.Found, error) {
	return garbage(r, "veth", Key, network, valid)
}

// garbage lists the links of the host of a kind that have the tag of an owner on a
// network who is no valid one.
func garbage(r state.Reader, kind string, key func(name string) state.Key, network string, valid []state.Owner) ([]state.Found, error) {
	conn, err := r.Route(state.Host)
	if err != nil {
		return nil, err
	}
	links, err := conn.Links()
	if err != nil {
		return nil, err
	}
	stale := state.Stale(network, valid)
	var found []state.Found
	for _, l := range links {
		if o, ok := state.ParseTag(l.Alias); ok && l.Kind == kind && stale(o) {
			found = append(found, state.Found{Key: key(l.Name), Owner: o})
		}
	}
	return found, nil
}

// look returns a link, or nil if it or its namespace is gone.
func look(r state.Reader, ns state.NS, name string) (*rtnl.Link, error) {
	conn, err := r.Route(ns)
	if errors.Is(err, state.ErrNoSandbox) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l, err := conn.Link(name)
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil, nil
	}
	return l, err
}

// A comparison collects the drifts of one object.
type comparison struct {
	key    state.Key
	drifts []state.Drift
}

func compare[T comparable](c *comparison, field string, want, got T) {
	if want != got {
		c.drifts = append(c.drifts, state.Drift{Key: c.key, Field: field, Want: fmt.Sprint(want), Got: fmt.Sprint(got)})
	}
}
