package macspoof

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

// Key names the check of an owner's port. With its address, which a record or a
// prevResult tells, removal costs the same however many there are; without,
// everybody's addresses are looked through if the port is checked at all.
func Key(o state.Owner, port, mac string) state.Key {
	name := o.Tag() + " " + port
	if mac != "" {
		name += " " + mac
	}
	return state.Key{NS: state.Host, Kind: kindName, Name: name}
}

// tagKey names all checks of an owner.
func tagKey(o state.Owner) state.Key {
	return state.Key{NS: state.Host, Kind: kindName, Name: o.Tag()}
}

// parseKey returns what Key or tagKey has written, with an empty port and no
// address if there are none.
func parseKey(name string) (tag, port string, mac net.HardwareAddr, err error) {
	tag, rest, ok := strings.Cut(name, " ")
	if !ok {
		return tag, "", nil, nil
	}
	port, address, ok := strings.Cut(rest, " ")
	if ok {
		mac, err = net.ParseMAC(address)
	}
	return tag, port, mac, err
}

// Kind removes and finds checks, plumb's and the reference's.
type Kind struct{}

var _ state.Kind = Kind{}

// Kind returns "macspoof".
func (Kind) Kind() string { return kindName }

// Remove removes the elements with the key's tag, and the reference's chains of
// the owner, which is one round trip where there is nothing.
func (Kind) Remove(ctx context.Context, k *state.Kernel, obj state.Object, o state.Owner) error {
	conn, err := k.NFT()
	if err != nil {
		return err
	}
	if strings.HasPrefix(obj.Key.Name, referencePrefix) {
		return removeReference(ctx, conn, obj.Key.Name)
	}
	tag, port, mac, err := parseKey(obj.Key.Name)
	if err != nil {
		return err
	}
	err = remove(ctx, conn, tag, port, mac)
	if err == nil && tag == o.Tag() {
		err = removeReference(ctx, conn, referenceName(o))
	}
	if errors.Is(err, nftconn.ErrUnsupported) {
		return nil
	}
	return err
}

// remove removes the elements that carry a tag: of a port and an address, of a
// port, or all.
func remove(ctx context.Context, conn *nftconn.Conn, tag, port string, mac net.HardwareAddr) error {
	return nftconn.Retry(ctx, func() error {
		var found *tagged
		var err error
		if port == "" {
			found, err = findTagged(ctx, conn, tag)
		} else {
			found, err = lookUp(ctx, conn, tag, Check{Port: port, MAC: mac})
		}
		if err != nil {
			return err
		}
		// Guarded, because a port's name may get a new owner at any time.
		var tx nftconn.Tx
		tx.Guard(found.gen)
		tx.DeleteElements(guarded(), found.ports...)
		tx.DeleteElements(allowed(), found.pairs...)
		return conn.Commit(ctx, &tx)
	})
}

// tagged are keys of elements that carry a tag.
type tagged struct {
	gen          nftconn.Generation
	ports, pairs [][]byte
}

// lookUp looks up the elements of a port. Its pairs are listed only if the
// address is not known.
func lookUp(ctx context.Context, r nftconn.Reader, tag string, c Check) (*tagged, error) {
	port := nftconn.ElementQuery{Map: guarded(), Key: c.port()}
	pair := nftconn.ElementQuery{Map: allowed(), Key: c.pair()}
	queries := []nftconn.Query{&port}
	if c.MAC != nil {
		queries = append(queries, &pair)
	}
	gen, err := r.Read(ctx, queries...)
	if err != nil {
		return nil, err
	}
	found := &tagged{gen: gen}
	// Without a tag, which somebody has taken away, they are nobody else's.
	if mine(port, tag) || mine(port, "") {
		found.ports = append(found.ports, port.Key)
	}
	if mine(pair, tag) || mine(pair, "") {
		found.pairs = append(found.pairs, pair.Key)
	}
	if c.MAC == nil && found.ports != nil {
		found.pairs, err = pairsOf(ctx, r, c.Port)
	}
	return found, err
}

func findTagged(ctx context.Context, r nftconn.Reader, tag string) (*tagged, error) {
	ports, pairs := nftconn.ElementsQuery{Map: guarded()}, nftconn.ElementsQuery{Map: allowed()}
	gen, err := r.Read(ctx, &ports, &pairs)
	keys := func(elements []nftconn.Element) (keys [][]byte) {
		for _, e := range elements {
			if e.Comment == tag {
				keys = append(keys, e.Key)
			}
		}
		return keys
	}
	return &tagged{gen: gen, ports: keys(ports.Elements), pairs: keys(pairs.Elements)}, err
}

// Garbage returns the elements by their tags, and those chains of the reference
// that check a port which is not there any more: they don't tell of which
// network they were.
func (Kind) Garbage(ctx context.Context, r state.Reader, network string, valid []state.Owner) ([]state.Found, error) {
	conn, err := r.NFT()
	if err != nil {
		return nil, err
	}
	ports, pairs := nftconn.ElementsQuery{Map: guarded()}, nftconn.ElementsQuery{Map: allowed()}
	_, err = conn.Read(ctx, &ports, &pairs)
	if errors.Is(err, nftconn.ErrUnsupported) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	stale := state.Stale(network, valid)
	found := make(map[string]state.Found) // by tag
	for _, e := range slices.Concat(ports.Elements, pairs.Elements) {
		if o, ok := state.ParseTag(e.Comment); ok && stale(o) {
			found[e.Comment] = state.Found{Key: tagKey(o), Owner: o}
		}
	}
	list, err := referenceGarbage(ctx, r, conn, network, valid)
	for _, f := range found {
		list = append(list, f)
	}
	return list, err
}
