package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

// Kind gives devices back to the host.
type Kind struct{}

var _ state.Kind = Kind{}

// Kind returns "device".
func (Kind) Kind() string { return kindName }

// Remove gives the device back as it was. It may have been renamed in the sandbox,
// or be back on the host already, by the kernel's doing, under whatever name.
//
// Without a record it is a device of the sandbox that has the name, an alias that
// tells its name on the host, and what the key knows it by: its up state and other
// names are not known then, and it stays down. A key that knows it by nothing
// removes nothing, for the path may lead to another container's sandbox by now.
//
// If the name on the host is taken by now, the device is given back under
// another name, and without other names that are taken. That is said by an error
// of state.CodeConflict, once.
func (Kind) Remove(ctx context.Context, k *state.Kernel, obj state.Object, _ state.Owner) error {
	as, evidence, _ := strings.Cut(obj.Key.Name, " ")
	if obj.Before != nil {
		o := new(origin)
		if err := json.Unmarshal(obj.Before, o); err != nil {
			return err
		}
		return restore(ctx, k, as, o)
	}
	conn, err := k.Route(state.Sandbox)
	if errors.Is(err, state.ErrNoSandbox) {
		return nil
	}
	if err != nil {
		return err
	}
	l, err := conn.Link(as)
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if l.Name != as || cni.ValidateIfName(l.Alias) != nil || evidence != l.MAC.String() && evidence != l.Alias {
		return nil
	}
	return give(k, state.Sandbox, l, &origin{Name: l.Alias, Kind: l.Kind, MAC: l.MAC.String()})
}

// Garbage finds nothing: what the kernel has put back on the host has a record,
// or nobody knows whose it was.
func (Kind) Garbage(context.Context, state.Reader, string, []state.Owner) ([]state.Found, error) {
	return nil, nil
}

// restore gives a device back from wherever it is. One that is nowhere has gone
// with its namespace, or was taken out of the machine.
func restore(ctx context.Context, k *state.Kernel, as string, o *origin) error {
	host, err := k.Route(state.Host)
	if err != nil {
		return err
	}
	id, err := k.SandboxID()
	gone := errors.Is(err, state.ErrNoSandbox) || err == nil && id != o.Sandbox // its path leads to another by now
	if err != nil && !gone {
		return err
	}
	if !gone {
		l, err := inside(k, as, o)
		if err != nil {
			return err
		}
		if l != nil {
			return give(k, state.Sandbox, l, o)
		}
	}
	l, err := returned(ctx, host, o, gone)
	if err != nil || l == nil {
		return err
	}
	return give(k, state.Host, l, o)
}

// inside returns the device in the sandbox, nil if it isn't there: by its name,
// or else by its alias, or else by its hardware address.
func inside(k *state.Kernel, as string, o *origin) (*rtnl.Link, error) {
	conn, err := k.Route(state.Sandbox)
	if err != nil {
		return nil, err
	}
	l, err := conn.Link(as)
	if err == nil && o.bears(l) {
		return l, nil
	}
	if err != nil && !errors.Is(err, rtnl.ErrNotFound) {
		return nil, err
	}
	links, err := conn.Links()
	if err != nil {
		return nil, err
	}
	return pick(links, o.bears, o.is), nil
}

// pick returns the first link of which the first possible thing is true, or nil.
func pick(links []*rtnl.Link, is ...func(*rtnl.Link) bool) *rtnl.Link {
	for _, is := range is {
		for _, l := range links {
			if is(l) {
				return l
			}
		}
	}
	return nil
}

// is reports whether a link is the device, whatever it is called.
func (o *origin) is(l *rtnl.Link) bool {
	return l.Kind == o.Kind &&
		(o.MAC != "" && l.MAC.String() == o.MAC || o.PermMAC != "" && l.PermMAC.String() == o.PermMAC)
}

// bears reports whether a link has the device's name on the host as its alias.
func (o *origin) bears(l *rtnl.Link) bool { return l.Alias == o.Name && l.Kind == o.Kind }

// unrestored reports whether a link of the host is the device as it was taken out
// of its namespace, or as an ADD has left it that ended in between. It is not if it
// lacks nothing but names that are another's by now.
func (o *origin) unrestored(host *rtnl.Conn, l *rtnl.Link) bool {
	if !o.is(l) {
		return false
	}
	if l.Name == o.Name && l.Alias == o.Alias {
		return slices.ContainsFunc(o.lacking(l), func(name string) bool {
			_, err := host.Link(name)
			return errors.Is(err, rtnl.ErrNotFound)
		})
	}
	return o.bears(l)
}

// lacking returns the other names that the device had and a link has not.
func (o *origin) lacking(l *rtnl.Link) []string {
	return slices.DeleteFunc(slices.Clone(o.AltNames), func(name string) bool { return slices.Contains(l.AltNames, name) })
}

// arrival is how long to wait for the kernel's putting a physical device back
// that was in a namespace that is gone, which it does in its own time. Many that
// are freed at once take it more than a second.
func arrival() state.Patience {
	return state.Patience{Timeout: 10 * time.Second, Pause: 5 * time.Millisecond, Longest: 100 * time.Millisecond}
}

