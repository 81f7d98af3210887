package node

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/plumb-cni/plumb/test/host"
)

var rounds = flag.Int("rounds", 1, "how often a benchmark measures everything")

// warmups are rounds that don't count: after them, bridges and tables exist, and programs are in the page cache.
const warmups = 1

// shareTarget is how many times less than the reference's the time is to be that the plugins take of what a runtime does.
const shareTarget = 5

// A Trial is what one contender does once: the runtime starts a container on a network, and removes it.
type Trial func(t testing.TB, network string) (start, remove time.Duration)

// Bench measures a runtime with the reference's plugins and with ours, in turn and in one run, and prints a table of the medians. The
// first of the networks is none: what the others take more is the plugins' share. Each trial has to succeed; how long it took decides
// nothing.
//
// It is a test like any other with one round, and make bench-runtimes calls it with more.
func Bench(t *testing.T, runtime string, networks []string, reference, ours Trial) {
	t.Helper()
	var starts, removes [2][][]time.Duration // by contender and network
	for c := range starts {
		starts[c], removes[c] = make([][]time.Duration, len(networks)), make([][]time.Duration, len(networks))
	}
	for round := range warmups + *rounds {
		for n, network := range networks {
			for c, trial := range []Trial{reference, ours} {
				start, remove := trial(t, network)
				if round >= warmups {
					starts[c][n], removes[c][n] = append(starts[c][n], start), append(removes[c][n], remove)
				}
			}
		}
	}
	if !testing.Verbose() {
		return
	}
	fmt.Printf("\n%s, medians of %d rounds\n", runtime, *rounds)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "ms\treference %s\tplumb\tratio\ttarget\n", host.ReferenceVersion)
	for _, verb := range []struct {
		name  string
		times [2][][]time.Duration
	}{{"start", starts}, {"remove", removes}} {
		for n, network := range networks {
			a, b := median(verb.times[0][n]), median(verb.times[1][n])
			fmt.Fprintf(w, "%s, %s\t%.0f\t%.0f\t%.1f\t\n", verb.name, network, a, b, a/b)
			if n == 0 {
				continue
			}
			a, b = a-median(verb.times[0][0]), b-median(verb.times[1][0])
			verdict := "MISSED"
			if a/b >= shareTarget {
				verdict = "met"
			}
			fmt.Fprintf(w, "  CNI's share\t%.0f\t%.0f\t%.1f\tat least %d: %s\n", a, b, a/b, shareTarget, verdict)
		}
	}
	w.Flush() //nolint:errcheck // the terminal is gone then
}

// median is in milliseconds.
func median(times []time.Duration) float64 {
	slices.Sort(times)
	return float64(times[len(times)/2].Microseconds()) / 1000
}

// Clock returns how long f takes. It waits before, so that f doesn't wait for what the one before has left to the kernel.
func Clock(f func()) time.Duration {
	time.Sleep(50 * time.Millisecond)
	start := time.Now()
	f()
	return time.Since(start)
}
