// Package podman runs podman with our plugins.
package podman

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

func TestMain(m *testing.M) { host.Main(m) }

// image is what all containers run.
const image = "answer:1"

// A podman is an installation of its own: its images, containers and networks are in a folder of the test.
type podman struct {
	node.Runtime
	networks string // folder of their configurations
}

// install makes a podman that finds its plugins in dir alone, with the image.
func install(t testing.TB, plugins node.Plugins) podman {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	write(t, in("containers.conf"), fmt.Sprintf(`
[containers]
log_driver = "k8s-file"
# Those of the machine may be lower than podman's, and raising them not allowed.
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[network]
network_backend = "cni"
cni_plugin_dirs = [%q]
network_config_dir = %q
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
`, plugins.Dir, in("networks")))
	write(t, in("storage.conf"), fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n", in("graph"), in("run")))
	write(t, in("policy.json"), `{"default":[{"type":"insecureAcceptAnything"}]}`)
	p := podman{node.Runtime{
		Args: []string{"podman", "--tmpdir", in("tmp")},
		Env:  []string{"CONTAINERS_CONF=" + in("containers.conf"), "CONTAINERS_STORAGE_CONF=" + in("storage.conf")},
	}, in("networks")}
	if err := os.MkdirAll(in("networks"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.Run(t, "load", "--input", node.Image(t, image), "--signature-policy", in("policy.json"))
	t.Cleanup(func() { // for a test that ends early
		for _, args := range [][]string{{"rm", "--all", "--force", "--time", "0"}, {"network", "prune", "--force"}} {
			if _, err := p.Try(args...); err != nil {
				t.Error(err)
			}
		}
		idle(t, dir)
	})
	return p
}

// idle waits until no process works in a folder any more: when a container has ended, the process that watches it starts a podman that
// cleans up, and may do so after the container was removed.
func idle(t testing.TB, dir string) {
	t.Helper()
	node.Eventually(t, func() error {
		processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return err
		}
		for _, file := range processes {
			line, _ := os.ReadFile(file) // it may have ended
			if bytes.Contains(line, []byte(dir)) {
				return fmt.Errorf("%s: %q", file, line)
			}
		}
		return nil
	})
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A container is what podman says of one.
type container struct {
	ID, Name        string
	NetworkSettings struct {
		SandboxKey string
		Networks   map[string]struct {
			IPAddress, GlobalIPv6Address, MacAddress string
		}
	}
}

// run starts a container of that name, which is its host name too, with these arguments of podman run.
func (p podman) run(t testing.TB, name string, args ...string) container {
	t.Helper()
	p.Run(t, append(append([]string{"run", "--detach", "--name", name, "--hostname", name}, args...), image)...)
	return p.inspect(t, name)
}

func (p podman) inspect(t testing.TB, name string) container {
	t.Helper()
	var list []container
	out := p.Run(t, "container", "inspect", name)
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		t.Fatalf("podman inspect %s: %v\n%s", name, err, out)
	}
	return list[0]
}
