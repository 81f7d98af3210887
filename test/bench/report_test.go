package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

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
	MiB    int       `json:"mib"`  // of memory
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
	fmt.Sscanf(line("/proc/meminfo", "MemTotal:"), "%d", &m.MiB) //nolint:errcheck // as above
	m.MiB /= 1024
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
	P99       float64 `json:"p99"`
	Each      int     `json:"each,omitempty"`    // how many attachments were made or removed at once
	Pending   int     `json:"pending,omitempty"` // links of the host that were still there when a removal had ended
	Claims    []claim `json:"claims,omitempty"`
}

// A claim compares a figure with another one, and with what it should be.
type claim struct {
	Ratio   float64 `json:"ratio"`
	Of      string  `json:"of"`                // what it is: "times faster than reference, iptables", "ms"
	AtLeast float64 `json:"atLeast,omitempty"` // what it should be; 0 for no target
	AtMost  float64 `json:"atMost,omitempty"`
}

// verdict says what a ratio should be, and whether it is.
func (c claim) verdict() string {
	verdict := "MISSED"
	if c.met() {
		verdict = "met"
	}
	switch {
	case c.AtLeast > 0:
		return fmt.Sprintf("at least %s: %s", figure(c.AtLeast), verdict)
	case c.AtMost > 0:
		return fmt.Sprintf("at most %s: %s", figure(c.AtMost), verdict)
	}
	return ""
}

func (c claim) met() bool { return c.Ratio >= c.AtLeast && (c.Ratio <= c.AtMost || c.AtMost == 0) }

// timings are what contenders took for the same thing.
type timings []timing

// compare sums up what contenders took for the same thing.
func compare(scenario, verb string, contenders []string, all []series) timings {
	var list timings
	for i, s := range all {
		slices.Sort(s)
		list = append(list, timing{
			Scenario: scenario, Verb: verb, Contender: contenders[i], N: len(s),
			Median: s.quantile(0.5), Min: s.quantile(0), P95: s.quantile(0.95), P99: s.quantile(0.99),
		})
	}
	return list
}

// median returns that of a contender.
func (list timings) median(contender string) float64 {
	i := slices.IndexFunc(list, func(x timing) bool { return x.Contender == contender })
	if i < 0 {
		return math.NaN()
	}
	return list[i].Median
}

// faster claims for each of the others how many times faster it is than a
// contender, and that it is at least so many times.
func (list timings) faster(than string, atLeast map[string]float64) {
	base := list.median(than)
	for i, x := range list {
		if x.Contender != than {
			list[i].Claims = append(x.Claims, claim{Of: "times faster than " + than, Ratio: round(base / x.Median), AtLeast: atLeast[x.Contender]})
		}
	}
}

// longer claims how many times longer one contender takes than another, and
// that it is at most so many times.
func (list timings) longer(than, who string, atMost float64) {
	base := list.median(than)
	for i, x := range list {
		if x.Contender == who {
			list[i].Claims = append(x.Claims, claim{Of: "times " + than, Ratio: round(x.Median / base), AtMost: atMost})
		}
	}
}

// quantile returns the element of a sorted series below which that part of it
// lies, by the nearest rank.
func (s series) quantile(q float64) float64 {
	i := max(int(math.Ceil(q*float64(len(s))))-1, 0)
	return math.Round(float64(s[i].Nanoseconds())/100) / 1e4
}

func round(x float64) float64 { return math.Round(x*100) / 100 }

// figure writes a number with no more digits than mean something.
func figure(x float64) string {
	switch {
	case x == math.Trunc(x):
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x < 0.1:
		return strconv.FormatFloat(x, 'f', 3, 64)
	case x < 10:
		return strconv.FormatFloat(x, 'f', 2, 64)
	}
	return strconv.FormatFloat(x, 'f', 1, 64)
}

// A table is a heading and rows of as many cells.
type table [][]string

