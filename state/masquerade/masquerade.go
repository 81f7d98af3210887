// Package masquerade is the state of an attachment's addresses being hidden
// behind the host's: packets that a container sends to anywhere outside its
// subnets get the address of the interface by which they leave.
//
// # Tables
//
// With nftables, all attachments share this:
//
//	table inet plumb {
//		set masq4 {
//			type ipv4_addr
//			elements = { 10.22.0.3 comment "plumb:net/id/eth0" }
//		}
//		set masq4-16 {
//			type ipv4_addr . ipv4_addr
//			elements = { 10.22.0.3 . 10.22.0.0 comment "plumb:net/id/eth0" }
//		}
//		set masq6 {
//			type ipv6_addr
//		}
//		chain masq4 {
//			ip saddr . ip daddr & 255.255.0.0 @masq4-16 return
//			ip daddr != 224.0.0.0/4 masquerade
//		}
//		chain masq6 {
//			ip6 daddr != ff00::/8 masquerade
//		}
//		chain masq-postrouting {
//			type nat hook postrouting priority srcnat; policy accept;
//			ip saddr @masq4 jump masq4
//			ip6 saddr @masq6 jump masq6
//		}
//	}
//
// An attachment is two elements for each of its addresses, with the owner's
// tag as their comment: that it is masqueraded, and which destinations are its
// own subnet. All are looked up by hash, so that neither a packet nor a change
// pays for how many there are. For each length of a subnet's prefix that is in
// use there is a set and a rule. (A map from the address to a chain of its
// subnet would do with one element. But a verdict that is a jump makes the
// kernel look at all elements whenever one is added.)
//
// Everybody who finds something shared missing or damaged mends it, in the
// transaction that adds the elements. Nothing shared is ever removed: without
// elements, it is two rules that match nothing. What removes elements reads
// them first and is guarded: the kernel refuses it if anything has changed
// since.
//
// With iptables, what is written is what the reference writes: a chain for
// each container, to which the rules of POSTROUTING for its addresses lead.
package masquerade

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/internal/iptables"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

const kindName = "masquerade"

// A Backend is the means.
type Backend string

// Backends. Auto is nftables where the kernel can, else iptables.
const (
	Auto     Backend = ""
	NFTables Backend = "nftables"
	IPTables Backend = "iptables"
)

// ParseBackend returns the back end that a configuration names.
func ParseBackend(name string) (Backend, error) {
	b := Backend(name)
	if !slices.Contains([]Backend{Auto, NFTables, IPTables}, b) {
		return "", fmt.Errorf("unknown masquerade backend %q: it is %q or %q", name, NFTables, IPTables)
	}
	return b, nil
}

// Available fails if a back end can't be used on this host: with
// nftconn.ErrUnsupported or iptables.ErrMissing.
func Available(ctx context.Context, r state.Reader, b Backend) error {
	if b != IPTables {
		conn, err := r.NFT()
		if err != nil {
			return err
		}
		_, err = conn.Read(ctx, &nftconn.TableQuery{Table: nftconn.Own()})
		if b == NFTables || !errors.Is(err, nftconn.ErrUnsupported) {
			return err
		}
	}
	return iptables.Installed(nftconn.IPv4)
}

// Masquerade hides the addresses of one attachment. It is of the host's
// namespace.
type Masquerade struct {
	Owner     state.Owner
	Addresses []netip.Prefix // the container's, with the lengths of their subnets
	Backend   Backend
}

var _ state.Resource = Masquerade{}

// Key names the masquerading of an owner. Where the addresses are known, from a
// prevResult or a record, its removal costs the same however many attachments
// there are. Without, everybody's are looked through.
func Key(o state.Owner, addrs ...netip.Addr) state.Key { return tagKey(o.Tag(), addrs) }

// tagKey writes the name of a key: a tag, and after a space the addresses,
// sorted and separated by commas.
func tagKey(tag string, addrs []netip.Addr) state.Key {
	name := tag
	sep := " "
	for _, a := range slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare) {
		name += sep + a.Unmap().String()
		sep = ","
	}
	return state.Key{NS: state.Host, Kind: kindName, Name: name}
}

// parseKey returns what tagKey has written.
func parseKey(name string) (tag string, addrs []netip.Addr, err error) {
	tag, list, found := strings.Cut(name, " ")
	if !found {
		return tag, nil, nil
	}
	for s := range strings.SplitSeq(list, ",") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return "", nil, err
		}
		addrs = append(addrs, a)
	}
	return tag, addrs, nil
}

// Key names the state by its owner and addresses.
func (m Masquerade) Key() state.Key {
	var addrs []netip.Addr
	for _, p := range m.addresses() {
		addrs = append(addrs, p.Addr())
	}
	return Key(m.Owner, addrs...)
}

// addresses returns the addresses in one form, each once.
func (m Masquerade) addresses() []netip.Prefix {
	var list []netip.Prefix
	for _, p := range m.Addresses {
		if p.Addr().Is4In6() {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}

// Ensure adds what is missing, and replaces what a dead attachment left for
// the same addresses.
func (m Masquerade) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	if _, err := ParseBackend(string(m.Backend)); err != nil {
		return nil, err
	}
	if m.Backend == IPTables {
		return m.ensureIPTables(ctx, k)
	}
	conn, err := k.NFT()
	if err != nil {
		return nil, err
	}
	added, err := m.ensureElements(ctx, conn, k.Alive)
	if errors.Is(err, nftconn.ErrUnsupported) && m.Backend == Auto {
		undo, err2 := m.ensureIPTables(ctx, k)
		if err2 != nil {
			err2 = errors.Join(err, err2)
		}
		return undo, err2
	}
	if err != nil || len(added) == 0 {
		return nil, err
	}
	return func(ctx context.Context) error {
		return removeElements(ctx, conn, m.Owner.Tag(), added)
	}, nil
}

// Diff reports what is missing or different. An attachment that the reference
// made, or that was made with another back end than the configuration names
// now, is compared with the rules that it got.
func (m Masquerade) Diff(ctx context.Context, r state.Reader) ([]state.Drift, error) {
	conn, err := r.NFT()
	if err != nil {
		return nil, err
	}
	drifts, mine, err := m.diffElements(ctx, conn)
	if err != nil && !errors.Is(err, nftconn.ErrUnsupported) || err == nil && len(drifts) == 0 {
		return drifts, err
	}
	nft := err == nil
	if mine {
		return drifts, nil
	}
	if nft {
		other, mine, err := m.diffReference(ctx, conn)
		if err != nil || mine {
			return other, err
		}
	}
	other, mine, err := m.diffIPTables(ctx, conn)
	if err != nil || mine || m.Backend == IPTables || !nft {
		return other, err
	}
	return drifts, nil
}

// drift is a difference in one part.
func (m Masquerade) drift(field, want, got string) state.Drift {
	return state.Drift{Key: m.Key(), Field: field, Want: want, Got: got}
}
