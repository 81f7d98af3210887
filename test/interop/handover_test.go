package interop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// Either library runs the plugins of the other project, through all verbs that
// their version has.
func TestCallers(t *testing.T) {
	host.Internet(t)
	for _, tt := range []struct {
		caller  string
		new     func(*testing.T, string, implementation) caller
		plugins implementation
	}{
		{"plumb", newPlumb, reference},
		{"plumb", newPlumb, debian},
		{"libcni", newOfficial, ours},
	} {
		for _, n := range tt.plugins.networks() {
			t.Run(tt.caller+"/"+tt.plugins.name+"/"+n.String(), func(t *testing.T) {
				n.fresh(t)
				before := host.Snapshot(t)
				cache := t.TempDir()
				c := tt.new(t, cache, tt.plugins)
				at := newAttachment(t, "c1", n.ifName())

				must(t, "validate", c.validate(n.list()))
				must(t, "STATUS", c.status(n.list()))
				_, err := c.add(n.list(), at)
				must(t, "ADD", err)
				n.reach(t, at.ns)
				if n.version.AtLeast(cni.V040) {
					must(t, "CHECK", c.check(n.list(), at))
				}
				must(t, "GC of nothing", c.gc(n.list(), at))
				n.reach(t, at.ns)
				must(t, "DEL", c.del(n.list(), at))
				must(t, "second DEL", c.del(n.list(), at))
				nothingLeft(t, before)
				notCached(t, cache)
			})
		}
	}
	fresh(t)
}

// What another implementation has added, through libcni, ours check and delete
// through our runtime, as on a node whose plugins and runtime were replaced.
func TestTakeOver(t *testing.T) {
	host.Internet(t)
	for _, other := range others() {
		for _, n := range other.networks() {
			t.Run(other.name+"/"+n.String(), func(t *testing.T) {
				n.fresh(t)
				before := host.Snapshot(t)
				cache := t.TempDir()
				at := newAttachment(t, "c1", n.ifName())
				_, err := newOfficial(t, cache, other).add(n.list(), at)
				must(t, "ADD", err)

				c := newPlumb(t, cache, ours)
				if n.version.AtLeast(cni.V040) {
					must(t, "CHECK", c.check(n.list(), at))
				}
				must(t, "GC with the attachment valid", c.gc(n.list(), at))
				n.reach(t, at.ns)
				must(t, "DEL", c.del(n.list(), at))
				nothingLeft(t, before)
				notCached(t, cache)
			})
		}
	}
	fresh(t)
}

// So do ours where less is known of the attachment than it should be.
func TestTakeOverWithoutHelp(t *testing.T) {
	for _, tt := range []struct {
		name   string
		gone   bool // the namespace
		empty  bool // CNI_NETNS
		edited bool // the configuration: another back end
		cached bool // the result of the ADD
	}{
		{name: "edited", edited: true, cached: true},
		{name: "edited-no-result-namespace-gone", edited: true, gone: true},
		{name: "namespace-gone", gone: true, cached: true},
		{name: "netns-empty", empty: true, cached: true}, // nerdctl
		{name: "namespace-gone-netns-empty", gone: true, empty: true, cached: true},
		{name: "no-result"},
		{name: "no-result-namespace-gone", gone: true},
		{name: "no-result-namespace-gone-netns-empty", gone: true, empty: true}, // containerd's second DEL
	} {
		for _, other := range others() {
			for _, n := range other.networks() {
				if n.family != dual || n.version != other.newest && n.version != cni.V031 {
					continue
				}
				if tt.empty && !tt.gone && n.version == cni.V031 {
					continue // a DEL without a result, and nothing else to find the interface by
				}
				t.Run(tt.name+"/"+other.name+"/"+n.String(), func(t *testing.T) {
					n.fresh(t)
					before := host.Snapshot(t)
					cache := t.TempDir()
					at := newAttachment(t, "c1", n.ifName())
					_, err := newOfficial(t, cache, other).add(n.list(), at)
					must(t, "ADD", err)

					if tt.gone {
						host.RemoveNetNS(t, at.ns)
					}
					if tt.empty {
						at.ns = ""
					}
					if !tt.cached {
						cache = t.TempDir()
					}
					if tt.edited {
						n.backend = map[string]string{"nftables": "iptables"}[n.backend]
					}
					must(t, "DEL", newPlumb(t, cache, ours).del(n.list(), at))
					nothingLeft(t, before)
				})
			}
		}
	}
	fresh(t)
}

