// Package attach drives the attachments of containers as a runtime does, for
// tests of single plugins.
package attach

import (
	"encoding/json"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// An Attachment is an interface of a container on a network of one plugin, and
// what a runtime remembers of it.
type Attachment struct {
	Config string
	ID     string
	NetNS  string // path; empty for none
	IfName string
	Bin    string // folder of the plugins
	Args   string // CNI_ARGS

	Prev json.RawMessage // what ADD printed; nil to forget it

	before *Attachment // of the plugin before this one in the list
}

// New returns an attachment of ours that is not added yet, of a container with
// a namespace of its own. At the test's end DEL is called.
func New(t testing.TB, config, id string) *Attachment {
	t.Helper()
	a := &Attachment{Config: config, ID: id, NetNS: host.NetNS(t), IfName: "eth0", Bin: host.Bin(t)}
	t.Cleanup(func() { a.call(t, cni.VerbDel, a.Config) })
	return a
}

// Again returns another attachment of the same container.
func (a *Attachment) Again(t testing.TB, config, ifName string) *Attachment {
	t.Helper()
	b := &Attachment{Config: config, ID: a.ID, NetNS: a.NetNS, IfName: ifName, Bin: a.Bin}
	t.Cleanup(func() { b.call(t, cni.VerbDel, b.Config) })
	return b
}

// Then returns the attachment of the next plugin of a list.
func (a *Attachment) Then(t testing.TB, config string) *Attachment {
	t.Helper()
	b := a.Again(t, config, a.IfName)
	b.before = a
	return b
}

// call executes the plugin and returns what it printed, or the error that it
// reported. It fails the test when the answer is neither.
func (a *Attachment) call(t testing.TB, verb cni.Verb, config string) (string, *cni.Error) {
	t.Helper()
	var c struct{ Type string }
	_ = json.Unmarshal([]byte(config), &c) // a bad one is for the plugin to refuse
	env := host.Env(string(verb), a.ID, a.NetNS, a.IfName, a.Bin)
	if a.Args != "" {
		env = append(env, "CNI_ARGS="+a.Args)
	}
	stdout, stderr, exit := host.Plugin(t, a.Bin, c.Type, env, config)
	if stderr != "" {
		t.Logf("%s wrote to standard error: %s", c.Type, stderr)
	}
	if exit == 0 {
		return stdout, nil
	}
	failure, err := cni.DecodeError([]byte(stdout))
	if err != nil {
		t.Fatalf("%s failed with exit status %d and an answer that is no error (%v):\n%s%s", c.Type, exit, err, stdout, stderr)
	}
	return "", failure
}

// Derive returns a configuration with keys replaced or added.
func Derive(t testing.TB, config string, keys map[string]any) string {
	t.Helper()
	data, err := cni.Derive([]byte(config), keys)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// withPrev is the configuration with prevResult as CHECK and DEL get it.
func (a *Attachment) withPrev(t testing.TB) string {
	t.Helper()
	if a.Prev == nil {
		return a.Config
	}
	return Derive(t, a.Config, map[string]any{"prevResult": a.Prev})
}

// TryAdd calls ADD.
func (a *Attachment) TryAdd(t testing.TB) (*cni.Result, *cni.Error) {
	t.Helper()
	config := a.Config
	if a.before != nil {
		config = Derive(t, config, map[string]any{"prevResult": a.before.Prev})
	}
	out, failure := a.call(t, cni.VerbAdd, config)
	if failure != nil {
		return nil, failure
	}
	result, err := cni.DecodeResult([]byte(out), cni.Latest)
	if err != nil {
		t.Fatalf("result of ADD: %v\n%s", err, out)
	}
	a.Prev = json.RawMessage(out)
	return result, nil
}

// Add calls ADD, which has to succeed.
func (a *Attachment) Add(t testing.TB) *cni.Result {
	t.Helper()
	result, failure := a.TryAdd(t)
	if failure != nil {
		t.Fatalf("ADD %s %s: %v", a.ID, a.IfName, failure)
	}
	return result
}

// TryCheck calls CHECK.
func (a *Attachment) TryCheck(t testing.TB) *cni.Error {
	t.Helper()
	_, failure := a.call(t, cni.VerbCheck, a.withPrev(t))
	return failure
}

// Check calls CHECK, which has to succeed.
func (a *Attachment) Check(t testing.TB) {
	t.Helper()
	if failure := a.TryCheck(t); failure != nil {
		t.Errorf("CHECK %s %s: %v", a.ID, a.IfName, failure)
	}
}

// TryDel calls DEL.
func (a *Attachment) TryDel(t testing.TB) *cni.Error {
	t.Helper()
	_, failure := a.call(t, cni.VerbDel, a.withPrev(t))
	return failure
}

// Del calls DEL, which has to succeed.
func (a *Attachment) Del(t testing.TB) {
	t.Helper()
	if failure := a.TryDel(t); failure != nil {
		t.Errorf("DEL %s %s: %v", a.ID, a.IfName, failure)
	}
}

// GC calls GC for the attachment's network, where those given are valid.
func (a *Attachment) GC(t testing.TB, valid ...*Attachment) {
	t.Helper()
	list := []cni.Attachment{}
	for _, v := range valid {
		list = append(list, cni.Attachment{ContainerID: v.ID, IfName: v.IfName})
	}
	if failure := a.network(t, cni.VerbGC, map[string]any{"cni.dev/valid-attachments": list}); failure != nil {
		t.Errorf("GC: %v", failure)
	}
}

// TryStatus calls STATUS for the attachment's network.
func (a *Attachment) TryStatus(t testing.TB) *cni.Error {
	t.Helper()
	return a.network(t, cni.VerbStatus, nil)
}

// network calls a verb that is about a network.
func (a *Attachment) network(t testing.TB, verb cni.Verb, keys map[string]any) *cni.Error {
	t.Helper()
	_, failure := (&Attachment{Bin: a.Bin}).call(t, verb, Derive(t, a.Config, keys))
	return failure
}

// HostEnd is the name of the host's end of the attachment's veth.
func (a *Attachment) HostEnd(t testing.TB) string {
	t.Helper()
	result, err := cni.DecodeResult(a.Prev, cni.Latest)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range result.Interfaces {
		if i.Sandbox == "" && len(i.Name) > 4 && i.Name[:4] == "veth" {
			return i.Name
		}
	}
	t.Fatalf("the result names no host end: %s", a.Prev)
	return ""
}

// Drifts needs CHECK to fail for a difference, and returns what it says.
func (a *Attachment) Drifts(t testing.TB, code cni.Code) string {
	t.Helper()
	failure := a.TryCheck(t)
	if failure == nil || failure.Code != code {
		t.Errorf("CHECK: %v, want code %d", failure, code)
		return ""
	}
	return failure.Error()
}
