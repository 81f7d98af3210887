// Package bench measures the plugins beside the reference's, as a runtime sees
// them: one process a plugin and verb, from its start to its end.
//
// All contenders take part in one run, in turn and in changing order, on one
// private host, with the same configurations, and warm. Each ADD has to lead to
// the same links, addresses and routes, and each DEL has to be complete when
// its process ends, or the run fails: a figure for less work is no figure. How
// long it all took never decides.
package bench

import (
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

var (
	rounds = flag.Int("rounds", 1, "how often to measure each ADD and DEL; less often what takes very long")
	out    = flag.String("out", "", "file to write the figures to, as JSON")
)

// warmups are rounds that don't count: after them, modules are loaded, bridges
// and tables exist, and programs are in the page cache.
const warmups = 2

// A scenario is given no more time than patience once it has had enough
// rounds: the reference's ptp waits seconds for duplicate address detection.
const (
	patience = 25 * time.Second
	enough   = 5
)

func TestMain(m *testing.M) { host.Main(m) }

// TestBench is the whole benchmark, and one round of it a test like any other.
func TestBench(t *testing.T) {
	list := contenders(t)
	tools := newTools(t)
	r := report{Machine: thisMachine(), Reference: host.ReferenceVersion, Rounds: *rounds}

	r.Timings = append(r.Timings, timeStart(t, list, tools, 5**rounds)...)
	for _, s := range scenarios {
		as := attachments(t, s, list)
		sameWork(t, as)
		r.Timings = append(r.Timings, timeVerbs(t, s, as, *rounds)...)
		r.Needs = append(r.Needs, tools.inspect(t, s, as)...)
	}

	r.Timings = append(r.Timings, timePorts(t, list, *rounds)...)

	if testing.Verbose() {
		r.print(os.Stdout)
	}
	if *out == "" {
		return
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(*out, append(data, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// timeVerbs measures ADD and DEL of all contenders.
func timeVerbs(t *testing.T, s scenario, as []*attachment, rounds int) []timing {
	t.Helper()
	adds, dels := make([]series, len(as)), make([]series, len(as))
	began := time.Now()
	for round := range warmups + rounds {
		if round >= warmups+enough && time.Since(began) > patience {
			break
		}
		for i := range as {
			i = (i + round) % len(as) // nobody is always the one after another
			a := as[i]
			add, del := a.run(t, cni.VerbAdd, nothing), a.run(t, cni.VerbDel, nothing)
			if round >= warmups {
				adds[i], dels[i] = append(adds[i], add), append(dels[i], del)
			}
		}
	}
	add, del := compare(s.name(), "ADD", names(as), adds), compare(s.name(), "DEL", names(as), dels)
	for i := 1; i < len(as); i++ {
		add[i].AtLeast, del[i].AtLeast = addTarget, delTarget
	}
	return append(add, del...)
}

// timeStart measures VERSION, which is little more than the start of a process,
// beside a program that does nothing at all.
func timeStart(t *testing.T, list []contender, tools tools, rounds int) []timing {
	t.Helper()
	who := []string{"empty program", "plumb", "reference"}
	programs := []string{tools.empty, list[0].bin + "/bridge", list[1].bin + "/bridge"}
	times := make([]series, len(programs))
	for round := range warmups + rounds {
		for i := range programs {
			i = (i + round) % len(programs)
			_, took := call{program: programs[i], env: host.Env("VERSION", "", "", "")}.run(t)
			if round >= warmups {
				times[i] = append(times[i], took)
			}
		}
	}
	start := compare("start", "VERSION", who, times)
	start[1].AtMost = versionTarget
	return start
}
