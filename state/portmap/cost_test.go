package portmap

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

// What ADD reads of the kernel is the same however many runs of ports others
// have: nothing is listed.
func TestCostBesideMany(t *testing.T) {
	var first int64
	for _, many := range []int{10, 10000} {
		host.Run(t, "sh", "-c", "nft delete table inet plumb 2>/dev/null || true")
		run(t, "other", 60000, 2) // makes the table
		var text strings.Builder
		for i := range many {
			fmt.Fprintf(&text, "add element inet plumb portmap4-by-2 { tcp . 0.0.0.0 . %d comment \"plumb:net/other%d/eth0\" : 10.9.0.9 }\n", 20000+2*i, i)
		}
		file := filepath.Join(t.TempDir(), "runs")
		if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		host.Run(t, "nft", "-f", file)
		for _, ports := range []int{1, 300, 3000} {
			bytes, took := run(t, fmt.Sprint("c", ports), 1000+ports, ports)
			t.Logf("%d ports beside %d runs: %d bytes read, %v", ports, many, bytes, took)
			if ports != 300 {
				continue
			}
			if first == 0 {
				first = bytes
			} else if bytes > first+first/10 {
				t.Errorf("ADD reads %d bytes beside %d runs, and %d beside 10", bytes, many, first)
			}
		}
	}
}

// run maps so many ports from first on, and returns how much that read and how
// long it took.
func run(t *testing.T, id string, first, ports int) (int64, time.Duration) {
	t.Helper()
	k, err := state.OpenKernel("")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	var list []Mapping
	for i := range ports {
		list = append(list, Mapping{Protocol: 6, HostPort: uint16(first + i), ContainerPort: uint16(first + i)})
	}
	p, err := New(state.Owner{Network: "net", ContainerID: id, IfName: "eth0"}, list, []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24")}, Options{Backend: NFTables})
	if err != nil {
		t.Fatal(err)
	}
	before, start := host.BytesRead(t), time.Now()
	if _, err := p.Ensure(context.Background(), k); err != nil {
		t.Fatal(err)
	}
	return host.BytesRead(t) - before, time.Since(start)
}

// A run is refused for each way in which it can meet another's ports.
func TestRunsThatMeet(t *testing.T) {
	host.Run(t, "sh", "-c", "nft delete table inet plumb 2>/dev/null || true")
	run(t, "holder", 5001, 3)
	run(t, "single", 5501, 1)
	k, err := state.OpenKernel("")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	k.Alive = func(string) (bool, error) { return true, nil }
	for _, c := range []struct {
		first, last int
		free        bool
	}{
		{4000, 5001, false}, {5003, 5100, false}, {5002, 5002, false}, {5000, 5004, false}, {4001, 5401, false}, {5001, 5003, false},
		{5500, 5502, false}, {5501, 5502, false}, {5500, 5501, false}, {3000, 6001, false},
		{4999, 5000, true}, {5004, 5005, true}, {5499, 5500, true}, {5502, 5503, true}, {6000, 7000, true},
	} {
		var list []Mapping
		for port := c.first; port <= c.last; port++ {
			list = append(list, Mapping{Protocol: 6, HostPort: uint16(port), ContainerPort: uint16(port)})
		}
		p, err := New(state.Owner{Network: "net", ContainerID: "c", IfName: "eth0"}, list, []netip.Prefix{netip.MustParsePrefix("10.9.0.3/24")}, Options{Backend: NFTables})
		if err != nil {
			t.Fatal(err)
		}
		undo, err := p.Ensure(context.Background(), k)
		if c.free != (err == nil) || err != nil && !strings.Contains(err.Error(), "net/") {
			t.Errorf("ports %d to %d: %v", c.first, c.last, err)
		}
		if undo != nil {
			if err := undo(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}
}
