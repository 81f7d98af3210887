package interop

import (
	"encoding/json"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// An implementation is a folder of plugins.
type implementation struct {
	name     string
	bin      func(testing.TB) string
	newest   cni.Version
	backends []string // of masquerading that configurations ask for
}

var (
	ours      = implementation{"plumb", host.Bin, cni.V110, []string{"nftables", "iptables"}}
	reference = implementation{"reference", host.Reference, cni.V110, []string{"nftables", "iptables"}}
	// Debian's know iptables alone, and pass over the key.
	debian = implementation{"debian", host.DebianPlugins, cni.V100, []string{"", "iptables"}}
)

// others are the implementations that attachments may have to be taken over
// from, or left to.
func others() []implementation { return []implementation{reference, debian} }

func (i implementation) networks() []network { return networks(i.newest, i.backends...) }

// add calls the plugins of a network with ADD, as a runtime would, and returns
// what the last answered.
func (i implementation) add(t *testing.T, n network, at attachment) string {
	t.Helper()
	result := ""
	for _, p := range n.plugins(t) {
		stdout, stderr, exit := i.call(t, "ADD", n, p, at, result)
		if exit != 0 {
			t.Fatalf("%s: ADD of %s by %s: exit status %d\n%s%s", i.name, n, p.Type, exit, stdout, stderr)
		}
		result = stdout
	}
	return result
}

// check calls them with CHECK about the result of an ADD.
func (i implementation) check(t *testing.T, n network, at attachment, result string) {
	t.Helper()
	for _, p := range n.plugins(t) {
		if stdout, stderr, exit := i.call(t, "CHECK", n, p, at, result); exit != 0 {
			t.Errorf("%s: CHECK of %s by %s: exit status %d\n%s%s", i.name, n, p.Type, exit, stdout, stderr)
		}
	}
}

func (n network) plugins(t *testing.T) []*cni.Config {
	t.Helper()
	list, err := cni.ParseList(n.list())
	if err != nil {
		t.Fatal(err)
	}
	return list.Plugins
}

func (i implementation) call(t *testing.T, verb string, n network, p *cni.Config, at attachment, prev string) (stdout, stderr string, exit int) {
	t.Helper()
	set := map[string]any{"cniVersion": n.version, "name": networkName}
	if prev != "" {
		set["prevResult"] = json.RawMessage(prev)
	}
	if at.ports != "" && p.Capabilities["portMappings"] {
		set["runtimeConfig"] = at.capabilityArgs()
	}
	conf, err := cni.Derive(p.Raw, set)
	if err != nil {
		t.Fatal(err)
	}
	return host.Plugin(t, i.bin(t), p.Type, host.Env(verb, at.id, at.ns, at.ifName, i.bin(t)), string(conf))
}
