package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

// remove runs plumb plugins remove.
func remove(t testing.TB, args ...string) string {
	t.Helper()
	return host.Run(t, filepath.Join(host.Bin(t), "plumb"), append([]string{"plugins", "remove"}, args...)...)
}

// pinging sends echo requests from a namespace every 10 ms, until the returned
// function needs all of them to have been answered.
func pinging(t *testing.T, name, ns, addr string, count int) (end func()) {
	t.Helper()
	cmd := exec.Command("nsenter", "--net="+ns, "ping", "-n", "-q", "-i", "0.01", "-c", fmt.Sprint(count), addr)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), fmt.Sprintf("%d received", count)) {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
	}
}

// bridged is a network of many parts, and its folder of addresses.
func bridged(t testing.TB) (config, dataDir string) {
	t.Helper()
	dataDir = t.TempDir()
	return fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net","type":"bridge","bridge":"br99","isGateway":true,"ipMasq":true,"ipMasqBackend":"nftables",
		"macspoofchk":true,"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"10.99.0.0/24"}],[{"subnet":"fd00:99::/64"}]],
		"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}`, dataDir), dataDir
}

// mentions counts how often the ruleset, the records and the links mention a
// text.
func mentions(t testing.TB, text string) int {
	t.Helper()
	all := host.Run(t, "sh", "-c", "nft list ruleset; ls -A /run/plumb/attachments 2>/dev/null; ip link")
	return strings.Count(all, text)
}

// TestRemove switches a host with running containers to the reference.
func TestRemove(t *testing.T) {
	host.Need(t, "nft-bridge", "nft-inet-nat")
	host.Internet(t)
	t.Cleanup(func() { host.Try("ip", "link", "del", "br99") }) //nolint:errcheck // there may be none
	config, dataDir := bridged(t)
	bin := t.TempDir()
	host.Run(t, "cp", "-a", host.Bin(t)+"/.", bin)
	if err := os.WriteFile(filepath.Join(bin, "theirs"), nil, 0o755); err != nil {
		t.Fatal(err)
	}

	var all []*attach.Attachment
	for _, id := range []string{"stays", "goes", "ends", "restarts"} {
		a := attach.New(t, config, id)
		a.Add(t)
		all = append(all, a)
	}
	stays, goes, ends, restarts := all[0], all[1], all[2], all[3]
	lo := attach.New(t, `{"cniVersion":"1.1.0","name":"lo","type":"loopback"}`, "goes")
	lo.NetNS, lo.IfName = goes.NetNS, "lo"
	lo.Add(t)

	// The reference takes over: it deletes two, one with its namespace, and
	// starts a third anew.
	reference := host.Reference(t)
	for _, a := range append(all, lo) {
		a.Bin = reference
	}
	theirs := attach.New(t, config, "theirs")
	theirs.Bin = reference
	theirs.Add(t)
	stop := []func(){
		pinging(t, "ours", stays.NetNS, host.Internet4, 500),
		pinging(t, "ours, IPv6", stays.NetNS, host.Internet6, 500),
		pinging(t, "theirs", theirs.NetNS, host.Internet4, 700),
	}
	goes.Del(t)
	lo.Del(t)
	ends.Del(t)
	host.RemoveNetNS(t, ends.NetNS)
	restarts.Del(t)
	restarts.Add(t)
	stop = append(stop, pinging(t, "restarted", restarts.NetNS, host.Internet4, 500))
	if mentions(t, "plumb:net/goes") == 0 || mentions(t, "goes@eth0") == 0 {
		t.Fatal("the reference left nothing, so nothing is tried here")
	}
	before := host.Run(t, "nft", "list table inet cni_plugins_masquerade") + host.Run(t, "nft", "list table bridge nat")

	out := remove(t, "--datadir", dataDir, bin)
	for _, id := range []string{"goes", "ends", "restarts"} {
		if n := mentions(t, "plumb:net/"+id+"/") + mentions(t, "@"+id+"@"); n != 0 {
			t.Errorf("%d mentions of %s are left:\n%s", n, id, out)
		}
	}
	if !strings.Contains(out, "kept what net/stays/eth0 needs") || !strings.Contains(out, "kept the plugins in "+bin) {
		t.Errorf("it does not say what it keeps:\n%s", out)
	}
	if _, err := os.Stat(filepath.Join(bin, "bridge")); err != nil {
		t.Error(err)
	}
	if after := host.Run(t, "nft", "list table inet cni_plugins_masquerade") + host.Run(t, "nft", "list table bridge nat"); after != before {
		t.Errorf("the reference's rules were\n%sand are\n%s", before, after)
	}
	stays.Bin = host.Bin(t)
	stays.Check(t)
	stays.Bin = reference
	for _, end := range stop[:2] {
		end()
	}

	stays.Del(t)
	out = remove(t, "--datadir", dataDir, bin)
	if n := mentions(t, "plumb"); n != 0 {
		t.Errorf("%d mentions are left:\n%s\n%s", n, out, host.Run(t, "nft", "list ruleset"))
	}
	for _, gone := range []string{"/run/plumb", filepath.Join(dataDir, ".plumb"), filepath.Join(bin, "bridge"), filepath.Join(bin, "plumb-cni")} {
		if _, err := os.Lstat(gone); !os.IsNotExist(err) {
			t.Errorf("%s: %v", gone, err)
		}
	}
	var left []string
	entries, _ := os.ReadDir(bin)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"theirs"}; !slices.Equal(left, want) {
		t.Errorf("in the folder of plugins are %q, want %q", left, want)
	}
	for _, end := range stop[2:] {
		end()
	}
	for _, a := range []*attach.Attachment{theirs, restarts} {
		a.Del(t)
	}
	if held := host.Run(t, "sh", "-c", "ls "+dataDir+"/net | grep -c '^10\\.' || true"); held != "0\n" && held != "0" {
		t.Errorf("%s addresses are held", held)
	}
	// Once more, with nothing there.
	if out := remove(t, "--datadir", dataDir); out != "" {
		t.Errorf("it says %q", out)
	}
}

