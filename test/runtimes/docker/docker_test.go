// Package docker runs Docker with containers on our networks.
package docker

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

func TestMain(m *testing.M) { host.Main(m) }

// image is what all containers run.
const image = "answer:1"

// records is where plumb keeps what containers are attached to.
const records = "/var/lib/cni/docker"

// The networks of the tests, in /etc/cni/net.d. The host's side of backend is bridge brbackend.
var networks = map[string]string{
	"10-myptp.conflist": `{"cniVersion":"1.0.0","name":"myptp","plugins":[
		{"type":"ptp","ipMasq":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.220.0.0/24"}],[{"subnet":"fd00:220::/64"}]],
			"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}},
		{"type":"portmap","capabilities":{"portMappings":true}}]}`,
	"20-backend.conflist": `{"cniVersion":"1.0.0","name":"backend","plugins":[
		{"type":"bridge","bridge":"brbackend","isGateway":true,"capabilities":{"ips":true,"mac":true},
			"ipam":{"type":"host-local","subnet":"10.221.0.0/24"}}]}`,
	"30-named.conf": `{"cniVersion":"0.4.0","name":"named","type":"ptp","ipam":{"type":"host-local","subnet":"10.222.0.0/24"},
		"dns":{"nameservers":["10.222.0.1"],"domain":"named.test"}}`,
	"40-broken.conf": `{"cniVersion":"1.0.0","name":"broken","type":"ptp","ipam":{"type":"static","addresses":[{"address":"10.223.0.2/24"}],
		"routes":[{"dst":"192.0.2.0/24","gw":"203.0.113.1"}]}}`,
}

// A docker is an engine of its own: its roots and its socket are in a folder of the test.
type docker struct {
	node.Runtime
	dir    string
	daemon *process
}

