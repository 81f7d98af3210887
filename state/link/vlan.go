package link

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

// A VLANRange is the VLANs from First to Last (IEEE 802.1Q, 1 to 4094).
type VLANRange struct{ First, Last int }

func (r VLANRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// PortVLANs are the VLANs that a bridge's port on the host is a member of. The
// bridge has to tell VLANs apart. It vanishes with the port.
type PortVLANs struct {
	Bridge string
	Port   string

	// Native is the VLAN of frames without a tag; 0 leaves that to the
	// bridge, whose ports are born into its default one.
	Native int

	// Trunk are those whose frames have tags.
	Trunk []VLANRange

	// KeepDefault lets the port stay in the bridge's default VLAN, from which
	// Native takes it otherwise.
	KeepDefault bool
}

var _ state.Resource = PortVLANs{}

// Key names the state by the port.
func (p PortVLANs) Key() state.Key {
	return state.Key{NS: state.Host, Kind: "vlans", Name: p.Port}
}

// wanted returns the memberships: the trunk without the native VLAN, which
// comes last because it is the only one.
func (p PortVLANs) wanted() []rtnl.VLANs {
	var list []rtnl.VLANs
	add := func(first, last int) {
		if first <= last {
			list = append(list, rtnl.VLANs{First: first, Last: last})
		}
	}
	for _, r := range p.Trunk {
		if p.Native < r.First || p.Native > r.Last {
			add(r.First, r.Last)
			continue
		}
		add(r.First, p.Native-1)
		add(p.Native+1, r.Last)
	}
	if p.Native != 0 {
		list = append(list, rtnl.VLANs{First: p.Native, Last: p.Native, Native: true})
	}
	return list
}

// leaves returns the default VLAN if the port has to leave it, and 0 otherwise.
func (p PortVLANs) leaves(bridge *rtnl.Link) int {
	if p.Native == 0 || p.KeepDefault || bridge.DefaultVLAN == p.Native ||
		slices.ContainsFunc(p.Trunk, func(r VLANRange) bool { return r.First <= bridge.DefaultVLAN && bridge.DefaultVLAN <= r.Last }) {
		return 0
	}
	return bridge.DefaultVLAN
}

// Ensure makes the port a member. There is nothing to undo that the port's own
// removal does not.
func (p PortVLANs) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(state.Host)
	if err != nil {
		return nil, err
	}
	bridge, err := conn.Known(p.Bridge)
	if err != nil {
		return nil, err
	}
	port, err := conn.Known(p.Port)
	if err != nil {
		return nil, err
	}
	if wanted := p.wanted(); wanted != nil {
		if err := conn.AddVLANs(port.Index, wanted...); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Port, err)
		}
	}
	if vid := p.leaves(bridge); vid != 0 {
		err := conn.DelVLANs(port.Index, rtnl.VLANs{First: vid, Last: vid})
		if err != nil && !errors.Is(err, rtnl.ErrNotFound) {
			return nil, fmt.Errorf("%s: %w", p.Port, err)
		}
	}
	return nil, nil
}

// Diff reports VLANs that the port has left, that are not as they were made,
// and the default one if it is back.
func (p PortVLANs) Diff(_ context.Context, r state.Reader) ([]state.Drift, error) {
	bridge, err := look(r, state.Host, p.Bridge)
	if err != nil || bridge == nil {
		return state.Missing(Key(p.Bridge)), err
	}
	port, err := look(r, state.Host, p.Port)
	if err != nil || port == nil {
		return state.Missing(p.Key()), err
	}
	conn, err := r.Route(state.Host)
	if err != nil {
		return nil, err
	}
	got, err := conn.PortVLANs(port.Index)
	if err != nil {
		return nil, err
	}
	c := comparison{key: p.Key()}
	for _, want := range p.wanted() {
		for vid := want.First; vid <= want.Last; vid++ {
			i := slices.IndexFunc(got, func(v rtnl.VLANs) bool { return v.First <= vid && vid <= v.Last })
			compare(&c, fmt.Sprintf("member of VLAN %d", vid), true, i >= 0)
			if i >= 0 {
				compare(&c, fmt.Sprintf("VLAN %d native", vid), want.Native, got[i].Native)
				compare(&c, fmt.Sprintf("VLAN %d untagged", vid), want.Native, got[i].Untagged)
			}
			if len(c.drifts) > 0 {
				return c.drifts, nil // a range of thousands needs no more words
			}
		}
	}
	if vid := p.leaves(bridge); vid != 0 {
		back := slices.ContainsFunc(got, func(v rtnl.VLANs) bool { return v.First <= vid && vid <= v.Last })
		compare(&c, fmt.Sprintf("member of VLAN %d", vid), false, back)
	}
	return c.drifts, nil
}

