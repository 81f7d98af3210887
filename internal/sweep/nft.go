package sweep

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/firewall"
	"github.com/plumb-cni/plumb/state/portmap"
)

// sweepNFT deletes the elements and rules of dead attachments and, if none is
// alive, all that is ours.
func (s *Sweep) sweepNFT(ctx context.Context) error {
	conn, err := s.kernel.NFT()
	if err != nil {
		return err
	}
	err = firewall.DeleteOwnLegacy(ctx, s.kernel, s.dead)
	if err != nil && !errors.Is(err, nftconn.ErrUnsupported) {
		return err
	}
	var done []string
	err = nftconn.Retry(ctx, func() error {
		w := whole{dead: s.dead, ours: len(s.live) == 0}
		if err := w.read(ctx, conn); err != nil {
			return err
		}
		var tx nftconn.Tx
		tx.Guard(w.gen)
		if err := firewall.DeleteOwn(ctx, conn, &tx, s.dead); err != nil {
			return err
		}
		done = w.sweep(&tx)
		if err := w.closeLocalnet(ctx, s.kernel); err != nil {
			return err
		}
		return conn.Commit(ctx, &tx)
	})
	if errors.Is(err, nftconn.ErrUnsupported) {
		return nil
	}
	if err == nil {
		s.Removed = append(s.Removed, done...)
	}
	return err
}

// A whole is the ruleset, as far as it is ours.
type whole struct {
	dead func(mark string) bool
	ours bool // everything of ours has to go

	gen      nftconn.Generation
	chains   nftconn.AllChainsQuery
	maps     []nftconn.Map
	elements []nftconn.ElementsQuery // of maps
	rules    []nftconn.Rule          // of all tables with something of ours
}

func (w *whole) read(ctx context.Context, r nftconn.Reader) error {
	var all nftconn.AllMapsQuery
	var err error
	if w.gen, err = r.Read(ctx, &w.chains, &all); err != nil {
		return err
	}
	var tables []nftconn.Table
	note := func(t nftconn.Table) {
		if !slices.Contains(tables, t) {
			tables = append(tables, t)
		}
	}
	var queries []nftconn.Query
	for _, m := range all.Maps {
		if ours(m.Table) || marked(m.Name) {
			w.maps = append(w.maps, m)
			note(m.Table)
		}
	}
	w.elements = make([]nftconn.ElementsQuery, len(w.maps))
	for i, m := range w.maps {
		w.elements[i].Map = m
		queries = append(queries, &w.elements[i])
	}
	for _, c := range w.chains.Chains {
		if ours(c.Table) || marked(c.Name) {
			note(c.Table)
		}
	}
	rules := make([]nftconn.RulesQuery, len(tables))
	for i, t := range tables {
		rules[i].Table = t
		queries = append(queries, &rules[i])
	}
	if _, err := r.Read(ctx, queries...); err != nil {
		return err
	}
	for _, q := range rules {
		w.rules = append(w.rules, q.Rules...)
	}
	return nil
}

// sweep adds to a transaction the deletions, and returns what they delete.
func (w *whole) sweep(tx *nftconn.Tx) (done []string) {
	if w.ours {
		return w.everything(tx)
	}
	for i, m := range w.maps {
		var stale []nftconn.Element
		for _, e := range w.elements[i].Elements {
			if w.dead(e.Comment) {
				stale = append(stale, e)
				done = append(done, "element of "+m.String()+", "+e.Comment)
			}
		}
		tx.Delete(m, stale...)
	}
	for _, rule := range w.rules {
		if w.dead(rule.Comment) {
			tx.DeleteRule(rule)
			done = append(done, "rule of "+rule.Table.String()+" "+rule.Chain+", "+rule.Comment)
		}
	}
	return done
}

// closeLocalnet gives back what was set for links that can be reached from the
// host's loopback addresses, if the guard of these goes: unless somebody else's
// mappings need it by now, who then does without a guard as ever.
func (w *whole) closeLocalnet(ctx context.Context, k *state.Kernel) error {
	at := slices.IndexFunc(w.maps, func(m nftconn.Map) bool { return m.String() == portmap.Opened().String() })
	if !w.ours || at < 0 {
		return nil
	}
	others, err := portmap.MappedByOthers(ctx, k)
	if err != nil || others {
		return err
	}
	var errs []error
	for _, e := range w.elements[at].Elements {
		_, err := portmap.RouteLocalnet(nftconn.InterfaceName(e.Key), false).Ensure(ctx, k)
		if !errors.Is(err, fs.ErrNotExist) { // the link is gone
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// everything deletes our tables, and what we have in others'.
func (w *whole) everything(tx *nftconn.Tx) (done []string) {
	var tables []nftconn.Table
	gone := func(t nftconn.Table) bool {
		if ours(t) && !slices.Contains(tables, t) {
			tables = append(tables, t)
		}
		return ours(t)
	}
	for _, rule := range w.rules {
		if !gone(rule.Table) && !marked(rule.Chain) && (marked(rule.Jump()) || w.dead(rule.Comment)) {
			tx.DeleteRule(rule)
			done = append(done, "rule of "+rule.Table.String()+" "+rule.Chain)
		}
	}
	for _, c := range w.chains.Chains {
		if !gone(c.Table) && marked(c.Name) {
			tx.DeleteChain(c.Table, c.Name)
			done = append(done, "chain "+c.String())
		}
	}
	for _, m := range w.maps {
		if !gone(m.Table) {
			tx.DeleteMap(m)
			done = append(done, "set "+m.String())
		}
	}
	for _, t := range tables {
		tx.DeleteTable(t)
		done = append(done, "table "+t.String())
	}
	return done
}