// timings returns the table of times. What a row has in common with the one
// before is left out.
func (r *report) timings() table {
	rows := table{{"ms", "", "median", "min", "p95", "p99", "n", "ratio", "target"}}
	last := ""
	for _, x := range r.Timings {
		row := []string{first(&last, x.Scenario+", "+x.Verb), x.Contender, figure(x.Median), figure(x.Min), figure(x.P95), figure(x.P99), strconv.Itoa(x.N), "", ""}
		claims := x.Claims
		if x.Each > 0 {
			claims = append([]claim{{Of: "a second", Ratio: round(1000 * float64(x.Each) / x.Median)}}, claims...)
		}
		if x.Pending > 0 {
			claims = append(claims, claim{Of: "links still there", Ratio: float64(x.Pending)})
		}
		for _, c := range claims {
			row[7], row[8] = figure(c.Ratio)+" "+c.Of, c.verdict()
			rows = append(rows, row)
			row = make([]string, len(row))
		}
		if len(claims) == 0 {
			rows = append(rows, row)
		}
	}
	return rows
}

// needs returns the table of what is needed beside time. The reference is the last of
// each verb's.
func (r *report) needs() table {
	rows := table{{"", "", "programs", "system calls", "peak KiB", "target"}}
	last := ""
	for _, x := range r.Needs {
		target := ""
		if !strings.HasPrefix(x.Contender, "reference") {
			i := slices.IndexFunc(r.Needs, func(y needs) bool {
				return y.Scenario == x.Scenario && y.Verb == x.Verb && y.Contender == reference
			})
			if i >= 0 {
				target = claim{Ratio: float64(x.PeakKiB), AtMost: float64(r.Needs[i].PeakKiB)}.verdict()
			}
		}
		rows = append(rows, []string{first(&last, x.Scenario+", "+x.Verb), x.Contender,
			strconv.Itoa(x.Programs), strconv.Itoa(x.SysCalls), strconv.Itoa(x.PeakKiB), target})
	}
	return rows
}

// heading says where the figures are from.
func (r *report) heading() string {
	return fmt.Sprintf("plumb beside the reference plugins %s, %d rounds, %s\nLinux %s, %d × %s, %d MiB, %s, load %s",
		r.Reference, r.Rounds, r.Machine.Time.Format(time.DateOnly), r.Machine.Kernel, r.Machine.CPUs, r.Machine.CPU, r.Machine.MiB, r.Machine.Go, r.Machine.Load)
}

// print writes the report as tables for a terminal.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n\n", r.heading())
	for _, rows := range []table{r.timings(), r.needs()} {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, row := range rows {
			fmt.Fprintln(t, strings.Join(row, "\t"))
		}
		fmt.Fprintln(t)
		t.Flush() //nolint:errcheck // the terminal is gone then
	}
}

// markdown writes a table for people who read it elsewhere.
func (rows table) markdown(w io.Writer) {
	for i, row := range rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(w, "|%s\n", strings.Repeat("---|", len(row)))
		}
	}
}

// write fills a folder: bench.json, figures.md and the plots.
func (r *report) write(t *testing.T, dir string) {
	t.Helper()
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	var doc strings.Builder
	fmt.Fprintf(&doc, "# Figures of a run of make bench\n\nMade by `make bench OUT=docs/bench`; [README.md](README.md) says what they mean.\n\n%s\n\n",
		strings.ReplaceAll(r.heading(), "\n", "  \n"))
	files := map[string]string{"bench.json": string(data) + "\n"}
	for _, p := range r.plots() {
		files[p.file] = p.svg()
		fmt.Fprintf(&doc, "![%s](%s)\n\n", p.title, p.file)
	}
	r.timings().markdown(&doc)
	doc.WriteString("\n")
	r.needs().markdown(&doc)
	files["figures.md"] = doc.String()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// first returns a row's title unless the row before had the same.
func first(last *string, title string) string {
	if title == *last {
		return ""
	}
	*last = title
	return title
}
