package kubernetes

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

const (
	binDir = "/opt/cni/bin"
	netDir = "/etc/cni/net.d"
	list   = netDir + "/10-plumb.conflist"
)

func mount(t *testing.T, source, target, kind string, flags uintptr) {
	t.Helper()
	if err := os.MkdirAll(target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(source, target, kind, flags, ""); err != nil {
		t.Fatalf("mount %s: %v", target, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(target, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// A kubelet is what a node does for the pod of the DaemonSet.
type kubelet struct {
	deployment
	name    string            // of the node
	image   string            // the folder of the image's files
	volumes map[string]string // where each is
}

// start makes a node on which there is nothing but another's plugin bridge.
func start(t *testing.T) *kubelet {
	t.Helper()
	k := &kubelet{deployment: decode(t), name: "node-1", image: t.TempDir(), volumes: make(map[string]string)}
	mount(t, "tmpfs", "/opt", "tmpfs", 0)
	for _, v := range k.set.Spec.Template.Spec.Volumes {
		switch {
		case v.HostPath != nil:
			k.volumes[v.Name] = v.HostPath.Path
			if err := os.MkdirAll(v.HostPath.Path, 0o755); err != nil { // DirectoryOrCreate
				t.Fatal(err)
			}
		default:
			k.volumes[v.Name] = t.TempDir()
		}
	}
	t.Cleanup(func() { os.Remove(list) }) //nolint:errcheck // the test may have done so
	write(t, binDir+"/bridge", "#!/bin/sh\nexit 7\n", 0o755)
	k.build(t)
	k.configure(t, k.lists.Data)
	return k
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// build fills the image as the Dockerfile says.
func (k *kubelet) build(t *testing.T) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder(t), "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	copied := false
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || f[0] == "#" || line == "FROM scratch\n" || f[0] == "ENTRYPOINT" && f[1] == `["/plumb/plumb-tool"]`:
		case f[0] == "COPY" && len(f) > 2:
			copied = true
			to := filepath.Join(k.image, f[len(f)-1])
			if err := os.MkdirAll(to, 0o755); err != nil {
				t.Fatal(err)
			}
			for _, from := range f[1 : len(f)-1] {
				name, ok := strings.CutPrefix(from, "bin/")
				if !ok {
					t.Fatalf("the image has %s", from)
				}
				host.Run(t, "cp", filepath.Join(host.Bin(t), name), to)
			}
		default:
			t.Fatalf("the Dockerfile says %q, which the test doesn't know", line)
		}
	}
	if !copied {
		t.Fatal("the image is empty")
	}
	// Where containers find what they are given.
	host.Run(t, "sh", "-ec", "mkdir -p $0/dev; touch $0/dev/null", k.image)
	for _, dir := range []string{"proc", "host/opt/cni/bin", "host/etc/cni/net.d", "lists"} {
		if err := os.MkdirAll(filepath.Join(k.image, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// configure makes the ConfigMap's volume have these files, as the kubelet does:
// links to a folder that is changed as a whole.
func (k *kubelet) configure(t *testing.T, data map[string]string) {
	t.Helper()
	volume := k.volumes["lists"]
	dir, err := os.MkdirTemp(volume, "..2026_")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range data {
		write(t, filepath.Join(dir, name), text, 0o644)
		host.Run(t, "ln", "-sfn", filepath.Join("..data", name), filepath.Join(volume, name))
	}
	host.Run(t, "ln", "-sfn", filepath.Base(dir), filepath.Join(volume, "..data_tmp"))
	if err := os.Rename(filepath.Join(volume, "..data_tmp"), filepath.Join(volume, "..data")); err != nil {
		t.Fatal(err)
	}
}

// container returns the command of a container of the pod: alone with the
// image's files, which it can't change, and what it mounts, and without any
// capability (but for the one that it takes to get in there).
func (k *kubelet) container(t *testing.T, c core.Container) *exec.Cmd {
	t.Helper()
	var script strings.Builder
	fmt.Fprintf(&script, "mount --bind %[1]s %[1]s; mount -o remount,bind,ro %[1]s; mount -t proc proc %[1]s/proc; mount --bind /dev/null %[1]s/dev/null\n", k.image)
	for _, m := range c.VolumeMounts {
		to := k.image + m.MountPath
		fmt.Fprintf(&script, "mount --bind %s %s\n", k.volumes[m.Name], to)
		if m.ReadOnly {
			fmt.Fprintf(&script, "mount -o remount,bind,ro %s\n", to)
		}
	}
	script.WriteString(`exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,+sys_chroot chroot "$@"`)
	args := []string{"--mount", "--propagation", "private", "sh", "-ec", script.String(), "sh", k.image, "/plumb/plumb-tool"}
	for _, a := range c.Args {
		args = append(args, strings.ReplaceAll(a, "$(NODE_NAME)", k.name))
	}
	return exec.Command("unshare", args...)
}

// init runs the init containers.
func (k *kubelet) init(t *testing.T) {
	t.Helper()
	for _, c := range k.set.Spec.Template.Spec.InitContainers {
		if out, err := k.container(t, c).CombinedOutput(); err != nil {
			t.Fatalf("init container %s: %v: %s", c.Name, err, out)
		}
	}
}

// A running is the pod's container.
type running struct {
	cmd     *exec.Cmd
	log     string // a file
	stopped bool
}

// run starts the pod's container.
func (k *kubelet) run(t *testing.T) *running {
	t.Helper()
	r := &running{cmd: k.container(t, k.set.Spec.Template.Spec.Containers[0]), log: filepath.Join(t.TempDir(), "log")}
	log, err := os.Create(r.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	r.cmd.Stdout, r.cmd.Stderr = log, log
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.stop(t) })
	return r
}

// stop ends it as the kubelet does.
func (r *running) stop(t *testing.T) {
	t.Helper()
	if r.stopped {
		return
	}
	r.stopped = true
	r.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // Wait tells
	late := time.AfterFunc(30*time.Second, func() { r.cmd.Process.Kill() })
	defer late.Stop()
	if err := r.cmd.Wait(); err != nil {
		log, _ := os.ReadFile(r.log)
		t.Errorf("container list ends with %v: %s", err, log)
	}
}

// says waits until the log has a text in it.
func (r *running) says(t *testing.T, text string) {
	t.Helper()
	node.Eventually(t, func() error {
		log, err := os.ReadFile(r.log)
		if err == nil && !strings.Contains(string(log), text) {
			err = fmt.Errorf("the container says %q, and not %q", log, text)
		}
		return err
	})
}

// shows waits until the runtime's list has a text in it, and is valid.
func shows(t *testing.T, text string) *cni.List {
	t.Helper()
	var l *cni.List
	node.Eventually(t, func() error {
		data, err := os.ReadFile(list)
		if err == nil && !strings.Contains(string(data), text) {
			err = fmt.Errorf("%s has no %q", list, text)
		}
		if err == nil {
			l, err = cni.LoadList(list)
		}
		return err
	})
	return l
}

// The plugins are on the node before the list is, a pod's network lives through
// an upgrade, and what was on the node before comes back.
func TestNode(t *testing.T) {
	outside := host.Internet(t)
	k := start(t)
	k.init(t)
	if entries, err := os.ReadDir(netDir); err != nil || len(entries) > 0 {
		t.Fatalf("the init container has made %v in %s (%v)", entries, netDir, err)
	}
	lists := k.run(t)
	l := shows(t, `"10.244.0.0/24"`)

	ctx := context.Background()
	r := &runtime.Runtime{Path: []string{binDir}}
	pod := runtime.Attachment{ContainerID: strings.Repeat("0f", 32), NetNS: host.NetNS(t), IfName: "eth0", CapabilityArgs: map[string]any{
		"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}},
		"bandwidth":    map[string]any{"ingressRate": 50_000_000, "ingressBurst": 4294967295, "egressRate": 50_000_000, "egressBurst": 4294967295},
	}}
	t.Cleanup(func() { host.Try("ip", "link", "del", "cni0") }) //nolint:errcheck // the test may have failed before
	if _, err := r.Add(ctx, l, pod); err != nil {
		t.Fatal(err)
	}
	host.RunIn(t, pod.NetNS, "ip", "link", "set", "lo", "up") // containerd does, before
	host.Serve(t, pod.NetNS, "tcp", ":80")
	works := func(when string) {
		t.Helper()
		for _, a := range []string{host.Internet4, host.Internet6} {
			if err := host.TryPing(pod.NetNS, a); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		for _, a := range []string{host.Uplink4 + ":8080", "[" + host.Uplink6 + "]:8080"} {
			node.Answers(t, outside, "tcp", a, pod.NetNS)
		}
		if err := r.Check(ctx, l, pod); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	works("after ADD")

	// An upgrade: the same program, but for a byte that it does not read.
	lists.stop(t)
	program := filepath.Join(k.image, "plumb/plumb-cni")
	before, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	after := append(before, '\n')
	write(t, program, string(after), 0o755)
	var calls, done atomic.Int64
	finished := make(chan error)
	go func() { // a runtime that calls meanwhile always finds a plugin
		for done.Load() == 0 || calls.Load() < 20 {
			if _, err := (&runtime.Exec{}).Versions(ctx, "bridge", []string{binDir}); err != nil {
				finished <- err
				return
			}
			calls.Add(1)
		}
		finished <- nil
	}()
	k.init(t)
	done.Store(1)
	if err := <-finished; err != nil {
		t.Errorf("during the upgrade: %v", err)
	}
	if got, err := os.ReadFile(binDir + "/plumb-cni"); err != nil || !bytes.Equal(got, after) {
		t.Errorf("the plugins were not upgraded (%v)", err)
	}
	// The ConfigMap has changed meanwhile: for a list that is none nothing
	// happens, and it is no reason to end.
	text := k.lists.Data["node-1.conflist"]
	k.configure(t, map[string]string{"node-1.conflist": text[:len(text)/2]})
	lists = k.run(t)
	lists.says(t, "node-1.conflist")
	shows(t, `"10.244.0.0/24"`)
	works("after an upgrade")
	k.configure(t, map[string]string{"node-1.conflist": strings.Replace(text, `"hairpinMode": true`, `"hairpinMode": false`, 1)})
	l = shows(t, `"hairpinMode": false`)
	if err := os.Remove(list); err != nil { // somebody tidies up
		t.Fatal(err)
	}
	shows(t, `"hairpinMode": false`)
	lists.stop(t)

	if err := r.Del(ctx, l, pod); err != nil {
		t.Error(err)
	}
	// Removal, as docs/kubernetes.md has it.
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	host.Run(t, binDir+"/plumb", "plugins", "remove", binDir)
	if got := strings.Fields(host.Run(t, "ls", "-A", binDir)); len(got) != 1 || got[0] != "bridge" {
		t.Errorf("left is %v, want the other's bridge alone", got)
	}
	if _, err := host.Try(binDir + "/bridge"); err == nil {
		t.Error("the other's bridge is ours")
	}
}

// A node without a list of its own does not get another's, since the subnets are
// a node's, until it has one.
func TestNodeWithoutList(t *testing.T) {
	k := start(t)
	k.name = "node-2"
	k.init(t)
	lists := k.run(t)
	lists.says(t, "/lists/node-2.conflist")
	if entries, err := os.ReadDir(netDir); err != nil || len(entries) > 0 {
		t.Errorf("there is %v in %s (%v)", entries, netDir, err)
	}
	k.configure(t, map[string]string{"node-2.conflist": k.lists.Data["node-1.conflist"]})
	shows(t, `"10.244.0.0/24"`)
}

// A list whose plugins are not on the node is not placed before they are.
func TestListWithoutPlugins(t *testing.T) {
	k := start(t)
	lists := k.run(t)
	lists.says(t, "portmap")
	if entries, err := os.ReadDir(netDir); err != nil || len(entries) > 0 {
		t.Errorf("there is %v in %s (%v)", entries, netDir, err)
	}
	k.init(t)
	shows(t, `"10.244.0.0/24"`)
}
