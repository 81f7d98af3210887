package portmap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/internal/iptables"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/sysctl"
)

const localnetChain = "portmap-localnet"

// A Localnet lets connections from the host's own 127.0.0.0/8 be answered by a
// container behind a link. For that the kernel must not take such addresses for
// martians there (route_localnet), which on its own would let whatever is behind
// the link connect to services that listen on 127.0.0.1 alone, as
// CVE-2020-8558 did, or seem to come from there. So what comes in by any
// interface but the loopback one and carries such an address, as its source or
// its destination, is dropped first, with either back end:
//
//	table inet plumb {
//		chain portmap-localnet {
//			type filter hook prerouting priority raw; policy accept;
//			iifname != "lo" ip daddr 127.0.0.0/8 drop
//			iifname != "lo" ip saddr 127.0.0.0/8 drop
//		}
//	}
//
// The guard stays as long as a bridge may that was opened; `plumb plugins remove`
// closes those, which set localnet-opened names, before it removes the table.
// Answers of a container are not hit: they are for an address of the host until
// connection tracking, which comes later, has translated them.
//
// A kernel without nftables gets the same in table raw of iptables.
type Localnet struct {
	Link string
	Stay bool    // the link outlives the attachment, as a bridge does
	For  Portmap // whose mappings need it
}

var _ state.Resource = Localnet{}

// Key names the setting by its link.
func (l Localnet) Key() state.Key {
	return state.Key{NS: state.Host, Kind: "localnet", Name: l.Link}
}

// localnetRules are those of the guard.
func localnetRules() []nftconn.Rule {
	rule := func(load nftconn.Payload) nftconn.Rule {
		load.Len = 1
		return nftconn.Rule{Exprs: slices.Concat(
			nftconn.FromInterface(nftconn.NotEqual, "lo"), nftconn.OfFamily(nftconn.IPv4),
			[]nftconn.Expr{load, nftconn.Cmp{Op: nftconn.Equal, Reg: nftconn.Reg, Data: []byte{127}}, nftconn.Verdict{Code: nftconn.Drop}},
		)}
	}
	return []nftconn.Rule{rule(nftconn.DestinationAddr(nftconn.IPv4)), rule(nftconn.SourceAddr(nftconn.IPv4))}
}

func localnetHook() *nftconn.Hook {
	return &nftconn.Hook{Type: "filter", Point: nftconn.Prerouting, Priority: nftconn.Raw}
}

// Opened is the set of those links whose setting plumb has changed, and that
// stay: who removes the guard has to give it back before.
func Opened() nftconn.Map {
	return nftconn.Map{Table: nftconn.Own(), Name: "localnet-opened", Key: []nftconn.Type{nftconn.IfName}}
}

// RouteLocalnet is the setting of a link, on or off.
func RouteLocalnet(link string, on bool) sysctl.Settings {
	value := "0"
	if on {
		value = "1"
	}
	return sysctl.Settings{NS: state.Host, Values: []sysctl.Setting{{Name: "ipv4/conf/" + link + "/route_localnet", Value: value}}}
}

// A localnetGuard is what there is of the guard.
type localnetGuard struct {
	gen   nftconn.Generation
	table nftconn.TableQuery
	chain nftconn.ChainQuery
	rules nftconn.RulesQuery
	link  nftconn.ElementQuery
}

func (l Localnet) read(ctx context.Context, r nftconn.Reader) (*localnetGuard, error) {
	g := &localnetGuard{
		table: nftconn.TableQuery{Table: nftconn.Own()},
		chain: nftconn.ChainQuery{Table: nftconn.Own(), Name: localnetChain},
		rules: nftconn.RulesQuery{Table: nftconn.Own(), Chain: localnetChain},
		link:  nftconn.ElementQuery{Map: Opened(), Key: nftconn.InterfaceKey(l.Link)},
	}
	var err error
	g.gen, err = r.Read(ctx, &g.table, &g.chain, &g.rules, &g.link)
	return g, err
}

// intact tells whether the guard keeps out what it should.
func (g *localnetGuard) intact() bool {
	return g.table.Found && !g.table.Dormant && g.chain.Hook != nil && *g.chain.Hook == *localnetHook() &&
		slices.EqualFunc(g.rules.Rules, localnetRules(), nftconn.Rule.Equal)
}

