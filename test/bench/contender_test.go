package bench

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// A contender is an implementation of the plugins with one way to masquerade.
type contender struct {
	name    string
	bin     string // folder of its plugins
	backend string // ipMasqBackend; empty for its default
}

// contenders returns ours first: the others are compared with it.
func contenders(t *testing.T) []contender {
	reference := host.Reference(t)
	return []contender{
		{"plumb", host.Bin(t), ""},
		{"reference, iptables", reference, "iptables"},
		{"reference, nftables", reference, "nftables"},
	}
}

// A scenario is what the containers of a network are given.
type scenario struct {
	plugin   string
	families string // "4" or "46"
	full     bool   // with the plugins that a pod's network has after it
}

var scenarios = []scenario{
	{"ptp", "4", false}, {"ptp", "46", false}, {"bridge", "4", false}, {"bridge", "46", false}, {"bridge", "4", true}, {"bridge", "46", true},
}

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
	list  *cni.List
	netns string
	prev  json.RawMessage // result of the ADD
}

// attachments returns one of every contender, each on a network of its own.
func attachments(t *testing.T, s scenario, list []contender) []*attachment {
	t.Helper()
	var as []*attachment
	for i, c := range list {
		l, err := cni.ParseList([]byte(s.config(i+1, c.backend)))
		if err != nil {
			t.Fatal(err)
		}
		as = append(as, &attachment{contender: c, scenario: s, list: l, netns: host.NetNS(t)})
	}
	return as
}

// config returns the configuration of network number n.
func (s scenario) config(n int, backend string) string {
	var ranges, routes []string
	for _, f := range s.families {
		subnet, everywhere := fmt.Sprintf("10.80.%d.0/24", n), "0.0.0.0/0"
		if f == '6' {
			subnet, everywhere = fmt.Sprintf("fd00:80:%d::/64", n), "::/0"
		}
		ranges = append(ranges, fmt.Sprintf(`[{"subnet":%q}]`, subnet))
		routes = append(routes, fmt.Sprintf(`{"dst":%q}`, everywhere))
	}
	keys := `"ipMasq":true`
	if backend != "" {
		keys += fmt.Sprintf(`,"ipMasqBackend":%q`, backend)
	}
	if s.plugin == "bridge" {
		keys += fmt.Sprintf(`,"bridge":"bench%d","isGateway":true`, n)
	}
	plugins := []string{fmt.Sprintf(`{"type":%q,%s,"ipam":{"type":"host-local","ranges":[%s],"routes":[%s]}}`,
		s.plugin, keys, strings.Join(ranges, ","), strings.Join(routes, ","))}
	if s.full {
		plugins = append(plugins, fullChain(n, backend)...)
	}
	return fmt.Sprintf(`{"cniVersion":"1.1.0","name":"bench-%s%s-%v-%d","plugins":[%s]}`, s.plugin, s.families, s.full, n, strings.Join(plugins, ","))
}

// fullChain is what runs after the bridge of network number n.
func fullChain(n int, backend string) []string {
	portmap := ""
	if backend != "" {
		portmap = fmt.Sprintf(`"backend":%q,`, backend)
	}
	return []string{
		fmt.Sprintf(`{"type":"portmap",%s"runtimeConfig":{"portMappings":[{"hostPort":%d,"containerPort":80,"protocol":"tcp"}]}}`, portmap, 8000+n),
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

// run executes the plugins for a verb as a runtime would, or has a command do so,
// and returns how long they took together. After each it calls ended.
func (a *attachment) run(t *testing.T, verb cni.Verb, ended func(), through ...string) (total time.Duration) {
	t.Helper()
	plugins := slices.Clone(a.list.Plugins)
	if verb == cni.VerbDel {
		slices.Reverse(plugins)
	} else {
		a.prev = nil
	}
	for _, p := range plugins {
		set := map[string]any{"cniVersion": a.list.CNIVersion, "name": a.list.Name}
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
	if verb == cni.VerbAdd {
		return total
	}
	// Looked up without a process, which would give it time.
	left, _ := filepath.Glob("/sys/class/net/veth*")
	shaped, _ := filepath.Glob("/sys/class/net/bwp*")
	if left = append(left, shaped...); len(left) > 0 {
		t.Fatalf("%s: DEL of %s ended before %v was gone", a.contender.name, a.scenario.name(), left)
	}
	return total
}

// nothing is what there is to do after a call that is only timed.
func nothing() {}
