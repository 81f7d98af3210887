package masquerade

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

// What the reference's plugins (v1.9.1) leave in nftables: a rule an address,
// whose comment begins with a hash of the network, one of interface and
// container, and names them as far as 128 bytes go.
//
//	table inet cni_plugins_masquerade {
//		chain masq_checks {
//			ip saddr 10.22.0.3 ip daddr != 10.22.0.0/16 masquerade comment "HASH-HASH, net: net, if: eth0, id: id"
//		}
//		chain postrouting {
//			type nat hook postrouting priority srcnat
//			…
//			goto masq_checks
//		}
//	}

func referenceTable() nftconn.Table {
	return nftconn.Table{Family: nftconn.Inet, Name: "cni_plugins_masquerade"}
}

const (
	referenceChain = "masq_checks"
	referenceBase  = "postrouting"
)

// hash returns the first n digits of the hash that the reference uses.
func hash(text string, n int) string {
	sum := sha512.Sum512([]byte(text))
	return hex.EncodeToString(sum[:])[:n]
}

// A mark is what the comments of an owner's rules begin with.
func mark(o state.Owner) string {
	return hash(o.Network, 16) + "-" + hash(o.IfName+":"+o.ContainerID, 16)
}

const markLen = 16 + 1 + 16

// marked tells whether a comment is of the owner of a mark.
func marked(comment, mark string) bool { return strings.HasPrefix(comment, mark+",") }

// markOwner returns whose a comment is. What is cut off is missing from the
// owner; whole tells whether nothing is.
func markOwner(comment string) (o state.Owner, whole bool) {
	if len(comment) < markLen {
		return o, false
	}
	rest, ok := strings.CutPrefix(comment[markLen:], ", net: ")
	if !ok {
		return o, false
	}
	o.Network, rest, ok = strings.Cut(rest, ", if: ")
	if !ok || comment[:16] != hash(o.Network, 16) {
		return state.Owner{}, false
	}
	o.IfName, o.ContainerID, _ = strings.Cut(rest, ", id: ")
	return o, mark(o) == comment[:markLen]
}

// diffReference compares with what the reference makes with nftables.
func (m Masquerade) diffReference(ctx context.Context, r nftconn.Reader) (drifts []state.Drift, mine bool, err error) {
	base := nftconn.ChainQuery{Table: referenceTable(), Name: referenceBase}
	jumps := nftconn.RulesQuery{Table: referenceTable(), Chain: referenceBase}
	checks := nftconn.RulesQuery{Table: referenceTable(), Chain: referenceChain}
	if _, err := r.Read(ctx, &base, &jumps, &checks); err != nil {
		return nil, false, err
	}
	var hidden []netip.Addr
	for _, rule := range checks.Rules {
		if !marked(rule.Comment, mark(m.Owner)) {
			continue
		}
		mine = true
		if from, ok := rule.Source(); ok && rule.Target() == "MASQUERADE" {
			hidden = append(hidden, from.Addr())
		}
	}
	for _, a := range m.addresses() {
		if !slices.Contains(hidden, a.Addr()) {
			drifts = append(drifts, m.drift(fmt.Sprintf("rule of chain %s %s for %s", referenceTable(), referenceChain, a.Addr()), "masquerade", "missing"))
		}
	}
	if base.Hook == nil || !slices.ContainsFunc(jumps.Rules, func(r nftconn.Rule) bool { return r.Jump() == referenceChain }) {
		drifts = append(drifts, m.drift(fmt.Sprintf("rule of chain %s %s", referenceTable(), referenceBase), "goto "+referenceChain, "missing"))
	}
	return drifts, mine, nil
}

// removeReference removes the rules whose comment begins with a mark.
func removeReference(ctx context.Context, c *nftconn.Conn, mark string) error {
	return nftconn.Retry(ctx, func() error {
		checks := nftconn.RulesQuery{Table: referenceTable(), Chain: referenceChain}
		gen, err := c.Read(ctx, &checks)
		if err != nil {
			return err
		}
		var tx nftconn.Tx
		tx.Guard(gen)
		for _, rule := range checks.Rules {
			if marked(rule.Comment, mark) {
				tx.DeleteRule(rule)
			}
		}
		return c.Commit(ctx, &tx)
	})
}
