// Package vrf is the state of VRF devices of a sandbox, which are routers of their
// own for the interfaces that are enslaved to them
// (Documentation/networking/vrf.rst).
package vrf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
	"golang.org/x/sys/unix"
)

const kindName = "vrf"

// A Member is a link of the sandbox being enslaved to a VRF, with its addresses
// and routes. The VRF is made for its first member, and goes with the last.
type Member struct {
	Link  string
	VRF   string
	Table int // 0 takes that of the VRF, or one that is free
}

var _ state.Resource = Member{}

// Key names the member by the link and the VRF.
func (m Member) Key() state.Key { return FootprintKey(m.Link, m.VRF, "") }

// FootprintKey names a member with the link's hardware address, if that is known,
// by which the link of a sandbox is told from one of another.
func FootprintKey(link, vrf, mac string) state.Key {
	return state.Key{NS: state.Sandbox, Kind: kindName, Name: strings.TrimSpace(link + " " + vrf + " " + mac)}
}

// Ensure makes the VRF unless it is there, and enslaves the link.
//
// It fails with state.CodeConflict if the name is that of another kind of device,
// if the VRF has another table, or if the link has another master, and with
// cni.CodeUnavailable if the kernel has no VRFs.
func (m Member) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	conn, unlock, err := lock(ctx, k)
	if err != nil {
		return nil, err
	}
	defer unlock()
	l, err := conn.Link(m.Link)
	if err != nil {
		return nil, err
	}
	vrf, err := m.find(conn)
	if err != nil || l.Master == vrf.Index {
		return nil, err
	}
	before, err := save(conn, l)
	if err == nil {
		err = m.enslave(ctx, conn, l, vrf, before)
	}
	if err != nil {
		return nil, errors.Join(err, before.release(ctx, conn, vrf))
	}
	return func(ctx context.Context) error {
		conn, unlock, err := lock(ctx, k)
		if err != nil {
			return err
		}
		defer unlock()
		return before.release(context.WithoutCancel(ctx), conn, vrf)
	}, nil
}

// lockWait is how long the lock is waited for, which nobody of ours has for long.
const lockWait = 10 * time.Second

// lock keeps others from changing the VRFs of the sandbox: choosing a table, and
// deleting what nobody uses, take more than one message.
func lock(ctx context.Context, k *state.Kernel) (conn *rtnl.Conn, unlock func() error, err error) {
	ns, err := k.Namespace(state.Sandbox)
	if err != nil {
		return nil, nil, err
	}
	if conn, err = k.Route(state.Sandbox); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	unlock, err = ns.Lock(ctx)
	return conn, unlock, err
}

// find returns the VRF, which it makes if there is none.
func (m Member) find(conn *rtnl.Conn) (*rtnl.Link, error) {
	found, err := conn.Link(m.VRF)
	if errors.Is(err, rtnl.ErrNotFound) {
		return m.add(conn)
	}
	if err != nil {
		return nil, err
	}
	if found.Kind != "vrf" {
		return nil, cni.Errorf(state.CodeConflict, "interface %s of the container is not a VRF; choose another vrfname", m.VRF)
	}
	if m.Table != 0 && found.Table != m.Table {
		return nil, cni.Errorf(state.CodeConflict, "VRF %s has table %d already, not %d; leave table out, or choose another vrfname", m.VRF, found.Table, m.Table)
	}
	return found, nil
}

func (m Member) add(conn *rtnl.Conn) (*rtnl.Link, error) {
	table := m.Table
	if table == 0 {
		var err error
		if table, err = free(conn); err != nil {
			return nil, err
		}
	}
	made, err := conn.AddVRF(m.VRF, table)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, link.Lacking(kindName)
	}
	return made, err
}

