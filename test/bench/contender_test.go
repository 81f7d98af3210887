package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/inprocess"
	"github.com/plumb-cni/plumb/internal/fused"
	"github.com/plumb-cni/plumb/runtime"
	"github.com/plumb-cni/plumb/test/host"
)

// A contender is an implementation of the plugins, a way to call them and a way
// to masquerade.
type contender struct {
	name    string
	bin     string // folder of its plugins
	backend string // ipMasqBackend; empty for its default
	fused   bool   // one process a list

	// serve does what a verb asks for, where that isn't executing the plugins.
	serve func(t testing.TB, a *attachment, verb cni.Verb) error

	// warm makes what the first attachment of a network makes and the last one
	// would take away.
	warm func(t testing.TB, a *attachment)
}

// Names of contenders that others are compared with.
const (
	ours      = "plumb, in-process"
	fusedOurs = "plumb, one process"
	execOurs  = "plumb, exec"
	reference = "reference, iptables" // its default
	refNFT    = "reference, nftables"
	floorName = "floor"
)

// contenders returns those that take part everywhere.
func contenders(t *testing.T) []contender {
	path := host.Reference(t)
	return []contender{
		{name: ours, bin: host.Bin(t), serve: inProcess(t)},
		{name: fusedOurs, bin: host.Bin(t), fused: true},
		{name: execOurs, bin: host.Bin(t)},
		{name: reference, bin: path, backend: "iptables"},
		{name: refNFT, bin: path, backend: "nftables"},
	}
}

// named returns the contenders of these names.
func named(list []contender, names ...string) []contender {
	return slices.DeleteFunc(slices.Clone(list), func(c contender) bool { return !slices.Contains(names, c.name) })
}

// invoker returns our plugins, to be called in this process.
func invoker(t testing.TB) *inprocess.Invoker {
	t.Helper()
	i := inprocess.New(inprocess.Options{})
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	return i
}

// inProcess serves verbs as a runtime does that has our plugins in it, its cache
// of results included.
func inProcess(t testing.TB) func(testing.TB, *attachment, cni.Verb) error {
	r := &runtime.Runtime{Path: []string{host.Bin(t)}, Invoker: invoker(t)}
	return func(t testing.TB, a *attachment, verb cni.Verb) error {
		job := runtime.Attachment{ContainerID: "bench", NetNS: a.netns, IfName: "eth0", CapabilityArgs: a.offer}
		if verb == cni.VerbDel {
			return r.Del(context.Background(), a.list, job)
		}
		result, err := r.Add(context.Background(), a.list, job)
		if err == nil {
			a.addrs = result.IPs
		}
		return err
	}
}

// A scenario is what the containers of a network are given.
type scenario struct {
	plugin   string
	families string // "4" or "46"
	full     bool   // with the plugins that a pod's network has after it
}

var (
	fullChain = scenario{"bridge", "4", true}
	scenarios = []scenario{
		{"ptp", "4", false}, {"ptp", "46", false}, {"bridge", "4", false}, {"bridge", "46", false}, fullChain, {"bridge", "46", true},
	}
)

func (s scenario) name() string {
	name := s.plugin
	if s.full {
		name = "full chain"
	}
	if s.families == "46" {
		return name + " dual stack"
	}
	return name + " IPv4"
}

// An attachment is a container of one contender's network, added and deleted
// again and again in a namespace that stays.
type attachment struct {
	contender
	scenario
	number int // of the network
	list   *cni.List
	netns  string
	offer  map[string]any  // what the plugins are offered, by capability
	prev   json.RawMessage // result of the ADD, where plugins were executed
	addrs  []cni.IP        // that the container has
	links  int             // on the host while there is no container
}

// networks counts, since each attachment has a network of its own.
var networks int

// attachments returns one of every contender, each on a network of its own.
func attachments(t testing.TB, s scenario, list []contender) []*attachment {
	t.Helper()
	var as []*attachment
	for _, c := range list {
		networks++
		a := &attachment{contender: c, scenario: s, number: networks, list: c.network(t, s, networks), netns: host.NetNS(t), offer: offer(8000 + networks)}
		host.RunIn(t, a.netns, "ip", "link", "set", "lo", "up") // some contenders do, others leave it to the runtime
		if c.warm != nil {
			c.warm(t, a)
		}
		as = append(as, a)
	}
	return as
}

// offer is what a runtime offers for a container with a published port.
func offer(hostPort int) map[string]any {
	return map[string]any{"portMappings": []any{map[string]any{"hostPort": hostPort, "containerPort": 80, "protocol": "tcp"}}}
}

// network returns network number n of a contender.
func (c contender) network(t testing.TB, s scenario, n int) *cni.List {
	t.Helper()
	return c.parse(t, s.config(n, c.backend))
}

