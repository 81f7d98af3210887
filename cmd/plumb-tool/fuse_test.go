package main_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

const chain = `{"cniVersion":"1.1.0","name":"fused","disableCheck":false,"plugins":[
	{"type":"bridge","bridge":"br98","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"10.98.0.0/24"}],[{"subnet":"fd00:98::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}},
	{"type":"portmap","capabilities":{"portMappings":true}},
	{"type":"theirs"},
	{"type":"firewall"},
	{"type":"tuning","sysctl":{"net.core.somaxconn":"512"},"capabilities":{"mac":true}},
	{"type":"bandwidth","capabilities":{"bandwidth":true}}]}`

// theirs is a plugin of somebody else: it counts its calls and passes the result on.
const theirs = `#!/bin/sh
echo "$CNI_COMMAND" >>"$0.calls"
[ "$CNI_COMMAND" != VERSION ] || { echo '{"cniVersion":"1.1.0","supportedVersions":["1.1.0"]}'; exit; }
[ "$CNI_COMMAND" = ADD ] || exit 0
sed 's/.*"prevResult"://; s/}$//'
`

// fusing is a network whose configuration is rewritten.
type fusing struct {
	file, bin string
	runtime   *runtime.Runtime
}

func newFusing(t *testing.T) *fusing {
	t.Helper()
	t.Cleanup(func() { host.Try("ip", "link", "del", "br98") }) //nolint:errcheck // there may be none
	dir := t.TempDir()
	f := &fusing{file: filepath.Join(dir, "10-fused.conflist"), bin: filepath.Join(dir, "bin")}
	host.Run(t, "mkdir", f.bin)
	if err := errors.Join(
		os.WriteFile(f.file, fmt.Appendf(nil, chain, filepath.Join(dir, "data")), 0o640),
		os.WriteFile(filepath.Join(f.bin, "theirs"), []byte(theirs), 0o755)); err != nil {
		t.Fatal(err)
	}
	f.runtime = &runtime.Runtime{Path: []string{host.Bin(t), f.bin}, CacheDir: filepath.Join(dir, "cache")}
	return f
}

