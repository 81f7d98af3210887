package interop

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// Containers of all implementations on one bridge reach each other and the
// Internet, also when each has been deleted by another than added it.
func TestOneBridge(t *testing.T) {
	host.Internet(t)
	for _, backend := range reference.backends {
		t.Run(backend, func(t *testing.T) {
			fresh(t)
			before := host.Snapshot(t)
			n := network{plugin: "bridge", family: dual, backend: backend, version: cni.V100}
			cache := t.TempDir()
			adders := []implementation{reference, ours, debian, ours, reference}
			var all []attachment
			addrs := make(map[attachment][]string)
			for i, impl := range adders {
				at := newAttachment(t, fmt.Sprint("c", i), "eth0")
				result, err := newOfficial(t, cache, impl).add(n.list(), at)
				must(t, impl.name+" ADD", err)
				all, addrs[at] = append(all, at), addressesOf(t, result)
			}
			everybody := func() {
				t.Helper()
				for _, from := range all {
					n.reach(t, from.ns)
					for _, to := range all {
						if to == from {
							continue // that takes the container's lo, which is down
						}
						for _, addr := range addrs[to] {
							host.Ping(t, from.ns, addr)
						}
					}
				}
			}
			everybody()
			for _, impl := range []implementation{ours, reference} { // of the first's container, and the second's
				must(t, impl.name+" DEL", newOfficial(t, cache, impl).del(n.list(), all[0]))
				all = all[1:]
			}
			everybody()
			for _, at := range all {
				must(t, "DEL", newOfficial(t, cache, ours).del(n.list(), at))
			}
			n.version = cni.V110
			must(t, "GC", newPlumb(t, cache, ours).gc(n.list())) // of what the reference left of ours
			nothingLeft(t, before)
		})
	}
	fresh(t)
}

