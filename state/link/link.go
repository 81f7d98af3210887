// Package link is the state of network devices.
package link

import (
	"context"
	"errors"
	"fmt"
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

// PeerKey names a link of the sandbox that was known by a hardware address, any
// if it is empty: a sandbox's path may by now lead to somebody else's.
func PeerKey(name, mac string) state.Key {
	key := SandboxKey(name)
	if mac != "" {
		key.Name += " " + mac
	}
	return key
}

// Kind removes and finds links that attachments own.
type Kind struct{}

var _ state.Kind = Kind{}

// Kind returns "link".
func (Kind) Kind() string { return kindName }

// Remove deletes a link unless it carries the tag of another owner. A link in
// the sandbox has no tag of its own: it is the owner's if the host end of it
// is. A pair whose host end has no tag at all was made by another
// implementation, or by an ADD that was killed in between, and goes too if it
// is a veth and has the hardware address that the key names.
func (Kind) Remove(_ context.Context, k *state.Kernel, key state.Key, o state.Owner) error {
	conn, err := k.Route(key.NS)
	if errors.Is(err, state.ErrNoSandbox) {
		return nil
	}
	if err != nil {
		return err
	}
	name, mac, _ := strings.Cut(key.Name, " ")
	found, err := conn.Link(name)
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if found.Kind != "veth" {
		return nil
	}
	tagged := found
	if key.NS == state.Sandbox {
		host, err := k.Route(state.Host)
		if err != nil {
			return err
		}
		tagged, err = host.LinkByIndex(found.Peer)
		if errors.Is(err, rtnl.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if tagged.Kind != "veth" || tagged.Peer != found.Index {
			return nil // the peer is in a third namespace
		}
	}
	switch {
	case tagged.Alias == o.Tag():
	case state.Tagged(tagged.Alias), mac != "" && mac != found.MAC.String():
		return nil
	}
	if err := conn.DelLink(found.Index); err != nil && !errors.Is(err, rtnl.ErrNotFound) {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Garbage lists the links of the host by alias.
func (Kind) Garbage(_ context.Context, r state.Reader, network string, valid []state.Owner) ([]state.Found, error) {
	conn, err := r.Route(state.Host)
	if err != nil {
		return nil, err
	}
	links, err := conn.Links()
	if err != nil {
		return nil, err
	}
	var found []state.Found
	for _, l := range links {
		o, ok := state.ParseTag(l.Alias)
		if ok && o.On(network) && !slices.ContainsFunc(valid, o.Same) {
			found = append(found, state.Found{Key: Key(l.Name), Owner: o})
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
