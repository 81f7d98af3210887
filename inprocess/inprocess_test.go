package inprocess

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/runtime"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

// init keeps the process's first thread for the goroutine that waits for the
// tests. It is the one that can't end where it is stranded, as TestStranded has
// it, and would be in that namespace for good.
func init() { goruntime.LockOSThread() }

func TestMain(m *testing.M) { host.Main(m) }

// ptp is a network.
const ptp = `{"cniVersion":"1.1.0","name":"net","type":"ptp","ipMasq":true,"ipam":{"type":"host-local","subnet":"10.77.0.0/24"}}`

// request is one for an attachment that needs no files on the path.
func request(t testing.TB, verb cni.Verb, config string, path ...string) *cni.Request {
	t.Helper()
	if path == nil {
		path = []string{t.TempDir()}
	}
	req := &cni.Request{Verb: verb, ContainerID: "one", NetNS: host.NetNS(t), IfName: "eth0", Path: path, Config: []byte(config)}
	t.Cleanup(func() {
		del := *req
		del.Verb = cni.VerbDel
		i := New(Options{})
		defer i.Close()
		_, _ = i.Invoke(context.Background(), "ptp", &del) // what a test has made
	})
	return req
}

// a config has no keys.
type config struct{}

// with adds a chained plugin to an invoker.
func with(i *Invoker, name string, desired func(context.Context, *plugin.Request, state.Reader) error) {
	i.plugins[name] = plugin.New(plugin.Def[config]{
		Name: name,
		Desired: func(ctx context.Context, _ *config, r *plugin.Request, _ *cni.Result, rd state.Reader) (state.Plan, error) {
			return nil, desired(ctx, r, rd)
		},
	})
}

// afterwards closes an invoker and fails the test if the process then holds more than
// before.
func afterwards(t *testing.T, i *Invoker, before host.Holdings) {
	t.Helper()
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	if now := host.Hold(t, before); now != before {
		t.Errorf("the process holds %+v, before it was %+v", now, before)
	}
}

