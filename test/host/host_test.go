package host

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

func TestTheHostIsPrivate(t *testing.T) {
	outer, err := os.Readlink("/proc/" + os.Getenv(insideEnv) + "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if inner, _ := os.Readlink("/proc/self/ns/net"); inner == outer {
		t.Error("the tests run in the namespace that they were started from")
	}
	if links := Links(t, ""); len(links) != 1 || !links["lo"].Up() {
		t.Errorf("links %v, want only lo, up", links)
	}
	for _, dir := range []string{"/var/lib/cni", "/etc/cni", "/etc/plumb", "/run/netns"} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("%s holds %v, %v; want nothing", dir, entries, err)
		}
	}
	if _, err := os.Stat("/sys/class/net/lo"); err != nil {
		t.Error(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		env    string
		inside bool
		exit   int
	}{
		{insideEnv + "=" + os.Getenv(insideEnv), true, 0}, // what is started in here stays in here
		{insideEnv + "=", false, 0},
		{"WANT_FAILURE=1", true, 1}, // the exit status passes through both ways
		{"WANT_FAILURE=1 " + insideEnv + "=", false, 1},
	} {
		cmd := exec.Command(exe, "-test.run=^TestChild$", "-test.v")
		cmd.Env = append(os.Environ(), strings.Fields(tt.env)...)
		out, _ := cmd.CombinedOutput()
		inner, _ := os.Readlink("/proc/self/ns/net")
		if exit := cmd.ProcessState.ExitCode(); exit != tt.exit || strings.Contains(string(out), inner) != tt.inside {
			t.Errorf("%s: exit status %d, want %d; in the same host: want %v\n%s", tt.env, exit, tt.exit, tt.inside, out)
		}
	}
}

// TestChild is what TestTheHostIsPrivate starts.
func TestChild(t *testing.T) {
	ns, _ := os.Readlink("/proc/self/ns/net")
	t.Log(ns)
	if os.Getenv("WANT_FAILURE") != "" {
		t.Fail()
	}
}

// TestKilled: a run that is killed leaves nothing that it has built.
func TestKilled(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(exe, "-test.run=^TestKilledChild$", "-test.v")
	cmd.Env = append(os.Environ(), insideEnv+"=", "WANT_KILL=1", "TMPDIR="+dir)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "built in "+filepath.Join(dir, builtPrefix)) {
		t.Errorf("the child ends with %v and says %s", err, out)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left is %v (%v)", entries, err)
	}
}

