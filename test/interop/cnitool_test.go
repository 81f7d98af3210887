package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// Our cnitool runs the reference plugins, and then ours on what it has added
// with those.
func TestCnitool(t *testing.T) {
	host.Internet(t)
	fresh(t)
	before := host.Snapshot(t)
	n := network{plugin: "ptp", family: dual, version: cni.V110}
	confs := t.TempDir()
	if err := os.WriteFile(filepath.Join(confs, "10-net.conflist"), n.list(), 0o644); err != nil {
		t.Fatal(err)
	}
	ns := container(t)
	cnitool := func(plugins implementation, args ...string) string {
		t.Helper()
		cmd := exec.Command(filepath.Join(ours.bin(t), "cnitool"), args...)
		cmd.Env = append(os.Environ(), "NETCONFPATH="+confs, "CNI_PATH="+plugins.bin(t))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s with the plugins of %s: %v\n%s", strings.Join(cmd.Args, " "), plugins.name, err, out)
		}
		return string(out)
	}
	for _, deleter := range []implementation{reference, ours} {
		cnitool(reference, "status", networkName)
		if got := cnitool(reference, "add", networkName, ns); len(addressesOf(t, []byte(got))) != 2 {
			t.Errorf("result %s", got)
		}
		n.reach(t, ns)
		cnitool(reference, "check", networkName, ns)
		cnitool(ours, "check", networkName, ns)
		cnitool(deleter, "del", networkName, ns)
		nothingLeft(t, before)
	}
	cnitool(ours, "gc", networkName)
	fresh(t)
}
