package runtime

import (
	"testing"

	"github.com/plumb-cni/plumb/cni"
)

// TestPluginErrorOnce: the call is named once, though the plugin's answer names it as well.
func TestPluginErrorOnce(t *testing.T) {
	answer := cni.Errorf(cni.CodeInvalidConfig, "mtu 60 is out of range").
		About(cni.Subject{Plugin: "ptp", Verb: cni.VerbAdd, Network: "net", ContainerID: "c1", IfName: "eth0"})
	e := &PluginError{
		Plugin: "ptp", Verb: cni.VerbAdd, Network: "net", ContainerID: "c1", IfName: "eth0",
		Exit: "exit status 1", Err: answer,
	}
	const want = `plugin "ptp" ADD, network "net", container "c1", interface "eth0": exit status 1: mtu 60 is out of range (code 7)`
	if e.Error() != want {
		t.Errorf("%s\nwant %s", e, want)
	}
	e.Err = answer.WithDetails("68 is the least (" + answer.Details + ")")
	if got := e.Error(); got != `plugin "ptp" ADD, network "net", container "c1", interface "eth0": exit status 1: mtu 60 is out of range; 68 is the least (code 7)` {
		t.Error(got)
	}
	e.IfName = "eth1" // another call's is told
	if got := e.Error(); got != `plugin "ptp" ADD, network "net", container "c1", interface "eth1": exit status 1: mtu 60 is out of range; 68 is the least (`+answer.Details+`) (code 7)` {
		t.Error(got)
	}
}