// install starts an engine with the image, whose containers run with plumb-runc as runtime "plumb" and with runc as "runc".
func install(t testing.TB) *docker {
	t.Helper()
	if err := os.MkdirAll("/etc/cni/net.d", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, config := range networks {
		if err := os.WriteFile(filepath.Join("/etc/cni/net.d", name), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Short, since a socket's path is of at most 108 bytes.
	dir, err := os.MkdirTemp("/run", "docker")
	if err != nil {
		t.Fatal(err)
	}
	d := &docker{dir: dir}
	d.Runtime = node.Runtime{Args: []string{"docker", "--host", d.socket()}, Env: []string{"DOCKER_CONFIG=" + dir}}
	config, err := json.Marshal(map[string]any{"runtimes": map[string]any{"plumb": map[string]any{
		"path": filepath.Join(host.Bin(t), "plumb-runc"), "runtimeArgs": []string{"--plumb-path=" + host.Bin(t)},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "daemon.json"), config, 0o644); err != nil {
		t.Fatal(err)
	}
	graph := t.TempDir() // not in memory
	t.Cleanup(func() {
		// One that is being removed can't be removed.
		node.Eventually(t, func() error {
			ids, err := d.Try("ps", "--all", "--quiet", "--no-trunc")
			if err == nil && ids != "" {
				_, err = d.Try(append([]string{"rm", "--force"}, strings.Fields(ids)...)...)
			}
			return err
		})
		d.daemon.end(t, syscall.SIGTERM)
		// An engine that was killed leaves its mounts to nobody.
		host.Try("sh", "-c", "grep -o -e '"+dir+"[^ ]*' -e '"+graph+"[^ ]*' /proc/self/mountinfo | xargs -r umount") //nolint:errcheck // mostly there are none
		os.RemoveAll(dir)
		os.RemoveAll(records) // of a test that failed
	})
	d.daemon = &process{args: []string{"dockerd", "--config-file", filepath.Join(dir, "daemon.json"), "--host", d.socket(),
		"--data-root", graph, "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"),
		"--bridge", "none", "--iptables=false", "--ip-forward=false", "--storage-driver", "vfs"}}
	d.start(t)
	d.Run(t, "load", "--input", node.Image(t, image))
	return d
}

func (d *docker) socket() string { return "unix://" + filepath.Join(d.dir, "socket") }

// start starts the engine, and waits until it answers.
func (d *docker) start(t testing.TB) {
	t.Helper()
	// The containerd of an engine that was killed ends with it, but counts as running until the first process of the machine has
	// waited for it.
	os.Remove(filepath.Join(d.dir, "exec/containerd/containerd.pid"))
	d.daemon.start(t)
	node.Eventually(t, func() error {
		_, err := d.Try("version")
		if err != nil {
			return fmt.Errorf("%w\n%s", err, d.daemon.said())
		}
		return nil
	})
}

// run starts a container of that name, which is its host name too, with that runtime and these arguments of docker run, and returns
// its ID.
func (d *docker) run(t testing.TB, runtime, name string, args ...string) string {
	t.Helper()
	return d.Run(t, append(append([]string{"run", "--detach", "--runtime", runtime, "--network", "none", "--name", name, "--hostname", name}, args...), image)...)
}

// inspect returns what a template makes of what the engine says of a container.
func (d *docker) inspect(t testing.TB, name, template string) string {
	t.Helper()
	return d.Run(t, "inspect", "--type", "container", "--format", template, name)
}

// sandbox is the path of a container's namespace.
func (d *docker) sandbox(t testing.TB, name string) string {
	t.Helper()
	return d.inspect(t, name, "{{.NetworkSettings.SandboxKey}}")
}

// plumb runs plumb docker.
func (d *docker) plumb(t testing.TB) node.Runtime {
	t.Helper()
	return node.Runtime{Args: []string{filepath.Join(host.Bin(t), "plumb"), "docker", "--host", d.socket(), "--path", host.Bin(t)}}
}

// attachment is what plumb docker ls says of one.
type attachment struct {
	ContainerID, Container, Network, Interface, State string
	Addresses                                         []string
}

// list returns the attachments of a container, or of all.
func (d *docker) list(t testing.TB, container ...string) []attachment {
	t.Helper()
	var list []attachment
	out := d.plumb(t).Run(t, append([]string{"ls", "--json"}, container...)...)
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("plumb docker ls: %v\n%s", err, out)
	}
	return list
}

// watch starts plumb docker watch, until the end of the test.
func (d *docker) watch(t testing.TB) *process {
	t.Helper()
	p := &process{args: append(d.plumb(t).Args, "watch")}
	p.start(t)
	t.Cleanup(func() {
		if p.running() {
			p.end(t, syscall.SIGTERM)
		}
		if t.Failed() {
			t.Logf("the watcher said\n%s", p.said())
		}
	})
	node.Eventually(t, func() error {
		if !strings.Contains(p.said(), "following the engine") {
			return fmt.Errorf("it says %q", p.said())
		}
		return nil
	})
	return p
}

// gone waits until nothing is known of any attachment, and needs the host to be as it was.
func gone(t testing.TB, before host.State) {
	t.Helper()
	node.Eventually(t, func() error {
		left, err := os.ReadDir(records)
		if err == nil && len(left) > 0 {
			return fmt.Errorf("left in %s: %v", records, left)
		}
		return nil
	})
	node.Clean(t, before, host.SharedBridge("brbackend"))
	host.Try("ip", "link", "del", "brbackend") //nolint:errcheck // not all tests make it
}

// A process is a daemon that a test starts, ends and starts again.
type process struct {
	args  []string
	log   string // the file that it writes to, which those write to as well that outlive it
	cmd   *exec.Cmd
	ended chan struct{}
}

// said is what the process has said since it was started last.
func (p *process) said() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (p *process) start(t testing.TB) {
	t.Helper()
	p.log = filepath.Join(t.TempDir(), "log")
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	p.ended = make(chan struct{})
	go func() {
		runtime.LockOSThread() // Pdeathsig is about the thread that started the child
		defer close(p.ended)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.cmd.Wait() //nolint:errcheck // it is ended by a signal
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// end sends a signal and waits for the end of the process.
func (p *process) end(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		t.Fatalf("%s goes on after %v:\n%s", p.args[0], s, p.said())
	}
}
