package vrf_test

import (
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// TestChain follows the plugins that make interfaces, each of which gives routes of
// another kind. Their CHECK has to find the routes where they are by then.
func TestChain(t *testing.T) {
	host.Need(t, "vrf")
	for _, first := range []string{`"type":"ptp"`, `"type":"bridge","bridge":"br7","isDefaultGateway":true`} {
		t.Run(strings.Split(first, `"`)[3], func(t *testing.T) {
			bin, ns := host.Bin(t), host.NetNS(t)
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
			prev = `,"prevResult":` + do("ADD", `"type":"vrf","vrfname":"red"`)
			for _, address := range []string{"10.7.0.1", "fd07::1"} {
				host.RunIn(t, ns, "ping", "-n", "-c", "1", "-W", "5", "-I", "red", address)
			}
			host.Ping(t, "", "10.7.0.2")
			for _, verb := range []string{"CHECK", "DEL", "DEL"} {
				do(verb, `"type":"vrf","vrfname":"red"`)
				do(verb, first)
			}
			if n := len(host.Links(t, ns)); n != 1 {
				t.Errorf("%d links are left in the container", n)
			}
		})
	}
}
