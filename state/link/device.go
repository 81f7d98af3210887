package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/internal/tap"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

// A Device is a single link in the sandbox, which carries the owner's tag as
// its alias. It is made down so that addresses can be given to it first, and
// goes with the sandbox.
type Device struct {
	Owner state.Owner
	Name  string
	Kind  string // "macvlan", "ipvlan", "vlan", "dummy", "tun"

	Parent   string   // the link that it sits on; empty for none, and not compared
	ParentNS state.NS // where that is

	MAC  net.HardwareAddr // nil leaves it to the kernel, and is not compared
	MTU  int              // bytes; 0 is the kernel's default, and is not compared
	Data rtnl.Data        // zero fields are the kernel's defaults, and not compared

	Bridge string // makes the device a port of this bridge in the sandbox
	Label  string // SELinux context that a tap is made in
}

var _ state.Marked = Device{}

const deviceKind = "device"

// DeviceKey names a device of a kind.
func DeviceKey(name, kind string) state.Key {
	return state.Key{NS: state.Sandbox, Kind: deviceKind, Name: name + " " + kind}
}

// KnownDeviceKey names a device of a kind with what it is known by: a hardware
// address, or else IP addresses. A sandbox's path may by now lead to somebody
// else's, who has a link of that name as well.
func KnownDeviceKey(name, kind, mac string, addrs []netip.Addr) state.Key {
	key := DeviceKey(name, kind)
	key.Name += strings.TrimPrefix(PeerKey(name, mac, addrs).Name, name)
	return key
}

// Key names the device by name and kind.
func (d Device) Key() state.Key { return DeviceKey(d.Name, d.Kind) }

// Marked reports whether the device has the owner's tag.
func (d Device) Marked(_ context.Context, r state.Reader) (bool, error) {
	return isTagged(r, state.Sandbox, d.Name, d.Owner)
}

// isTagged reports whether there is a link that has an owner's tag.
func isTagged(r state.Reader, ns state.NS, name string, o state.Owner) (bool, error) {
	l, err := look(r, ns, name)
	return l != nil && l.Alias == o.Tag(), err
}

// firstName returns the name that an owner's device has until it has its tag.
// Its final one may be that of a link of the host, which kernels before Linux
// 6.15 mistake for the same.
func firstName(o state.Owner) string { return "plumb" + o.Hash()[:10] }

// Ensure makes the device.
//
// It fails with state.CodeConflict if the name is taken in the sandbox, or the
// parent in a way that excludes another device, and with cni.CodeUnavailable if
// the kernel doesn't know such devices.
func (d Device) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	sandbox, err := k.Route(state.Sandbox)
	if err != nil {
		return nil, err
	}
	taken, err := look(k.Reader(), state.Sandbox, d.Name)
	if err != nil {
		return nil, err
	}
	if taken != nil {
		return nil, d.conflict(k, sandbox, taken)
	}
	if d.MAC == nil && d.picksMAC() {
		d.MAC = randomMAC()
	}
	if err := d.make(ctx, k, sandbox); err != nil {
		return nil, err
	}
	made, err := sandbox.Link(firstName(d.Owner))
	if err != nil {
		return nil, errors.Join(err, d.removeUnfinished(sandbox))
	}
	undo := func(context.Context) error {
		if err := sandbox.DelLink(made.Index); err != nil && !errors.Is(err, rtnl.ErrNotFound) {
			return err
		}
		return nil
	}
	if err := d.finish(k, sandbox, made); err != nil {
		return nil, errors.Join(err, undo(ctx))
	}
	return undo, nil
}

// picksMAC reports whether the hardware address is the device's own. It is set
// then, not left to chance, so that no udev policy gives it another.
func (d Device) picksMAC() bool {
	switch d.Kind {
	case "macvlan":
		return d.Data.Mode != "passthru"
	case "dummy", "tun":
		return true
	}
	return false
}

func (d Device) conflict(k *state.Kernel, sandbox *rtnl.Conn, taken *rtnl.Link) error {
	return cni.Errorf(state.CodeConflict, "interface %s already exists in the sandbox (%s); "+
		"was this container added before without being deleted?", d.Name, describeInside(k, sandbox, taken))
}