// A VLANPort is an interface of the host in one VLAN of a bridge, up, and shared
// by attachments: the end of a pair whose other end is a port of the bridge,
// as the reference makes it. The port's frames have no tags.
type VLANPort struct {
	Bridge string
	VLAN   int
	MTU    int // when it is made; 0 is the kernel's default. Not compared.
}

var _ state.Resource = VLANPort{}

// VLANPortName returns the name of a bridge's interface in a VLAN, which is the
// reference's.
func VLANPortName(bridge string, vlan int) string { return fmt.Sprintf("%s.%d", bridge, vlan) }

func (v VLANPort) name() string { return VLANPortName(v.Bridge, v.VLAN) }

// port is the name of the end that we make a port.
func (v VLANPort) port() string {
	sum := sha256.Sum256([]byte(v.name()))
	return "veth" + hex.EncodeToString(sum[:])[:11]
}

// Key names the interface.
func (v VLANPort) Key() state.Key { return Key(v.name()) }

// Ensure makes the pair unless it is there.
//
// It fails with state.CodeConflict if the name is that of an interface that is
// not connected to the bridge.
func (v VLANPort) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(state.Host)
	if err != nil {
		return nil, err
	}
	bridge, err := conn.Known(v.Bridge)
	if err != nil {
		return nil, err
	}
	found, err := conn.Known(v.name())
	if errors.Is(err, rtnl.ErrNotFound) {
		if err := v.add(k, conn, bridge); err != nil {
			return nil, err
		}
		found, err = conn.Link(v.name())
	}
	if err != nil {
		return nil, err
	}
	port, err := v.other(conn, found, bridge)
	if err == nil && port == nil {
		port, err = v.reconnect(conn, found, bridge)
	}
	if err != nil {
		return nil, err
	}
	if port == nil {
		return nil, cni.Errorf(state.CodeConflict, "interface %s already exists on the host and is not connected to the bridge (%s); rename it, or choose another bridge",
			found.Name, describe(found))
	}
	if _, err := v.membership(port).Ensure(ctx, k); err != nil {
		return nil, err
	}
	if !found.Up {
		return nil, conn.SetLink(found.Index, rtnl.Change{Up: ptr(true)})
	}
	return nil, nil
}

// add makes the pair. Another ADD may be faster.
func (v VLANPort) add(k *state.Kernel, conn *rtnl.Conn, bridge *rtnl.Link) error {
	here, err := k.Namespace(state.Host)
	if err != nil {
		return err
	}
	port, err := conn.AddVeth(rtnl.End{Name: v.port(), MAC: randomMAC()}, rtnl.End{Name: v.name(), MAC: randomMAC()}, here, v.MTU, bridge.Index)
	if errors.Is(err, rtnl.ErrExists) {
		return nil
	}
	if err != nil {
		return err
	}
	return conn.SetLink(port.Index, rtnl.Change{NoIPv6Address: true})
}

// reconnect makes our port one of the bridge again, which loses it when it is
// deleted and made anew. It returns nil if the pair is not ours, or a port of
// something else.
func (v VLANPort) reconnect(conn *rtnl.Conn, found, bridge *rtnl.Link) (*rtnl.Link, error) {
	port, err := conn.Link(v.port())
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil, nil
	}
	if err != nil || found.Peer != port.Index || found.PeerNS != rtnl.SameNS || port.Master != 0 {
		return nil, err
	}
	return port, conn.SetMaster(port.Index, bridge.Index)
}

// other returns the pair's end that is a port of the bridge, or nil if there is
// none.
func (v VLANPort) other(conn rtnl.Reader, found, bridge *rtnl.Link) (*rtnl.Link, error) {
	if found.Kind != "veth" || found.PeerNS != rtnl.SameNS {
		return nil, nil
	}
	port, err := conn.LinkByIndex(found.Peer)
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil, nil
	}
	if err != nil || port.Master != bridge.Index {
		return nil, err
	}
	return port, nil
}

func (v VLANPort) membership(port *rtnl.Link) PortVLANs {
	return PortVLANs{Bridge: v.Bridge, Port: port.Name, Native: v.VLAN}
}

// Diff compares that the interface is up and in its VLAN.
func (v VLANPort) Diff(ctx context.Context, r state.Reader) ([]state.Drift, error) {
	bridge, err := look(r, state.Host, v.Bridge)
	if err != nil || bridge == nil {
		return state.Missing(Key(v.Bridge)), err
	}
	found, err := look(r, state.Host, v.name())
	if err != nil || found == nil {
		return state.Missing(v.Key()), err
	}
	conn, err := r.Route(state.Host)
	if err != nil {
		return nil, err
	}
	port, err := v.other(conn, found, bridge)
	if err != nil {
		return nil, err
	}
	c := comparison{key: v.Key()}
	compare(&c, "up", true, found.Up)
	compare(&c, "connected to "+v.Bridge, true, port != nil)
	if port == nil {
		return c.drifts, nil
	}
	drifts, err := v.membership(port).Diff(ctx, r)
	return append(c.drifts, drifts...), err
}
