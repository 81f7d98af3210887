package sbr_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// TestChain follows the plugins that make interfaces, each of which gives routes of
// another kind. Their CHECK has to find the routes where they are by then.
func TestChain(t *testing.T) {
	for _, first := range []string{`"type":"ptp"`, `"type":"bridge","bridge":"br7","isDefaultGateway":true`} {
		t.Run(strings.Split(first, `"`)[3], func(t *testing.T) {
			bin, ns := host.Bin(t), host.NetNS(t)
			whole := host.Snapshot(t)
			prev := ""
			do := func(verb, config string) string {
				t.Helper()
				name := strings.Split(config, `"`)[3]
				config = `{"cniVersion":"1.1.0","name":"chain",` + config + prev + `}`
				stdout, _, exit := host.Plugin(t, bin, name, host.Env(verb, "one", ns, "eth1", bin), config)
				if exit != 0 {
					t.Fatalf("%s %s: %s", verb, name, stdout)
				}
				return stdout
			}
			first += `,"ipam":{"type":"host-local","dataDir":"` + t.TempDir() + `","ranges":[[{"subnet":"10.7.0.0/24"}],[{"subnet":"fd07::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"},{"dst":"198.51.100.0/24"}]}`
			prev = `,"prevResult":` + do("ADD", first)
			prev = `,"prevResult":` + do("ADD", `"type":"sbr"`)
			index := host.Links(t, ns)["eth1"].Index
			for _, family := range []int{4, 6} {
				for _, r := range host.Routes(t, ns, family) {
					if !strings.HasPrefix(r.Dst, "fe80") {
						t.Errorf("left in the main table: %+v", r)
					}
				}
				defaults := 0
				for _, r := range host.Routes(t, ns, family, "table", fmt.Sprint(index*100+(family-4)/2)) {
					if r.Dst == "default" {
						defaults++
					}
				}
				if defaults != 1 {
					t.Errorf("%d default routes of IPv%d", defaults, family)
				}
			}
			host.Ping(t, "", "10.7.0.2")
			host.Ping(t, "", "fd07::2")
			for _, verb := range []string{"CHECK", "DEL", "DEL"} {
				do(verb, `"type":"sbr"`)
				do(verb, first)
			}
			host.Unchanged(t, whole, `^dir /run/plumb`, `/var/lib/cni`, host.SharedBridge("br7"), `forward|accept_redirects`)
		})
	}
}
