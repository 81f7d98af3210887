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

// TestLacking has plugins make what the kernel can't: STATUS says so before ADD does, in the same words, and both leave all as it was.
func TestLacking(t *testing.T) {
	const address = `"ipam":{"type":"static","addresses":[{"address":"10.77.0.2/24","gateway":"10.77.0.1"}]}`
	lacking := 0
	for _, tt := range []struct{ feature, config, option string }{
		{"ipvlan", config("ipvlan", "net", `"master":"wire0",`+address), "CONFIG_IPVLAN, module ipvlan"},
		{"vlan", config("vlan", "net", `"master":"wire0","vlanId":7,`+address), "CONFIG_VLAN_8021Q, module 8021q"},
		{"dummy", config("dummy", "net", address), "CONFIG_DUMMY, module dummy"},
		{"vrf", config("vrf", "net", `"vrfname":"blue"`), "CONFIG_NET_VRF, module vrf"},
		{"bridge-vlan", bridgeConfig("net", `"vlan":7,`+address), "CONFIG_BRIDGE_VLAN_FILTERING"},
		{"bridge-vlan", bridgeConfig("net", `"vlanTrunk":[{"minID":7,"maxID":9}],`+address), "CONFIG_BRIDGE_VLAN_FILTERING"},
	} {
		if host.Has(t, tt.feature) {
			continue // TestStatus and TestLife are about that
		}
		lacking++
		a := attach(t, tt.config, "lacking")
		t.Run(a.plugin(), func(t *testing.T) {
			host.Run(t, "sh", "-ec", wired)
			t.Cleanup(func() { host.Run(t, "sh", "-ec", unwired) })
			if a.plugin() == "vrf" {
				a.before = []string{config("ptp", "net", address)}
			}
			var asked *cni.Error
			before := host.Snapshot(t)
			if _, asked = invoke(t, cni.VerbStatus, a.plugin(), a.config, a); asked == nil {
				t.Fatal("STATUS succeeds")
			}
			host.Unchanged(t, before)
			network := a.ready(t)
			before = host.Snapshot(t)
			_, failure := invoke(t, cni.VerbAdd, a.plugin(), network, a)
			if failure == nil {
				t.Fatal("ADD succeeds")
			}
			host.Unchanged(t, before, stays("")...)
			for verb, e := range map[string]*cni.Error{"STATUS": asked, "ADD": failure} {
				if e.Code != cni.CodeUnavailable || !strings.HasSuffix(e.Msg, asked.Msg) || !strings.Contains(e.Details, tt.option) {
					t.Errorf("%s: code %d, %v", verb, e.Code, e)
				}
			}
		})
	}
	t.Logf("the kernel lacks %d of them", lacking)
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
				dir := without(t, a.plugin(), "! command -v iptables-restore >&2", "/usr/sbin", "/sbin", "/usr/local/sbin")
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

// TestStatusWithoutRoom asks where records of attachments have no room, or can't be written at all: STATUS knows it before ADD.
func TestStatusWithoutRoom(t *testing.T) {
	host.Run(t, "mkdir", "-p", "/run/plumb")
	for what, mount := range map[string]string{
		"full":      "mount -t tmpfs -o size=8k none /run/plumb; ! dd if=/dev/zero of=/run/plumb/fill bs=4k 2>/dev/null",
		"read-only": "mount -t tmpfs -o ro none /run/plumb",
	} {
		for _, network := range []string{config("loopback", "net", ""), config("ptp", "net", good)} {
			a := attach(t, network, "asked")
			t.Run(a.plugin()+" "+what, func(t *testing.T) {
				host.Run(t, "sh", "-ec", mount)
				t.Cleanup(func() { host.Run(t, "umount", "/run/plumb") })
				_, asked := invoke(t, cni.VerbStatus, a.plugin(), a.config, a)
				if asked == nil || asked.Code != cni.CodeUnavailable || !strings.Contains(asked.Error()+asked.Details, "/run/plumb") {
					t.Errorf("STATUS: %v", asked)
				}
				if _, failure := invoke(t, cni.VerbAdd, a.plugin(), a.config, a); failure == nil || failure.Code != cni.CodeIO {
					t.Errorf("ADD: %v", failure)
				}
			})
		}
	}
}

// TestStatusWithoutTun asks where the device file is missing by which tap devices are made.
func TestStatusWithoutTun(t *testing.T) {
	network := config("tap", "net", "")
	dir := without(t, "tap", "test ! -e /dev/net/tun", "/dev/net")
	for _, env := range [][]string{host.Env("STATUS", "", "", "", host.Bin(t)), host.Env("ADD", "tapless", host.NetNS(t), "eth0", host.Bin(t))} {
		stdout, stderr, exit := host.Plugin(t, dir, "tap", env, network)
		failure, err := cni.DecodeError([]byte(stdout))
		if err != nil || exit != 1 || failure.Code != cni.CodeUnavailable || !strings.Contains(failure.Msg, "/dev/net/tun") || !strings.Contains(failure.Details, "CONFIG_TUN") {
			t.Errorf("exit status %d (%v)\n%s%s", exit, err, stdout, stderr)
		}
	}
}

// without returns a folder with a program that is the plugin, on a host with empty folders, which a command can see to.
func without(t *testing.T, plugin, sees string, folders ...string) string {
	t.Helper()
	script := "#!/bin/sh\nexec unshare --mount sh -ec '"
	for _, dir := range folders {
		script += "mount -t tmpfs none " + dir + "; "
	}
	script += sees + "; exec " + filepath.Join(host.Bin(t), plugin) + "'\n"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, plugin), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