// release is how long to wait for what another device of a sandbox that is
// just being freed has taken.
func release() state.Patience {
	return state.Patience{Timeout: 3 * time.Second, Pause: 10 * time.Millisecond, Longest: 10 * time.Millisecond}
}

// make makes the device under its first name.
func (d Device) make(ctx context.Context, k *state.Kernel, sandbox *rtnl.Conn) error {
	var refused error
	made, err := release().Await(ctx, func() (bool, error) {
		refused = d.try(k)
		if refused == nil {
			return true, nil
		}
		if !d.passing(refused) {
			return false, refused
		}
		return false, d.removeUnfinished(sandbox)
	})
	if made {
		return nil
	}
	if refused != nil {
		err = refused
	}
	return d.explain(k, err)
}

// passing reports whether an error may be due to a device that is about to go.
func (d Device) passing(err error) bool {
	return errors.Is(err, rtnl.ErrExists) || errors.Is(err, unix.EBUSY) || d.passthru(err)
}

// passthru reports whether an error is the kernel's for a parent that devices
// can't share.
func (d Device) passthru(err error) bool { return d.Kind == "macvlan" && errors.Is(err, unix.EINVAL) }

// try makes the device once.
func (d Device) try(k *state.Kernel) error {
	ns, err := k.Namespace(state.Sandbox)
	if err != nil {
		return err
	}
	if t := d.Data.Tap; t != nil {
		return tap.Device{
			Name: firstName(d.Owner), Owner: t.Owner, Group: t.Group, MultiQueue: t.MultiQueue, Label: d.Label,
		}.Create(ns)
	}
	from := state.Sandbox
	spec := rtnl.Device{Name: firstName(d.Owner), Kind: d.Kind, NS: ns, MAC: d.MAC, MTU: d.MTU, Data: d.Data}
	if d.Parent != "" {
		from = d.ParentNS
	}
	conn, err := k.Route(from)
	if err != nil {
		return err
	}
	if d.Parent != "" {
		parent, err := conn.Known(d.Parent)
		if err != nil {
			return err
		}
		spec.Parent = parent.Index
	}
	return conn.AddDevice(spec)
}

// removeUnfinished removes what an ADD of the owner that was killed has left.
func (d Device) removeUnfinished(sandbox *rtnl.Conn) error {
	left, err := sandbox.Link(firstName(d.Owner))
	if err == nil {
		err = sandbox.DelLink(left.Index)
	}
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil
	}
	return err
}

// explain says of the kernel's refusal what to do.
func (d Device) explain(k *state.Kernel, err error) error {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return Lacking(d.Kind)
	case errors.Is(err, tap.ErrUnavailable):
		return cni.Errorf(cni.CodeUnavailable, "%w", err).WithDetails(noTap)
	case errors.Is(err, tap.ErrNoSELinux):
		return cni.Errorf(cni.CodeInvalidConfig, "selinuxContext: %w; remove the key", err)
	case d.Data.VLAN != nil && errors.Is(err, rtnl.ErrExists):
		return cni.Errorf(state.CodeConflict, "VLAN %d of %s is taken already (%s); each container needs a pair of master and vlanId of its own",
			*d.Data.VLAN, d.Parent, d.holder(k))
	case d.Parent != "" && errors.Is(err, unix.EBUSY):
		return cni.Errorf(state.CodeConflict, "%w; %s is in use by something that wants all its packets: "+
			"a bridge, a bond, or ipvlan beside macvlan", err, d.Parent)
	case d.passthru(err):
		return cni.Errorf(state.CodeConflict, "%w; mode passthru needs %s for itself: "+
			"it has other macvlan devices, or one of mode passthru; or else it is no Ethernet device, such as lo", err, d.Parent)
	}
	return err
}

// holder says who has the VLAN, as far as that can be seen from here.
func (d Device) holder(k *state.Kernel) string {
	const unseen = "by a device in another namespace, such as another container's"
	conn, err := k.Route(d.ParentNS)
	if err != nil {
		return unseen
	}
	parent, err := conn.Known(d.Parent)
	if err != nil {
		return unseen
	}
	links, err := conn.Links()
	if err != nil {
		return unseen
	}
	for _, l := range links {
		if l.Kind == d.Kind && l.Peer == parent.Index && l.PeerNS == rtnl.SameNS && *l.Data.VLAN == *d.Data.VLAN {
			return fmt.Sprintf("by %s in the %s: %s", l.Name, d.ParentNS, describe(l))
		}
	}
	return unseen
}

