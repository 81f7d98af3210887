package link

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

// An IFB is an intermediate functional block, down until [Up]: packets that
// arrive at another link are made to pass its queue, since Linux queues only what
// leaves. It carries the owner's tag as its alias.
type IFB struct {
	Owner state.Owner
	NS    state.NS
	Name  string
	For   string // the link whose packets it takes, and whose MTU it has
}

var _ state.Marked = IFB{}

const (
	ifbKindName = "ifb"
	ifbPrefix   = "bwp" // the reference's
	maxNameLen  = 15
)

// IFBName returns the name of an owner's device.
func IFBName(o state.Owner) string { return ifbPrefix + o.Hash()[:maxNameLen-len(ifbPrefix)] }

// IsIFBName reports whether a name is one that such a device is given, by the
// reference or by us.
func IsIFBName(name string) bool {
	return strings.HasPrefix(name, ifbPrefix) && len(name) == maxNameLen
}

// ReferenceIFBName returns the name that the reference gives to the device. It
// does not tell two interfaces of a container on one network apart.
func ReferenceIFBName(o state.Owner) string {
	sum := sha512.Sum512([]byte(o.Network + o.ContainerID))
	return ifbPrefix + hex.EncodeToString(sum[:])[:maxNameLen-len(ifbPrefix)]
}

// IFBKey names a device.
func IFBKey(ns state.NS, name string) state.Key {
	return state.Key{NS: ns, Kind: ifbKindName, Name: name}
}

// Key names the device.
func (i IFB) Key() state.Key { return IFBKey(i.NS, i.Name) }

// Marked reports whether the device has the owner's tag.
func (i IFB) Marked(_ context.Context, r state.Reader) (bool, error) {
	return isTagged(r, i.NS, i.Name, i.Owner)
}

// Ensure makes the device. What the owner's own predecessor left under its name
// is taken over.
//
// It fails with state.CodeConflict if the name is taken by something else, and
// with cni.CodeUnavailable if the kernel has no such devices.
func (i IFB) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(i.NS)
	if err != nil {
		return nil, err
	}
	shaped, err := conn.Known(i.For)
	if err != nil {
		return nil, err
	}
	device, err := conn.AddIFB(i.Name, shaped.MTU)
	if errors.Is(err, rtnl.ErrExists) {
		return nil, i.takeOver(conn)
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, Lacking("ifb")
	}
	if err != nil {
		return nil, err
	}
	undo := func(context.Context) error {
		if err := conn.DelLink(device.Index); err != nil && !errors.Is(err, rtnl.ErrNotFound) {
			return err
		}
		return nil
	}
	if err := i.mark(conn, device); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", i.Name, err), undo(nil))
	}
	return undo, nil
}

// mark tags a new device, and lets the reference's DEL find it by the name that
// it knows: only the first interface of a container, as with the reference's
// own. A kernel before 5.5 has no second names.
func (i IFB) mark(conn *rtnl.Conn, device *rtnl.Link) error {
	if err := conn.SetLink(device.Index, rtnl.Change{Alias: ptr(i.Owner.Tag()), NoIPv6Address: true}); err != nil {
		return err
	}
	if i.NS == state.Host {
		_ = conn.AddAltName(device.Index, ReferenceIFBName(i.Owner)) // without, it is swept by GC
	}
	return nil
}

// takeOver accepts a device that is there as the owner's.
func (i IFB) takeOver(conn *rtnl.Conn) error {
	found, err := conn.Link(i.Name)
	if err != nil {
		return err
	}
	if !isTaggedIFBOf(i.Owner, found) {
		return cni.Errorf(state.CodeConflict, "interface %s already exists (%s)", i.Name, describe(found))
	}
	if found.Alias == "" {
		return i.mark(conn, found)
	}
	return nil
}

// IsIFBOf reports whether a device is the owner's: made by us, or without any tag
// and with the name that the reference gives it.
func IsIFBOf(o state.Owner, l *rtnl.Link) bool {
	return isTaggedIFBOf(o, l) || l.Kind == "ifb" && l.Name == ReferenceIFBName(o) && !state.Tagged(l.Alias)
}

// isTaggedIFBOf reports whether a device is one that we made for the owner: by its
// tag or, if it has none since the ADD was killed before it could give it one, by
// its name, which nobody else's has.
func isTaggedIFBOf(o state.Owner, l *rtnl.Link) bool {
	return l.Kind == "ifb" && (l.Alias == o.Tag() || l.Alias == "" && l.Name == IFBName(o))
}

// Diff compares the device's kind.
func (i IFB) Diff(_ context.Context, r state.Reader) ([]state.Drift, error) {
	found, err := look(r, i.NS, i.Name)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return state.Missing(i.Key()), nil
	}
	c := comparison{key: i.Key()}
	compare(&c, "kind", "ifb", found.Kind)
	return c.drifts, nil
}

// IFBKind removes and finds devices that attachments own.
type IFBKind struct{}

var _ state.Kind = IFBKind{}

// Kind returns "ifb".
func (IFBKind) Kind() string { return ifbKindName }

// Remove deletes a device of the owner's: one with its tag, or on the host one
// without any tag that has the name which the reference gives it.
func (IFBKind) Remove(_ context.Context, k *state.Kernel, obj state.Object, o state.Owner) error {
	found, err := look(k.Reader(), obj.Key.NS, obj.Key.Name)
	if err != nil || found == nil || found.Kind != "ifb" {
		return err
	}
	byReference := obj.Key.NS == state.Host && IsIFBOf(o, found)
	if !isTaggedIFBOf(o, found) && !byReference {
		return nil
	}
	if err := k.RemoveLink(obj.Key.NS, found.Index, true); err != nil {
		return fmt.Errorf("%s: %w", obj.Key.Name, err)
	}
	return nil
}

// Garbage lists the devices of the host by alias.
func (IFBKind) Garbage(_ context.Context, r state.Reader, network string, valid []state.Owner) ([]state.Found, error) {
	return garbage(r, "ifb", func(name string) state.Key { return IFBKey(state.Host, name) }, network, valid)
}