// returned returns the device if the kernel has put it back on the host, which it
// does with physical ones, to the initial namespace, when theirs is gone.
func returned(ctx context.Context, host *rtnl.Conn, o *origin, gone bool) (l *rtnl.Link, err error) {
	look := func() (bool, error) {
		l, err = host.LinkByIndex(o.Index)
		if errors.Is(err, rtnl.ErrNotFound) {
			return false, nil
		}
		return err == nil && o.is(l), err
	}
	wait := state.Patience{}
	if gone && o.Kind == "" {
		wait = arrival()
	}
	so, err := wait.Await(ctx, look)
	if err != nil {
		return nil, err
	}
	if so {
		if !o.unrestored(host, l) {
			l = nil
		}
		return l, nil
	}
	if !gone || o.Kind != "" {
		return nil, nil
	}
	links, err := host.Links() // its index was taken
	if err != nil {
		return nil, err
	}
	return pick(links, func(l *rtnl.Link) bool { return o.unrestored(host, l) }), nil
}

// freeName has the kernel choose the first name of the pattern that is free: what
// it does itself with a device whose name is taken.
const freeName = "dev%d"

// give makes a device on the host be what it was. It is in a namespace, maybe the
// host's.
func give(k *state.Kernel, ns state.NS, l *rtnl.Link, o *origin) error {
	host, err := k.Route(state.Host)
	if err != nil {
		return err
	}
	self := 0 // its index on the host, if it is there
	if ns == state.Host {
		self = l.Index
	}
	name := o.Name
	taken, err := isTaken(host, name, self)
	if err != nil {
		return err
	}
	if taken {
		name = freeName
	}
	// A driver may refuse its hardware address, which is no reason to keep it.
	errs := []error{readdress(k, ns, l, o)}
	if ns != state.Host {
		errs = append(errs, dropTaken(k, ns, l, host))
	}
	back, err := carry(k, ns, l, o, name)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	errs = append(errs, addNames(host, back, o))
	if o.Master != "" {
		errs = append(errs, enslave(host, back, o.Master))
	}
	if taken {
		errs = append(errs, cni.Errorf(state.CodeConflict,
			"device %s is back on the host as %s, because its name is another's by now; rename it when that has gone", o.Name, back.Name))
	}
	return errors.Join(errs...)
}

// isTaken reports whether the host has a link of a name, or with it as another
// name, that is not the one of an index.
func isTaken(host *rtnl.Conn, name string, but int) (bool, error) {
	holder, err := host.Link(name)
	if errors.Is(err, rtnl.ErrNotFound) {
		return false, nil
	}
	return err == nil && holder.Index != but, err
}

// dropTaken takes other names from a device that are taken on the host, where the
// kernel would refuse to move it.
func dropTaken(k *state.Kernel, ns state.NS, l *rtnl.Link, host *rtnl.Conn) error {
	conn, err := k.Route(ns)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range l.AltNames {
		taken, err := isTaken(host, name, 0)
		if taken {
			err = conn.DelAltName(l.Index, name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// readdress gives a device the hardware address that it had, if it has another by
// now. That takes it down, as its move will.
func readdress(k *state.Kernel, ns state.NS, l *rtnl.Link, o *origin) error {
	if o.MAC == "" || l.MAC.String() == o.MAC {
		return nil
	}
	mac, err := net.ParseMAC(o.MAC)
	if err != nil {
		return err
	}
	conn, err := k.Route(ns)
	if err != nil {
		return err
	}
	if err := conn.SetLink(l.Index, rtnl.Change{Up: new(bool)}); err != nil {
		return err
	}
	if err := conn.SetLink(l.Index, rtnl.Change{MAC: mac}); err != nil {
		return fmt.Errorf("%s: %w", o.Name, err)
	}
	l.MAC = mac
	return nil
}

// carry moves a device to the host, if it isn't there, and returns it.
func carry(k *state.Kernel, ns state.NS, l *rtnl.Link, o *origin, name string) (*rtnl.Link, error) {
	conn, err := k.Route(ns)
	if err != nil {
		return nil, err
	}
	host, err := k.Route(state.Host)
	if err != nil {
		return nil, err
	}
	move := rtnl.Move{Name: name, Alias: o.Alias, MTU: o.MTU, Up: o.Up}
	if ns == state.Sandbox {
		if move.To, err = k.Namespace(state.Host); err != nil {
			return nil, err
		}
	} else if l.Up && l.Name != name {
		// A device in use can't be renamed before Linux 6.2.
		if err := conn.SetLink(l.Index, rtnl.Change{Up: new(bool)}); err != nil {
			return nil, err
		}
	}
	if err := conn.MoveLink(l.Index, move); err != nil {
		return nil, err
	}
	if name != freeName {
		return host.Link(name)
	}
	back, err := host.LinkByIndex(l.Index) // a moved link keeps it if it is free
	if err == nil && back.MAC.String() == l.MAC.String() {
		return back, nil
	}
	links, err := host.Links()
	if err != nil {
		return nil, err
	}
	if back = pick(links, o.is); back == nil {
		return nil, rtnl.ErrNotFound
	}
	return back, nil
}

// addNames gives a device the other names that it lacks, and tells which are
// others' by now.
func addNames(host *rtnl.Conn, l *rtnl.Link, o *origin) error {
	var errs []error
	var taken []string
	for _, name := range o.lacking(l) {
		err := host.AddAltName(l.Index, name)
		if errors.Is(err, rtnl.ErrExists) {
			taken = append(taken, fmt.Sprintf("%q", name))
			continue
		}
		errs = append(errs, err)
	}
	if taken != nil {
		slices.Sort(taken)
		errs = append(errs, cni.Errorf(state.CodeConflict, "device %s is back on the host without its other names %s, "+
			"which are others' by now; add them when those have gone", o.Name, strings.Join(taken, ", ")))
	}
	return errors.Join(errs...)
}

// enslave makes a device a port again of what it was a port of, if that is there.
func enslave(host *rtnl.Conn, l *rtnl.Link, name string) error {
	master, err := host.Link(name)
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return host.SetMaster(l.Index, master.Index)
}
