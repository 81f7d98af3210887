package bench

import (
	"encoding/json"
	"fmt"
	"path/filepath"
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
}

var scenarios = []scenario{{"ptp", "4"}, {"ptp", "46"}, {"bridge", "4"}, {"bridge", "46"}}

func (s scenario) name() string {
	if s.families == "46" {
		return s.plugin + " dual stack"
	}
	return s.plugin + " IPv4"
}

// An attachment is a container of one contender's network, added and deleted
// again and again in a namespace that stays.
type attachment struct {
	contender
	scenario
	config string
	netns  string
	prev   json.RawMessage // result of the ADD
}

// attachments returns one of every contender, each on a network of its own.
func attachments(t *testing.T, s scenario, list []contender) []*attachment {
	t.Helper()
	var as []*attachment
	for i, c := range list {
		as = append(as, &attachment{contender: c, scenario: s, config: s.config(i+1, c.backend), netns: host.NetNS(t)})
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
	return fmt.Sprintf(`{"cniVersion":"1.1.0","name":"bench-%s%s-%d","type":%q,%s,"ipam":{"type":"host-local","ranges":[%s],"routes":[%s]}}`,
		s.plugin, s.families, n, s.plugin, keys, strings.Join(ranges, ","), strings.Join(routes, ","))
}

func names(as []*attachment) []string {
	var list []string
	for _, a := range as {
		list = append(list, a.contender.name)
	}
	return list
}

// run executes the plugin for a verb as a runtime would, or has a command do so,
// and returns how long it took.
func (a *attachment) run(t *testing.T, verb cni.Verb, through ...string) time.Duration {
	t.Helper()
	config := []byte(a.config)
	if verb == cni.VerbDel {
		var err error
		if config, err = cni.Derive(config, map[string]any{"prevResult": a.prev}); err != nil {
			t.Fatal(err)
		}
	}
	answer, took := call{
		program: filepath.Join(a.bin, a.plugin),
		env:     host.Env(string(verb), "bench", a.netns, "eth0", a.bin),
		stdin:   string(config),
		through: through,
	}.run(t)
	if verb == cni.VerbAdd {
		a.prev = answer
		return took
	}
	// Looked up without a process, which would give it time.
	if left, _ := filepath.Glob("/sys/class/net/veth*"); len(left) > 0 {
		t.Fatalf("%s: DEL of %s ended before %v was gone", a.contender.name, a.scenario.name(), left)
	}
	return took
}
