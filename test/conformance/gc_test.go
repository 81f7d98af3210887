package conformance

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

// gcNetworks are three networks whose names begin alike.
func gcNetworks() []string {
	subnets := func(n int) string {
		return fmt.Sprintf(`"ipam":{"type":"host-local","ranges":[[{"subnet":"10.80.%d.0/24"}],[{"subnet":"fd00:80:%d::/64"}]]}`, n, n)
	}
	return []string{
		config("ptp", "gc", `"ipMasq":true,`+subnets(0)),
		bridgeConfig("gc-1", `"isGateway":true,"ipMasq":true,`+subnets(1)),
		config("ptp", "gc.1", `"ipMasq":true,"ipMasqBackend":"iptables",`+subnets(2)),
	}
}

// TestGC adds ten attachments to three networks and destroys five of their namespaces. GC of a network leaves its
// survivors and the other networks alone.
func TestGC(t *testing.T) {
	host.Need(t, "nft-inet-nat", "iptables-nft")
	for _, tt := range []struct {
		name      string
		forgotten bool // with the records gone too
	}{{"", false}, {" without records", true}} {
		t.Run("ten"+tt.name, func(t *testing.T) {
			removeAtEnd(t, bridgeName)
			networks := gcNetworks()
			stay := stays(bridgeName)
			living, dead := make([][]*attachment, 3), make([][]*attachment, 3)
			files := make(map[*attachment]string) // the records of those who live
			// First those who live: what there is then is what GC shall leave.
			for i := range 5 {
				n := i % 3
				a := attach(t, networks[n], fmt.Sprintf("living-%d", i))
				a.add(t)
				files[a] = a.record(t)
				living[n] = append(living[n], a)
			}
			after := host.Snapshot(t)
			for i := range 5 {
				n := i % 3
				a := attach(t, networks[n], fmt.Sprintf("dead-%d-%s", i, strings.Repeat("x", 20*i))) // a long ID is cut in tags
				a.add(t)
				dead[n] = append(dead[n], a)
			}
			for _, list := range dead {
				for _, a := range list {
					host.RemoveNetNS(t, a.netns)
				}
			}
			if tt.forgotten {
				if err := os.RemoveAll(state.RecordDir); err != nil {
					t.Fatal(err)
				}
				stay = append(stay, `^(file|dir) /run/plumb\b`)
			}
			for n, network := range networks {
				others := slices.Concat(dead[n+1:]...)
				gc(t, network, "cni.dev/valid-attachments", valid(living[n]...), "cni.dev/attachments", valid(living[n]...))
				s := host.Snapshot(t).String()
				for _, a := range dead[n] {
					if strings.Contains(s, a.id[:6]) {
						t.Errorf("GC of %s left something of %s", nameOf(network), a.id)
					}
				}
				for _, a := range others {
					if !strings.Contains(s, a.id[:6]) {
						t.Errorf("GC of %s took everything of %s, which is another network's", nameOf(network), a.id)
					}
				}
			}
			host.Unchanged(t, after, stay...)
			for _, list := range living {
				for _, a := range list {
					if !tt.forgotten {
						a.check(t)
					} else if failure := a.tryCheck(t); failure == nil || failure.Msg != "host record "+files[a]+" is missing" {
						t.Errorf("CHECK %s, of which the record alone is gone: %v", a.id, failure)
					}
				}
			}
		})
	}
}

func nameOf(config string) string {
	c, err := cni.ParseConfig([]byte(config))
	if err != nil {
		return err.Error()
	}
	return c.Name
}

// TestGCKeys calls GC with each form that the list of valid attachments may have.
func TestGCKeys(t *testing.T) {
	type keys = []any
	one := json.RawMessage(`[{"containerID":"kept","ifname":"eth0"}]`)
	for _, tt := range []struct {
		name string
		keys keys
		want string // who is left
	}{
		{"neither", nil, "kept other"},
		{"empty", keys{"cni.dev/valid-attachments", json.RawMessage(`[]`)}, ""},
		{"null", keys{"cni.dev/valid-attachments", json.RawMessage(`null`)}, ""},
		{"the old key, empty", keys{"cni.dev/attachments", json.RawMessage(`[]`)}, ""},
		{"the old key, null", keys{"cni.dev/attachments", json.RawMessage(`null`)}, ""},
		{"one", keys{"cni.dev/valid-attachments", one}, "kept"},
		{"the old key, one", keys{"cni.dev/attachments", one}, "kept"},
		{"both", keys{"cni.dev/attachments", one, "cni.dev/valid-attachments", one}, "kept"},
		{"the other interface", keys{"cni.dev/valid-attachments", json.RawMessage(`[{"containerID":"kept","ifname":"eth1"},{"containerID":"other","ifname":"eth0"}]`)}, "other"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, network := range gcNetworks()[:2] {
				removeAtEnd(t, bridgeName)
				// Their namespaces live on: a runtime that has lost its memory calls GC for running containers too.
				for _, id := range []string{"kept", "other"} {
					attach(t, network, id).add(t)
				}
				gc(t, network, tt.keys...)
				s := host.Snapshot(t).String()
				var left []string
				for _, id := range []string{"kept", "other"} {
					for _, of := range []string{`alias="plumb:` + nameOf(network) + "/" + id, `"` + id + `\r\neth0"`, `comment="plumb:` + nameOf(network) + "/" + id} {
						if strings.Contains(s, of) != strings.Contains(tt.want, id) {
							t.Errorf("%s: %s: %s is there: %v", nameOf(network), id, of, strings.Contains(s, of))
						}
					}
					if slices.ContainsFunc(records(t), func(name string) bool { return strings.Contains(name, id) }) {
						left = append(left, id)
					}
				}
				if got := strings.Join(left, " "); got != tt.want {
					t.Errorf("%s: there are records of %q, want %q", nameOf(network), got, tt.want)
				}
			}
		})
	}
}

// TestGCOfUnknown calls GC for networks that have never been used.
func TestGCOfUnknown(t *testing.T) {
	before := host.Snapshot(t)
	for _, network := range append(gcNetworks(), config("loopback", "net", "")) {
		gc(t, network, "cni.dev/valid-attachments", valid())
	}
	host.Unchanged(t, before, stays("")...)
}
