// Package sbr has what a container sends from the addresses of an interface leave
// by that interface.
package sbr

import (
	"context"
	"net/netip"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
	"github.com/plumb-cni/plumb/state/route"
	"github.com/plumb-cni/plumb/state/rule"
)

// A Config holds the keys of a sbr configuration.
type Config struct {
	_ struct{} `schema:"exclude=table,gateway"`

	// Table is the number of a routing table that somebody else fills: only
	// the rules are made then, and no route is touched.
	Table *uint32 `json:"table" schema:"min=1"`

	// Gateway is that of the interface, in the place of the one that the
	// result has for the addresses of its family.
	Gateway string `json:"gateway" schema:"is=address"`

	// AddSourceHints leaves the routes but the default ones in the main table
	// as well, so that what has not chosen its address yet finds them.
	AddSourceHints bool `json:"addSourceHints"`
}

// New returns the plugin.
func New() plugin.Plugin {
	return plugin.New(plugin.Def[Config]{
		Name:      "sbr",
		Validate:  validate,
		Desired:   desired,
		Footprint: footprint,
		Kinds:     []state.Kind{rule.Kind{}},
	})
}

func validate(c *Config, r *plugin.Request) error {
	if c.Table != nil && *c.Table == 0 {
		return cni.Errorf(cni.CodeInvalidConfig, "table 0 is no number of a routing table, which is 1 to 4294967295")
	}
	if c.Gateway != "" {
		if _, err := netip.ParseAddr(c.Gateway); err != nil {
			return cni.Errorf(cni.CodeInvalidConfig, "gateway %q is not an IP address", c.Gateway)
		}
		if c.Table != nil {
			return cni.Errorf(cni.CodeInvalidConfig, "table and gateway exclude each other: no route is made in a table that somebody else fills")
		}
	}
	if r.Verb == cni.VerbAdd && (r.Config.PrevResult == nil || len(r.Config.PrevResult.IPs) == 0) {
		return cni.Errorf(cni.CodeInvalidConfig,
			"there is no prevResult with addresses; sbr has to come after the plugin that makes the interface and gives it some")
	}
	return nil
}

func desired(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, rd state.Reader) (state.Plan, error) {
	ips := r.Own(result).IPs
	if len(ips) == 0 {
		return nil, nil
	}
	tables, err := c.tables(r, ips, rd)
	if err != nil {
		return nil, err
	}
	rules, routes := rule.Sources{Link: r.IfName}, route.Separate{Link: r.IfName, Hints: c.AddSourceHints}
	for i, ip := range ips {
		rules.Rules = append(rules.Rules, rule.Source{Addr: ip.Address.Addr(), Table: tables[i]})
		routes.Sources = append(routes.Sources, route.Source{Address: ip.Address, Gateway: c.gateway(ip), Table: tables[i]})
	}
	plan := state.Plan{state.Own(rules)}
	if c.Table == nil {
		plan = append(plan, state.On(link.SandboxKey(r.IfName), routes))
	}
	return plan, nil
}

// gateway returns the gateway for an address, which may be none.
func (c *Config) gateway(ip cni.IP) netip.Addr {
	if gateway, err := netip.ParseAddr(c.Gateway); err == nil && gateway.Is4() == ip.Address.Addr().Is4() {
		return gateway
	}
	return ip.Gateway
}

// perLink is how many tables an interface may have. No two interfaces of a
// container have the same index, so none has another's table, and nobody has to
// look for one that is free while others do the same.
const (
	perLink  = 100
	maxIndex = 1<<32/perLink - 1
)

// tables returns the table of each address. On CHECK that is the one that a rule
// names, since the reference counts tables otherwise.
func (c *Config) tables(r *plugin.Request, ips []cni.IP, rd state.Reader) ([]int, error) {
	tables := make([]int, len(ips))
	if c.Table != nil {
		for i := range tables {
			tables[i] = int(*c.Table)
		}
		return tables, nil
	}
	conn, err := rd.Route(state.Sandbox)
	if err != nil {
		return nil, err
	}
	l, err := conn.Known(r.IfName)
	if err != nil {
		return nil, err
	}
	for i := range tables {
		tables[i] = l.Index*perLink + i
	}
	if len(ips) > perLink/2 || l.Index > maxIndex {
		return nil, cni.Errorf(cni.CodeInvalidConfig, "%s has index %d and %d addresses, for which there are not enough numbers of tables; use table", r.IfName, l.Index, len(ips))
	}
	if r.Verb != cni.VerbCheck {
		return tables, nil
	}
	rules, err := conn.Rules()
	if err != nil {
		return nil, err
	}
	for i, ip := range ips {
		for _, found := range rules {
			if found.Src == netip.PrefixFrom(ip.Address.Addr(), ip.Address.Addr().BitLen()) {
				tables[i] = found.Table
			}
		}
	}
	return tables, nil
}

func footprint(c *Config, r *plugin.Request, addrs []netip.Addr) []state.Key {
	previous, _ := r.Previous()
	table := 0
	if c.Table != nil {
		table = int(*c.Table)
	}
	return []state.Key{rule.FootprintKey(r.IfName, previous.MAC, addrs, table)}
}