// GC takes away what the others made for containers that are gone, and leaves
// the ones that are valid alone, be they cached or not.
func TestTakeOverGC(t *testing.T) {
	host.Internet(t)
	for _, plugin := range []string{"bridge", "ptp"} {
		for _, backend := range reference.backends {
			n := network{plugin: plugin, family: dual, backend: backend, version: cni.V110}
			for _, cached := range []bool{true, false} {
				t.Run(n.String()+map[bool]string{true: "-cached"}[cached], func(t *testing.T) {
					n.fresh(t)
					before := host.Snapshot(t)
					cache := t.TempDir()
					old := newOfficial(t, cache, reference)
					stays, goes := newAttachment(t, "c1", "eth0"), newAttachment(t, "c2", "eth0")
					for _, at := range []attachment{stays, goes} {
						_, err := old.add(n.list(), at)
						must(t, "ADD", err)
					}
					if !cached {
						cache = t.TempDir()
						host.RemoveNetNS(t, goes.ns)
					}
					c := newPlumb(t, cache, ours)
					must(t, "GC", c.gc(n.list(), stays))
					n.reach(t, stays.ns)
					for _, line := range host.Snapshot(t) {
						if strings.Contains(line, "10.22.0.3") && !strings.Contains(line, "last_reserved_ip") || strings.Contains(line, goes.id) {
							t.Errorf("GC left %s", line)
						}
					}
					if !cached {
						host.RemoveNetNS(t, stays.ns)
					}
					must(t, "GC of all", c.gc(n.list()))
					nothingLeft(t, before)
				})
			}
		}
	}
	fresh(t)
}

// What ours have added, the others delete but for a remainder that
// differences.md lists and that our GC sweeps.
func TestLeave(t *testing.T) {
	host.Internet(t)
	list := listedDifferences(t, "left")
	for _, other := range others() {
		for _, n := range other.networks() {
			name := other.name + "-" + n.String()
			list.expect(name)
			t.Run(name, func(t *testing.T) {
				n.fresh(t)
				before := host.Snapshot(t)
				cache := t.TempDir()
				at := newAttachment(t, "c1", n.ifName())
				_, err := newPlumb(t, cache, ours).add(n.list(), at)
				must(t, "ADD", err)

				c := newOfficial(t, cache, other)
				if n.version.AtLeast(cni.V040) {
					must(t, "CHECK", c.check(n.list(), at))
				}
				n.reach(t, at.ns)
				var left []string
				if err := c.del(n.list(), at); err != nil {
					first, _, _ := strings.Cut(err.Error(), "\n")
					left = append(left, "+ first DEL: "+first)
					must(t, "second DEL", c.del(n.list(), at))
				}
				notCached(t, cache)
				if diff := before.Diff(host.Snapshot(t), shared()...); diff != "" {
					left = append(left, anonymous(t, strings.Split(diff, "\n"), at)...)
				}
				list.judge(t, name, left)

				n.version = cni.V110 // the one that has GC
				must(t, "GC", newPlumb(t, cache, ours).gc(n.list()))
				nothingLeft(t, before)
			})
		}
	}
	list.done(t)
	fresh(t)
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// notCached fails the test when a folder of results has one.
func notCached(t *testing.T, cache string) {
	t.Helper()
	entries, err := filepath.Glob(filepath.Join(cache, "results", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := os.Stat(e); err == nil && info.Mode().IsRegular() {
			t.Errorf("still cached: %s", e)
		}
	}
}
