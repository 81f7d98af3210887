package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

// settingsFile is where a runtime that lets nobody set an environment finds
// what it should hold.
const settingsFile = "/etc/plumb/plumb.json"

// loopback is a configuration of the plugin that does least.
const loopback = `{"cniVersion":"1.1.0","name":"lo-net","type":"loopback"}`

// call calls a plugin with additions to its environment, and returns its
// answer and what it wrote to standard error.
func call(t *testing.T, name string, verb cni.Verb, config, ns string, env ...string) (stdout, stderr string) {
	t.Helper()
	ifName := "eth0"
	if name == "loopback" {
		ifName = "lo"
	}
	stdout, stderr, _ = host.Plugin(t, host.Bin(t), name, append(host.Env(string(verb), "logged", ns, ifName, host.Bin(t)), env...), config)
	return stdout, stderr
}

// entries decodes a log.
func entries(t *testing.T, file string) []plugin.Entry {
	t.Helper()
	var list []plugin.Entry
	for line := range strings.Lines(read(t, file)) {
		var e plugin.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		list = append(list, e)
	}
	return list
}

// settings writes /etc/plumb/plumb.json for the time of a test.
func settings(t *testing.T, content string) {
	t.Helper()
	if err := os.WriteFile(settingsFile, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(settingsFile) })
}

// TestLog follows an attachment through the log.
func TestLog(t *testing.T) {
	dir := t.TempDir()
	for _, how := range []struct {
		name, file string
		env        []string
		settings   string
	}{
		{"environment", dir + "/a", []string{"PLUMB_LOG=" + dir + "/a"}, ""},
		{"settings", dir + "/b", nil, fmt.Sprintf(`{"log":%q}`, dir+"/b")},
		{"environment before settings", dir + "/c", []string{"PLUMB_LOG=" + dir + "/c"}, `{"log":"/nowhere/log"}`},
	} {
		t.Run(how.name, func(t *testing.T) {
			if how.settings != "" {
				settings(t, how.settings)
			}
			ns := host.NetNS(t)
			prev, _ := call(t, "ptp", cni.VerbAdd, ptp("logged"), ns, how.env...)
			again, _ := call(t, "ptp", cni.VerbAdd, ptp("logged"), ns, how.env...)
			with, err := cni.Derive([]byte(ptp("logged")), map[string]any{"prevResult": json.RawMessage(prev)})
			if err != nil {
				t.Fatal(err)
			}
			call(t, "ptp", cni.VerbCheck, string(with), ns, how.env...)
			call(t, "ptp", cni.VerbDel, string(with), ns, how.env...)

			got := entries(t, how.file)
			var verbs []cni.Verb
			for _, e := range got {
				verbs = append(verbs, e.Verb)
				if e.Plugin != "ptp" || e.Network != "logged" || e.Container != "logged" || e.Interface != "eth0" || e.NetNS != ns ||
					e.Time.IsZero() || e.Millis <= 0 {
					t.Errorf("%s: %+v", e.Verb, e)
				}
				var sum float64
				for _, s := range e.Steps {
					if sum += s.Micros; s.Micros <= 0 {
						t.Errorf("%s: step %+v took no time", e.Verb, s)
					}
				}
				if sum > 1000*e.Millis {
					t.Errorf("%s took %v ms, its steps %v µs", e.Verb, e.Millis, sum)
				}
			}
			if want := []cni.Verb{"ADD", "ADD", "CHECK", "DEL"}; !slices.Equal(verbs, want) {
				t.Fatalf("logged %v, want %v", verbs, want)
			}
			veth := regexp.MustCompile(`"name": "(veth\w+)"`).FindStringSubmatch(prev)[1]
			for i, want := range [][2]string{
				{"ensure host link " + veth, "ipam host-local"}, {"ensure host link " + veth},
				{"diff host link " + veth, "ipam host-local"}, {"remove host link " + veth, "ipam host-local"},
			} {
				for _, step := range want {
					if step != "" && !slices.ContainsFunc(got[i].Steps, func(s state.TraceStep) bool { return s.Op+" "+s.Object == step }) {
						t.Errorf("%s lacks the step %q: %+v", got[i].Verb, step, got[i].Steps)
					}
				}
			}

			failure, err := cni.DecodeError([]byte(again))
			if err != nil {
				t.Fatalf("the second ADD did not fail: %s", again)
			}
			for i, e := range got {
				if failed := i == 1; (e.Error != "") != failed || failed && (e.Error != failure.Error() || e.Code != failure.Code) {
					t.Errorf("%s is logged with %d %q, want %v", e.Verb, e.Code, e.Error, failure)
				}
			}
		})
	}
}