// TestKilledChild is what TestKilled starts.
func TestKilledChild(t *testing.T) {
	if os.Getenv("WANT_KILL") == "" {
		return
	}
	fmt.Println("built in", Bin(t))
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestListings(t *testing.T) {
	before := Snapshot(t)
	ns := NetNS(t)
	Run(t, "ip", "link", "add", "v0", "type", "veth", "peer", "name", "eth0", "netns", filepath.Base(ns))
	Run(t, "ip", "link", "set", "v0", "alias", "of a test", "addrgenmode", "none", "up")
	Run(t, "ip", "-n", filepath.Base(ns), "link", "set", "eth0", "addrgenmode", "none") // old kernels would do "up" first
	Run(t, "ip", "-n", filepath.Base(ns), "link", "set", "eth0", "up")
	Run(t, "ip", "-n", filepath.Base(ns), "addr", "add", "192.0.2.7/24", "dev", "eth0")
	Run(t, "ip", "-n", filepath.Base(ns), "route", "add", "default", "via", "192.0.2.1", "mtu", "1400", "table", "77")
	if l := Links(t, "")["v0"]; l.Kind != "veth" || l.Alias != "of a test" || !l.Up() || l.ParentIndex != Links(t, ns)["eth0"].Index {
		t.Errorf("v0 is %+v", l)
	}
	want := Addr{Dev: "eth0", Prefix: netip.MustParsePrefix("192.0.2.7/24"), Scope: "global"}
	if addrs := Addrs(t, ns); len(addrs) != 1 || addrs[0] != want {
		t.Errorf("addresses %+v", addrs)
	}
	if r := Routes(t, ns, 4, "table 77"); len(r) != 1 || r[0].Dst != "default" || r[0].Gateway != "192.0.2.1" || r[0].Metrics[0].MTU != 1400 {
		t.Errorf("routes of table 77: %+v", r)
	}
	if r := Routes(t, ns, 6, "table 78"); len(r) != 0 {
		t.Errorf("routes of table 78: %+v", r)
	}
	if r := Rules(t, ns, 4); len(r) != 3 || r[0].Table != "local" {
		t.Errorf("rules %+v", r)
	}

	nft(t, `table inet plumb {
		map ports { type inet_proto . inet_service : ipv4_addr; elements = { tcp . 80 comment "owner" : 192.0.2.7 } }
		set sources { type ipv4_addr; flags interval; elements = { 192.0.2.0/28, 192.0.2.20-192.0.2.30 } }
		chain post {
			type nat hook postrouting priority srcnat
			ip saddr @sources counter masquerade comment "all"
		}
	}`)
	r := NFT(t)
	if m, _ := r.Set("inet", "plumb", "ports"); len(m.Elems) != 1 || m.Elems[0] != (NFTElem{"tcp . 80", "192.0.2.7", "owner"}) {
		t.Errorf("map %+v", m)
	}
	if s, _ := r.Set("inet", "plumb", "sources"); len(s.Elems) != 2 || s.Elems[0].Key != "192.0.2.0/28" || s.Elems[1].Key != "192.0.2.20-192.0.2.30" {
		t.Errorf("set %+v", s)
	}
	if len(r.Rules) != 1 || r.Rules[0].Comment != "all" || strings.Contains(r.Rules[0].Expr, "packets") || !strings.Contains(r.Rules[0].Expr, "masquerade") {
		t.Errorf("rules %+v", r.Rules)
	}

	if err := os.WriteFile("/var/lib/cni/record", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	diff := before.Diff(Snapshot(t))
	for _, line := range []string{"+ link v0 ", "+ nft element inet plumb ports { tcp . 80 : 192.0.2.7 }", `+ file /var/lib/cni/record "x"`, "+ qdisc v0 "} {
		if !strings.Contains(diff, line) {
			t.Errorf("%q is not in the difference:\n%s", line, diff)
		}
	}
	RemoveNetNS(t, ns) // takes the link along, some time later
	nft(t, "flush map inet plumb ports; flush set inet plumb sources")
	os.Remove("/var/lib/cni/record")
	Unchanged(t, before, SharedNFT)
	nft(t, "delete table inet plumb")
	Unchanged(t, before)
}

func nft(t *testing.T, commands string) { t.Helper(); Run(t, "nft", commands) }

func TestInternet(t *testing.T) {
	Need(t, "nft-inet-nat")
	before := Snapshot(t)
	t.Run("world", testWorld)
	Unchanged(t, before)
}

func testWorld(t *testing.T) {
	world := Internet(t)
	ns := NetNS(t)
	c := filepath.Base(ns)
	for _, args := range []string{
		"link add v0 type veth peer name eth0 netns " + c,
		"addr add 192.0.2.1/24 dev v0", "link set v0 addrgenmode none up",
		"-n " + c + " addr add 192.0.2.7/24 dev eth0", "-n " + c + " link set eth0 up", "-n " + c + " route add default via 192.0.2.1",
	} {
		Run(t, "ip", strings.Fields(args)...)
	}
	forward := func(v string) {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte(v), 0); err != nil {
			t.Fatal(err)
		}
	}
	Ping(t, "", Internet4)
	Ping(t, "", Internet6)
	if TryPing(ns, Internet4) == nil {
		t.Error("the world answers without forwarding")
	}
	forward("1")
	defer forward("0")
	if TryPing(ns, Internet4) == nil {
		t.Error("the world answers without masquerade")
	}
	nft(t, "table ip t {\n chain c {\n type nat hook postrouting priority 100\n oifname eth0 masquerade\n }\n}")
	defer nft(t, "delete table ip t")
	Ping(t, ns, Internet4)
	for _, network := range []string{"tcp", "udp"} {
		addr := Serve(t, world, network, Internet4+":0")
		a, err := Ask(t, ns, network, addr, "192.0.2.7:0")
		if client, _ := netip.ParseAddrPort(a.Client); err != nil || a.Server != world || client.Addr().String() != Uplink4 || a.Local != addr {
			t.Errorf("%s: answer %+v, %v", network, a, err)
		}
	}
	Run(t, "ip", "link", "del", "v0") // a TCP connection that is still closing would keep the namespace, and so the link
}

func TestBinaries(t *testing.T) {
	for _, dir := range []string{Reference(t), DebianPlugins(t)} {
		stdout, stderr, exit := Plugin(t, dir, "bridge", Env("VERSION", "", "", ""), `{"cniVersion":"1.0.0"}`)
		var v struct{ SupportedVersions []string }
		if err := json.Unmarshal([]byte(stdout), &v); err != nil || exit != 0 || !slices.Contains(v.SupportedVersions, "1.0.0") {
			t.Errorf("%s: exit %d, %v\n%s%s", dir, exit, err, stdout, stderr)
		}
	}
	bin := Bin(t)
	link, err := os.Readlink(filepath.Join(bin, "cnitool"))
	if err != nil || link != "plumb-cni" {
		t.Errorf("cnitool is a link to %q, %v", link, err)
	}
}

// TestProbes fails on a probe that is broken rather than unsuccessful, and on an expected skip that names no probe.
func TestProbes(t *testing.T) {
	for feature := range probes {
		t.Run(feature, func(t *testing.T) { Need(t, feature) })
	}
	f, err := os.Open("../skips.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		feature, _, _ := strings.Cut(s.Text(), "#")
		if feature = strings.TrimSpace(feature); feature != "" && probes[feature] == "" {
			t.Errorf("skips.txt expects %q, which no test can need", feature)
		}
	}
}
