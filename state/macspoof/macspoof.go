// Package macspoof is the state of a bridge's ports being allowed to send from
// one hardware address alone.
//
// All attachments share this:
//
//	table bridge plumb {
//		set macspoof {
//			type ifname
//			elements = { "veth0123456789a" comment "plumb:net/id/eth0" }
//		}
//		set macspoof-allowed {
//			type ifname . ether_addr
//			elements = { "veth0123456789a" . 02:…:01 comment "plumb:net/id/eth0" }
//		}
//		chain macspoof {
//			iifname . ether saddr @macspoof-allowed return
//			drop
//		}
//		chain macspoof-prerouting {
//			type filter hook prerouting priority dstnat; policy accept;
//			iifname @macspoof jump macspoof
//		}
//	}
//
// An attachment is one element of either set, with the owner's tag as its
// comment. Both are looked up by hash, so that neither a frame nor a change
// pays for the number of attachments. The chains and sets are never removed:
// without elements they match nothing.
package macspoof

import (
	"context"
	"net"
	"slices"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

const kindName = "macspoof"

const (
	baseChain  = "macspoof-prerouting"
	checkChain = "macspoof"
)

func table() nftconn.Table { return nftconn.Table{Family: nftconn.Bridge, Name: nftconn.Own().Name} }

// guarded is the set of the ports that are checked.
func guarded() nftconn.Map {
	return nftconn.Map{Table: table(), Name: "macspoof", Key: []nftconn.Type{nftconn.IfName}}
}

// allowed is the set of the pairs of a port and its address.
func allowed() nftconn.Map {
	return nftconn.Map{Table: table(), Name: "macspoof-allowed", Key: []nftconn.Type{nftconn.IfName, nftconn.EtherAddr}}
}

// chains are those that attachments share, a chain after those that it jumps
// to.
func chains() []nftconn.Chain {
	return []nftconn.Chain{
		{Table: table(), Name: checkChain, Rules: []nftconn.Rule{
			{Exprs: append(nftconn.InputInterfaceAndSourceMAC(),
				nftconn.Lookup{Map: allowed().Name, Reg: nftconn.Reg}, nftconn.Verdict{Code: nftconn.Return})},
			{Exprs: []nftconn.Expr{nftconn.Verdict{Code: nftconn.Drop}}},
		}},
		{
			Table: table(), Name: baseChain,
			Hook: &nftconn.Hook{Type: "filter", Point: nftconn.Prerouting, Priority: nftconn.BridgeDstNAT},
			Rules: []nftconn.Rule{{Exprs: []nftconn.Expr{
				nftconn.InputInterface(), nftconn.Lookup{Map: guarded().Name, Reg: nftconn.Reg},
				nftconn.Verdict{Code: nftconn.Jump, Chain: checkChain},
			}}},
		},
	}
}

// Check is one port's being checked. It is of the host's namespace.
type Check struct {
	Owner state.Owner
	Port  string           // the interface on the host
	MAC   net.HardwareAddr // that frames may come from
}

var _ state.Resource = Check{}

// Key names the check by its owner, port and address.
func (c Check) Key() state.Key { return Key(c.Owner, c.Port, c.MAC.String()) }

// port and pair are the keys of the elements.
func (c Check) port() []byte { return nftconn.InterfaceKey(c.Port) }
func (c Check) pair() []byte { return nftconn.Concat(nftconn.InterfaceKey(c.Port), c.MAC) }

// Ensure adds what is missing. What another owner left for the port is
// replaced: its port is gone, or it could not be ours.
func (c Check) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.NFT()
	if err != nil {
		return nil, err
	}
	added := false
	err = nftconn.Retry(ctx, func() error {
		l, err := look(ctx, conn, c)
		if err != nil {
			return err
		}
		var tx nftconn.Tx
		tx.Guard(l.gen)
		l.mend(&tx)
		if added, err = l.admit(ctx, conn, &tx, c); err != nil || tx.Empty() {
			return err
		}
		return conn.CommitInto(ctx, &l.table, &tx)
	})
	if err != nil || !added {
		return nil, err
	}
	return func(ctx context.Context) error { return remove(ctx, conn, c.Owner.Tag(), c.Port, c.MAC) }, nil
}

// A looking is what there is of all that attachments share, and of one.
type looking struct {
	gen          nftconn.Generation
	table        nftconn.TableQuery
	chains       []nftconn.ChainQuery
	rules        nftconn.RulesQuery
	guarded, mac nftconn.ElementQuery
}

// look reads it, in as many round trips for any number of attachments.
func look(ctx context.Context, r nftconn.Reader, c Check) (*looking, error) {
	l := &looking{
		table:   nftconn.TableQuery{Table: table()},
		rules:   nftconn.RulesQuery{Table: table()},
		guarded: nftconn.ElementQuery{Map: guarded(), Key: c.port()},
		mac:     nftconn.ElementQuery{Map: allowed(), Key: c.pair()},
		chains:  make([]nftconn.ChainQuery, len(chains())),
	}
	queries := []nftconn.Query{&l.table, &l.rules, &l.guarded, &l.mac}
	for i, chain := range chains() {
		l.chains[i] = nftconn.ChainQuery{Table: table(), Name: chain.Name}
		queries = append(queries, &l.chains[i])
	}
	var err error
	l.gen, err = r.Read(ctx, queries...)
	return l, err
}