// free returns the first table that is no VRF's and has no routes.
func free(conn *rtnl.Conn) (int, error) {
	links, err := conn.Links()
	if err != nil {
		return 0, err
	}
	for table := 1; ; table++ {
		if table >= unix.RT_TABLE_DEFAULT && table <= unix.RT_TABLE_LOCAL {
			continue
		}
		if slices.ContainsFunc(links, func(l *rtnl.Link) bool { return l.Kind == "vrf" && l.Table == table }) {
			continue
		}
		used, err := conn.HasRoutes(table)
		if err != nil || !used {
			return table, err
		}
	}
}

// What a link has that goes when it is enslaved or released, for the kernel takes
// it down for a moment: routes, and addresses of IPv6 unless keep_addr_on_down is
// set.
type belongings struct {
	link   *rtnl.Link
	addrs  []rtnl.Addr
	routes []rtnl.SavedRoute
}

func save(conn *rtnl.Conn, l *rtnl.Link) (*belongings, error) {
	b := &belongings{link: l}
	addrs, err := conn.Addrs(l.Index)
	if err != nil {
		return b, err
	}
	b.addrs = slices.DeleteFunc(addrs, func(a rtnl.Addr) bool { return a.Prefix.Addr().IsLinkLocalUnicast() })
	all, err := conn.SaveRoutes(l.Index)
	for _, direct := range []bool{true, false} { // those first by which gateways are reached
		for _, r := range all {
			if !r.Kernel && direct != r.Gateway.IsValid() {
				b.routes = append(b.routes, r)
			}
		}
	}
	return b, err
}

func (m Member) enslave(ctx context.Context, conn *rtnl.Conn, l, vrf *rtnl.Link, b *belongings) error {
	if l.Master != 0 {
		return cni.Errorf(state.CodeConflict, "%s has a master already, the link with index %d; an interface can be in one VRF only", m.Link, l.Master)
	}
	if err := conn.SetMaster(l.Index, vrf.Index); err != nil {
		return err
	}
	return b.restore(ctx, conn, vrf.Table)
}

// release takes the link out again, and the VRF away unless it has other members.
func (b *belongings) release(ctx context.Context, conn *rtnl.Conn, vrf *rtnl.Link) error {
	l, err := conn.LinkByIndex(b.link.Index)
	if err == nil && l.Master == vrf.Index {
		err = conn.SetMaster(l.Index, 0)
		if err == nil {
			err = b.restore(ctx, conn, unix.RT_TABLE_MAIN)
		}
	}
	if errors.Is(err, rtnl.ErrNotFound) {
		err = nil
	}
	return errors.Join(err, clear(conn, vrf))
}

// settling is how long to wait for the routes to a link's subnets, which come back
// some time after its addresses.
func settling() state.Patience {
	return state.Patience{Timeout: 3 * time.Second, Pause: 2 * time.Millisecond, Longest: 100 * time.Millisecond}
}

// restore gives the link what it had, with the routes of the main table in
// another one. It attempts all routes and joins the errors.
func (b *belongings) restore(ctx context.Context, conn *rtnl.Conn, table int) error {
	has, err := conn.Addrs(b.link.Index)
	if err != nil {
		return err
	}
	for _, a := range b.addrs {
		if slices.ContainsFunc(has, func(h rtnl.Addr) bool { return h.Prefix == a.Prefix }) {
			continue
		}
		if err := conn.AddAddr(b.link.Index, a); err != nil && !errors.Is(err, rtnl.ErrExists) {
			return err
		}
	}
	if !b.link.Up {
		return nil // it has no routes
	}
	var errs []error
	patience := settling()
	for _, r := range b.routes {
		if r.Table == unix.RT_TABLE_MAIN {
			r.Table = table
		}
		if err := put(ctx, conn, r, patience); err != nil {
			errs, patience = append(errs, err), state.Patience{} // once is enough
		}
	}
	return errors.Join(errs...)
}