// finish gives a device that was just made its name and tag, and what its kind
// doesn't take when it is made.
func (d Device) finish(k *state.Kernel, sandbox *rtnl.Conn, made *rtnl.Link) error {
	change := rtnl.Change{Name: d.Name, Alias: ptr(d.Owner.Tag())}
	if d.MAC != nil && !bytes.Equal(d.MAC, made.MAC) { // a tap, or mode passthru, which takes the parent's
		change.MAC = d.MAC
	}
	if d.MTU != 0 && d.MTU != made.MTU {
		change.MTU = d.MTU
	}
	if d.Bridge != "" {
		bridge, err := sandbox.Known(d.Bridge)
		if err != nil {
			return err
		}
		change.Master = bridge.Index
	}
	err := sandbox.SetLink(made.Index, change)
	if errors.Is(err, rtnl.ErrExists) {
		if taken, err := sandbox.Link(d.Name); err == nil {
			return d.conflict(k, sandbox, taken)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.Name, err)
	}
	return nil
}

// Diff compares the device as far as it is described.
func (d Device) Diff(_ context.Context, r state.Reader) ([]state.Drift, error) {
	got, err := look(r, state.Sandbox, d.Name)
	if err != nil {
		return nil, err
	}
	if got == nil {
		return state.Missing(d.Key()), nil
	}
	c := comparison{key: d.Key()}
	compare(&c, "kind", d.Kind, got.Kind)
	if c.drifts != nil {
		return c.drifts, nil // the rest has no meaning
	}
	d.compareData(&c, got.Data)
	if d.MAC != nil {
		compare(&c, "mac", d.MAC.String(), got.MAC.String())
	}
	if d.MTU != 0 {
		compare(&c, "mtu", d.MTU, got.MTU)
	}
	if d.Bridge != "" {
		if err := compareBridge(&c, r, d.Bridge, got); err != nil {
			return nil, err
		}
	}
	if d.Parent != "" {
		if err := d.compareParent(&c, r, got); err != nil {
			return nil, err
		}
	}
	return c.drifts, nil
}

// compareData compares what is particular to the kind.
func (d Device) compareData(c *comparison, got rtnl.Data) {
	if d.Data.Mode != "" {
		compare(c, "mode", d.Data.Mode, got.Mode)
	}
	if d.Data.BroadcastQueue != 0 && got.BroadcastQueue != 0 { // 0 before Linux 5.11, which has no such setting
		compare(c, "broadcast queue length", d.Data.BroadcastQueue, got.BroadcastQueue)
	}
	if d.Data.VLAN != nil {
		compare(c, "VLAN", *d.Data.VLAN, *got.VLAN)
	}
	want := d.Data.Tap
	if want == nil {
		return
	}
	if got.Tap == nil {
		compare(c, "type", "tap", "tun")
		return
	}
	compare(c, "multiple queues", want.MultiQueue, got.Tap.MultiQueue)
	compareID(c, "owner", want.Owner, got.Tap.Owner)
	compareID(c, "group", want.Group, got.Tap.Group)
}

// compareID compares a user or group that is not managed if it is nil.
func compareID(c *comparison, field string, want, got *int) {
	if want == nil {
		return
	}
	if got == nil {
		got = ptr(-1)
	}
	compare(c, field, *want, *got)
}

func compareBridge(c *comparison, r state.Reader, name string, port *rtnl.Link) error {
	bridge, err := look(r, state.Sandbox, name)
	if err != nil {
		return err
	}
	if bridge == nil {
		c.drifts = append(c.drifts, state.Missing(SandboxKey(name))...)
		return nil
	}
	return compareMaster(c, r, state.Sandbox, bridge, port)
}

// compareMaster compares which bridge a link is a port of.
func compareMaster(c *comparison, r state.Reader, ns state.NS, bridge, port *rtnl.Link) error {
	if port.Master == bridge.Index {
		return nil
	}
	master := "none"
	if port.Master != 0 {
		conn, err := r.Route(ns)
		if err != nil {
			return err
		}
		if other, err := conn.LinkByIndex(port.Master); err == nil {
			master = other.Name
		}
	}
	c.drifts = append(c.drifts, state.Drift{Key: c.key, Field: "bridge", Want: bridge.Name, Got: master})
	return nil
}