// TestRemoveOfDevices has a macvlan of ours beside one that the reference made
// anew in the place of ours.
func TestRemoveOfDevices(t *testing.T) {
	host.Need(t, "macvlan")
	host.Run(t, "ip", "link", "add", "lower", "up", "type", "bridge")
	t.Cleanup(func() { host.Run(t, "ip", "link", "del", "lower") })
	config := `{"cniVersion":"1.1.0","name":"net","type":"macvlan","master":"lower","ipam":{"type":"static","addresses":[{"address":"10.99.0.2/24"}]}}`
	stays, restarts := attach.New(t, config, "stays"), attach.New(t, config, "restarts")
	stays.Add(t)
	restarts.Add(t)
	restarts.Bin = host.Reference(t)
	restarts.Del(t)
	restarts.Add(t)
	out := remove(t)
	if mentions(t, "@restarts@") != 0 || mentions(t, "@stays@") != 1 {
		t.Errorf("it says\n%s", out)
	}
	stays.Check(t)
	stays.Del(t)
	remove(t)
	if _, err := os.Stat("/run/plumb"); !os.IsNotExist(err) {
		t.Error(err)
	}
}

// TestRemoveWithoutRecords finds what is ours by its tags.
func TestRemoveWithoutRecords(t *testing.T) {
	host.Need(t, "nft-bridge", "nft-inet-nat")
	t.Cleanup(func() { host.Try("ip", "link", "del", "br99") }) //nolint:errcheck // there may be none
	config, dataDir := bridged(t)
	stays, goes := attach.New(t, config, "stays"), attach.New(t, config, "goes")
	stays.Add(t)
	goes.Add(t)
	host.Run(t, "rm", "-r", state.RecordDir)
	host.Run(t, "ip", "link", "add", "left", "type", "bridge") // such as for shaping
	host.Run(t, "ip", "link", "set", "left", "alias", "plumb:net/goes/eth0")
	host.Run(t, "ip", "link", "del", goes.HostEnd(t))
	out := remove(t, "--datadir", dataDir)
	if mentions(t, "plumb:net/goes/eth0") != 0 || mentions(t, "plumb:net/stays/eth0") == 0 {
		t.Errorf("it says\n%sand leaves\n%s", out, host.Run(t, "nft", "list ruleset"))
	}
	if failure := stays.TryCheck(t); failure == nil || failure.Msg != "host record "+state.RecordDir+"/bridge@net@stays@eth0 is missing" {
		t.Errorf("CHECK of what stays: %v", failure)
	}
	host.Run(t, "ip", "link", "del", stays.HostEnd(t))
	remove(t, "--datadir", dataDir)
	if n := mentions(t, "plumb"); n != 0 {
		t.Errorf("%d mentions are left: %s", n, host.Run(t, "nft", "list ruleset"))
	}
}

