package conformance

import (
	"encoding/json"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// TestFused has plugins called as lists of one plugin: what goes in and out of them passes through the plugin plumb.
func TestFused(t *testing.T) {
	caller = fused
	defer func() { caller = host.Plugin }()
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{{"Life", TestLife}, {"GC", TestGC}, {"SecondAdd", TestSecondAdd}} {
		t.Run(test.name, test.run)
	}
}

// fused calls the plugin plumb with a list of the plugin of that name. What is for the whole stands outside.
func fused(t testing.TB, bin, name string, env []string, stdin string) (stdout, stderr string, exit int) {
	t.Helper()
	var config map[string]json.RawMessage
	if json.Unmarshal([]byte(stdin), &config) != nil || config["ipam"] == nil && isIPAM(name) {
		return host.Plugin(t, bin, name, env, stdin)
	}
	outer := map[string]any{"type": "plumb"}
	for _, key := range []string{"cniVersion", "name", "args", "prevResult", "runtimeConfig", "cni.dev/valid-attachments", "cni.dev/attachments"} {
		if value, ok := config[key]; ok {
			outer[key] = value
			delete(config, key)
		}
	}
	if offered, ok := outer["runtimeConfig"].(json.RawMessage); ok {
		var arguments map[string]json.RawMessage
		if err := json.Unmarshal(offered, &arguments); err != nil {
			t.Fatal(err)
		}
		declared := map[string]bool{}
		for capability := range arguments {
			declared[capability] = true
		}
		config["capabilities"], _ = json.Marshal(declared)
	}
	outer["plugins"] = []any{config}
	whole, err := json.Marshal(outer)
	if err != nil {
		t.Fatal(err)
	}
	return host.Plugin(t, bin, "plumb", env, string(whole))
}

func isIPAM(name string) bool { return name == "host-local" || name == "static" || name == "dhcp" }