// mend adds to a transaction what makes the guard be as it should.
func (g *localnetGuard) mend(tx *nftconn.Tx) {
	tx.AddTable(nftconn.Own())
	tx.AddMap(Opened())
	if g.chain.Found && (g.chain.Hook == nil || *g.chain.Hook != *localnetHook()) {
		tx.DeleteChain(nftconn.Own(), localnetChain)
	}
	tx.SetChain(nftconn.Chain{Table: nftconn.Own(), Name: localnetChain, Hook: localnetHook(), Rules: localnetRules()})
}

// Ensure guards, and then opens. There is nothing to undo: the link's other
// containers rely on it, or it goes with the container.
func (l Localnet) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.NFT()
	if err != nil {
		return nil, err
	}
	closed, err := RouteLocalnet(l.Link, true).Diff(ctx, k.Reader())
	if err != nil {
		return nil, err
	}
	err = nftconn.Retry(ctx, func() error {
		g, err := l.read(ctx, conn)
		if err != nil {
			return err
		}
		var tx nftconn.Tx
		tx.Guard(g.gen)
		if !g.intact() {
			g.mend(&tx)
		}
		if l.Stay && closed != nil && g.link.Element == nil {
			tx.AddElements(Opened(), nftconn.Element{Key: nftconn.InterfaceKey(l.Link), Comment: "plumb"})
		}
		return conn.CommitInto(ctx, &g.table, &tx)
	})
	if errors.Is(err, nftconn.ErrUnsupported) {
		err = guardWithIPTables(ctx, k)
	}
	if err != nil {
		return nil, fmt.Errorf("guard the host's loopback addresses: %w", err)
	}
	_, err = RouteLocalnet(l.Link, true).Ensure(ctx, k)
	return nil, err
}

// Diff looks for the guard, which mappings of the reference's do without, and
// the setting.
func (l Localnet) Diff(ctx context.Context, r state.Reader) ([]state.Drift, error) {
	drifts, err := RouteLocalnet(l.Link, true).Diff(ctx, r)
	if err != nil {
		return nil, err
	}
	conn, err := r.NFT()
	if err != nil {
		return nil, err
	}
	g, err := l.read(ctx, conn)
	if errors.Is(err, nftconn.ErrUnsupported) {
		var there bool
		if there, err = guardedByIPTables(ctx, conn); !there && err == nil {
			drifts = append(drifts, l.drift("iptables table raw chain PREROUTING rule", localnetComment))
		}
		return drifts, err
	}
	if err != nil || g.intact() {
		return drifts, err
	}
	theirs, err := l.For.byReference(ctx, r)
	if err == nil && !theirs {
		drifts = append(drifts, l.drift("chain "+nftconn.Own().String()+" "+localnetChain, "as plumb makes it"))
	}
	return drifts, err
}

func (l Localnet) drift(field, want string) state.Drift {
	return state.Drift{Key: l.Key(), Field: field, Want: want, Got: "missing or different"}
}

const (
	rawTable        = "raw"
	localnetComment = "plumb portmap localnet"
)

// guardedByIPTables tells whether table raw has the guard.
func guardedByIPTables(ctx context.Context, r nftconn.Reader) (bool, error) {
	legacy, err := r.Legacy(ctx, nftconn.IPv4, rawTable)
	return slices.ContainsFunc(legacy.Rules, func(r nftconn.Rule) bool { return r.Comment == localnetComment }), err
}

// guardWithIPTables guards by table raw of the legacy iptables, which is all
// that a kernel without nftables has.
func guardWithIPTables(ctx context.Context, k *state.Kernel) error {
	conn, err := k.NFT()
	if err != nil {
		return err
	}
	ns, err := k.Namespace(state.Host)
	if err != nil {
		return err
	}
	_, err = iptables.Converge(ctx, ns, nftconn.IPv4, iptables.Legacy, func() (string, error) {
		there, err := guardedByIPTables(ctx, conn)
		if err != nil || there {
			return "", err
		}
		lines := []string{"*" + rawTable}
		for _, side := range []string{"-d", "-s"} {
			lines = append(lines, fmt.Sprintf("-I PREROUTING 1 ! -i lo %s %s -m comment --comment %s -j DROP", side, loopback(nftconn.IPv4), iptables.Quote(localnetComment)))
		}
		return strings.Join(append(lines, "COMMIT\n"), "\n"), nil
	})
	return err
}
