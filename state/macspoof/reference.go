package macspoof

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

// What the reference (v1.9.1) leaves, whose names tell the container and the
// interface but not the network:
//
//	table bridge nat {
//		chain PREROUTING {
//			type filter hook prerouting priority dstnat; policy accept;
//			iifname "veth…" jump cni-br-iface-ID-IFNAME comment "macspoofchk-ID-IFNAME"
//		}
//		chain cni-br-iface-ID-IFNAME {
//			jump cni-br-iface-ID-IFNAME-mac comment "macspoofchk-ID-IFNAME"
//		}
//		chain cni-br-iface-ID-IFNAME-mac {
//			ether saddr 02:…:01 return comment "macspoofchk-ID-IFNAME"
//			drop comment "macspoofchk-ID-IFNAME"
//		}
//	}
const (
	referencePrefix = "cni-br-iface-"
	referenceBase   = "PREROUTING"
	referenceMAC    = "-mac"
)

func referenceTable() nftconn.Table {
	return nftconn.Table{Family: nftconn.Bridge, Name: "nat"}
}

// referenceName is the name of the first chain of an owner.
func referenceName(o state.Owner) string { return referencePrefix + o.ContainerID + "-" + o.IfName }

// removeReference removes a chain, the one that it jumps to, and the rules that
// jump to it.
func removeReference(ctx context.Context, conn *nftconn.Conn, name string) error {
	return nftconn.Retry(ctx, func() error {
		chains := []nftconn.ChainQuery{{Table: referenceTable(), Name: name}, {Table: referenceTable(), Name: name + referenceMAC}}
		gen, err := conn.Read(ctx, &chains[0], &chains[1])
		if err != nil || !chains[0].Found && !chains[1].Found {
			return err
		}
		base := nftconn.RulesQuery{Table: referenceTable(), Chain: referenceBase}
		if _, err := conn.Read(ctx, &base); err != nil {
			return err
		}
		var tx nftconn.Tx
		tx.Guard(gen)
		for _, rule := range base.Rules {
			if rule.Jump() == name {
				tx.DeleteRule(rule)
			}
		}
		for _, chain := range chains {
			if chain.Found {
				tx.DeleteChain(referenceTable(), chain.Name)
			}
		}
		return conn.Commit(ctx, &tx)
	})
}

// diffReference compares with what the reference makes. theirs tells whether
// there is anything of it.
func (c Check) diffReference(ctx context.Context, r nftconn.Reader) (drifts []state.Drift, theirs bool, err error) {
	name := referenceName(c.Owner)
	chain := nftconn.ChainQuery{Table: referenceTable(), Name: name}
	if _, err := r.Read(ctx, &chain); err != nil || !chain.Found {
		return nil, false, err
	}
	all := nftconn.RulesQuery{Table: referenceTable()}
	if _, err := r.Read(ctx, &all); err != nil {
		return nil, false, err
	}
	for _, want := range []struct {
		chain string
		has   func(nftconn.Rule) bool
	}{
		{referenceBase, func(r nftconn.Rule) bool { return r.Jump() == name && compares(r, nftconn.InterfaceKey(c.Port)) }},
		{name, func(r nftconn.Rule) bool { return r.Jump() == name+referenceMAC }},
		{name + referenceMAC, func(r nftconn.Rule) bool { return r.Target() == "RETURN" && compares(r, c.MAC) }},
		{name + referenceMAC, func(r nftconn.Rule) bool { return r.Target() == "DROP" }},
	} {
		if !slices.ContainsFunc(all.Rules, func(r nftconn.Rule) bool { return r.Chain == want.chain && want.has(r) }) {
			drifts = append(drifts, state.Drift{
				Key: c.Key(), Field: "rule of chain " + referenceTable().String() + " " + want.chain, Want: "present", Got: "missing",
			})
		}
	}
	return drifts, true, nil
}

// compares reports whether a rule is for packets that have a value.
func compares(r nftconn.Rule, value []byte) bool {
	return slices.ContainsFunc(r.Exprs, func(e nftconn.Expr) bool {
		cmp, ok := e.(nftconn.Cmp)
		return ok && cmp.Op == nftconn.Equal && bytes.Equal(cmp.Data, value)
	})
}

// referenceGarbage finds chains whose port has gone, and which are of no valid
// attachment.
func referenceGarbage(ctx context.Context, r state.Reader, conn nftconn.Reader, network string, valid []state.Owner) ([]state.Found, error) {
	base := nftconn.RulesQuery{Table: referenceTable(), Chain: referenceBase}
	if _, err := conn.Read(ctx, &base); err != nil || base.Rules == nil {
		return nil, err
	}
	links, err := r.Route(state.Host)
	if err != nil {
		return nil, err
	}
	spared := state.Named(valid, referenceName)
	var found []state.Found
	for _, rule := range base.Rules {
		rest, ok := strings.CutPrefix(rule.Jump(), referencePrefix)
		if !ok || spared[rule.Jump()] {
			continue
		}
		port := portOf(rule)
		if _, err := links.Link(port); port == "" || !errors.Is(err, rtnl.ErrNotFound) {
			continue
		}
		found = append(found, state.Found{
			Key:   state.Key{NS: state.Host, Kind: kindName, Name: rule.Jump()},
			Owner: state.Owner{Network: network, ContainerID: rest},
		})
	}
	return found, nil
}

// portOf returns the interface that a rule is for, or "".
func portOf(rule nftconn.Rule) string {
	for _, e := range rule.Exprs {
		if cmp, ok := e.(nftconn.Cmp); ok {
			return nftconn.InterfaceName(cmp.Data)
		}
	}
	return ""
}
