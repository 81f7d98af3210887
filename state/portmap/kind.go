package portmap

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

// Kind removes and finds mappings: of either back end, and plumb's own or the
// reference's.
type Kind struct{}

var _ state.Coverer = Kind{}

// Kind returns "portmap".
func (Kind) Kind() string { return kindName }

// Remove removes the elements with the key's tag, and whatever rules the owner
// has from the reference or with iptables, and ends the flows of UDP that
// followed them. It starts no process unless there are rules of the legacy
// iptables.
func (Kind) Remove(ctx context.Context, k *state.Kernel, obj state.Object, o state.Owner) error {
	if chain := obj.Key.Name; strings.HasPrefix(chain, chainPrefix) {
		return removeChain(ctx, k, chain)
	}
	conn, err := k.NFT()
	if err != nil {
		return err
	}
	what, err := parseKey(obj.Key.Name)
	if err != nil {
		return err
	}
	var errs []error
	removed, err := what.remove(ctx, conn)
	if !errors.Is(err, nftconn.ErrUnsupported) {
		errs = append(errs, err)
	}
	var gone []forward
	for _, e := range removed {
		if f, ok := e.forward(); ok {
			gone = append(gone, f)
		}
	}
	if what.tag == o.Tag() {
		more, err := removeForeign(ctx, k, conn, o, what.addrs)
		gone, errs = append(gone, more...), append(errs, err)
	}
	err = flushUDP(ctx, conn, gone, func(f forward, flow nftconn.Flow) bool {
		return flow.Answerer.Addr() == f.to.Addr()
	})
	return errors.Join(append(errs, err)...)
}

// Covers tells whether a recorded key names the ports of an owner, of whom a
// computed one names none: to remove that, everybody's are looked through.
func (Kind) Covers(recorded, computed state.Key) bool {
	known, err1 := parseKey(recorded.Name)
	wanted, err2 := parseKey(computed.Name)
	return err1 == nil && err2 == nil && known.tag == wanted.tag && known.claims != nil && wanted.claims == nil
}

// removeForeign removes what an owner has of the reference's and of iptables'
// rules, and returns what they mapped.
func removeForeign(ctx context.Context, k *state.Kernel, c *nftconn.Conn, o state.Owner, addrs []netip.Addr) (gone []forward, err error) {
	x, err := readForeign(ctx, c)
	if err != nil {
		return nil, err
	}
	var errs []error
	if slices.ContainsFunc(x.referenceHoldings(), func(h holding) bool { return h.owner.ContainerID == o.ContainerID }) {
		removed, err := removeReference(ctx, c, o.ContainerID, addrs)
		gone, errs = append(gone, removed...), append(errs, err)
	}
	chain := containerChain(o)
	held := containers(x.iptablesHoldings(), chain)
	there := slices.ContainsFunc(nftconn.Families(), func(f nftconn.Family) bool {
		return slices.ContainsFunc(x.iptables(f), func(r nftconn.Rule) bool { return r.Chain == chain || r.Jump() == chain })
	})
	if there {
		gone, errs = append(gone, held...), append(errs, removeChain(ctx, k, chain))
	}
	return gone, errors.Join(errs...)
}

// Garbage returns the elements by their tags, and the chains of iptables by
// their comments. The rules that the reference makes with nftables name the
// container, but not the network: they are for DEL alone.
func (Kind) Garbage(ctx context.Context, r state.Reader, network string, valid []state.Owner) (found []state.Found, err error) {
	conn, err := r.NFT()
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool)
	add := func(name string, o state.Owner) {
		if !seen[name] {
			seen[name] = true
			found = append(found, state.Found{Key: state.Key{NS: state.Host, Kind: kindName, Name: name}, Owner: o})
		}
	}
	names := nftconn.MapsQuery{Table: nftconn.Own()}
	if _, err := conn.Read(ctx, &names); err != nil && !errors.Is(err, nftconn.ErrUnsupported) {
		return nil, err
	}
	s, stale := readNames(names.Names), state.Stale(network, valid)
	_, err = elements(ctx, conn, slices.Concat(s.maps(), s.sources(), s.unders(names.Names)), func(e entry) bool {
		if o, ok := state.ParseTag(e.Comment); ok && stale(o) {
			add(Key(o).Name, o)
		}
		return false
	})
	if err != nil && !errors.Is(err, nftconn.ErrUnsupported) {
		return nil, err
	}
	x, err := readForeign(ctx, conn)
	if err != nil {
		return nil, err
	}
	spared := state.Named(valid, containerChain)
	for _, f := range nftconn.Families() {
		for _, rule := range x.iptables(f) {
			o, ok := commentOwner(rule.Comment)
			if ok && rule.Jump() == containerChain(o) && o.On(network) && !spared[containerChain(o)] {
				add(containerChain(o), o)
			}
		}
	}
	return found, nil
}
