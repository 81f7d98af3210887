package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

// A Veth is a pair of virtual Ethernet devices: the host end, which carries
// the owner's tag as its alias, and the peer in the sandbox, which is made
// down so that addresses can be given to it first.
type Veth struct {
	Owner state.Owner
	Name  string           // of the host end
	Peer  string           // of the end in the sandbox
	MAC   net.HardwareAddr // of the peer; nil makes a random one, and is not compared
	MTU   int              // of both ends; 0 is the kernel's default, and is not compared

	// PeerMTU is what the MTU of the peer has become since, by a later
	// plugin; 0 is not compared.
	PeerMTU int

	Bridge   string // makes the host end a port of this bridge
	Hairpin  bool   // of the port: frames may go back where they came from
	Isolated bool   // of the port: no frames to other isolated ports

	// Locked keeps the port from taking frames of the container until it is
	// [Unlocked].
	Locked bool

	// NoIPv6Address keeps the kernel from giving the host end a link-local
	// address, which a bridge port has no use for.
	NoIPv6Address bool
}

var _ state.Marked = Veth{}

// HostName returns the name of an owner's host end. The prefix is the one that
// udev rules and NetworkManager know to leave alone.
func HostName(o state.Owner) string { return "veth" + o.Hash()[:11] }

// Key names the pair by its host end.
func (v Veth) Key() state.Key { return Key(v.Name) }

// Marked reports whether the host end has the name that plumb gives it: a
// prevResult of another implementation names another.
func (v Veth) Marked(context.Context, state.Reader) (bool, error) {
	return v.Name == HostName(v.Owner), nil
}

// Ensure makes the pair. What the owner's own predecessor left under the host
// end's name is replaced, for its sandbox is another one.
//
// It fails with state.CodeConflict if either name is taken by something else,
// or if the bridge has no free port.
func (v Veth) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	host, err := k.Route(state.Host)
	if err != nil {
		return nil, err
	}
	sandbox, err := k.Route(state.Sandbox)
	if err != nil {
		return nil, err
	}
	end, err := v.add(k, host)
	if errors.Is(err, rtnl.ErrExists) {
		if err = v.makeRoom(k, host, sandbox); err == nil {
			end, err = v.add(k, host)
		}
	}
	if err != nil {
		return nil, err
	}
	undo := func(context.Context) error {
		if err := host.DelLink(end.Index); err != nil && !errors.Is(err, rtnl.ErrNotFound) {
			return err
		}
		return nil
	}
	change := rtnl.Change{Alias: ptr(v.Owner.Tag()), NoIPv6Address: v.NoIPv6Address}
	if v.Bridge != "" {
		change.Hairpin, change.Isolated = &v.Hairpin, &v.Isolated
		if v.Locked {
			change.Locked = &v.Locked
		}
	}
	if err := host.SetLink(end.Index, change); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", v.Name, err), undo(nil))
	}
	return undo, nil
}

// add makes the pair with addresses that are set, not left to chance, so that
// no udev policy gives it others.
func (v Veth) add(k *state.Kernel, host *rtnl.Conn) (*rtnl.Link, error) {
	ns, err := k.Namespace(state.Sandbox)
	if err != nil {
		return nil, err
	}
	master := 0
	if v.Bridge != "" {
		bridge, err := host.Known(v.Bridge)
		if err != nil {
			return nil, err
		}
		master = bridge.Index
	}
	mac := v.MAC
	if mac == nil {
		mac = randomMAC()
	}
	end, err := host.AddVeth(rtnl.End{Name: v.Name, MAC: randomMAC()}, rtnl.End{Name: v.Peer, MAC: mac}, ns, v.MTU, master)
	if errors.Is(err, unix.EXFULL) {
		return nil, cni.Errorf(state.CodeConflict,
			"bridge %s has 1023 ports, which is all the kernel allows; use a second bridge", v.Bridge)
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		if lacking := Available(k.Reader(), "veth"); lacking != nil {
			return nil, lacking
		}
	}
	return end, err
}

