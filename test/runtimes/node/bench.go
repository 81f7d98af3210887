package node

import (
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"
	"text/tabwriter"
	"time"
)

var rounds = flag.Int("rounds", 1, "how often a benchmark measures everything")

// warmups are rounds that don't count: after them, bridges and tables exist, and programs are in the page cache.
const warmups = 1

// A Trial is what one contender does once: the runtime starts a container on a network, and removes it.
type Trial func(t testing.TB, network string) (start, remove time.Duration)

// A Contender is one way to have a runtime's networks made.
type Contender struct {
	Name  string
	Trial Trial

	// Target is how many times less than the first contender's the time is to be that the plugins take of what a runtime does.
	Target int
}

// Bench measures a runtime with several contenders, the reference first, in turn and in one run, and prints a table of the medians. The
// first of the networks is none: what the others take more is the plugins' share. Each trial has to succeed; how long it took decides
// nothing.
//
// It is a test like any other with one round, and make bench-runtimes calls it with more.
func Bench(t *testing.T, runtime string, networks []string, contenders ...Contender) {
	t.Helper()
	type measured [][]time.Duration // by network
	starts, removes := make([]measured, len(contenders)), make([]measured, len(contenders))
	for c := range contenders {
		starts[c], removes[c] = make(measured, len(networks)), make(measured, len(networks))
	}
	for round := range warmups + *rounds {
		for n, network := range networks {
			for c, contender := range contenders {
				start, remove := contender.Trial(t, network)
				if round >= warmups {
					starts[c][n], removes[c][n] = append(starts[c][n], start), append(removes[c][n], remove)
				}
			}
		}
	}
	if !testing.Verbose() {
		return
	}
	fmt.Printf("\n%s, medians of %d rounds in ms, and of it CNI's share\n", runtime, *rounds)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, verb := range []struct {
		name  string
		times []measured
	}{{"start", starts}, {"remove", removes}} {
		for n, network := range networks {
			for c, contender := range contenders {
				whole := median(verb.times[c][n])
				fmt.Fprintf(w, "%s, %s\t%s\t%.0f", verb.name, network, contender.Name, whole)
				if n > 0 {
					share, first := whole-median(verb.times[c][0]), median(verb.times[0][n])-median(verb.times[0][0])
					fmt.Fprintf(w, "\t%s", compare(share, first, contender.Target))
				}
				fmt.Fprintln(w)
			}
		}
	}
	w.Flush() //nolint:errcheck // the terminal is gone then
}

// compare tells a share, how many times less it is than the first contender's, and whether that meets a target, if there is one. What can't be seen
// beside what the runtime itself takes is none, and meets any.
func compare(share, first float64, target int) string {
	told, times := "none\t", math.Inf(1)
	if share > 0 {
		times = first / share
		told = fmt.Sprintf("%.0f\t%.1f", share, times)
	}
	switch {
	case target == 0:
	case times >= float64(target):
		told += fmt.Sprintf("\tat least %d: met", target)
	default:
		told += fmt.Sprintf("\tat least %d: MISSED", target)
	}
	return told
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
