package conformance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/test/host"
)

// TestLogOfRefusals: the log has a line of a call that no plugin ever saw.
func TestLogOfRefusals(t *testing.T) {
	own := "/proc/" + processOfTheHost(t) + "/ns/net"
	for _, tt := range []struct {
		name   string
		verb   cni.Verb
		netns  string
		config string
		code   cni.Code
	}{
		{"the host's namespace", cni.VerbAdd, own, ptp(good), cni.CodeInvalidEnvironment},
		{"no namespace", cni.VerbCheck, "", ptp(good), cni.CodeInvalidEnvironment},
		{"torn configuration", cni.VerbDel, "", ptp(good)[:20], cni.CodeDecode},
		{"a version of the future", cni.VerbAdd, "", derive2(ptp(good), "9.9.9"), cni.CodeIncompatibleVersion},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			netns := tt.netns
			if netns == "" && tt.verb == cni.VerbAdd {
				netns = host.NetNS(t)
			}
			env := append(host.Env(string(tt.verb), "refused", netns, "eth0", host.Bin(t)), "PLUMB_LOG="+log)
			_, failure := execute(t, "ptp", env, tt.config)
			data, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			var e plugin.Entry
			if err := json.Unmarshal(data, &e); err != nil || strings.Count(string(data), "\n") != 1 {
				t.Fatalf("not one line of JSON (%v): %s", err, data)
			}
			if failure == nil || failure.Code != tt.code || e.Code != tt.code || e.Error != failure.Error() ||
				e.Plugin != "ptp" || e.Verb != tt.verb || e.Container != "refused" || e.Interface != "eth0" || e.NetNS != netns || e.Time.IsZero() {
				t.Errorf("%v is logged as %s", failure, data)
			}
		})
	}
}
