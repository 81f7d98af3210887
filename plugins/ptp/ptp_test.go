package ptp_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

func TestMain(m *testing.M) { host.Main(m) }

// TestDefaultRoute attaches a container to several networks, with the default
// route of each.
func TestDefaultRoute(t *testing.T) {
	keys.Covers(t, "ptp", "defaultRoute")
	host.Internet(t)
	network := func(number int, value string) string {
		return fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net%d","type":"ptp","ipMasq":true,"defaultRoute":%s,"ipam":{
			"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"10.%d.0.0/24"}],[{"subnet":"fd00:%d::/64"}]],
			"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}`, number, value, t.TempDir(), number, number)
	}
	first := attach.New(t, network(91, `"auto"`), "many")
	all := []*attach.Attachment{
		first,
		first.Again(t, network(92, `"auto"`), "eth1"),
		first.Again(t, network(93, `"never"`), "eth2"),
		first.Again(t, network(94, `5000`), "eth3"),
	}
	for _, a := range all {
		a.Add(t)
	}
	for family, want := range map[int][]string{
		4: {"eth0 0", "eth1 1", "eth3 5000"},
		6: {"eth0 1024", "eth1 1025", "eth3 5000"},
	} {
		var got []string
		for _, r := range host.Routes(t, first.NetNS, family) {
			if r.Dst == "default" {
				got = append(got, fmt.Sprintf("%s %d", r.Dev, r.Priority))
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("IPv%d: %v, want %v", family, got, want)
		}
	}
	// Whichever has gone, the next takes over.
	for _, a := range all {
		a.Check(t)
		host.Ping(t, first.NetNS, host.Internet4)
		host.Ping(t, first.NetNS, host.Internet6)
		a.Del(t)
	}
}
