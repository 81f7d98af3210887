package interop

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

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
				at := n.attachment(t, "c1")

				must(t, "validate", c.validate(n.list()))
				must(t, "STATUS", c.status(n.list()))
				_, err := c.add(n.list(), at)
				must(t, "ADD", err)
				n.reach(t, at.ns)
				if n.checks(tt.plugins) {
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
				at := n.attachment(t, "c1")
				_, err := newOfficial(t, cache, other).add(n.list(), at)
				must(t, "ADD", err)

				c := newPlumb(t, cache, ours)
				if n.checks(ours) {
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
				if n.family != dual && n.chain.plugins == nil || n.version != other.newest && n.version != cni.V031 {
					continue
				}
				if tt.empty && !tt.gone && n.version == cni.V031 {
					continue // a DEL without a result, and nothing else to find the interface by
				}
				t.Run(tt.name+"/"+other.name+"/"+n.String(), func(t *testing.T) {
					n.fresh(t)
					before := host.Snapshot(t)
					cache := t.TempDir()
					at := n.attachment(t, "c1")
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
	var networks []network
	for _, backend := range reference.backends {
		for _, plugin := range []string{"bridge", "ptp"} {
			networks = append(networks, network{plugin: plugin, family: dual, backend: backend, version: cni.V110})
		}
		networks = append(networks, fullNetwork(cni.V110, backend))
	}
	for _, n := range networks {
		for _, cached := range []bool{true, false} {
			name := n.String() + map[bool]string{true: "-cached"}[cached]
			t.Run(name, func(t *testing.T) {
				n.fresh(t)
				before := host.Snapshot(t)
				cache := t.TempDir()
				old := newOfficial(t, cache, reference)
				stays := n.attachment(t, "c1")
				other := n
				if n.published != 0 {
					other = n.publishing(8100)
				}
				goes := other.attachment(t, "c2")
				for _, at := range []attachment{stays, goes} {
					_, err := old.add(n.list(), at)
					must(t, "ADD", err)
				}
				if !cached {
					// As long as a veth is there it sends through the device of the reference's bandwidth, of
					// which nothing else tells that it serves nobody.
					cache = t.TempDir()
					host.DestroyNetNS(t, goes.ns)
				}
				c := newPlumb(t, cache, ours)
				must(t, "GC", c.gc(n.list(), stays))
				n.reach(t, stays.ns)
				left := leftOf(t, goes, "10.22.0.3", "fd00:22::3")
				if left != nil {
					t.Errorf("GC left\n%s", strings.Join(left, "\n"))
				}
				if !cached {
					host.DestroyNetNS(t, stays.ns)
				}
				must(t, "GC of all", c.gc(n.list()))
				nothingLeft(t, before)
			})
		}
	}
	fresh(t)
}

// A container's other network keeps all that the reference has made for it, though its rules for
// ports in nftables tell the container alone: GC knows them by the address.
func TestTakeOverGCOfOneNetwork(t *testing.T) {
	for _, backend := range reference.backends {
		t.Run(backend, func(t *testing.T) {
			n := fullNetwork(cni.V110, backend)
			n.fresh(t)
			first := n.attachment(t, "c1")
			second := first
			second.ifName, second.ports = "eth1", n.publishing(8100).portMappings()
			other := []byte(strings.NewReplacer(networkName, "another-network", bridgeName, "br1", "10.22.", "10.23.", "fd00:22:", "fd00:23:").Replace(string(n.list())))
			old := newOfficial(t, t.TempDir(), reference)
			for _, a := range []struct {
				list []byte
				at   attachment
			}{{n.list(), first}, {other, second}} {
				_, err := old.add(a.list, a.at)
				must(t, "ADD", err)
			}
			of := func(addrs string) []string {
				addr := regexp.MustCompile(`(` + addrs + `)\b`)
				return slices.DeleteFunc(host.Snapshot(t), func(line string) bool {
					return strings.Contains(line, "last_reserved_ip") || !addr.MatchString(line)
				})
			}
			const ofFirst, ofSecond = `10\.22\.0\.2|fd00:22::2`, `10\.23\.0\.2|fd00:23::2`
			before := of(ofSecond)
			if len(before) == 0 || len(of(ofFirst)) == 0 {
				t.Fatal("the reference has made nothing, so nothing is tried here")
			}
			must(t, "GC", newPlumb(t, t.TempDir(), ours).gc(n.list()))
			if left := of(ofFirst); len(left) > 0 {
				t.Errorf("GC left\n%s", strings.Join(left, "\n"))
			}
			if diff := compare(before, of(ofSecond)); len(diff) > 0 {
				t.Errorf("GC of another network took\n%s", strings.Join(diff, "\n"))
			}
			must(t, "DEL", old.del(other, second))
			host.Run(t, "ip", "link", "del", "br1")
		})
	}
	fresh(t)
}

// leftOf returns what mentions a container or its addresses, as soon as nothing
// does, or when what does is there to stay: with the namespace of a container that is gone, its
// links and routes go in the kernel's own time.
func leftOf(t *testing.T, at attachment, addrs ...string) (left []string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		left = nil
		for _, line := range host.Snapshot(t) {
			mentioned := strings.Contains(line, at.id) || slices.ContainsFunc(addrs, func(addr string) bool { return strings.Contains(line, addr) })
			if mentioned && !strings.Contains(line, "last_reserved_ip") && !ofIPTables.MatchString(line) {
				left = append(left, "- "+line)
			}
		}
		if left == nil || time.Now().After(deadline) && !slices.ContainsFunc(left, func(line string) bool { return strings.HasPrefix(line, "- route ") }) {
			return left
		}
		if time.Now().After(deadline.Add(10 * time.Second)) {
			return left
		}
	}
}

// What ours have added, the others delete but for a remainder that
// differences.md lists and that our GC sweeps, or plumb plugins remove.
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
				at := n.attachment(t, "c1")
				_, err := newPlumb(t, cache, ours).add(n.list(), at)
				must(t, "ADD", err)

				c := newOfficial(t, cache, other)
				var left []string
				fails := func(what string, err error) {
					first, _, _ := strings.Cut(err.Error(), "\n")
					left = append(left, "+ "+what+": "+first)
				}
				if n.checks(other) {
					if err := c.check(n.list(), at); err != nil {
						fails("CHECK", err)
					}
				}
				n.reach(t, at.ns)
				if err := c.del(n.list(), at); err != nil {
					fails("first DEL", err)
					must(t, "second DEL", c.del(n.list(), at))
				}
				notCached(t, cache)
				if diff := before.Diff(host.Snapshot(t), shared()...); diff != "" {
					left = append(left, anonymous(t, strings.Split(diff, "\n"), at)...)
				}
				list.judge(t, name, left)

				if n.chain.plugins != nil {
					host.Run(t, filepath.Join(ours.bin(t), "plumb"), "plugins", "remove")
					for _, line := range host.Snapshot(t) {
						if strings.Contains(line, "plumb") {
							t.Errorf("plumb plugins remove left %s", line)
						}
					}
				} else {
					n.version = cni.V110 // the one that has GC
					must(t, "GC", newPlumb(t, cache, ours).gc(n.list()))
				}
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
