package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/within"
)

// A recording is one call of a plugin by podman 4.3.1 or containerd 1.6.20, and
// what the reference answered.
type recording struct {
	name   string
	plugin string
	Env    map[string]string `json:"env"`
	Stdin  json.RawMessage   `json:"stdin"`
	Stdout json.RawMessage   `json:"stdout"` // null: nothing
	Exit   int               `json:"exit"`
}

// caseName is what differences.md calls the recording, behind the runtime.
func (r recording) caseName() string { return strings.TrimSuffix(r.name, ".json") }

var recordingName = regexp.MustCompile(`^\d+-(.+)-[A-Z]+\.json$`)

// recordings returns what a runtime sent, in order.
func recordings(t *testing.T, runtime string) []recording {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata/recorded", runtime, "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings of %s: %v", runtime, err)
	}
	var all []recording
	for _, path := range paths {
		r := recording{name: filepath.Base(path)}
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, &r)
		}
		name := recordingName.FindStringSubmatch(r.name)
		if err != nil || name == nil {
			t.Fatalf("%s: %v", path, err)
		}
		r.plugin = name[1]
		all = append(all, r)
	}
	return all
}

// lastReserved are the addresses that the recorded machine had given last, by
// network and range.
var lastReserved = map[string]map[int]string{
	"net1": {0: "10.210.0.8", 1: "fd00:210::8"},
	"net2": {0: "10.211.0.3"},
	"mac":  {0: "192.0.2.129"},
}

// unreleased are the addresses whose DEL has not been recorded.
const unreleased = `^file (/var/lib/cni/networks/(mac/192\.0\.2\.130|net1/(10\.210\.0\.80|fd00:210::7a))|/run/plumb/attachments/macvlan@mac@6bb61e\w*@eth0) |^link ` +
	host.Uplink + ` `

// needsNoIPVlan is a recording of a kernel that has no ipvlan devices.
const needsNoIPVlan = "28-ipvlan-ADD.json"

// The runtimes' requests get the answers that they got then, but for what is
// generated. Each plugin's are played by themselves, since host-local's were
// sent by the bridge in the middle of its own, which ours serves in one process.
func TestRecorded(t *testing.T) {
	list := listedDifferences(t, "recorded")
	for _, runtime := range []string{"podman", "containerd"} {
		all := recordings(t, runtime)
		var plugins []string
		for _, r := range all {
			if !slices.Contains(plugins, r.plugin) {
				plugins = append(plugins, r.plugin)
			}
		}
		for _, plugin := range plugins {
			for _, r := range all {
				if r.plugin == plugin {
					list.expect(runtime + "-" + r.caseName())
				}
			}
			t.Run(runtime+"/"+plugin, func(t *testing.T) {
				executed := player{call: host.Plugin}
				t.Run("executed", func(t *testing.T) {
					for name, found := range executed.playAll(t, all, plugin) {
						list.judge(t, runtime+"-"+name, found)
					}
				})
				// A runtime that is a Go program needs no process for the same.
				within := player{call: within.Plugin}
				t.Run("within", func(t *testing.T) { within.playAll(t, all, plugin) })
				if diff := compare(executed.answers, within.answers); len(diff) > 0 {
					t.Errorf("in this process (+) the answers are others than a process's (-):\n%s", strings.Join(diff, "\n"))
				}
			})
		}
	}
	list.done(t)
	fresh(t)
}

// A player replays recordings. What was generated then and is sent back to a
// plugin, it replaces by what is generated now.
type player struct {
	call      func(t testing.TB, bin, name string, env []string, stdin string) (stdout, stderr string, exit int)
	generated map[string]string
	answers   []string // facts of all
}

