package conformance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugins/all"
	"github.com/plumb-cni/plumb/test/host"
)

// TestStatus asks every mode whether ADD could succeed, which changes nothing.
func TestStatus(t *testing.T) {
	for _, m := range modes() {
		t.Run(m.name, func(t *testing.T) {
			m.prepare(t)
			a := m.container(t, "asked", 1)
			before := host.Snapshot(t)
			if _, failure := invoke(t, cni.VerbStatus, a.plugin(), a.config, a); failure != nil {
				t.Error(failure)
			}
			host.Unchanged(t, before)
		})
	}
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

// TestStatusWithoutPrograms asks on a host that has no iptables whether ADD could succeed: it could, unless the configuration asks for
// them.
func TestStatusWithoutPrograms(t *testing.T) {
	host.Need(t, "nft-inet-nat")
	for _, tt := range []struct {
		name, keys string
		code       cni.Code
	}{
		{"no masquerading", `"ipMasqBackend":"iptables",`, 0},
		{"any", `"ipMasq":true,`, 0},
		{"nftables", masquerades[1].keys, 0},
		{"iptables", masquerades[2].keys, cni.CodeUnavailable},
	} {
		for _, network := range []string{config("ptp", "net", tt.keys+good), bridgeConfig("net", `"isGateway":true,`+tt.keys+good)} {
			a := &attachment{config: network}
			t.Run(a.plugin()+" "+tt.name, func(t *testing.T) {
				dir := withoutIPTables(t, a.plugin())
				stdout, stderr, exit := host.Plugin(t, dir, a.plugin(), host.Env("STATUS", "", "", "", host.Bin(t)), network)
				if tt.code == 0 {
					if exit != 0 || stdout != "" {
						t.Errorf("exit status %d\n%s%s", exit, stdout, stderr)
					}
					return
				}
				failure, err := cni.DecodeError([]byte(stdout))
				if err != nil || exit != 1 || failure.Code != tt.code || !strings.Contains(failure.Msg, "iptables-restore") {
					t.Errorf("exit status %d (%v)\n%s%s", exit, err, stdout, stderr)
				}
			})
		}
	}
}

// withoutIPTables returns a folder with a program that is the plugin, on a host whose folders of iptables are empty.
func withoutIPTables(t *testing.T, plugin string) string {
	t.Helper()
	script := "#!/bin/sh\nexec unshare --mount sh -ec '"
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		script += "mount -t tmpfs none " + dir + "; "
	}
	script += "! command -v iptables-restore >&2; exec " + filepath.Join(host.Bin(t), plugin) + "'\n"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, plugin), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