// TestRemoveInTablesOfOthers finds what is ours by its name.
func TestRemoveInTablesOfOthers(t *testing.T) {
	host.Run(t, "nft", `table inet theirs {
		set plumb-accept4 { type ipv4_addr; elements = { 10.99.0.9 comment "plumb:net/goes/eth0" }; }
		chain plumb-forward { ip saddr @plumb-accept4 accept; }
		chain forward { type filter hook forward priority 0; policy drop; ip daddr 10.0.0.1 accept; jump plumb-forward; }
	}`)
	t.Cleanup(func() { host.Run(t, "nft", "delete table inet theirs") })
	out := remove(t)
	if left := host.Run(t, "nft", "list ruleset"); strings.Contains(left, "plumb") || !strings.Contains(left, "10.0.0.1") {
		t.Errorf("it says\n%sand leaves\n%s", out, left)
	}
}

// TestRemoveInDoubt removes nothing of an attachment whose sandbox can't be
// looked at just now: that is not the same as gone.
func TestRemoveInDoubt(t *testing.T) {
	a := attach.New(t, `{"cniVersion":"1.1.0","name":"doubt","type":"loopback"}`, "doubted")
	a.IfName = "lo"
	a.Add(t)
	const records = "/run/plumb/attachments/"
	entries, err := os.ReadDir(records)
	if err != nil || len(entries) != 1 {
		t.Fatalf("records: %v, %v", entries, err)
	}
	record := filepath.Join(records, entries[0].Name())
	data, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	unreadable := filepath.Join(t.TempDir(), strings.Repeat("x", 256)) // no kernel looks for such a name
	if err := os.WriteFile(record, []byte(strings.ReplaceAll(string(data), a.NetNS, unreadable)), 0o600); err != nil {
		t.Fatal(err)
	}
	if alive, err := (state.Records{}).Alive("plumb:doubt/doubted/lo"); err == nil {
		t.Errorf("it is told to be alive: %v", alive)
	}
	if out, err := host.Try(filepath.Join(host.Bin(t), "plumb"), "plugins", "remove"); err == nil {
		t.Errorf("it succeeds: %s", out)
	}
	if _, err := os.Stat(record); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(record, data, 0o600); err != nil {
		t.Fatal(err)
	}
	a.Del(t)
}

// TestRemoveArguments refuses what it can't act on, and explains itself.
func TestRemoveArguments(t *testing.T) {
	plumb := filepath.Join(host.Bin(t), "plumb")
	host.Run(t, "nft", "add table inet plumb")
	for _, args := range [][]string{{"--datadir", "relative"}, {"a", "b"}, {"-what"}, {"/no/such/folder"}, {"."}, {""}} {
		if out, err := host.Try(plumb, append([]string{"plugins", "remove"}, args...)...); err == nil {
			t.Errorf("%q succeeds: %s", args, out)
		}
		if mentions(t, "table inet plumb") != 1 {
			t.Errorf("%q has swept the host", args)
		}
	}
	host.Run(t, "nft", "delete table inet plumb")
	if out := remove(t, "-h"); !strings.Contains(out, "inet plumb") {
		t.Errorf("-h says %q", out)
	}
}

