package firewall

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

func TestMain(m *testing.M) { host.Main(m) }

// What ADD and DEL read of the kernel is the same however many containers have
// rules of iptables: their chain is not listed.
func TestCostBesideMany(t *testing.T) {
	var first [2]int64
	for _, many := range []int{10, 1000} {
		host.Run(t, "nft", "flush", "ruleset")
		admit(t, "10.9.255.1") // makes the chains
		var text strings.Builder
		text.WriteString("*filter\n")
		for i := range many {
			a := fmt.Sprintf("10.9.%d.%d/32", i/250, i%250+2)
			fmt.Fprintf(&text, "-A CNI-FORWARD -d %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A CNI-FORWARD -s %s -j ACCEPT\n", a, a)
		}
		text.WriteString("COMMIT\n")
		file := filepath.Join(t.TempDir(), "rules")
		if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		host.Run(t, "iptables-nft-restore", "--noflush", file)
		for i, verb := range []string{"ADD", "DEL"} {
			act := admit
			if verb == "DEL" {
				act = expel
			}
			bytes, took := act(t, "10.9.200.1")
			t.Logf("%s beside %d: %d bytes read, %v", verb, many, bytes, took)
			if first[i] == 0 {
				first[i] = bytes
			} else if bytes > first[i]+first[i]/10 {
				t.Errorf("%s reads %d bytes beside %d containers, and %d beside 10", verb, bytes, many, first[i])
			}
		}
		if saved := host.Run(t, "iptables-nft-save", "-t", "filter"); strings.Contains(saved, "10.9.200.1") || strings.Count(saved, "-A CNI-FORWARD") != 2*many+4 {
			t.Errorf("left is\n%s", saved)
		}
	}
	host.Run(t, "nft", "flush", "ruleset")
}

func admission(addr string) Admission {
	owner := state.Owner{Network: "net", ContainerID: "c" + addr, IfName: "eth0"}
	return Admission{Owner: owner, Addresses: []netip.Addr{netip.MustParseAddr(addr)}, Backend: IPTables}
}

func admit(t *testing.T, addr string) (int64, time.Duration) {
	return measure(t, func(k *state.Kernel) error {
		_, err := admission(addr).Ensure(context.Background(), k)
		return err
	})
}

func expel(t *testing.T, addr string) (int64, time.Duration) {
	a := admission(addr)
	return measure(t, func(k *state.Kernel) error {
		return Kind{}.Remove(context.Background(), k, state.Object{Key: a.Key()}, a.Owner)
	})
}

// measure returns how much of the kernel was read meanwhile, and how long it
// took.
func measure(t *testing.T, act func(*state.Kernel) error) (int64, time.Duration) {
	t.Helper()
	k, err := state.OpenKernel("")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	before, start := host.BytesRead(t), time.Now()
	if err := act(k); err != nil {
		t.Fatal(err)
	}
	return host.BytesRead(t) - before, time.Since(start)
}
