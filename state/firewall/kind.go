package firewall

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/internal/addrstore"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

// Kind removes and finds admissions: of any back end, and plumb's own or the
// reference's.
type Kind struct{}

var _ state.Kind = Kind{}

// Kind returns "firewall".
func (Kind) Kind() string { return kindName }

// Remove removes what admits the addresses of a key. Rules of iptables do not
// tell whose they are: those of an address are removed unless plumb has admitted
// it for somebody else since, or host-local has given it to another container.
func (Kind) Remove(ctx context.Context, k *state.Kernel, obj state.Object, o state.Owner) error {
	tag, zone, addrs, err := parseKey(obj.Key.Name)
	if err != nil {
		return err
	}
	if o.Tag() != tag {
		o, _ = state.ParseTag(tag)
	}
	return remove(ctx, k, removal{owner: o, tag: tag, addrs: addrs, zone: zone})
}

// A removal is of the addresses that an owner has, or, if there are none, of all
// whose elements carry the tag. The owner may be one of state.ParseTag. Zone is
// that of firewalld, or empty.
type removal struct {
	owner state.Owner
	tag   string // the owner's
	addrs []netip.Addr
	zone  string
}

func remove(ctx context.Context, k *state.Kernel, m removal) error {
	conn, err := k.NFT()
	if err != nil {
		return err
	}
	mine, err := m.removeNFT(ctx, conn)
	if errors.Is(err, nftconn.ErrUnsupported) {
		mine, err = m.addrs, nil
	}
	return errors.Join(err, removeLegacy(ctx, k, mine), removeSources(ctx, m.zone, mine))
}

// removeNFT removes what there is in nftables, and returns the addresses that
// are nobody else's.
func (m removal) removeNFT(ctx context.Context, c *nftconn.Conn) (mine []netip.Addr, err error) {
	err = nftconn.Retry(ctx, func() error {
		mine = nil
		addrs := m.addrs
		if addrs == nil {
			var err error
			if addrs, err = tagged(ctx, c, func(tag string) bool { return tag == m.tag }); err != nil || addrs == nil {
				return err
			}
		}
		v, err := look(ctx, c, addrs, "", false)
		if err != nil {
			return err
		}
		if mine, err = m.mine(v, addrs); err == nil && v.unnoted(mine) {
			if v, err = look(ctx, c, addrs, "", true); err == nil {
				mine, err = m.mine(v, addrs)
			}
		}
		if err != nil {
			return err
		}
		var tx nftconn.Tx
		tx.Guard(v.gen) // an address may get a new owner at any time
		for _, q := range v.elements() {
			if q.Element != nil && (q.Element.Comment == m.tag || q.Element.Comment == "" && ofAny(q.Key, mine)) {
				tx.DeleteElements(q.Map, q.Key)
			}
		}
		for _, x := range v.xt {
			change := x.expel(ofFamily(x.family, mine))
			change.into(&tx, x)
		}
		return c.Commit(ctx, &tx)
	})
	return mine, err
}

// mine returns those of the addresses that are nobody else's.
func (m removal) mine(v *view, addrs []netip.Addr) (mine []netip.Addr, err error) {
	elements := slices.Concat(v.own.entries, v.admitted)
	for _, a := range addrs {
		if m.others(a, elements) {
			continue
		}
		stranger, err := m.stranger(a)
		if err != nil {
			return nil, err
		}
		if !stranger {
			mine = append(mine, a)
		}
	}
	return mine, nil
}

// stranger tells whether another container holds an address by now, which the
// reference may have attached: its rules are about the address and name nobody.
// Host-local's record of the address says it, if that is in the default folder.
// With another folder or IPAM plugin it can't be told.
func (m removal) stranger(a netip.Addr) (bool, error) {
	holder, err := addrstore.Holder(addrstore.DefaultDir, m.owner.Network, a)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	other := m.owner
	other.ContainerID = holder.ContainerID
	return err == nil && !other.Same(m.owner), err
}

// elements returns those that the addresses have anywhere.
func (v *view) elements() []*nftconn.ElementQuery {
	elements := slices.Concat(v.own.entries, v.admitted)
	for _, f := range v.others {
		elements = append(elements, f.entries...)
	}
	for _, x := range v.xt {
		for _, n := range x.notes {
			elements = append(elements, &n.element)
		}
	}
	return elements
}

// unnoted tells whether there may be rules of addresses that are not noted.
func (v *view) unnoted(addrs []netip.Addr) bool {
	for _, x := range v.xt {
		for _, n := range x.notes {
			if n.element.Element == nil && slices.Contains(addrs, n.addr) && slices.Contains(x.chains, cniForward) {
				return true
			}
		}
	}
	return false
}

// others tells whether an address is admitted for somebody else.
func (m removal) others(a netip.Addr, elements []*nftconn.ElementQuery) bool {
	found := false
	for _, q := range elements {
		// Without a tag, which somebody has taken away, it is nobody else's.
		if q.Element == nil || q.Element.Comment == "" || !slices.Equal(q.Key, a.AsSlice()) {
			continue
		}
		if q.Element.Comment == m.tag {
			return false
		}
		found = true
	}
	return found
}

// ofAny tells whether a key is one of the addresses.
func ofAny(key []byte, addrs []netip.Addr) bool {
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Equal(key, a.AsSlice()) })
}

// tagged returns the addresses whose elements carry a right tag.
func tagged(ctx context.Context, r nftconn.Reader, right func(tag string) bool) ([]netip.Addr, error) {
	elements, err := allElements(ctx, r)
	var addrs []netip.Addr
	for _, e := range elements {
		if a, ok := netip.AddrFromSlice(e.Key); ok && right(e.Comment) && !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	return addrs, err
}

func allElements(ctx context.Context, r nftconn.Reader) ([]nftconn.Element, error) {
	var queries []nftconn.Query
	for _, f := range nftconn.Families() {
		for _, name := range []string{acceptSet, admittedSet} {
			queries = append(queries, &nftconn.ElementsQuery{Map: addressSet(nftconn.Own(), name, f)})
		}
	}
	_, err := r.Read(ctx, queries...)
	var all []nftconn.Element
	for _, q := range queries {
		all = append(all, q.(*nftconn.ElementsQuery).Elements...)
	}
	return all, err
}

// Garbage returns what is admitted, by tag. What the reference has admitted
// does not tell for whom.
func (Kind) Garbage(ctx context.Context, r state.Reader, network string, valid []state.Owner) ([]state.Found, error) {
	conn, err := r.NFT()
	if err != nil {
		return nil, err
	}
	elements, err := allElements(ctx, conn)
	if errors.Is(err, nftconn.ErrUnsupported) {
		return nil, nil
	}
	stale := state.Stale(network, valid)
	byTag := make(map[string][]netip.Addr)
	for _, e := range elements {
		o, ok := state.ParseTag(e.Comment)
		a, whole := netip.AddrFromSlice(e.Key)
		if ok && whole && stale(o) && !slices.Contains(byTag[e.Comment], a) {
			byTag[e.Comment] = append(byTag[e.Comment], a)
		}
	}
	var found []state.Found
	for tag, addrs := range byTag {
		o, _ := state.ParseTag(tag)
		found = append(found, state.Found{Key: tagKey(tag, anyZone, addrs), Owner: o})
	}
	return found, err
}