// TestRemoveAfterTheLast leaves nothing of ours on a host whose last attachment,
// of plugins that share tables, is gone, and gives back what they have set for a
// bridge before what guards it goes.
func TestRemoveAfterTheLast(t *testing.T) {
	host.Need(t, "nft-bridge", "nft-inet-nat")
	t.Cleanup(func() { host.Try("ip", "link", "del", "br99") }) //nolint:errcheck // there may be none
	// Else ::1 is not served behind a bridge.
	host.Run(t, "sysctl", "-q", "net.bridge.bridge-nf-call-ip6tables=0")
	t.Cleanup(func() { host.Run(t, "sysctl", "-q", "net.bridge.bridge-nf-call-ip6tables=1") })
	routes := func() string {
		return host.Run(t, "ip", "-6", "route", "show", "table", "local", "dev", "br99", "::1")
	}
	config, _ := bridged(t)
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			a := attach.New(t, config, "last")
			a.Add(t)
			ports := a.Then(t, `{"cniVersion":"1.1.0","name":"net","type":"portmap","backend":"`+backend+`",
				"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80}]}}`)
			ports.Add(t)
			filter := a.Then(t, `{"cniVersion":"1.1.0","name":"net","type":"firewall","backend":"`+backend+`","ingressPolicy":"same-bridge"}`)
			filter.Add(t)
			if got := host.Run(t, "sysctl", "-n", "net.ipv4.conf.br99.route_localnet"); strings.TrimSpace(got) != "1" {
				t.Errorf("route_localnet of the bridge is %s", got)
			}
			if routes() == "" {
				t.Error("no route to ::1 on the bridge")
			}
			remove(t)
			ports.Check(t) // what is alive stays
			filter.Check(t)
			for _, a := range []*attach.Attachment{filter, ports, a} {
				a.Del(t)
			}
			out := remove(t)
			if list := host.Run(t, "nft", "list", "ruleset"); strings.Contains(list, "plumb") {
				t.Errorf("left is\n%s\nremove says\n%s", list, out)
			}
			if got := host.Run(t, "sysctl", "-n", "net.ipv4.conf.br99.route_localnet"); strings.TrimSpace(got) != "0" {
				t.Errorf("route_localnet of the bridge is %s", got)
			}
			if left := routes(); left != "" {
				t.Errorf("left is %s", left)
			}
			if again := remove(t); strings.Contains(again, "table") {
				t.Errorf("remove again says\n%s", again)
			}
		})
	}
}

// TestRemoveForwarding sweeps what the reference's DEL leaves in the filter tables where the host drops what it forwards: of the iptables
// that it uses too the rules for published ports, and all rules of the other one.
func TestRemoveForwarding(t *testing.T) {
	reference := host.Reference(t)
	for variant, left := range map[string]string{"nft": "--ctstate DNAT", "legacy": "10.99.0.2/32"} {
		t.Run(variant, func(t *testing.T) {
			tools := []string{"iptables-" + variant, "ip6tables-" + variant}
			rules := func() (all string) {
				for _, tool := range tools {
					all += host.Run(t, tool+"-save", "-t", "filter")
				}
				return all
			}
			for _, tool := range tools {
				host.Run(t, tool, "-P", "FORWARD", "DROP")
				t.Cleanup(func() { host.Run(t, "sh", "-ec", tool+" -P FORWARD ACCEPT; "+tool+" -F; "+tool+" -X") })
			}
			config, _ := bridged(t)
			a := attach.New(t, config, "published")
			t.Cleanup(func() { host.Run(t, "ip", "link", "del", "br99") })
			a.Add(t)
			b := a.Then(t, `{"cniVersion":"1.1.0","name":"net","type":"firewall","backend":"iptables"}`)
			b.Add(t)
			a.Bin, b.Bin = reference, reference
			b.Del(t)
			a.Del(t)
			if !strings.Contains(rules(), left) {
				t.Fatalf("the reference's DEL leaves nothing, so nothing is tried here:\n%s", rules())
			}
			remove(t, t.TempDir())
			if got := rules(); strings.Contains(got, left) {
				t.Errorf("left is\n%s", got)
			}
		})
	}
}