// put makes a route as soon as there is what it needs: one to its gateway, and its
// source address in the VRF.
func put(ctx context.Context, conn *rtnl.Conn, r rtnl.SavedRoute, patience state.Patience) error {
	var last error
	_, err := patience.Await(ctx, func() (bool, error) {
		last = conn.RestoreRoute(r)
		if errors.Is(last, rtnl.ErrExists) {
			last = nil
		}
		early := errors.Is(last, unix.ENETUNREACH) || errors.Is(last, unix.EHOSTUNREACH) || errors.Is(last, unix.EINVAL) && r.Src.IsValid()
		return !early, nil
	})
	return errors.Join(err, last)
}

// clear deletes a VRF that has no members.
func clear(conn *rtnl.Conn, vrf *rtnl.Link) error {
	links, err := conn.Links()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(links, func(l *rtnl.Link) bool { return l.Master == vrf.Index }) {
		return nil
	}
	if err := conn.DelLink(vrf.Index); err != nil && !errors.Is(err, rtnl.ErrNotFound) {
		return err
	}
	return nil
}

// Diff compares the VRF and the link's master. Addresses and routes are compared
// by who gave them.
func (m Member) Diff(_ context.Context, r state.Reader) ([]state.Drift, error) {
	conn, err := r.Route(state.Sandbox)
	if errors.Is(err, state.ErrNoSandbox) {
		return state.Missing(m.Key()), nil
	}
	if err != nil {
		return nil, err
	}
	vrf, err := conn.Link(m.VRF)
	if errors.Is(err, rtnl.ErrNotFound) {
		return state.Missing(link.SandboxKey(m.VRF)), nil
	}
	if err != nil {
		return nil, err
	}
	l, err := conn.Link(m.Link)
	if errors.Is(err, rtnl.ErrNotFound) {
		return state.Missing(link.SandboxKey(m.Link)), nil
	}
	if err != nil {
		return nil, err
	}
	var drifts []state.Drift
	drift := func(key state.Key, field string, want, got any) {
		if want != got {
			drifts = append(drifts, state.Drift{Key: key, Field: field, Want: fmt.Sprint(want), Got: fmt.Sprint(got)})
		}
	}
	drift(link.SandboxKey(m.VRF), "kind", "vrf", vrf.Kind)
	drift(link.SandboxKey(m.VRF), "up", true, vrf.Up)
	if m.Table != 0 {
		drift(link.SandboxKey(m.VRF), "table", m.Table, vrf.Table)
	}
	drift(link.SandboxKey(m.Link), "master", fmt.Sprintf("%s (index %d)", m.VRF, vrf.Index), masterOf(conn, l))
	return drifts, nil
}

func masterOf(conn rtnl.Reader, l *rtnl.Link) string {
	if l.Master == 0 {
		return "none"
	}
	name := "?"
	if master, err := conn.LinkByIndex(l.Master); err == nil {
		name = master.Name
	}
	return fmt.Sprintf("%s (index %d)", name, l.Master)
}

// Kind takes links out of VRFs.
type Kind struct{}

var _ state.Kind = Kind{}

// Kind returns "vrf".
func (Kind) Kind() string { return kindName }

// Remove takes the link out of the VRF, if it is there and has the hardware
// address that the key names, and deletes a VRF that has no members.
func (Kind) Remove(ctx context.Context, k *state.Kernel, obj state.Object, _ state.Owner) error {
	conn, unlock, err := lock(ctx, k)
	if errors.Is(err, state.ErrNoSandbox) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	words := append(strings.Fields(obj.Key.Name), "", "", "")
	vrf, err := conn.Link(words[1])
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil
	}
	if err != nil || vrf.Kind != "vrf" {
		return err
	}
	l, err := conn.Link(words[0])
	if err == nil && l.Master == vrf.Index && (words[2] == "" || words[2] == l.MAC.String()) {
		err = conn.SetMaster(l.Index, 0)
	}
	if err != nil && !errors.Is(err, rtnl.ErrNotFound) {
		return err
	}
	return clear(conn, vrf)
}

// Garbage finds nothing: VRFs go with their sandbox.
func (Kind) Garbage(context.Context, state.Reader, string, []state.Owner) ([]state.Found, error) {
	return nil, nil
}