// makeRoom finds out which name is taken and by what. It removes what a
// predecessor of the owner left behind, and fails for anything else.
func (v Veth) makeRoom(k *state.Kernel, host, sandbox *rtnl.Conn) error {
	taken, err := sandbox.Link(v.Peer)
	if err == nil {
		return cni.Errorf(state.CodeConflict, "interface %s already exists in the sandbox (%s); "+
			"was this container added before without being deleted?", v.Peer, describeInside(k, sandbox, taken))
	}
	if !errors.Is(err, rtnl.ErrNotFound) {
		return err
	}
	taken, err = host.Link(v.Name)
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil // it was just about to go
	}
	if err != nil {
		return err
	}
	if taken.Alias != v.Owner.Tag() {
		return cni.Errorf(state.CodeConflict, "interface %s already exists on the host (%s)", v.Name, describe(taken))
	}
	if err := host.DelLink(taken.Index); err != nil && !errors.Is(err, rtnl.ErrNotFound) {
		return err
	}
	return nil
}

// describeInside says of a link in the sandbox what it is, what addresses it has
// and, if the other end is tagged, whose it is.
func describeInside(k *state.Kernel, sandbox *rtnl.Conn, l *rtnl.Link) string {
	text := describe(l)
	if addrs, err := sandbox.Addrs(l.Index); err == nil {
		for _, a := range addrs {
			if a.Scope == unix.RT_SCOPE_UNIVERSE {
				text += ", " + a.Prefix.String()
			}
		}
	}
	if end, err := OtherEnd(k.Reader(), l); err == nil && end != nil {
		if o, ok := state.ParseTag(end.Alias); ok {
			text += ", of " + o.String()
		}
	}
	return text
}

func describe(l *rtnl.Link) string {
	kind := l.Kind
	if kind == "" {
		kind = "a physical device"
	}
	if l.Alias == "" {
		return kind
	}
	return kind + ", alias " + l.Alias
}

// Diff compares both ends and that they belong together.
func (v Veth) Diff(_ context.Context, r state.Reader) ([]state.Drift, error) {
	host, err := look(r, state.Host, v.Name)
	if err != nil {
		return nil, err
	}
	if host == nil {
		return state.Missing(v.Key()), nil
	}
	peerKey := state.Key{NS: state.Sandbox, Kind: kindName, Name: v.Peer}
	peer, err := look(r, state.Sandbox, v.Peer)
	if err != nil {
		return nil, err
	}
	if peer == nil {
		return state.Missing(peerKey), nil
	}
	c := comparison{key: v.Key()}
	compare(&c, "kind", "veth", host.Kind)
	compare(&c, "peer", fmt.Sprintf("index %d in the sandbox", peer.Index), fmt.Sprintf("index %d in the sandbox", host.Peer))
	compare(&c, "up", true, host.Up)
	if v.MTU != 0 {
		compare(&c, "mtu", v.MTU, host.MTU)
	}
	if v.Bridge != "" {
		bridge, err := look(r, state.Host, v.Bridge)
		if err != nil {
			return nil, err
		}
		if bridge == nil {
			return append(c.drifts, state.Missing(Key(v.Bridge))...), nil
		}
		if err := compareMaster(&c, r, state.Host, bridge, host); err != nil {
			return nil, err
		}
		compare(&c, "hairpin", v.Hairpin, host.Hairpin)
		if v.Isolated { // otherwise a later plugin may have isolated it
			compare(&c, "isolated", true, host.Isolated)
		}
	}
	compare(&c, "other end of the peer", fmt.Sprintf("index %d on the host", host.Index), fmt.Sprintf("index %d on the host", peer.Peer))
	c.key = peerKey
	compare(&c, "kind", "veth", peer.Kind)
	if v.MAC != nil {
		compare(&c, "mac", v.MAC.String(), peer.MAC.String())
	}
	if v.PeerMTU != 0 {
		compare(&c, "mtu", v.PeerMTU, peer.MTU)
	}
	return c.drifts, nil
}

// randomMAC returns a random address that is locally administered and not a
// group's (IEEE 802, the two lowest bits of the first byte).
func randomMAC() net.HardwareAddr {
	mac := binary.LittleEndian.AppendUint64(nil, rand.Uint64())[:6]
	mac[0] = mac[0]&^1 | 2
	return mac
}

func ptr[T any](v T) *T { return &v }