// list reads the configuration as it is now.
func (f *fusing) list(t *testing.T) *cni.List {
	t.Helper()
	list, err := cni.LoadList(f.file)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func (f *fusing) fuse(t *testing.T, args ...string) {
	t.Helper()
	host.Run(t, filepath.Join(host.Bin(t), "plumb"), append([]string{"fuse", f.file}, args...)...)
}

func (f *fusing) attachment(ns string) runtime.Attachment {
	return runtime.Attachment{ContainerID: "c", NetNS: ns, IfName: "eth0", CapabilityArgs: map[string]any{
		"portMappings": []map[string]any{{"hostPort": 8098, "containerPort": 80, "protocol": "tcp"}},
		"bandwidth":    map[string]any{"ingressRate": 100_000_000, "egressRate": 100_000_000},
		"mac":          "02:00:00:00:00:98",
	}}
}

// TestFuseCompletion completes names of networks that can be fused, or that are.
func TestFuseCompletion(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"one", "two", "bad"} {
		text := fmt.Sprintf(`{"cniVersion":"1.1.0","name":%q,"plugins":[{"type":"ptp"}]}`, name)
		if err := os.WriteFile(filepath.Join(dir, name+".conflist"), []byte(strings.Replace(text, "bad", "", 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	plumb := filepath.Join(host.Bin(t), "plumb")
	host.Run(t, plumb, "fuse", "two", "--netdir", dir)
	for args, want := range map[string]string{
		"fuse --netdir " + dir + " ":             "one\n:0\n",
		"fuse --undo --netdir " + dir + " ":      "two\n:0\n",
		"fuse --netdir /nosuch ":                 ":0\n",
		"fuse --netdir " + dir + " one ":         ":4\n",
		"docker --netdir " + dir + " connect c ": "one\ntwo\n:0\n",
	} {
		cmd := exec.Command(plumb, append([]string{"__complete"}, strings.Split(args, " ")...)...)
		if out, err := cmd.Output(); err != nil || string(out) != want {
			t.Errorf("%s: %q, %v; want %q", args, out, err, want)
		}
	}
}

// TestFuse compares what a list makes with what it makes in one process, and
// deletes either by the other.
func TestFuse(t *testing.T) {
	outside := host.Internet(t)
	f := newFusing(t)
	original, err := os.ReadFile(f.file)
	if err != nil {
		t.Fatal(err)
	}
	first := f.attachment(host.NetNS(t)) // what is shared by all is made
	if _, err := f.runtime.Add(t.Context(), f.list(t), first); err != nil {
		t.Fatal(err)
	}
	if err := f.runtime.Del(t.Context(), f.list(t), first); err != nil {
		t.Fatal(err)
	}
	before := host.Snapshot(t)
	var made [2]string
	for i, fused := range []bool{false, true} {
		ns := host.NetNS(t)
		if fused {
			f.fuse(t)
			if types := f.list(t).Plugins; len(types) != 1 || types[0].Type != "plumb" {
				t.Fatalf("fused, the list has %d plugins", len(types))
			}
		}
		a := f.attachment(ns)
		result, err := f.runtime.Add(t.Context(), f.list(t), a)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := result.Encode(cni.V110)
		if err != nil {
			t.Fatal(err)
		}
		ruleset := host.Run(t, "nft", "list", "ruleset")
		made[i] = neutral(string(answer)+ruleset+host.Run(t, "tc", "qdisc")+host.RunIn(t, ns, "ip", "addr")+host.RunIn(t, ns, "ip", "route"), ns)
		address := result.IPs[0].Address.Addr().String()
		host.Serve(t, ns, "tcp", address+":80")
		if _, err := host.Ask(t, outside, "tcp", host.Uplink4+":8098", ""); err != nil {
			t.Error(err)
		}
		host.Ping(t, ns, host.Internet4)
		host.Ping(t, ns, host.Internet6)

		// The other form checks and deletes it.
		if fused {
			f.fuse(t, "--undo")
		} else {
			f.fuse(t)
		}
		if err := f.runtime.Check(t.Context(), f.list(t), a); err != nil {
			t.Error(err)
		}
		host.RunIn(t, ns, "sysctl", "-w", "net.core.somaxconn=77")
		err = f.runtime.Check(t.Context(), f.list(t), a)
		if !errors.Is(err, state.CodeDrift) || !strings.Contains(err.Error(), "tuning") {
			t.Errorf("CHECK of a container whose sysctl was changed: %v", err)
		}
		if err := f.runtime.Del(t.Context(), f.list(t), a); err != nil {
			t.Error(err)
		}
		if !fused {
			f.fuse(t, "--undo")
		}
		host.RemoveNetNS(t, ns)
		host.Unchanged(t, before, host.SharedBridge("br98"))
	}
	for i, only := range []string{"one after the other", "in one process"} {
		for line := range strings.Lines(made[i]) {
			if !strings.Contains(made[1-i], line) {
				t.Errorf("only %s they make: %s", only, line)
			}
		}
	}
	if calls, err := os.ReadFile(filepath.Join(f.bin, "theirs.calls")); err != nil || strings.Count(string(calls), "ADD") != 3 || strings.Count(string(calls), "DEL") != 3 {
		t.Errorf("the plugin of others was called with %q (%v)", calls, err)
	}
	again, err := os.ReadFile(f.file)
	if err != nil {
		t.Fatal(err)
	}
	blank := regexp.MustCompile(`\s`)
	if blank.ReplaceAllString(string(again), "") != blank.ReplaceAllString(string(original), "") {
		t.Errorf("the configuration was\n%s\nand is\n%s", original, again)
	}
	if mode := host.Run(t, "stat", "-c", "%a", f.file); mode != "640\n" && mode != "640" {
		t.Errorf("the file has mode %s", mode)
	}
}

// neutral leaves out what differs from one ADD to the next.
func neutral(text, ns string) string {
	text = strings.ReplaceAll(text, ns, "NETNS")
	for _, p := range [][2]string{
		{`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`, "MAC"}, {`fe80::[0-9a-f:]+`, "LINKLOCAL"}, {`@if\d+|link-netnsid \d+|(?m)^\d+:`, "NUMBER"},
		{`valid_lft \S+ preferred_lft \S+`, ""}, {`qdisc (\w+) [0-9a-f]+:`, "qdisc $1"}, {`10\.98\.0\.\d+|fd00:98::[0-9a-f]+`, "ADDRESS"},
		{`10d0a[0-9a-f]+`, ""}, {`0x[0-9a-f]+`, "HEX"}, {`expires \d+\S*`, ""}, {`tentative`, ""},
		{`counter packets \d+ bytes \d+`, "counter"},
	} {
		text = regexp.MustCompile(p[0]).ReplaceAllString(text, p[1])
	}
	lines := strings.Split(text, "\n")
	slices.Sort(lines) // elements of sets have no order
	return strings.Join(lines, "\n")
}

// TestFusedFailure lets the fourth plugin fail: the error is that of the list,
// and nothing is left.
func TestFusedFailure(t *testing.T) {
	f := newFusing(t)
	holder := f.attachment(host.NetNS(t))
	if _, err := f.runtime.Add(t.Context(), f.list(t), holder); err != nil {
		t.Fatal(err)
	}
	before := host.Snapshot(t)
	a := f.attachment(host.NetNS(t))
	a.ContainerID = "late"
	var said [2]string
	for i := range said {
		_, err := f.runtime.Add(t.Context(), f.list(t), a)
		if !errors.Is(err, state.CodeConflict) {
			t.Fatalf("a port that is taken: %v", err)
		}
		var answer *cni.Error
		if !errors.As(err, &answer) {
			t.Fatal(err)
		}
		said[i] = neutral(answer.Error(), a.NetNS)
		if i == 0 {
			if err := f.runtime.Del(t.Context(), f.list(t), a); err != nil {
				t.Error(err)
			}
			f.fuse(t)
		}
		host.Unchanged(t, before)
	}
	if said[0] != said[1] {
		t.Errorf("the list says %q, and in one process %q", said[0], said[1])
	}
	if err := f.runtime.Status(t.Context(), f.list(t)); err != nil {
		t.Error(err)
	}
	if err := f.runtime.GC(t.Context(), f.list(t), &runtime.GCArgs{Valid: []cni.Attachment{{ContainerID: "c", IfName: "eth0"}}}); err != nil {
		t.Error(err)
	}
	if err := f.runtime.Check(t.Context(), f.list(t), holder); err != nil {
		t.Error(err)
	}
	if err := f.runtime.GC(t.Context(), f.list(t), &runtime.GCArgs{}); err != nil {
		t.Error(err)
	}
	if n := mentions(t, "plumb:fused/"); n != 0 {
		t.Errorf("%d mentions are left after GC of all: %s", n, host.Run(t, "nft", "list", "ruleset"))
	}
}

// TestFuseLink rewrites what a link leads to. What one plugin declares is
// declared, whatever another says.
func TestFuseLink(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "real"), filepath.Join(dir, "a.conflist")
	if err := errors.Join(os.Symlink("real", link), os.WriteFile(file, []byte(`{"cniVersion":"1.1.0","name":"a","plugins":[
		{"type":"bridge","capabilities":{"mac":true}},{"type":"tuning","capabilities":{"mac":false,"other":false}}]}`), 0o600)); err != nil {
		t.Fatal(err)
	}
	host.Run(t, filepath.Join(host.Bin(t), "plumb"), "fuse", "a", "--netdir", dir)
	if target, err := os.Readlink(link); err != nil || target != "real" {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	list, err := cni.LoadList(file)
	if err != nil {
		t.Fatal(err)
	}
	if declared := list.Plugins[0].Capabilities; len(list.Plugins) != 1 || len(declared) != 1 || !declared["mac"] {
		t.Errorf("declared is %v", declared)
	}
}

// TestFuseRefusals explains itself, and changes nothing.
func TestFuseRefusals(t *testing.T) {
	dir := t.TempDir()
	plumb := filepath.Join(host.Bin(t), "plumb")
	file := filepath.Join(dir, "a.conflist")
	for _, tt := range []struct {
		config, says string
		args         []string
	}{
		{`{"cniVersion":"1.1.0","name":"a","plugins":[{"type":"plumb","plugins":[{"type":"ptp"}]}]}`, "fused already", nil},
		{`{"cniVersion":"1.1.0","name":"a","plugins":[{"type":"ptp"}]}`, "not fused", []string{"--undo"}},
		{`{"cniVersion":"1.1.0","name":"a","type":"ptp"}`, "no list", nil},
		{`{"cniVersion":"1.1.0","name":"a","plugins":[`, "a.conflist", nil},
	} {
		if err := os.WriteFile(file, []byte(tt.config), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := host.Try(plumb, append([]string{"fuse", file}, tt.args...)...); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v; want %q", tt.config, err, tt.says)
		}
		if now, err := os.ReadFile(file); err != nil || string(now) != tt.config {
			t.Errorf("%s became %s (%v)", tt.config, now, err)
		}
	}
	if _, err := host.Try(plumb, "fuse", "nothing", "--netdir", dir); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a network that there isn't: %v", err)
	}
}