// TestLogRotated renames the log between two verbs.
func TestLogRotated(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	ns := host.NetNS(t)
	for i, verb := range []cni.Verb{cni.VerbAdd, cni.VerbDel} {
		call(t, "loopback", verb, loopback, ns, "PLUMB_LOG="+file)
		if err := os.Rename(file, fmt.Sprint(file, i)); err != nil {
			t.Fatal(err)
		}
		if got := entries(t, fmt.Sprint(file, i)); len(got) != 1 || got[0].Verb != verb {
			t.Errorf("the log holds %+v, want %s alone", got, verb)
		}
	}
}

// TestLogShared has many processes write to one log.
func TestLogShared(t *testing.T) {
	const n = 24
	file := filepath.Join(t.TempDir(), "log")
	host.Bin(t) // built before the processes race
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			config := fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net%d","type":"loopback"}`, i)
			host.Plugin(t, host.Bin(t), "loopback", append(host.Env("STATUS", "", "", "", host.Bin(t)), "PLUMB_LOG="+file), config)
		})
	}
	group.Wait()
	networks := make(map[string]bool)
	for _, e := range entries(t, file) {
		networks[e.Network] = true
	}
	if len(networks) != n {
		t.Errorf("%d of %d networks are in the log", len(networks), n)
	}
}

// TestLogFails: a log that can't be written is no reason to fail, but is told.
func TestLogFails(t *testing.T) {
	for _, test := range []struct {
		name, settings string
		env            []string
		warning        string
	}{
		{"settings that are no JSON", `{"log":`, nil, settingsFile},
		{"settings of a wrong type", `{"log":7}`, nil, settingsFile},
		{"folder that isn't there", "", []string{"PLUMB_LOG=/nowhere/log"}, "/nowhere/log"},
		{"settings that name a folder", `{"log":"/run"}`, nil, "/run"},
		{"full device", "", []string{"PLUMB_LOG=/dev/full"}, "/dev/full"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.settings != "" {
				settings(t, test.settings)
			}
			ns := host.NetNS(t)
			for _, verb := range []cni.Verb{cni.VerbAdd, cni.VerbDel} {
				stdout, stderr := call(t, "loopback", verb, loopback, ns, test.env...)
				if _, err := cni.DecodeError([]byte(stdout)); err == nil {
					t.Errorf("%s failed: %s", verb, stdout)
				}
				if !strings.HasPrefix(stderr, "plumb: ") || !strings.Contains(stderr, test.warning) || strings.Count(stderr, "\n") != 1 {
					t.Errorf("%s: the warning is %q, want one line about %s", verb, stderr, test.warning)
				}
			}
		})
	}
}

// TestLogOff: no log costs one look at where the settings would be.
func TestLogOff(t *testing.T) {
	dir, trace := straced(t, "loopback", "%file")
	stdout, stderr, exit := host.Plugin(t, dir, "loopback", host.Env("ADD", "quiet", host.NetNS(t), "lo", host.Bin(t)), loopback)
	if exit != 0 || stderr != "" {
		t.Fatalf("exit status %d\n%s%s", exit, stdout, stderr)
	}
	var looks []string
	for line := range strings.Lines(read(t, trace)) {
		if strings.Contains(line, "plumb.json") {
			looks = append(looks, line)
		}
		if strings.Contains(line, "O_APPEND") {
			t.Errorf("a log was opened: %s", line)
		}
	}
	if len(looks) != 1 || !strings.Contains(looks[0], "ENOENT") {
		t.Errorf("looked for the settings by %q, want one call", looks)
	}
}
