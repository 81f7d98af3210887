package nftconn

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/test/host"
	"golang.org/x/sys/unix"
)

// sockets counts the nfnetlink sockets of the host.
func sockets(t testing.TB) (n int) {
	for line := range strings.Lines(host.Run(t, "cat", "/proc/net/netlink")) {
		if f := strings.Fields(line); f[1] == "12" && f[2] != "0" {
			n++
		}
	}
	return n
}

// TestClose really closes, sooner or later, and does not wait for what was deleted.
func TestClose(t *testing.T) {
	ns, err := netns.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	before := sockets(t)
	const n = 20
	var took []time.Duration
	for range n {
		c, err := Dial(ns)
		if err != nil {
			t.Fatal(err)
		}
		commit(t, c, schema())
		var tx Tx
		tx.DeleteTable(own)
		commit(t, c, &tx)
		start := time.Now()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(start))
		if _, err := c.Read(context.Background()); err != nil {
			t.Error("closed for good:", err)
		}
		c.Close()
	}
	slices.Sort(took)
	usual := took[n/2] // a busy machine makes some of them long
	t.Logf("closing takes %v", usual)
	// On Linux before 6.8 the collector runs while we close.
	var u unix.Utsname
	var major, minor int
	unix.Uname(&u)
	fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	if major*100+minor >= 608 && usual > 4*time.Millisecond {
		t.Errorf("closing takes %v", usual)
	}
	for deadline := time.Now().Add(20 * time.Second); sockets(t) > before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d sockets are still open", sockets(t)-before)
		}
	}
}

// TestNamespace opens the socket in the namespace it is given, and leaves the thread where it is.
func TestNamespace(t *testing.T) {
	path := host.NetNS(t)
	ns, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	c, err := Dial(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	commit(t, c, schema())
	if n := len(host.NFTIn(t, path).Tables); n != 1 {
		t.Errorf("%d tables in the namespace", n)
	}
	if n := len(host.NFT(t).Tables); n != 0 {
		t.Errorf("%d tables on the host", n)
	}
}
