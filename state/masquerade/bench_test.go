package masquerade

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

// crowd makes n attachments be there in one transaction.
func crowd(t testing.TB, k *state.Kernel, n int) {
	t.Helper()
	conn, err := k.NFT()
	if err != nil {
		t.Fatal(err)
	}
	ensure(t, k, dual("first", NFTables))
	var tx nftconn.Tx
	for _, f := range nftconn.Families() {
		elements := make(map[string][]nftconn.Element)
		sets := make(map[string]nftconn.Map)
		for i := range n - 1 {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 22, byte(i>>8) + 1, byte(i)}), 16)
			if f == nftconn.IPv6 {
				b := netip.MustParseAddr("fd00:22::1:0").As16()
				b[14], b[15] = byte(i>>8), byte(i)
				p = netip.PrefixFrom(netip.AddrFrom16(b), 64)
			}
			for _, e := range entries(p) {
				sets[e.in.Name] = e.in
				elements[e.in.Name] = append(elements[e.in.Name], nftconn.Element{Key: e.key, Comment: owner(fmt.Sprint("crowd", i)).Tag()})
			}
		}
		for name, set := range sets {
			tx.AddElements(set, elements[name]...)
		}
	}
	if err := conn.Commit(context.Background(), &tx); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkAttachments times ADD, CHECK and DEL of an attachment with two families, with others present.
func BenchmarkAttachments(b *testing.B) {
	for _, n := range []int{0, 10, 10000} {
		k := kernel(b)
		if n > 0 {
			crowd(b, k, n)
		}
		conn, err := k.NFT()
		if err != nil {
			b.Fatal(err)
		}
		m := Masquerade{Owner: owner("bench"), Addresses: prefixes("10.22.255.1/16", "fd00:22::ff:1/64")}
		run := func(name string, before, op, after func()) {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				var took time.Duration // StopTimer takes longer than what is timed
				trips, n := 0, 0
				for b.Loop() {
					before()
					start, asked := time.Now(), conn.RoundTrips()
					op()
					took += time.Since(start)
					trips, n = conn.RoundTrips()-asked, n+1
					after()
				}
				b.ReportMetric(float64(took.Nanoseconds())/float64(n), "ns/op")
				b.ReportMetric(float64(trips), "round-trips")
			})
		}
		none := func() {}
		add := func() { ensure(b, k, m) }
		del := func() { remove(b, k, m.Key(), m.Owner) }
		run("ADD", none, add, del)
		run("DEL", add, del, none)
		run("CHECK", add, func() { diff(b, k, m) }, del)
		run("DEL-without-addresses", add, func() { remove(b, k, Key(m.Owner), m.Owner) }, none)
		k.Close()
		wipe(b)
	}
}
