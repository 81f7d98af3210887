package main_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/state/dnsname"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
)

// TestRemoveNames has the resolver forget the names of containers that the
// reference has deleted, and end with the last.
func TestRemoveNames(t *testing.T) {
	t.Cleanup(func() { host.Try("ip", "link", "del", "br99") }) //nolint:errcheck // there may be none
	config, dataDir := bridged(t)
	named := make(map[string]*attach.Attachment)
	for _, id := range []string{"stays", "goes"} {
		a := attach.New(t, config, id)
		a.Add(t)
		named[id] = a.Then(t, `{"cniVersion":"1.1.0","name":"net","type":"dnsname","domainName":"dns.test"}`)
		named[id].Add(t)
	}
	host.RemoveNetNS(t, named["goes"].NetNS)
	ask := func(name string) string {
		out, _ := host.Try("dig", "+short", "+time=2", "+tries=1", "@10.99.0.1", name+".dns.test")
		return strings.TrimSpace(out)
	}
	within(t, "the link to be gone", func() bool { return strings.Contains(remove(t, "--datadir", dataDir), "names of net/goes/eth0") })
	if stays, goes := ask("stays"), ask("goes"); !strings.HasPrefix(stays, "10.99.0.") || goes != "" {
		t.Errorf("stays is %q, goes %q", stays, goes)
	}
	host.RemoveNetNS(t, named["stays"].NetNS)
	within(t, "the names to be gone", func() bool {
		remove(t, "--datadir", dataDir)
		_, err := os.Stat(dnsname.Root)
		return os.IsNotExist(err)
	})
	if out := host.Run(t, "ss", "-Hlntu", "sport = 53"); out != "" {
		t.Errorf("somebody listens:\n%s", out)
	}
}

// within waits for what the kernel does in its own time.
func within(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