// parse returns a network by its configuration, as the contender wants it.
func (c contender) parse(t testing.TB, config string) *cni.List {
	t.Helper()
	raw := []byte(config)
	var err error
	if c.fused {
		raw, err = fused.Fuse(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	list, err := cni.ParseList(raw)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// addresses returns the prefix of a network's number in one of the families, of
// which the host has the first address.
func addresses(family rune, n int) string {
	if family == '6' {
		return fmt.Sprintf("fd00:80:%x::", n)
	}
	return fmt.Sprintf("10.80.%d.", n)
}

// config returns the configuration of network number n.
func (s scenario) config(n int, backend string) string {
	var ranges, routes []string
	for _, f := range s.families {
		subnet, everywhere := addresses(f, n)+"0/24", "0.0.0.0/0"
		if f == '6' {
			subnet, everywhere = addresses(f, n)+"/64", "::/0"
		}
		ranges = append(ranges, fmt.Sprintf(`[{"subnet":%q}]`, subnet))
		routes = append(routes, fmt.Sprintf(`{"dst":%q}`, everywhere))
	}
	return s.conflist(n, backend, strings.Join(ranges, ","), strings.Join(routes, ","))
}

// conflist returns the configuration of network number n with these ranges.
func (s scenario) conflist(n int, backend, ranges, routes string) string {
	keys := `"ipMasq":true`
	if backend != "" {
		keys += fmt.Sprintf(`,"ipMasqBackend":%q`, backend)
	}
	if s.plugin == "bridge" {
		keys += fmt.Sprintf(`,"bridge":"bench%d","isGateway":true`, n)
	}
	plugins := []string{fmt.Sprintf(`{"type":%q,%s,"ipam":{"type":"host-local","ranges":[%s],"routes":[%s]}}`, s.plugin, keys, ranges, routes)}
	if s.full {
		plugins = append(plugins, afterBridge(backend)...)
	}
	return fmt.Sprintf(`{"cniVersion":"1.1.0","name":"bench-%d","plugins":[%s]}`, n, strings.Join(plugins, ","))
}

// afterBridge is what the full chain has after the bridge.
func afterBridge(backend string) []string {
	portmap := ""
	if backend != "" {
		portmap = fmt.Sprintf(`"backend":%q,`, backend)
	}
	return []string{
		fmt.Sprintf(`{"type":"portmap",%s"capabilities":{"portMappings":true}}`, portmap),
		`{"type":"firewall"}`,
		`{"type":"tuning","sysctl":{"net.core.somaxconn":"512"}}`,
		`{"type":"bandwidth","ingressRate":100000000,"ingressBurst":1000000,"egressRate":100000000,"egressBurst":1000000}`,
	}
}

func names(as []*attachment) []string {
	var list []string
	for _, a := range as {
		list = append(list, a.contender.name)
	}
	return list
}

// executes reports whether verbs are processes, which can be looked at.
func (c contender) executes() bool { return c.serve == nil }

// run does what a verb asks for, once the kernel has settled, and returns how
// long it took. DEL has to be complete when it ends: a link that is still there
// fails the test.
func (a *attachment) run(t testing.TB, verb cni.Verb) time.Duration {
	t.Helper()
	settle(t)
	if verb == cni.VerbAdd {
		a.links = hostLinks(t)
	}
	var took time.Duration
	if a.executes() {
		took = a.exec(t, verb, nothing)
	} else {
		start := time.Now()
		err := a.serve(t, a, verb)
		took = time.Since(start)
		if err != nil {
			t.Fatalf("%s: %s of %s: %v", a.contender.name, verb, a.scenario.name(), err)
		}
	}
	if left := hostLinks(t); verb == cni.VerbDel && left > a.links {
		t.Fatalf("%s: DEL of %s ended before %d links of the host were gone", a.contender.name, a.scenario.name(), left-a.links)
	}
	return took
}

// exec executes the plugins for a verb one after another as a runtime would, or
// has a command do so, and returns how long they took together. After each it
// calls ended.
func (a *attachment) exec(t testing.TB, verb cni.Verb, ended func(), through ...string) (total time.Duration) {
	t.Helper()
	plugins := slices.Clone(a.list.Plugins)
	if verb == cni.VerbDel {
		slices.Reverse(plugins)
	} else {
		a.prev = nil
	}
	for _, p := range plugins {
		set := map[string]any{"cniVersion": a.list.CNIVersion, "name": a.list.Name}
		if p.Capabilities["portMappings"] {
			set["runtimeConfig"] = a.offer
		}
		if a.prev != nil {
			set["prevResult"] = a.prev
		}
		config, err := cni.Derive(p.Raw, set)
		if err != nil {
			t.Fatal(err)
		}
		answer, took := call{
			program: filepath.Join(a.bin, p.Type),
			env:     host.Env(string(verb), "bench", a.netns, "eth0", a.bin),
			stdin:   string(config),
			through: through,
		}.run(t)
		if verb == cni.VerbAdd {
			a.prev = answer
		}
		total += took
		ended()
	}
	if verb != cni.VerbAdd {
		return total
	}
	result, err := cni.DecodeResult(a.prev, cni.Latest)
	if err != nil {
		t.Fatal(err)
	}
	a.addrs = result.IPs
	return total
}

// nothing is what there is to do after a call that is only timed.
func nothing() {}