// A folder of plugins of both: either's bridge is served by either's
// host-local.
func TestOneFolder(t *testing.T) {
	host.Internet(t)
	for _, tt := range []struct{ bridge, ipam implementation }{{ours, reference}, {reference, ours}, {ours, debian}, {debian, ours}} {
		t.Run(tt.bridge.name+"-with-host-local-of-"+tt.ipam.name, func(t *testing.T) {
			fresh(t)
			before := host.Snapshot(t)
			dir := t.TempDir()
			for name, impl := range map[string]implementation{"bridge": tt.bridge, "host-local": tt.ipam} {
				if err := os.Symlink(filepath.Join(impl.bin(t), name), filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			mixture := implementation{bin: func(testing.TB) string { return dir }}
			n := network{plugin: "bridge", family: dual, version: cni.V100}
			at := newAttachment(t, "c1", "eth0")
			c := newOfficial(t, t.TempDir(), mixture)
			_, err := c.add(n.list(), at)
			must(t, "ADD", err)
			n.reach(t, at.ns)
			must(t, "CHECK", c.check(n.list(), at))
			must(t, "DEL", c.del(n.list(), at))
			nothingLeft(t, before)
		})
	}
	fresh(t)
}

// allocator calls the host-local of an implementation.
type allocator struct {
	implementation
	network
}

func (a allocator) call(t *testing.T, verb, id string) (stdout string, exit int) {
	t.Helper()
	stdout, _, exit = host.Plugin(t, a.bin(t), "host-local", host.Env(verb, id, "/none", "eth0", a.bin(t)), a.single())
	return stdout, exit
}

// One folder of addresses serves all implementations: each goes on where
// another stopped, and all at once give no address twice.
func TestOneRange(t *testing.T) {
	fresh(t)
	before := host.Snapshot(t)
	n := network{plugin: "host-local", version: cni.V100, ipam: `{"type":"host-local","subnet":"10.22.0.0/27"}`} // .2 to .30: 29
	theirs, mine, old := allocator{reference, n}, allocator{ours, n}, allocator{debian, n}
	give := func(a allocator, id string) string {
		t.Helper()
		stdout, exit := a.call(t, "ADD", id)
		if exit != 0 {
			t.Fatalf("%s: ADD of %s: %s", a.implementation.name, id, stdout)
		}
		return addressesOf(t, []byte(stdout))[0]
	}
	take := func(a allocator, id string) {
		t.Helper()
		if stdout, exit := a.call(t, "DEL", id); exit != 0 {
			t.Fatalf("%s: DEL of %s: %s", a.implementation.name, id, stdout)
		}
	}

	// Round robin, with an address that was given back in between.
	for i, a := range []allocator{theirs, mine, old, mine, theirs, theirs, mine, mine, old} {
		if got, want := give(a, "c"), fmt.Sprintf("10.22.0.%d", i+2); got != want {
			t.Errorf("step %d: %s gives %s, want %s", i, a.implementation.name, got, want)
		}
		take([]allocator{mine, theirs, old}[i%3], "c")
	}

	// All at once, beyond the end of the range and around.
	const each = 9
	given := make(chan string, 3*each)
	var wg sync.WaitGroup
	for _, a := range []allocator{theirs, mine, old} {
		wg.Go(func() {
			for i := range each {
				stdout, exit := a.call(t, "ADD", fmt.Sprintf("%s-%d", a.implementation.name, i))
				if exit != 0 {
					t.Errorf("%s: %s", a.implementation.name, stdout)
					continue
				}
				given <- addressesOf(t, []byte(stdout))[0]
			}
		})
	}
	wg.Wait()
	close(given)
	var addrs []string
	for addr := range given {
		addrs = append(addrs, addr)
	}
	slices.Sort(addrs)
	if len(slices.Compact(addrs)) != 3*each {
		t.Errorf("an address was given twice: %v", addrs)
	}

	// Two are free; then each knows that none is.
	give(mine, "last")
	give(theirs, "very-last")
	for _, a := range []allocator{theirs, mine, old} {
		if stdout, exit := a.call(t, "ADD", "too-many"); exit == 0 {
			t.Errorf("%s gives away a 30th address: %s", a.implementation.name, stdout)
		}
	}
	for i := range each {
		take(mine, fmt.Sprintf("reference-%d", i))
		take(mine, fmt.Sprintf("debian-%d", i))
		take([]allocator{theirs, old}[i%2], fmt.Sprintf("plumb-%d", i))
	}
	take(theirs, "last")
	take(mine, "very-last")
	nothingLeft(t, before)
}

// A container keeps its traffic, packet by packet, while the other
// implementation takes over the node: adds, checks, collects and deletes.
func TestLiveTakeover(t *testing.T) {
	host.Internet(t)
	for _, plugin := range []string{"bridge", "ptp"} {
		for _, backend := range reference.backends {
			for _, tt := range []struct{ from, to implementation }{{reference, ours}, {ours, reference}} {
				n := network{plugin: plugin, family: dual, backend: backend, version: cni.V110}
				t.Run(n.String()+"-from-"+tt.from.name, func(t *testing.T) {
					fresh(t)
					cache := t.TempDir()
					olds := []attachment{newAttachment(t, "old1", "eth0"), newAttachment(t, "old2", "eth0")}
					var neighbour []string
					for _, at := range olds {
						result, err := newOfficial(t, cache, tt.from).add(n.list(), at)
						must(t, "ADD", err)
						neighbour = addressesOf(t, result)
					}
					stop := traffic(t, olds[0].ns, append(neighbour, host.Internet4, host.Internet6)...)

					c := newPlumb(t, cache, tt.to)
					news := []attachment{newAttachment(t, "new1", "eth0"), newAttachment(t, "new2", "eth0")}
					for _, at := range news {
						_, err := c.add(n.list(), at)
						must(t, "ADD", err)
						n.reach(t, at.ns)
						for _, addr := range neighbour {
							host.Ping(t, at.ns, addr)
						}
					}
					for _, at := range slices.Concat(olds, news) {
						must(t, "CHECK", c.check(n.list(), at))
					}
					must(t, "DEL", c.del(n.list(), news[0]))
					must(t, "GC", c.gc(n.list(), append(olds, news[1])...))
					must(t, "DEL", c.del(n.list(), news[1]))
					n.reach(t, olds[1].ns)
					stop()
				})
			}
		}
	}
	fresh(t)
}

// traffic pings addresses from a namespace, "" for the host, a hundred times a
// second each, until the returned function is called, which fails the test when an answer was
// missing.
func traffic(t *testing.T, ns string, addrs ...string) (stop func()) {
	t.Helper()
	var pings []*exec.Cmd
	outs := make([]strings.Builder, len(addrs))
	for i, addr := range addrs {
		host.Ping(t, ns, addr) // neighbours know each other from here on
		// -i 0.01 takes root; the deadline ends it should the test fail to.
		args := []string{"ping", "-n", "-i", "0.01", "-w", "120", addr}
		if ns != "" {
			args = append([]string{"nsenter", "--net=" + ns}, args...)
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr = &outs[i], &outs[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill() }) //nolint:errcheck // it has ended
		pings = append(pings, cmd)
	}
	return func() {
		t.Helper()
		time.Sleep(200 * time.Millisecond) // after all that the test does
		for i, cmd := range pings {
			cmd.Process.Signal(syscall.SIGINT) //nolint:errcheck // it has ended, which its output tells
			cmd.Wait()                         //nolint:errcheck // so does this
			var sent, received int
			for s := bufio.NewScanner(strings.NewReader(outs[i].String())); s.Scan(); {
				fmt.Sscanf(s.Text(), "%d packets transmitted, %d received", &sent, &received) //nolint:errcheck // most lines are others
			}
			// The last request may be on its way still.
			if sent < 10 || received < sent-1 {
				t.Errorf("ping of %s: %d requests, %d answers\n%s", addrs[i], sent, received, outs[i].String())
			}
		}
	}
}
