package link

import (
	"context"
	"errors"
	"fmt"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

// A Bridge is a virtual switch on the host, up, and shared by attachments. One
// that we make has a hardware address of its own from the start, which
// therefore doesn't change as ports come and go.
type Bridge struct {
	Name        string
	MTU         int  // when it is made; 0 is the kernel's default. Not compared: it follows the ports'.
	Promiscuous bool // false is not managed

	// FiltersVLANs makes it tell VLANs apart; false is not managed.
	FiltersVLANs bool
}

var _ state.Resource = Bridge{}

// Key names the bridge.
func (b Bridge) Key() state.Key { return Key(b.Name) }

// Ensure makes the bridge unless it is there.
//
// It fails with state.CodeConflict if the name is that of another kind of
// device, and with cni.CodeUnavailable if the kernel has no bridges, or none
// that tell VLANs apart.
func (b Bridge) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(state.Host)
	if err != nil {
		return nil, err
	}
	found, err := conn.Known(b.Name)
	if errors.Is(err, rtnl.ErrNotFound) {
		found, err = b.add(k, conn)
	}
	if err != nil {
		return nil, err
	}
	if found.Kind != "bridge" {
		return nil, cni.Errorf(state.CodeConflict, "interface %s already exists on the host and is not a bridge (%s); choose another name",
			b.Name, describe(found))
	}
	if b.FiltersVLANs && !found.FiltersVLANs {
		if err := b.filterVLANs(k, conn, found); err != nil {
			return nil, err
		}
	}
	var change rtnl.Change
	if !found.Up {
		change.Up = ptr(true)
	}
	if b.Promiscuous && found.Promisc == 0 {
		change.Promisc = ptr(true)
	}
	if change.Up == nil && change.Promisc == nil {
		return nil, nil
	}
	if err := conn.SetLink(found.Index, change); err != nil {
		return nil, fmt.Errorf("%s: %w", b.Name, err)
	}
	return nil, nil
}

// add makes the bridge, or finds the one of another ADD that was faster. A kernel
// that lacks what is asked for is found out before: nobody would remove what is
// shared.
func (b Bridge) add(k *state.Kernel, conn *rtnl.Conn) (*rtnl.Link, error) {
	if b.FiltersVLANs {
		if err := VLANsAvailable(k.Reader()); err != nil {
			return nil, err
		}
	}
	err := conn.AddBridge(rtnl.End{Name: b.Name, MAC: randomMAC()}, b.MTU)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, Lacking("bridge")
	}
	if err != nil && !errors.Is(err, rtnl.ErrExists) {
		return nil, err
	}
	return conn.Link(b.Name)
}

// filterVLANs makes sure that the kernel did as it was told.
func (b Bridge) filterVLANs(k *state.Kernel, conn *rtnl.Conn, found *rtnl.Link) error {
	err := conn.FilterVLANs(found.Index)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%s: %w", b.Name, err)
	}
	now, err := conn.Link(b.Name)
	if err != nil || now.FiltersVLANs {
		return err
	}
	if err := VLANsAvailable(k.Reader()); err != nil {
		return err
	}
	return cni.Errorf(state.CodeConflict, "bridge %s does not begin to tell VLANs apart", b.Name).
		WithDetails("something else on the host keeps it from that; look at its vlan_filtering by ip -d link show " + b.Name)
}

// Diff compares the bridge's kind and state.
func (b Bridge) Diff(_ context.Context, r state.Reader) ([]state.Drift, error) {
	found, err := look(r, state.Host, b.Name)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return state.Missing(b.Key()), nil
	}
	c := comparison{key: b.Key()}
	compare(&c, "kind", "bridge", found.Kind)
	compare(&c, "up", true, found.Up)
	if b.FiltersVLANs {
		compare(&c, "VLAN filtering", true, found.FiltersVLANs)
	}
	if b.Promiscuous {
		compare(&c, "promiscuous", true, found.Promisc > 0)
	}
	return c.drifts, nil
}
