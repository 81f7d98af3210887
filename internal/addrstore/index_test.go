package addrstore

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
)

// TestIndex compares an index with a map, over changes of every kind: full and
// half-full runs, single addresses of a huge network, several for a holder.
func TestIndex(t *testing.T) {
	for _, kind := range []string{"memory", "file"} {
		t.Run(kind, func(t *testing.T) {
			x := &index{path: filepath.Join(t.TempDir(), "index"), step: func(string) {}, table: newTable(0)}
			if kind == "file" {
				check(t, x.save())
			}
			defer x.close()
			rng := rand.New(rand.NewPCG(1, 2))
			holders := make([]Record, 40)
			for i := range holders {
				holders[i] = Record{fmt.Sprint("c", i), "eth0"}
			}
			pick := func() netip.Addr {
				switch rng.IntN(4) {
				case 0: // anywhere in a /64
					b := netip.MustParseAddr("fd00::").As16()
					for i := 8; i < 16; i++ {
						b[i] = byte(rng.Uint32())
					}
					return netip.AddrFrom16(b)
				case 1:
					return netip.AddrFrom4([4]byte{255, 255, 255, byte(rng.IntN(256))})
				default: // so few that runs get full
					return netip.AddrFrom4([4]byte{10, 0, byte(rng.IntN(3)), byte(rng.IntN(256))})
				}
			}
			model := make(map[netip.Addr]Record)
			verify := func() {
				from := pick()
				want := from
				for want.IsValid() && model[want] != (Record{}) {
					want = want.Next()
				}
				if got, err := x.nextFree(from); err != nil || got != want && !(got.Is6() && from.Is4()) {
					t.Fatalf("free from %s: %s, %v, want %s", from, got, err, want)
				}
				h := holders[rng.IntN(len(holders))]
				var held []netip.Addr
				for a, r := range model {
					if r == h {
						held = append(held, a)
					}
				}
				got, err := x.heldBy(h)
				slices.SortFunc(got, netip.Addr.Compare)
				slices.SortFunc(held, netip.Addr.Compare)
				if err != nil || !slices.Equal(got, held) {
					t.Fatalf("held by %s: %s, %v, want %s", h, got, err, held)
				}
			}
			for i := range 20000 {
				a := pick()
				if r, ok := model[a]; ok && (i > 8000 || rng.IntN(4) == 0) {
					check(t, x.drop(a, r))
					delete(model, a)
				} else if !ok && i < 16000 {
					r := holders[rng.IntN(len(holders))]
					check(t, x.put(a, r))
					model[a] = r
				}
				if i%20 == 0 {
					verify()
				}
			}
			for a, r := range model {
				check(t, x.drop(a, r))
			}
			clear(model)
			verify()
			if x.live != 0 {
				t.Errorf("%d slots are left", x.live)
			}
		})
	}
}

// TestIndexOfManyFullRuns checks the upper levels of the tree.
func TestIndexOfManyFullRuns(t *testing.T) {
	x := &index{step: func(string) {}, table: newTable(70000)}
	start := netip.MustParseAddr("10.0.0.0")
	a := start
	for range 1<<16 + 300 {
		check(t, x.put(a, Record{a.String(), "eth0"}))
		a = a.Next()
	}
	for _, c := range [][2]string{{"10.0.0.0", "10.1.1.44"}, {"10.0.255.255", "10.1.1.44"}, {"9.255.255.255", "9.255.255.255"}, {"10.1.1.45", "10.1.1.45"}} {
		if got, err := x.nextFree(netip.MustParseAddr(c[0])); err != nil || got.String() != c[1] {
			t.Errorf("free from %s: %s, %v, want %s", c[0], got, err, c[1])
		}
	}
	gap := netip.MustParseAddr("10.0.77.5")
	check(t, x.drop(gap, Record{gap.String(), "eth0"}))
	if got, err := x.nextFree(start); err != nil || got != gap {
		t.Errorf("free from %s: %s, %v, want %s", start, got, err, gap)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
