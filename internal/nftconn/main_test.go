package nftconn

import (
	"testing"

	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

// dial connects to the host's packet filter, which is empty at the end too.
func dial(t testing.TB) *Conn {
	t.Helper()
	ns, err := netns.Current()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Dial(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		ns.Close()
		host.Run(t, "nft", "flush", "ruleset")
	})
	return c
}
