package masquerade

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"strings"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

// Kind removes and finds masquerading: of either back end, and plumb's own or
// the reference's.
type Kind struct{}

var _ state.Kind = Kind{}

// Kind returns "masquerade".
func (Kind) Kind() string { return kindName }

// Besides by tags, keys name what Garbage found and no owner can be told of: the
// chain of a container by its name, and rules of the reference by their mark.
const markPrefix = "cni_plugins_masquerade/"

// Remove removes the elements with the key's tag, and whatever rules the owner
// has from the reference or with iptables. It starts no process unless there
// are rules of the legacy iptables.
func (k Kind) Remove(ctx context.Context, kernel *state.Kernel, obj state.Object, o state.Owner) error {
	key := obj.Key
	if strings.HasPrefix(key.Name, chainPrefix) {
		return removeChain(ctx, kernel, key.Name, nil)
	}
	conn, err := kernel.NFT()
	if err != nil {
		return err
	}
	if mark, ok := strings.CutPrefix(key.Name, markPrefix); ok {
		return removeReference(ctx, conn, mark)
	}
	tag, addrs, err := parseKey(key.Name)
	if err != nil {
		return err
	}
	if o.Tag() != tag {
		return removeElements(ctx, conn, tag, addrs)
	}

	// One look tells for nearly every attachment that it has only elements.
	chain := containerChain(o)
	reference := nftconn.ChainQuery{Table: referenceTable(), Name: referenceChain}
	queries := []nftconn.Query{&reference}
	var chains []*nftconn.ChainQuery
	for _, f := range nftconn.Families() {
		q := &nftconn.ChainQuery{Table: natOf(f), Name: chain}
		chains, queries = append(chains, q), append(queries, q)
	}
	var errs []error
	elements, err := readOwned(ctx, conn, tag, addrs, queries...)
	if err == nil {
		err = elements.remove(ctx, conn, obj.Recorded)
	}
	if !errors.Is(err, nftconn.ErrUnsupported) {
		errs = append(errs, err)
	}
	if reference.Found {
		errs = append(errs, removeReference(ctx, conn, mark(o)))
	}
	ns, err := kernel.Namespace(state.Host)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for i, f := range nftconn.Families() {
		if chains[i].Found {
			errs = append(errs, removal(chain, addrs).NFT(ctx, conn, f))
		}
		errs = append(errs, removal(chain, addrs).Legacy(ctx, conn, ns, f))
	}
	return errors.Join(errs...)
}

// Garbage returns the elements by their tags, and what it finds of the
// reference's and of iptables' rules. Those do not always tell whose they are,
// but always whose they are not.
func (Kind) Garbage(ctx context.Context, r state.Reader, network string, valid []state.Owner) ([]state.Found, error) {
	conn, err := r.NFT()
	if err != nil {
		return nil, err
	}
	s, stale := newSearch(network, valid), state.Stale(network, valid)
	elements, err := allElements(ctx, conn)
	if err != nil && !errors.Is(err, nftconn.ErrUnsupported) {
		return nil, err
	}
	tagged := make(map[state.Owner][]netip.Addr)
	for _, e := range elements {
		o, ok := state.ParseTag(e.Comment)
		if addr, whole := netip.AddrFromSlice(e.Key); ok && whole && stale(o) {
			tagged[o] = append(tagged[o], addr)
		}
	}
	for o, addrs := range tagged {
		s.add(Key(o, addrs...).Name, o)
	}
	checks := nftconn.RulesQuery{Table: referenceTable(), Chain: referenceChain}
	_, err = conn.Read(ctx, &checks)
	if err != nil && !errors.Is(err, nftconn.ErrUnsupported) {
		return nil, err
	}
	for _, rule := range checks.Rules {
		s.reference(rule)
	}
	for _, f := range nftconn.Families() {
		nat := nftconn.RulesQuery{Table: natOf(f)}
		_, err := conn.Read(ctx, &nat)
		if err != nil && !errors.Is(err, nftconn.ErrUnsupported) {
			return nil, err
		}
		legacy, err := conn.Legacy(ctx, f, natTable)
		if err != nil {
			return nil, err
		}
		for _, rule := range append(nat.Rules, legacy.Rules...) {
			s.iptables(rule)
		}
	}
	return s.found, nil
}

func allElements(ctx context.Context, r nftconn.Reader) ([]nftconn.Element, error) {
	v4, v6 := nftconn.ElementsQuery{Map: hidden(nftconn.IPv4)}, nftconn.ElementsQuery{Map: hidden(nftconn.IPv6)}
	_, err := r.Read(ctx, &v4, &v6)
	return append(v4.Elements, v6.Elements...), err
}

// search collects what Garbage finds of others' rules.
type search struct {
	network string
	spared  map[string]bool // chains and marks of valid attachments
	seen    map[string]bool // names
	found   []state.Found
}

func newSearch(network string, valid []state.Owner) *search {
	s := &search{network: network, spared: state.Named(valid, containerChain), seen: make(map[string]bool)}
	maps.Copy(s.spared, state.Named(valid, mark))
	return s
}

// add adds an object under a name, once.
func (s *search) add(name string, o state.Owner) {
	if !s.seen[name] {
		s.seen[name] = true
		s.found = append(s.found, state.Found{Key: state.Key{NS: state.Host, Kind: kindName, Name: name}, Owner: o})
	}
}

func (s *search) reference(rule nftconn.Rule) {
	o, _ := markOwner(rule.Comment)
	if o.Network == "" || !o.On(s.network) {
		return
	}
	if mark := rule.Comment[:markLen]; !s.spared[mark] {
		s.add(markPrefix+mark, o)
	}
}

func (s *search) iptables(rule nftconn.Rule) {
	o, ok := commentOwner(rule.Comment)
	if !ok {
		return
	}
	chain := containerChain(o)
	if (rule.Chain == chain || rule.Jump() == chain) && o.On(s.network) && !s.spared[chain] {
		s.add(chain, o)
	}
}
