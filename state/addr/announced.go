package addr

import (
	"context"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

// Announced is the neighbours' knowing the addresses of a link: whoever had one
// of them before may have had another hardware address. It is an action, with
// nothing to compare or to undo.
//
// The kernel sends the announcements (RFC 5227 section 3, RFC 4861 section
// 7.2.6): it does whenever a link is given a hardware address, be it the one
// that it has, if the sysctls arp_notify and ndisc_notify are set. A packet
// socket of our own would cost a grace period of RCU to close.
type Announced struct {
	NS   state.NS
	Link string

	// Port is the link's other end on the host if that is a bridge's port,
	// which drops what it is sent until it has noticed the carrier.
	Port string
}

var _ state.Resource = Announced{}

// The kernel opens a port a moment after the link has come up.
const (
	portTimeout  = 3 * time.Second
	portPause    = 100 * time.Microsecond
	portMaxPause = 10 * time.Millisecond
)

// Key names the state by its link.
func (a Announced) Key() state.Key {
	return state.Key{NS: a.NS, Kind: "announced addresses", Name: a.Link}
}

// Ensure waits for the port and has the kernel announce the addresses. It fails with
// cni.CodeTryAgain if the port has no carrier within 3 s.
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
	return nil, conn.SetLink(link.Index, rtnl.Change{MAC: link.MAC})
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
	for pause := portPause; ; pause = min(2*pause, portMaxPause) {
		port, err := host.Link(a.Port)
		if err != nil {
			return err
		}
		if port.PortState != rtnl.PortDisabled {
			// It forwards, or spanning tree has its say first, for some 30 s.
			return nil
		}
		if time.Now().After(deadline) {
			return cni.Errorf(cni.CodeTryAgain, "the bridge's port %s has no carrier after %s", a.Port, portTimeout)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// Diff reports nothing.
func (Announced) Diff(context.Context, state.Reader) ([]state.Drift, error) { return nil, nil }
