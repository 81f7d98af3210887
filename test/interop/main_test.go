// Package interop tests plumb beside the reference plugins: that either serves
// the callers of the other, takes over what the other has made, and makes the
// same of the kernel but for what differences.md lists.
package interop

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

// fresh brings the host back to what it was before any plugin ran. The uplink
// of host.Internet stays.
func fresh(t *testing.T) {
	t.Helper()
	for name := range host.Links(t, "") {
		if name != "lo" && name != host.Uplink {
			host.Try("ip", "link", "del", name) //nolint:errcheck // it may have gone with its peer
		}
	}
	host.Run(t, "nft", "flush", "ruleset")
	for key, value := range map[string]string{
		"ipv4/ip_forward": "0", "ipv6/conf/all/forwarding": "0",
		"ipv4/conf/all/route_localnet": "0", "ipv4/conf/all/accept_redirects": "1",
	} {
		sysctl(t, "", key, value)
	}
	// What a bridge forwards is no matter of iptables', whether the machine has loaded br_netfilter or not.
	for _, key := range []string{"bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"} {
		if _, err := os.Stat("/proc/sys/net/" + key); err == nil {
			sysctl(t, "", key, "0")
		}
	}
	quiet(t, "")
	for _, dir := range []string{"/var/lib/cni", "/run/plumb"} {
		entries, err := filepath.Glob(dir + "/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.RemoveAll(e); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// quiet makes the interfaces that a namespace gets from now on ready at once:
// duplicate address detection has no probes to wait for, though its switches
// stay to be seen.
func quiet(t *testing.T, ns string) {
	t.Helper()
	for _, key := range []string{"dad_transmits", "router_solicitations", "router_solicitation_delay"} {
		sysctl(t, ns, "ipv6/conf/default/"+key, "0")
	}
}

func sysctl(t *testing.T, ns, key, value string) {
	t.Helper()
	err := host.In(t, ns, func() error { return os.WriteFile("/proc/sys/net/"+key, []byte(value), 0) })
	if err != nil {
		t.Fatal(err)
	}
}

// container makes a namespace for a container.
func container(t *testing.T) string {
	t.Helper()
	ns := host.NetNS(t)
	quiet(t, ns)
	return ns
}
