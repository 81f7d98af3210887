// Package containerd runs containerd with its CRI plugin and our plugins, and asks of it what a kubelet does.
package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

func TestMain(m *testing.M) { host.Main(m) }

const (
	// image is what all containers run, the pause container of a sandbox too.
	image     = "answer:1"
	imageName = "docker.io/library/" + image

	// folder is where containerd keeps everything. It is not in the test's because a socket's path has to be short, and because /run, which
	// is the private host's, is in memory: containerd copies the image for each pod.
	folder = "/run/containerd"
	socket = folder + "/containerd.sock"
)

// patience is how long a call may take on a machine that others use as well.
const patience = 2 * time.Minute

// A containerd is an installation of its own, and the client of its CRI plugin.
type containerd struct {
	cri.RuntimeServiceClient
	config string // path of its configuration
	list   string // path of its network
	cgroup string // the parent of all its containers' cgroups
	daemon *exec.Cmd
}

// renet changes the network, if it is another one. Containerd notices in its own time.
func (c *containerd) renet(t testing.TB, network string) {
	t.Helper()
	if now, err := os.ReadFile(c.list); err == nil && string(now) == network {
		return
	}
	write(t, c.list+".new", network)
	if err := os.Rename(c.list+".new", c.list); err != nil {
		t.Fatal(err)
	}
}

// install starts a containerd with these plugins, one network and the image. At the end of the test it removes the sandboxes that are
// there and ends containerd.
func install(t testing.TB, plugins node.Plugins, network string) *containerd {
	t.Helper()
	dir := t.TempDir()
	c := &containerd{config: filepath.Join(dir, "config.toml"), cgroup: fmt.Sprintf("/plumb-test-%d", os.Getpid()),
		list: filepath.Join(dir, "net.d", "10-"+networkName+".conflist")}
	write(t, c.list, network)
	write(t, c.config, fmt.Sprintf(`
version = 2
root = %q
state = %q
[debug]
level = "warn"
[grpc]
address = %q
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = %q
# These the machine may not allow or not have.
restrict_oom_score_adj = true
disable_apparmor = true
disable_hugetlb_controller = true
tolerate_missing_hugetlb_controller = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "runc"
SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = %q
conf_dir = %q
`, filepath.Join(folder, "root"), filepath.Join(folder, "state"), socket, imageName, plugins.Dir, filepath.Join(dir, "net.d")))

	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(promptly))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c.RuntimeServiceClient = cri.NewRuntimeServiceClient(conn)
	t.Cleanup(func() { c.uninstall(t) })
	c.start(t)
	ctr := node.Runtime{Args: []string{"ctr", "--address", socket, "--namespace", "k8s.io"}}
	ctr.Run(t, "images", "import", "--snapshotter", "native", node.Image(t, image))
	return c
}

func write(t testing.TB, path, content string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// start starts the daemon and waits until it is ready for pods.
func (c *containerd) start(t testing.TB) {
	t.Helper()
	logPath := filepath.Join(filepath.Dir(c.config), "log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.daemon = exec.Command("containerd", "--config", c.config)
	c.daemon.Stdout, c.daemon.Stderr = log, log
	if err := c.daemon.Start(); err != nil {
		t.Fatalf("%v: scripts/deps runtimes installs it", err)
	}
	t.Cleanup(func() {
		if said, err := os.ReadFile(logPath); err == nil && t.Failed() {
			t.Logf("containerd says:\n%s", said)
		}
	})
	node.Eventually(t, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		r, err := c.Status(ctx, &cri.StatusRequest{})
		if err != nil {
			return err
		}
		for _, condition := range r.Status.Conditions {
			if !condition.Status {
				return fmt.Errorf("%s: %s: %s", condition.Type, condition.Reason, condition.Message)
			}
		}
		return nil
	})
}

// kill ends the daemon as a crash does: at once, and with the containers and whatever it has started left running.
func (c *containerd) kill(t testing.TB) {
	t.Helper()
	if err := c.daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.daemon.Wait() //nolint:errcheck // says that it was killed
}

func (c *containerd) uninstall(t testing.TB) {
	if c.daemon == nil {
		return
	}
	if c.daemon.ProcessState != nil {
		c.start(t)
	}
	for _, s := range c.sandboxes(t) {
		if err := errors.Join(c.stop(s.Id), c.remove(s.Id)); err != nil {
			t.Errorf("sandbox %s: %v", s.Metadata.Name, err)
		}
	}
	if err := c.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	c.daemon.Wait() //nolint:errcheck // ended by the signal
	endShims(t)
	c.removeCgroups(t)
	node.Eventually(t, func() error { return os.RemoveAll(folder) }) // a shim that is ending may still be at work in there
}

// endShims ends the shims of pods that a killed containerd has forgotten: nobody else would.
func endShims(t testing.TB) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range processes {
		line, _ := os.ReadFile(file) // it may have ended
		args := strings.Split(string(line), "\x00")
		if !strings.HasPrefix(filepath.Base(args[0]), "containerd-shim") || !slices.Contains(args, socket) {
			continue
		}
		dir := filepath.Dir(file)
		theirs, err := os.Readlink(filepath.Join(dir, "ns/mnt"))
		if err != nil {
			continue
		}
		// The path is the same on every private host.
		if ours, err := os.Readlink("/proc/self/ns/mnt"); err != nil || ours != theirs {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Error(err)
		}
	}
}

// removeCgroups removes the parent of the containers' cgroups in every hierarchy. A containerd that is killed while runc makes a container
// forgets the container's own, which has no processes then. That runc goes on, and may still be making some.
func (c *containerd) removeCgroups(t testing.TB) {
	t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup" + c.cgroup, "/sys/fs/cgroup/*" + c.cgroup} {
		parents, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, parent := range parents {
			node.Eventually(t, func() error {
				entries, err := os.ReadDir(parent)
				if errors.Is(err, fs.ErrNotExist) { // two names may lead to one hierarchy
					return nil
				}
				if err != nil {
					return err
				}
				for _, e := range entries {
					if e.IsDir() {
						if err := os.Remove(filepath.Join(parent, e.Name())); err != nil {
							return err
						}
					}
				}
				return os.Remove(parent)
			})
		}
	}
}
