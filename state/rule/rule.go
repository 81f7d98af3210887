// Package rule is the state of rules that choose a routing table by the source of
// packets.
package rule

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
)

const kindName = "rule"

// A Source is an address and the table by which what it sends is routed.
type Source struct {
	Addr  netip.Addr
	Table int
}

// Sources are the rules for the addresses of one link of the sandbox. Rules don't
// go with the link.
type Sources struct {
	Link  string
	Rules []Source
}

var _ state.Resource = Sources{}

// Key names the rules by the link, the addresses and the tables.
func (s Sources) Key() state.Key { return key(s.Link, "", s.Rules) }

// FootprintKey names the rules of a link that no record tells of: those from its
// addresses, to any table if table is 0. A hardware address, if it is known, and
// the link is there, has to be the link's.
func FootprintKey(link, mac string, addrs []netip.Addr, table int) state.Key {
	rules := make([]Source, len(addrs))
	for i, a := range addrs {
		rules[i] = Source{Addr: a, Table: table}
	}
	return key(link, mac, rules)
}

func key(link, mac string, rules []Source) state.Key {
	words := []string{link}
	if mac != "" {
		words = append(words, mac)
	}
	for _, r := range rules {
		words = append(words, fmt.Sprintf("%s@%d", r.Addr, r.Table))
	}
	return state.Key{NS: state.Sandbox, Kind: kindName, Name: strings.Join(words, " ")}
}

// parse takes a key's name apart.
func parse(name string) (link, mac string, rules []Source) {
	words := strings.Fields(name)
	if len(words) == 0 {
		return "", "", nil
	}
	for _, word := range words[1:] {
		text, number, ok := strings.Cut(word, "@")
		if !ok {
			mac = word
			continue
		}
		addr, errAddr := netip.ParseAddr(text)
		table, errTable := strconv.Atoi(number)
		if errAddr == nil && errTable == nil {
			rules = append(rules, Source{Addr: addr, Table: table})
		}
	}
	return words[0], mac, rules
}

func (s Source) rule() rtnl.Rule {
	return rtnl.Rule{Src: netip.PrefixFrom(s.Addr, s.Addr.BitLen()), Table: s.Table}
}

// among reports whether the rule is one of those that there are.
func (s Source) among(rules []rtnl.Rule) bool {
	want := s.rule()
	return slices.ContainsFunc(rules, func(got rtnl.Rule) bool { return got.Src == want.Src && got.Table == want.Table })
}

// Ensure adds the rules, before all others but that of the local table. The kernel
// would add one a second time, before the first.
func (s Sources) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(state.Sandbox)
	if err != nil {
		return nil, err
	}
	rules, err := conn.Rules()
	if err != nil {
		return nil, err
	}
	var added []Source
	undo := func(context.Context) error {
		var errs []error
		for _, source := range slices.Backward(added) {
			errs = append(errs, remove(conn, source))
		}
		return errors.Join(errs...)
	}
	for _, source := range s.Rules {
		if source.among(rules) {
			continue
		}
		if err := conn.AddRule(source.rule()); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", s.Link, err), undo(nil))
		}
		added = append(added, source)
	}
	return undo, nil
}

// Diff reports each rule that is missing.
func (s Sources) Diff(_ context.Context, r state.Reader) ([]state.Drift, error) {
	conn, err := r.Route(state.Sandbox)
	if errors.Is(err, state.ErrNoSandbox) {
		return state.Missing(s.Key()), nil
	}
	if err != nil {
		return nil, err
	}
	rules, err := conn.Rules()
	if err != nil {
		return nil, err
	}
	var drifts []state.Drift
	for _, source := range s.Rules {
		if !source.among(rules) {
			drifts = append(drifts, state.Missing(state.Key{NS: state.Sandbox, Kind: kindName, Name: source.rule().String()})...)
		}
	}
	return drifts, nil
}

// Kind removes rules.
type Kind struct{}

var _ state.Kind = Kind{}

// Kind returns "rule".
func (Kind) Kind() string { return kindName }

// Remove deletes the rules, whether or not the link is still there.
//
// A rule has no tag. Without a record those from the addresses that the key names
// are meant, or else those from the addresses of a link that has the key's hardware
// address. A key without either removes nothing, for the path may lead to another
// container's sandbox by now.
func (Kind) Remove(_ context.Context, k *state.Kernel, obj state.Object, _ state.Owner) error {
	conn, err := k.Route(state.Sandbox)
	if errors.Is(err, state.ErrNoSandbox) {
		return nil
	}
	if err != nil {
		return err
	}
	link, mac, rules := parse(obj.Key.Name)
	if !obj.Recorded {
		if rules, err = evident(conn, link, mac, rules); err != nil {
			return err
		}
	}
	var errs []error
	for _, source := range rules {
		errs = append(errs, remove(conn, source))
	}
	return errors.Join(errs...)
}

// evident returns which rules are a link's.
func evident(conn *rtnl.Conn, name, mac string, rules []Source) ([]Source, error) {
	l, err := conn.Link(name)
	if errors.Is(err, rtnl.ErrNotFound) {
		return rules, nil
	}
	if err != nil {
		return nil, err
	}
	if mac != "" && l.MAC.String() != mac {
		return nil, nil
	}
	if len(rules) > 0 || mac == "" {
		return rules, nil
	}
	addrs, err := conn.Addrs(l.Index)
	for _, a := range addrs {
		rules = append(rules, Source{Addr: a.Prefix.Addr()})
	}
	return rules, err
}

// remove deletes a rule, or all from the address if the table is 0.
func remove(conn *rtnl.Conn, source Source) error {
	for {
		err := conn.DelRule(source.rule())
		if errors.Is(err, rtnl.ErrNotFound) {
			return nil
		}
		if err != nil || source.Table != 0 {
			return err
		}
	}
}

// Garbage finds nothing: rules go with their sandbox.
func (Kind) Garbage(context.Context, state.Reader, string, []state.Owner) ([]state.Found, error) {
	return nil, nil
}