// TestPanic: a plugin that panics, wherever it is, fails its call and no more.
func TestPanic(t *testing.T) {
	before := host.Hold(t)
	var said bytes.Buffer
	i := New(Options{Exec: &runtime.Exec{Stderr: &said}})
	for name, fail := range map[string]func(state.Reader) error{
		"here":      func(state.Reader) error { panic("thrown") },
		"inside":    func(rd state.Reader) error { return rd.In(state.Sandbox, func() error { panic("thrown") }) },
		"goroutine": func(state.Reader) error { goruntime.Goexit(); return nil },
		"away": func(rd state.Reader) error {
			return rd.In(state.Sandbox, func() error { goruntime.Goexit(); return nil })
		},
	} {
		with(i, name, func(_ context.Context, _ *plugin.Request, rd state.Reader) error { return fail(rd) })
		for range 3 {
			said.Reset()
			_, err := i.Invoke(t.Context(), name, request(t, cni.VerbAdd, `{"cniVersion":"1.1.0","name":"net","type":"`+name+`"}`))
			failed, ok := errors.AsType[*runtime.PluginError](err)
			if !ok || !errors.Is(err, cni.CodeInternal) || failed.Plugin != name || failed.Network != "net" || failed.ContainerID != "one" {
				t.Errorf("%s: %#v", name, err)
			}
			if panicked := name == "here" || name == "inside"; panicked != strings.Contains(said.String(), "inprocess_test.go") ||
				panicked != strings.Contains(fmt.Sprint(err), "panic: thrown") {
				t.Errorf("%s: the error is %v, and said was %q", name, err, said.String())
			}
		}
	}
	if _, err := i.Invoke(t.Context(), "ptp", request(t, cni.VerbAdd, ptp)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	afterwards(t, i, before)
}

// TestContext: a call whose context ends undoes what it has done, and one that
// takes no notice is given up.
func TestContext(t *testing.T) {
	before := host.Hold(t)
	i := New(Options{Grace: 100 * time.Millisecond})
	release := make(chan bool)
	entered := make(chan bool, 1)
	with(i, "deaf", func(context.Context, *plugin.Request, state.Reader) error {
		entered <- true
		<-release
		return nil
	})
	with(i, "listens", func(ctx context.Context, _ *plugin.Request, _ state.Reader) error {
		entered <- true
		<-ctx.Done()
		return cni.Errorf(cni.CodeTryAgain, "was interrupted")
	})
	cause := errors.New("enough")
	call := func(name string) error {
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { <-entered; cancel(cause) }()
		_, err := i.Invoke(ctx, name, request(t, cni.VerbAdd, `{"cniVersion":"1.1.0","name":"net","type":"`+name+`"}`))
		return err
	}
	if err := call("listens"); !errors.Is(err, cause) || !errors.Is(err, cni.CodeTryAgain) {
		t.Errorf("one that listens: %v", err)
	}
	start := time.Now()
	err := call("deaf")
	if _, ok := errors.AsType[*runtime.PluginError](err); !ok || !errors.Is(err, cause) || time.Since(start) < 100*time.Millisecond {
		t.Errorf("one that doesn't: %v after %v", err, time.Since(start))
	}
	if err := i.Close(); err != nil { // while it still runs
		t.Error(err)
	}
	close(release)
	afterwards(t, i, before)
}

// TestEndedContext: nothing is begun.
func TestEndedContext(t *testing.T) {
	i := New(Options{})
	defer i.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	untouched := host.Snapshot(t)
	if _, err := i.Invoke(ctx, "ptp", request(t, cni.VerbAdd, ptp)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	host.Unchanged(t, untouched)
}

// TestClosed: a closed invoker says so.
func TestClosed(t *testing.T) {
	i := New(Options{})
	for range 2 {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := i.Invoke(t.Context(), "ptp", request(t, cni.VerbAdd, ptp)); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
}

// TestClosedMeanwhile: a call that has begun goes on, also if another host's is
// kept in the place of its own.
func TestClosedMeanwhile(t *testing.T) {
	i := New(Options{})
	m, err := i.machine()
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	ran := false
	if err := m.Run(func(string) { ran = true }); err != nil || !ran {
		t.Errorf("a call that has begun: %v", err)
	}
	k, err := m.Open("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(k.Close(), m.Leave()); err != nil {
		t.Error(err)
	}
	if err := m.Use(); err == nil {
		t.Error("a machine that nobody uses is used after its end")
	}
}

// TestManyHosts has callers on more hosts than are kept.
func TestManyHosts(t *testing.T) {
	before := host.Hold(t)
	i := New(Options{})
	with(i, "nothing", func(context.Context, *plugin.Request, state.Reader) error { return nil })
	var group sync.WaitGroup
	for range hosts + 4 {
		ns := host.NetNS(t)
		req := request(t, cni.VerbCheck, `{"cniVersion":"1.1.0","name":"net","type":"nothing","prevResult":{"cniVersion":"1.1.0"}}`)
		group.Go(func() {
			for range 50 {
				if err := host.In(t, ns, func() error { _, err := i.Invoke(t.Context(), "nothing", req); return err }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	afterwards(t, i, before)
}

// TestStranded: a thread that can't return from the caller's host fails the call
// whose it is, and no more.
func TestStranded(t *testing.T) {
	before := host.Hold(t)
	i := New(Options{})
	with(i, "drops", func(context.Context, *plugin.Request, state.Reader) error {
		caps := [2]unix.CapUserData{} // none: but this thread's alone
		return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &caps[0])
	})
	req := request(t, cni.VerbCheck, `{"cniVersion":"1.1.0","name":"net","type":"drops","prevResult":{"cniVersion":"1.1.0"}}`)
	other := host.NetNS(t)
	for range 3 {
		err := host.In(t, other, func() error { _, err := i.Invoke(t.Context(), "drops", req); return err })
		if !errors.Is(err, cni.CodeInternal) || !strings.Contains(fmt.Sprint(err), "return to own namespace") {
			t.Errorf("the call says %v", err)
		}
	}
	if _, err := i.Invoke(t.Context(), "ptp", request(t, cni.VerbAdd, ptp)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	afterwards(t, i, before)
}

// TestHostOfCaller: the host is where the calling thread is, for our plugins and
// for those that they execute.
func TestHostOfCaller(t *testing.T) {
	before := host.Hold(t)
	i := New(Options{})
	folder := t.TempDir()
	where := filepath.Join(folder, "where")
	write(t, filepath.Join(folder, "foreign"), `readlink /proc/self/ns/net >`+where+`
		[ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.1.0","ips":[{"address":"10.77.0.9/24","gateway":"10.77.0.1"}]}'`)
	other := host.NetNS(t)
	network := strings.Replace(ptp, "host-local", "foreign", 1)
	req := request(t, cni.VerbAdd, network, folder)
	for _, verb := range []cni.Verb{cni.VerbAdd, cni.VerbDel} {
		req.Verb = verb
		if err := host.In(t, other, func() error { _, err := i.Invoke(t.Context(), "ptp", req); return err }); err != nil {
			t.Fatal(err)
		}
		links := len(host.Links(t, other))
		if want := map[cni.Verb]int{cni.VerbAdd: 2, cni.VerbDel: 1}[verb]; links != want {
			t.Errorf("after %s there are %d links where the caller was, want %d", verb, links, want)
		}
		ran, err := os.ReadFile(where)
		if err != nil {
			t.Fatal(err)
		}
		if want := host.RunIn(t, other, "readlink", "/proc/self/ns/net"); string(ran) != want {
			t.Errorf("the IPAM plugin ran in %s, want %s", ran, want)
		}
	}
	if links := host.Links(t, ""); len(links) != 1 {
		t.Errorf("links where the caller was not: %v", links)
	}
	afterwards(t, i, before)
}

// write writes a plugin that is a shell script.
func write(t testing.TB, file, script string) {
	t.Helper()
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestForeign: plugins of a list that are not ours are executed, one that is found
// before ours too.
func TestForeign(t *testing.T) {
	before := host.Hold(t)
	i := New(Options{})
	folder := t.TempDir()
	passOn := func(name string) {
		write(t, filepath.Join(folder, name), `echo $CNI_COMMAND >>`+folder+`/calls
			[ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.1.0","ips":[{"address":"10.9.9.9/32"}]}'`)
	}
	passOn("foreign")
	passOn("tuning")
	list, err := cni.ParseList([]byte(`{"cniVersion":"1.1.0","name":"net","plugins":[
		{"type":"ptp","ipam":{"type":"host-local","subnet":"10.77.0.0/24"}},{"type":"foreign"},{"type":"tuning"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r := &runtime.Runtime{Path: []string{folder, host.Bin(t)}, Invoker: i}
	a := runtime.Attachment{ContainerID: "one", NetNS: host.NetNS(t), IfName: "eth0"}
	result, err := r.Add(t.Context(), list, a)
	if err != nil || len(result.IPs) != 1 || result.IPs[0].Address.String() != "10.9.9.9/32" {
		t.Errorf("%+v, %v", result, err)
	}
	if _, ok := host.Links(t, a.NetNS)["eth0"]; !ok {
		t.Error("ours was not called")
	}
	if err := r.Del(t.Context(), list, a); err != nil {
		t.Error(err)
	}
	if calls, _ := os.ReadFile(folder + "/calls"); string(calls) != "ADD\nADD\nDEL\nDEL\n" {
		t.Errorf("the foreign plugins were called with %q", calls)
	}
	write(t, filepath.Join(folder, "foreign"), "kill -9 $$")
	_, err = r.Add(t.Context(), list, a)
	if failed, ok := errors.AsType[*runtime.PluginError](err); !ok || failed.Exit != "signal: killed" {
		t.Errorf("killed: %v", err)
	}
	write(t, filepath.Join(folder, "foreign"), "")
	if err := r.Del(t.Context(), list, a); err != nil {
		t.Error(err)
	}
	afterwards(t, i, before)
}

// TestVersions: they are asked of whoever would be called.
func TestVersions(t *testing.T) {
	i := New(Options{})
	defer i.Close()
	folder := t.TempDir()
	write(t, filepath.Join(folder, "bridge"), `echo '{"cniVersion":"1.1.0","supportedVersions":["0.4.0"]}'`)
	for _, path := range [][]string{{}, {host.Bin(t)}, {host.Bin(t), folder}} {
		if versions, err := i.Versions(t.Context(), "bridge", path); err != nil || len(versions) != len(cni.Versions()) {
			t.Errorf("%v: %v, %v", path, versions, err)
		}
	}
	if versions, err := i.Versions(t.Context(), "bridge", []string{folder, host.Bin(t)}); err != nil || fmt.Sprint(versions) != "[0.4.0]" {
		t.Errorf("foreign: %v, %v", versions, err)
	}
	if _, err := i.Versions(t.Context(), "nobody's", []string{folder}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// fullChain is a pod's network.
const fullChain = `{"cniVersion":"1.1.0","name":"pods","plugins":[
	{"type":"bridge","bridge":"pods0","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.78.0.0/16"}],[{"subnet":"fd00:78::/64"}]],
		"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}},
	{"type":"portmap","capabilities":{"portMappings":true}},{"type":"firewall"},
	{"type":"tuning","sysctl":{"net.core.somaxconn":"512"}},
	{"type":"bandwidth","ingressRate":100000000,"ingressBurst":1000000,"egressRate":100000000,"egressBurst":1000000}]}`

// TestFlushedRuleset: what is remembered of the packet filter does not outlast what somebody else does to it.
func TestFlushedRuleset(t *testing.T) {
	i := New(Options{})
	defer i.Close()
	add := request(t, cni.VerbAdd, ptp)
	result, err := i.Invoke(t.Context(), "ptp", add)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := result.Encode(cni.V110)
	if err != nil {
		t.Fatal(err)
	}
	check := *add
	check.Verb = cni.VerbCheck
	check.Config = []byte(strings.Replace(ptp, "{", `{"prevResult":`+string(encoded)+`,`, 1))
	for range 3 { // the last of which are answered from memory
		if _, err := i.Invoke(t.Context(), "ptp", &check); err != nil {
			t.Fatal(err)
		}
	}
	host.Run(t, "nft", "flush", "ruleset")
	if _, err := i.Invoke(t.Context(), "ptp", &check); !errors.Is(err, state.CodeDrift) {
		t.Errorf("CHECK after the ruleset was flushed: %v", err)
	}
	another := request(t, cni.VerbAdd, ptp)
	another.ContainerID = "another"
	if _, err := i.Invoke(t.Context(), "ptp", another); err != nil {
		t.Fatal(err)
	}
	if rules := host.Run(t, "nft", "list", "table", "inet", "plumb"); strings.Count(rules, "masquerade") != 2 || !strings.Contains(rules, "plumb:net/another/eth0") {
		t.Errorf("ADD after the ruleset was flushed makes\n%s", rules)
	}
}

// TestGCTogether: what attachments have left is collected at once, as it waits for
// the kernel most of the time.
func TestGCTogether(t *testing.T) {
	before := host.Hold(t)
	var collected plugin.Entry
	i := New(Options{Log: func(e plugin.Entry) {
		if e.Verb == cni.VerbGC {
			collected = e
		}
	}})
	const n = 12
	for c := range n {
		req := request(t, cni.VerbAdd, ptp)
		req.ContainerID = fmt.Sprint("left-", c)
		if _, err := i.Invoke(t.Context(), "ptp", req); err != nil {
			t.Fatal(err)
		}
	}
	gc := request(t, cni.VerbGC, strings.Replace(ptp, "{", `{"cni.dev/valid-attachments":[],`, 1))
	gc.ContainerID, gc.NetNS, gc.IfName = "", "", ""
	if _, err := i.Invoke(t.Context(), "ptp", gc); err != nil {
		t.Fatal(err)
	}
	var links int
	var took float64
	for _, s := range collected.Steps {
		if s.Op == "remove" && strings.HasPrefix(s.Object, "host link ") {
			links, took = links+1, took+s.Micros/1000
		}
	}
	if links < n || took < 2*collected.Millis {
		t.Errorf("%d links were removed, which took %.0f ms of %.0f", links, took, collected.Millis)
	}
	for name := range host.Links(t, "") {
		if strings.HasPrefix(name, "veth") {
			t.Errorf("%s is left", name)
		}
	}
	afterwards(t, i, before)
}

// TestManyAtOnce adds, checks and deletes whole pods at once, and finds nothing left.
func TestManyAtOnce(t *testing.T) {
	host.Need(t, "nft-inet-nat")
	const n = 40
	list, err := cni.ParseList([]byte(fullChain))
	if err != nil {
		t.Fatal(err)
	}
	before := host.Hold(t)
	i := New(Options{})
	r := &runtime.Runtime{Path: []string{host.Bin(t)}, Invoker: i}
	t.Cleanup(func() { host.Run(t, "ip", "link", "del", "pods0") })
	jobs := make([]runtime.Job, n)
	for k := range jobs {
		jobs[k] = runtime.Job{List: list, Attachment: runtime.Attachment{
			ContainerID: fmt.Sprint("pod", k), NetNS: host.NetNS(t), IfName: "eth0",
			CapabilityArgs: map[string]any{"portMappings": []any{map[string]any{"hostPort": 8000 + k, "containerPort": 80, "protocol": "tcp"}}},
		}}
	}
	// For what stays: the bridge, tables.
	if _, err := r.Add(t.Context(), list, jobs[0].Attachment); err != nil {
		t.Fatal(err)
	}
	if err := r.Del(t.Context(), list, jobs[0].Attachment); err != nil {
		t.Fatal(err)
	}
	untouched := host.Snapshot(t)

	told := 0
	addresses := make(map[string]bool)
	for _, o := range r.AddAll(t.Context(), jobs, runtime.Bulk{Concurrency: n, Progress: func(done int, _ runtime.Outcome) { told = done }}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		for _, ip := range o.Result.IPs {
			addresses[ip.Address.String()] = true
		}
	}
	if told != n || len(addresses) != 2*n {
		t.Errorf("progress told of %d, and there are %d addresses", told, len(addresses))
	}
	var group sync.WaitGroup
	for _, j := range jobs {
		group.Go(func() {
			if err := r.Check(t.Context(), list, j.Attachment); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	host.Ping(t, jobs[n-1].Attachment.NetNS, "10.78.0.1")
	host.Ping(t, jobs[n-1].Attachment.NetNS, "fd00:78::1")
	for _, o := range r.DelAll(t.Context(), jobs, runtime.Bulk{}) {
		if o.Err != nil {
			t.Error(o.Err)
		}
	}
	host.Unchanged(t, untouched, host.SharedFiles)
	afterwards(t, i, before)
}

// exclusive is a writer that counts those who write while another does.
type exclusive struct {
	busy    atomic.Bool
	writes  atomic.Int32
	clashes atomic.Int32
}

func (e *exclusive) Write(p []byte) (int, error) {
	if e.busy.Swap(true) {
		e.clashes.Add(1)
	}
	e.writes.Add(1)
	time.Sleep(20 * time.Millisecond)
	e.busy.Store(false)
	return len(p), nil
}

// TestStderrShared has plugins of ours, of others and IPAM plugins of others say
// something at the same time.
func TestStderrShared(t *testing.T) {
	out := new(exclusive)
	i := New(Options{Exec: &runtime.Exec{Stderr: out}})
	defer i.Close()
	folder := t.TempDir()
	write(t, filepath.Join(folder, "foreign"), "echo said >&2; exit 1")
	with(i, "panics", func(context.Context, *plugin.Request, state.Reader) error { panic("thrown") })
	var group sync.WaitGroup
	for _, config := range []string{`"type":"foreign"`, `"type":"panics"`, `"type":"ptp","ipam":{"type":"foreign"}`} {
		for range 3 {
			req := request(t, cni.VerbAdd, `{"cniVersion":"1.1.0","name":"net",`+config+`}`, folder)
			group.Go(func() {
				if _, err := i.Invoke(t.Context(), strings.Split(config, `"`)[3], req); err == nil {
					t.Errorf("%s succeeded", config)
				}
			})
		}
	}
	group.Wait()
	if out.writes.Load() < 7 || out.clashes.Load() != 0 {
		t.Errorf("%d writes, %d of them while another was being written", out.writes.Load(), out.clashes.Load())
	}
}

// TestParkedContext: what waits for another's link waits no longer than the
// context does.
func TestParkedContext(t *testing.T) {
	host.Need(t, "tbf", "ifb", "mirred")
	before := host.Hold(t)
	i := New(Options{})
	list, err := cni.ParseList([]byte(`{"cniVersion":"1.1.0","name":"net","plugins":[
		{"type":"ptp","ipam":{"type":"host-local","subnet":"10.77.0.0/24"}},
		{"type":"bandwidth","egressRate":100000000,"egressBurst":1000000}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r := &runtime.Runtime{Path: []string{t.TempDir()}, Invoker: i}
	a := runtime.Attachment{ContainerID: "one", NetNS: host.NetNS(t), IfName: "eth0"}
	untouched := host.Links(t, "")
	if _, err := r.Add(t.Context(), list, a); err != nil {
		t.Fatal(err)
	}
	all := len(host.Links(t, ""))
	if all != len(untouched)+2 {
		t.Fatalf("ADD made %d links, want a veth and an ifb", all-len(untouched))
	}
	ctx, cancel := context.WithCancel(t.Context())
	chained, wait := i.Chain(ctx)
	del := &cni.Request{Verb: cni.VerbDel, ContainerID: a.ContainerID, NetNS: a.NetNS, IfName: a.IfName, Path: r.Path,
		Config: []byte(`{"cniVersion":"1.1.0","name":"net","type":"bandwidth","egressRate":100000000,"egressBurst":1000000}`)}
	if _, err := i.Invoke(chained, "bandwidth", del); err != nil {
		t.Error(err)
	}
	if n := len(host.Links(t, "")); n != all {
		t.Errorf("%d links are gone before another's went", all-n)
	}
	cancel()
	for deadline := time.Now().Add(10 * time.Second); len(host.Links(t, "")) == all && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := len(host.Links(t, "")); n != all-1 {
		t.Errorf("the context has ended, and %d links are gone, want the ifb", all-n)
	}
	if err := wait(); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := r.Del(t.Context(), list, a); err != nil {
		t.Error(err)
	}
	afterwards(t, i, before)
}
