package bridge_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
)

// TestNoSettings adds a container where there is nothing below /proc/sys/net: to open anything there takes the longer the more
// namespaces there are.
func TestNoSettings(t *testing.T) {
	host.Need(t, "nft-inet-nat")
	removeBridge(t, bridgeName)
	list := config("net", bridgeName, `"isDefaultGateway":true,"ipMasq":true,`, `"type":"host-local","dataDir":"`+dataDir(t)+`","subnet":"10.99.0.0/24"`)
	first := add(t, list, "first") // with what is set once
	a := attach.New(t, list, "second")
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-ec",
		`mount -t tmpfs none /proc/sys/net; exec "$0"`, filepath.Join(a.Bin, "bridge"))
	cmd.Env, cmd.Stdin = host.Env("ADD", a.ID, a.NetNS, a.IfName, a.Bin), bytes.NewReader([]byte(list))
	answer, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, answer)
	}
	result, err := cni.DecodeResult(answer, cni.V110)
	if err != nil {
		t.Fatalf("%v\n%s", err, answer)
	}
	host.Ping(t, first.NetNS, result.IPs[0].Address.Addr().String())
	host.Ping(t, a.NetNS, "10.99.0.1")
	a.Del(t)
}
