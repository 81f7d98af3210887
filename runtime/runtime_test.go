package runtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"
)

// recorder is a plugin that notes each call: one line in $LOG/calls, the
// environment and the configuration in files. It answers ADD with the address
// of its configuration's key "address", and fails if $LOG/fail-TYPE exists.
const recorder = `#!/bin/sh
type=${0##*/}
echo "$type $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME" >> "$LOG/calls"
env > "$LOG/$type.$CNI_COMMAND.env"
conf=$(cat)
printf %s "$conf" > "$LOG/$type.$CNI_COMMAND.conf"
if [ -e "$LOG/fail-$type" ]; then
	echo "first line" >&2; echo "reason of $type" >&2
	cat "$LOG/fail-$type"; exit 3
fi
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}' ;;
ADD) addr=${conf#*\"address\":\"}; echo '{"cniVersion":"1.0.0","interfaces":[{"name":"'$type'","mtu":1400}],"ips":[{"address":"'${addr%%\"*}'","interface":0}]}' ;;
esac
`

// A bench is a folder of plugins, a log and a cache.
type bench struct {
	*runtime.Runtime
	t             *testing.T
	bin, log, dir string // dir is the cache's folder results

	mu       sync.Mutex
	warnings []error
}

func newBench(t *testing.T, plugins ...string) *bench {
	t.Helper()
	b := &bench{t: t, bin: t.TempDir(), log: t.TempDir()}
	cacheDir := t.TempDir()
	b.dir = filepath.Join(cacheDir, "results")
	for _, p := range plugins {
		b.script(p, recorder)
	}
	b.Runtime = &runtime.Runtime{
		Path: []string{filepath.Join(b.bin, "nothing-here"), b.bin}, CacheDir: cacheDir,
		Invoker: &runtime.Exec{Env: append(os.Environ(), "LOG="+b.log)},
		Warn: func(err error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.warnings = append(b.warnings, err)
		},
	}
	return b
}

func (b *bench) script(name, text string) {
	b.t.Helper()
	b.write(filepath.Join(b.bin, name), text, 0o755)
}

func (b *bench) write(path, text string, mode fs.FileMode) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		b.t.Fatal(err)
	}
}

// calls returns the calls since the last time.
func (b *bench) calls() []string {
	data, _ := os.ReadFile(filepath.Join(b.log, "calls"))
	_ = os.Remove(filepath.Join(b.log, "calls"))
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

// sent returns the configuration that a plugin was last sent with a verb.
func (b *bench) sent(plugin, verb string) map[string]any {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.log, plugin+"."+verb+".conf"))
	if err != nil {
		b.t.Fatal(err)
	}
	var conf map[string]any
	if err := json.Unmarshal(data, &conf); err != nil {
		b.t.Fatalf("%v: %s", err, data)
	}
	return conf
}

func (b *bench) env(plugin, verb string) string {
	data, _ := os.ReadFile(filepath.Join(b.log, plugin+"."+verb+".env"))
	return "\n" + string(data)
}

func (b *bench) wantCalls(want ...string) {
	b.t.Helper()
	if got := b.calls(); !slices.Equal(got, want) {
		b.t.Errorf("calls %q\n want %q", got, want)
	}
}

