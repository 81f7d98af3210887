package nftconn

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

func TestLegacy(t *testing.T) {
	c := dial(t)
	for _, x := range []struct {
		family                      Family
		tool                        string
		from, to, group, fromP, toP string
	}{
		{IPv4, "iptables-legacy", "10.1.2.3", "10.1.0.0/20", "224.0.0.0/4", "10.1.2.3/32", "10.1.0.0/20"},
		{IPv6, "ip6tables-legacy", "fd00::3", "fd00::/60", "ff00::/8", "fd00::3/128", "fd00::/60"},
	} {
		t.Run(x.tool, func(t *testing.T) {
			get := func() LegacyTable {
				table, err := c.Legacy(context.Background(), x.family, "nat")
				if err != nil {
					t.Fatal(err)
				}
				return table
			}
			names := func() string { return host.Run(t, "cat", "/proc/net/ip_tables_names") } // of an earlier run, too
			before := names()
			if table := get(); table.Rules != nil || table.Chains != nil {
				t.Errorf("an unused table has %v", table)
			}
			if after := names(); x.family == IPv4 && after != before {
				t.Errorf("looking made the tables %s", after)
			}
			run := func(line string) { t.Helper(); host.Run(t, x.tool, strings.Fields(line)...) }
			run("-t nat -N one")
			run("-t nat -N two")
			run("-t nat -A one -d " + x.to + " -m comment --comment hi -j ACCEPT")
			run("-t nat -A one ! -d " + x.group + " -j MASQUERADE --random")
			run("-t nat -A one -p tcp -m multiport --dports 1,2 -j RETURN")
			run("-t nat -A POSTROUTING -s " + x.from + " -j two")
			run("-t nat -A POSTROUTING ! -s " + x.from + " -m comment --comment a\"b -j one")
			t.Cleanup(func() { run("-t nat -F"); run("-t nat -X") })

			table := get()
			if !slices.Equal(table.Chains, []string{"one", "two"}) {
				t.Errorf("chains %q", table.Chains)
			}
			var got []string
			for _, r := range table.Rules {
				line := r.Chain + ":"
				for _, m := range []struct {
					name string
					get  func() (fmt.Stringer, bool)
				}{
					{"from", func() (fmt.Stringer, bool) { p, ok := r.Source(); return p, ok }},
					{"not from", func() (fmt.Stringer, bool) { p, ok := r.matched(sourceOffset4, sourceOffset6, NotEqual); return p, ok }},
					{"to", func() (fmt.Stringer, bool) { p, ok := r.Destination(); return p, ok }},
					{"not to", func() (fmt.Stringer, bool) {
						p, ok := r.matched(destinationOffset4, destinationOffset6, NotEqual)
						return p, ok
					}},
				} {
					if p, ok := m.get(); ok {
						line += " " + m.name + " " + p.String()
					}
				}
				got = append(got, fmt.Sprintf("%s %s%s %q", line, r.Target(), r.Jump(), r.Comment))
			}
			want := []string{
				"POSTROUTING: from " + x.fromP + ` two ""`,
				"POSTROUTING: not from " + x.fromP + ` one "a\"b"`,
				"one: to " + x.toP + ` ACCEPT "hi"`,
				"one: not to " + x.group + ` MASQUERADE ""`,
				`one: RETURN ""`,
			}
			if !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}
