package bench

import (
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// How many times faster than the reference we want to be.
const (
	addTarget = 6
	delTarget = 3
)

// versionTarget is how many times longer than an empty program VERSION may take.
const versionTarget = 1.4

// A report is all figures of one run.
type report struct {
	Machine   machine  `json:"machine"`
	Reference string   `json:"reference"` // its version
	Rounds    int      `json:"rounds"`
	Timings   []timing `json:"timings"`
	Needs     []needs  `json:"needs"`
}

// A machine is where the figures are from.
type machine struct {
	Time   time.Time `json:"time"`
	Kernel string    `json:"kernel"`
	CPU    string    `json:"cpu"`
	CPUs   int       `json:"cpus"`
	Go     string    `json:"go"`
	Load   string    `json:"load"` // before the run: a busy machine has worse figures
}

func thisMachine() machine {
	m := machine{Time: time.Now().UTC().Truncate(time.Second), CPUs: runtime.NumCPU(), Go: runtime.Version()}
	line := func(file, prefix string) string {
		data, _ := os.ReadFile(file) // a description may have a gap
		for l := range strings.Lines(string(data)) {
			if rest, ok := strings.CutPrefix(l, prefix); ok {
				return strings.Trim(rest, " \t:\n")
			}
		}
		return ""
	}
	m.Kernel, m.CPU, m.Load = line("/proc/sys/kernel/osrelease", ""), line("/proc/cpuinfo", "model name"), line("/proc/loadavg", "")
	return m
}

// A series is how long the same thing took, time after time.
type series []time.Duration

// A timing sums up a series, in milliseconds.
type timing struct {
	Scenario  string  `json:"scenario"`
	Verb      string  `json:"verb"`
	Contender string  `json:"contender"`
	N         int     `json:"n"`
	Median    float64 `json:"median"`
	Min       float64 `json:"min"`
	P95       float64 `json:"p95"`
	Ratio     float64 `json:"ratio"`             // of its median to the first contender's
	AtLeast   float64 `json:"atLeast,omitempty"` // what Ratio should be; 0 for no target
	AtMost    float64 `json:"atMost,omitempty"`
}

// compare sums up what contenders took for the same thing.
func compare(scenario, verb string, contenders []string, all []series) []timing {
	var list []timing
	for i, s := range all {
		slices.Sort(s)
		tm := timing{
			Scenario: scenario, Verb: verb, Contender: contenders[i], N: len(s),
			Median: s.quantile(0.5), Min: s.quantile(0), P95: s.quantile(0.95), Ratio: 1,
		}
		if i > 0 {
			tm.Ratio = round(tm.Median / list[0].Median)
		}
		list = append(list, tm)
	}
	return list
}

// quantile returns the element of a sorted series below which that part of it
// lies, by the nearest rank.
func (s series) quantile(q float64) float64 {
	i := max(int(math.Ceil(q*float64(len(s))))-1, 0)
	return round(float64(s[i].Nanoseconds()) / 1e6)
}

func round(x float64) float64 { return math.Round(x*100) / 100 }

// print writes the report as tables.
func (r report) print(w io.Writer) {
	fmt.Fprintf(w, "\nplumb and the reference plugins %s, one process a verb, %d rounds\nLinux %s, %d × %s, %s, load %s\n",
		r.Reference, r.Rounds, r.Machine.Kernel, r.Machine.CPUs, r.Machine.CPU, r.Machine.Go, r.Machine.Load)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	last := ""
	fmt.Fprintf(t, "\n\t\tmedian ms\tmin\tp95\tn\tratio\ttarget\n")
	for _, x := range r.Timings {
		fmt.Fprintf(t, "%s\t%s\t%.2f\t%.2f\t%.2f\t%d\t%.1f\t%s\n", first(&last, x.Scenario+" "+x.Verb), x.Contender, x.Median, x.Min, x.P95, x.N, x.Ratio, x.verdict())
	}
	fmt.Fprintf(t, "\n\t\tprograms\tsystem calls\tpeak KiB\n")
	for _, x := range r.Needs {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\n", first(&last, x.Scenario+" "+x.Verb), x.Contender, x.Programs, x.SysCalls, x.PeakKiB)
	}
	t.Flush() //nolint:errcheck // the terminal is gone then
}

// first returns a row's title unless the row before had the same.
func first(last *string, title string) string {
	if title == *last {
		return ""
	}
	*last = title
	return title
}

// verdict says what the ratio should be, and whether it is.
func (t timing) verdict() string {
	verdict := "MISSED"
	if t.Ratio >= t.AtLeast && (t.Ratio <= t.AtMost || t.AtMost == 0) {
		verdict = "met"
	}
	switch {
	case t.AtLeast > 0:
		return fmt.Sprintf("at least %.1f: %s", t.AtLeast, verdict)
	case t.AtMost > 0:
		return fmt.Sprintf("at most %.1f: %s", t.AtMost, verdict)
	}
	return ""
}
