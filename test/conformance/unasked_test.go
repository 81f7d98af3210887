package conformance

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
	"golang.org/x/sys/unix"
)

// TestDelUnheld deletes an attachment without a record whose IPAM plugin can't be asked what it holds: all goes but the address, which
// the next DEL releases.
func TestDelUnheld(t *testing.T) {
	before := host.Snapshot(t)
	good := config("ptp", "net", `"ipam":`+hostLocal("46"))
	a := attach(t, good, "unheld")
	a.add(t)
	forget(t, a)
	end := a.hostEnd(t)
	a.config = derive(t, good, "ipam", map[string]string{"type": "host-local", "dataDir": "relative"})
	if _, failure := invoke(t, cni.VerbDel, a.plugin(), a.withPrev(t), a); failure == nil || failure.Code != cni.CodeInvalidConfig {
		t.Errorf("DEL: %v", failure)
	}
	if host.Links(t, "")[end].Name != "" {
		t.Errorf("DEL has left %s", end)
	}
	a.config = good
	a.del(t)
	host.Unchanged(t, before, stays("")...)
}

// TestGarbageUnread: of an attachment whose record can't be read nobody knows what it has, and its address is not given to another.
func TestGarbageUnread(t *testing.T) {
	w := newWorld()
	h, p := w.host(t), w.maker()
	for _, id := range []string{"one", "unread"} {
		a := &attachment{id: id, netns: host.NetNS(t), ifName: "eth0"}
		if _, err := p.Serve(t.Context(), h, a.call(t, cni.VerbAdd, made(""))); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(h.Records.Dir, "maker@net@unread@eth0")
	if err := os.Rename(file, filepath.Join(t.TempDir(), "record")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	call := &cni.Request{Verb: cni.VerbGC, Config: []byte(made(`,"cni.dev/valid-attachments":[]`))}
	if _, err := p.Serve(t.Context(), h, call); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(w.String(), "address of unread") {
		t.Errorf("GC: %v, left %q", err, w)
	}
}

// TestDelForWant deletes an attachment while the process has no descriptor left to open its sandbox with: DEL fails, and the next
// one finds what there is to give back.
func TestDelForWant(t *testing.T) {
	a := attach(t, config("tuning", "net", `"sysctl":{"net.core.somaxconn":"77"}`), "want")
	a.before = []string{config("ptp", "net", `"ipam":`+hostLocal("4"))}
	was := host.RunIn(t, a.netns, "cat", "/proc/sys/net/core/somaxconn")
	a.add(t)
	h, wanting := newHost(), 2
	h.Kernel = func(sandbox string) (*state.Kernel, error) {
		if wanting--; wanting >= 0 {
			return nil, fmt.Errorf("open namespace %s: %w", sandbox, unix.EMFILE)
		}
		return state.OpenKernel(sandbox)
	}
	call := a.call(t, cni.VerbDel, a.withPrev(t))
	if _, err := serve(t, h, a.plugin(), call); err == nil {
		t.Error("DEL succeeds")
	}
	wanting = 0
	if _, err := serve(t, h, a.plugin(), call); err != nil {
		t.Errorf("the next DEL: %v", err)
	}
	if is := host.RunIn(t, a.netns, "cat", "/proc/sys/net/core/somaxconn"); is != was {
		t.Errorf("somaxconn is %q, want %q", is, was)
	}
}

// TestForeignInterfaces: what a foreign IPAM plugin says of interfaces, of which it has none, is not in the result.
func TestForeignInterfaces(t *testing.T) {
	bin := t.TempDir()
	const script = `#!/bin/sh
cat >/dev/null
[ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0"}],"ips":[{"address":"10.79.0.2/24","gateway":"10.79.0.1","interface":0}]}'
`
	if err := os.WriteFile(filepath.Join(bin, "foreign"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	a := &attachment{config: config("ptp", "net", `"ipam":{"type":"foreign"}`), id: "foreign", netns: host.NetNS(t), ifName: "eth0"}
	env := func(verb cni.Verb) []string { return host.Env(string(verb), a.id, a.netns, a.ifName, bin, host.Bin(t)) }
	out, failure := execute(t, "ptp", env(cni.VerbAdd), a.config)
	if failure != nil {
		t.Fatal(failure)
	}
	result, err := cni.DecodeResult([]byte(out), cni.Latest)
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(result.Interfaces))
	for i, described := range result.Interfaces {
		names[i] = described.Name
	}
	a.prev = json.RawMessage(out)
	if want := []string{a.hostEnd(t), "eth0"}; !slices.Equal(names, want) || len(result.IPs) != 1 || *result.IPs[0].Interface != 1 ||
		result.IPs[0].Address != netip.MustParsePrefix("10.79.0.2/24") {
		t.Errorf("interfaces %q, want %q: %s", names, want, out)
	}
	if _, failure := execute(t, "ptp", env(cni.VerbDel), a.withPrev(t)); failure != nil {
		t.Error(failure)
	}
}
