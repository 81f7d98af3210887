// Package ecs calls plugins as the agent of Amazon ECS does for a task: single configurations of version 0.3.1 without a name of their own, one
// after the other, by libcni, in the namespace of a process under another root. The agent has plugins of its own; those that
// are to the same end here get its configurations' form.
package ecs

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/040"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

func TestMain(m *testing.M) { host.Main(m) }

const (
	// endpoint is where tasks ask the agent for their credentials.
	endpoint = "169.254.170.2"
	card     = "ens6" // what stands for the task's own network card
	cardMAC  = "0a:58:00:00:00:06"
)

// A network is one of a task's configurations, and its interface.
type network struct {
	config *libcni.NetworkConfig
	ifName string
}

// networks returns a task's: its network card, and a bridge to the agent. Keys that were not set are there with empty values.
func networks() []network {
	single := func(plugin, ifName, config string) network {
		return network{&libcni.NetworkConfig{
			Network: &types.NetConf{CNIVersion: "0.3.1", Name: "ecs-task", Type: plugin},
			Bytes:   []byte(config),
		}, ifName}
	}
	return []network{
		single("host-device", "eth0", fmt.Sprintf(`{"type":"host-device","hwaddr":%q,"ipam":{"type":"static","addresses":[{"address":"10.0.1.5/24","gateway":"10.0.1.1"}],
"routes":[{"dst":"0.0.0.0/0"}]}}`, cardMAC)),
		single("bridge", "ecs-eth0", fmt.Sprintf(`{"type":"bridge","bridge":"ecs-bridge","isGateway":false,"isDefaultGateway":false,"forceAddress":false,"ipMasq":false,"mtu":0,
"hairpinMode":false,"ipam":{"type":"host-local","subnet":"169.254.172.0/22","routes":[{"dst":"%s/32","gw":"169.254.172.1"}]}}`, endpoint)),
	}
}

// An agent calls plugins for one task.
type agent struct {
	cni   *libcni.CNIConfig
	task  libcni.RuntimeConf
	pause *exec.Cmd // the process that the task's namespace belongs to
}

// task starts an agent whose task has a namespace and nothing else.
func task(t *testing.T) *agent {
	t.Helper()
	// The agent sees the host's processes in a folder of its own.
	proc := filepath.Join("/run/host", "proc")
	if err := os.MkdirAll(proc, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("/proc", proc, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(proc, 0); err != nil {
			t.Error(err)
		}
	})
	pause := exec.Command("sleep", "600") // an end, in case the test is killed
	pause.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := pause.Start(); err != nil {
		t.Fatal(err)
	}
	a := &agent{
		cni:   &libcni.CNIConfig{Path: []string{host.Bin(t)}},
		task:  libcni.RuntimeConf{ContainerID: "9f1d6f0c9b4e4a5f8a40a2c3", NetNS: fmt.Sprintf("%s/%d/ns/net", proc, pause.Process.Pid)},
		pause: pause,
	}
	t.Cleanup(a.end)
	return a
}

// end ends the task's process, and with it its namespace.
func (a *agent) end() {
	a.pause.Process.Kill() //nolint:errcheck // it has ended: Wait says so
	a.pause.Wait()         //nolint:errcheck // killed
}

// setup calls ADD for one network after the other and returns the last result.
func (a *agent) setup(t *testing.T, networks []network) *current.Result {
	t.Helper()
	var last types.Result
	for _, n := range networks {
		a.task.IfName = n.ifName
		var err error
		if last, err = a.cni.AddNetwork(context.Background(), n.config, &a.task); err != nil {
			t.Fatal(err)
		}
	}
	result, ok := last.(*current.Result)
	if !ok || result.CNIVersion != "0.3.1" {
		t.Fatalf("the result is of version %s (%T)", last.Version(), last)
	}
	return result
}

// cleanup calls DEL in reverse, which before 0.4.0 has no previous result.
func (a *agent) cleanup(t *testing.T, networks []network) {
	t.Helper()
	for i := len(networks) - 1; i >= 0; i-- {
		a.task.IfName = networks[i].ifName
		if err := a.cni.DelNetwork(context.Background(), networks[i].config, &a.task); err != nil {
			t.Error(err)
		}
	}
}

// agentListens gives the host the endpoint, on the bridge that containers reach it by, and a server there.
func agentListens(t *testing.T) (port string) {
	t.Helper()
	host.Run(t, "ip", "addr", "add", "169.254.172.1/22", "dev", "ecs-bridge")
	host.Run(t, "ip", "addr", "add", endpoint+"/32", "dev", "ecs-bridge")
	_, port, err := net.SplitHostPort(host.Serve(t, "", "tcp", endpoint+":0"))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestTask(t *testing.T) {
	outside := host.NetNS(t)
	host.Run(t, "ip", "link", "add", card, "address", cardMAC, "type", "veth", "peer", "name", "vpc", "netns", filepath.Base(outside))
	t.Cleanup(func() { host.Run(t, "ip", "link", "del", card) })
	host.Run(t, "ip", "-n", filepath.Base(outside), "addr", "add", "10.0.1.1/24", "dev", "vpc")
	host.Run(t, "ip", "-n", filepath.Base(outside), "link", "set", "vpc", "up")
	before := host.Snapshot(t)
	a := task(t)
	for range 2 {
		result := a.setup(t, networks())
		if len(result.IPs) != 1 || result.IPs[0].Version != "4" || !strings.HasPrefix(result.IPs[0].Address.String(), "169.254.172.") {
			t.Fatalf("the agent can't tell the task's address from %v", result.IPs)
		}
		port := agentListens(t)
		node.Answers(t, a.task.NetNS, "tcp", net.JoinHostPort(endpoint, port), "")
		host.Ping(t, a.task.NetNS, "10.0.1.1")
		if link := host.RunIn(t, a.task.NetNS, "ip", "link", "show", "eth0"); !strings.Contains(link, cardMAC) {
			t.Errorf("the task's eth0 is not the card with the address %s:\n%s", cardMAC, link)
		}
		a.cleanup(t, networks())
		a.cleanup(t, networks()) // the agent may be started anew in between
		host.Run(t, "ip", "link", "del", "ecs-bridge")
		node.Clean(t, before)
	}
}

// The pause container has died before the agent cleans up.
func TestTaskGone(t *testing.T) {
	before := host.Snapshot(t)
	a := task(t)
	bridge := networks()[1:]
	a.setup(t, bridge)
	a.end()
	a.cleanup(t, bridge)
	host.Run(t, "ip", "link", "del", "ecs-bridge")
	node.Clean(t, before)
}
