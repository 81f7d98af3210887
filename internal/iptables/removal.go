package iptables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/internal/nftconn"
)

// A Removal is of a chain of a container's, and of the rules of another chain
// that lead there.
type Removal struct {
	Table, From, Chain string

	// Addrs, if not nil, spares the rules that are from other addresses, and
	// with them the chain.
	Addrs []netip.Addr
}

// Run removes them in both families and in both of the kernel's
// implementations. In tables of nftables netlink does what the program would
// do; for the legacy ones a program is started, if there is something to do:
// it has a lock and writes the whole table.
func (r Removal) Run(ctx context.Context, c *nftconn.Conn, ns *netns.NS) error {
	var errs []error
	for _, f := range nftconn.Families() {
		errs = append(errs, r.NFT(ctx, c, f), r.Legacy(ctx, c, ns, f))
	}
	return errors.Join(errs...)
}

// spares tells whether a rule leads from none of the addresses.
func (r Removal) spares(rule nftconn.Rule) bool {
	from, ok := rule.Source()
	return r.Addrs != nil && ok && !slices.Contains(r.Addrs, from.Addr())
}

// NFT removes them where iptables-nft keeps a family's.
func (r Removal) NFT(ctx context.Context, c *nftconn.Conn, f nftconn.Family) error {
	table := nftconn.Table{Family: f, Name: r.Table}
	err := nftconn.Retry(ctx, func() error {
		q := nftconn.ChainQuery{Table: table, Name: r.Chain}
		gen, err := c.Read(ctx, &q)
		if err != nil || !q.Found {
			return err
		}
		jumps := nftconn.RulesQuery{Table: table, Chain: r.From}
		if _, err := c.Read(ctx, &jumps); err != nil {
			return err
		}
		var tx nftconn.Tx
		tx.Guard(gen)
		keep := false
		for _, rule := range jumps.Rules {
			switch {
			case rule.Jump() != r.Chain:
			case r.spares(rule):
				keep = true
			default:
				tx.DeleteRule(rule)
			}
		}
		if !keep {
			tx.DeleteChain(table, r.Chain)
		}
		return c.Commit(ctx, &tx)
	})
	if errors.Is(err, nftconn.ErrUnsupported) {
		return nil
	}
	return err
}

// Legacy removes them where the legacy iptables keeps a family's.
func (r Removal) Legacy(ctx context.Context, c *nftconn.Conn, ns *netns.NS, f nftconn.Family) error {
	legacy, err := c.Legacy(ctx, f, r.Table)
	if err != nil || !slices.Contains(legacy.Chains, r.Chain) {
		return err
	}
	keep := slices.ContainsFunc(legacy.Rules, func(rule nftconn.Rule) bool { return rule.Jump() == r.Chain && r.spares(rule) })
	saved, err := Save(ctx, ns, f, Legacy, r.Table)
	if err != nil {
		return err
	}
	lines := []string{"*" + r.Table}
	for line := range strings.Lines(saved) {
		rule, ok := strings.CutPrefix(strings.TrimSpace(line), "-A "+r.From+" ")
		if ok && strings.HasSuffix(rule, "-j "+r.Chain) && (!keep || fromAny(rule, r.Addrs)) {
			lines = append(lines, "-D "+r.From+" "+rule)
		}
	}
	if !keep {
		lines = append(lines, "-F "+r.Chain, "-X "+r.Chain)
	}
	return Restore(ctx, ns, f, Legacy, strings.Join(append(lines, "COMMIT\n"), "\n"))
}

// fromAny tells whether a rule as iptables-save writes it is about one of the
// addresses.
func fromAny(rule string, addrs []netip.Addr) bool {
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool {
		return strings.HasPrefix(rule, fmt.Sprintf("-s %s/%d ", a, a.BitLen()))
	})
}
