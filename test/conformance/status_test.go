package conformance

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugins/all"
	"github.com/plumb-cni/plumb/test/host"
)

// TestStatus asks every mode whether ADD could succeed, which changes nothing.
func TestStatus(t *testing.T) {
	before := host.Snapshot(t)
	for _, m := range modes() {
		a := &attachment{config: m.config}
		if _, failure := invoke(t, cni.VerbStatus, a.plugin(), m.config, a); failure != nil {
			t.Errorf("%s: %v", m.name, failure)
		}
	}
	host.Unchanged(t, before)
}

// TestVersion asks every program for its versions, as runtimes do: with a configuration and without.
func TestVersion(t *testing.T) {
	for _, p := range all.Plugins() {
		for _, stdin := range []string{`{"cniVersion":"0.4.0"}`, ``} {
			out, failure := execute(t, p.Name(), host.Env("VERSION", "", "", ""), stdin)
			var answer struct {
				CNIVersion        string
				SupportedVersions []string
			}
			if failure != nil || json.Unmarshal([]byte(out), &answer) != nil {
				t.Errorf("%s VERSION: %v %s", p.Name(), failure, out)
			}
			want := []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}
			if !slices.Equal(answer.SupportedVersions, want) || answer.CNIVersion == "" {
				t.Errorf("%s VERSION: %s", p.Name(), out)
			}
		}
		stdout, stderr, exit := host.Plugin(t, host.Bin(t), p.Name(), host.Env("", "", "", ""), "")
		if exit != 0 || stdout != "" || !strings.HasPrefix(stderr, "CNI "+p.Name()+" plugin v1.9.1+plumb.") {
			t.Errorf("%s without a command: exit status %d, %q, %q", p.Name(), exit, stdout, stderr)
		}
	}
}
