package hostlocal

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/test/host"
)

// reference runs a verb of the reference's host-local in the node's folder and returns what show does for ours,
// with errors as "error: ...".
func (n *node) reference(t testing.TB, bin, ns, verb, id, ipamKeys string, more ...string) string {
	t.Helper()
	r := n.must(t, id, ipamKeys, more...)
	stdout, stderr, exit := host.Plugin(t, bin, "host-local", host.Env(verb, id, ns, "eth0", bin), string(r.Request.Config))
	if exit != 0 {
		e, err := cni.DecodeError([]byte(stdout))
		if err != nil {
			t.Fatalf("%v: %s%s", err, stdout, stderr)
		}
		return "error: " + e.Error()
	}
	if verb != "ADD" {
		return ""
	}
	result, err := cni.DecodeResult([]byte(stdout), "")
	check(t, err)
	return show(result, nil)
}

// TestSequencesOfReference runs the sequences with the reference, to know that they are right, and those in which
// both take turns.
func TestSequencesOfReference(t *testing.T) {
	bin, ns := host.Reference(t), host.NetNS(t)
	for _, c := range sequences {
		for _, kind := range []string{"reference", "in turn"} {
			t.Run(c.name+", "+kind, func(t *testing.T) {
				n := newNode(t)
				n.put(t, c.put)
				var got []string
				for i := range strings.Fields(c.want) {
					id, a := fmt.Sprint("c", i), ""
					if kind == "reference" || i%2 == 1 {
						a = n.reference(t, bin, ns, "ADD", id, c.ipam)
					} else {
						a = n.add(t, id, c.ipam)
					}
					if strings.Contains(a, ": ") {
						a = "full"
					}
					got = append(got, strings.ReplaceAll(a, " ", ","))
				}
				if g := strings.Join(got, " "); (g == c.want) == c.ours && kind == "reference" || g != c.want && !c.ours {
					t.Errorf("got %s, want %s, differing from ours: %v", g, c.want, c.ours)
				}
			})
		}
	}
}

// TestTakeover switches a node with attachments from one to the other and back.
func TestTakeover(t *testing.T) {
	bin, ns := host.Reference(t), host.NetNS(t)
	const ranges = `"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]]`
	n := newNode(t)
	expect := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	expect(n.reference(t, bin, ns, "ADD", "ref", ranges), "10.0.0.2/24 fd00::2/64")
	expect(n.add(t, "our", ranges), "10.0.0.3/24 fd00::3/64")
	expect(n.reference(t, bin, ns, "CHECK", "our", ranges), "")
	check(t, n.Check(ctx, n.must(t, "ref", ranges, `"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.2/24"},{"address":"fd00::2/64"}]}`)))
	if got := n.add(t, "ref", ranges); !strings.HasPrefix(got, "100: network net: container ref, interface eth0 holds 10.0.0.2, fd00::2 already") {
		t.Error(got)
	}
	if got := n.reference(t, bin, ns, "ADD", "our", ranges); !strings.Contains(got, "10.0.0.3 has been allocated to our") {
		t.Error(got)
	}
	if got := n.reference(t, bin, ns, "ADD", "ref2", ranges, `"runtimeConfig":{"ips":["10.0.0.3"]}`); !strings.Contains(got, "not available") {
		t.Error(got)
	}
	expect(n.reference(t, bin, ns, "DEL", "our", ranges), "")
	expect(n.add(t, "our", ranges), "10.0.0.4/24 fd00::4/64")
	expect(n.reference(t, bin, ns, "ADD", "ref3", ranges), "10.0.0.5/24 fd00::5/64")
	released, err := n.Del(ctx, n.must(t, "ref", ranges))
	check(t, err)
	expect(fmt.Sprint(released), "[10.0.0.2 fd00::2]")
	want := map[string]string{"10.0.0.4": "our", "fd00::4": "our", "10.0.0.5": "ref3", "fd00::5": "ref3"}
	if got := n.records(t); !maps.Equal(got, want) {
		t.Errorf("records %v, want %v", got, want)
	}
}

// TestConcurrentWithReference has both at work at once.
func TestConcurrentWithReference(t *testing.T) {
	bin, ns := host.Reference(t), host.NetNS(t)
	const ranges, callers, times = `"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]]`, 4, 20
	n := newNode(t)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for j := range times {
				id := fmt.Sprintf("ref-%d-%d", i, j)
				if got := n.reference(t, bin, ns, "ADD", id, ranges); strings.HasPrefix(got, "error") {
					t.Error(got)
				}
				if j%2 == 0 {
					n.reference(t, bin, ns, "DEL", id, ranges)
				}
			}
		})
		wg.Go(func() {
			for j := range times {
				id := fmt.Sprintf("our-%d-%d", i, j)
				if got := n.add(t, id, ranges); strings.Contains(got, ": ") {
					t.Error(got)
				}
				if j%2 == 0 {
					if released, err := n.Del(ctx, n.must(t, id, ranges)); err != nil || len(released) != 2 {
						t.Error(released, err)
					}
				}
			}
		})
	}
	wg.Wait()
	holds := make(map[string]int)
	for _, id := range n.records(t) {
		holds[id]++
	}
	for id, addrs := range holds {
		if addrs != 2 {
			t.Errorf("%s holds %d addresses", id, addrs)
		}
	}
	if want := 2 * callers * times / 2; len(holds) != want {
		t.Errorf("%d containers hold addresses, want %d", len(holds), want)
	}
}

// TestRecorded answers what container runtimes sent. Addresses depend on what was given before, so that is set up from the answer.
func TestRecorded(t *testing.T) {
	paths, err := filepath.Glob("testdata/runtimes/*.json")
	check(t, err)
	if len(paths) == 0 {
		t.Fatal("nothing is recorded")
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			check(t, err)
			var call struct {
				Env           map[string]string
				Stdin, Stdout json.RawMessage
			}
			check(t, json.Unmarshal(data, &call))
			n := newNode(t)
			var section struct{ IPAM map[string]any }
			check(t, json.Unmarshal(call.Stdin, &section))
			section.IPAM["dataDir"] = n.dir
			config, err := cni.Derive(call.Stdin, map[string]any{"ipam": section.IPAM})
			check(t, err)
			r, err := plugin.NewRequest(&cni.Request{
				ContainerID: call.Env["CNI_CONTAINERID"], IfName: call.Env["CNI_IFNAME"], NetNS: call.Env["CNI_NETNS"], Args: call.Env["CNI_ARGS"], Config: config,
			})
			check(t, err)
			if call.Env["CNI_COMMAND"] == "DEL" {
				if released, err := n.Del(ctx, r); err != nil || len(released) != 0 {
					t.Errorf("released %s, %v", released, err)
				}
				return
			}
			want, err := cni.DecodeResult(call.Stdout, "")
			check(t, err)
			dir := filepath.Join(n.dir, r.Config.Name)
			check(t, os.MkdirAll(dir, 0o755))
			for i, ip := range want.IPs {
				check(t, os.WriteFile(fmt.Sprintf("%s/last_reserved_ip.%d", dir, i), []byte(ip.Address.Addr().Prev().String()), 0o600))
			}
			result, err := n.Add(ctx, r)
			check(t, err)
			got, err := result.Encode(r.Config.CNIVersion)
			check(t, err)
			sameJSON(t, got, call.Stdout)
		})
	}
}
