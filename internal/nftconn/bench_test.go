package nftconn

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

func BenchmarkFlush(b *testing.B) {
	for _, n := range []int{0, 1, 100, 1000, 30000} {
		for _, f := range []string{"ipv4", "ipv6"} {
			b.Run(fmt.Sprintf("%s/%d", f, n), func(b *testing.B) {
				host.Run(b, "conntrack", "-F")
				var s strings.Builder
				for i := range n {
					src, dst := fmt.Sprintf("10.3.%d.%d", i>>8&255, i&255), "10.0.0.9"
					if f == "ipv6" {
						src, dst = fmt.Sprintf("fd00::%x:1", i), "fd00::2"
					}
					fmt.Fprintf(&s, "-I -p udp -t 600 -s %s -d %s --sport 1000 --dport %d\n", src, dst, 53)
				}
				os.WriteFile("/run/flows", []byte(s.String()), 0o600)
				if n > 0 {
					host.Run(b, "conntrack", "--load-file", "/run/flows")
				}
				c := dial(b)
				addrs := []netip.Addr{netip.MustParseAddr("10.200.0.1")}
				if f == "ipv6" {
					addrs[0] = netip.MustParseAddr("fd00::dead")
				}
				for b.Loop() {
					if err := c.FlushConntrack(context.Background(), addrs); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