// playAll sends the requests to one of the plugins, on a host that nothing was done
// on yet, and returns how each answer differs from the recorded one.
func (p *player) playAll(t *testing.T, all []recording, plugin string) map[string][]string {
	t.Helper()
	fresh(t)
	host.Internet(t) // its uplink is the master that is named
	before := host.Snapshot(t)
	for network, ranges := range lastReserved {
		for i, addr := range ranges {
			dir := filepath.Join("/var/lib/cni/networks", network)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(fmt.Sprintf("%s/last_reserved_ip.%d", dir, i), []byte(addr), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.generated = make(map[string]string)
	found := make(map[string][]string)
	for _, r := range all {
		if r.plugin == plugin && !(r.name == needsNoIPVlan && host.Has(t, "ipvlan")) {
			found[r.caseName()] = p.play(t, r)
		}
	}
	allowed := shared()
	for _, bridge := range []string{"cni-podman1", "cni-podman2", "cri0"} {
		allowed = append(allowed, host.SharedBridge(bridge))
	}
	if plugin == "host-local" || plugin == "macvlan" {
		allowed = append(allowed, unreleased)
	}
	host.Unchanged(t, before, allowed...)
	return found
}

// play sends a request and returns how the answer differs from the recorded
// one.
func (p *player) play(t *testing.T, r recording) []string {
	t.Helper()
	if ns := r.Env["CNI_NETNS"]; strings.HasPrefix(ns, "/") {
		if _, err := os.Stat(ns); err != nil {
			host.Run(t, "ip", "netns", "add", filepath.Base(ns))
			t.Cleanup(func() { host.RemoveNetNS(t, filepath.Join("/run/netns", filepath.Base(ns))) })
		}
	}
	// What it limits is another plugin's.
	if end := pair(t, r); r.plugin == "bandwidth" && end != "" {
		if r.Env["CNI_COMMAND"] == "ADD" {
			host.Run(t, "ip", "link", "add", end, "type", "veth", "peer", "name", r.Env["CNI_IFNAME"], "netns", filepath.Base(r.Env["CNI_NETNS"]))
		} else {
			defer host.Run(t, "ip", "link", "del", end)
		}
	}
	// Where it answers is another's bridge.
	if r.plugin == "dnsname" && r.Env["CNI_COMMAND"] == "ADD" {
		host.Run(t, "sh", "-ec", `ip link add cni-podman1 up type bridge; ip addr add 10.210.0.1/24 dev cni-podman1; ip addr add fd00:210::1/64 dev cni-podman1 nodad`)
		t.Cleanup(func() { host.Run(t, "ip", "link", "del", "cni-podman1") })
	}
	env := []string{"PATH=" + os.Getenv("PATH")}
	for key, value := range r.Env {
		if key == "CNI_PATH" && value != "dummy" {
			value = ours.bin(t)
		}
		env = append(env, key+"="+value)
	}
	var pairs []string
	for then, now := range p.generated {
		pairs = append(pairs, then, now)
	}
	stdin := strings.NewReplacer(pairs...).Replace(string(r.Stdin))
	stdout, stderr, exit := p.call(t, ours.bin(t), r.plugin, env, stdin)
	var differences []string
	if exit != r.Exit {
		t.Logf("%s: exit status %d, was %d\n%s%s", r.name, exit, r.Exit, stdout, stderr)
		differences = []string{fmt.Sprintf("- exit=%d", r.Exit), fmt.Sprintf("+ exit=%d", exit)}
	}
	if string(r.Stdout) == "null" {
		if stdout != "" {
			differences = append(differences, "+ "+stdout)
		}
		return differences
	}
	answer := p.learn(t, r, stdout)
	for _, fact := range answer {
		p.answers = append(p.answers, r.name+" "+fact)
	}
	return append(differences, compare(p.facts(t, r, string(r.Stdout)), answer)...)
}

// pair returns the pair that a request's prevResult tells of, empty for none.
func pair(t *testing.T, r recording) (hostEnd string) {
	t.Helper()
	var request struct {
		PrevResult struct{ Interfaces []recordedInterface }
	}
	if err := json.Unmarshal(r.Stdin, &request); err != nil {
		t.Fatal(err)
	}
	for _, i := range request.PrevResult.Interfaces {
		if strings.HasPrefix(i.Name, "veth") {
			return i.Name
		}
	}
	return ""
}

// learn is facts, of the answer that was given now.
func (p *player) learn(t *testing.T, r recording, stdout string) []string {
	t.Helper()
	then, now := interfaces(t, string(r.Stdout)), interfaces(t, stdout)
	for i := range min(len(then), len(now)) {
		p.generated[then[i].Name] = now[i].Name
		p.generated[then[i].MAC] = now[i].MAC
	}
	delete(p.generated, "") // loopback of old has no names
	return p.facts(t, r, stdout)
}

// facts writes an answer as a line for each value. A name or hardware address
// that was not asked for is generated.
func (p *player) facts(t *testing.T, r recording, stdout string) []string {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(stdout), &object); err != nil {
		t.Fatalf("%s: decode answer: %v\n%s", r.name, err, stdout)
	}
	facts := flatten(object)
	for i, fact := range facts {
		field, value, _ := strings.Cut(fact, "=")
		switch {
		case strings.HasSuffix(field, "].mac") && !strings.Contains(r.Env["CNI_ARGS"], value) && value != "00:00:00:00:00:00":
			facts[i] = field + "=MAC"
		case strings.HasSuffix(field, "].name") && strings.HasPrefix(value, "veth"):
			facts[i] = field + "=VETH"
		case strings.HasSuffix(field, "].name") && strings.HasPrefix(value, "bwp"):
			facts[i] = field + "=IFB"
		}
	}
	return facts
}

type recordedInterface struct{ Name, MAC string }

func interfaces(t *testing.T, stdout string) []recordedInterface {
	t.Helper()
	var result struct{ Interfaces []recordedInterface }
	if err := json.Unmarshal([]byte(stdout), &result); err != nil {
		t.Fatal(err)
	}
	return result.Interfaces
}
