package masquerade

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

// Kind removes and finds masquerading: of either back end, and plumb's own or
// the reference's.
type Kind struct{ valid []state.Owner }

var _ state.Kind = Kind{}

// Kind returns "masquerade".
func (Kind) Kind() string { return kindName }

// Keep returns the kind as GC needs it. The reference's rules and those of
// iptables do not always tell whose they are, but always whose they are not: if
// Search knows all valid attachments of a network it also finds those that
// belong to none of them.
func (Kind) Keep(valid []state.Owner) state.Kind {
	return Kind{valid: append([]state.Owner{}, valid...)} // never nil
}

// Besides by tags, keys name what Search found and no owner can be told of: the
// chain of a container by its name, and rules of the reference by their mark.
const markPrefix = "cni_plugins_masquerade/"

// Remove removes the elements with the key's tag, and whatever rules the owner
// has from the reference or with iptables. It starts no process unless there
// are rules of the legacy iptables.
func (k Kind) Remove(ctx context.Context, kernel *state.Kernel, key state.Key, o state.Owner) error {
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
	reference := nftconn.HasChain{Table: referenceTable(), Name: referenceChain}
	queries := []nftconn.Query{&reference}
	var chains []*nftconn.HasChain
	for _, f := range families() {
		q := &nftconn.HasChain{Table: natOf(f), Name: chain}
		chains, queries = append(chains, q), append(queries, q)
	}
	var errs []error
	err = removeElements(ctx, conn, tag, addrs, queries...)
	if !errors.Is(err, nftconn.ErrUnsupported) {
		errs = append(errs, err)
	}
	if reference.Found {
		errs = append(errs, removeReference(ctx, conn, mark(o)))
	}
	for i, f := range families() {
		if chains[i].Found {
			errs = append(errs, removeNFTChain(ctx, conn, f, chain, addrs))
		}
		errs = append(errs, removeLegacyChain(ctx, kernel, f, chain, addrs))
	}
	return errors.Join(errs...)
}

// Search returns the attachments that have elements, and what it finds of the
// reference's and of iptables' rules (see Keep).
func (k Kind) Search(ctx context.Context, r state.Reader, prefix string) ([]state.Found, error) {
	conn, err := r.NFT()
	if err != nil {
		return nil, err
	}
	s := search{kind: k, prefix: prefix, seen: make(map[string]bool)}
	elements, err := allElements(ctx, conn)
	if err != nil && !errors.Is(err, nftconn.ErrUnsupported) {
		return nil, err
	}
	tagged := make(map[string][]netip.Addr)
	for _, e := range elements {
		if addr, ok := netip.AddrFromSlice(e.Key); ok && strings.HasPrefix(e.Comment, prefix) {
			tagged[e.Comment] = append(tagged[e.Comment], addr)
		}
	}
	for tag, addrs := range tagged {
		s.add(tagKey(tag, addrs).Name, tag)
	}
	checks := nftconn.RulesQuery{Table: referenceTable(), Chain: referenceChain}
	_, err = conn.Read(ctx, &checks)
	if err != nil && !errors.Is(err, nftconn.ErrUnsupported) {
		return nil, err
	}
	for _, rule := range checks.Rules {
		s.reference(rule)
	}
	for _, f := range families() {
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
	v4, v6 := nftconn.ElementsQuery{Map: addressMap(nftconn.IPv4)}, nftconn.ElementsQuery{Map: addressMap(nftconn.IPv6)}
	_, err := r.Read(ctx, &v4, &v6)
	return append(v4.Elements, v6.Elements...), err
}

// search collects what Search finds.
type search struct {
	kind   Kind
	prefix string
	seen   map[string]bool // names
	found  []state.Found
}

// add adds an object under a name, once.
func (s *search) add(name, tag string) {
	if !s.seen[name] {
		s.seen[name] = true
		s.found = append(s.found, state.Found{Key: state.Key{NS: state.Host, Kind: kindName, Name: name}, Tag: tag})
	}
}

// garbage tells whether something of a network that no owner of can be told is
// to be found: by its network, and only if it is of no valid attachment.
func (s *search) garbage(network string, of func(state.Owner) bool) bool {
	return s.kind.valid != nil && s.prefix == state.NetworkTag(network) && !slices.ContainsFunc(s.kind.valid, of)
}

func (s *search) reference(rule nftconn.Rule) {
	o, whole := markOwner(rule.Comment)
	switch {
	case whole:
		if strings.HasPrefix(o.Tag(), s.prefix) {
			s.add(markPrefix+mark(o), o.Tag())
		}
	case o.Network == "":
	case s.garbage(o.Network, func(v state.Owner) bool { return marked(rule.Comment, mark(v)) }):
		s.add(markPrefix+rule.Comment[:markLen], o.Tag())
	}
}

func (s *search) iptables(rule nftconn.Rule) {
	o, ok := commentOwner(rule.Comment)
	if !ok {
		return
	}
	same := func(v state.Owner) bool { return containerChain(v) == containerChain(o) }
	if (rule.Chain == containerChain(o) || rule.Jump() == containerChain(o)) && s.garbage(o.Network, same) {
		s.add(containerChain(o), o.Tag())
	}
}
