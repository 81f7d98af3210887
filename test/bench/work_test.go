package bench

import (
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// counts are the objects of one namespace.
type counts struct{ links, addresses, routes, rules int }

// count counts with ip -j. What the kernel does by itself where IPv6 is left on
// doesn't count: link-local addresses and the routes that come with them.
func count(t *testing.T, ns string) counts {
	t.Helper()
	c := counts{links: len(host.Links(t, ns))}
	for _, a := range host.Addrs(t, ns) {
		if !a.Prefix.Addr().IsLinkLocalUnicast() {
			c.addresses++
		}
	}
	for _, family := range []int{4, 6} {
		for _, r := range host.Routes(t, ns, family) {
			if !strings.HasPrefix(r.Dst, "fe80:") && !strings.HasPrefix(r.Dst, "ff00:") {
				c.routes++
			}
		}
		c.rules += len(host.Rules(t, ns, family))
	}
	return c
}

// sameWork fails the test unless ADD does the same for every contender, masquerade
// included, and DEL takes all of it back.
func sameWork(t *testing.T, as []*attachment) {
	t.Helper()
	var first [2]counts
	for i, a := range as {
		a.run(t, cni.VerbAdd) // for what stays: the bridge, shared tables
		a.run(t, cni.VerbDel)

		before, rules := [2]counts{count(t, ""), count(t, a.netns)}, host.Snapshot(t)
		a.run(t, cni.VerbAdd)
		after := [2]counts{count(t, ""), count(t, a.netns)}
		did := [2]counts{after[0].less(before[0]), after[1].less(before[1])}
		if i == 0 {
			first = did
		}
		if did != first {
			t.Errorf("%s: ADD of %s makes %+v on the host and in the container, %s makes %+v",
				a.contender.name, a.scenario.name(), did, as[0].contender.name, first)
		}
		now := host.Snapshot(t)
		a.masquerades(t, rules.Diff(now), now)
		a.run(t, cni.VerbDel)
		if now := [2]counts{count(t, ""), count(t, a.netns)}; now != before {
			t.Errorf("%s: DEL of %s leaves %+v, there was %+v", a.contender.name, a.scenario.name(), now, before)
		}
	}
}

// masquerades fails the test unless there is a rule, or element of a set, about
// each address of the container: among what the ADD has made, or, if the
// network is masqueraded as a whole, about its subnet.
func (a *attachment) masquerades(t *testing.T, made string, all host.State) {
	t.Helper()
	for _, ip := range a.addrs {
		found := false
		for line := range strings.Lines(made) {
			if strings.HasPrefix(line, "+ nft ") || strings.HasPrefix(line, "+ ip") {
				found = found || strings.Contains(line, ip.Address.Addr().String())
			}
		}
		for _, line := range all {
			found = found || strings.Contains(line, "tables-save nat -A POSTROUTING -s "+ip.Address.Masked().String()+" ")
		}
		if !found {
			t.Errorf("%s: ADD of %s doesn't masquerade %s:\n%s", a.contender.name, a.scenario.name(), ip.Address, made)
		}
	}
}

func (c counts) less(d counts) counts {
	return counts{c.links - d.links, c.addresses - d.addresses, c.routes - d.routes, c.rules - d.rules}
}
