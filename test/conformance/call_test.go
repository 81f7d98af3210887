package conformance

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// caller calls a plugin and returns its answer: by executing it, but while TestInProcess runs.
var caller = host.Plugin

// An attachment is an interface of a container on a network, and what a runtime remembers of it.
type attachment struct {
	config string   // of the plugin that the test is about
	before []string // of those before it in the list
	id     string
	netns  string // path; "" for none
	ifName string
	args   string // CNI_ARGS

	prev json.RawMessage // what ADD printed; null to forget it
}

// attach returns an attachment that is not added yet, of a container with a namespace of its own. Whatever a test does, DEL
// is called at its end.
func attach(t testing.TB, config, id string) *attachment {
	t.Helper()
	a := &attachment{config: config, id: id, netns: host.NetNS(t), ifName: "eth0"}
	if a.plugin() == "loopback" {
		a.ifName = "lo"
	}
	t.Cleanup(func() {
		invoke(t, cni.VerbDel, a.plugin(), a.config, a)
		a.delBefore(t)
	})
	return a
}

func (a *attachment) plugin() string { return typeOf(a.config) }

func typeOf(config string) string {
	var c struct{ Type string }
	_ = json.Unmarshal([]byte(config), &c) // a bad one is for the plugin to refuse
	return c.Type
}

// invoke executes a plugin and returns what it printed, or the error that it reported. It fails the test when
// the answer is neither.
func invoke(t testing.TB, verb cni.Verb, plugin, config string, a *attachment) (string, *cni.Error) {
	t.Helper()
	env := host.Env(string(verb), a.id, a.netns, a.ifName, host.Bin(t))
	if a.args != "" {
		env = append(env, "CNI_ARGS="+a.args)
	}
	return execute(t, plugin, env, config)
}

// execute is invoke with exactly the given environment.
func execute(t testing.TB, plugin string, env []string, config string) (string, *cni.Error) {
	t.Helper()
	stdout, stderr, exit := caller(t, host.Bin(t), plugin, env, config)
	if stderr != "" {
		t.Logf("%s wrote to standard error: %s", plugin, stderr)
	}
	if exit == 0 {
		return stdout, nil
	}
	failure, err := cni.DecodeError([]byte(stdout))
	if err != nil || exit != 1 {
		t.Fatalf("%s failed with exit status %d and an answer that is no error (%v):\n%s%s", plugin, exit, err, stdout, stderr)
	}
	return "", failure
}

// derive returns a configuration with keys replaced or added: pairs of key and value, where nil removes the key.
func derive(t testing.TB, config string, pairs ...any) string {
	t.Helper()
	set := make(map[string]any)
	var drop []string
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == nil {
			drop = append(drop, pairs[i].(string))
			continue
		}
		set[pairs[i].(string)] = pairs[i+1]
	}
	data, err := cni.Derive([]byte(config), set, drop...)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// withPrev is the configuration with prevResult as CHECK and DEL get it.
func (a *attachment) withPrev(t testing.TB) string {
	t.Helper()
	return a.after(t, a.config, a.prev)
}

// after is a configuration with a result as prevResult, if there is one.
func (a *attachment) after(t testing.TB, config string, result json.RawMessage) string {
	t.Helper()
	if result == nil {
		return config
	}
	return derive(t, config, "prevResult", result)
}

// ready adds the attachment to the plugins before the one that the test is about, and returns the configuration for that one's ADD.
func (a *attachment) ready(t testing.TB) string {
	t.Helper()
	var result json.RawMessage
	for _, config := range a.before {
		out, failure := invoke(t, cni.VerbAdd, typeOf(config), a.after(t, config, result), a)
		if failure != nil {
			t.Fatalf("ADD %s by %s: %v", a.id, typeOf(config), failure)
		}
		result = json.RawMessage(out)
	}
	return a.after(t, a.config, result)
}

// delBefore deletes the attachment from the plugins before the one that the test is about.
func (a *attachment) delBefore(t testing.TB) {
	t.Helper()
	for _, config := range slices.Backward(a.before) {
		if _, failure := invoke(t, cni.VerbDel, typeOf(config), a.after(t, config, a.prev), a); failure != nil {
			t.Errorf("DEL %s by %s: %v", a.id, typeOf(config), failure)
		}
	}
}

func (a *attachment) tryAdd(t testing.TB) (*cni.Result, *cni.Error) {
	t.Helper()
	out, failure := invoke(t, cni.VerbAdd, a.plugin(), a.ready(t), a)
	if failure != nil {
		return nil, failure
	}
	result, err := cni.DecodeResult([]byte(out), cni.Latest)
	if err != nil {
		t.Fatalf("result of ADD: %v\n%s", err, out)
	}
	a.prev = json.RawMessage(out)
	return result, nil
}

func (a *attachment) add(t testing.TB) *cni.Result {
	t.Helper()
	result, failure := a.tryAdd(t)
	if failure != nil {
		t.Fatalf("ADD %s: %v", a.id, failure)
	}
	return result
}

func (a *attachment) tryCheck(t testing.TB) *cni.Error {
	t.Helper()
	_, failure := invoke(t, cni.VerbCheck, a.plugin(), a.withPrev(t), a)
	return failure
}

func (a *attachment) check(t testing.TB) {
	t.Helper()
	if failure := a.tryCheck(t); failure != nil {
		t.Errorf("CHECK %s: %v", a.id, failure)
	}
	for _, config := range a.before {
		if _, failure := invoke(t, cni.VerbCheck, typeOf(config), a.after(t, config, a.prev), a); failure != nil {
			t.Errorf("CHECK %s by %s: %v", a.id, typeOf(config), failure)
		}
	}
}

func (a *attachment) del(t testing.TB) {
	t.Helper()
	if _, failure := invoke(t, cni.VerbDel, a.plugin(), a.withPrev(t), a); failure != nil {
		t.Errorf("DEL %s: %v", a.id, failure)
	}
	a.delBefore(t)
}

// gc calls GC for the network of a configuration: extra are the pairs of derive.
func gc(t testing.TB, config string, extra ...any) {
	t.Helper()
	a := &attachment{config: config}
	if _, failure := invoke(t, cni.VerbGC, a.plugin(), derive(t, config, extra...), a); failure != nil {
		t.Errorf("GC: %v", failure)
	}
}

// valid is the list of attachments that GC has to spare.
func valid(attachments ...*attachment) []cni.Attachment {
	list := []cni.Attachment{}
	for _, a := range attachments {
		list = append(list, cni.Attachment{ContainerID: a.id, IfName: a.ifName})
	}
	return list
}

// hostEnd is the name of the host's end of the attachment's veth.
func (a *attachment) hostEnd(t testing.TB) string {
	t.Helper()
	result, err := cni.DecodeResult(a.prev, cni.Latest)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range result.Interfaces {
		if i.Sandbox == "" && len(i.Name) > 4 && i.Name[:4] == "veth" {
			return i.Name
		}
	}
	t.Fatalf("the result names no host end: %s", a.prev)
	return ""
}