// A defect is a difference in what attachments share.
type defect struct{ part, want, got string }

// defects returns what keeps frames from being checked.
func (l *looking) defects() []defect {
	switch {
	case !l.table.Found:
		return []defect{{"table " + table().String(), "present", "missing"}}
	case l.table.Dormant:
		return []defect{{"table " + table().String(), "awake", "dormant"}}
	}
	var found []defect
	for i, chain := range chains() {
		got := l.chains[i]
		if !got.Found {
			found = append(found, defect{"chain " + chain.String(), "present", "missing"})
			continue
		}
		if chain.Hook != nil && (got.Hook == nil || *got.Hook != *chain.Hook) {
			found = append(found, defect{"hook of chain " + chain.String(), chain.Hook.String(), got.Hook.String()})
		}
		if !slices.EqualFunc(l.rules.Of(chain.Name), chain.Rules, nftconn.Rule.Equal) {
			found = append(found, defect{"what is in chain " + chain.String(), "the rules that plumb makes", "different"})
		}
	}
	return found
}

// mend adds to a transaction what makes good the defects.
func (l *looking) mend(tx *nftconn.Tx) {
	if l.defects() == nil {
		return
	}
	tx.AddTable(table())
	tx.AddMap(guarded())
	tx.AddMap(allowed())
	for i, chain := range chains() {
		if got := l.chains[i]; got.Found && chain.Hook != nil && (got.Hook == nil || *got.Hook != *chain.Hook) {
			tx.DeleteChain(table(), chain.Name)
		}
		tx.SetChain(chain)
	}
}

// admit adds to a transaction the elements of a check that are missing, and
// reports whether there are any.
func (l *looking) admit(ctx context.Context, r nftconn.Reader, tx *nftconn.Tx, c Check) (bool, error) {
	tag := c.Owner.Tag()
	if mine(l.guarded, tag) && mine(l.mac, tag) {
		return false, nil
	}
	if l.guarded.Element != nil || l.mac.Element != nil {
		stale, err := pairsOf(ctx, r, c.Port)
		if err != nil {
			return false, err
		}
		tx.DeleteElements(allowed(), stale...)
	}
	if l.guarded.Element != nil {
		tx.DeleteElements(guarded(), c.port())
	}
	tx.AddElements(guarded(), nftconn.Element{Key: c.port(), Comment: tag})
	tx.AddElements(allowed(), nftconn.Element{Key: c.pair(), Comment: tag})
	return true, nil
}

func mine(q nftconn.ElementQuery, tag string) bool {
	return q.Element != nil && q.Element.Comment == tag
}

// pairsOf lists the keys of all pairs of a port.
func pairsOf(ctx context.Context, r nftconn.Reader, port string) ([][]byte, error) {
	all := nftconn.ElementsQuery{Map: allowed()}
	if _, err := r.Read(ctx, &all); err != nil {
		return nil, err
	}
	var keys [][]byte
	for _, e := range all.Elements {
		if nftconn.InterfaceName(e.Key) == port {
			keys = append(keys, e.Key)
		}
	}
	return keys, nil
}

// Diff reports what is missing or different. An attachment that the reference
// made is compared with the rules that it got.
func (c Check) Diff(ctx context.Context, r state.Reader) ([]state.Drift, error) {
	conn, err := r.NFT()
	if err != nil {
		return nil, err
	}
	l, err := look(ctx, conn, c)
	if err != nil {
		return nil, err
	}
	tag := c.Owner.Tag()
	if !mine(l.guarded, tag) && !mine(l.mac, tag) {
		drifts, theirs, err := c.diffReference(ctx, conn)
		if err != nil || theirs {
			return drifts, err
		}
	}
	var drifts []state.Drift
	drift := func(field, want, got string) {
		drifts = append(drifts, state.Drift{Key: c.Key(), Field: field, Want: want, Got: got})
	}
	for _, d := range l.defects() {
		drift(d.part, d.want, d.got)
	}
	for _, e := range []struct {
		q    nftconn.ElementQuery
		text string
	}{{l.guarded, c.Port}, {l.mac, c.Port + " . " + c.MAC.String()}} {
		switch part := "element " + e.q.Map.String() + " " + e.text; {
		case e.q.Element == nil:
			drift(part, "present", "missing")
		case e.q.Element.Comment != tag:
			drift("owner of "+part, tag, e.q.Element.Comment)
		}
	}
	return drifts, nil
}

// Available fails if the host has no nftables, with nftconn.ErrUnsupported.
func Available(ctx context.Context, r state.Reader) error {
	conn, err := r.NFT()
	if err != nil {
		return err
	}
	_, err = conn.Read(ctx, &nftconn.TableQuery{Table: table()})
	return err
}
