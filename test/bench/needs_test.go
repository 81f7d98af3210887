package bench

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// needs is what one verb takes besides time, everything that the plugins execute
// included.
type needs struct {
	Scenario  string `json:"scenario"`
	Verb      string `json:"verb"`
	Contender string `json:"contender"`
	Programs  int    `json:"programs"` // executed, the plugin among them
	SysCalls  int    `json:"syscalls"` // of all of them
	PeakKiB   int    `json:"peakKiB"`  // of the largest of them
}

// tools are programs of the benchmark's own, and strace.
type tools struct{ empty, peak, strace string }

// newTools builds them as scripts/build builds the plugins.
func newTools(t *testing.T) tools {
	t.Helper()
	dir := t.TempDir()
	cmd := host.Outside(host.Root(t), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", dir+"/",
		"./test/bench/empty", "./test/bench/peak")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, said)
	}
	return tools{filepath.Join(dir, "empty"), filepath.Join(dir, "peak"), lookPath(t, "strace")}
}

// inspect returns what ADD and DEL of each contender need.
func (tools tools) inspect(t *testing.T, s scenario, as []*attachment) []needs {
	t.Helper()
	report := filepath.Join(t.TempDir(), "report")
	gauges := []struct {
		through []string
		read    func(*testing.T, string, *needs)
	}{
		{[]string{tools.peak, report}, readPeak},
		{[]string{tools.strace, "--quiet=all", "-f", "-c", "-o", report}, readCalls},
	}
	var adds, dels []needs
	for _, a := range as {
		if !a.executes() {
			continue
		}
		add := needs{Scenario: s.name(), Verb: string(cni.VerbAdd), Contender: a.contender.name}
		del := add
		del.Verb = string(cni.VerbDel)
		for _, g := range gauges {
			for _, n := range []*needs{&add, &del} {
				a.exec(t, cni.Verb(n.Verb), func() {
					data, err := os.ReadFile(report)
					if err != nil {
						t.Fatal(err)
					}
					g.read(t, string(data), n)
				}, g.through...)
			}
		}
		adds, dels = append(adds, add), append(dels, del)
	}
	return append(adds, dels...)
}

// readPeak reads what the command peak reports.
func readPeak(t *testing.T, report string, n *needs) { n.PeakKiB = max(n.PeakKiB, number(t, report)) }

// readCalls reads the summary of strace -c, whose lines end in the number of
// calls, that of those which failed unless there are none, and a name.
func readCalls(t *testing.T, report string, n *needs) {
	t.Helper()
	found := 0
	for line := range strings.Lines(report) {
		f := strings.Fields(line)
		if len(f) < 5 || !slices.Contains([]string{"total", "execve"}, f[len(f)-1]) {
			continue
		}
		calls, failed := number(t, f[3]), 0
		if len(f) == 6 {
			failed = number(t, f[4])
		}
		if f[len(f)-1] == "total" {
			n.SysCalls += calls
		} else {
			n.Programs += calls - failed
		}
		found++
	}
	if found != 2 {
		t.Fatalf("strace's summary has no numbers:\n%s", report)
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
