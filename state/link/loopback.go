package link

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

// LoopbackName is the name of the loopback device of every namespace.
const LoopbackName = "lo"

// Loopback is the sandbox's loopback device being up. Every namespace is born
// with one that is down. If it is plumb that sets it up, it carries the owner's
// tag as its alias.
type Loopback struct{ Owner state.Owner }

var (
	_ state.Restorer = Loopback{}
	_ state.Marked   = Loopback{}
)

const loopbackKindName = "loopback"

// Key names the state.
func (Loopback) Key() state.Key {
	return state.Key{NS: state.Sandbox, Kind: loopbackKindName, Name: LoopbackName}
}

// Before reads whether the device is up, which it may be by somebody else's doing.
func (Loopback) Before(_ context.Context, r state.Reader) (json.RawMessage, error) {
	conn, err := r.Route(state.Sandbox)
	if err != nil {
		return nil, err
	}
	lo, err := conn.Known(LoopbackName)
	if err != nil {
		return nil, err
	}
	return json.Marshal(loopbackBefore{Up: lo.Up})
}

// loopbackBefore is what there was before a Loopback.
type loopbackBefore struct {
	Up bool `json:"up"`
}

// Marked reports whether the device has the owner's tag.
func (l Loopback) Marked(_ context.Context, r state.Reader) (bool, error) {
	return isTagged(r, state.Sandbox, LoopbackName, l.Owner)
}

// Ensure sets the device up.
func (l Loopback) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(state.Sandbox)
	if err != nil {
		return nil, err
	}
	lo, err := conn.Known(LoopbackName)
	if err != nil || lo.Up {
		return nil, err
	}
	if err := conn.SetLink(lo.Index, rtnl.Change{Up: ptr(true), Alias: ptr(l.Owner.Tag())}); err != nil {
		return nil, err
	}
	return func(context.Context) error { return lower(conn, lo) }, nil
}

// lower sets a loopback device down as it was before it was set up.
func lower(conn *rtnl.Conn, lo *rtnl.Link) error {
	return conn.SetLink(lo.Index, rtnl.Change{Up: ptr(false), Alias: ptr("")})
}

// Diff reports a device that is down.
func (l Loopback) Diff(ctx context.Context, r state.Reader) ([]state.Drift, error) {
	drifts, err := Up{NS: state.Sandbox, Link: LoopbackName}.Diff(ctx, r)
	for i := range drifts {
		drifts[i].Key = l.Key()
	}
	return drifts, err
}

// LoopbackKind sets the loopback device down again if it was.
type LoopbackKind struct{}

var _ state.Kind = LoopbackKind{}

// Kind returns "loopback".
func (LoopbackKind) Kind() string { return loopbackKindName }

// Remove sets the device down if a record says that it was, or else the owner's
// tag, and the sandbox is still there. That it is up tells nothing: the path of
// the sandbox may lead to another container's by now.
func (LoopbackKind) Remove(_ context.Context, k *state.Kernel, obj state.Object, o state.Owner) error {
	conn, err := k.Route(state.Sandbox)
	if errors.Is(err, state.ErrNoSandbox) {
		return nil
	}
	if err != nil {
		return err
	}
	lo, err := conn.Link(obj.Key.Name)
	if err != nil {
		return err
	}
	var before loopbackBefore
	recorded := obj.Recorded && json.Unmarshal(obj.Before, &before) == nil && !before.Up
	if !recorded && lo.Alias != o.Tag() {
		return nil
	}
	return lower(conn, lo)
}

// Garbage finds nothing: a loopback device goes with its sandbox.
func (LoopbackKind) Garbage(context.Context, state.Reader, string, []state.Owner) ([]state.Found, error) {
	return nil, nil
}
