package bridge_test

import (
	"fmt"
	"testing"

	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

const bridgeName = "br99"

// config is a network of the plugin: more are further keys, each followed by a
// comma.
func config(name, bridge, more, ipam string) string {
	return fmt.Sprintf(`{"cniVersion":"1.1.0","name":%q,"type":"bridge","bridge":%q,%s"ipam":{%s}}`, name, bridge, more, ipam)
}

// hostLocal is IPAM by host-local for a subnet of each family and default
// routes.
func hostLocal(t testing.TB, number int) string {
	return fmt.Sprintf(`"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"10.%d.0.0/24"}],[{"subnet":"fd00:%d::/64"}]],
		"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]`, dataDir(t), number, number)
}

// dataDir is a folder for host-local's records.
func dataDir(t testing.TB) string { return t.TempDir() }

// removeBridge deletes a bridge at the test's end.
func removeBridge(t testing.TB, names ...string) {
	t.Helper()
	t.Cleanup(func() {
		for _, name := range names {
			host.Try("ip", "link", "del", name) //nolint:errcheck // there may be none
		}
	})
}

// add adds an attachment of a new container.
func add(t testing.TB, config, id string) *attach.Attachment {
	t.Helper()
	a := attach.New(t, config, id)
	a.Add(t)
	return a
}
