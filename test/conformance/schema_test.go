package conformance

import (
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/editor"
)

// beyondSchema are the configurations that are refused for what a schema can't state.
var beyondSchema = []string{
	// The runtime writes it.
	"bad prevResult", "prevResult of the future", "address of the gateway", "two addresses of one range",
	// The runtime may send what the configuration lacks.
	"no range", "host-local no range alone", "no address",
	// It is for the host to have it.
	"IPAM plugin that is nowhere", "bridge IPAM plugin that is nowhere", "resolvConf that is nowhere", "dataDir below a file",
	"sysctl that there is not", "sysctl in words", "sysctl out of range", "sysctl to look at",
	"chain of marks that there is not", "conditions of iptables in words",
	"no interface", "mtu for IPv4 alone", "address of a group",
	// They are words like others.
	"the plugin's own chain for rules of the user's", "a target for rules of the user's",
	// Numbers are in strings, or values don't go together.
	"subnet with host bits", "subnet too small", "subnet of one", "start outside", "end before start", "overlap", "families mixed",
	"gateway of another family", "route of two families", "two of a family for 0.2.0", "no gateway",
}

// TestRefusalsInEditor has an editor look at what plugins refuse: it says so already, but of what it can't know.
func TestRefusalsInEditor(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range slices.Concat(ofProtocol, ofPlugins) {
		if r.config == "" || len(r.env) > 0 {
			continue // the call is bad, not the configuration
		}
		name := strings.TrimSpace(r.plugin + " " + r.name)
		mistake, beyond := editor.Mistake(t, r.config), slices.Contains(beyondSchema, name)
		seen[name] = true
		if mistake == nil && !beyond {
			t.Errorf("%s: nothing is said of %s", name, r.config)
		}
		if mistake != nil && beyond {
			t.Errorf("%s: it is said: %v", name, mistake)
		}
	}
	for _, name := range beyondSchema {
		if !seen[name] {
			t.Errorf("there is no refusal %q", name)
		}
	}
}
