// Package conformance holds what must be true of every plugin: of each verb in each mode, on a real kernel, after
// whatever may happen to an attachment between ADD and DEL.
//
// The plugins are executed as runtimes do, and the kernel is observed through package host. Where a test needs to
// stand between two steps of an ADD it serves the call in its own process instead (serve), or in one that it starts
// to end it (TestKill).
package conformance

import (
	"context"
	"os"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugins/all"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) {
	if name, ok := os.LookupEnv(victimEnv); ok {
		victim(name)
	}
	host.Main(m)
}

// serve serves a call in this process.
func serve(t testing.TB, h *plugin.Host, name string, call *cni.Request) (*cni.Result, error) {
	t.Helper()
	p, ok := all.Find(name)
	if !ok {
		t.Fatalf("there is no plugin %s", name)
	}
	return p.Serve(context.Background(), h, call)
}

// newHost is the host of the plugin programs, without their search for foreign IPAM plugins.
func newHost() *plugin.Host {
	return &plugin.Host{Own: ownIPAM, Records: state.Records{Dir: state.RecordDir}}
}

func ownIPAM(name string, _ []string) plugin.IPAM {
	for _, p := range all.IPAM() {
		if p.Name() == name {
			return p
		}
	}
	return nil
}
