// Package device is the state of the host's own devices that containers are
// given for a while.
package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
	"golang.org/x/sys/unix"
)

const kindName = "device"

// A Device is a device of the host that is in the sandbox, under another name.
//
// Its alias there is its name on the host, which is how the reference finds its
// way back as well. The alias stays with a device that is renamed inside, or that
// the kernel takes out of a namespace that is gone.
type Device struct {
	Name  string // on the host; empty once it isn't there any more
	Index int    // on the host
	As    string // the name in the sandbox

	MAC net.HardwareAddr // nil is not compared
	MTU int              // 0 is not compared
}

var _ state.Restorer = Device{}

// Key names the device by both its names: what is given back is what was taken,
// also after another ADD of the attachment that names another device.
func (d Device) Key() state.Key { return key(d.As, d.Name) }

// FootprintKey names a device that no record tells of, by its name in the sandbox
// and by what tells it from another container's: its hardware address, or its name
// on the host.
func FootprintKey(as, evidence string) state.Key { return key(as, evidence) }

func key(as, what string) state.Key {
	k := state.Key{NS: state.Host, Kind: kindName, Name: as}
	if what != "" {
		k.Name += " " + what
	}
	return k
}

// origin is a device as it was on the host.
type origin struct {
	Name     string   `json:"name"`
	Index    int      `json:"index"`
	Kind     string   `json:"kind,omitempty"` // empty for a physical device
	MAC      string   `json:"mac,omitempty"`
	PermMAC  string   `json:"permMAC,omitempty"` // that its hardware has, also after another was set
	MTU      int      `json:"mtu,omitempty"`
	Up       bool     `json:"up,omitempty"`
	Alias    string   `json:"alias,omitempty"`
	AltNames []string `json:"altNames,omitempty"`
	Master   string   `json:"master,omitempty"`

	Sandbox netns.ID `json:"sandbox"` // that it was moved to
}

// Before reads what the device is like.
func (d Device) Before(_ context.Context, r state.Reader) (json.RawMessage, error) {
	conn, err := r.Route(state.Host)
	if err != nil {
		return nil, err
	}
	sandbox, err := r.SandboxID()
	if err != nil {
		return nil, err
	}
	o, err := d.read(conn, sandbox)
	if err != nil {
		return nil, err
	}
	return json.Marshal(o)
}

// Taken returns what a device that was taken was called on the host, its own name
// first, and its hardware address there, as an object of a record tells.
func Taken(obj state.Object) (names []string, mac string, ok bool) {
	var o origin
	if obj.Key.Kind != kindName || json.Unmarshal(obj.Before, &o) != nil {
		return nil, "", false
	}
	return append([]string{o.Name}, o.AltNames...), o.MAC, true
}

// read looks at the device on the host.
func (d Device) read(conn rtnl.Reader, sandbox netns.ID) (*origin, error) {
	l, err := conn.LinkByIndex(d.Index)
	if err == nil && l.Name != d.Name {
		err = rtnl.ErrNotFound
	}
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil, cni.Errorf(cni.CodeTryAgain, "device %s has just gone from the host: %w", d.Name, err)
	}
	if err != nil {
		return nil, err
	}
	o := &origin{
		Name: l.Name, Index: l.Index, Kind: l.Kind, MAC: l.MAC.String(), PermMAC: l.PermMAC.String(),
		MTU: l.MTU, Up: l.Up, Alias: l.Alias, AltNames: l.AltNames, Sandbox: sandbox,
	}
	if l.Master != 0 {
		master, err := conn.LinkByIndex(l.Master)
		if err != nil {
			return nil, err
		}
		o.Master = master.Name
	}
	return o, nil
}

// Ensure moves the device. Its other names stay with it, but for one that is the
// name in the sandbox.
//
// It fails with state.CodeConflict if a name is taken in the sandbox, and with
// cni.CodeInvalidConfig if the device can't be moved.
func (d Device) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	host, err := k.Route(state.Host)
	if err != nil {
		return nil, err
	}
	id, err := k.SandboxID()
	if err != nil {
		return nil, err
	}
	o, err := d.read(host, id)
	if err != nil {
		return nil, err
	}
	if err := d.refuseTaken(k); err != nil {
		return nil, err
	}
	sandbox, err := k.Namespace(state.Sandbox)
	if err != nil {
		return nil, err
	}
	if slices.Contains(o.AltNames, d.As) {
		if err := host.DelAltName(d.Index, d.As); err != nil {
			return nil, err
		}
	}
	undo := func(context.Context) error { return restore(ctx, k, d.As, o) }
	err = host.MoveLink(d.Index, rtnl.Move{To: sandbox, Name: d.As, Alias: d.Name})
	switch {
	case err == nil:
		return undo, nil
	case errors.Is(err, unix.EINVAL):
		err = cni.Errorf(cni.CodeInvalidConfig, "%w; %s may be of a kind that has to stay in its namespace", err, d.Name)
	case errors.Is(err, rtnl.ErrExists):
		err = cni.Errorf(state.CodeConflict, "%w; one of the other names of %s (%q) is taken in the sandbox", err, d.Name, o.AltNames)
	case errors.Is(err, rtnl.ErrNotFound):
		err = cni.Errorf(cni.CodeTryAgain, "device %s has just gone from the host: %w", d.Name, err)
	default:
		err = fmt.Errorf("%s: %w", d.Name, err)
	}
	return nil, errors.Join(err, undo(ctx))
}

// refuseTaken fails if the sandbox has a link of the name.
func (d Device) refuseTaken(k *state.Kernel) error {
	conn, err := k.Route(state.Sandbox)
	if err != nil {
		return err
	}
	l, err := conn.Link(d.As)
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	what := l.MAC.String()
	if l.Alias != "" {
		what += ", alias " + l.Alias
	}
	return cni.Errorf(state.CodeConflict, "interface %s already exists in the sandbox (%s); "+
		"was this container added before without being deleted?", d.As, what)
}

// Diff looks for the device in the sandbox.
func (d Device) Diff(_ context.Context, r state.Reader) ([]state.Drift, error) {
	inside := link.SandboxKey(d.As)
	conn, err := r.Route(state.Sandbox)
	if errors.Is(err, state.ErrNoSandbox) {
		return state.Missing(inside), nil
	}
	if err != nil {
		return nil, err
	}
	l, err := conn.Link(d.As)
	if errors.Is(err, rtnl.ErrNotFound) || err == nil && l.Name != d.As {
		return state.Missing(inside), nil
	}
	if err != nil {
		return nil, err
	}
	var drifts []state.Drift
	drift := func(field, want, got string) {
		drifts = append(drifts, state.Drift{Key: inside, Field: field, Want: want, Got: got})
	}
	if d.MAC != nil && l.MAC.String() != d.MAC.String() {
		drift("mac", d.MAC.String(), l.MAC.String())
	}
	if d.MTU != 0 && l.MTU != d.MTU {
		drift("mtu", fmt.Sprint(d.MTU), fmt.Sprint(l.MTU))
	}
	if cni.ValidateIfName(l.Alias) != nil { // as when it is a link of the sandbox's own
		drift("alias", "its name on the host", l.Alias)
	}
	return drifts, nil
}
