// Package bench measures plumb beside the reference plugins, netavark and the
// kernel's own work.
//
// All contenders take part in one run, in turn and in changing order, on one
// private host, with the same configurations, and warm. Each ADD has to lead to
// the same links, addresses and routes, and to masquerade, and each DEL has to be
// complete when it ends, or the run fails: a figure for less work is no figure.
// What a measurement leaves to the kernel is waited for before the next. How long
// it all took never decides.
//
// One round of everything, with small crowds, is a test like any other. make
// bench calls it with more; -run TestBench/crowd measures that row alone.
package bench

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

var (
	rounds = flag.Int("rounds", 1, "how often to measure each ADD and DEL; less often what takes very long")
	out    = flag.String("out", "", "folder to write bench.json, figures.md and the plots to")
)

// few reports whether this is a test that it all works, rather than a measurement.
func few() bool { return *rounds == 1 }

// warmups are rounds that don't count: after them, modules are loaded, bridges
// and tables exist, and programs are in the page cache.
const warmups = 2

// A scenario is given no more time than patience once it has had enough
// rounds: the reference's ptp waits seconds for duplicate address detection.
const (
	patience = 20 * time.Second
	enough   = 5
)

func TestMain(m *testing.M) { host.Main(m) }

// TestBench is the whole benchmark.
func TestBench(t *testing.T) {
	list := contenders(t)
	tools := newTools(t)
	r := &report{Machine: thisMachine(), Reference: host.ReferenceVersion, Rounds: *rounds}

	// row measures one row, and keeps what there is so far.
	row := func(name string, measure func(t *testing.T) []timing) {
		t.Run(name, func(t *testing.T) { r.Timings = append(r.Timings, measure(t)...) })
		if *out != "" {
			r.write(t, *out)
		}
	}
	row("start", func(t *testing.T) []timing { return timeStart(t, list, tools, 5**rounds) })
	for _, s := range scenarios {
		row(s.name(), func(t *testing.T) []timing {
			who := list
			if s.plugin == "bridge" && !s.full {
				who = append(append([]contender{newFloor(t)}, list...), netavark(t))
			}
			as := attachments(t, s, who)
			sameWork(t, as)
			timings := timeVerbs(t, s, as, *rounds)
			r.Needs = append(r.Needs, tools.inspect(t, s, as)...)
			return timings
		})
	}
	row("crowd", func(t *testing.T) []timing { return timeCrowd(t, list) })
	row("removal", func(t *testing.T) []timing { return timeRemoval(t, list) })
	row("ports on the bridge", func(t *testing.T) []timing { return timeBridgePorts(t, list) })
	row("pool", func(t *testing.T) []timing { return timePool(t, list) })
	row("portmap", func(t *testing.T) []timing { return timePorts(t, list, *rounds) })
	row("present", func(t *testing.T) []timing { return timePresent(t, list) })

	if testing.Verbose() {
		r.print(os.Stdout)
	}
}

// How many times faster than the reference a full chain is to be.
var (
	addTargets = map[string]float64{ours: 40, fusedOurs: 18, execOurs: 7}
	delTargets = map[string]float64{ours: 11, fusedOurs: 10, execOurs: 4.5}
)

// floorTarget is how many times longer than the kernel's work an ADD of a bridge
// may take in-process.
const floorTarget = 1.5

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
			add, del := a.run(t, cni.VerbAdd), a.run(t, cni.VerbDel)
			if round >= warmups {
				adds[i], dels[i] = append(adds[i], add), append(dels[i], del)
			}
		}
	}
	add, del := compare(s.name(), "ADD", names(as), adds), compare(s.name(), "DEL", names(as), dels)
	var addAtLeast, delAtLeast map[string]float64
	if s.full {
		addAtLeast, delAtLeast = addTargets, delTargets
	}
	add.faster(reference, addAtLeast)
	del.faster(reference, delAtLeast)
	if s == (scenario{"bridge", "4", false}) {
		add.longer(floorName, ours, floorTarget)
	}
	return append(add, del...)
}

// versionTarget is how many times longer than an empty program VERSION may take.
const versionTarget = 1.4

// timeStart measures VERSION, which is little more than the start of a process,
// beside a program that does nothing at all.
func timeStart(t *testing.T, list []contender, tools tools, rounds int) []timing {
	t.Helper()
	const empty = "empty Go program"
	who, programs := []string{empty}, []string{tools.empty}
	for _, c := range named(list, execOurs, reference) {
		who, programs = append(who, c.name), append(programs, c.bin+"/bridge")
	}
	times := make([]series, len(programs))
	for round := range warmups + rounds {
		for i := range programs {
			i = (i + round) % len(programs)
			time.Sleep(time.Millisecond)
			_, took := call{program: programs[i], env: host.Env("VERSION", "", "", "")}.run(t)
			if round >= warmups {
				times[i] = append(times[i], took)
			}
		}
	}
	start := compare("start", "VERSION", who, times)
	start.longer(empty, execOurs, versionTarget)
	start.longer(empty, reference, 0)
	return start
}
