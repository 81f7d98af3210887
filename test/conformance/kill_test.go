package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugins/all"
	"github.com/plumb-cni/plumb/protocol"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

// victimEnv makes the test binary the plugin of that name, which ends itself: its value is NAME:N, and N the number of steps of the
// plan that are applied.
const victimEnv = "PLUMB_TEST_VICTIM"

// victim is the plugin process that does not live.
func victim(spec string) {
	name, number, _ := strings.Cut(spec, ":")
	steps, err := strconv.Atoi(number)
	p, ok := all.Find(name)
	if err != nil || !ok {
		fmt.Fprintln(os.Stderr, "no victim:", spec)
		os.Exit(2)
	}
	h := newHost()
	h.Before = func(state.Step) {
		if steps--; steps < 0 {
			suicide()
		}
	}
	protocol.Main(mortal{p, h}, "v0.0.0", nil)
}

func suicide() {
	syscall.Kill(os.Getpid(), syscall.SIGKILL) //nolint:errcheck // one may always kill oneself
	select {}
}

// mortal is a handler that dies between the last step and its answer, if not before.
type mortal struct {
	plugin.Plugin
	host *plugin.Host
}

func (mortal) Versions() []cni.Version { return cni.Versions() }

func (m mortal) Handle(ctx context.Context, call *cni.Request) (*cni.Result, error) {
	result, err := m.Serve(ctx, m.host, call)
	if err == nil {
		fmt.Fprintln(os.Stderr, lastStep)
		suicide()
	}
	return result, err
}

const lastStep = "all steps are applied"

// killed runs ADD in a process that ends itself after a number of steps, and tells whether these were all.
func killed(t *testing.T, a *attachment, steps int) (all bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(host.Env("ADD", a.id, a.netns, a.ifName, host.Bin(t)), fmt.Sprintf("%s=%s:%d", victimEnv, a.plugin(), steps))
	cmd.Stdin = strings.NewReader(a.ready(t))
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL || ctx.Err() != nil {
		t.Fatalf("ADD was not killed: %v\n%s", err, said.String())
	}
	return strings.Contains(said.String(), lastStep)
}

// killable are the configurations with the longest plans.
func killable() []mode {
	var list []mode
	for _, masq := range masquerades[1:3] {
		list = append(list,
			mode{name: "ptp " + masq.name, config: config("ptp", "net", masq.keys+`"ipam":`+hostLocal("46")), need: []string{masq.need}},
			mode{name: "bridge " + masq.name, config: bridgeConfig("net", `"isDefaultGateway":true,`+masq.keys+`"ipam":`+hostLocal("46")), bridge: bridgeName, need: []string{masq.need}})
	}
	for _, m := range append(interfaceModes(), chainedModes()...) {
		switch m.name {
		case "macvlan 46", "ipvlan 46", "vlan", "dummy", "tap", "host-device", "portmap nftables", "portmap iptables",
			"firewall nftables same-bridge", "firewall iptables isolated", "tuning", "bandwidth of some", "sbr", "vrf", "dnsname":
			list = append(list, m)
		}
	}
	return list
}

// TestKill ends ADD at every step of the plan. The DEL that follows, which knows no result, leaves nothing.
func TestKill(t *testing.T) {
	for _, m := range killable() {
		t.Run(m.name, func(t *testing.T) {
			m.prepare(t)
			before := host.Snapshot(t)
			const limit = 100
			steps := 0
			for done := false; !done; steps++ {
				if steps == limit {
					t.Fatalf("the plan has more than %d steps", limit)
				}
				a := m.container(t, fmt.Sprintf("killed-at-%d", steps), 1)
				done = killed(t, a, steps)
				a.del(t)
				a.gone(t)
				if diff := before.Diff(settled(t, before, m.stays()...), m.stays()...); diff != "" {
					t.Errorf("killed at step %d, and deleted:\n%s", steps, diff)
					before = host.Snapshot(t)
				}
			}
			t.Logf("killed at %d steps", steps)
			// And what has died so often still works.
			a := m.container(t, "survivor", 1)
			a.add(t)
			a.check(t)
		})
	}
}

// TestKillAtAnyMoment ends ADD between two system calls of a step, wherever that happens to be.
func TestKillAtAnyMoment(t *testing.T) {
	for _, m := range killable() {
		t.Run(m.name, func(t *testing.T) {
			m.prepare(t)
			before := host.Snapshot(t)
			survived := 0
			for i := range 40 {
				a := m.container(t, fmt.Sprintf("killed-%d", i), 1)
				cmd := exec.Command(host.Bin(t) + "/" + a.plugin())
				cmd.Env = host.Env("ADD", a.id, a.netns, a.ifName, host.Bin(t))
				cmd.Stdin = strings.NewReader(a.ready(t))
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Duration(i) * 500 * time.Microsecond)
				cmd.Process.Kill() //nolint:errcheck // it has come to its end
				if cmd.Wait() == nil {
					survived++
				}
				a.del(t)
				a.gone(t)
			}
			t.Logf("%d of 40 were too quick", survived)
			host.Unchanged(t, before, m.stays()...)
		})
	}
}

// TestKillWhileRecording leaves what an ADD does that is killed before its record has its name: a temporary file, whole or not.
func TestKillWhileRecording(t *testing.T) {
	for _, size := range []int64{0, 10, -1} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			before := host.Snapshot(t)
			a := attach(t, config("ptp", "net", `"ipam":`+hostLocal("46")), "half-recorded")
			a.add(t)
			for _, name := range slices.DeleteFunc(records(t), func(name string) bool { return !a.wrote(name) }) {
				temporary := filepath.Join(state.RecordDir, "."+name)
				if err := os.Rename(filepath.Join(state.RecordDir, name), temporary); err != nil {
					t.Fatal(err)
				}
				if size >= 0 {
					if err := os.Truncate(temporary, size); err != nil {
						t.Fatal(err)
					}
				}
			}
			a.del(t)
			a.gone(t)
			host.Unchanged(t, before, stays("")...)
		})
	}
}
