package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/inprocess"
	"github.com/plumb-cni/plumb/test/host"
)

const (
	pooled     = 50000 // addresses of a /16 that are held
	poolTarget = 1.5   // how many times longer with these than with none
	callers    = 200   // at once
)

// A pool is host-local called for one network, as another plugin calls it.
type pool struct {
	contender
	network string
	netns   string
	invoker *inprocess.Invoker // nil: it is executed
}

func (p pool) config(prev json.RawMessage) string {
	config := fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"type":"bridge","ipam":{"type":"host-local","ranges":[[{"subnet":"10.64.0.0/16"}]]}`, p.network)
	if prev != nil {
		config += fmt.Sprintf(`,"prevResult":%s`, prev)
	}
	return config + "}"
}

// call has a verb done for a container and returns the result of an ADD.
func (p pool) call(t testing.TB, verb cni.Verb, id string, prev json.RawMessage) (json.RawMessage, time.Duration) {
	t.Helper()
	if p.invoker == nil {
		return call{
			program: filepath.Join(p.bin, "host-local"), env: host.Env(string(verb), id, p.netns, "eth0", p.bin), stdin: p.config(prev),
		}.run(t)
	}
	answer, took, err := p.invoke(verb, id, prev)
	if err != nil {
		t.Fatal(err)
	}
	return answer, took
}

func (p pool) invoke(verb cni.Verb, id string, prev json.RawMessage) (answer json.RawMessage, took time.Duration, err error) {
	req := &cni.Request{Verb: verb, ContainerID: id, NetNS: p.netns, IfName: "eth0", Path: []string{p.bin}, Config: []byte(p.config(prev))}
	start := time.Now()
	result, err := p.invoker.Invoke(context.Background(), "host-local", req)
	took = time.Since(start)
	if err == nil && verb == cni.VerbAdd {
		answer, err = result.Encode("1.0.0")
	}
	return answer, took, err
}

// timePool measures host-local with an empty pool and with one that is mostly
// taken, and many callers at once.
func timePool(t *testing.T, list []contender) []timing {
	t.Helper()
	held := pooled
	if few() {
		held = 200
	}
	netns := host.NetNS(t)
	var pools []pool
	for _, c := range named(list, ours, execOurs, reference) {
		p := pool{contender: c, network: fmt.Sprintf("pool%d", len(pools)), netns: netns}
		if !c.executes() {
			p.invoker = invoker(t)
		}
		pools = append(pools, p)
	}
	verbs := []cni.Verb{cni.VerbAdd, cni.VerbCheck, cni.VerbDel}
	times := make([][][]series, len(pools)) // by pool, verb, and whether it is full
	for i := range pools {
		times[i] = make([][]series, len(verbs))
		for v := range verbs {
			times[i][v] = make([]series, 2)
		}
	}
	var wait timings
	for full := range 2 {
		if full == 1 {
			wait = fill(t, pools, held)
		}
		for round := range warmups + *rounds {
			for i, p := range pools {
				if p.name == reference && round >= warmups+enough {
					continue // half a second each
				}
				var prev json.RawMessage
				for v, verb := range verbs {
					answer, took := p.call(t, verb, "bench", prev)
					if verb == cni.VerbAdd {
						prev = answer
					}
					if round >= warmups {
						times[i][v][full] = append(times[i][v][full], took)
					}
				}
			}
		}
	}
	labels := []string{"none held", fmt.Sprintf("%d held", held)}
	var all []timing
	for i, p := range pools {
		for v, verb := range verbs {
			both := compare("host-local, a /16: "+p.contender.name, string(verb), labels, times[i][v])
			target := poolTarget
			if p.name == reference {
				target = 0
			}
			both.longer(labels[0], labels[1], target)
			all = append(all, both...)
		}
	}
	return append(all, wait...)
}

// fill takes addresses of all pools, and returns what many callers at once have
// waited. The first pool is filled by its plugin, and the others with its files,
// which is what all plugins of that name have written for years.
func fill(t testing.TB, pools []pool, held int) timings {
	t.Helper()
	first := pools[0]
	var mu sync.Mutex
	var waits series
	var group sync.WaitGroup
	next := make(chan int)
	for range callers {
		group.Go(func() {
			for i := range next {
				_, took, err := first.invoke(cni.VerbAdd, fmt.Sprintf("member-%d", i), nil)
				mu.Lock()
				if err != nil {
					t.Errorf("ADD of member %d: %v", i, err)
				}
				if i >= held/2 {
					waits = append(waits, took)
				}
				mu.Unlock()
			}
		})
	}
	for i := range held {
		next <- i
	}
	close(next)
	group.Wait()

	const networks = "/var/lib/cni/networks"
	from := filepath.Join(networks, first.network)
	files, err := filepath.Glob(from + "/10.64.*")
	if err != nil || len(files) != held {
		t.Fatalf("%d addresses are held, want %d, %v", len(files), held, err)
	}
	for _, p := range pools[1:] {
		for _, f := range files {
			if err := os.Link(f, filepath.Join(networks, p.network, filepath.Base(f))); err != nil {
				t.Fatal(err)
			}
		}
	}
	return compare(fmt.Sprintf("host-local, %d callers at once", callers), "ADD with its wait for the lock", []string{ours}, []series{waits})
}
