package daemons

import (
	"fmt"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// A network has one attachment.
type network struct {
	name   string
	plugin string   // type and keys
	subnet int      // 10.N.0.0/24 and fd00:N::/64; 0 for addresses of the uplink's network
	reach  []string // addresses that answer its container
	bridge string   // what is left for the test to remove
}

var networks = []network{
	{name: "bridged", plugin: `"type":"bridge","bridge":"br0","isGateway":true,"ipMasq":true`, subnet: 81,
		reach: []string{"10.81.0.1", "fd00:81::1", host.Internet4, host.Internet6}, bridge: "br0"},
	{name: "layer2", plugin: `"type":"bridge","bridge":"br1","hairpinMode":true`, subnet: 82, bridge: "br1"},
	{name: "pointed", plugin: `"type":"ptp","ipMasq":true`, subnet: 83,
		reach: []string{"10.83.0.1", "fd00:83::1", host.Internet4, host.Internet6}},
}

func (n network) config(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf(`{"cniVersion":"1.1.0","name":%q,%s,"ipam":{"type":"host-local","dataDir":%q,
		"ranges":[[{"subnet":"10.%[4]d.0.0/24"}],[{"subnet":"fd00:%[4]d::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}`,
		n.name, n.plugin, t.TempDir(), n.subnet)
}
