package addr

import (
	"context"
	"net/netip"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/announce"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

// Announced is the neighbours' knowing of addresses of a link: whoever had one
// of them before may have had another hardware address. It is an action, with
// nothing to compare or to undo.
type Announced struct {
	NS    state.NS
	Link  string
	Addrs []netip.Addr

	// Port is the link's other end on the host if that is a bridge's port,
	// which drops what it is sent until it forwards.
	Port string
}

var _ state.Resource = Announced{}

// The kernel opens a port a moment after the link has come up.
const (
	portTimeout = 3 * time.Second
	portPause   = 200 * time.Microsecond
)

// Key names the state by its link.
func (a Announced) Key() state.Key {
	return state.Key{NS: a.NS, Kind: "announced addresses", Name: a.Link}
}

// Ensure waits for the port and sends the announcements. It fails with
// cni.CodeTryAgain if the port does not forward within 3 s.
func (a Announced) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	if err := a.waitForPort(ctx, k); err != nil {
		return nil, err
	}
	conn, err := k.Route(a.NS)
	if err != nil {
		return nil, err
	}
	link, err := conn.Known(a.Link)
	if err != nil {
		return nil, err
	}
	ns, err := k.Namespace(a.NS)
	if err != nil {
		return nil, err
	}
	return nil, announce.Send(ns, link.Index, link.MAC, a.Addrs)
}

func (a Announced) waitForPort(ctx context.Context, k *state.Kernel) error {
	if a.Port == "" {
		return nil
	}
	host, err := k.Route(state.Host)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(portTimeout)
	for {
		port, err := host.Link(a.Port)
		if err != nil {
			return err
		}
		if port.PortState == rtnl.PortForwarding {
			return nil
		}
		if time.Now().After(deadline) {
			return cni.Errorf(cni.CodeTryAgain, "the bridge's port %s does not forward after %s (state %d); is spanning tree on?",
				a.Port, portTimeout, port.PortState)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(portPause):
		}
	}
}

// Diff reports nothing.
func (Announced) Diff(context.Context, state.Reader) ([]state.Drift, error) { return nil, nil }
