package hostlocal

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

// BenchmarkHeld compares the verbs in an empty network with those in one of 65,000 addresses of which 50,000 are held, in one
// run, A B A B. It prints medians and their ratios. One address is free between long runs of held ones.
func BenchmarkHeld(b *testing.B) {
	const subnet = `"ranges":[[{"subnet":"10.0.0.0/16"}]]`
	empty, full := newNode(b), newNode(b)
	held := make(map[string]string)
	for i := range 50000 {
		held[fmt.Sprintf("10.0.%d.%d", (i+2)/256, (i+2)%256)] = fmt.Sprintf("holder%d\r\neth0", i)
	}
	empty.put(b, nil)
	full.put(b, held)
	verbs := []string{"ADD", "CHECK", "DEL"}
	times := make(map[string][]time.Duration)
	id := 0
	for b.Loop() {
		id++
		for name, n := range map[string]*node{"empty": empty, "full": full} {
			r := n.must(b, fmt.Sprint("c", id), subnet)
			// The worst case: the search begins where the held ones begin.
			check(b, os.WriteFile(n.dir+"/net/last_reserved_ip.0", []byte("10.0.0.1"), 0o600))
			for _, verb := range verbs {
				start := time.Now()
				switch verb {
				case "ADD":
					_, err := n.Add(ctx, r)
					check(b, err)
				case "CHECK":
					check(b, n.Check(ctx, r))
				case "DEL":
					released, err := n.Del(ctx, r)
					if err != nil || len(released) != 1 {
						b.Fatal(released, err)
					}
				}
				times[verb+name] = append(times[verb+name], time.Since(start))
			}
		}
	}
	median := func(key string) float64 {
		slices.Sort(times[key])
		return float64(times[key][len(times[key])/2].Nanoseconds()) / 1000
	}
	b.ReportMetric(0, "ns/op") // means nothing here
	for _, verb := range verbs {
		b.ReportMetric(median(verb+"empty"), verb+"-empty-µs")
		b.ReportMetric(median(verb+"full"), verb+"-50000-µs")
		b.ReportMetric(median(verb+"full")/median(verb+"empty"), verb+"-ratio")
	}
}