// compareParent compares the link that the device sits on.
func (d Device) compareParent(c *comparison, r state.Reader, got *rtnl.Link) error {
	parent, err := look(r, d.ParentNS, d.Parent)
	if err != nil {
		return err
	}
	if parent == nil {
		c.drifts = append(c.drifts, state.Missing(state.Key{NS: d.ParentNS, Kind: kindName, Name: d.Parent})...)
		return nil
	}
	index, ns := parent.Index, rtnl.SameNS
	if parent.Kind == d.Kind && d.Kind != "vlan" {
		// The kernel puts it beside such a one, on the same parent.
		index, ns = parent.Peer, got.PeerNS
	} else if d.ParentNS == state.Host {
		if ns, err = hostNSID(r); err != nil {
			return err
		}
	}
	where := func(index, id int) string {
		if id != ns {
			return fmt.Sprintf("index %d in another namespace", index)
		}
		return fmt.Sprintf("index %d in the %s", index, d.ParentNS)
	}
	compare(c, "parent", where(index, ns), where(got.Peer, got.PeerNS))
	return nil
}

// hostNSID returns the number by which the sandbox knows the host.
func hostNSID(r state.Reader) (int, error) {
	host, err := r.Namespace(state.Host)
	if err != nil {
		return 0, err
	}
	sandbox, err := r.Route(state.Sandbox)
	if err != nil {
		return 0, err
	}
	return sandbox.NSID(host)
}

// DeviceKind removes devices in the sandbox.
type DeviceKind struct{}

var _ state.Kind = DeviceKind{}

// Kind returns "device".
func (DeviceKind) Kind() string { return deviceKind }

// Remove deletes a device of the kind that the key names, if it carries the
// owner's tag, under whatever name.
//
// A device without any tag was made by another implementation, or has lost it.
// It goes if it has what the key knows it by, or an address that is recorded.
// The name is not enough even where that is recorded: the container may have
// put a device of its own in the place of one that it has deleted.
func (DeviceKind) Remove(_ context.Context, k *state.Kernel, obj state.Object, o state.Owner) error {
	conn, err := k.Route(state.Sandbox)
	if errors.Is(err, state.ErrNoSandbox) {
		return nil
	}
	if err != nil {
		return err
	}
	l, err := findDevice(conn, obj, o)
	if err != nil || l == nil {
		return err
	}
	if err := conn.DelLink(l.Index); err != nil && !errors.Is(err, rtnl.ErrNotFound) {
		return fmt.Errorf("%s: %w", l.Name, err)
	}
	return nil
}

// findDevice returns the device that an object stands for, or nil.
func findDevice(conn *rtnl.Conn, obj state.Object, o state.Owner) (*rtnl.Link, error) {
	words := strings.Fields(obj.Key.Name)
	name, kind, evidence := words[0], words[1], words[2:]
	for _, a := range obj.Addresses {
		evidence = append(evidence, a.String())
	}
	l, err := conn.Link(name)
	if err != nil && !errors.Is(err, rtnl.ErrNotFound) {
		return nil, err
	}
	if err == nil && l.Name == name && l.Kind == kind && !otherTag(l, o) {
		known := l.Alias == o.Tag()
		if !known {
			known, err = knownBy(conn, l, evidence)
		}
		if known || err != nil {
			return l, err
		}
	}
	links, err := conn.Links() // of a sandbox, which are few
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(links, func(l *rtnl.Link) bool {
		return l.Kind == kind && (l.Alias == o.Tag() || l.Name == firstName(o))
	})
	if i < 0 {
		return nil, nil
	}
	return links[i], nil
}

// otherTag reports whether a link carries the tag of another owner.
func otherTag(l *rtnl.Link, o state.Owner) bool { return state.Tagged(l.Alias) && l.Alias != o.Tag() }

// Garbage finds nothing: a device goes with its sandbox.
func (DeviceKind) Garbage(context.Context, state.Reader, string, []state.Owner) ([]state.Found, error) {
	return nil, nil
}
