package podman

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

// uid is the user's, who exists for the test alone.
const uid = 4242

// installRootless makes a podman of a user who is not root. Its bridges, rules and addresses are in a network namespace that podman makes in the user's
// own user namespace, which slirp4netns connects to the host.
func installRootless(t testing.TB) podman {
	t.Helper()
	home := t.TempDir()
	in := func(name string) string { return filepath.Join(home, name) }
	script := func(text string) {
		t.Helper()
		host.Run(t, "sh", "-ec", text)
	}
	if err := os.Chmod(filepath.Dir(home), 0o755); err != nil { // the folder of all of the test's folders is for root alone
		t.Fatal(err)
	}
	write(t, in("containers.conf"), fmt.Sprintf(`
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[network]
network_backend = "cni"
cni_plugin_dirs = [%q]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
`, in("bin")))
	write(t, in("storage.conf"), "[storage]\ndriver = \"vfs\"\n")
	write(t, in("policy.json"), `{"default":[{"type":"insecureAcceptAnything"}]}`)
	// The user, and a device for slirp4netns that everybody may use, as the files of the private host alone.
	script(fmt.Sprintf(`
		cd %[1]s
		cp -a %[2]s bin
		cp %[3]s image.tar
		{ cat /etc/passwd; echo 'plumb-test:x:%[4]d:%[4]d::%[1]s:/bin/sh'; } >passwd
		{ cat /etc/group; echo 'plumb-test:x:%[4]d:'; } >group
		echo plumb-test:200000:65536 >subids
		chmod -R a+rX .
		mkdir -p run && chown %[4]d:%[4]d . run
		mkdir /run/tun && mount -t tmpfs -o mode=0755 tmpfs /run/tun && mknod -m 666 /run/tun/tun c 10 200
		mount --bind passwd /etc/passwd; mount --bind group /etc/group
		mount --bind subids /etc/subuid; mount --bind subids /etc/subgid
		mount --bind /run/tun/tun /dev/net/tun`, home, host.Bin(t), node.Image(t, image), uid))
	t.Cleanup(func() {
		idle(t, home) // slirp4netns has the device open until it ends
		script("umount /dev/net/tun /etc/subgid /etc/subuid /etc/group /etc/passwd /run/tun; rmdir /run/tun")
	})
	p := podman{Runtime: node.Runtime{
		Args: []string{"setpriv", "--reuid", fmt.Sprint(uid), "--regid", fmt.Sprint(uid), "--clear-groups", "--inh-caps=-all",
			"env", "--chdir", home, "podman"},
		Env: []string{"HOME=" + home, "XDG_RUNTIME_DIR=" + in("run"), "CONTAINERS_CONF=" + in("containers.conf"), "CONTAINERS_STORAGE_CONF=" + in("storage.conf")},
	}}
	t.Cleanup(func() { p.Run(t, "system", "migrate") }) // ends the process that keeps the user namespace
	p.Run(t, "load", "--input", in("image.tar"), "--signature-policy", in("policy.json"))
	t.Cleanup(func() { p.Run(t, "rm", "--all", "--force", "--time", "0") })
	return p
}

// TestRootless is podman without root: two containers on a network reach each other and the world outside, and a port is published.
func TestRootless(t *testing.T) {
	outside := host.Internet(t)
	host.Serve(t, outside, "tcp4", host.Internet4+":80")
	p := installRootless(t)
	before := host.Snapshot(t)
	p.create(t, "net1", 1)
	p.run(t, "c1", "--network", "net1", "--publish", "8080:80")
	c2 := p.run(t, "c2", "--network", "net1")

	for _, addr := range []string{"127.0.0.1", host.Uplink4} {
		node.Answers(t, "", "tcp", addr+":8080", "c1")
	}
	node.Answers(t, outside, "tcp", host.Uplink4+":8080", "c1")
	for _, addr := range c2.addresses("net1") {
		if said := p.Run(t, "exec", "c1", "nc", "-w", "2", addr, "80"); !strings.Contains(said, `"c2"`) {
			t.Errorf("c1 hears %q from %s", said, addr)
		}
	}
	if said := p.Run(t, "exec", "c1", "nc", "-w", "2", host.Internet4, "80"); !strings.Contains(said, "internet") {
		t.Errorf("c1 hears %q from the world outside", said)
	}
	within := func(args ...string) string {
		t.Helper()
		return p.Run(t, append([]string{"unshare", "--rootless-netns"}, args...)...)
	}
	if rules := within("nft", "list", "ruleset"); !strings.Contains(rules, ". 80") {
		t.Errorf("the port isn't mapped in podman's namespace:\n%s", rules)
	}
	p.Run(t, "rm", "--force", "--time", "0", "c1")
	if rules := within("nft", "list", "ruleset"); strings.Contains(rules, ". 80") {
		t.Errorf("the port is still mapped:\n%s", rules)
	}
	if links := within("ip", "-o", "link"); strings.Count(links, "veth") != 1 {
		t.Errorf("of two containers one is gone, the links are\n%s", links)
	}
	p.gone(t, before)
}