// cached are the files of the cache.
func (b *bench) cached() []string {
	var names []string
	entries, _ := os.ReadDir(b.dir)
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

func list(t *testing.T, version string, plugins ...string) *cni.List {
	t.Helper()
	return parse(t, fmt.Sprintf(`{"cniVersion":%q,"name":"net","plugins":[%s]}`, version, strings.Join(plugins, ",")))
}

func parse(t *testing.T, text string) *cni.List {
	t.Helper()
	l, err := cni.ParseList([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var (
	plugA = `{"type":"a","address":"10.0.0.1/24","keep":1.00,"capabilities":{"mac":true,"ips":false}}`
	plugB = `{"type":"b","address":"10.0.0.2/24","name":"other","cniVersion":"0.1.0","capabilities":{"portMappings":true,"mac":true},"runtimeConfig":{"x":1}}`
	ctx   = context.Background()
)

func at(id string) runtime.Attachment {
	return runtime.Attachment{ContainerID: id, NetNS: "/run/netns/" + id, IfName: "eth0"}
}

func TestChain(t *testing.T) {
	t.Setenv("TRACEPARENT", "00-trace-span-01")
	t.Setenv("CNI_ARGS", "of=the;calling=process")
	t.Setenv("CNI_NETNS_OVERRIDE", "1")
	b := newBench(t, "a", "b")
	l := list(t, "0.4.0", plugA, plugB)
	a := at("c1")
	a.Args = [][2]string{{"K", "v"}, {"IgnoreUnknown", "1"}}
	a.CapabilityArgs = map[string]any{"mac": "02:00:00:00:00:01", "ips": []string{"10.0.0.9"}, "other": 1}

	result, err := b.Add(runtime.WithEnv(ctx, "TRACESTATE=x=y"), l, a)
	if err != nil {
		t.Fatal(err)
	}
	if result.Interfaces[0].Name != "b" || result.IPs[0].Address.String() != "10.0.0.2/24" {
		t.Errorf("result %+v", result)
	}
	b.wantCalls("a ADD c1 eth0", "b ADD c1 eth0")
	first, second := b.sent("a", "ADD"), b.sent("b", "ADD")
	want := map[string]any{
		"type": "a", "address": "10.0.0.1/24", "keep": 1.0, "name": "net", "cniVersion": "0.4.0",
		"runtimeConfig": map[string]any{"mac": "02:00:00:00:00:01"},
	}
	if fmt.Sprint(first) != fmt.Sprint(want) {
		t.Errorf("first plugin was sent %v\nwant %v", first, want)
	}
	prev := second["prevResult"].(map[string]any)
	ip := prev["ips"].([]any)[0].(map[string]any)
	if prev["cniVersion"] != "0.4.0" || ip["version"] != "4" || ip["address"] != "10.0.0.1/24" {
		t.Errorf("previous result in the version of the list: %v", prev)
	}
	if second["name"] != "net" || second["cniVersion"] != "0.4.0" || fmt.Sprint(second["runtimeConfig"]) != "map[mac:02:00:00:00:00:01]" {
		t.Errorf("second plugin was sent %v", second)
	}
	env := b.env("b", "ADD")
	for _, v := range []string{
		"CNI_NETNS=/run/netns/c1", "CNI_IFNAME=eth0", "CNI_ARGS=K=v;IgnoreUnknown=1", "CNI_PATH=" + strings.Join(b.Path, ":"),
		"CNI_NETNS_OVERRIDE=1", "TRACEPARENT=00-trace-span-01", "TRACESTATE=x=y",
	} {
		if !strings.Contains(env, "\n"+v+"\n") {
			t.Errorf("%s is not in the environment of the plugin:\n%s", v, env)
		}
	}

	// CHECK and DEL get the final result, and what the caller doesn't repeat.
	if err := b.Check(ctx, l, at("c1")); err != nil {
		t.Fatal(err)
	}
	b.wantCalls("a CHECK c1 eth0", "b CHECK c1 eth0")
	if err := b.Del(ctx, l, runtime.Attachment{ContainerID: "c1", IfName: "eth0"}); err != nil {
		t.Fatal(err)
	}
	b.wantCalls("b DEL c1 eth0", "a DEL c1 eth0")
	for _, verb := range []string{"CHECK", "DEL"} {
		conf := b.sent("a", verb)
		if !strings.Contains(fmt.Sprint(conf["prevResult"]), "10.0.0.2/24") || fmt.Sprint(conf["runtimeConfig"]) != "map[mac:02:00:00:00:00:01]" {
			t.Errorf("%s was sent %v", verb, conf)
		}
		if !strings.Contains(b.env("a", verb), "\nCNI_ARGS=K=v;IgnoreUnknown=1\n") {
			t.Errorf("%s without the arguments of the ADD", verb)
		}
	}
	if left := b.cached(); left != nil || b.warnings != nil {
		t.Errorf("left in the cache: %q, warnings %v", left, b.warnings)
	}
	// Again, and of what never was: no result, no error.
	if err := b.Del(ctx, l, at("c1")); err != nil {
		t.Fatal(err)
	}
	if _, sent := b.sent("a", "DEL")["prevResult"]; sent {
		t.Error("a result after the DEL")
	}
}

func TestSingleAndCapabilities(t *testing.T) {
	b := newBench(t, "a")
	b.PassCapabilities = true
	l := parse(t, `{"cniVersion":"0.3.1","name":"net","type":"a","address":"10.0.0.1/24","capabilities":{"mac":true}}`)
	if _, err := b.Add(ctx, l, at("c1")); err != nil {
		t.Fatal(err)
	}
	if conf := b.sent("a", "ADD"); conf["capabilities"] == nil || conf["name"] != "net" {
		t.Errorf("sent %v", conf)
	}
	if err := b.Check(ctx, l, at("c1")); !errors.Is(err, runtime.ErrNoCheck) || !errors.Is(err, cni.CodeIncompatibleVersion) {
		t.Errorf("CHECK below 0.4.0: %v", err)
	}
	if err := b.Del(ctx, l, at("c1")); err != nil {
		t.Fatal(err)
	}
	if _, sent := b.sent("a", "DEL")["prevResult"]; sent {
		t.Error("a result on DEL below 0.4.0")
	}
}

func TestAddStopsAndNamesTheCall(t *testing.T) {
	b := newBench(t, "a", "b")
	b.write(filepath.Join(b.log, "fail-a"), `{"code":11,"msg":"later","details":"no address"}`, 0o600)
	_, err := b.Add(ctx, list(t, "1.0.0", plugA, plugB), at("c1"))
	if !errors.Is(err, cni.CodeTryAgain) || errors.Is(err, cni.CodeInvalidConfig) {
		t.Fatalf("code of %v", err)
	}
	for _, want := range []string{`"a"`, "ADD", `"net"`, `"c1"`, `"eth0"`, "exit status 3", "later; no address", "code 11", "reason of a"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not in %v", want, err)
		}
	}
	b.wantCalls("a ADD c1 eth0")
	if err := b.Check(ctx, list(t, "1.0.0", plugA), at("c1")); !errors.Is(err, runtime.ErrNotAttached) || !errors.Is(err, cni.CodeUnknownContainer) {
		t.Errorf("CHECK of what was not added: %v", err)
	}
}

func TestInvalidArguments(t *testing.T) {
	b := newBench(t, "a")
	l := list(t, "1.0.0", plugA)
	for name, a := range map[string]runtime.Attachment{
		"container": {ContainerID: "../x", NetNS: "/n", IfName: "eth0"},
		"interface": {ContainerID: "x", NetNS: "/n", IfName: "../eth0"},
		"namespace": {ContainerID: "x", IfName: "eth0"},
		"argument":  {ContainerID: "x", NetNS: "/n", IfName: "eth0", Args: [][2]string{{"A", "b;C=d"}}},
	} {
		if _, err := b.Add(ctx, l, a); !errors.Is(err, cni.CodeInvalidEnvironment) {
			t.Errorf("ADD, %s: %v", name, err)
		}
		if err := b.Del(ctx, l, a); name != "namespace" && !errors.Is(err, cni.CodeInvalidEnvironment) {
			t.Errorf("DEL, %s: %v", name, err)
		}
	}
	long := parse(t, fmt.Sprintf(`{"cniVersion":"1.0.0","name":"%0200d","type":"a"}`, 0))
	if _, err := b.Add(ctx, long, at(strings.Repeat("c", 64))); !errors.Is(err, cni.CodeInvalidConfig) {
		t.Errorf("a name too long for a file: %v", err)
	}
	_ = os.Remove(filepath.Join(b.log, "a.DEL.conf"))
	if calls := b.calls(); slices.ContainsFunc(calls, func(c string) bool { return strings.Contains(c, "ADD") }) {
		t.Errorf("calls %q", calls)
	}
}

// What leaks in the reference: the rest of a list after a plugin that fails.
func TestDelCallsEveryPlugin(t *testing.T) {
	for _, missing := range []bool{false, true} {
		b := newBench(t, "a", "b", "c")
		l := list(t, "1.0.0", plugA, plugB, `{"type":"c","address":"10.0.0.3/24"}`)
		if _, err := b.Add(ctx, l, at("c1")); err != nil {
			t.Fatal(err)
		}
		b.calls()
		if missing {
			_ = os.Remove(filepath.Join(b.bin, "b"))
		} else {
			b.write(filepath.Join(b.log, "fail-b"), `{"code":100,"msg":"busy"}`, 0o600)
		}
		b.write(filepath.Join(b.log, "fail-c"), `{"code":11,"msg":"later"}`, 0o600)
		err := b.Del(ctx, l, at("c1"))
		if !errors.Is(err, cni.CodeTryAgain) || missing != errors.Is(err, fs.ErrNotExist) || missing == errors.Is(err, cni.Code(100)) {
			t.Errorf("errors of both: %v", err)
		}
		if missing {
			b.wantCalls("c DEL c1 eth0", "a DEL c1 eth0")
			if !strings.Contains(err.Error(), strings.Join(b.Path, ", ")) {
				t.Errorf("folders searched are not in %v", err)
			}
			b.script("b", recorder)
		} else {
			b.wantCalls("c DEL c1 eth0", "b DEL c1 eth0", "a DEL c1 eth0")
			_ = os.Remove(filepath.Join(b.log, "fail-b"))
		}
		if b.cached() == nil {
			t.Fatal("the attachment is forgotten after a DEL that failed")
		}
		_ = os.Remove(filepath.Join(b.log, "fail-c"))
		if err := b.Del(ctx, l, at("c1")); err != nil {
			t.Fatal(err)
		}
		if conf := b.sent("b", "DEL"); conf["prevResult"] == nil {
			t.Error("no result for the second DEL")
		}
		if left := b.cached(); left != nil {
			t.Errorf("left in the cache: %q", left)
		}
	}
}

func TestDisableFlagsAndVersions(t *testing.T) {
	b := newBench(t, "a")
	off := parse(t, `{"cniVersion":"1.1.0","name":"net","disableCheck":true,"disableGC":true,"plugins":[`+plugA+`]}`)
	old := list(t, "1.0.0", plugA)
	if err := errors.Join(b.Check(ctx, off, at("c1")), b.GC(ctx, off, &runtime.GCArgs{}), b.GC(ctx, old, nil), b.Status(ctx, old)); err != nil {
		t.Error(err)
	}
	b.wantCalls("")
	if err := b.Status(ctx, off); err != nil {
		t.Error(err)
	}
	b.wantCalls("a STATUS  ")
	b.write(filepath.Join(b.log, "fail-a"), `{"code":50,"msg":"not ready"}`, 0o600)
	if err := b.Status(ctx, off); !errors.Is(err, cni.CodeUnavailable) {
		t.Errorf("STATUS: %v", err)
	}
}

func TestGC(t *testing.T) {
	for _, version := range []string{"1.0.0", "1.1.0"} {
		b := newBench(t, "a", "b")
		l := list(t, version, plugA, plugB)
		other := parse(t, `{"cniVersion":"1.1.0","name":"net-c2","plugins":[`+plugA+`]}`)
		for _, id := range []string{"c1", "c2", "c3"} {
			if _, err := b.Add(ctx, l, at(id)); err != nil {
				t.Fatal(err)
			}
		}
		// Another network, of a name that begins the same.
		if _, err := b.Add(ctx, other, at("c1")); err != nil {
			t.Fatal(err)
		}
		b.write(filepath.Join(b.dir, "net-torn-eth0"), `{"kind":"cniCa`, 0o600)
		b.calls()

		// c2 won't go: c3 and the GC of the plugins follow all the same.
		b.script("a", strings.Replace(recorder, "conf=$(cat)", `conf=$(cat); [ "$CNI_COMMAND $CNI_CONTAINERID" = "DEL c2" ] && exit 1`, 1))
		err := b.GC(ctx, l, &runtime.GCArgs{Valid: []cni.Attachment{{ContainerID: "c1", IfName: "eth0"}, {ContainerID: "c3", IfName: "net1"}}})
		if err == nil || !strings.Contains(err.Error(), `"c2"`) || strings.Contains(err.Error(), `"c3"`) {
			t.Errorf("GC: %v", err)
		}
		calls := b.calls()
		for _, id := range []string{"c2", "c3"} { // at the same time
			ours := slices.DeleteFunc(slices.Clone(calls), func(call string) bool { return !strings.Contains(call, id) })
			if want := []string{"b DEL " + id + " eth0", "a DEL " + id + " eth0"}; !slices.Equal(ours, want) {
				t.Errorf("calls for %s: %q, want %q", id, ours, want)
			}
		}
		var want []string
		if version == "1.1.0" {
			want = []string{"a GC  ", "b GC  "}
			valid := `[map[containerID:c1 ifname:eth0] map[containerID:c3 ifname:net1]]`
			if conf := b.sent("b", "GC"); fmt.Sprint(conf["cni.dev/valid-attachments"]) != valid || fmt.Sprint(conf["cni.dev/attachments"]) != valid {
				t.Errorf("GC was sent %v", conf)
			}
		}
		if got := calls[min(4, len(calls)):]; !slices.Equal(got, want) {
			t.Errorf("calls after DEL %q, want %q", got, want)
		}
		if got, want := b.cached(), []string{"net-c1-eth0", "net-c2-c1-eth0", "net-c2-eth0", "net-torn-eth0"}; !slices.Equal(got, want) {
			t.Errorf("left in the cache %q, want %q", got, want)
		}
		if len(b.warnings) != 1 || !errors.Is(b.warnings[0], runtime.ErrCacheTorn) || !strings.Contains(b.warnings[0].Error(), "net-torn-eth0") {
			t.Errorf("warnings %v", b.warnings)
		}
	}
}

func TestGCKeys(t *testing.T) {
	b := newBench(t, "a")
	l := list(t, "1.1.0", `{"type":"a","cni.dev/attachments":[],"CNI.dev/valid-attachments":null}`)
	if err := b.GC(ctx, l, nil); err != nil {
		t.Fatal(err)
	}
	if conf := b.sent("a", "GC"); len(conf) != 3 {
		t.Errorf("with nothing known to be valid or not, GC was sent %v", conf)
	}
	if err := b.GC(ctx, l, &runtime.GCArgs{}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"cni.dev/valid-attachments", "cni.dev/attachments"} {
		if v, ok := b.sent("a", "GC")[key].([]any); !ok || len(v) != 0 {
			t.Errorf("none valid: %s is %v", key, v)
		}
	}
}

func TestValidate(t *testing.T) {
	b := newBench(t, "a", "b")
	caps, err := b.Validate(ctx, list(t, "1.0.0", plugA, plugB, plugA))
	if err != nil || fmt.Sprint(caps) != "[mac portMappings]" {
		t.Errorf("capabilities %v, %v", caps, err)
	}
	b.wantCalls("a VERSION dummy dummy", "b VERSION dummy dummy")
	_, err = b.Validate(ctx, list(t, "0.2.0", plugA, `{"type":"gone"}`))
	if !errors.Is(err, cni.CodeIncompatibleVersion) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "0.3.1") {
		t.Errorf("a version and a plugin that aren't there: %v", err)
	}
	// Plugins of the time before VERSION.
	b.script("old", "#!/bin/sh\necho '{\"code\":100,\"msg\":\"unknown CNI_COMMAND: VERSION\"}'; exit 1\n")
	b.script("old4", "#!/bin/sh\necho '{\"code\":4,\"msg\":\"unknown CNI_COMMAND: VERSION\"}'; exit 1\n")
	b.script("mute", "#!/bin/sh\n")
	b.script("strict", "#!/bin/sh\necho '{\"code\":4,\"msg\":\"CNI_NETNS is no namespace\"}'; exit 1\n")
	b.script("future", "#!/bin/sh\necho '{\"cniVersion\":\"9.0.0\",\"supportedVersions\":[\"1.1.0\",\"9.0.0\"]}'\n")
	b.script("broken", "#!/bin/sh\necho what; exit 1\n")
	for plugin, want := range map[string]string{"old": "[0.1.0]", "old4": "[0.1.0]", "future": "[1.1.0 9.0.0]"} {
		if versions, err := b.Version(ctx, plugin); err != nil || fmt.Sprint(versions) != want {
			t.Errorf("%s: %v, %v", plugin, versions, err)
		}
	}
	for plugin, want := range map[string]string{"broken": "what", "mute": "decode versions", "strict": "is no namespace"} {
		if versions, err := b.Version(ctx, plugin); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", plugin, versions, err)
		}
	}
}

// One Runtime serves many at once.
func TestConcurrent(t *testing.T) {
	b := newBench(t, "a")
	l := list(t, "1.1.0", plugA)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			a := at(fmt.Sprintf("c%d", i))
			_, err := b.Add(ctx, l, a)
			err = errors.Join(err, b.Check(ctx, l, a))
			_, aerr := b.Attachments("")
			if err = errors.Join(err, aerr, b.Del(ctx, l, a)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left := b.cached(); left != nil {
		t.Errorf("left in the cache: %q", left)
	}
}
