package bandwidth_test

import (
	"flag"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/test/host"
)

// figures asks for the whole of the measurements, which take a machine to
// themselves.
var figures = flag.Bool("figures", false, "measure up to 1 Gbit/s and the round trip under load, and want rates to 5 %")

// TestRate measures what TCP achieves in either direction, and how long a ping
// takes beside it.
func TestRate(t *testing.T) {
	rates, seconds, tolerance := []float64{10e6, 100e6}, 3, 0.25
	if *figures {
		rates, seconds, tolerance = append(rates, 1e9), 10, 0.05
	}
	for _, network := range []struct{ name, config, gateway string }{{"ptp", ptp, "10.60.0.1"}, {"bridge", bridge, "10.62.0.1"}} {
		if network.name == "bridge" && !*figures {
			continue // is the same to the limits
		}
		for _, rate := range rates {
			a := attached(t, network.config, fmt.Sprintf("rate-%.0f", rate))
			b := a.Then(t, bandwidth(fmt.Sprintf(`"ingressRate":%.0f,"egressRate":%.0f`, rate, rate)))
			b.Add(t)
			for _, reverse := range []bool{false, true} {
				var got, average, longest float64
				for range 3 {
					ping := make(chan string, 1)
					go func() {
						time.Sleep(time.Second) // until the queue is full
						out, _ := host.TryIn(a.NetNS, "ping", "-q", "-i", "0.1", "-c", "15", "-W", "5", network.gateway)
						ping <- out
					}()
					got = iperf(t, a.NetNS, network.gateway, seconds, reverse)
					average, longest = roundTrip(<-ping)
					// A machine that is busy with something else makes less of the limit, for a while.
					if got >= rate*(1-tolerance) && average > 0 && average <= 150 {
						break
					}
				}
				direction := map[bool]string{false: "egress", true: "ingress"}[reverse]
				t.Logf("%s, %s at %.0f Mbit/s: TCP %.2f Mbit/s (%+.1f %%), round trip under load %.1f ms, longest %.1f ms",
					network.name, direction, rate/1e6, got/1e6, 100*(got-rate)/rate, average, longest)
				if got < rate*(1-tolerance) || got > rate*(1+tolerance) {
					t.Errorf("%s, %s: TCP achieves %.2f Mbit/s, want %.0f", network.name, direction, got/1e6, rate/1e6)
				}
				// 25 ms and the burst of 50, and what a busy machine adds.
				if average > 150 || average == 0 {
					t.Errorf("%s, %s at %.0f Mbit/s: a round trip under load takes %.1f ms", network.name, direction, rate/1e6, average)
				}
			}
			b.Del(t)
			a.Del(t)
		}
	}
}

var statistics = regexp.MustCompile(`= [\d.]+/([\d.]+)/([\d.]+)/`)

// roundTrip returns the average and the longest of ping's summary in ms, 0 if
// nothing came back.
func roundTrip(summary string) (average, longest float64) {
	if m := statistics.FindStringSubmatch(strings.TrimSpace(summary)); m != nil {
		average, _ = strconv.ParseFloat(m[1], 64) // the expression has numbers only
		longest, _ = strconv.ParseFloat(m[2], 64)
	}
	return average, longest
}
