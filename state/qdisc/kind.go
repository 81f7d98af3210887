package qdisc

import (
	"context"
	"strings"

	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

// Kind removes limits and redirections from links that outlive the attachment.
type Kind struct{}

var _ state.Kind = Kind{}

// Kind returns "qdisc".
func (Kind) Kind() string { return kindName }

// Remove removes what our record names; a queueing discipline does not tell
// whose it is.
func (Kind) Remove(_ context.Context, k *state.Kernel, obj state.Object, _ state.Owner) error {
	if !obj.Recorded {
		return nil
	}
	_, link, err := find(k.Reader(), obj.Key.NS, strings.Fields(obj.Key.Name)[0])
	if err != nil || link == nil {
		return err
	}
	conn, err := k.Route(obj.Key.NS)
	if err != nil {
		return err
	}
	if strings.HasSuffix(obj.Key.Name, " ingress") {
		return remove(conn, link.Index, rtnl.QIngress)
	}
	return remove(conn, link.Index, rtnl.QRoot)
}

// Garbage finds nothing: a limit goes with its link.
func (Kind) Garbage(context.Context, state.Reader, string, []state.Owner) ([]state.Found, error) {
	return nil, nil
}
