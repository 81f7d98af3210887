package conformance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugins/all"
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

// TestWarnings: a key that is mistyped is no error. The log names it, and the known one that is most like it.
func TestWarnings(t *testing.T) {
	for _, tt := range []struct {
		config string
		want   []string
	}{
		{ptp(good + `,"ipMsq":true`), []string{`nothing reads key "ipMsq"; is "ipMasq" meant?`}},
		{ptp(good + `,"mut":1400`), []string{`nothing reads key "mut"; is "mtu" meant?`}},
		{ptp(good + `,"MTU":1400,"IPMASQ":false,"args":{"any":1},"runtimeConfig":{"any":1},"cni.dev/attachments":[]`), nil},
		{ptp(good + `,"hairpinMode":true`), []string{`nothing reads key "hairpinMode"`}}, // of another plugin
		{ptp(`"ipam":{"type":"host-local","ranges":[[{"subnet":"10.77.0.0/24","rangestart":"10.77.0.9","gatway":"10.77.0.1"}]],"dataDri":"/x"},"dns":{"nameserver":["10.1.1.1"]}`), []string{
			`nothing reads key "dns.nameserver"; is "dns.nameservers" meant?`,
			`nothing reads key "ipam.dataDri"; is "ipam.dataDir" meant?`,
			`nothing reads key "ipam.ranges.gatway"; is "ipam.ranges.gateway" meant?`,
		}},
		{bridge(`"isDefaultGatway":true,` + good), []string{`nothing reads key "isDefaultGatway"; is "isDefaultGateway" meant?`}},
	} {
		a := attach(t, tt.config, "warned")
		log := filepath.Join(t.TempDir(), "log")
		for _, verb := range []string{"STATUS", "ADD", "DEL"} {
			if err := os.RemoveAll(log); err != nil {
				t.Fatal(err)
			}
			env := append(host.Env(verb, a.id, a.netns, a.ifName, host.Bin(t)), "PLUMB_LOG="+log)
			if _, failure := execute(t, a.plugin(), env, tt.config); failure != nil {
				t.Errorf("%s %s: %v", verb, tt.config, failure)
			}
			data, err := os.ReadFile(log)
			var e plugin.Entry
			if err != nil || json.Unmarshal(data, &e) != nil {
				t.Fatalf("%v: %s", err, data)
			}
			want := tt.want
			if verb == "DEL" {
				want = nil
			}
			if !slices.Equal(e.Warnings, want) {
				t.Errorf("%s %s: warnings %q, want %q", verb, tt.config, e.Warnings, want)
			}
		}
	}
}

// TestNoWarnings: of what the tests configure, every key is known.
func TestNoWarnings(t *testing.T) {
	ipam := make(map[string]plugin.IPAM)
	for _, p := range all.IPAM() {
		ipam[p.Name()] = p
	}
	for _, m := range modes() {
		for _, config := range append(m.before, m.config) {
			config = strings.ReplaceAll(config, "NUMBER", "1")
			p, ok := all.Find(typeOf(config))
			if !ok {
				t.Fatalf("%s: no plugin", config)
			}
			if unknown := p.Unknown([]byte(config), func(name string) plugin.IPAM { return ipam[name] }); unknown != nil {
				t.Errorf("%s: %v", config, unknown)
			}
		}
	}
}
