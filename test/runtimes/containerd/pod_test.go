package containerd

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// promptly makes a client connect again soon after the server has come back.
var promptly = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
	MinConnectTimeout: time.Second,
}

// sandbox returns what a kubelet asks for when it wants a pod of that name, with these ports published. Its pause container answers on
// node.Port, and its host name is the pod's.
func (c *containerd) sandbox(name string, ports ...*cri.PortMapping) *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: "uid-" + name, Namespace: "test"},
		Hostname:     name,
		PortMappings: ports,
		Linux:        &cri.LinuxPodSandboxConfig{CgroupParent: c.cgroup},
	}
}

// publish returns the mapping of a port of the host to the one that the pod answers on. The address of the host may be empty.
func publish(protocol cri.Protocol, hostIP string, hostPort int32) *cri.PortMapping {
	return &cri.PortMapping{Protocol: protocol, HostIp: hostIP, HostPort: hostPort, ContainerPort: 80}
}

// A pod is a sandbox that runs.
type pod struct {
	*containerd
	config *cri.PodSandboxConfig
	id     string
	ns     string // path of its network namespace
	pid    int    // of the pause container
	ips    []string
	links  []string // of the CNI results
}

// run starts a pod.
func (c *containerd) run(t testing.TB, config *cri.PodSandboxConfig) *pod {
	t.Helper()
	id, err := c.tryRun(config)
	if err != nil {
		t.Fatal(err)
	}
	return c.pod(t, config, id)
}

func (c *containerd) tryRun(config *cri.PodSandboxConfig) (id string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := c.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		return "", fmt.Errorf("run pod %s: %w", config.Metadata.Name, err)
	}
	return r.PodSandboxId, nil
}

// pod returns the sandbox of that ID as containerd describes it.
func (c *containerd) pod(t testing.TB, config *cri.PodSandboxConfig, id string) *pod {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := c.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: id, Verbose: true})
	if err != nil {
		t.Fatalf("status of pod %s: %v", config.Metadata.Name, err)
	}
	p := &pod{containerd: c, config: config, id: id}
	if r.Status.Network != nil && r.Status.Network.Ip != "" {
		p.ips = append(p.ips, r.Status.Network.Ip)
		for _, ip := range r.Status.Network.AdditionalIps {
			p.ips = append(p.ips, ip.Ip)
		}
	}
	var info struct {
		PID         int
		RuntimeSpec struct {
			Linux struct{ Namespaces []struct{ Type, Path string } }
		}
		CNIResult struct {
			Interfaces map[string]struct{ Sandbox string }
		}
	}
	if err := json.Unmarshal([]byte(r.Info["info"]), &info); err != nil {
		t.Fatalf("info of pod %s: %v\n%s", config.Metadata.Name, err, r.Info["info"])
	}
	p.pid = info.PID
	for _, ns := range info.RuntimeSpec.Linux.Namespaces {
		if ns.Type == "network" {
			p.ns = ns.Path
		}
	}
	for name := range info.CNIResult.Interfaces {
		p.links = append(p.links, name)
	}
	return p
}

// link returns the name of the only interface of the pod's results that begins so.
func (p *pod) link(t testing.TB, prefix string) string {
	t.Helper()
	var found []string
	for _, name := range p.links {
		if strings.HasPrefix(name, prefix) {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		t.Fatalf("pod %s has %v of the interfaces %v, want one of %q", p.config.Metadata.Name, found, p.links, prefix)
	}
	return found[0]
}

// container starts a container in the pod that does nothing, and returns its ID.
func (p *pod) container(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := p.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: p.id, SandboxConfig: p.config, Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "shell"},
		Image:    &cri.ImageSpec{Image: imageName},
		Command:  []string{"sleep", "900"}, // an end, in case the test is killed
	}})
	if err == nil {
		_, err = p.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: r.ContainerId})
	}
	if err != nil {
		t.Fatalf("container of pod %s: %v", p.config.Metadata.Name, err)
	}
	return r.ContainerId
}

// exec runs a command in a container and returns what it writes to standard output.
func (c *containerd) exec(t testing.TB, container string, command ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := c.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: container, Cmd: command, Timeout: 30})
	if err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	if r.ExitCode != 0 {
		t.Errorf("%v: exit status %d\n%s%s", command, r.ExitCode, r.Stdout, r.Stderr)
	}
	return string(r.Stdout)
}

// sandboxes lists those that containerd knows of, running or not.
func (c *containerd) sandboxes(t testing.TB) []*cri.PodSandbox {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := c.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		t.Errorf("list the sandboxes: %v", err)
		return nil
	}
	return r.Items
}

// stop ends the containers of a sandbox and takes it off its networks.
func (c *containerd) stop(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := c.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id})
	if err != nil && strings.Contains(err.Error(), shimClosed) {
		_, err = c.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id})
	}
	return err
}

// shimClosed is what containerd says where its shim, told to kill the sandbox's process, has ended with that before it could answer. Nothing of the network has been
// touched by then. A kubelet asks again, as later releases of containerd do themselves.
const shimClosed = "failed to kill sandbox container: ttrpc: closed"

func (c *containerd) remove(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := c.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
	return err
}

// end stops and removes a pod.
func (p *pod) end(t testing.TB) {
	t.Helper()
	if err := p.stop(p.id); err != nil {
		t.Errorf("stop pod %s: %v", p.config.Metadata.Name, err)
	}
	if err := p.remove(p.id); err != nil {
		t.Errorf("remove pod %s: %v", p.config.Metadata.Name, err)
	}
}
