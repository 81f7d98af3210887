package firewall_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

func sources(t *testing.T, zone string) []string {
	t.Helper()
	return strings.Fields(host.Run(t, "firewall-cmd", "--zone="+zone, "--list-sources"))
}

// A real firewalld, which drops what is forwarded, has the addresses in its
// zone, whether it is asked for or just runs.
func TestFirewalld(t *testing.T) {
	keys.Covers(t, "firewall", "backend", "firewalldZone")
	host.Internet(t)
	wipe(t)
	host.Firewalld(t)
	reference := host.Reference(t)
	for _, x := range []struct{ keys, zone string }{
		{"", "trusted"}, {`,"backend":"firewalld"`, "trusted"}, {`,"backend":"firewalld","firewalldZone":"containers"`, "containers"},
	} {
		t.Run(x.keys, func(t *testing.T) {
			p := newPod(t, 70, 2, x.keys)
			if x.zone == "containers" {
				_, failure := p.TryAdd(t)
				if failure == nil || failure.Code != cni.CodeInvalidConfig || !strings.Contains(failure.Msg, "no zone containers") {
					t.Errorf("ADD without the zone: %v", failure)
				}
				p.gone(t)
				script(t, `firewall-cmd -q --permanent --new-zone=containers; firewall-cmd -q --permanent --zone=containers --set-target=ACCEPT; firewall-cmd -q --reload`)
			}
			p.hearsInternet(t, "before ADD", "")
			p.Add(t)
			if got := sources(t, x.zone); !slices.Equal(got, []string{p.v4 + "/32", p.v6 + "/128"}) {
				t.Errorf("sources of %s are %q", x.zone, got)
			}
			p.hearsInternet(t, "after ADD", "4+6")
			p.Check(t)
			if s := p.TryStatus(t); s != nil {
				t.Errorf("STATUS: %v", s)
			}

			host.Run(t, "firewall-cmd", "--zone="+x.zone, "--remove-source="+p.v6+"/128")
			if got := p.Drifts(t, state.CodeDrift); !strings.Contains(got, "source "+p.v6+" of firewalld's zone "+x.zone+" is missing") {
				t.Errorf("CHECK says %q", got)
			}
			host.Run(t, "firewall-cmd", "--reload") // forgets what is of its running state alone
			p.Drifts(t, state.CodeDrift)
			p.Add(t)
			p.Check(t)

			p.Del(t)
			if got := sources(t, x.zone); len(got) > 0 {
				t.Errorf("DEL has left %q", got)
			}
			p.Del(t)
			p.gone(t)

			p.Add(t)
			script(t, "rm /run/plumb/attachments/firewall@*")
			p.GC(t)
			if got := sources(t, x.zone); len(got) > 0 {
				t.Errorf("GC has left %q", got)
			}
		})
	}

	t.Run("reference", func(t *testing.T) {
		p := newPod(t, 70, 2, `,"cniVersion":"1.0.0"`)
		theirs := p.with(t, nil, reference)
		theirs.Config = attach.Derive(t, theirs.Config, map[string]any{"backend": "firewalld"})
		theirs.Add(t)
		p.Prev = theirs.Prev
		p.Check(t)
		p.Del(t)
		if got := sources(t, "trusted"); len(got) > 0 {
			t.Errorf("DEL has left %q", got)
		}
		p.Add(t)
		theirs.Check(t)
		theirs.Del(t)
		if got := sources(t, "trusted"); len(got) > 0 {
			t.Errorf("the reference's DEL has left %q", got)
		}
		p.Del(t)
		p.gone(t)
	})

	t.Run("conflict", func(t *testing.T) {
		p := newPod(t, 70, 2, "")
		host.Run(t, "firewall-cmd", "--zone=drop", "--add-source="+p.v6)
		_, failure := p.TryAdd(t)
		if failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Msg, "zone drop") {
			t.Errorf("ADD of an address of another zone: %v", failure)
		}
		if got := sources(t, "trusted"); len(got) > 0 {
			t.Errorf("a failed ADD has left %q", got)
		}
		p.Del(t)
		if got := sources(t, "drop"); !slices.Equal(got, []string{p.v6}) {
			t.Errorf("the user's sources are %q", got)
		}
		host.Run(t, "firewall-cmd", "--zone=drop", "--remove-source="+p.v6)
	})

	t.Run("policies", func(t *testing.T) {
		p, neighbour, other := newPod(t, 71, 2, `,"ingressPolicy":"isolated"`), newPod(t, 71, 3, `,"ingressPolicy":"isolated"`), newPod(t, 72, 4, `,"ingressPolicy":"same-bridge"`)
		for _, q := range []*pod{p, neighbour, other} {
			q.Add(t)
			q.Check(t)
		}
		p.hears(t, neighbour, "isolated", "")
		p.hears(t, other, "isolated", "")
		p.hearsInternet(t, "isolated", "4+6")
	})
}
